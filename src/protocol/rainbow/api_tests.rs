//! Tests of [`super`], by behaviour.

use super::*;
use crate::protocol::rainbow::sign::{Body, Rules, Scheme, Secrets, Signer};
use proptest::prelude::*;

const TOKEN: &[u8] = b"testtoken";
const NOW: u64 = 1_420_000_000_500_000;

fn signed(query: &str) -> String {
    let mut out = format!("?{query}").into_bytes();
    Signer {
        scheme: Scheme::Sha1,
        secret: TOKEN,
        unix_seconds: NOW / 1_000_000,
        random: 234,
        is_relay: false,
    }
    .sign("POST", &mut out, &Body::default());
    String::from_utf8(out.split_off(1)).unwrap()
}

fn call(method: &str, path: &str, query: &str, body: &str) -> Result<Ask, HttpAnswer> {
    let method = &Method::from_bytes(method.as_bytes()).unwrap();
    let request = Request {
        method,
        path: path.as_bytes(),
        query: query.as_bytes(),
        body: body.as_bytes(),
    };
    let rules = Rules {
        secrets: Secrets::one(TOKEN),
        accept: &[Scheme::Sha1],
        window: Duration::from_secs(10),
    };
    parse(&request, |signed| rules.check(signed, NOW).map(drop))
}

fn send(query: &str) -> Result<Ask, HttpAnswer> {
    call("POST", "/send/", &signed(query), "x")
}

fn sub(body: &str) -> Result<Ask, HttpAnswer> {
    call("POST", "/sub/", &signed(""), body)
}

fn page(status: u16) -> Result<Ask, HttpAnswer> {
    Err(HttpAnswer::page(StatusCode::from_u16(status).unwrap()))
}

/// 405 with these methods.
fn only(allow: &'static str) -> Result<Ask, HttpAnswer> {
    Err(HttpAnswer::not_allowed(allow))
}

fn failed(msg: &str) -> Result<Ask, HttpAnswer> {
    Err(HttpAnswer::failed(msg))
}

fn sending(qos: Qos, msgtype: i64, timeout_s: u32) -> Result<Ask, HttpAnswer> {
    let to = Name::channel(b"x");
    Ok(Ask::Send(SendAsk {
        to,
        msgtype,
        qos,
        timeout_s,
        local_only: false,
    }))
}

#[test]
fn the_recorded_methods_and_paths() {
    let ok = || Err(HttpAnswer::ok("ok"));
    const READ: &str = "GET, HEAD, OPTIONS";
    let good = signed("");
    let cases = [
        ("GET", "/send/", &good[..], ok()),
        ("GET", "/hello/", "", ok()),
        ("HEAD", "/send/", &good, ok()),
        ("HEAD", "/hello/", "", ok()),
        ("GET", "/sub/", &good, only("POST")),
        ("GET", "/sub/", "", page(400)),
        ("HEAD", "/unsub/", &good, only("POST")),
        ("GET", "/unsub/", &good, only("POST")),
        ("POST", "/hello/", "", only(READ)),
        ("POST", "/serverinfo/", "", only(READ)),
        ("POST", "/updateconfig/", "", only("GET")),
        ("HEAD", "/updateconfig/", "", only("GET")),
        ("OPTIONS", "/updateconfig/", "", only("GET")),
        ("PUT", "/send/", &good, only("GET, HEAD, POST")),
        ("OPTIONS", "/send/", &good, only("GET, HEAD, POST")),
        ("PUT", "/send/", "", page(400)),
        ("GET", "/send", &good, page(404)),
        ("GET", "/Send/", &good, page(404)),
        ("GET", "/", "", page(404)),
        ("GET", "/nope/", &good, page(404)),
        ("POST", "/nope/", "", page(404)),
        ("BREW", "/nope/", "", page(404)),
        ("BREW", "/send/", "", only("GET, HEAD, POST")),
        ("OPTIONS", "/hello/", "", Err(HttpAnswer::options(READ))),
        ("HEAD", "/serverinfo/", "", Ok(Ask::ServerInfo { local_only: false })),
        ("GET", "/serverinfo/", "", Ok(Ask::ServerInfo { local_only: false })),
        (
            "GET",
            "/serverinfo/",
            "cluster=",
            Ok(Ask::ServerInfo { local_only: false }),
        ),
        (
            "GET",
            "/serverinfo/",
            "cluster=0",
            Ok(Ask::ServerInfo { local_only: true }),
        ),
        (
            "GET",
            "/serverinfo/",
            "cluster=%ff",
            Ok(Ask::ServerInfo { local_only: true }),
        ),
        (
            "GET",
            "/updateconfig/",
            "cluster=+",
            Ok(Ask::UpdateConfig { local_only: false }),
        ),
    ];
    for (method, path, query, expected) in cases {
        assert_eq!(call(method, path, query, ""), expected, "{method} {path}?{query}");
    }
}

