//! Pings and the idle time-out.

use super::common::client::{Client, Op, Open};
use super::common::{SOON, ms, packet};
use super::{metric, setup};
use std::time::{Duration, Instant};

/// The payload of the close frame that ends the connection.
fn close_of(client: &Client) -> Vec<u8> {
    let frames = client.until_eof(SOON).expect("the connection ends");
    let close = frames.into_iter().find(|frame| frame.op == Op::Close);
    close.expect("a close frame").payload
}

#[test]
fn silent_clients_are_pinged_and_dead_ones_closed() {
    let (business, server) = setup(|b| b.set("ping_interval", "0.5").set("ping_timeout", "0.5"));
    let opened = Instant::now();
    let alive = Client::open(server.port());
    let busy = Client::open_with(server.port(), Open::device("busy"));
    let dead = Client::open_with(
        server.port(),
        Open {
            auto_pong: false,
            ..Open::device("dead")
        },
    );
    let end = Instant::now() + ms(2500);
    while Instant::now() < end {
        busy.send(&packet::send(0, 7, 0, "x"));
        std::thread::sleep(ms(100));
    }
    let pings = std::iter::from_fn(|| alive.next(ms(10)))
        .filter(|frame| frame.op == Op::Ping)
        .count();
    let most = opened.elapsed().as_millis() as usize / 500;
    assert!((2..=most).contains(&pings), "{pings} pings where {most} fit");
    assert!(busy.next(ms(10)).is_none(), "who talks is not pinged");
    assert_eq!(close_of(&dead), b"\x03\xf0ping_timeout");
    assert_eq!(business.wait_for("/close/", 1, SOON).len(), 1);
    assert_eq!(metric(&server, "rainbow_closes_total{cause=\"ping_timeout\"}"), 1);
    assert!(metric(&server, "rainbow_pings_sent_total") > pings as u64);
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    let pushed = std::iter::from_fn(|| alive.next(SOON)).find(|frame| frame.op == Op::Binary);
    assert!(pushed.expect("the push").payload.ends_with(b"x"));
}

/// However long the answer to one may take.
#[test]
fn pings_leave_at_their_interval() {
    let (_business, server) = setup(|b| b.set("ping_interval", "0.3").set("ping_timeout", "60"));
    let alive = Client::open(server.port());
    for number in 1..=3 {
        let ping = std::iter::from_fn(|| alive.next(SOON)).find(|frame| frame.op == Op::Ping);
        assert!(ping.is_some(), "no ping number {number}");
    }
}

#[test]
fn idle_clients_are_closed() {
    let (business, server) = setup(|b| b.set("idle_timeout", 1));
    let opened = Instant::now();
    let idle = Client::open(server.port());
    let busy = Client::open_with(server.port(), Open::device("busy"));
    while business.requests_to("/close/").is_empty() && opened.elapsed() < Duration::from_secs(8) {
        busy.frame(Op::Pong, b"");
        std::thread::sleep(ms(100));
    }
    assert!(opened.elapsed() >= ms(900), "closed after {:?}", opened.elapsed());
    busy.send(&packet::send(1, 7, 1, "x"));
    busy.expect(Op::Binary, &packet::ack(1, "ok"));
    assert_eq!(close_of(&idle), b"\x03\xf0idle_timeout");
    assert!(metric(&server, "rainbow_closes_total{cause=\"idle_timeout\"}") >= 1);
}
