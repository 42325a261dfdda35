//! One HTTP exchange on a connection of its own.

use std::io::{self, ErrorKind};
use std::time::Duration;

use http::Method;

use super::line::{Line, Trust};
use crate::config::Endpoint;
use crate::io::clock;
use crate::wire::http1::{BodyDecoder, ResponseHead, parse_response, write_request_head};

/// Longest head that is read.
const HEAD_MAX: usize = 64 * 1024;
/// Longest body that is read: the answer of a client may be as long as `ack_data_max` allows.
const BODY_MAX: u64 = 64 * 1024 * 1024;

/// A request. `Host`, `Connection` and the length of the body are added.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub target: &'a [u8],
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a [u8],
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub head: ResponseHead,
    pub body: Vec<u8>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

/// Connects, asks, and reads the answer.
pub fn exchange(to: &Endpoint, trust: Trust<'_>, request: Request<'_>, within: Duration) -> io::Result<Answer> {
    let until = clock::instant() + within;
    let mut line = Line::open(to, trust, within)?;
    let fixed = [("Host", to.authority.as_bytes()), ("Connection", b"close")];
    let authorization = to.basic_auth.as_ref().map(|value| ("Authorization", value.as_bytes()));
    let headers = fixed
        .into_iter()
        .chain(authorization)
        .chain(request.headers.iter().copied());
    let mut bytes = Vec::new();
    let length = (request.method == Method::POST).then_some(request.body.len() as u64);
    if !write_request_head(&mut bytes, request.method, request.target, headers, length) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the URL cannot be asked for"));
    }
    bytes.extend_from_slice(request.body);
    line.send(&bytes)?;
    read(&mut line, request.method, until)
}

fn read(line: &mut Line, method: &Method, until: std::time::Instant) -> io::Result<Answer> {
    let mut buffer = Vec::new();
    let head = read_head(line, method, &mut buffer, until)?;
    let mut decoder = BodyDecoder::new(head.framing, BODY_MAX).map_err(malformed)?;
    let mut body = Vec::new();
    loop {
        decoder.feed(&buffer, &mut body).map_err(malformed)?;
        buffer.clear();
        if decoder.is_done() {
            break;
        }
        if line.receive(&mut buffer, until)? == 0 {
            decoder.finish().map_err(malformed)?;
            break;
        }
    }
    Ok(Answer { head, body })
}

/// Reads the head of an answer, interim ones passed over; what came behind it stays in `buffer`.
pub fn read_head(
    line: &mut Line,
    method: &Method,
    buffer: &mut Vec<u8>,
    until: std::time::Instant,
) -> io::Result<ResponseHead> {
    loop {
        match parse_response(buffer, method, HEAD_MAX).map_err(malformed)? {
            Some(head) => {
                buffer.drain(..head.head_len);
                if !head.is_interim() {
                    return Ok(head);
                }
            }
            None if line.receive(buffer, until)? == 0 => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection ended without an answer",
                ));
            }
            None => {}
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the answer cannot be read: {error}"))
}