#[test]
fn the_signature_comes_first() {
    let good = signed("channel=x");
    for (path, method) in [
        ("/send/", "GET"),
        ("/send/", "POST"),
        ("/sub/", "PUT"),
        ("/unsub/", "POST"),
    ] {
        let answer = |query: &str| call(method, path, query, "{}");
        assert_eq!(answer(""), page(400));
        assert_eq!(
            answer(&good.replace("signature=", "signature=0")),
            failed("signature error")
        );
        assert_eq!(answer(&good.replace("timestamp=", "timestamp=x")), page(500));
        assert_eq!(answer(&format!("{good}&nonce=")), failed("signature error"));
    }
    assert_eq!(
        call("POST", "/send/", "channel=x", &good),
        page(400),
        "a form body does not count"
    );
}

#[test]
fn parameters_of_send() {
    use Qos::*;
    let server_error = || Err(HttpAnswer::server_error());
    let cases = [
        ("", failed("channel miss")),
        ("channel=", failed("channel miss")),
        ("channel=%20", failed("channel miss")),
        ("channel=x&channel=", failed("channel miss")),
        ("channel=&qos=a", failed("channel miss")),
        ("channel=x&qos=3", failed("qos level error")),
        ("channel=x&qos=-1", failed("qos level error")),
        ("channel=x&qos=a", server_error()),
        ("channel=x&qos=", server_error()),
        ("channel=x&qos=1.0", server_error()),
        ("channel=x&msgtype=a", server_error()),
        ("channel=x&msgtype=", server_error()),
        ("channel=x&msgtype=a&qos=7", server_error()),
        ("channel=x&qos=7&timeout=a", failed("qos level error")),
        ("channel=x&timeout=a", server_error()),
        ("channel=x&timeout=", server_error()),
        ("channel=x&timeout=1.5", server_error()),
        ("channel=%ff", page(400)),
        ("channel=x&qos=%ff", page(400)),
        ("channel=x", sending(ExactlyOnce, 1, 10)),
        ("channel=+x+", sending(ExactlyOnce, 1, 10)),
        ("channel=y&channel=x&other=1", sending(ExactlyOnce, 1, 10)),
        ("channel=x&qos=+1+", sending(AtLeastOnce, 1, 10)),
        ("channel=x&qos=%2B0", sending(AtMostOnce, 1, 10)),
        ("channel=x&timeout=0", sending(ExactlyOnce, 1, 10)),
        ("channel=x&timeout=-5", sending(ExactlyOnce, 1, 10)),
        ("channel=x&timeout=1", sending(ExactlyOnce, 1, 1)),
        (
            "channel=x&timeout=99999999999999999999",
            sending(ExactlyOnce, 1, TIMEOUT_MAX_S),
        ),
        ("channel=x&timeout=4294967297", sending(ExactlyOnce, 1, TIMEOUT_MAX_S)),
        ("channel=x&msgtype=65535&qos=1", sending(AtLeastOnce, 65_535, 10)),
        ("channel=x&msgtype=65536", sending(ExactlyOnce, 65_536, 10)),
        ("channel=x&msgtype=-1", sending(ExactlyOnce, -1, 10)),
        ("channel=x&msgtype=65536&timeout=a", server_error()),
    ];
    for (query, expected) in cases {
        assert_eq!(send(query), expected, "{query}");
    }
}

