//! Goldens of [`super`]: bodies and headers byte for byte.

use bytes::Bytes;

use super::*;
use crate::protocol::gateway::names;
use crate::wire::http1::parse_request;

const ID: &str = "00112233445566778899";

fn text(body: Vec<u8>) -> String {
    let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert!(value.is_object());
    String::from_utf8(body).expect("UTF-8")
}

fn asking(request: &str, address: Option<&str>) -> String {
    let head = parse_request(&Bytes::copy_from_slice(request.as_bytes()), 65_536)
        .unwrap()
        .unwrap();
    let asking = Asking {
        client_id: ID,
        address: address.map(|address| address.parse().unwrap()),
        head: &head,
        node: 0xabc,
    };
    text(asking.body())
}

#[test]
fn a_connect_event_shows_the_request() {
    let request = "GET /chat/%C3%A9?a=1&b=x+y%21&a=2&flag HTTP/1.1\r\nHost: h\r\nCookie: sid=abc; theme=dark\r\n\
        X-One: 1\r\nx-one: 2\r\nCookie: sid=last; =none; broken\r\nSec-WebSocket-Protocol: chat, v2\r\n\r\n";
    assert_eq!(
        asking(request, Some("[2001:db8::1]:4711")),
        concat!(
            r#"{"event":"connect","client_id":"00112233445566778899","ip":"2001:db8::1","port":4711,"#,
            r#""path":"/chat/%C3%A9","query":{"b":"x y!","a":"2","flag":""},"#,
            r#""headers":{"host":"h","cookie":"sid=abc; theme=dark; sid=last; =none; broken","x-one":"1, 2","#,
            r#""sec-websocket-protocol":"chat, v2"},"cookies":{"theme":"dark","sid":"last"},"#,
            r#""subprotocols":["chat","v2"],"node":"00000abc"}"#
        )
    );
}

#[test]
fn what_is_not_known_is_null_and_what_is_not_text_is_replaced() {
    let body = asking("GET /?k=%ff%00\" HTTP/1.1\r\nX: \u{e9}\"\\\r\n\r\n", None);
    assert_eq!(
        body,
        concat!(
            r#"{"event":"connect","client_id":"00112233445566778899","ip":null,"port":null,"path":"/","#,
            r#""query":{"k":"�\u0000\""},"headers":{"x":"é\"\\"},"cookies":{},"subprotocols":[],"node":"00000abc"}"#
        )
    );
    let behind = asking("GET / HTTP/1.1\r\n\r\n", Some("192.0.2.1:0"));
    assert!(behind.contains(r#""ip":"192.0.2.1","port":null"#), "{behind}");
}

#[test]
fn a_message_event_is_text_or_base64() {
    let uid = names::uid("ü1".as_bytes());
    let saying = |kind, payload, uid| Saying {
        client_id: ID,
        uid,
        session: br#"{"a":[1]}"#,
        kind,
        payload,
    };
    assert_eq!(
        text(saying(ws::Kind::Text, "hé \"x\"\n".as_bytes(), Some(&uid)).body()),
        r#"{"event":"message","client_id":"00112233445566778899","uid":"ü1","session":{"a":[1]},"message":"hé \"x\"\n","binary":false}"#
    );
    assert_eq!(
        text(saying(ws::Kind::Binary, &[0, 255, 1], None).body()),
        r#"{"event":"message","client_id":"00112233445566778899","uid":null,"session":{"a":[1]},"message_base64":"AP8B","binary":true}"#
    );
}

#[test]
fn a_close_event_is_the_last_picture() {
    let (uid, groups) = (names::uid(b"u"), [names::group(b"a"), names::group(b"b\"")]);
    let gone = Gone {
        client_id: ID,
        uid: Some(&uid),
        groups: &groups,
        session: b"{}",
        code: 4001,
        reason: b"bye",
        cause: "client_closed",
        lasted: Duration::from_millis(1234),
    };
    assert_eq!(
        text(gone.body()),
        concat!(
            r#"{"event":"close","client_id":"00112233445566778899","uid":"u","groups":["a","b\""],"session":{},"#,
            r#""code":4001,"reason":"bye","cause":"client_closed","duration_ms":1234}"#
        )
    );
}

/// Computed with `printf '1700000000.{"event":"close"}' | openssl dgst -sha256 -hmac s3cret`.
#[test]
fn the_signature_is_of_time_and_body() {
    let body = br#"{"event":"close"}"#;
    let lines = |secret: &[u8]| String::from_utf8(headers(Event::Close, body, secret, 1_700_000_000)).unwrap();
    assert_eq!(
        lines(b"s3cret"),
        "X-Rainbow-Event: close\r\nX-Rainbow-Timestamp: 1700000000\r\nX-Rainbow-Signature: \
         sha256=89bd03a0f993ff7cdd6fd3775e2228720080162435ab9fc10fdf81c06f36e26f\r\n"
    );
    assert_eq!(
        lines(b""),
        "X-Rainbow-Event: close\r\nX-Rainbow-Timestamp: 1700000000\r\n"
    );
}
