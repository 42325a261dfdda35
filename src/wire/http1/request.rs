//! The head of a request.

use super::fields::Span;
use super::lines::{head_end, split_first_line, version};
use super::{Framing, HeadError, Headers};
use bytes::Bytes;
use http::header::{EXPECT, HOST};
use http::{Method, Version};

/// A request up to its body. Owns its bytes, so the receive buffer can go on.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Any token; methods we do not know are the router's business (405).
    pub method: Method,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The header lines.
    pub headers: Headers,
    /// Whether the client lets the connection stay open after the response.
    pub keep_alive: bool,
    /// Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Bytes this head took from the stream; the body starts there.
    pub head_len: usize,
    text: Bytes,
    path: Span,
    query: Span,
}

impl RequestHead {
    /// The path as sent, without query, not percent-decoded. Starts with `/`, or is `*`.
    pub fn path(&self) -> &[u8] {
        match self.path.slice(&self.text) {
            b"" => b"/", // absolute form without a path
            path => path,
        }
    }

    /// The query as sent, without its `?`; empty if there is none. May hold any byte but controls and spaces.
    pub fn query(&self) -> &[u8] {
        self.query.slice(&self.text)
    }
}

/// Reads the request head at the start of `buf`; `None` while its end has not come (see [`head_end`] for growing buffers).
///
/// Allocates the head's own length and a span per header line. Errors are final: the connection cannot be followed further.
pub fn parse_request(buf: &[u8], head_max: usize) -> Result<Option<RequestHead>, HeadError> {
    let Some(end) = head_end(buf, 0, head_max)? else {
        return Ok(None);
    };
    let text = Bytes::copy_from_slice(buf.get(..end).unwrap_or_default());
    let (line, section) = split_first_line(&text).ok_or(HeadError::RequestLine)?;
    let (method, target, version) = request_line(line)?;
    let (path, query) = split_target(target)?;
    let headers = Headers::parse(&text, section)?;
    if headers.all(HOST).nth(1).is_some() {
        return Err(HeadError::Host);
    }
    let framing = headers.framing(version)?.unwrap_or(Framing::None);
    Ok(Some(RequestHead {
        method,
        version,
        keep_alive: headers.keep_alive(version),
        framing,
        expect_continue: version == Version::HTTP_11 && headers.has_token(EXPECT, "100-continue"),
        head_len: end,
        path: Span::of(path, &text)?,
        query: Span::of(query, &text)?,
        headers,
        text,
    }))
}

/// `method SP target SP version`: exactly one space each.
fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), HeadError> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(protocol)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(HeadError::RequestLine);
    };
    let method = Method::from_bytes(method).map_err(|_| HeadError::RequestLine)?;
    Ok((method, target, version(protocol)?))
}

/// Path and query of a target in origin form, absolute form (RFC 9112 §3.2.2: must be understood) or `*`.
fn split_target(target: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    if target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(HeadError::Target);
    }
    let local = without_authority(target).unwrap_or(target);
    let (path, query) = match local.iter().position(|&byte| byte == b'?') {
        Some(at) => (&local[..at], &local[at + 1..]),
        None => (local, &local[local.len()..]),
    };
    let absolute = local.len() < target.len();
    match path {
        [b'/', ..] | b"*" => Ok((path, query)),
        [] if absolute => Ok((path, query)),
        _ => Err(HeadError::Target),
    }
}

/// What follows `http://authority` or `https://authority`.
fn without_authority(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let authority = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    rest.get(authority..)
}
