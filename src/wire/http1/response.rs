//! The head of a response, for the callback client and the cluster.

use super::fields::decimal;
use super::lines::{head_end, split_first_line, version};
use super::{Framing, HeadError, Headers};
use bytes::Bytes;
use http::{Method, StatusCode, Version};
use std::time::Duration;

/// A longer `Keep-Alive: timeout=` is as good as this one.
const TIMEOUT_SECONDS_MAX: u64 = 24 * 3600;

/// A response up to its body. The reason phrase is not kept.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100..=999.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The header lines.
    pub headers: Headers,
    /// Whether the connection may be used for another request once the body is read. Not after an answer whose status has
    /// no body and whose headers promise one: a server that is wrong about that may send it.
    pub keep_alive: bool,
    /// How to read the body.
    pub framing: Framing,
    /// Bytes this head took from the stream; the body starts there.
    pub head_len: usize,
}

impl ResponseHead {
    /// A 1xx that announces another head on the same stream. 101 is final: the protocol changes there.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// What the server says about the connection beside that it stays.
    pub fn keep_alive_terms(&self) -> KeepAlive {
        let mut terms = KeepAlive::default();
        for parameter in self
            .headers
            .all("keep-alive")
            .flat_map(|value| value.split(|&byte| byte == b','))
        {
            let mut parts = parameter.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().and_then(decimal));
            if name.eq_ignore_ascii_case(b"timeout") {
                terms.timeout = value.map(|seconds| Duration::from_secs(seconds.min(TIMEOUT_SECONDS_MAX)));
            } else if name.eq_ignore_ascii_case(b"max") {
                terms.max = value.map(|max| u32::try_from(max).unwrap_or(u32::MAX));
            }
        }
        terms
    }
}

/// `Keep-Alive: timeout=5, max=100`, as far as it is there (RFC 2068 §19.7.1.1, and what servers send today).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long the server leaves the connection open while it is not used.
    pub timeout: Option<Duration>,
    /// Requests that may follow.
    pub max: Option<u32>,
}

/// Reads the response head at the start of `buf`; `None` while its end has not come. `method` is the request's: a response
/// to HEAD has no body, whatever its headers say.
///
/// Errors are final: the connection cannot be followed further and must not be pooled.
pub fn parse_response(buf: &[u8], method: &Method, head_max: usize) -> Result<Option<ResponseHead>, HeadError> {
    let Some(end) = head_end(buf, 0, head_max)? else {
        return Ok(None);
    };
    let text = Bytes::copy_from_slice(buf.get(..end).unwrap_or_default());
    let (line, section) = split_first_line(&text).ok_or(HeadError::StatusLine)?;
    let (version, status) = status_line(line)?;
    let headers = Headers::parse(&text, section)?;
    let declared = headers.framing(version)?;
    let bodiless = method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if bodiless {
        Framing::None
    } else {
        declared.unwrap_or(Framing::UntilClose)
    };
    let promises_body = !matches!(declared, None | Some(Framing::None | Framing::Length(0)));
    let contradicts = bodiless && method != Method::HEAD && promises_body;
    let keep_alive = framing != Framing::UntilClose && !contradicts && headers.keep_alive(version);
    Ok(Some(ResponseHead {
        status,
        version,
        headers,
        keep_alive,
        framing,
        head_len: end,
    }))
}

/// `version SP status [SP reason]`; the reason may be anything without control bytes.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), HeadError> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let version = version(parts.next().unwrap_or_default())?;
    let status = StatusCode::from_bytes(parts.next().unwrap_or_default()).map_err(|_| HeadError::StatusLine)?;
    if !super::is_field_value(parts.next().unwrap_or_default()) {
        return Err(HeadError::StatusLine);
    }
    Ok((version, status))
}
