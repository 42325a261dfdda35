//! Peers in trouble: what they do to the callers of the other servers, which is nothing but a smaller count.

use super::common::business::{Business, Mode, Reply};
use super::common::http::{self, Request};
use super::common::server::Builder;
use super::common::{SOON, ms};
use super::{acknowledge, client, expect_peers, scripted_peer, send, with_peer};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_hanging_peer_does_not_delay_qos_0() {
    let (business, peer) = (Business::start(), scripted_peer());
    business.reply("/connect/", Reply::channels("room"));
    peer.reply("/send/", Reply::ok("").mode(Mode::Hang));
    let server = with_peer(&business, &peer);
    let (here, _) = client(&server, &business, "d");
    let started = Instant::now();
    for n in 0..50 {
        assert_eq!(server.send("room", 0, n.to_string()), json!({"status": 0}));
        assert_eq!(here.expect_send(SOON).1, n.to_string().into_bytes());
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(8), "50 sends took {elapsed:?}");
    assert!(
        peer.requests_to("/send/").len() <= 2,
        "one channel's messages follow one another"
    );
}

#[test]
fn a_hanging_peer_costs_its_count_only() {
    let (business, peer, good) = (Business::start(), scripted_peer(), scripted_peer());
    business.reply("/connect/", Reply::channels("room"));
    good.reply("/send/", Reply::ok(r#"{"status": 0, "connections": 5, "data": "P"}"#));
    peer.reply("/", Reply::ok("").mode(Mode::Hang));
    peer.reply("/send/", Reply::ok("").mode(Mode::Hang));
    let list = format!("127.0.0.1:{}, 127.0.0.1:{}", peer.port(), good.port());
    let server = Builder::new(&business).set("cluster_peers", list).start();
    expect_peers(&server, 2, SOON);
    let (here, _) = client(&server, &business, "d");
    let request = send("room", 2);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| (server.api(&request), Instant::now()));
        let started = Instant::now();
        acknowledge(&here, "L");
        let (answer, at) = asked.join().expect("caller");
        assert!(at - started < Duration::from_secs(4), "{:?}", at - started);
        // The count is given even where the answer says that not all was heard.
        assert_eq!(answer["connections"], 6, "{answer}");
    });
    let page = http::call(server.port(), &Request::get("/serverinfo/"), Duration::from_secs(9)).expect("page");
    assert_eq!(page.status, 200, "after the 5 s a peer has");
}

#[test]
fn a_bad_answer_counts_nothing() {
    let (business, peer) = (Business::start(), scripted_peer());
    business.reply("/connect/", Reply::channels("room"));
    let server = with_peer(&business, &peer);
    let (here, _) = client(&server, &business, "d");
    let good = r#"{"status": 0, "connections": 7, "data": "P"}"#;
    let replies = [
        Reply::ok("<html>oops</html>"),
        Reply::ok(""),
        Reply::ok("[1, 2]"),
        Reply::ok(r#"{"status": 0}"#),
        Reply::ok(r#"{"status": 0, "connections": "7", "data": "P"}"#),
        Reply::ok(r#"{"status": 0, "connections": -7, "data": "P"}"#),
        Reply::ok(r#"{"status": 0, "connections": 1e300, "data": "P"}"#),
        Reply::ok(r#"{"status": 1, "msg": "timeout"}"#),
        Reply::ok("[".repeat(200_000)),
        Reply::ok(b"\xff\xfe\x00"),
        Reply::ok(good).status(500),
        Reply::ok(good).status(404),
        Reply::ok(good).mode(Mode::Drop),
        Reply::ok(good).mode(Mode::CutShort),
        Reply::ok("").mode(Mode::Raw(b"SSH-2.0-nonsense\r\n".to_vec())),
        Reply::ok("").mode(Mode::Raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".to_vec(),
        )),
    ];
    for reply in replies {
        peer.reply("/send/", reply.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| acknowledge(&here, "L"));
            let answer = server.api(&send("room", 6));
            assert_eq!(answer, json!({"status": 0, "connections": 1, "data": "L"}), "{reply:?}");
        });
        assert_eq!(server.send("room", 0, "x"), json!({"status": 0}));
        here.expect_send(SOON);
    }
    peer.reply("/send/", Reply::ok(good).mode(Mode::Chunked));
    assert_eq!(
        server.api(&send("empty", 6)),
        json!({"status": 0, "connections": 7, "data": "P"})
    );
}

#[test]
fn an_error_of_a_peer_is_no_answer_to_sub() {
    let (business, peer) = (Business::start(), scripted_peer());
    let server = with_peer(&business, &peer);
    for reply in [
        Reply::ok("oops").status(500),
        Reply::ok("{"),
        Reply::ok("").mode(Mode::Drop),
    ] {
        peer.reply("/sub/", reply);
        assert_eq!(
            server.sub("nobody", "room"),
            json!({"status": 1, "msg": "no such connection"})
        );
    }
    peer.reply("/sub/", Reply::ok(r#"{"status": 0}"#));
    assert_eq!(server.sub("nobody", "room"), json!({"status": 0}), "the peer knows it");
}

#[test]
fn many_messages_for_a_hanging_peer_do_not_pile_up_connections() {
    let (business, peer) = (Business::start(), scripted_peer());
    peer.reply("/send/", Reply::ok("").mode(Mode::Hang));
    let server = with_peer(&business, &peer);
    for n in 0..600 {
        assert_eq!(server.send(&format!("c{n}"), 0, "x"), json!({"status": 0}));
    }
    std::thread::sleep(ms(300));
    let open = peer.requests_to("/send/").len();
    assert!((1..=256).contains(&open), "{open} connections to one peer");
    assert_eq!(server.send("c", 0, "x"), json!({"status": 0}));
}
