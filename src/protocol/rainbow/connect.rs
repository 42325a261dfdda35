//! A client at the door: has it credentials, what is the business asked about it, and may its connection be upgraded.
//!
//! ```text
//!   request head ── ask ──▶ Question ── callback ──▶ admission ── upgrade_check ──▶ switching (101)
//!                    └──────────────── Refusal ────────────┴────────────┘
//! ```
//! The upgrade is looked at only after the business has answered: business servers count such attempts. What goes to the
//! business is the client's own query and headers, so this is the place where nothing may get in that frames the request
//! or pretends to be rainbow. Source: spec sections 3, 4 and 16. Called by the session.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::answer::{HttpAnswer, SERVER};
use super::passing::{self, Parameters};
use crate::config::{Config, Endpoint};
use crate::engine::ids::Identity;
use crate::engine::registry::online::PLATFORM_BYTES_MAX;
use crate::wire::http1::{self, Headers, RequestHead};
use crate::wire::{query, ws};

/// The path clients connect to.
pub const PATH: &[u8] = b"/connect/";

/// `&timestamp=…&nonce=…&signature=…` at its longest.
const SIGNATURE_BYTES: usize = 128;
/// CGI writes `Name: value` and a line end as `HTTP_NAME`, value and two lengths: so much more for a line.
const BYTES_PER_LINE: usize = 5;
/// Variables of every request: method, protocol, script, the names, addresses and ports of both ends, and the lines this
/// server adds itself.
const OWN_BYTES: usize = 512;
/// uWSGI takes 64 variables in its 4096 bytes; other servers bound the number of lines too.
const BYTES_PER_VARIABLE: usize = 64;
/// Variables of a request that are not lines of the client.
const OWN_VARIABLES: usize = 16;

/// What the business is asked about a client, for [`crate::engine::command::CallbackRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// URL-encoded parameters of the client, without `timestamp`, `nonce` and `signature`.
    pub query: Bytes,
    /// Header lines, each ended by CRLF, the identity among them.
    pub headers: Bytes,
    /// What the client runs on, cut after [`PLATFORM_BYTES_MAX`].
    pub platform: Bytes,
    /// A parameter whose name the settings do not let a client claim as a header: worth a word to the operator.
    pub withheld: Option<String>,
}

/// Why a client does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a GET.
    Method,
    /// No device id or platform.
    Anonymous,
    /// What would be sent to the business is longer than `connect_head_max`.
    TooLong,
    /// The business said no.
    Unauthorized,
    /// The business could not be asked, or its answer was not understood.
    Unavailable,
    /// Too many clients are asking at once; the client is told to come back.
    Overloaded,
    /// No `Upgrade: websocket`.
    NotWebsocket,
    /// `Connection` does not say `upgrade`.
    NotUpgrade,
    /// A websocket version other than 7, 8 or 13.
    Version,
    /// No websocket key, or no `Host`.
    Headers,
}

impl Refusal {
    /// The answer; two of the bodies do begin with a status line.
    pub fn answer(self) -> HttpAnswer {
        const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let (status, body, extra) = match self {
            Refusal::Method => return HttpAnswer::not_allowed("GET"),
            Refusal::TooLong => return HttpAnswer::page(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Refusal::Anonymous | Refusal::Unauthorized => {
                (401, "HTTP/1.1 401 Unauthorized\r\n\r\nNot authenticated", None)
            }
            Refusal::Unavailable => (503, UNAVAILABLE, None),
            Refusal::Overloaded => (503, UNAVAILABLE, Some(("Retry-After", "5"))),
            Refusal::NotWebsocket => (400, "Can \"Upgrade\" only to \"WebSocket\".", None),
            Refusal::NotUpgrade => (400, "\"Connection\" must be \"Upgrade\".", None),
            Refusal::Version => (426, "", Some(("Sec-Websocket-Version", "7, 8, 13"))),
            Refusal::Headers => (400, "Missing/Invalid WebSocket headers", None),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        HttpAnswer {
            extra,
            ..HttpAnswer::new(status, body)
        }
    }
}

/// What to ask the business about the client that sent `head`.
pub fn ask(head: &RequestHead, identity: &Identity, config: &Config) -> Result<Question, Refusal> {
    if head.method != Method::GET {
        return Err(Refusal::Method);
    }
    let device = credential(head, ["X-DEVICEID", "X_DEVICEID"]);
    let (Some(_), Some(platform)) = (device, credential(head, ["X-CLIENT-OS", "X_CLIENT_OS"])) else {
        return Err(Refusal::Anonymous);
    };
    if head.query().len() > 3 * config.connect_head_max {
        return Err(Refusal::TooLong); // encoded anew it is a third of its length at least, and it is sent twice
    }
    let parameters = first_parameters(head.query());
    let block = passing::block(&head.headers, &parameters, identity, &config.query_headers);
    let question = Question {
        query: extra_query(&parameters).into(),
        headers: block.lines.into(),
        platform: Bytes::copy_from_slice(&platform[..platform.len().min(PLATFORM_BYTES_MAX)]),
        withheld: block.withheld,
    };
    if fits(&question, config) {
        Ok(question)
    } else {
        Err(Refusal::TooLong)
    }
}

/// Either header in any case, or the query parameter spelled exactly like the first name; not blank, and UTF-8 if from the
/// query.
fn credential<'a>(head: &'a RequestHead, [name, other]: [&str; 2]) -> Option<Cow<'a, [u8]>> {
    let in_header = |name| {
        head.headers
            .all(name)
            .find(|value| !value.is_empty())
            .map(Cow::Borrowed)
    };
    let in_query = || {
        let value = query::last(head.query(), name).and_then(query::text)?;
        (!value.is_empty()).then(|| Cow::Owned(value.into_owned().into_bytes()))
    };
    in_header(name).or_else(|| in_header(other)).or_else(in_query)
}

