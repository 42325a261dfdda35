//! HTTP/1.0 and 1.1 messages: heads in, bodies in pieces, heads and whole responses out (RFC 9110, RFC 9112, spec §15).
//!
//! ```text
//! bytes ── parse_request / parse_response ── head + Framing ── BodyDecoder::feed … ── body
//! ```
//!
//! Both directions share one strictness, because two readers of one stream must never disagree on where a message ends
//! (request smuggling): only CRLF ends a line, no white space before a colon, no folded lines, no control bytes, one way to
//! tell the length of a body and nothing contradicting it. What is lenient, as in the original: any byte ≥ 0x80 in a
//! target or a header value, any method, a missing `Host`.
//!
//! Header lines are read by `httparse`; the first line is read here, since `httparse` refuses targets that are not UTF-8.
//! Callers: shard (first request of a connection), control core (API server and callback client), cluster.

pub mod answer;
mod body;
mod encode;
mod fields;
mod lines;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyError, BodyHash, Progress, SKIPPED_MAX};
pub use encode::{CONTINUE, push_decimal, push_header, write_request_head, write_response, write_response_head};
pub use fields::{Headers, is_field_value, is_token};
pub use lines::head_end;
pub use request::{RequestHead, parse_request};
pub use response::{KeepAlive, ResponseHead, parse_response};

use http::StatusCode;

/// More header lines than this are refused. Browsers send about 20; the spans of 128 are 2 KiB.
pub const HEADERS_MAX: usize = 128;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

impl Framing {
    /// Whether a body framed like this is among the bytes behind its head for certain; a chunked one would have to be read for
    /// that.
    pub fn is_received(self, bytes: &[u8]) -> bool {
        match self {
            Framing::None => true,
            Framing::Length(length) => bytes.len() as u64 >= length,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }
}

/// Why a head is refused. Except for too-large heads the peer is at fault or not an HTTP/1 speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The head is longer than the caller allows.
    TooLarge,
    /// More than [`HEADERS_MAX`] header lines.
    TooManyHeaders,
    /// A line that ends in LF without CR.
    BareNewline,
    /// The first line has not three parts, or its method is not a token.
    RequestLine,
    /// The target is neither a path nor an absolute `http` URL, or has a control byte.
    Target,
    /// The first line does not say HTTP/1.x.
    Version,
    /// The first line of a response has no status 100..=999.
    StatusLine,
    /// A header name is not a token, has white space behind it, or the line is folded.
    HeaderName,
    /// A header value has a control byte.
    HeaderValue,
    /// More than one `Host`: readers could differ in which one they believe (RFC 9112 §3.2).
    Host,
    /// `Content-Length` is not one decimal number, or two of them differ.
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`, or the latter in HTTP/1.0.
    ConflictingLength,
    /// A transfer coding other than exactly one `chunked`.
    TransferCoding,
}

impl HeadError {
    /// The status RFC 9110 has for this error, for servers that answer it. The original just closes (spec §15).
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TooLarge | HeadError::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            HeadError::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HeadError::TooLarge => "head too large",
            HeadError::TooManyHeaders => "too many headers",
            HeadError::BareNewline => "line without carriage return",
            HeadError::RequestLine => "bad request line",
            HeadError::Target => "bad target",
            HeadError::Version => "not http/1",
            HeadError::StatusLine => "bad status line",
            HeadError::HeaderName => "bad header name",
            HeadError::HeaderValue => "bad header value",
            HeadError::Host => "more than one host",
            HeadError::ContentLength => "bad content-length",
            HeadError::ConflictingLength => "content-length and transfer-encoding conflict",
            HeadError::TransferCoding => "unknown transfer coding",
        })
    }
}

impl std::error::Error for HeadError {}
