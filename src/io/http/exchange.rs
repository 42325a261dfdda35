//! One request and its answer on one connection (RFC 9112). Framing is `wire::http1`'s; here it meets the socket.
//!
//! Bodies are charged to the memory that waits (`budget.rs`), and not read to their end while that is short.
//!
//! The outcome tells the caller two things it cannot guess: whether the connection may carry another request, and, after
//! a failure, how much the peer can have seen of this one.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, LOCATION};
use http::{Method, StatusCode};

use super::Request;
use super::conn::Conn;
use super::line::Stop;
use crate::budget::{self, CHUNK, Rank, is_short};
use crate::engine::command::{CallbackFailure, CallbackReply};
use crate::wire::gzip;
use crate::wire::http1::{
    BodyDecoder, BodyError, Headers, KeepAlive, ResponseHead, head_end, parse_response, push_decimal,
};

/// Bytes of an answer's head, interim ones not counted. Beyond it the answer is garbage.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Interim answers (1xx) skipped before the final one. A peer has no reason to send more than two.
const INTERIMS_MAX: usize = 8;
/// Room for one read at least. Answers of a business are small; the buffer grows while reads fill it.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Room for one read at most.
const READ_BYTES_MAX: usize = 64 * 1024;

/// A whole answer.
pub(super) struct Answer {
    pub(super) reply: CallbackReply,
    /// What the server says about the connection; `None`: it carries no other request.
    pub(super) keep: Option<KeepAlive>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The peer cannot have read a byte of the request: safe to send again, whatever it asks for.
    Unread,
    /// Sent, at least in part, and not one byte came back: the peer may have acted on it.
    Silent,
    /// The peer answered, but not well.
    Spoiled(CallbackFailure),
}

impl From<Broken> for CallbackFailure {
    fn from(broken: Broken) -> CallbackFailure {
        match broken {
            Broken::Unread | Broken::Silent => CallbackFailure::Dropped,
            Broken::Spoiled(failure) => failure,
        }
    }
}

const GARBAGE: Broken = Broken::Spoiled(CallbackFailure::Garbage);
const DROPPED: Broken = Broken::Spoiled(CallbackFailure::Dropped);
const MEMORY_SHORT: Broken = Broken::Spoiled(CallbackFailure::MemoryShort);

/// How an exchange goes about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The connection is to be kept, as far as it is up to us.
    pub(super) keep: bool,
    /// Bytes of the answer's body, packed and unpacked.
    pub(super) body_max: usize,
}

/// Sends `request` and reads its answer. `buffer` is room to work in; its content is lost. After an error the connection must
/// be closed.
pub(super) async fn exchange(
    conn: &mut Conn,
    buffer: &mut Vec<u8>,
    request: &Request,
    terms: Terms,
) -> Result<Answer, Broken> {
    let mut unsent = send(conn, buffer, request, terms.keep).await?;
    buffer.clear();
    let head = match read_head(conn, buffer, &mut unsent, &request.method).await {
        Err(Broken::Silent) if conn.was_never_read().await => return Err(Broken::Unread),
        other => other?,
    };
    let early = unsent.stop.is_some();
    let (body, exact) = read_body(conn, buffer, &head, terms.body_max, early).await?;
    Ok(Answer {
        keep: (head.keep_alive && exact && !early && terms.keep).then(|| head.keep_alive_terms()),
        reply: reply(&head, body, terms.body_max)?,
    })
}

/// The part of a request that has not left.
#[derive(Default)]
struct Unsent {
    head: Vec<u8>,
    body: Bytes,
    at: usize,
    /// Why; `None`: all of it has left.
    stop: Option<Stop>,
}

/// Sends all of `request`, or as much as the peer takes before it speaks: it may refuse a request by its head.
async fn send(conn: &mut Conn, buffer: &mut Vec<u8>, request: &Request, keep: bool) -> Result<Unsent, Broken> {
    buffer.clear();
    write_head(buffer, request, keep);
    let mut at = 0;
    match conn.send([buffer, &request.body], &mut at).await {
        Ok(()) => Ok(Unsent::default()),
        Err(_) if !conn.has_sent() => Err(Broken::Unread),
        Err(stop) => Ok(Unsent {
            head: std::mem::take(buffer),
            body: request.body.clone(),
            at,
            stop: Some(stop),
        }),
    }
}

