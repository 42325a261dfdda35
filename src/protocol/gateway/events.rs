//! Events of this door's clients as the backend is told of them: JSON bodies, and the headers that say which event it is and
//! prove who sends it. What the backend answers is read in `answers.rs`.
//!
//! | event | when | body |
//! | --- | --- | --- |
//! | connect | before the upgrade: may it come in? | who asks, as its request says |
//! | message | for each message, one after the other | the message, the client's uid and session |
//! | close | once for everybody who was admitted, last | what the client was, how and why it ended |
//!
//! Text that is not UTF-8 is shown with U+FFFD in the place of what is not. Pure. Callers: `entry.rs`, `session.rs`; the
//! headers are made for each attempt by `control/surface/gateway/callback.rs`.

use std::borrow::Cow;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hashbrown::HashSet;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::api::ClientText;
use crate::config::{Endpoint, Gateway};
use crate::engine::command::CallbackRequest;
use crate::engine::hook::{Event, HookDoor};
use crate::engine::name::Name;
use crate::time::Duration;
use crate::wire::http1::{self, RequestHead};
use crate::wire::{query, ws};

/// The number of this door among those with hooks.
pub const HOOKS: HookDoor = HookDoor(1);

/// Content type of the bodies.
pub const CONTENT_TYPE: &str = "application/json";

/// Header of the time of an attempt, in seconds since 1970.
const TIMESTAMP: &[u8] = b"X-Rainbow-Timestamp";
/// Header of the signature of timestamp and body.
const SIGNATURE: &[u8] = b"X-Rainbow-Signature";
/// Header of the event's name.
const EVENT: &[u8] = b"X-Rainbow-Event";

/// A client that wants in.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The id it will have.
    pub client_id: &'a str,
    /// Where it connects from; port 0: only a proxy knows it.
    pub address: Option<SocketAddr>,
    /// Its request.
    pub head: &'a RequestHead,
    /// The node it connects to.
    pub node: u32,
}

/// A client that has said something.
#[derive(Clone, Copy)]
pub struct Saying<'a> {
    /// Its id.
    pub client_id: &'a str,
    /// Its uid, if it has one.
    pub uid: Option<&'a Name>,
    /// JSON of its session.
    pub session: &'a [u8],
    /// Text or binary.
    pub kind: ws::Kind,
    /// What it said.
    pub payload: &'a [u8],
}

/// A client that is gone.
#[derive(Clone, Copy)]
pub struct Gone<'a> {
    /// Its id.
    pub client_id: &'a str,
    /// The uid it had.
    pub uid: Option<&'a Name>,
    /// The groups it was in.
    pub groups: &'a [Name],
    /// JSON of its session.
    pub session: &'a [u8],
    /// Code of the close frame: its own if it closed, else ours. 1005: without code; 1006: there was none.
    pub code: u16,
    /// Reason in the close frame.
    pub reason: &'a [u8],
    /// Why it ended ([`crate::close::CloseCause::label`]).
    pub cause: &'a str,
    /// Since it was admitted.
    pub lasted: Duration,
}

impl Asking<'_> {
    /// The body of the event.
    pub fn body(&self) -> Vec<u8> {
        let head = self.head;
        let mut out = Vec::with_capacity(1024);
        object(&mut out, |fields| {
            fields.text("event", Event::Connect.label());
            fields.text("client_id", self.client_id);
            fields.optional("ip", self.address.map(|address| address.ip().to_string()).as_deref());
            let port = self.address.map(|address| address.port()).filter(|port| *port != 0);
            match port {
                Some(port) => fields.number("port", port.into()),
                None => fields.raw("port", b"null"),
            }
            fields.text("path", &lossy(head.path()));
            fields.object("query", |query| {
                for (name, value) in last_of_each(query::pairs(head.query())) {
                    query.text(&lossy(&name), &lossy(&value));
                }
            });
            fields.object("headers", |headers| headers_of(head, headers));
            fields.object("cookies", |cookies| {
                for (name, value) in last_of_each(head.headers.all("cookie").flat_map(self::cookies)) {
                    cookies.text(&lossy(&name), &lossy(&value));
                }
            });
            let offered = head
                .headers
                .all("sec-websocket-protocol")
                .flat_map(|line| line.split(|byte| *byte == b','));
            fields.list("subprotocols", offered.map(<[u8]>::trim_ascii).map(lossy));
            fields.text("node", &format!("{:08x}", self.node));
        });
        out
    }
}

impl Saying<'_> {
    /// The body of the event.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.session.len() + self.payload.len() + self.payload.len() / 2);
        object(&mut out, |fields| {
            fields.text("event", Event::Message.label());
            fields.text("client_id", self.client_id);
            fields.optional("uid", self.uid.map(text_of).as_deref());
            fields.raw("session", self.session);
            match self.kind {
                ws::Kind::Text => {
                    fields.text("message", &lossy(self.payload));
                    fields.raw("binary", b"false");
                }
                ws::Kind::Binary => {
                    fields.text("message_base64", &STANDARD.encode(self.payload));
                    fields.raw("binary", b"true");
                }
            }
        });
        out
    }
}

impl Gone<'_> {
    /// The body of the event.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.session.len());
        object(&mut out, |fields| {
            fields.text("event", Event::Close.label());
            fields.text("client_id", self.client_id);
            fields.optional("uid", self.uid.map(text_of).as_deref());
            fields.list("groups", self.groups.iter().map(text_of));
            fields.raw("session", self.session);
            fields.number("code", self.code.into());
            fields.text("reason", &lossy(self.reason));
            fields.text("cause", self.cause);
            fields.number(
                "duration_ms",
                u64::try_from(self.lasted.as_millis()).unwrap_or(u64::MAX),
            );
        });
        out
    }
}

