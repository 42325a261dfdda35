//! Who gets in: in total, per address, per origin, while the server is short of something.

use super::common::business::Reply;
use super::common::client::{Client, Open};
use super::common::http::{self, Connection, Request};
use super::common::{SOON, eventually, ms};
use super::{expect_503, expect_open, metric, refused, setup, start_from};
use std::time::Duration;

fn start(server: &super::Server) -> Client {
    Client::start(server.port(), Open::default()).expect("connect")
}

#[test]
fn connections_in_total() {
    let (business, server) = setup(|b| b.set("workers", 1).set("connections_max", 32));
    // One in 16 is kept for the HTTP interface.
    let mut clients: Vec<Client> = (0..30).map(|_| start(&server).let_in()).collect();
    for _ in 0..5 {
        refused(&start(&server));
    }
    assert_eq!(
        business.requests_to("/connect/").len(),
        30,
        "nobody is asked about the others"
    );
    assert_eq!(
        server.send("room", 0, "x")["status"],
        0,
        "a full server is still commanded"
    );
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"connections\"}"), 5);
    clients.pop();
    expect_open(&server);
}

#[test]
fn connections_of_one_address() {
    let (_business, server) = setup(|b| b.set("workers", 2).set("connections_per_address", 3));
    let from = |address| start_from(address, &server, &[]);
    let mut clients: Vec<Client> = (0..3).map(|_| from("127.0.0.5").let_in()).collect();
    for _ in 0..4 {
        refused(&from("127.0.0.5"));
    }
    let _other = from("127.0.0.6").let_in();
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"address\"}"), 4);
    clients.pop();
    let freed = eventually(SOON, || {
        from("127.0.0.5").answer(SOON).is_ok_and(|answer| answer.status == 101)
    });
    assert!(freed, "the place of a client that left is not free");
}

#[test]
fn an_address_full_of_clients_can_still_call_the_interface() {
    let (_business, server) = setup(|b| b.set("connections_per_address", 1));
    let _client = start(&server).let_in();
    refused(&start(&server));
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    // Whoever says nothing is counted too.
    let silent: Vec<_> = (0..3)
        .map(|_| super::connect_from("127.0.0.7", server.port()))
        .collect();
    std::thread::sleep(ms(200));
    assert_eq!(metric(&server, "rainbow_handshakes_open"), 1);
    drop(silent);
}

#[test]
fn handshakes_under_way() {
    let (_business, server) = setup(|b| {
        b.set("workers", 1)
            .set("handshakes_max", 10)
            .set("handshake_timeout", 2)
    });
    let silent: Vec<Connection> = (0..10)
        .map(|_| Connection::open(server.port()).expect("connect"))
        .collect();
    std::thread::sleep(ms(200));
    refused(&start(&server));
    let _client = expect_open(&server);
    assert!(metric(&server, "rainbow_refused_total{reason=\"handshakes\"}") >= 1);
    drop(silent);
}

#[test]
fn clients_that_wait_for_the_business() {
    let (business, server) = setup(|b| b.set("auth_concurrency", 2).set("auth_queue", 3));
    business.reply("/connect/", Reply::success().delay(ms(1500)));
    let clients: Vec<Client> = (0..12).map(|_| start(&server)).collect();
    let answers: Vec<_> = clients
        .iter()
        .map(|c| c.answer(Duration::from_secs(20)).expect("answer"))
        .collect();
    let admitted = answers.iter().filter(|answer| answer.status == 101).count();
    assert_eq!(admitted, 5, "two asked about and three waiting");
    for answer in answers.into_iter().filter(|answer| answer.status != 101) {
        expect_503(Ok(answer));
    }
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"auth_queue\"}"), 7);
    assert_eq!(business.requests_to("/connect/").len(), 5);
}

#[test]
fn memory() {
    let (business, server) = setup(|b| b.set("memory_max", "1m"));
    refused(&start(&server));
    assert!(business.requests_to("/connect/").is_empty());
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"memory\"}"), 1);
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    let text = std::fs::read_to_string(&server.ini).expect("ini file");
    std::fs::write(&server.ini, text.replace("memory_max = 1m", "memory_max = 0")).expect("ini file");
    server.signal("HUP");
    expect_open(&server);
}

/// Processor time of the server so far, in clock ticks.
fn ticks(server: &super::Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum()
}