/// The head as the original's client writes it (spec §4).
fn write_head(out: &mut Vec<u8>, request: &Request, keep: bool) {
    let url = &request.url;
    let mut line = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    line(&[request.method.as_str().as_bytes(), b" ", &url.target, b" HTTP/1.1\r\n"]);
    line(&[b"Host: ", url.origin.authority.as_bytes(), b"\r\n"]);
    match &url.authorization {
        None => line(&[&request.headers]),
        // Of two lines some servers believe the first: that of a client.
        Some(_) => {
            let others = request
                .headers
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| !is_authorization(line));
            others.for_each(|other| line(&[other]));
        }
    }
    line(&[b"Accept-Encoding: gzip\r\n"]);
    if !keep {
        line(&[b"Connection: close\r\n"]);
    }
    if let Some(authorization) = &url.authorization {
        line(&[b"Authorization: ", authorization, b"\r\n"]);
    }
    if request.method == Method::POST {
        line(&[b"Content-Type: ", request.content_type.as_bytes(), b"\r\n"]);
    }
    if request.method == Method::POST || !request.body.is_empty() {
        line(&[b"Content-Length: "]);
        push_decimal(out, request.body.len() as u64);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn is_authorization(line: &[u8]) -> bool {
    const NAME: &[u8] = b"authorization:";
    line.get(..NAME.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(NAME))
}

/// Reads up to the end of the final head, and maybe beyond it.
async fn read_head(
    conn: &mut Conn,
    buffer: &mut Vec<u8>,
    unsent: &mut Unsent,
    method: &Method,
) -> Result<ResponseHead, Broken> {
    let (mut scanned, mut interims) = (0, 0);
    loop {
        let end = head_end(buffer, scanned, HEAD_BYTES_MAX).map_err(|_| GARBAGE)?;
        if end.is_none() {
            scanned = buffer.len();
            let silent = buffer.is_empty() && interims == 0;
            if unsent.stop == Some(Stop::PeerSpeaks) && !silent {
                let Unsent { head, body, at, stop } = unsent; // an interim answer: the peer wants the rest
                *stop = conn.send([head, body], at).await.err();
            }
            if !silent {
                conn.acknowledge();
            }
            match receive(conn, buffer).await {
                Ok(1..) => continue,
                _ if silent => return Err(Broken::Silent),
                _ => return Err(DROPPED),
            }
        }
        let head = parse_response(buffer, method, HEAD_BYTES_MAX)
            .map_err(|_| GARBAGE)?
            .ok_or(GARBAGE)?;
        if !head.is_interim() {
            return if head.status == StatusCode::SWITCHING_PROTOCOLS {
                Err(GARBAGE)
            } else {
                Ok(head)
            };
        }
        interims += 1;
        if interims > INTERIMS_MAX {
            return Err(GARBAGE);
        }
        buffer.drain(..head.head_len.min(buffer.len()));
        scanned = 0;
    }
}

/// Reads the body behind `head`. False beside it: bytes that belong to no answer followed, or the connection ended. `early`: the
/// answer came before the request was sent, so that a reset may follow it at once.
async fn read_body(
    conn: &mut Conn,
    buffer: &mut Vec<u8>,
    head: &ResponseHead,
    body_max: usize,
    early: bool,
) -> Result<(budget::Reply, bool), Broken> {
    let spoiled = |error| {
        if error == BodyError::Truncated {
            DROPPED
        } else {
            GARBAGE
        }
    };
    let mut decoder = BodyDecoder::new(head.framing, body_max as u64).map_err(spoiled)?;
    let mut body = budget::Reply::new();
    let mut start = head.head_len;
    loop {
        let input = buffer.get(start..).unwrap_or_default();
        let progress = body.fill(|body| decoder.feed(input, body)).map_err(spoiled)?;
        if progress.done {
            return Ok((body, progress.consumed == input.len()));
        }
        if body.capacity() >= CHUNK && is_short(Rank::Answer) {
            return Err(MEMORY_SHORT);
        }
        if buffer.len() == buffer.capacity() && buffer.capacity() < READ_BYTES_MAX {
            buffer.reserve(2 * buffer.capacity());
        }
        buffer.clear();
        start = 0;
        conn.acknowledge();
        match receive(conn, buffer).await {
            Ok(1..) => {}
            Err(_) if !early => return Err(DROPPED),
            Ok(0) | Err(_) => {
                decoder.finish().map_err(spoiled)?;
                return Ok((body, false));
            }
        }
    }
}

/// Appends one read to `buffer`.
async fn receive(conn: &mut Conn, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    if buffer.capacity() - buffer.len() < READ_BYTES_MIN / 2 {
        buffer.reserve(READ_BYTES_MIN);
    }
    let (result, room) = conn.read(std::mem::take(buffer)).await;
    *buffer = room;
    result
}

fn reply(head: &ResponseHead, body: budget::Reply, body_max: usize) -> Result<CallbackReply, Broken> {
    let packed = head
        .headers
        .first(CONTENT_ENCODING)
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"));
    let body = if packed && !body.is_empty() {
        gzip::unpack(&body, body_max).ok_or(GARBAGE)?.into()
    } else {
        body
    };
    Ok(CallbackReply {
        status: head.status.as_u16(),
        headers: lower_case(&head.headers),
        body: body.share(),
    })
}

/// All header lines, in one allocation for their text.
fn lower_case(headers: &Headers) -> Vec<(Bytes, Bytes)> {
    let mut text = Vec::new();
    for (name, value) in headers.iter() {
        text.extend(name.bytes().map(|c| c.to_ascii_lowercase()));
        text.extend_from_slice(value);
    }
    let mut text = Bytes::from(text);
    headers
        .iter()
        .map(|(name, value)| (text.split_to(name.len()), text.split_to(value.len())))
        .collect()
}

/// Where the answer of `request` sends it: `None` if it is a final answer, `Some(None)` if nowhere.
///
/// As the original's client does it (tornado 4.5, spec §4): 302 and 303 turn any request into a GET without a body, 301 and 307
/// keep method and body (308 likewise, which it did not know), headers stay.
pub(super) fn redirect(request: &Request, reply: &CallbackReply) -> Option<Option<Request>> {
    let keep = match reply.status {
        301 | 307 | 308 => true,
        302 | 303 => false,
        _ => return None,
    };
    let location = reply.headers_named(LOCATION.as_str().as_bytes()).next();
    let Some(url) = location.and_then(|location| request.url.join(location)) else {
        return Some(None);
    };
    Some(Some(Request {
        url,
        method: if keep { request.method.clone() } else { Method::GET },
        headers: request.headers.clone(),
        content_type: request.content_type,
        body: if keep { request.body.clone() } else { Bytes::new() },
    }))
}
