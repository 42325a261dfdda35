//! Query strings.

use crate::wire::query::{Encoder, decode, first, last, pairs, text};
use std::borrow::Cow;

/// Any bytes as a query: written again they give the same pairs, look-ups agree with the list, decoding with its twin.
pub fn query(data: &[u8]) {
    let list: Vec<_> = pairs(data)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut written = Vec::new();
    let mut encoder = Encoder::new(&mut written);
    for (name, value) in &list {
        encoder.pair(name, value);
    }
    assert!(
        written
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-+%&=".contains(byte))
    );
    let again: Vec<_> = pairs(&written)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    assert_eq!(again, list);

    for (name, value) in &list {
        let Ok(name) = str::from_utf8(name) else { continue };
        let mut named = list
            .iter()
            .filter(|(is, _)| is == name.as_bytes())
            .map(|(_, value)| value.as_slice());
        assert_eq!(first(data, name).as_deref(), named.clone().next());
        assert_eq!(last(data, name).as_deref(), named.next_back());
        let read = text(Cow::Borrowed(value));
        assert_eq!(read.is_some(), str::from_utf8(value).is_ok());
        assert!(read.is_none_or(|text| text.trim() == text && text.len() <= value.len()));
    }
    assert_eq!(*decode(data), obvious(data));
}

/// The way Python 2 does it (`urllib.unquote_plus`): split at every `%`, look at the two bytes behind it.
fn obvious(raw: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = raw.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut parts = spaced.split(|&byte| byte == b'%');
    let mut out = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                out.extend_from_slice(&part[2..]);
            }
            None => {
                out.push(b'%');
                out.extend_from_slice(part);
            }
        }
    }
    out
}
