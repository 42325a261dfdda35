//! Tests of [`super`], by behaviour.

use super::*;
use proptest::prelude::*;

use crate::config::{Overrides, QueryHeaders};
use crate::protocol::rainbow::passing::capitalised;
use crate::wire::http1;

const IDENTITY: Identity = [b'a'; 64];
const CREDENTIALS: &str = "X-DEVICEID: dev-1\r\nX-CLIENT-OS: ios7\r\n";

fn head(target: &str, headers: &str) -> RequestHead {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: rainbow\r\n{headers}\r\n");
    parse(bytes.as_bytes())
}

/// With room for any head, and what is set.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::demo(1, &Overrides::default());
    config.connect_head_max = 1024 * 1024;
    change(&mut config);
    config
}

fn parse(bytes: &[u8]) -> RequestHead {
    http1::parse_request(bytes, 64 * 1024).unwrap().unwrap()
}

fn question(target: &str, headers: &str) -> (String, Vec<String>) {
    let head = head(target, &format!("{CREDENTIALS}{headers}"));
    let question = ask(&head, &IDENTITY, &config(|_| {})).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let block = text(&question.headers);
    (
        text(&question.query),
        block.split_terminator("\r\n").map(str::to_owned).collect(),
    )
}

fn lines(target: &str, headers: &str) -> Vec<String> {
    question(target, headers).1
}

