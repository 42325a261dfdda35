//! `send`, `sub` and `tail`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::common::business::{Business, Reply};
use super::common::client::Client;
use super::common::server::{Builder, Server};
use super::common::{SOON, packet, ports};
use super::{command, lobby, read, run, run_with_input, url};

/// A `tail` that runs, and what it prints.
struct Tail {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tail {
    fn start(server: &Server, args: &[&str]) -> Self {
        let url = url(server).replace("http", "ws");
        let args = [&["tail", "--json", "--url", &url], args].concat();
        let mut child = command(&args).spawn().expect("run");
        let lines = BufReader::new(child.stdout.take().expect("output")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn connected(server: &Server, args: &[&str]) -> Self {
        let mut tail = Self::start(server, args);
        assert_eq!(tail.next(), json!({"event": "connected"}));
        tail
    }

    fn end(self) -> (i32, String) {
        let (code, _, said) = read(self.child.wait_with_output().expect("wait"));
        (code, said)
    }
}

#[test]
fn what_is_sent_is_shown_and_acknowledged() {
    let (business, server) = lobby();
    let mut tail = Tail::connected(
        &server,
        &[
            "--device",
            "d1",
            "--os",
            "tv",
            "-H",
            "X-Session: s",
            "--ack",
            "got it",
            "-n",
            "3",
        ],
    );
    let asked = business.next(SOON).expect("connect");
    assert_eq!(asked.header("x-deviceid").as_deref(), Some("d1"));
    assert_eq!(asked.header("x-client-os").as_deref(), Some("tv"));
    assert_eq!(asked.header("x-session").as_deref(), Some("s"));

    let url = url(&server);
    let (code, out, said) = run(&["send", "--url", &url, "-t", "7", "lobby", "hello"]);
    assert_eq!((code, &*out), (0, "got it\n"), "{said}");
    assert!(said.contains("lobby: 1 acknowledged"), "{said}");
    assert_eq!(
        tail.next(),
        json!({"event": "message", "type": 7, "qos": 1, "text": "hello"})
    );

    let (code, out, _) = run_with_input(&["send", "--url", &url, "--json", "-Q2", "lobby"], "from the pipe\n");
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, answer),
        (0, json!({"status": 0, "connections": 1, "data": "got it"}))
    );
    assert_eq!(tail.next()["text"], "from the pipe\n");