/// What the head of a request shows when its signature covers the body.
fn begun(method: &str, path: &str, standing: Result<Standing, Refusal>) -> Result<Begun, HttpAnswer> {
    let request = Request {
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        path: path.as_bytes(),
        query: b"channel=x",
        body: b"",
    };
    begin(&request, || standing)
}

#[test]
fn a_head_is_refused_as_soon_as_it_can_be() {
    let unproven = || Ok(Standing::Unproven);
    for (method, path) in [("PUT", "/send/"), ("GET", "/sub/"), ("DELETE", "/unsub/")] {
        assert_eq!(
            begun(method, path, unproven()).unwrap_err().status,
            405,
            "{method} {path}"
        );
    }
    for refusal in [Refusal::Wrong, Refusal::Stale(99), Refusal::Scheme] {
        let answer = begun("POST", "/send/", Err(refusal)).unwrap_err();
        assert_eq!(answer, HttpAnswer::failed("signature error"));
    }
    let most = |begun: Begun| (begun.takes_body(), begun.is_unproven(), begun.body_max(100 << 20));
    let sizes = |method, path, standing| begun(method, path, Ok(standing)).map(most).unwrap();
    assert_eq!(sizes("POST", "/send/", Standing::Proven), (true, false, 100 << 20));
    assert_eq!(sizes("POST", "/send/", Standing::Unproven), (true, true, 100 << 20));
    assert_eq!(
        sizes("POST", "/sub/", Standing::Proven),
        (true, false, 1 << 20),
        "no JSON is longer"
    );
    assert_eq!(sizes("POST", "/unsub/", Standing::Unproven), (true, true, 1 << 20));
    assert_eq!(sizes("GET", "/serverinfo/", Standing::Proven), (false, false, 0));
}

#[test]
fn types_that_fit_a_packet() {
    for (msgtype, wire_type) in [
        (0, Some(0)),
        (65_535, Some(65_535)),
        (65_536, None),
        (-1, None),
        (i64::MAX, None),
    ] {
        let Ok(Ask::Send(ask)) = sending(Qos::AtMostOnce, msgtype, 1) else {
            panic!("not a send")
        };
        assert_eq!(ask.wire_type(), wire_type);
    }
}

#[test]
fn a_channel_is_utf8_and_cluster_keeps_it_here() {
    let Ok(Ask::Send(ask)) = send("channel=%E4%BD%A0%20b&cluster=1") else {
        panic!("refused")
    };
    assert_eq!((ask.to.text(), ask.local_only), ("你 b".as_bytes(), true));
}

#[test]
fn bodies_of_sub() {
    for body in [
        "",
        "{",
        "[]",
        "5",
        "null",
        "\"s\"",
        "identity=1&channel=2",
        "{\"identity\": \"\u{0}",
    ] {
        assert_eq!(sub(body), Err(HttpAnswer::server_error()), "{body}");
    }
    for body in [
        "{}",
        r#"{"identity": "x"}"#,
        r#"{"channel": "k"}"#,
        r#"{"identity": "", "channel": "k"}"#,
        r#"{"identity": "x", "channel": ""}"#,
        r#"{"identity": "x", "channel": null}"#,
        r#"{"identity": "x", "channel": 5}"#,
        r#"{"identity": "x", "channel": ["k"]}"#,
        r#"{"identity": ["x"], "channel": "k"}"#,
    ] {
        assert_eq!(sub(body), failed("params error"), "{body}");
    }
}

