//! A business that fails as a whole, seen from outside: what clients and callers notice, and what nobody may notice.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Mode, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::Builder;
use common::{SOON, ms, packet};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// While messages hang at the business, clients come and go and the API answers as ever.
#[test]
fn hanging_messages_hold_up_nothing_else() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    business.reply("/message/", Reply::ok("").mode(Mode::Hang));
    let server = Builder::new(&business).set("callback_concurrency", 4).start();
    let busy = Client::open(server.port());
    for id in 1..=60 {
        busy.send(&packet::send(1, 7, id, "hangs"));
    }
    business.wait_for("/message/", 4, SOON);
    let start = Instant::now();
    for number in 0..20u8 {
        let client = Client::open_with(server.port(), Open::device(&format!("other-{number}")));
        assert_eq!(server.send("room", 0, [number])["status"], 0);
        assert_eq!(client.expect_send(SOON).1, [number]);
        assert_eq!(
            busy.expect_send(SOON).1,
            [number],
            "not even the client itself is cut off"
        );
        client.drop_now();
    }
    business.wait_for("/close/", 20, SOON);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(business.requests_to("/message/").len(), 4, "the others wait");
}

/// Messages that arrive while the business is down are not lost if it is back within their time, and each gets there once.
#[test]
fn messages_wait_for_a_business_that_is_down() {
    const WAITING: u16 = 40;
    let business = Business::start();
    business.reply("/message/", Reply::ok("").status(503));
    let server = Builder::new(&business).set("breaker_failures", 20).start();
    let client = Client::open(server.port());
    for id in 1..=20 {
        client.send(&packet::send(1, 7, id, id.to_string()));
    }
    business.wait_for("/message/", 20, SOON);
    std::thread::sleep(ms(200)); // the answers are read
    for id in 100..100 + WAITING {
        client.send(&packet::send(1, 7, id, id.to_string()));
    }
    std::thread::sleep(ms(200));
    assert_eq!(business.requests_to("/message/").len(), 20, "nobody is asked now");
    business.reply("/message/", Reply::ok("taken"));
    let mut taken = BTreeSet::new();
    while taken.len() < usize::from(WAITING) {
        match client.packet(SOON) {
            packet::Packet::Ack { id, data } => {
                assert_eq!(data, b"taken");
                assert!(taken.insert(id), "{id} twice");
            }
            other => panic!("{other:?}"),
        }
    }
    let bodies: Vec<_> = business.requests_to("/message/")[20..]
        .iter()
        .map(|r| r.text())
        .collect();
    assert_eq!(bodies.len(), usize::from(WAITING), "each once");
    assert_eq!(bodies[0], "100", "the oldest was the probe");
}

/// Clients that left while the business was down are told about when it is back: each once.
#[test]
fn closes_are_told_after_the_outage() {
    const CLIENTS: usize = 40;
    let business = Business::start();
    let server = Builder::new(&business).start();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| Client::open_with(server.port(), Open::device(&n.to_string())))
        .collect();
    business.reply("/close/", Reply::ok("").status(503));
    clients.iter().for_each(Client::drop_now);
    business.wait_for("/close/", 20, SOON);
    std::thread::sleep(ms(300));
    let tried = business.requests_to("/close/").len();
    business.reply("/close/", Reply::success());
    let told = |requests: &[common::business::Request]| -> BTreeSet<String> {
        requests[tried..].iter().map(|request| request.identity()).collect()
    };
    assert!(common::eventually(SOON, || told(&business.requests_to("/close/"))
        .len()
        == CLIENTS));
    std::thread::sleep(ms(300));
    assert_eq!(
        business.requests_to("/close/").len() - tried,
        CLIENTS,
        "accepted ones are not repeated"
    );
}

/// A single failure, even many of them with answers in between, changes nothing: every client is asked for, as ever.
#[test]
fn single_failures_refuse_nobody() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    for round in 0..40 {
        business.reply("/connect/", Reply::ok("").status(503));
        let refused = Client::start(server.port(), Open::device("a")).expect("connect");
        assert_eq!(refused.answer(SOON).expect("answer").status, 503);
        if round % 10 == 9 {
            business.reply("/connect/", Reply::success());
            drop(Client::open(server.port()));
        }
    }
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    assert!(
        page.contains("rainbow_callback_breaker_opens_total{kind=\"connect\"} 0\n"),
        "{page}"
    );
}

/// A business that handles a close but whose answer is lost is told again.
#[test]
fn a_close_whose_answer_is_lost_is_told_twice() {
    let business = Business::start();
    let first = std::sync::atomic::AtomicBool::new(true);
    business.hook(move |request| {
        let loses = request.path == "/close/" && first.swap(false, std::sync::atomic::Ordering::SeqCst);
        loses.then(|| Reply::success().mode(Mode::Drop))
    });
    let server = Builder::new(&business).start();
    Client::open(server.port()).drop_now();
    let told = business.wait_for("/close/", 2, SOON);
    assert_eq!(told[0].identity(), told[1].identity());
    Client::open_with(server.port(), Open::device("another")).drop_now();
    let told = business.wait_for("/close/", 3, SOON);
    assert_ne!(told[2].identity(), told[0].identity(), "an answer that came ends it");
}
