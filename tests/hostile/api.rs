//! Callers of the control API that are not what they say, or break HTTP (spec §5, §10, §15).

use super::common::client::{Client, Op, Open};
use super::common::http::{self, Connection, Request, Response};
use super::common::server::TOKEN;
use super::common::{SOON, ms, packet};
use super::{expect_healthy, setup};
use serde_json::json;
use std::time::Duration;

fn call(port: u16, request: &Request) -> Response {
    http::call(port, request, SOON).unwrap_or_else(|e| panic!("{} {}: {e}", request.method, request.path))
}

/// A `/send/` with these signature parameters.
fn send_signed(timestamp: &str, nonce: &str, signature: &str) -> Request {
    let send = Request::post("/send/", "x").query("channel", "room").query("qos", 0);
    send.query("timestamp", timestamp)
        .query("nonce", nonce)
        .query("signature", signature)
}

#[test]
fn wrong_signatures_are_refused() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let now = http::unix_seconds().to_string();
    let right = http::sign(TOKEN, &now, "1234");
    let wrong = [
        http::sign("othertoken", &now, "1234"),
        http::sign(TOKEN, &now, "1235"),
        right.to_uppercase(),
        right[..39].to_owned(),
        format!("{right}0"),
        "0".repeat(40),
        "é".repeat(40),
        "a".repeat(20_000),
    ];
    for signature in wrong {
        let answer = call(server.port(), &send_signed(&now, "1234", &signature));
        assert_eq!(
            answer.json(),
            Some(json!({"status": 1, "msg": "signature error"})),
            "signature {signature:.50}"
        );
    }
    let in_body = Request::post("/send/", format!("timestamp={now}&nonce=1234&signature={right}"))
        .query("channel", "room")
        .header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(
        call(server.port(), &in_body).status,
        400,
        "a signature in a form body does not count"
    );
    client.expect_silence(ms(200));
    assert_eq!(
        call(server.port(), &send_signed(&now, "1234", &right)).json(),
        Some(json!({"status": 0}))
    );
    client.expect_send(SOON);
    expect_healthy(&business, &server);
}

#[test]
fn stale_and_senseless_timestamps_are_refused() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let now = http::unix_seconds();
    for offset in [-3600, -60, -12, 12, 60, 3600] {
        let timestamp = (now + offset).to_string();
        let answer = call(
            server.port(),
            &send_signed(&timestamp, "1", &http::sign(TOKEN, &timestamp, "1")),
        );
        assert_eq!(
            answer.json(),
            Some(json!({"status": 1, "msg": "signature error"})),
            "offset {offset}"
        );
    }
    for timestamp in [
        "99999999999999999999999999",
        "-1",
        "-9223372036854775808",
        "9223372036854775807",
        "0",
    ] {
        let answer = call(
            server.port(),
            &send_signed(timestamp, "1", &http::sign(TOKEN, timestamp, "1")),
        );
        let refused = answer.status == 500 || answer.json() == Some(json!({"status": 1, "msg": "signature error"}));
        assert!(refused, "timestamp {timestamp}: {} {}", answer.status, answer.text());
    }
    client.expect_silence(ms(200));
    expect_healthy(&business, &server);
}

#[test]
fn signature_covers_utf8() {
    let (_business, server) = setup(|b| b);
    let now = http::unix_seconds().to_string();
    let answer = call(
        server.port(),
        &send_signed(&now, "nönce 你", &http::sign(TOKEN, &now, "nönce 你")),
    );
    assert_eq!(answer.json(), Some(json!({"status": 0})));
    let not_utf8 = format!("/send/?channel=room&timestamp={now}&nonce=%ff%fe&signature=0");
    assert_eq!(call(server.port(), &Request::post(&not_utf8, "x")).status, 400);
}

