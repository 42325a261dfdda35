//! Frames and bytes per second of one client: it is read more slowly, nothing is lost, others do not notice.

use super::common::client::{Client, Op, Open};
use super::common::{SOON, ms, packet};
use super::{metric, setup};
use std::time::{Duration, Instant};

#[test]
fn frames_per_second() {
    let (business, server) = setup(|b| b.set("client_messages_per_second", 20).set("forward_order", "client"));
    let fast = Client::open(server.port());
    let other = Client::open_with(server.port(), Open::device("other"));
    let started = Instant::now();
    for number in 0..60 {
        fast.send(&packet::send(0, 7, 0, format!("{number}")));
    }
    other.send(&packet::send(1, 8, 1, "not held up"));
    other.expect(Op::Binary, &packet::ack(1, "ok"));
    let came = business.requests_to("/message/7/").len();
    if started.elapsed() < ms(900) {
        assert!(came <= 40, "{came} messages of a client that may send 20 per second");
    }
    let all = business.wait_for("/message/7/", 60, Duration::from_secs(20));
    assert!(
        started.elapsed() >= ms(1700),
        "60 messages after {:?}",
        started.elapsed()
    );
    let texts: Vec<String> = all.iter().map(|request| request.text()).collect();
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected, "none is lost, in order");
    assert!(metric(&server, "rainbow_rate_pauses_total") >= 1);
    // It is read again as before.
    fast.send(&packet::send(1, 7, 2, "later"));
    fast.expect(Op::Binary, &packet::ack(2, "ok"));
}

#[test]
fn bytes_per_second() {
    let (business, server) = setup(|b| b.set("client_bytes_per_second", "20k"));
    let client = Client::open(server.port());
    let started = Instant::now();
    for _ in 0..6 {
        client.send(&packet::send(0, 7, 0, vec![b'x'; 10 * 1024]));
    }
    business.wait_for("/message/7/", 6, Duration::from_secs(20));
    assert!(started.elapsed() >= ms(1300), "60 KiB after {:?}", started.elapsed());
    assert!(metric(&server, "rainbow_rate_pauses_total") >= 1);
}

#[test]
fn a_paused_client_is_still_served_and_can_leave() {
    let (business, server) = setup(|b| {
        b.set("client_messages_per_second", 1)
            .set("ping_interval", "0.3")
            .set("ping_timeout", "0.3")
    });
    let client = Client::open(server.port());
    for _ in 0..30 {
        client.send(&packet::send(0, 7, 0, "x"));
    }
    std::thread::sleep(ms(1500));
    assert_eq!(server.send("room", 0, "push")["status"], 0);
    assert_eq!(
        client.expect_send(SOON).1,
        b"push",
        "not taken for dead: it is us who do not read"
    );
    assert!(business.requests_to("/message/7/").len() < 10);
    drop(client);
    assert!(business.requests_to("/close/").len() <= 1);
}