#[test]
fn descriptors_on_both_drivers() {
    for legacy in [false, true] {
        let (_business, server) = setup(|b| {
            let b = b.descriptors(100).set("connections_max", 10_000).set("workers", 1);
            if legacy { b.legacy_driver() } else { b }
        });
        let silent: Vec<Connection> = (0..150)
            .map(|_| Connection::open(server.port()).expect("connect"))
            .collect();
        // A connection of the start may still be closing: what becomes free is taken.
        let mut taken = Vec::new();
        let full = eventually(SOON, || {
            let mut one = Connection::open(server.port()).expect("connect");
            let answer = one.exchange(server.port(), &Request::get("/hello/"), SOON);
            let is_refused = answer.is_ok_and(|answer| answer.status == 503);
            taken.push(one);
            is_refused
        });
        assert!(full, "150 silent connections and {} others are served", taken.len());
        for _ in 0..20 {
            let mut late = Connection::open(server.port()).expect("connect");
            expect_503(late.exchange(server.port(), &Request::get("/hello/"), SOON));
        }
        let before = ticks(&server);
        std::thread::sleep(ms(1000));
        let spent = ticks(&server) - before;
        assert!(
            spent < 30,
            "{spent} ticks of processor time in a second of doing nothing"
        );
        drop((silent, taken));
        let _client = expect_open(&server);
        assert!(metric(&server, "rainbow_refused_total{reason=\"descriptors\"}") >= 20);
    }
}

#[test]
fn unused_connections_to_the_business_give_way_to_new_ones() {
    const TOGETHER: usize = 20;
    let (business, server) = setup(|b| {
        let b = b.descriptors(120).set("connections_max", 10_000).set("workers", 1);
        b.set("callback_idle", 600)
    });
    let mut watcher = Connection::open(server.port()).expect("connect");
    let mut unused = || {
        let page = watcher.exchange(server.port(), &Request::get("/metrics"), SOON);
        let page = page.expect("/metrics").text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix("rainbow_callback_connections_idle "));
        value.and_then(|value| value.parse::<usize>().ok()).expect("a number")
    };
    let earned = eventually(3 * SOON, || {
        std::thread::sleep(ms(300)); // the business has to be seen to keep connections first
        drop(expect_open(&server));
        unused() > 0
    });
    assert!(earned);
    business.reply("/connect/", Reply::success().delay(ms(300)));
    let clients: Vec<Client> = (0..TOGETHER).map(|_| start(&server)).collect();
    let _clients: Vec<Client> = clients.into_iter().map(Client::let_in).collect();
    assert!(unused() > TOGETHER / 2, "{} calls were one after the other", TOGETHER);
    let _silent: Vec<Connection> = (0..150)
        .map(|_| Connection::open(server.port()).expect("connect"))
        .collect();
    assert!(eventually(SOON, || unused() == 0), "{} are kept", unused());
}

#[test]
fn origins() {
    let allowed = "https://app.example.com, http://localhost:8080";
    let (business, server) = setup(|b| b.set("origins", allowed));
    let status = |headers: &[(&str, &str)]| {
        start_from("127.0.0.1", &server, headers)
            .answer(SOON)
            .expect("answer")
            .status
    };
    for origin in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "null",
        "",
        "http://app.example.com",
    ] {
        assert_eq!(status(&[("Origin", origin)]), 403, "{origin}");
    }
    assert_eq!(
        status(&[
            ("Origin", "http://localhost:8080"),
            ("Origin", "https://evil.example.com")
        ]),
        403
    );
    assert_eq!(status(&[("Sec-WebSocket-Origin", "https://evil.example.com")]), 403);
    assert!(
        business.requests_to("/connect/").is_empty(),
        "the business is not asked about them"
    );
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"origin\"}"), 7);
    assert_eq!(status(&[("Origin", "https://app.example.com")]), 101);
    assert_eq!(status(&[("Origin", "HTTP://LOCALHOST:8080")]), 101);
    assert_eq!(status(&[]), 101, "not a browser");
}

#[test]
fn channels_of_one_client() {
    let (business, server) = setup(|b| b.set("channels_max", 2));
    business.reply("/connect/", Reply::channels("a;;b;;c"));
    let _client = start(&server).let_in();
    let names: Vec<String> = server.channels().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(metric(&server, "rainbow_channels_refused_total"), 1);
    for _ in 0..20 {
        drop(start(&server).let_in());
    }
    assert_eq!(metric(&server, "rainbow_channels_refused_total"), 21);
    let lines = server.log_tail().matches("too many channels").count();
    assert!((1..=2).contains(&lines), "one line a minute: {}", server.log_tail());
    assert!(http::call(server.port(), &Request::get("/hello/"), SOON).is_ok());
}
