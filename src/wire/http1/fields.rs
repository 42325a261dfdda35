//! The header lines of one message: a compact owned store, and the rules that decide framing and persistence.
//!
//! The store is the head's bytes once and a span per line, in the order they came; looking a name up is a walk, which for
//! the usual dozen lines beats hashing them all.

use super::{Framing, HEADERS_MAX, HeadError};
use bytes::Bytes;
use http::Version;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};

/// The headers of a message, repeated ones kept. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    text: Bytes,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
}

/// A piece of a head. Heads are far below 4 GiB, see [`Span::of`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Result<Span, HeadError> {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        match (u32::try_from(start), u32::try_from(start.saturating_add(part.len()))) {
            (Ok(start), Ok(end)) if end as usize <= whole.len() => Ok(Span { start, end }),
            _ => Err(HeadError::TooLarge),
        }
    }

    pub(super) fn slice(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Headers {
    /// Reads header lines. `section`, a slice of `head`, starts behind the first line and ends with the empty line.
    pub(super) fn parse(head: &Bytes, section: &[u8]) -> Result<Headers, HeadError> {
        let mut store = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let parsed = match httparse::parse_headers(section, &mut store) {
            Ok(httparse::Status::Complete((_, parsed))) => parsed,
            Ok(httparse::Status::Partial) | Err(httparse::Error::HeaderName) => return Err(HeadError::HeaderName),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
            Err(_) => return Err(HeadError::HeaderValue),
        };
        let mut lines = Vec::with_capacity(parsed.len());
        for header in parsed {
            lines.push(Line {
                name: Span::of(header.name.as_bytes(), head)?,
                value: Span::of(header.value, head)?,
            });
        }
        Ok(Headers {
            text: head.clone(),
            lines,
        })
    }

    /// Number of header lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no header lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names as they were spelled, and values without the white space around them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| {
            let name = str::from_utf8(line.name.slice(&self.text)).unwrap_or_default(); // tokens are ASCII
            (name, line.value.slice(&self.text))
        })
    }

    /// Names as they were spelled, in order: tokens, repeated ones too.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.name.slice(&self.text))
    }

    /// All values of a header, in order; the name in any case.
    pub fn all(&self, name: impl AsRef<[u8]>) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(move |line| line.name.slice(&self.text).eq_ignore_ascii_case(name.as_ref()))
            .map(|line| line.value.slice(&self.text))
    }

    /// The first value of a header.
    pub fn first(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// All values of a header joined with a comma, as the original reads repeated headers (spec §4).
    pub fn joined(&self, name: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.all(name).map(<[u8]>::to_vec).reduce(|mut joined, value| {
            joined.push(b',');
            joined.extend(value);
            joined
        })
    }

    /// Whether a comma-separated header (`Connection`, `Upgrade`) names this token, in any case.
    pub fn has_token(&self, name: impl AsRef<[u8]>, token: &str) -> bool {
        self.all(name)
            .flat_map(tokens)
            .any(|is| is.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the connection outlives this message (RFC 9112 §9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.has_token(CONNECTION, "close")
            && (version != Version::HTTP_10 || self.has_token(CONNECTION, "keep-alive"))
    }

    /// What the headers say about the body; `None` if nothing (RFC 9112 §6.3).
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, HeadError> {
        let mut codings = self.all(TRANSFER_ENCODING).flat_map(tokens).peekable();
        let coded = self.first(TRANSFER_ENCODING).is_some();
        let mut lengths = self.all(CONTENT_LENGTH);
        match (coded, lengths.next()) {
            (true, Some(_)) => Err(HeadError::ConflictingLength),
            (true, None) if version == Version::HTTP_10 => Err(HeadError::ConflictingLength),
            (true, None) => match (codings.next(), codings.next()) {
                (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
                _ => Err(HeadError::TransferCoding),
            },
            (false, None) => Ok(None),
            (false, Some(length)) => {
                let length = decimal(length).ok_or(HeadError::ContentLength)?;
                let same = lengths.all(|other| decimal(other) == Some(length));
                if same {
                    Ok(Some(Framing::Length(length)))
                } else {
                    Err(HeadError::ContentLength)
                }
            }
        }
    }
}

/// The elements of a comma-separated value; empty ones count, so that `chunked,` is not `chunked`.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits only, no sign, no list, no overflow: `Content-Length` is where smuggling starts.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Whether `name` may be the name of a header (RFC 9110 §5.6.2).
pub fn is_token(name: &[u8]) -> bool {
    let is_tchar = |byte: &u8| match byte {
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => true,
        byte => byte.is_ascii_alphanumeric(),
    };
    !name.is_empty() && name.iter().all(is_tchar)
}

/// Whether `value` may be the value of a header: no control byte except tab.
pub fn is_field_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
