//! The head of a response, for the callback client and the cluster.

use super::lines::{head_end, split_first_line, version};
use super::{Framing, HeadError, Headers};
use bytes::Bytes;
use http::{Method, StatusCode, Version};

/// A response up to its body. The reason phrase is not kept.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100..=999.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The header lines.
    pub headers: Headers,
    /// Whether the connection may be used for another request once the body is read.
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
    let keep_alive = framing != Framing::UntilClose && headers.keep_alive(version);
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