#[test]
fn what_sub_and_unsub_ask() {
    let asked = |occupy, local_only| SubAsk {
        identity: "x".to_owned(),
        channel: Name::channel(" k\u{e9} ".as_bytes()),
        occupy,
        local_only,
    };
    let body = |occupy: &str| format!(r#"{{"identity": "x", "channel": " k\u00e9 "{occupy}}}"#);
    assert_eq!(sub(&body("")), Ok(Ask::Sub(asked(false, false))));
    for (value, occupy) in [
        ("true", true),
        ("false", false),
        ("\"0\"", true),
        ("0", false),
        ("[]", false),
        ("1", true),
    ] {
        assert_eq!(
            sub(&body(&format!(", \"occupy\": {value}"))),
            Ok(Ask::Sub(asked(occupy, false))),
            "{value}"
        );
    }
    let unsub = call("POST", "/unsub/", &signed("cluster=1"), &body(""));
    assert_eq!(unsub, Ok(Ask::Unsub(asked(false, true))));
}

#[test]
fn the_table_of_section_8() {
    use AtDeadline::*;
    let cases = [
        (1, 0, TimedOut),
        (2, 0, TimedOut),
        (3, 0, Failed),
        (4, 1, TimedOut),
        (5, 1, TimedOut),
        (6, 1, Failed),
        (7, 2, TimedOut),
        (8, 2, TimedOut),
        (9, 2, Failed),
        (10, 3, TimedOut),
        (12, 3, Failed),
    ];
    for (timeout_s, retries, at_deadline) in cases {
        let deadline = Duration::from_secs(u64::from(timeout_s));
        assert_eq!(
            schedule(timeout_s),
            Schedule {
                retries,
                deadline,
                at_deadline
            },
            "{timeout_s}"
        );
    }
    assert_eq!(schedule(0), schedule(1));
    assert_eq!(schedule(u32::MAX), schedule(TIMEOUT_MAX_S));
}

proptest! {
    #[test]
    fn members_never_fail_before_the_deadline(timeout_s in any::<u32>()) {
        let schedule = schedule(timeout_s);
        let exhausted = exhausted_after(schedule.retries);
        prop_assert!(exhausted >= schedule.deadline);
        prop_assert!(exhausted < schedule.deadline + Duration::from_secs(3));
        prop_assert_eq!(schedule.at_deadline == AtDeadline::Failed, exhausted == schedule.deadline);
    }

    #[test]
    fn no_query_and_no_body_panic(query in any::<String>(), body in any::<String>()) {
        let _ = send(&query);
        let _ = sub(&body);
    }
}

#[test]
fn a_user_instead_of_a_channel_and_either_spelling_of_the_type() {
    let sent = |query: &str| match call("POST", "/send/", &signed(query), "") {
        Ok(Ask::Send(ask)) => Ok((ask.to, ask.msgtype)),
        Ok(other) => panic!("{other:?}"),
        Err(answer) => Err(answer),
    };
    let (user, channel) = (Name::user, Name::channel);
    assert_eq!(sent("message_type=7&uid=u"), Ok((user(b"u"), 7)));
    assert_eq!(sent("msgtype=8&uid=+u%01"), Ok((user(b"u"), 8)));
    assert_eq!(sent("message_type=7&channel=c"), Ok((channel(b"c"), 7)));
    assert_eq!(sent("message_type=7&msgtype=8&channel=c&uid=u"), Ok((channel(b"c"), 8)));
    assert_eq!(sent("channel=&uid=u"), Ok((user(b"u"), 1)));
    // Whatever bytes a caller sends, a channel stays a channel.
    assert_eq!(sent("channel=x%01u"), Ok((channel(b"x u"), 1)));
    assert_ne!(sent("channel=u"), sent("uid=u"));
    assert_eq!(sent("message_type=7&uid=+"), Err(HttpAnswer::failed("channel miss")));
    assert_eq!(sent("message_type=x&uid=u"), Err(HttpAnswer::server_error()));
    assert_eq!(sent("uid=%ff"), Err(HttpAnswer::page(StatusCode::BAD_REQUEST)));
}
