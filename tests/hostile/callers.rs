//! Callers of the HTTP interface who have no secret cost next to nothing: what can be refused by the head of a request is, no
//! body is held for them, and their connections keep nobody out.

use super::common::business::Business;
use super::common::hmac::{raw, signed_at};
use super::common::http::{self, Connection, Request, Response};
use super::common::server::{Builder, Server, TOKEN};
use super::common::{SOON, eventually, ms};
use super::setup;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

/// The gateway believes what this neighbour says about addresses.
const PROXY: &str = "127.0.0.9";

/// A head that announces a body of this many bytes, which never comes.
fn head(method: &str, target: &str, length: u64) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

fn target(request: &Request) -> String {
    let bytes = request.bytes(1, false);
    let line = bytes.split(|byte| *byte == b'\r').next().expect("a line");
    let text = String::from_utf8(line.to_vec()).expect("ascii");
    text.split(' ').nth(1).expect("a target").to_owned()
}

fn send_signed(timestamp: i64, token: &str) -> String {
    let timestamp = timestamp.to_string();
    let signature = http::sign(token, &timestamp, "1234");
    let send = Request::post("/send/", "").query("channel", "room").query("qos", 0);
    target(
        &send
            .query("timestamp", timestamp)
            .query("nonce", "1234")
            .query("signature", signature),
    )
}

/// The answer to a head alone, after which the connection ends.
fn refused(server: &Server, head: &str) -> Response {
    let mut connection = Connection::open(server.port()).expect("connect");
    connection.write(head.as_bytes()).expect("write");
    let answer = connection.response("POST", SOON);
    let answer = answer.unwrap_or_else(|e| panic!("{head}: no answer before the body: {e}"));
    assert_eq!(answer.header("connection"), Some("close"), "{head}");
    assert!(connection.is_closed_within(SOON), "{head}");
    answer
}