fn names(target: &str, headers: &str) -> Vec<String> {
    lines(target, headers)
        .iter()
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn credentials_in_their_order() {
    let refused = |target: &str, headers: &str| ask(&head(target, headers), &IDENTITY, &config(|_| {})).err();
    assert_eq!(refused("/connect/", CREDENTIALS), None);
    assert_eq!(refused("/connect/", "x_deviceid: d\r\nx_client_os: i\r\n"), None);
    assert_eq!(refused("/connect/?X-DEVICEID=q1&X-CLIENT-OS=android", ""), None);
    assert_eq!(refused("/connect/?X-DEVICEID=%E4%BD%A0&X-CLIENT-OS=i", ""), None);
    assert_eq!(
        refused("/connect/?X-DEVICEID=&X-DEVICEID=d&X-CLIENT-OS=i", "X-DEVICEID:\r\n"),
        None
    );
    let no = Some(Refusal::Anonymous);
    assert_eq!(refused("/connect/", ""), no);
    assert_eq!(refused("/connect/", "X-DEVICEID: d\r\n"), no);
    assert_eq!(refused("/connect/", "X-CLIENT-OS: i\r\n"), no);
    assert_eq!(
        refused("/connect/?x-deviceid=q1&x-client-os=android", ""),
        no,
        "exact case in the query"
    );
    assert_eq!(refused("/connect/?X_DEVICEID=q1&X_CLIENT_OS=android", ""), no);
    assert_eq!(
        refused("/connect/?X-DEVICEID=d&X-DEVICEID=&X-CLIENT-OS=i", ""),
        no,
        "the last one counts"
    );
    assert_eq!(refused("/connect/?X-DEVICEID=+%20&X-CLIENT-OS=i", ""), no);
    assert_eq!(refused("/connect/?X-DEVICEID=%ff&X-CLIENT-OS=i", ""), no, "not UTF-8");
}

#[test]
fn other_methods_are_refused_first() {
    let post = parse(b"POST /connect/ HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(ask(&post, &IDENTITY, &config(|_| {})), Err(Refusal::Method));
}

#[test]
fn the_recorded_connect() {
    let (query, lines) = question(
        "/connect/?token=yin%20yue&x=1&x=2",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\
         Cookie: a=b\r\nUser-Agent: ua/1\r\nOrigin: http://other.example\r\nSec-WebSocket-Protocol: p1, p2\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nX-Foo: 1\r\nX-FOO: 2\r\n",
    );
    assert_eq!(query, "token=yin+yue&x=1");
    let expected = [
        "Token: yin yue",
        "X: 1",
        "X-Deviceid: dev-1",
        "X-Client-Os: ios7",
        "Cookie: a=b",
        "User-Agent: ua/1",
        "Sec-Websocket-Protocol: p1, p2",
        "Sec-Websocket-Extensions: permessage-deflate",
        "X-Foo: 1,2",
    ];
    assert_eq!(lines[..lines.len() - 1], expected);
    assert_eq!(
        lines.last().unwrap(),
        &format!("Rainbowclientidentity: {}", "a".repeat(64))
    );
}

#[test]
fn our_own_parameters_are_not_passed_twice() {
    let (query, _) = question("/connect/?timestamp=1&nonce=2&a=&signature=3&b", "");
    assert_eq!(query, "a=&b=");
}

#[test]
fn headers_stand_over_parameters_of_the_same_name() {
    let lines = lines("/connect/?x-foo=new&X_FOO=newer&x_bar=1&X-BAR=2", "X-Foo: old\r\n");
    let named = |name: &str| {
        lines
            .iter()
            .filter(|line| line.starts_with(name))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(named("X-Foo"), ["X-Foo: old"], "{lines:?}");
    assert_eq!(named("X_"), ["X_bar: 1"], "of two spellings the first");
    assert_eq!(named("X-Bar"), [""; 0]);
}

/// What edges and browsers say about a request cannot be said by its query, nor in the other spelling.
#[test]
fn a_client_does_not_speak_for_proxies_and_browsers() {
    let edge = "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nOrigin: https://good.example\r\n";
    for name in [
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x-real-ip",
        "X_REAL_IP",
        "X-Forwarded-Proto",
        "Cookie",
        "X-Remote-User",
        "Remote_User",
        "Origin",
        "Sec-Fetch-Site",
        "Referer",
        "X-Authenticated-User",
        "Authorization",
        "authorization",
    ] {
        for edge in ["", edge] {
            let passed = lines(&format!("/connect/?{name}=evil"), edge);
            assert!(!passed.iter().any(|line| line.ends_with("evil")), "{name}: {passed:?}");
        }
        if name.contains('_') {
            for (header, expected) in [("", 0), (edge, 0)] {
                let passed = lines("/connect/", &format!("{name}: evil\r\n{header}"));
                let evil = passed.iter().filter(|line| line.ends_with("evil")).count();
                assert_eq!(evil, expected, "{name}: {passed:?}");
            }
        }
    }
    let twice = lines("/connect/", "X_App: underscore\r\nX-App: hyphen\r\n");
    assert_eq!(
        twice.iter().filter(|line| line.starts_with("X")).count(),
        3,
        "{twice:?}"
    );
    assert!(twice.contains(&"X-App: hyphen".into()));
    let question = ask(
        &head("/connect/?X-User=a&token=b", CREDENTIALS),
        &IDENTITY,
        &config(|_| {}),
    )
    .unwrap();
    assert_eq!(
        (&question.query[..], question.withheld.as_deref()),
        (&b"X-User=a&token=b"[..], Some("X-User"))
    );
}

#[test]
fn what_is_listed_may_be_claimed() {
    let listed = ["Authorization", "X-User"].map(str::to_owned).to_vec();
    let config = config(|config| config.query_headers = QueryHeaders::from_words(listed).unwrap());
    let head = head("/connect/?authorization=Bearer+1&X-User=u&token=t", CREDENTIALS);
    let passed = ask(&head, &IDENTITY, &config).unwrap().headers;
    let passed = String::from_utf8_lossy(&passed);
    assert!(
        passed.starts_with("Authorization: Bearer 1\r\nX-User: u\r\nX-Deviceid"),
        "{passed}"
    );
    assert!(!passed.contains("Token"));
}

#[test]
fn lines_of_cookies_are_one_line_of_cookies() {
    let lines = lines("/connect/", "Cookie: a=1\r\nX-Foo: 1\r\ncookie: b=2\r\nX-Foo: 2\r\n");
    assert!(
        lines.contains(&"Cookie: a=1; b=2".to_owned()) && lines.contains(&"X-Foo: 1,2".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn heads_that_are_too_long_are_refused_before_anybody_is_asked() {
    let long = |bytes: usize| head("/connect/", &format!("{CREDENTIALS}X-Long: {}\r\n", "a".repeat(bytes)));
    let ask = |head: &RequestHead| ask(head, &IDENTITY, &config(|config| config.connect_head_max = 4096)).map(|_| ());
    assert_eq!(ask(&long(2500)), Ok(()));
    assert_eq!(ask(&long(4096)), Err(Refusal::TooLong));
    let query = |bytes: usize| head(&format!("/connect/?token={}", "a".repeat(bytes)), CREDENTIALS);
    assert_eq!(ask(&query(800)), Ok(()));
    assert_eq!(ask(&query(1200)), Err(Refusal::TooLong), "three times in the head");
    assert_eq!(ask(&query(30_000)), Err(Refusal::TooLong));
    assert_eq!(Refusal::TooLong.answer().status.as_u16(), 431);
}

#[test]
fn nothing_that_frames_or_pretends_gets_in() {
    for name in [
        "Host",
        "connection",
        "UPGRADE",
        "Content-Length",
        "content_length",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy",
        "Proxy-Authorization",
        "proxy_connection",
        "Expect",
        "Accept-Encoding",
        "Rainbowclientidentity",
        "RAINBOWCLIENTCOOKIE",
        "rainbow-client-cookie",
        "rainbow_x",
    ] {
        let spelled = String::from_utf8(capitalised(name.as_bytes())).unwrap();
        let query = names(&format!("/connect/?{name}=evil"), "");
        assert_eq!(
            query.iter().filter(|is| **is == spelled).count(),
            usize::from(name == "Rainbowclientidentity")
        );
        assert!(
            !lines(&format!("/connect/?{name}=evil"), "")
                .iter()
                .any(|line| line.ends_with("evil")),
            "{name}"
        );
        if !matches!(name, "Content-Length" | "Transfer-Encoding" | "Host") {
            let header = lines("/connect/", &format!("{name}: evil\r\n"));
            assert!(!header.iter().any(|line| line.ends_with("evil")), "{name}: {header:?}");
        }
    }
}

#[test]
fn parameters_that_are_no_headers_stay_in_the_query_only() {
    let (query, lines) = question(
        "/connect/?a%20b=1&c%3Ad=2&e=x%0d%0aEvil:1&f=%09&=g&%E4%BD%A0=h&i=%7f",
        "",
    );
    assert_eq!(query, "a+b=1&c%3Ad=2&e=x%0D%0AEvil%3A1&f=%09&=g&%E4%BD%A0=h&i=%7F");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn bytes_pass_unchanged() {
    let mut bytes =
        b"GET /connect/?n=%e9%ff HTTP/1.1\r\nHost: h\r\nX-DEVICEID: \xe9\r\nX-CLIENT-OS: \xe4\xbd\xa0\r\n".to_vec();
    bytes.extend_from_slice(b"\r\n");
    let headers = ask(&parse(&bytes), &IDENTITY, &config(|_| {})).unwrap().headers;
    assert!(
        headers.starts_with(b"N: \xe9\xff\r\nX-Deviceid: \xe9\r\nX-Client-Os: \xe4\xbd\xa0\r\n"),
        "{headers:?}"
    );
}

#[test]
fn a_long_query_of_many_parameters_is_walked_once() {
    let query: String = (0..8_000).map(|n| format!("p{n}=&")).collect();
    let (passed, lines) = question(&format!("/connect/?{query}"), "");
    assert_eq!(passed.len() + 1, query.len());
    assert_eq!(lines.len(), 8_003);
}

#[test]
fn the_table_of_section_3() {
    let cases: [(Refusal, u16, &str); 3] = [
        (
            Refusal::Unauthorized,
            401,
            "HTTP/1.1 401 Unauthorized\r\n\r\nNot authenticated",
        ),
        (Refusal::Unavailable, 503, "HTTP/1.1 503 Service Unavailable\r\n\r\n"),
        (
            Refusal::Method,
            405,
            "<html><title>405: Method Not Allowed</title><body>405: Method Not Allowed</body></html>",
        ),
    ];
    for (refusal, status, body) in cases {
        let answer = refusal.answer();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()));
        assert_eq!(answer.content_type, "text/html; charset=UTF-8");
    }
    assert_eq!(Refusal::Unauthorized.answer().body.len(), 46);
    assert_eq!(Refusal::Unavailable.answer().body.len(), 36);
    assert_eq!(Refusal::Overloaded.answer().headers, [("Retry-After", "5".into())]);
    assert_eq!(Refusal::Overloaded.answer().body, Refusal::Unavailable.answer().body);
}

proptest! {
    #[test]
    fn no_query_breaks_the_header_block(query in "[ -~&=%0-9a-fA-F]{0,80}") {
        let target = format!("/connect/?{}", query.replace(' ', "%0d%0a"));
        let lines = lines(&target, "X-Foo: 1\r\n");
        let mut seen = HashSet::new();
        for line in &lines {
            let (name, value) = line.split_once(": ").unwrap();
            prop_assert!(http1::is_token(name.as_bytes()) && !value.contains(['\r', '\n']));
            prop_assert!(seen.insert(name.to_ascii_lowercase()), "{} twice", name);
        }
        prop_assert_eq!(lines.iter().filter(|line| line.to_lowercase().starts_with("rainbow")).count(), 1);
    }
}
