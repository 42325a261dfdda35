//! What the demonstration's business server does with the callbacks, and how it speaks to the gateway.
//!
//! | callback | here |
//! | --- | --- |
//! | `GET /connect/` | admits everybody, remembers the device id in the cookie, subscribes to the lobby |
//! | `POST /message/{type}/` | passes the text on to the lobby under the sender's name |
//! | `GET /close/` | tells the lobby that somebody left |
//!
//! Every callback must be signed; whoever reaches this port otherwise is refused. Source: spec sections 4, 5 and 8.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use super::token;
use super::wire::{Answer, Wire};
use crate::protocol::rainbow::sign::{Body, Rules, Scheme, Secrets, Signed, Signer};
use crate::wire::http1::RequestHead;
use crate::wire::json;
use crate::wire::query;

/// Everybody's channel.
const CHANNEL: &str = "lobby";
/// Type of the notes about who came and went; everything else is chat.
const TYPE_NOTE: u16 = 2;
/// How long `/send/` waits for acknowledgements: one repetition after 3 s, then the message counts as delivered to those
/// who answered. A client that hangs holds nobody up for longer.
const TIMEOUT_S: u64 = 4;
/// Longest name shown, in characters.
const NAME_CHARS_MAX: usize = 40;

/// What callbacks are measured by. The gateway of the demonstration signs as the original does.
fn rules() -> Rules<'static> {
    Rules {
        secrets: Secrets::one(token().as_bytes()),
        accept: &[Scheme::Sha1],
        window: Duration::from_secs(10),
    }
}

/// Answers one callback. `api_port` is where the gateway listens, 0 if that is not known yet.
pub fn answer(head: &RequestHead, body: &[u8], api_port: u16) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let signed = Signed {
        method: head.method.as_str(),
        path: head.path(),
        query: head.query(),
        body,
    };
    if rules().check(&signed, now.as_micros() as u64).is_err() {
        return Answer::new(StatusCode::FORBIDDEN, "the signature is missing or wrong\n");
    }
    match (&head.method, head.path()) {
        (&Method::GET, b"/connect/") => connect(head, api_port),
        (&Method::POST, path) => match message_type(path) {
            Some(msgtype) => message(head, msgtype, body, api_port),
            None => Answer::new(StatusCode::NOT_FOUND, "not found\n"),
        },
        (&Method::GET, b"/close/") => close(head, api_port),
        _ => Answer::new(StatusCode::NOT_FOUND, "not found\n"),
    }
}

/// A client wants to come in. What it brought (headers, query) came along; the device id is among the headers either way.
fn connect(head: &RequestHead, api_port: u16) -> Answer {
    let device = head.headers.first("X-DEVICEID").unwrap_or_default();
    let name: String = String::from_utf8_lossy(device).chars().take(NAME_CHARS_MAX).collect();
    // Without acknowledgement, so that nobody waits. The newcomer itself is not in the lobby yet.
    relay(api_port, TYPE_NOTE, 0, &name, "joined");
    let mut cookie = Vec::new();
    query::encode(&mut cookie, name.as_bytes());
    Answer::new(StatusCode::OK, r#"{"status": "success"}"#)
        .header("Rainbowclientcookie", cookie)
        .header("Rainbowclientchannel", CHANNEL)
}

/// A client says something. The body of the answer goes back to it in the ACK or REC.
fn message(head: &RequestHead, msgtype: u16, body: &[u8], api_port: u16) -> Answer {
    let delivered = relay(api_port, msgtype, 1, &name(head), &String::from_utf8_lossy(body));
    Answer::new(StatusCode::OK, format!("{{\"delivered\": {delivered}}}"))
}

/// A client is gone. Its cookie came along; the answer does not matter.
fn close(head: &RequestHead, api_port: u16) -> Answer {
    relay(api_port, TYPE_NOTE, 2, &name(head), "left");
    Answer::new(StatusCode::OK, "")
}

/// `/message/7/` → 7.
fn message_type(path: &[u8]) -> Option<u16> {
    let number = path.strip_prefix(b"/message/")?.strip_suffix(b"/")?;
    str::from_utf8(number).ok()?.parse().ok()
}

/// The name put into the cookie by [`connect`].
fn name(head: &RequestHead) -> String {
    let cookie = head.headers.first("RAINBOWCLIENTCOOKIE").unwrap_or_default();
    String::from_utf8_lossy(&query::decode(cookie)).into_owned()
}

/// Sends to the lobby; returns how many clients have acknowledged. Trouble is logged and counts as nobody.
fn relay(api_port: u16, msgtype: u16, qos: u8, from: &str, text: &str) -> u64 {
    let mut payload = b"{\"from\": ".to_vec();
    json::push_string(&mut payload, from.as_bytes());
    payload.extend_from_slice(b", \"text\": ");
    json::push_string(&mut payload, text.as_bytes());
    payload.push(b'}');
    if api_port == 0 {
        return 0;
    }
    match send(api_port, msgtype, qos, &payload) {
        Ok(answer) => {
            let fields = json::fields(&answer, ["connections"]);
            fields.and_then(|[count]| count?.count()).unwrap_or(0)
        }
        Err(error) => {
            tracing::debug!(%error, "demo: the lobby could not be reached");
            0
        }
    }
}

/// One signed `POST /send/`.
fn send(api_port: u16, msgtype: u16, qos: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut target = b"/send/?".to_vec();
    let mut parameters = query::Encoder::new(&mut target);
    parameters.pair(b"channel", CHANNEL.as_bytes());
    parameters.pair(b"msgtype", msgtype.to_string().as_bytes());
    parameters.pair(b"qos", qos.to_string().as_bytes());
    parameters.pair(b"timeout", TIMEOUT_S.to_string().as_bytes());
    Signer {
        scheme: Scheme::Sha1,
        secret: token().as_bytes(),
        unix_seconds: now.as_secs(),
        random: getrandom::u64().unwrap_or_default(),
        is_relay: false,
    }
    .sign("POST", &mut target, &Body::new(payload));
    Wire::connect(api_port, Duration::from_secs(TIMEOUT_S + 2))?.post(&target, payload)
}