/// Whether somebody is asked or told of an event: a handler of this process, or a backend.
pub fn is_told(gateway: &Gateway, event: Event) -> bool {
    gateway.handlers || url(gateway, event).is_some()
}

/// What a handler of this process is told of a client that has said something, or has come ([`session::ADMISSION`]): its parts as
/// they are, since both sides are one program. They travel in the fields of a [`CallbackRequest`], which are filled and read
/// here only.
///
/// [`session::ADMISSION`]: super::session::ADMISSION
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The client.
    pub client: ClientText,
    /// Its uid, if it has one.
    pub uid: Option<&'a [u8]>,
    /// JSON of its session.
    pub session: &'a Bytes,
    /// Text or binary.
    pub kind: ws::Kind,
    /// What it said.
    pub payload: &'a Bytes,
}

impl<'a> Parts<'a> {
    /// Puts them into a request.
    pub fn fill(self, request: &mut CallbackRequest) {
        request.msgtype = u16::from(self.kind == ws::Kind::Binary);
        request.query = [&self.client.0, self.uid.unwrap_or_default()].concat().into();
        request.headers = self.session.clone();
        request.body = self.payload.clone();
    }

    /// Takes them out of one; `None`: they are not in there.
    pub fn of(request: &'a CallbackRequest) -> Option<Self> {
        let (client, uid) = request.query.split_first_chunk()?;
        Some(Self {
            client: ClientText(*client),
            // No uid is empty.
            uid: (!uid.is_empty()).then_some(uid),
            session: &request.headers,
            kind: match request.msgtype {
                0 => ws::Kind::Text,
                _ => ws::Kind::Binary,
            },
            payload: &request.body,
        })
    }
}

/// Where an event goes; `None`: no backend is asked or told.
pub fn url(gateway: &Gateway, event: Event) -> Option<&Endpoint> {
    let own = match event {
        Event::Connect => &gateway.connect_url,
        Event::Message => &gateway.message_url,
        Event::Close => &gateway.close_url,
    };
    own.as_ref().or(gateway.url.as_ref())
}

/// The header lines of one attempt to tell of an event: its name, the time, and the signature of both time and body. Without
/// a secret nothing is signed.
pub fn headers(event: Event, body: &[u8], secret: &[u8], unix_seconds: u64) -> Vec<u8> {
    let timestamp = unix_seconds.to_string();
    let mut out = Vec::with_capacity(192);
    http1::push_header(&mut out, EVENT, event.label().as_bytes());
    http1::push_header(&mut out, TIMESTAMP, timestamp.as_bytes());
    if !secret.is_empty() {
        let value = [b"sha256=", &hex(&signature(secret, timestamp.as_bytes(), body))[..]].concat();
        http1::push_header(&mut out, SIGNATURE, &value);
    }
    out
}

/// HMAC-SHA256 of the timestamp, a dot and the body.
fn signature(secret: &[u8], timestamp: &[u8], body: &[u8]) -> [u8; 32] {
    // A key of any length is one.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(secret) else {
        return [0; 32];
    };
    [timestamp, b".", body].iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]).collect()
}

/// Names in lower case, each once; values of repeated ones joined with a comma, of cookies with a semicolon (RFC 9110 §5.3,
/// RFC 6265 §5.4).
fn headers_of(head: &RequestHead, fields: &mut Fields<'_>) {
    let mut seen = HashSet::new();
    for name in head.headers.names() {
        let lower = name.to_ascii_lowercase();
        if !seen.contains(&lower) {
            let separator: &[u8] = if lower == b"cookie" { b"; " } else { b", " };
            let values: Vec<_> = head.headers.all(name).collect();
            fields.text(&lossy(&lower), &lossy(&values.join(separator)));
            seen.insert(lower);
        }
    }
}

/// Pairs of one `Cookie` line, as they are: nothing is decoded.
fn cookies(line: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    let pairs = line.split(|byte| *byte == b';').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii());
        Some((Cow::Borrowed(name), Cow::Borrowed(value)))
    });
    pairs.filter(|(name, _)| !name.is_empty())
}

/// A name and its value.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Of repeated names only the last, in the order of those; an object has no two fields of one name.
fn last_of_each<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Vec<Pair<'a>> {
    let pairs: Vec<_> = pairs.collect();
    let mut seen = HashSet::new();
    let mut last: Vec<_> = pairs
        .into_iter()
        .rev()
        .filter(|(name, _)| seen.insert(name.to_vec()))
        .collect();
    last.reverse();
    last
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn text_of(name: &Name) -> Cow<'_, str> {
    lossy(name.text())
}

/// Fields of a JSON object being written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields<'_>)) {
    out.push(b'{');
    write(&mut Fields { out, is_first: true });
    out.push(b'}');
}

impl Fields<'_> {
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        string(self.out, key);
        self.out.push(b':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        string(self.out, text);
    }

    fn optional(&mut self, key: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(key, text),
            None => self.raw(key, b"null"),
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        self.raw(key, number.to_string().as_bytes());
    }

    /// JSON that is there already.
    fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(json);
    }

    fn object(&mut self, key: &str, write: impl FnOnce(&mut Fields<'_>)) {
        self.key(key);
        object(self.out, write);
    }

    fn list<'t>(&mut self, key: &str, texts: impl Iterator<Item = Cow<'t, str>>) {
        self.key(key);
        self.out.push(b'[');
        for (at, text) in texts.enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            string(self.out, &text);
        }
        self.out.push(b']');
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text into memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