#[test]
fn heads_are_refused_before_their_bodies() {
    let (_business, server) = setup(|b| b);
    let now = http::unix_seconds();
    const LARGE: u64 = 90 << 20;
    for (method, target, status) in [
        ("POST", "/nonexistent".to_owned(), 404),
        ("BREW", "/nonexistent".to_owned(), 404),
        ("POST", "/send/?channel=room".to_owned(), 400),
        ("POST", "/sub/".to_owned(), 400),
        ("POST", "/serverinfo/".to_owned(), 405),
        ("BREW", "/send/".to_owned(), 405),
        ("GET", "/hello/".to_owned(), 200),
        ("GET", "/metrics".to_owned(), 413),
        ("GET", "/serverinfo/".to_owned(), 413),
        ("GET", "/healthz".to_owned(), 413),
        ("PUT", send_signed(now, TOKEN), 405),
        ("POST", send_signed(now, TOKEN).replace("room", "%20"), 200),
        ("POST", send_signed(now, TOKEN).replace("/send/", "/sub/"), 413),
    ] {
        assert_eq!(
            refused(&server, &head(method, &target, LARGE)).status,
            status,
            "{method} {target}"
        );
    }
    let errors = [
        send_signed(now, "othertoken"),
        send_signed(now - 60, TOKEN),
        send_signed(now + 60, TOKEN),
        send_signed(now, TOKEN).replace("nonce=1234", "nonce=1235"),
    ];
    for target in errors {
        let answer = refused(&server, &head("POST", &target, LARGE));
        assert_eq!(answer.text(), r#"{"status": 1, "msg": "signature error"}"#, "{target}");
        let chunked = head("POST", &target, 0).replace(
            "Content-Length: 0",
            "Transfer-Encoding: chunked\r\nExpect: 100-continue",
        );
        let answer = refused(&server, &chunked);
        assert_eq!(answer.text(), r#"{"status": 1, "msg": "signature error"}"#, "{target}");
    }
    for signature in ["sha1, hmac-sha256", "hmac-sha256"] {
        let business = Business::start();
        let server = Builder::new(&business).set("signature_accept", signature).start();
        let now = http::unix_seconds();
        let stale = signed_at(TOKEN, "POST", "/send/?channel=room", b"", now - 60, "1");
        let answer = refused(&server, &head("POST", &stale, LARGE));
        assert_eq!(answer.text(), r#"{"status": 1, "msg": "signature error"}"#);
        let put = signed_at(TOKEN, "PUT", "/send/?channel=room", b"", now, "1");
        assert_eq!(refused(&server, &head("PUT", &put, LARGE)).status, 405);
    }
}

#[test]
fn small_bodies_of_refused_calls_cost_no_connection() {
    let (_business, server) = setup(|b| b);
    let mut connection = Connection::open(server.port()).expect("connect");
    let mut exchange = |request: &Request| connection.exchange(server.port(), request, SOON).expect("an answer");
    let body = "x".repeat(60_000);
    assert_eq!(exchange(&Request::post("/nonexistent", &body)).status, 404);
    assert_eq!(exchange(&Request::post("/send/", &body)).status, 400);
    assert_eq!(
        exchange(&Request::post("/send/", &body).signed("othertoken")).status,
        200
    );
    assert_eq!(exchange(&raw("GET", "/hello/", body.as_bytes())).text(), "ok");
    let chunked = "POST /nope/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    connection.write(chunked.as_bytes()).expect("write");
    assert_eq!(connection.response("POST", SOON).expect("an answer").status, 404);
    let endless = "POST /nope/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    connection.write(endless.as_bytes()).expect("write");
    assert_eq!(connection.response("POST", SOON).expect("an answer").status, 404);
    assert!(connection.is_closed_within(SOON));
}

/// 256 MiB sent to a path that is not there, and then silence, kept every signed call with a body out.
#[test]
fn bodies_nobody_asked_for_take_no_room() {
    let (_business, server) = setup(|b| b.set("api_bodies_max", "1m").set("api_body_max", "2m"));
    let targets = [
        "/nonexistent".to_owned(),
        send_signed(http::unix_seconds(), "othertoken"),
    ];
    let held: Vec<Connection> = targets
        .iter()
        .cycle()
        .take(8)
        .map(|target| {
            let mut connection = Connection::open(server.port()).expect("connect");
            let half = vec![b'x'; 900 << 10];
            let _ = connection.write(&[head("POST", target, 1 << 20).as_bytes(), &half].concat());
            connection
        })
        .collect();
    for _ in 0..5 {
        let call = Request::post("/send/", vec![b'x'; 900 << 10])
            .query("channel", "room")
            .query("qos", 0);
        let answer = http::call(server.port(), &call.signed(TOKEN), SOON).expect("an answer");
        assert_eq!(answer.text(), r#"{"status": 0}"#);
    }
    drop(held);
}

#[test]
fn a_body_that_trickles_is_cut_off() {
    let (_business, server) = setup(|b| {
        b.set("signature", "hmac-sha256")
            .set("api_body_rate", "100k")
            .set("api_idle_timeout", 1)
    });
    let target = signed_at(TOKEN, "POST", "/send/?channel=room", b"", http::unix_seconds(), "1");
    let mut slow = Connection::open(server.port()).expect("connect");
    slow.write(head("POST", &target, 1 << 20).as_bytes()).expect("write");
    slow.write(&vec![b'x'; 900 << 10]).expect("write");
    let cut = eventually(SOON, || {
        std::thread::sleep(ms(50));
        slow.write(b"x").is_err()
    });
    assert!(cut, "a byte now and then keeps a body for ever");
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    assert!(
        page.contains("rainbow_refused_total{reason=\"api_body_rate\"} 1"),
        "{page}"
    );
}

/// Bodies of callers who have no secret, each of them begun and never ended, from two addresses, as many as the server takes and
/// more all the time.
struct Trickle {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Trickle {
    fn start(port: u16) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let attacks = ["192.0.2.1", "192.0.2.2"].map(|address| {
            let ends = ends.clone();
            std::thread::spawn(move || {
                let mut held = VecDeque::new();
                for nonce in 0..100_000 {
                    if ends.load(SeqCst) {
                        return;
                    }
                    let (now, nonce) = (http::unix_seconds(), format!("{address}-{nonce}"));
                    let target = signed_at("guessed", "POST", "/send/?channel=room", b"", now, &nonce);
                    let mut connection = from(port, address);
                    let begun = [head("POST", &target, 50 << 10).as_bytes(), &[b'x'; 25 << 10]].concat();
                    // The server may have ended it by now.
                    let _ = connection.write(&begun);
                    // Not a flood: there are two of them, and as many processors.
                    std::thread::sleep(ms(2));
                    held.push_back(connection);
                    if held.len() > 16 {
                        held.pop_front();
                    }
                }
            })
        });
        Self {
            ends,
            threads: attacks.into(),
        }
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the attack failed");
        }
    }
}

/// They filled `api_bodies_max`, and callers with the secret were answered 503.
#[test]
fn bodies_nobody_has_proven_give_way() {
    let (_business, server) = proxied(|b| {
        b.set("signature_accept", "sha1, hmac-sha256")
            .set("api_bodies_max", "128k")
            .set("api_body_max", "112k")
    });
    let gave_way = "rainbow_refused_total{reason=\"api_body_gave_way\"}";
    let attack = Trickle::start(server.port());
    assert!(
        eventually(SOON, || metric(&server, gave_way) > 0),
        "nobody is in anybody's way"
    );
    let send = |size: usize| {
        Request::post("/send/", vec![b'x'; size])
            .query("channel", "room")
            .query("qos", 0)
    };
    let hmac = |size: usize, nonce: &str| {
        let body = vec![b'x'; size];
        raw(
            "POST",
            &signed_at(
                TOKEN,
                "POST",
                "/send/?channel=room&qos=0",
                &body,
                http::unix_seconds(),
                nonce,
            ),
            &body,
        )
    };
    // Its first call is small; from then on it is known.
    let mut kept = from(server.port(), "192.0.2.5");
    assert_eq!(status(&mut kept, &hmac(10, "kept")).expect("an answer"), 200);
    for call in 0..50 {
        let by_head = status(&mut from(server.port(), "192.0.2.3"), &send(100 << 10).signed(TOKEN));
        assert_eq!(by_head.expect("an answer"), 200, "{call}: signed by its head");
        let is_small = status(
            &mut from(server.port(), "192.0.2.4"),
            &hmac(12 << 10, &format!("small-{call}")),
        );
        assert_eq!(is_small.expect("an answer"), 200, "{call}: holds less than the others");
        let is_known = status(&mut kept, &hmac(100 << 10, &format!("kept-{call}")));
        assert_eq!(is_known.expect("an answer"), 200, "{call}: has signed before");
        let is_here = http::call(server.port(), &hmac(100 << 10, &format!("here-{call}")), SOON);
        assert_eq!(is_here.expect("an answer").status, 200, "{call}: on this machine");
    }
    drop(attack);
    assert!(metric(&server, gave_way) > 10);
    assert!(eventually(SOON, || server
        .log_tail()
        .contains("callers who have proved nothing gave way")));
    assert_eq!(server.log_tail().matches("gave way").count(), 1, "said once a minute");
}

/// A connection of a stranger, as a proxy in front tells it.
fn from(port: u16, address: &str) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let own: SocketAddr = format!("{PROXY}:0").parse().expect("address");
    socket.bind(&own.into()).expect("bind");
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&server.into()).expect("connect");
    let mut stream = TcpStream::from(socket);
    write!(stream, "PROXY TCP4 {address} 127.0.0.1 4711 80\r\n").expect("write");
    Connection::on(stream)
}

fn proxied(configure: impl FnOnce(Builder) -> Builder) -> (Business, Server) {
    setup(|b| configure(b.set("proxy_protocol", "yes").set("trusted_proxies", PROXY)))
}

fn status(connection: &mut Connection, request: &Request) -> std::io::Result<u16> {
    connection.exchange(1, request, SOON).map(|answer| answer.status)
}

fn metric(server: &Server, name: &str) -> u64 {
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    let line = page
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn idle_connections_of_strangers_keep_nobody_out() {
    let (_business, server) = proxied(|b| b.set("api_connections", 64).set("api_connections_per_address", 0));
    let hello = Request::get("/hello/");
    let mut idle: Vec<Connection> = (0..100)
        .map(|at| {
            let mut connection = from(server.port(), "192.0.2.1");
            assert_eq!(status(&mut connection, &hello).expect("an answer"), 200, "{at}");
            connection
        })
        .collect();
    assert!(metric(&server, "rainbow_api_gave_way_total") >= 36);
    assert_eq!(
        status(&mut from(server.port(), "192.0.2.2"), &Request::get("/healthz")).expect("an answer"),
        200
    );
    let send = Request::post("/send/", "x")
        .query("channel", "room")
        .query("qos", 0)
        .signed(TOKEN);
    let mut caller = from(server.port(), "192.0.2.3");
    assert_eq!(status(&mut caller, &send).expect("an answer"), 200);
    for _ in 0..100 {
        let mut connection = from(server.port(), "192.0.2.1");
        assert_eq!(status(&mut connection, &hello).expect("an answer"), 200);
        idle.push(connection);
    }
    assert_eq!(status(&mut caller, &send).expect("it signed, so it stays"), 200);
    assert!(idle[0].is_closed_within(SOON), "the oldest went first");
}

#[test]
fn one_address_cannot_take_all_connections() {
    let (_business, server) = proxied(|b| {
        b.set("signature_accept", "sha1, hmac-sha256")
            .set("api_connections", 16)
            .set("api_connections_per_address", 4)
    });
    let sending = |address: &str, nonce: u32| {
        let target = signed_at(
            "guessed",
            "POST",
            "/send/?channel=room",
            b"",
            http::unix_seconds(),
            &nonce.to_string(),
        );
        let mut connection = from(server.port(), address);
        connection
            .write(head("POST", &target, 1 << 20).as_bytes())
            .expect("write");
        connection
    };
    let mut held: Vec<Connection> = (0..4).map(|nonce| sending("192.0.2.1", nonce)).collect();
    let hello = Request::get("/hello/");
    let full = eventually(SOON, || {
        status(&mut from(server.port(), "192.0.2.1"), &hello).is_ok_and(|status| status == 503)
    });
    assert!(full && metric(&server, "rainbow_refused_total{reason=\"api_address\"}") >= 1);
    assert_eq!(
        status(&mut from(server.port(), "192.0.2.2"), &hello).expect("an answer"),
        200
    );
    // Many addresses: they fill what strangers may have, and whoever can sign, or is on this machine, still comes in.
    held.extend((0..40).map(|nonce| sending(&format!("198.51.100.{nonce}"), nonce)));
    assert!(eventually(SOON, || metric(&server, "rainbow_api_gave_way_total") >= 20));
    for _ in 0..5 {
        let call = Request::post("/send/", "x")
            .query("channel", "room")
            .query("qos", 0)
            .signed(TOKEN);
        assert_eq!(
            status(&mut from(server.port(), "192.0.2.3"), &call).expect("an answer"),
            200
        );
        let local = http::call(server.port(), &Request::get("/healthz"), SOON).expect("an answer");
        assert_eq!(local.status, 200);
    }
}

/// The operator's own page was open to strangers whose proxy runs on this machine.
#[test]
fn strangers_behind_a_local_proxy_are_not_local() {
    let (_business, server) = proxied(|b| b.set("api_open", "no"));
    for path in ["/metrics", "/serverinfo/", "/updateconfig/"] {
        let request = Request::get(path);
        assert_eq!(
            status(&mut from(server.port(), "192.0.2.1"), &request).expect("an answer"),
            403,
            "{path}"
        );
        assert_eq!(
            http::call(server.port(), &request, SOON).expect("an answer").status,
            200,
            "{path}"
        );
    }
}

#[test]
fn operators_are_told_why_calls_are_refused() {
    let (_business, server) = setup(|b| b);
    let now = http::unix_seconds();
    let post = |target: &str| raw("POST", target, b"x");
    let sealed = signed_at(TOKEN, "POST", "/send/?channel=room", b"x", now, "1");
    for _ in 0..3 {
        for target in [
            send_signed(now, "othertoken"),
            send_signed(now - 3600, TOKEN),
            sealed.clone(),
            "/send/?channel=room".to_owned(),
        ] {
            http::call(server.port(), &post(&target), SOON).expect("an answer");
        }
    }
    for (reason, count) in [("wrong", 3), ("clock", 3), ("scheme", 3), ("missing", 3)] {
        let name = format!("rainbow_signatures_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&server, &name), count, "{reason}");
    }
    let causes = [
        "another security_token",
        "behind this machine's clock",
        "by a scheme that is accepted",
        "is missing or unreadable",
    ];
    causes.iter().for_each(|words| server.expect_said(words));
    let log = server.log_tail();
    for words in causes {
        assert_eq!(log.matches(words).count(), 1, "{words:?} in {log}");
    }
    assert!(
        !log.contains(TOKEN) && !log.contains(&sealed[sealed.len() - 64..]),
        "{log}"
    );
}

/// `/serverinfo/?cluster=1` was JSON called html, with the names of channels in it as somebody chose them.
#[test]
fn names_of_channels_are_no_markup() {
    let (business, server) = setup(|b| b);
    let name = "<script>alert(1)</script>&amp;\"'";
    business.reply("/connect/", super::Reply::channels(name));
    let _client = super::Client::open(server.port());
    for path in ["/serverinfo/", "/serverinfo/?cluster=1"] {
        let answer = http::call(server.port(), &raw("GET", path, b""), SOON).expect("an answer");
        assert!(
            !answer.text().contains("<script") && answer.text().contains("alert(1)"),
            "{}",
            answer.text()
        );
        let json = path.contains('?');
        let content_type = if json {
            "application/json"
        } else {
            "text/html; charset=UTF-8"
        };
        assert_eq!(answer.header("content-type"), Some(content_type));
        if json {
            assert_eq!(answer.json().expect("json")["channels"], serde_json::json!([[name, 1]]));
        }
    }
}

/// Health checks ask with HEAD or OPTIONS; and a 405 says what there is (RFC 9110 §9.3.2, §15.5.6).
#[test]
fn head_is_wherever_get_is() {
    let (_business, server) = setup(|b| b);
    let call = |request: &Request| http::call(server.port(), request, SOON).expect("an answer");
    let send = signed_target("GET", "/send/");
    for path in [
        "/hello/",
        "/healthz",
        "/metrics",
        "/serverinfo/",
        "/serverinfo/?cluster=1",
        &send,
    ] {
        let (get, head) = (call(&raw("GET", path, b"")), call(&raw("HEAD", path, b"")));
        assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
        assert!(
            head.header("content-length").is_some_and(|length| length != "0"),
            "{path}"
        );
    }
    for path in ["/healthz", "/hello/", "/metrics", "/serverinfo/"] {
        let options = call(&raw("OPTIONS", path, b""));
        assert!(matches!(options.status, 200 | 204), "{path}: {}", options.status);
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/healthz".to_owned(), "GET, HEAD, OPTIONS"),
        ("HEAD", "/updateconfig/".to_owned(), "GET"),
        ("POST", "/connect/".to_owned(), "GET"),
        ("HEAD", "/connect/".to_owned(), "GET"),
        ("DELETE", signed_target("DELETE", "/send/"), "GET, HEAD, POST"),
        ("GET", signed_target("GET", "/sub/"), "POST"),
        ("TRACE", "/hello/".to_owned(), "GET, HEAD, OPTIONS"),
    ] {
        let answer = call(&raw(method, &path, b""));
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
        assert_eq!(answer.body.is_empty(), method == "HEAD");
    }
    let mut kept = Connection::open(server.port()).expect("connect");
    for method in ["HEAD", "OPTIONS", "HEAD"] {
        let answer = kept.exchange(server.port(), &raw(method, "/healthz", b""), SOON);
        assert_eq!(answer.expect("in step").status, 200);
    }
}

fn signed_target(method: &str, path: &str) -> String {
    let mut request = Request::get(path).query("channel", "room").signed(TOKEN);
    request.method = method.into();
    target(&request)
}
