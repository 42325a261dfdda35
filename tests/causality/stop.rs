//! A stop on signal (spec §13 with its fixes): everybody is told, callbacks are finished, callers are answered, exit code 0.

use super::clients;
use super::common::business::{Business, Mode, Reply};
use super::common::client::{Client, Op, Open};
use super::common::http::{self, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, eventually, ms, packet, ports};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 12;

/// Milliseconds after which a close frame says to come back; panics on any other.
pub fn reconnect_after(payload: &[u8]) -> u64 {
    let reason = payload.strip_prefix(&1012_u16.to_be_bytes()).expect("code 1012");
    let millis = std::str::from_utf8(reason)
        .ok()
        .and_then(|reason| reason.strip_prefix("reconnect_after="));
    millis
        .and_then(|millis| millis.parse().ok())
        .unwrap_or_else(|| panic!("{payload:?}"))
}

fn graceful_stop(signal: &str) {
    let business = Business::start();
    // Every other client is in no channel.
    business.hook(|request| {
        let device = request.header("x-deviceid").filter(|_| request.path == "/connect/")?;
        let even = device
            .trim_start_matches('d')
            .parse::<usize>()
            .is_ok_and(|n| n % 2 == 0);
        Some(if even {
            Reply::channels("room")
        } else {
            Reply::success()
        })
    });
    business.reply("/message/", Reply::ok("ok").delay(ms(400)));
    let mut server = Builder::new(&business)
        .set("workers", 2)
        .set("drain_timeout", 10)
        .start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    let waiting = Request::post("/send/", "x")
        .query("channel", "room")
        .query("qos", 1)
        .query("timeout", 30);
    let caller = std::thread::spawn(move || http::call(port, &waiting.signed(TOKEN), Duration::from_secs(25)));
    for (i, (client, _)) in clients.iter().enumerate() {
        if i % 2 == 0 {
            client.expect_send(SOON);
        }
        client.send(&packet::send(0, 7, 0, "on its way"));
    }
    business.wait_for("/message/", CLIENTS, SOON);
    server.signal(signal);
    for (i, (client, _)) in clients.iter().enumerate() {
        let frame = client
            .next(SOON)
            .unwrap_or_else(|| panic!("client {i} is not told about the stop"));
        assert_eq!(frame.op, Op::Close, "client {i}");
        assert!(reconnect_after(&frame.payload) <= 10_000, "client {i}");
        client.frame(Op::Close, b"");
    }
    for (i, (client, _)) in clients.iter().enumerate() {
        assert!(client.until_eof(SOON).is_some(), "client {i} stays connected");
    }
    let answer = caller.join().expect("caller").expect("the waiting /send/ is answered");
    let json = answer
        .json()
        .unwrap_or_else(|| panic!("{} {}", answer.status, answer.text()));
    assert!(json["connections"] == 0 || json["msg"] == "timeout", "{json}");
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0), "exit code");
    let closed = business.requests_to("/close/");
    for (i, (_, identity)) in clients.iter().enumerate() {
        let own = closed.iter().filter(|r| r.identity() == *identity).count();
        assert_eq!(own, 1, "close callbacks of client {i}");
    }
}

#[test]
fn sigterm_tells_everybody_and_finishes() {
    graceful_stop("TERM");
}

#[test]
fn sigint_does_the_same() {
    graceful_stop("INT");
}

#[test]
fn idle_server_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let business = Business::start();
        let mut server = Builder::new(&business).start();
        server.signal(signal);
        assert_eq!(server.wait_exit(Duration::from_secs(4)), Some(0), "SIG{signal}");
    }
}

#[test]
fn second_signal_exits_at_once() {
    let business = Business::start();
    business.reply("/close/", Reply::ok("").mode(Mode::Hang));
    let mut server = Builder::new(&business)
        .set("drain_timeout", 30)
        .set("callback_timeout", 30)
        .start();
    let _client = Client::open_with(
        server.port(),
        Open {
            auto_pong: false,
            ..Open::default()
        },
    );
    server.signal("TERM");
    std::thread::sleep(ms(1000));
    assert!(server.is_alive(), "the server does not wait for its close callback");
    server.signal("TERM");
    assert!(
        server.wait_exit(Duration::from_secs(3)).is_some(),
        "still runs after the second signal"
    );
}

