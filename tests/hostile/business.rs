//! Business servers that answer garbage, too much, too slowly or not at all (spec §3, §4, §7), and ones that put a client into
//! more channels than anybody planned for.

use super::common::business::{Mode, Reply};
use super::common::client::{Client, Op, Open};
use super::common::http::{Connection, Request};
use super::common::server::TOKEN;
use super::common::{SOON, eventually, ms, packet};
use super::{expect_healthy, setup};
use std::io::Write;
use std::time::{Duration, Instant};

/// With this deadline for callbacks, an answer to whatever hangs comes within `SOON`.
const CALLBACK_TIMEOUT_S: u64 = 1;

/// Answers that are none, for requests to `path`.
fn broken(path: &str) -> Vec<(&'static str, Reply)> {
    let raw = |bytes: &[u8]| Reply::ok("").mode(Mode::Raw(bytes.to_vec()));
    let body = r#"{"status": "success"}"#;
    let with = |header: &str| raw(format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{body}").as_bytes());
    vec![
        ("garbage", raw(b"\x00\x01\x02 this is not http \xff\xfe\r\n\r\n\r\n")),
        ("TLS alert", raw(b"\x15\x03\x01\x00\x02\x02\x46")),
        ("no status", raw(b"HTTP/1.1\r\n\r\n")),
        (
            "status that is no number",
            raw(b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("head without an end", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n")),
        ("closed at once", Reply::ok("").mode(Mode::Drop)),
        ("closed within the body", Reply::ok(body).mode(Mode::CutShort)),
        ("conflicting lengths", with("Content-Length: 21\r\nContent-Length: 20")),
        ("negative length", with("Content-Length: -1")),
        ("length beyond 64 bits", with("Content-Length: 99999999999999999999999")),
        ("length beyond memory", with("Content-Length: 18446744073709551615")),
        (
            "chunk beyond memory",
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
        ),
        (
            "chunk that is no number",
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "gzip that is none",
            with("Content-Encoding: gzip\r\nContent-Length: 21"),
        ),
        ("header of 1 MB", with(&format!("X-Long: {}", "a".repeat(1_000_000)))),
        ("100000 headers", with(&"X-Many: 1\r\n".repeat(100_000))),
        ("endless redirect", Reply::ok("").status(302).header("Location", path)),
        (
            "redirect to nowhere",
            Reply::ok("").status(302).header("Location", "http://127.0.0.1:1/"),
        ),
        (
            "redirect to another scheme",
            Reply::ok("").status(302).header("Location", "file:///etc/passwd"),
        ),
        ("too slow", Reply::ok(body).mode(Mode::Trickle(ms(100)))),
        ("never", Reply::ok("").mode(Mode::Hang)),
    ]
}

#[test]
fn broken_answers_to_connect_are_503() {
    let (business, server) = setup(|b| b.set("callback_timeout", CALLBACK_TIMEOUT_S));
    for (what, reply) in broken("/connect/") {
        business.reply("/connect/", reply);
        let started = Instant::now();
        let client = Client::start(server.port(), Open::default()).expect("connect");
        let answer = client.answer(SOON).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        assert_eq!(answer.text(), "HTTP/1.1 503 Service Unavailable\r\n\r\n", "{what}");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{what}: answered after {:?}",
            started.elapsed()
        );
    }
    assert!(
        business.requests_to("/close/").is_empty(),
        "a close callback for a client that was never let in"
    );
    expect_healthy(&business, &server);
}

#[test]
fn senseless_json_from_connect_is_503() {
    let (business, server) = setup(|b| b);
    let deep = format!(
        r#"{{"status": "success", "x": {}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let bodies = [
        "\u{feff}{\"status\": \"success\"}".as_bytes().to_vec(),
        b"{\"status\": \"success\"".to_vec(),
        b"{\"status\": \"success\"} trailing".to_vec(),
        b"{\"status\": \"\xff\"}".to_vec(),
        b"\xff\xfe{".to_vec(),
        "[".repeat(1_000_000).into_bytes(),
        vec![b' '; 200_000],
    ];
    for body in bodies {
        business.reply("/connect/", Reply::ok(&body));
        let client = Client::start(server.port(), Open::default()).expect("connect");
        let answer = client.answer(SOON).expect("answer");
        assert_eq!(answer.status, 503, "{:.60}", String::from_utf8_lossy(&body));
    }
    // Deep nesting beside a valid status may be taken or refused, but must not end the server.
    business.reply("/connect/", Reply::ok(deep));
    let client = Client::start(server.port(), Open::default()).expect("connect");
    assert!(matches!(client.answer(SOON).expect("answer").status, 101 | 503));
    drop(client);
    expect_healthy(&business, &server);
}

#[test]
fn endless_answer_to_connect_is_cut() {
    let (business, server) = setup(|b| b.set("callback_timeout", 4));
    let before = server.resident_kib();
    let huge = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 200_000_000]].concat();
    business.reply("/connect/", Reply::ok("").mode(Mode::Raw(huge)));
    let client = Client::start(server.port(), Open::default()).expect("connect");
    let mut most = 0;
    let answered = eventually(Duration::from_secs(20), || {
        most = most.max(server.resident_kib().saturating_sub(before));
        client.answer(ms(1)).is_ok()
    });
    assert!(answered, "no answer to the client");
    assert_eq!(client.answer(SOON).expect("answer").status, 503);
    assert!(most < 150_000, "memory grew by {most} KiB for one answer");
    expect_healthy(&business, &server);
}

/// Gzip of `bytes`.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

#[test]
fn gzip_bomb_from_connect_is_cut() {
    let (business, server) = setup(|b| b.set("callback_timeout", 4));
    let before = server.resident_kib();
    let bomb = gzip(&vec![b' '; 400_000_000]);
    business.reply("/connect/", Reply::ok(bomb).header("Content-Encoding", "gzip"));
    let client = Client::start(server.port(), Open::default()).expect("connect");
    let mut most = 0;
    let answered = eventually(Duration::from_secs(20), || {
        most = most.max(server.resident_kib().saturating_sub(before));
        client.answer(ms(1)).is_ok()
    });
    assert!(answered, "no answer to the client");
    assert_eq!(client.answer(SOON).expect("answer").status, 503);
    assert!(most < 150_000, "memory grew by {most} KiB for one answer");
    expect_healthy(&business, &server);
}

#[test]
fn unusual_but_valid_answers_are_taken() {
    let (business, server) = setup(|b| b);
    let until_close = |head: &str, body: &str| {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
        Reply::ok("").mode(Mode::Raw(text.into_bytes()))
    };
    let interim = |body: &str| {
        let text = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Reply::ok("").mode(Mode::Raw(text.into_bytes()))
    };
    type Wrap<'a> = Box<dyn Fn(&str) -> Reply + 'a>;
    let ways: Vec<(&str, Wrap)> = vec![
        ("trickle", Box::new(|body| Reply::ok(body).mode(Mode::Trickle(ms(5))))),
        ("chunks", Box::new(|body| Reply::ok(body).mode(Mode::Chunked))),
        (
            "gzip",
            Box::new(|body| Reply::ok(gzip(body.as_bytes())).header("Content-Encoding", "gzip")),
        ),
        ("until close", Box::new(|body| until_close("", body))),
        (
            "until close, HTTP/1.0 style",
            Box::new(|body| until_close("Connection: close\r\n", body)),
        ),
        ("after an interim answer", Box::new(interim)),
    ];
    for (id, (what, answer)) in (1..).zip(&ways) {
        business.reply("/connect/", answer(r#"{"status": "success"}"#));
        business.reply("/message/", answer("slow answer"));
        let client = Client::start(server.port(), Open::default()).expect("connect");
        assert_eq!(client.answer(SOON).expect("answer").status, 101, "{what}");
        client.send(&packet::send(1, 7, id, "x"));
        let frame = client.next(SOON).unwrap_or_else(|| panic!("{what}: no ACK"));
        assert_eq!(frame.payload, packet::ack(id, "slow answer"), "{what}");
    }
}

/// The server keeps connections to the business server; one that was closed meanwhile must cost no message.
#[test]
fn connections_closed_by_business_cost_no_message() {
    const MESSAGES: u16 = 30;
    let (business, server) = setup(|b| b);
    business.reply("/connect/", Reply::channels("room").mode(Mode::ThenClose));
    business.reply("/message/", Reply::ok("ok").mode(Mode::ThenClose));
    let client = Client::open(server.port());
    for id in 1..=MESSAGES {
        std::thread::sleep(ms(30));
        client.send(&packet::send(1, 7, id, "x"));
        client.expect(Op::Binary, &packet::ack(id, "ok"));
    }
    assert_eq!(
        business.requests_to("/message/").len(),
        usize::from(MESSAGES),
        "each exactly once"
    );
}

#[test]
fn broken_answers_to_messages_are_not_answered() {
    let (business, server) = setup(|b| b.set("callback_timeout", CALLBACK_TIMEOUT_S));
    let client = Client::open(server.port());
    for (i, (what, reply)) in broken("/message/").into_iter().enumerate() {
        let id = i as u16 + 1;
        business.reply("/message/", reply);
        let before = business.requests_to("/message/").len();
        client.send(&packet::send(2, 7, id, "x"));
        business.wait_for("/message/", before + 1, SOON);
        if let Some(frame) = client.next(ms(1400)) {
            panic!("{what}: the client got {:?} {:?}", frame.op, frame.payload);
        }
        // The id is forgotten after a failure (§7), so the same message with DUP goes through.
        business.reply("/message/", Reply::ok("ok"));
        let again = packet::Packet::Send {
            dup: true,
            qos: 2,
            kind: 7,
            id: Some(id),
            payload: b"x".to_vec(),
        };
        let answered = eventually(SOON, || {
            client.send(&again.encode());
            client.next(ms(300)).is_some_and(|f| f.payload == packet::rec(id, "ok"))
        });
        assert!(answered, "{what}: the id is not forgotten");
        client.send(&packet::rel(id));
        client.expect(Op::Binary, &packet::com(id));
    }
    expect_healthy(&business, &server);
}

#[test]
fn broken_answers_to_close_change_nothing() {
    let (business, server) = setup(|b| b.set("callback_timeout", CALLBACK_TIMEOUT_S));
    for (what, reply) in broken("/close/") {
        business.reply("/close/", reply);
        let client = Client::open(server.port());
        let identity = business.requests_to("/connect/").last().expect("connect").identity();
        assert_eq!(server.channels(), [("room".to_owned(), 1)], "{what}");
        drop(client);
        // Members leave before the callback (§9, a fix), so a slow business server does not keep them.
        let left = eventually(ms(800), || server.channels().is_empty());
        assert!(
            left,
            "{what}: the channel still has members while the close callback runs"
        );
        let told = || business.requests_to("/close/").iter().any(|r| r.identity() == identity);
        assert!(eventually(SOON, told), "{what}: no close callback");
    }
    business.reply("/close/", Reply::success());
    expect_healthy(&business, &server);
}

#[test]
fn hanging_forwards_of_one_client_do_not_stop_another() {
    let (business, server) = setup(|b| b);
    business.hook(|request| (request.text() == "hang").then(|| Reply::ok("").mode(Mode::Hang)));
    let stuck = Client::open_with(server.port(), Open::device("stuck"));
    for _ in 0..100 {
        stuck.send(&packet::send(0, 7, 0, "hang"));
    }
    business.wait_for("/message/", 1, SOON);
    let started = Instant::now();
    expect_healthy(&business, &server);
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "another client waited for {:?}",
        started.elapsed()
    );
}

/// Short distinct names: at most three characters up to 32 767, four above.
fn name(i: u32) -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuv";
    let mut text = String::new();
    let mut rest = i;
    loop {
        text.push(digits[rest as usize % 32] as char);
        rest /= 32;
        if rest == 0 {
            return text;
        }
    }
}

#[test]
fn client_in_65535_channels_leaves_all_of_them() {
    const CHANNELS: u32 = 65_535;
    const BY_HEADER: u32 = 8_000;
    const CALLERS: u32 = 4;
    const BATCH: usize = 100;
    let (business, server) = setup(|b| b.set("channels_max", 70_000).set("workers", 2));
    let header = (0..BY_HEADER).map(name).collect::<Vec<_>>().join(";;");
    business.reply("/connect/", Reply::channels(&header));
    let client = Client::open(server.port());
    assert_eq!(
        server.info()["channels_cnt"],
        BY_HEADER,
        "all names of the connect reply"
    );
    let identity = business.requests_to("/connect/")[0].identity();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (identity, port) = (&identity, server.port());
            scope.spawn(move || {
                let names: Vec<String> = (BY_HEADER..CHANNELS)
                    .filter(|i| i % CALLERS == caller)
                    .map(name)
                    .collect();
                let mut connection = Connection::open(port).expect("connect");
                for batch in names.chunks(BATCH) {
                    let request = |n: &String| {
                        let body = format!(r#"{{"identity": "{identity}", "channel": "{n}"}}"#);
                        Request::post("/sub/", body).signed(TOKEN).bytes(port, false)
                    };
                    let bytes: Vec<u8> = batch.iter().flat_map(request).collect();
                    connection.write(&bytes).expect("write");
                    for n in batch {
                        let answer = connection
                            .response("POST", Duration::from_secs(30))
                            .expect("answer to /sub/");
                        assert_eq!(answer.text().replace(' ', ""), r#"{"status":0}"#, "channel {n}");
                    }
                }
            });
        }
    });
    assert_eq!(server.info()["channels_cnt"], CHANNELS);
    for i in [0, BY_HEADER - 1, BY_HEADER, CHANNELS - 1] {
        assert_eq!(server.send(&name(i), 0, name(i))["status"], 0);
        assert_eq!(client.expect_send(SOON).1, name(i).as_bytes());
    }
    drop(client);
    business.wait_for("/close/", 1, SOON);
    server.expect_no_channels();
    assert_eq!(server.send(&name(CHANNELS - 1), 1, "x")["connections"], 0);
}

#[test]
fn channels_beyond_the_limit_of_a_client_are_refused() {
    let (business, server) = setup(|b| b.set("channels_max", 10));
    business.reply(
        "/connect/",
        Reply::channels(&(0..50).map(name).collect::<Vec<_>>().join(";;")),
    );
    let client = Client::open(server.port());
    let identity = business.requests_to("/connect/")[0].identity();
    for i in 100..150 {
        server.sub(&identity, &name(i));
    }
    let count = server.info()["channels_cnt"].as_u64().expect("count");
    assert!(count <= 10, "{count} channels of one client with channels_max = 10");
    drop(client);
    server.expect_no_channels();
    expect_healthy(&business, &server);
}
