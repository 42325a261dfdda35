//! Callers of the API: what is covered, what is accepted, and for how long.

use super::*;

#[test]
fn callers_sign_the_whole_request() {
    let business = Business::start();
    let server = strict(&business).start();
    let body = b"hello";
    let (now, wrong) = (http::unix_seconds(), failed("signature error"));
    let good = |nonce: &str| signed_at(TOKEN, "POST", SEND, body, now, nonce);
    assert_eq!(answer(&server, &raw("POST", &good("a"), body)), fine());
    let tampered = [
        raw("POST", &good("b"), b"hullo"),
        raw("POST", &good("b"), b""),
        raw("GET", &good("b"), body),
        raw("POST", &good("b").replace("/send/", "/sub/"), body),
        raw("POST", &good("b").replace("room", "rooms"), body),
        raw("POST", &good("b").replace("room", "ro%6Fm"), body),
        raw("POST", &good("b").replace("qos=0", "qos=1"), body),
        raw(
            "POST",
            &good("b").replace(&now.to_string(), &(now + 1).to_string()),
            body,
        ),
        raw("POST", &good("b").replace("nonce=b", "nonce=c"), body),
        raw("POST", &good("b").replace("nonce=b&", "nonce=b&cluster=1&"), body),
        raw("POST", &(good("b") + "&cluster=1"), body),
        raw("POST", &good("b").to_uppercase().replace("/SEND/", "/send/"), body),
        raw("POST", &signed_at("other", "POST", SEND, body, now, "b"), body),
    ];
    for request in &tampered[..11] {
        assert_eq!(answer(&server, request), wrong, "{} {}", request.method, request.path);
    }
    assert_eq!(answer(&server, &tampered[11]).0, 400, "no such parameters");
    assert_eq!(answer(&server, &tampered[12]), wrong);
    assert_eq!(answer(&server, &raw("POST", SEND, body)).0, 400);
    assert_eq!(
        answer(&server, &raw("PUT", &good("b"), body)).0,
        405,
        "whoever signs it"
    );
    assert_eq!(
        answer(&server, &raw("POST", &good("b"), body)),
        fine(),
        "none of them used it up"
    );
    for path in ["/sub/", "/unsub/"] {
        let body = br#"{"identity": "x", "channel": "room"}"#;
        let expected = if path == "/sub/" {
            failed("no such connection")
        } else {
            fine()
        };
        assert_eq!(answer(&server, &signed(TOKEN, "POST", path, body)), expected);
        assert_eq!(answer(&server, &raw("POST", path, body)).0, 400);
    }
}

#[test]
fn a_chunked_body_is_signed_without_its_chunks() {
    let business = Business::start();
    let server = strict(&business).start();
    let target = signed_at(TOKEN, "POST", SEND, b"hello", http::unix_seconds(), "1");
    let mut connection = http::Connection::open(server.port()).expect("connect");
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let request = head + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    connection.write(request.as_bytes()).expect("write");
    assert_eq!(
        connection.response("POST", SOON).expect("an answer").json(),
        Some(fine().1)
    );
}