/// The query decoded, of repeated parameters the first.
fn first_parameters(raw: &[u8]) -> Parameters {
    let mut seen = HashSet::new();
    let owned = query::pairs(raw).map(|(name, value)| (name.into_owned(), value.into_owned()));
    owned.filter(|(name, _)| seen.insert(name.clone())).collect()
}

fn extra_query(parameters: &Parameters) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = query::Encoder::new(&mut out);
    for (name, value) in parameters {
        if !matches!(&name[..], b"timestamp" | b"nonce" | b"signature") {
            encoder.pair(name, value);
        }
    }
    out
}

/// Whether the head this question becomes is within `connect_head_max`.
fn fits(question: &Question, config: &Config) -> bool {
    let lines = question.headers.split(|byte| *byte == b'\n').count();
    head_bytes(question, lines, &config.connect_url) <= config.connect_head_max
        && lines + OWN_VARIABLES <= config.connect_head_max / BYTES_PER_VARIABLE
}

/// Bytes of the head this question becomes, as a CGI-like server counts it: name, value and four bytes for each variable, and
/// the query in two of them. What our server adds is counted at its longest.
fn head_bytes(question: &Question, lines: usize, url: &Endpoint) -> usize {
    let query = question.query.len() + SIGNATURE_BYTES + url.target.len();
    question.headers.len() + lines * BYTES_PER_LINE + 2 * query + 3 * url.authority.len() + OWN_BYTES
}

/// The value of `Sec-WebSocket-Accept`.
pub type AcceptKey = [u8; 28];

/// Whether an admitted client's request can become a websocket; any Origin may.
pub fn upgrade_check(headers: &Headers) -> Result<AcceptKey, Refusal> {
    let is = |name, wanted: &[&[u8]]| {
        let value = headers.joined(name).unwrap_or_default().to_ascii_lowercase();
        wanted.contains(&&value[..])
    };
    if !is("upgrade", &[b"websocket"]) {
        return Err(Refusal::NotWebsocket);
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(Refusal::NotUpgrade);
    }
    if !is("sec-websocket-version", &[b"7", b"8", b"13"]) {
        return Err(Refusal::Version);
    }
    let filled = |name| headers.first(name).filter(|value| !value.is_empty());
    match (filled("sec-websocket-key"), filled("host")) {
        (Some(key), Some(_)) => Ok(ws::accept_key(key)),
        _ => Err(Refusal::Headers),
    }
}

/// Appends the 101 answer, with the `extensions` that were agreed. No subprotocol is ever accepted.
pub fn switching(out: &mut Vec<u8>, accept: &AcceptKey, extensions: Option<&str>, date: &[u8; 29]) {
    let fixed: [(&str, &[u8]); 5] = [
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-Websocket-Accept", accept),
        ("Server", SERVER.as_bytes()),
        ("Date", date),
    ];
    let extensions = extensions.map(|value| ("Sec-Websocket-Extensions", value.as_bytes()));
    http1::write_response_head(
        out,
        StatusCode::SWITCHING_PROTOCOLS,
        fixed.into_iter().chain(extensions),
        None,
    );
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