#[test]
fn json_bombs_are_refused() {
    let (business, server) = setup(|b| b);
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let bombs = [
        ("deep list", deep("[", "]", 200_000)),
        ("deep list that never ends", "[".repeat(1_000_000)),
        ("deep object", deep("{\"a\":", "1}", 100_000)),
        (
            "deep value",
            format!(
                "{{\"identity\":\"x\",\"channel\":\"c\",\"x\":{}}}",
                deep("[", "]", 100_000)
            ),
        ),
        (
            "many keys",
            format!("{{{}\"identity\":\"x\"}}", "\"k\":1,".repeat(500_000)),
        ),
        (
            "long channel",
            format!("{{\"identity\":\"x\",\"channel\":\"{}\"}}", "c".repeat(5_000_000)),
        ),
        (
            "long number",
            format!("{{\"identity\":{},\"channel\":\"c\"}}", "9".repeat(1_000_000)),
        ),
        (
            "lone surrogate",
            "{\"identity\":\"x\",\"channel\":\"\\ud800\"}".to_owned(),
        ),
        ("list as channel", "{\"identity\":\"x\",\"channel\":[\"c\"]}".to_owned()),
        ("object as identity", "{\"identity\":{},\"channel\":\"c\"}".to_owned()),
    ];
    let before = server.resident_kib();
    for (what, body) in bombs {
        for path in ["/sub/", "/unsub/"] {
            let Ok(answer) = http::call(server.port(), &Request::post(path, &body).signed(TOKEN), SOON) else {
                continue;
            };
            // A body that is valid JSON may get an ordinary answer, /unsub/ even status 0.
            let ok = matches!(answer.status, 400 | 413 | 500) || answer.json().is_some_and(|j| j["status"].is_number());
            assert!(ok, "{what} to {path}: {} {}", answer.status, answer.text());
            let joined = path == "/sub/" && answer.json().is_some_and(|j| j["status"] == 0);
            assert!(!joined, "{what}: /sub/ says success");
        }
    }
    server.expect_no_channels();
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "memory grew by {grown} KiB and stayed");
    expect_healthy(&business, &server);
}

#[test]
fn ambiguous_lengths_are_refused() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let smuggled = String::from_utf8(
        Request::post("/send/", "smuggled")
            .query("channel", "room")
            .query("qos", 0)
            .signed(TOKEN)
            .bytes(1, false),
    )
    .expect("ascii");
    let lengths = [
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", smuggled.len()),
        format!("Content-Length: {}\r\nContent-Length: 0\r\n", smuggled.len()),
        format!("Content-Length: 0, {}\r\n", smuggled.len()),
        "Content-Length: +0\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 0x0\r\n".to_owned(),
        "Content-Length: 99999999999999999999\r\n".to_owned(),
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: identity, x\r\n",
            smuggled.len()
        ),
    ];
    for length in lengths {
        let mut connection = Connection::open(server.port()).expect("connect");
        let head = format!("POST /nothing/ HTTP/1.1\r\nHost: x\r\n{length}\r\n");
        let _ = connection.write(format!("{head}{smuggled}").as_bytes());
        let answer = match connection.read_to_end(SOON) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(e) => panic!("{length:?}: the connection stays open: {e}"),
        };
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5");
        assert!(
            refused && answer.matches("HTTP/1.1").count() <= 1,
            "{length:?}: {answer}"
        );
    }
    client.expect_silence(ms(300));
    expect_healthy(&business, &server);
}

#[test]
fn broken_bodies_are_refused() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let target = Request::post("/send/", "")
        .query("channel", "room")
        .query("qos", 0)
        .signed(TOKEN)
        .bytes(1, false);
    let target = String::from_utf8(target)
        .expect("ascii")
        .lines()
        .next()
        .expect("request line")
        .to_owned();
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let tails = [
        format!("{chunked}zz\r\nx\r\n0\r\n\r\n"),
        format!("{chunked}ffffffffffffffffff\r\nx\r\n"),
        format!("{chunked}-1\r\nx\r\n0\r\n\r\n"),
        format!("{chunked}1\r\nxyz\r\n0\r\n\r\n"),
        format!("{chunked}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(100_000)),
        format!("Content-Length: {}\r\n\r\nx", 100 * 1024 * 1024 + 1),
    ];
    for tail in tails {
        let mut connection = Connection::open(server.port()).expect("connect");
        let _ = connection.write(format!("{target}\r\nHost: x\r\n{tail}").as_bytes());
        let answer = match connection.read_to_end(SOON) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(e) => panic!("{tail:.80}: the connection stays open: {e}"),
        };
        assert!(!answer.starts_with("HTTP/1.1 2"), "{tail:.80}: {answer}");
    }
    let mut cut = Connection::open(server.port()).expect("connect");
    cut.write(format!("{target}\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").as_bytes())
        .expect("write");
    cut.shut();
    client.expect_silence(ms(300));
    expect_healthy(&business, &server);
}

