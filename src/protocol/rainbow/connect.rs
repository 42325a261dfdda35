//! A client at the door: has it credentials, and what is the business asked about it. What goes to the business is the
//! client's own query and headers, so this is the place where nothing may get in that frames the request or pretends to be
//! rainbow. Source: spec sections 3, 4 and 16. Called by [`super::entry`].

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::passing::{self, Parameters};
use crate::config::{Config, Endpoint};
use crate::engine::ids::Identity;
use crate::engine::registry::online::PLATFORM_BYTES_MAX;
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::{HttpAnswer, UNAVAILABLE};
use crate::wire::query;

/// Body of a 401.
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\nNot authenticated";

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

/// What the business is asked about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
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
}

impl Refusal {
    /// The answer; two of the bodies do begin with a status line.
    pub fn answer(self) -> HttpAnswer {
        match self {
            Refusal::Method => HttpAnswer::not_allowed("GET"),
            Refusal::TooLong => HttpAnswer::page(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Refusal::Anonymous | Refusal::Unauthorized => HttpAnswer::new(StatusCode::UNAUTHORIZED, UNAUTHORIZED),
            Refusal::Unavailable => HttpAnswer::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
            Refusal::Overloaded => HttpAnswer::overloaded(),
        }
    }
}

/// What to ask the business about the client that sent `head`.
pub fn ask(head: &RequestHead, identity: &Identity, config: &Config) -> Result<Asked, Refusal> {
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
    let asked = Asked {
        query: extra_query(&parameters).into(),
        headers: block.lines.into(),
        platform: Bytes::copy_from_slice(&platform[..platform.len().min(PLATFORM_BYTES_MAX)]),
        withheld: block.withheld,
    };
    if fits(&asked, config) {
        Ok(asked)
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
fn fits(asked: &Asked, config: &Config) -> bool {
    let lines = asked.headers.split(|byte| *byte == b'\n').count();
    head_bytes(asked, lines, &config.connect_url) <= config.connect_head_max
        && lines + OWN_VARIABLES <= config.connect_head_max / BYTES_PER_VARIABLE
}

/// Bytes of the head this question becomes, as a CGI-like server counts it: name, value and four bytes for each variable, and
/// the query in two of them. What our server adds is counted at its longest.
fn head_bytes(asked: &Asked, lines: usize, url: &Endpoint) -> usize {
    let query = asked.query.len() + SIGNATURE_BYTES + url.target.len();
    asked.headers.len() + lines * BYTES_PER_LINE + 2 * query + 3 * url.authority.len() + OWN_BYTES
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
