//! The payload of a close frame: nothing, or a code and a reason (RFC 6455 §5.5.1 and §7.4).

use super::Error;

/// A close code with the peer's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Valid in the sense of [`is_valid_close_code`].
    pub code: u16,
    /// At most 123 bytes, often empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads an unmasked close payload; `None` if it is empty.
    ///
    /// Errors: one byte only, a code that must not be sent, a reason that is not UTF-8.
    pub fn parse(payload: &'a [u8]) -> Result<Option<CloseFrame<'a>>, Error> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() {
                Ok(None)
            } else {
                Err(Error::TruncatedClose)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !is_valid_close_code(code) {
            return Err(Error::InvalidCloseCode);
        }
        let reason = str::from_utf8(reason).map_err(|_| Error::InvalidUtf8)?;
        Ok(Some(CloseFrame { code, reason }))
    }
}

/// Whether a peer may send this code: the registered ones (1000–1003, 1007–1014) and 3000–4999 for libraries and
/// applications. 1004–1006 and 1015 stand for the absence of a code and never travel (RFC 6455 §7.4).
pub fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