#[test]
fn chunked_body_is_understood() {
    let (_business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let head = Request::get("/send/")
        .query("channel", "room")
        .query("qos", 0)
        .signed(TOKEN)
        .bytes(1, true);
    let head = String::from_utf8(head).expect("ascii").replacen("GET", "POST", 1);
    let head = head.trim_end_matches("\r\n");
    let mut connection = Connection::open(server.port()).expect("connect");
    let body = "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n";
    connection
        .write(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes())
        .expect("write");
    assert_eq!(
        connection.response("POST", SOON).expect("answer").json(),
        Some(json!({"status": 0}))
    );
    assert_eq!(client.expect_send(SOON).1, b"abcde");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let send = |body: &str| {
        Request::post("/send/", body)
            .query("channel", "room")
            .query("qos", 0)
            .signed(TOKEN)
    };
    let requests = [
        Request::get("/hello/"),
        send("one"),
        Request::get("/nope/"),
        Request::get("/serverinfo/").query("cluster", 1),
        send("two"),
        Request::get("/hello/"),
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|r| r.bytes(server.port(), false)).collect();
    let mut connection = Connection::open(server.port()).expect("connect");
    connection.write(&bytes).expect("write");
    let answers: Vec<Response> = requests
        .iter()
        .map(|r| connection.response(&r.method, SOON).expect("pipelined answer"))
        .collect();
    let statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200, 200, 200]);
    assert_eq!((answers[0].text(), answers[5].text()), ("ok".into(), "ok".into()));
    assert_eq!(answers[1].json(), Some(json!({"status": 0})));
    assert_eq!(answers[3].json().expect("json")["channels"], json!([["room", 1]]));
    assert_eq!(client.expect_send(SOON).1, b"one");
    assert_eq!(client.expect_send(SOON).1, b"two");
}

#[test]
fn waiting_send_holds_up_only_its_own_connection() {
    let (_business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let waiting = Request::post("/send/", "x")
        .query("channel", "room")
        .query("qos", 1)
        .signed(TOKEN);
    let mut held = Connection::open(server.port()).expect("connect");
    let hello = Request::get("/hello/").bytes(server.port(), false);
    held.write(&[waiting.bytes(server.port(), false), hello].concat())
        .expect("write");
    let (id, _) = client.expect_send(SOON);
    assert_eq!(
        call(server.port(), &Request::get("/hello/")).text(),
        "ok",
        "another connection is served"
    );
    client.send(&packet::ack(id.expect("id"), "answer"));
    let first = held.response("POST", SOON).expect("first answer");
    assert_eq!(
        first.json(),
        Some(json!({"status": 0, "connections": 1, "data": "answer"}))
    );
    assert_eq!(held.response("GET", SOON).expect("second answer").text(), "ok");
}

/// The client is let in, its messages are forwarded and pushes reach it.
fn expect_works(client: &Client, server: &super::Server) {
    client.send(&packet::send(1, 7, 3, "x"));
    client.expect(Op::Binary, &packet::ack(3, "ok"));
    assert_eq!(server.send("room", 0, "push")["status"], 0);
    assert_eq!(client.expect_send(SOON).1, b"push");
}

#[test]
fn upgrade_after_api_calls_on_the_same_connection() {
    for workers in [1, 3] {
        let (business, server) = setup(|b| b.set("workers", workers));
        let mut connection = Connection::open(server.port()).expect("connect");
        for _ in 0..3 {
            let answer = connection
                .exchange(server.port(), &Request::get("/hello/"), SOON)
                .expect("answer");
            assert_eq!(answer.text(), "ok");
        }
        let client = Client::start_on(connection.into_stream(), server.port(), Open::default()).expect("write");
        let client = client.let_in();
        expect_works(&client, &server);
        drop(client);
        business.wait_for("/close/", 1, SOON);
        server.expect_no_channels();
    }
}

#[test]
fn upgrade_pipelined_behind_an_api_call() {
    let (business, server) = setup(|b| b.set("workers", 2));
    for _ in 0..10 {
        let first = Request::post("/send/", "x")
            .query("channel", "nobody")
            .signed(TOKEN)
            .bytes(server.port(), false);
        let client = Client::open_with(
            server.port(),
            Open {
                behind: Some(first),
                ..Open::default()
            },
        );
        expect_works(&client, &server);
        drop(client);
        server.expect_no_channels();
    }
    business.wait_for("/close/", 10, SOON);
}

#[test]
fn api_connections_that_idle_do_not_keep_others_out() {
    let (business, server) = setup(|b| b);
    let idle: Vec<Connection> = (0..200)
        .map(|_| {
            let mut connection = Connection::open(server.port()).expect("connect");
            connection
                .exchange(server.port(), &Request::get("/hello/"), Duration::from_secs(20))
                .expect("answer");
            connection
        })
        .collect();
    expect_healthy(&business, &server);
    drop(idle);
}
