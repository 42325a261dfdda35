//! Where a head ends, and its first line. Shared by requests and responses.

use super::HeadError;
use http::Version;

/// The length of the head at the start of `buf`, its empty line included; `None` while that has not come.
///
/// A caller that keeps a growing buffer passes the length it has looked at already as `from`, so that a head arriving in
/// small reads is scanned once. Empty lines before the first line belong to the head (RFC 9112 §2.2).
/// Errors: a line that ends without CR; no end within `head_max` bytes.
pub fn head_end(buf: &[u8], from: usize, head_max: usize) -> Result<Option<usize>, HeadError> {
    let window = &buf[..buf.len().min(head_max)];
    let mut at = from.max(leading_empty_lines(window)).min(window.len());
    while let Some(step) = window[at..].iter().position(|&byte| byte == b'\n') {
        at += step + 1;
        let Some(line) = window[..at].strip_suffix(b"\r\n") else {
            return Err(HeadError::BareNewline);
        };
        if line.ends_with(b"\r\n") {
            return Ok(Some(at));
        }
    }
    if buf.len() >= head_max {
        Err(HeadError::TooLarge)
    } else {
        Ok(None)
    }
}

/// Bytes of the CRLFs before the first line.
fn leading_empty_lines(buf: &[u8]) -> usize {
    let (pairs, _) = buf.as_chunks::<2>();
    2 * pairs.iter().take_while(|pair| *pair == b"\r\n").count()
}

/// A whole head cut into its first line and its header lines (with the empty line at the end).
pub(super) fn split_first_line(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = head.get(leading_empty_lines(head)..)?;
    let len = head.windows(2).position(|pair| pair == b"\r\n")?;
    Some((head.get(..len)?, head.get(len + 2..)?))
}

/// `HTTP/1.0` → 1.0; any other `HTTP/1.x` counts as 1.1 (RFC 9110 §2.5).
pub(super) fn version(text: &[u8]) -> Result<Version, HeadError> {
    match text.strip_prefix(b"HTTP/1.") {
        Some(b"0") => Ok(Version::HTTP_10),
        Some(&[b'1'..=b'9']) => Ok(Version::HTTP_11),
        _ => Err(HeadError::Version),
    }
}