    let (code, out, said) = run(&["send", "--url", &url, "--qos", "0", "-q", "lobby", "\u{4f60}"]);
    assert_eq!((code, &*out, &*said), (0, "", ""));
    assert_eq!(
        tail.next(),
        json!({"event": "message", "type": 1, "qos": 0, "text": "\u{4f60}"})
    );
    assert_eq!(tail.end().0, 0);
}

#[test]
fn each_line_is_a_message() {
    let (_business, server) = lobby();
    let mut tail = Tail::connected(&server, &["-n", "3"]);
    let (code, out, said) = run_with_input(&["send", "--url", &url(&server), "--lines", "lobby"], "a\r\nb\nc");
    assert_eq!((code, &*out), (0, ""), "{said}");
    assert!(
        said.contains("lobby: 3 sent, 3 acknowledgements, 0 not by all"),
        "{said}"
    );
    let texts = [tail.next(), tail.next(), tail.next()].map(|line| line["text"].clone());
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(tail.end().0, 0);
}

#[test]
fn a_client_is_subscribed_by_its_identity() {
    let (business, server) = lobby();
    let client = Client::open(server.port());
    let identity = business.next(SOON).expect("connect").identity();
    let at = url(&server);
    let sub = |more: &[&str]| run(&[&["sub", "--url", &at, &identity][..], more].concat());
    let (code, _, said) = sub(&["news", "sport"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("news: joined") && said.contains("sport: joined"),
        "{said}"
    );
    assert_eq!(sub(&["--remove", "sport"]).0, 0);
    let channels: Vec<_> = server.channels().into_iter().map(|(name, _)| name).collect();
    assert_eq!(channels, ["lobby", "news"]);
    let (code, out, said) = run(&["sub", "--json", "--url", &at, "0000", "news"]);
    assert_eq!(code, 4, "{said}");
    assert_eq!(out, "{\"status\": 1, \"msg\": \"no such connection\"}\n");
    assert!(said.contains("news: no such connection"), "{said}");
    drop(client);
}

#[test]
fn a_message_of_a_client_brings_the_answer_of_the_backend() {
    let (business, server) = lobby();
    business.reply("/message/", Reply::ok("the answer"));
    for qos in ["1", "2"] {
        let (code, out, said) = run(&[
            "send",
            "--as",
            "d2",
            "--url",
            &url(&server),
            "-t",
            "9",
            "--qos",
            qos,
            "question",
        ]);
        assert_eq!((code, &*out), (0, "the answer\n"), "{said}");
    }
    let forwarded = business
        .requests()
        .into_iter()
        .filter(|request| request.path == "/message/9/");
    assert_eq!(
        forwarded.map(|request| request.text()).collect::<Vec<_>>(),
        ["question"; 2]
    );
    business.reply("/message/", Reply::ok("no").status(500));
    let (code, _, said) = run(&[
        "send",
        "--as",
        "d2",
        "--url",
        &url(&server),
        "--timeout",
        "1",
        "question",
    ]);
    assert_eq!(code, 5, "{said}");
    business.reply("/connect/", Reply::ok(r#"{"status": "fail"}"#));
    let (code, _, said) = run(&["send", "--as", "d2", "--url", &url(&server), "question"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("401: the backend does not let this client in"), "{said}");
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let (_business, server) = lobby();
    let at = url(&server);
    let client = Client::open(server.port());
    let send = |more: &[&str]| run(&[&["send", "--url", &at][..], more].concat());
    let (code, _, said) = send(&["--timeout", "1", "lobby", "x"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("not all acknowledged in time, 0 did"), "{said}");
    drop(client.expect_send(SOON));
    let (code, _, said) = send(&["--expect", "1", "empty", "x"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("empty: 0 acknowledged, 1 expected"), "{said}");
    let wrong = command(&["send", "--url", &at, "lobby", "x"])
        .env("RAINBOW_TOKEN", "wrong")
        .output();
    let (code, _, said) = read(wrong.expect("run"));
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("lobby: signature error: the secret"), "{said}");
    let nothing = command(&["send", "--url", &at, "lobby", "x"])
        .env_remove("RAINBOW_TOKEN")
        .output();
    assert_eq!(read(nothing.expect("run")).0, 2);
    let nobody = ports::claim();
    let nowhere = format!("http://127.0.0.1:{}", nobody.number);
    assert_eq!(run(&["send", "--url", &nowhere, "lobby", "x"]).0, 3);
    assert_eq!(run(&["tail", "--once", "--url", &nowhere]).0, 3);
    for usage in [
        &["send"][..],
        &["send", "a", "b", "c"],
        &["sub", "x"],
        &["tail", "lobby"],
        &["doctor"],
        &["send", "--nope"],
    ] {
        let (code, out, said) = run(usage);
        assert_eq!((code, &*out), (2, ""), "{usage:?}: {said}");
        assert!(said.contains("usage: rainbow-server "), "{usage:?}: {said}");
    }
    let full = std::fs::File::create("/dev/full").expect("/dev/full");
    let code = command(&["send", "--help"]).stdout(full).status().expect("run").code();
    assert_eq!(code, Some(1));
}

#[test]
fn a_user_is_reached_and_told_where_online() {
    let business = Business::start();
    business.reply("/connect/", Reply::ok(r#"{"status": "success", "uid": "42"}"#));
    let server = Builder::new(&business).start();
    let client = Client::open(server.port());
    let (code, _, said) = run(&[
        "send",
        "--url",
        &url(&server),
        "--qos",
        "0",
        "-u",
        "42",
        "--expect",
        "1",
        "hi",
    ]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("42: sent, online on 1 platforms"), "{said}");
    assert_eq!(client.expect_send(SOON).1, b"hi");
}

/// Comes back after the time that a server names which stops, and after one that just ends.
#[test]
fn a_listener_comes_back() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("lobby"));
    let port = Arc::new(ports::claim());
    let server = Builder::new(&business).on(&port).set("reconnect_spread", 2).start();
    let mut tail = Tail::connected(&server, &["-n", "1"]);
    server.signal("TERM");
    let closed = tail.next();
    assert_eq!((&closed["event"], &closed["code"]), (&json!("closed"), &json!(1012)));
    let reason = closed["reason"].as_str().expect("reason").to_owned();
    assert!(reason.starts_with("reconnect_after="), "{reason}");
    drop(server);
    let server = Builder::new(&business).on(&port).start();
    assert_eq!(tail.next(), json!({"event": "connected"}));
    assert_eq!(run(&["send", "--url", &url(&server), "lobby", "again"]).0, 0);
    assert_eq!(tail.next()["text"], "again");
    assert_eq!(tail.end().0, 0);
}

#[test]
fn a_listener_ends_when_it_was_told_to() {
    let (_business, server) = lobby();
    let tail = Tail::connected(&server, &["--seconds", "0", "-n", "1"]);
    assert_eq!(tail.end().0, 5);
    let mut tail = Tail::connected(&server, &["--once"]);
    server.signal("TERM");
    assert_eq!(tail.next()["event"], "closed");
    assert_eq!(tail.end().0, 3);
}

/// Answers the handshake of a client.
fn upgrade(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("UTF-8");
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .expect("key");
    let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).expect("answer");
}

/// Sends a short packet as a server.
fn say(stream: &mut TcpStream, packet: &[u8]) {
    let frame = [&[0x82, packet.len() as u8], packet].concat();
    stream.write_all(&frame).expect("say");
}

/// The next packet of a client, which has to be masked.
fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).expect("head of a frame");
    assert_eq!((head[0], head[1] & 0x80), (0x82, 0x80));
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).expect("payload");
    payload
        .iter()
        .zip(head[2..].iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect()
}

/// A repetition is answered again and shown once; a REL brings COM.
#[test]
fn what_comes_twice_is_shown_once() {
    let script = TcpListener::bind("127.0.0.1:0").expect("port");
    let at = format!("ws://{}/connect/", script.local_addr().expect("address"));
    let tail = command(&["tail", "--once", "--url", &at]).spawn().expect("run");
    let (mut stream, _) = script.accept().expect("client");
    upgrade(&mut stream);
    let send = packet::send(2, 1, 5, "once");
    let again = [&[send[0] | 8], &send[1..]].concat();
    for (packet, answer) in [(&send, 3), (&again, 3), (&packet::rel(5), 5)] {
        say(&mut stream, packet);
        let reply = hear(&mut stream);
        assert_eq!((reply[0] >> 4, &reply[1..3]), (answer, &[0, 5][..]));
    }
    drop(stream);
    let (code, out, _) = read(tail.wait_with_output().expect("wait"));
    assert_eq!((code, &*out), (3, "once\n"));
}
