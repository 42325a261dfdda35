//! Writing heads and whole responses.
//!
//! Nothing written here can start a line of its own: a header whose name is not a token or whose value has a control byte
//! is left out ([`push_header`] says so), and the first line is made of checked types plus a checked target. Framing belongs
//! to the encoder: `Content-Length` comes from `body_len`, and any the caller lists, or a `Transfer-Encoding`, is left out.

use super::{is_field_value, is_token};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends `name: value`; writes nothing and returns false if that would not be one well-formed header line.
pub fn push_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> bool {
    let valid = is_token(name) && is_field_value(value);
    if valid {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    valid
}

/// Appends a number as decimal text.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20]; // u64::MAX has 20
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a response head and its empty line. `body_len` becomes `Content-Length`; `None` writes none (1xx, 204, 304, or a
/// response that ends with the connection). For HEAD give the length of the body that is not sent.
pub fn write_response_head<'a>(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body_len: Option<u64>,
) {
    for part in [
        "HTTP/1.1 ",
        status.as_str(),
        " ",
        status.canonical_reason().unwrap_or_default(),
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    finish_head(out, headers, body_len);
}

/// Appends a whole response with its `Content-Length`; the body is left out where the status allows none.
pub fn write_response<'a>(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
) {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return write_response_head(out, status, headers, None);
    }
    write_response_head(out, status, headers, Some(body.len() as u64));
    out.extend_from_slice(body);
}

/// Appends a request head and its empty line. `Host` is the caller's header; `body_len` becomes `Content-Length`.
///
/// Returns false, writing nothing, if `target` is empty or has a space or a control byte.
#[must_use]
pub fn write_request_head<'a>(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[u8],
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body_len: Option<u64>,
) -> bool {
    if target.is_empty() || target.contains(&b' ') || target.contains(&b'\t') || !is_field_value(target) {
        return false;
    }
    for part in [method.as_str().as_bytes(), b" ", target, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    finish_head(out, headers, body_len);
    true
}

fn finish_head<'a>(out: &mut Vec<u8>, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>, body_len: Option<u64>) {
    for (name, value) in headers {
        let frames = [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|is| name.eq_ignore_ascii_case(is.as_str()));
        if !frames {
            push_header(out, name.as_bytes(), value);
        }
    }
    if let Some(length) = body_len {
        out.extend_from_slice(CONTENT_LENGTH.as_str().as_bytes());
        out.extend_from_slice(b": ");
        push_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