#[test]
fn stop_is_bounded_when_nobody_answers() {
    let business = Business::start();
    business.reply("/close/", Reply::ok("").mode(Mode::Hang));
    let mut server = Builder::new(&business).set("drain_timeout", 2).start();
    let _silent: Vec<Client> = (0..4).map(|_| Client::open(server.port())).collect();
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(
        server.wait_exit(Duration::from_secs(10)),
        Some(0),
        "exit code with drain_timeout = 2"
    );
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "took {:?} with drain_timeout = 2",
        started.elapsed()
    );
}

#[test]
fn a_connection_to_the_interface_sees_the_drain() {
    let business = Business::start();
    let mut server = Builder::new(&business)
        .set("workers", 2)
        .set("drain_timeout", 60)
        .set("drain_rate", 2)
        .start();
    let port = server.port();
    let mut kept: Vec<_> = (0..2).map(|_| http::Connection::open(port).expect("connect")).collect();
    let mut get = |path: &str| {
        let mut connection = kept.pop().expect("a connection");
        connection.exchange(port, &Request::get(path), SOON).expect("answer")
    };
    let clients: Vec<_> = (0..6).map(|_| Client::open(port)).collect();
    server.signal("TERM");
    let is_told = |client: &Client| client.next(ms(0)).is_some_and(|frame| frame.op == Op::Close);
    let mut waiting: Vec<_> = clients.iter().collect();
    assert!(eventually(SOON, || {
        waiting.retain(|client| !is_told(client));
        waiting.len() < 6
    }));
    let page = get("/metrics").text();
    let value = |series: &str| -> Option<u64> { page.lines().find_map(|line| line.strip_prefix(series)?.parse().ok()) };
    assert!(value("rainbow_draining ").is_some_and(|cores| cores > 0), "{page}");
    assert!(
        value("rainbow_closes_total{cause=\"shutdown\"} ").is_some_and(|told| told > 0),
        "{page}"
    );
    let health = get("/healthz");
    assert_eq!((health.status, health.header("connection")), (503, Some("close")));
    clients.iter().for_each(|client| client.frame(Op::Close, b""));
    assert_eq!(server.wait_exit(Duration::from_secs(20)), Some(0));
}

#[test]
fn what_is_not_done_in_time_is_lost() {
    let (business, port) = (Business::start(), Arc::new(ports::claim()));
    business.reply("/message/", Reply::ok("ok").mode(Mode::Hang));
    business.reply("/close/", Reply::ok("").status(500));
    let builder = || Builder::new(&business).on(&port).set("drain_timeout", 2);
    let mut server = builder().start();
    let [silent, gone] = [Client::open(port.number), Client::open(port.number)];
    silent.send(&packet::send(1, 7, 1, "never answered"));
    business.wait_for("/message/", 1, SOON);
    gone.drop_now();
    business.wait_for("/close/", 1, SOON);
    server.signal("TERM");
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
    let log = server.log_tail();
    assert!(log.contains("the time to stop is over"), "{log}");
    let frames = silent.until_eof(SOON).expect("the connection ends");
    assert!(frames.iter().all(|frame| frame.op != Op::Binary), "no ACK: {frames:?}");
    assert_eq!(
        frames.iter().filter(|frame| frame.op == Op::Close).count(),
        1,
        "told before: {frames:?}"
    );
    business.reply("/close/", Reply::ok(""));
    let before = business.requests_to("/close/").len();
    let _next = builder().start();
    let told = eventually(ms(1500), || business.requests_to("/close/").len() > before);
    assert!(!told, "a close callback has outlived its process");
}

#[test]
fn nobody_is_let_in_while_stopping() {
    let business = Business::start();
    business.reply("/close/", Reply::ok("").mode(Mode::Hang));
    let server = Builder::new(&business)
        .set("drain_timeout", 20)
        .set("callback_timeout", 20)
        .start();
    let port = server.port();
    let _holds_the_stop = Client::open(port);
    server.signal("TERM");
    let refused = eventually(SOON, || TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(refused, "new connections are still accepted after the signal");
}

#[test]
fn client_in_the_middle_of_connect_is_told_or_cut() {
    let business = Business::start();
    business.reply("/connect/", Reply::success().delay(ms(800)));
    let mut server = Builder::new(&business).set("drain_timeout", 5).start();
    let client = Client::start(server.port(), Open::default()).expect("connect");
    business.wait_for("/connect/", 1, SOON);
    server.signal("TERM");
    // Either an error answer, or let in and closed; never left open.
    if client.answer(SOON).is_ok_and(|answer| answer.status == 101) {
        client.frame(Op::Close, b"");
        assert!(client.until_eof(SOON).is_some(), "let in during the stop and left open");
    }
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
}