#[test]
fn nothing_is_accepted_twice() {
    let business = Business::start();
    let server = strict(&business).set("replay_max", 1000).start();
    let request = signed(TOKEN, "POST", SEND, b"x");
    assert_eq!(answer(&server, &request), fine());
    for _ in 0..3 {
        assert_eq!(answer(&server, &request), failed("signature used before"));
    }
    let mut connection = http::Connection::open(server.port()).expect("connect");
    let mut ask = |nonce: usize| {
        let target = signed_at(TOKEN, "GET", "/send/", b"", http::unix_seconds(), &format!("n{nonce}"));
        let answer = connection.exchange(server.port(), &raw("GET", &target, b""), SOON);
        answer.expect("an answer").text()
    };
    for nonce in 1..1000 {
        assert_eq!(ask(nonce), "ok", "{nonce}");
    }
    assert_eq!(ask(1000), r#"{"status": 1, "msg": "too many signatures"}"#);
    assert_eq!(answer(&server, &request), failed("signature used before"));
    let metrics = http::call(server.port(), &Request::get("/metrics"), SOON).expect("metrics");
    for line in [
        r#"rainbow_signatures_refused_total{reason="wrong"} 0"#,
        r#"rainbow_signatures_refused_total{reason="replayed"} 4"#,
        r#"rainbow_signatures_refused_total{reason="no_room"} 1"#,
        "rainbow_signatures_remembered 1000",
    ] {
        assert!(
            metrics.text().lines().any(|l| l == line),
            "{line} in {}",
            metrics.text()
        );
    }
}

#[test]
fn sha1_calls_may_be_repeated_unless_protected() {
    let business = Business::start();
    let request = Request::post("/send/", "x").query("channel", "room").query("qos", 0);
    let server = Builder::new(&business).start();
    let original = request.clone().signed(TOKEN);
    assert_eq!(answer(&server, &original), fine());
    assert_eq!(answer(&server, &original), fine(), "as the original does");
    let server = Builder::new(&business).set("replay_protection", "yes").start();
    let once = request.clone().signed(TOKEN);
    assert_eq!(answer(&server, &once), fine());
    assert_eq!(answer(&server, &once), failed("signature used before"));
    assert_eq!(answer(&server, &request.signed(TOKEN)), fine());
}

#[test]
fn only_accepted_schemes_count() {
    let business = Business::start();
    let sha1 = || {
        Request::post("/send/", "x")
            .query("channel", "room")
            .query("qos", 0)
            .signed(TOKEN)
    };
    let hmac = || signed(TOKEN, "POST", SEND, b"x");
    let wrong = failed("signature error");
    let server = strict(&business).start();
    assert_eq!(
        (answer(&server, &sha1()), answer(&server, &hmac())),
        (wrong.clone(), fine())
    );
    let server = Builder::new(&business).start();
    assert_eq!((answer(&server, &sha1()), answer(&server, &hmac())), (fine(), wrong));
    let server = strict(&business).set("signature_accept", "sha1, hmac-sha256").start();
    assert_eq!((answer(&server, &sha1()), answer(&server, &hmac())), (fine(), fine()));
}

#[test]
fn the_window_is_a_setting() {
    let business = Business::start();
    let (narrow, wide) = (
        strict(&business).set("signature_window", 3).start(),
        strict(&business).set("signature_window", 60).start(),
    );
    let at = |server: &Server, offset: i64| {
        let target = signed_at(TOKEN, "POST", SEND, b"", http::unix_seconds() + offset, &http::nonce());
        answer(server, &raw("POST", &target, b""))
    };
    for offset in [-1, 0, 1] {
        assert_eq!(at(&narrow, offset), fine(), "{offset}");
    }
    for offset in [-4, 6, -1_000_000] {
        assert_eq!(at(&narrow, offset), failed("signature error"), "{offset}");
    }
    assert_eq!((at(&wide, -50), at(&wide, 50)), (fine(), fine()));
    assert_eq!(at(&wide, -61), failed("signature error"));
    let sha1 = |server, offset: i64| {
        let (timestamp, nonce) = ((http::unix_seconds() + offset).to_string(), http::nonce());
        let signature = http::sign(TOKEN, &timestamp, &nonce);
        let request = Request::post(SEND, "")
            .query("timestamp", &timestamp)
            .query("nonce", &nonce);
        answer(
            server,
            &Request {
                path: "/send/".into(),
                ..request
                    .query("channel", "room")
                    .query("qos", 0)
                    .query("signature", signature)
            },
        )
    };
    let server = Builder::new(&business).set("signature_window", 60).start();
    assert_eq!(
        (sha1(&server, -50), sha1(&server, -61)),
        (fine(), failed("signature error"))
    );
}
