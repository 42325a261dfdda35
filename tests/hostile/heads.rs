//! Request heads that are too long, too slow or senseless, and clients that leave while the business server is asked (spec §3, §15).

use super::common::business::Reply;
use super::common::client::{Client, Open};
use super::common::http::{self, Connection, Request};
use super::common::{SOON, eventually, ms};
use super::{expect_healthy, setup};
use std::time::{Duration, Instant};

/// Writes bytes and expects the connection to end, at most with an error answer.
fn expect_refused(port: u16, what: &str, bytes: &[u8]) {
    let mut connection = Connection::open(port).expect("connect");
    // The server may close before everything is written.
    let _ = connection.write(bytes);
    let answer = match connection.read_to_end(SOON) {
        Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
        Err(e) => panic!("{what}: the connection stays open: {e}"),
    };
    let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5");
    assert!(refused, "{what}: answered with {answer}");
}

#[test]
fn oversized_heads_are_refused() {
    let (business, server) = setup(|b| b);
    let port = server.port();
    let head = |line: &str, header: &str| format!("GET {line} HTTP/1.1\r\nHost: x\r\n{header}\r\n").into_bytes();
    expect_refused(
        port,
        "long header",
        &head("/connect/", &format!("X-Long: {}\r\n", "a".repeat(70_000))),
    );
    expect_refused(
        port,
        "long target",
        &head(&format!("/connect/?{}", "a".repeat(70_000)), ""),
    );
    expect_refused(port, "many headers", &head("/hello/", &"X-Many: 1\r\n".repeat(10_000)));
    expect_refused(port, "endless line", &[b'a'; 200_000]);
    assert!(business.requests().is_empty());
    expect_healthy(&business, &server);
}

#[test]
fn senseless_heads_are_refused() {
    let (business, server) = setup(|b| b);
    let port = server.port();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\n";
    let heads = [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /hello/ HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "GET /hello/ HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
        "GET /hello/ HTTP/1.1\r\n: empty name\r\n\r\n".to_owned(),
        format!("GET /connect/ HTTP/1.1\r\n{upgrade}X-Nul: a\0b\r\n\r\n"),
    ];
    for head in heads {
        let what: String = head.chars().take(60).collect();
        expect_refused(port, &format!("{what:?}"), head.as_bytes());
    }
    assert!(business.requests().is_empty());
    expect_healthy(&business, &server);
}

#[test]
fn slow_heads_are_cut() {
    let (business, server) = setup(|b| b.set("handshake_timeout", 1));
    let mut silent = Connection::open(server.port()).expect("connect");
    let mut slow = Connection::open(server.port()).expect("connect");
    let started = Instant::now();
    let cut = b"GET /connect/ HTTP/1.1\r\nX-DEVICEID: slow\r\nX-Pad: "
        .iter()
        .chain([b'a'; 100].iter());
    let cut = cut.copied().any(|byte| {
        std::thread::sleep(ms(100));
        slow.write(&[byte]).is_err()
    });
    assert!(
        cut,
        "a head that dribbles in is still read after {:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() >= ms(700),
        "cut after {:?} with handshake_timeout = 1",
        started.elapsed()
    );
    assert!(silent.is_closed_within(SOON), "a silent connection stays open");
    assert!(business.requests().is_empty());
    expect_healthy(&business, &server);
}

#[test]
fn many_half_open_heads_do_not_keep_others_out() {
    let (business, server) = setup(|b| b);
    let stuck: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = Connection::open(server.port()).expect("connect");
            connection
                .write(b"GET /connect/ HTTP/1.1\r\nX-DEVICEID: stuck\r\n")
                .expect("write");
            connection
        })
        .collect();
    expect_healthy(&business, &server);
    drop(stuck);
}

#[test]
fn clients_gone_during_auth_leave_nothing() {
    const CLIENTS: usize = 60;
    let (business, server) = setup(|b| b.set("workers", 2));
    business.reply("/connect/", Reply::channels("ghost").delay(ms(500)));
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|i| Client::start(server.port(), Open::device(&format!("d{i}"))).expect("connect"))
        .collect();
    business.wait_for("/connect/", CLIENTS, Duration::from_secs(15));
    for (i, client) in clients.into_iter().enumerate() {
        match i % 3 {
            0 => client.drop_now(),
            1 => client.reset(),
            _ => drop(client),
        }
    }
    // Business said success to all of them, so it is told about the end of all of them (§3), once each.
    let closed = business.wait_for("/close/", CLIENTS, Duration::from_secs(20));
    server.expect_no_channels();
    std::thread::sleep(ms(300));
    let mut identities: Vec<String> = closed.iter().map(|r| r.identity()).collect();
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(
        (identities.len(), business.requests_to("/close/").len()),
        (CLIENTS, CLIENTS)
    );
    assert_eq!(server.send("ghost", 1, "x")["connections"], 0);
    expect_healthy(&business, &server);
}

#[test]
fn frames_sent_before_the_upgrade_is_answered_are_kept() {
    let (business, server) = setup(|b| b);
    business.reply("/connect/", Reply::success().delay(ms(300)));
    let client = Client::start(server.port(), Open::default()).expect("connect");
    client.send(&super::packet::send(1, 7, 1, "early"));
    let client = client.let_in();
    client.expect(super::common::client::Op::Binary, &super::packet::ack(1, "ok"));
    assert_eq!(business.wait_for("/message/", 1, SOON)[0].text(), "early");
}

#[test]
fn flood_before_the_upgrade_is_answered_is_bounded() {
    let (business, server) = setup(|b| b);
    business.reply("/connect/", Reply::success().delay(Duration::from_secs(2)));
    let before = server.resident_kib();
    let client = Client::start(server.port(), Open::default()).expect("connect");
    let chunk = super::common::client::encode(super::common::client::Op::Binary, &[0; 60_000], true, true);
    let stream = client.write_half();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut stream = stream;
        while stream.write_all(&chunk).is_ok() {}
    });
    let mut most = 0;
    eventually(ms(1500), || {
        most = most.max(server.resident_kib().saturating_sub(before));
        false
    });
    assert!(
        most < 32 * 1024,
        "memory grew by {most} KiB for one client that is not let in yet"
    );
    client.drop_now();
    business.reply("/connect/", Reply::success());
    expect_healthy(&business, &server);
}

#[test]
fn admission_is_not_taken_by_refused_clients() {
    let (business, server) = setup(|b| b);
    business.reply("/connect/", Reply::ok(r#"{"status": "fail"}"#));
    for i in 0..100 {
        let client = Client::start(server.port(), Open::device(&format!("d{i}"))).expect("connect");
        assert_eq!(client.answer(SOON).expect("answer").status, 401);
    }
    assert!(http::call(server.port(), &Request::get("/hello/"), SOON).is_ok());
    expect_healthy(&business, &server);
}
