//! `application/x-www-form-urlencoded` text the way the original's Python 2 and tornado 4.5 read and write it.
//!
//! Reading (`urlparse.parse_qs` with blank values kept; spec §3, §5, §10): pairs are separated by `&` or `;`, empty pairs
//! are skipped, a missing `=` means an empty value, `+` is a space, `%XX` is a byte, any other `%` stays as it is. Which of
//! repeated parameters counts is the caller's choice: [`last`] for the API and credentials, [`first`] for what is passed on.
//! Writing (`urllib.urlencode`; spec §4): letters, digits and `_.-` stay, a space is `+`, everything else `%XX`.
//!
//! Values are bytes; [`text`] makes them what tornado's `get_argument` returns. Called by the doors' `api.rs` and callbacks.

use std::borrow::Cow;

/// The name-value pairs of a query string (without its `?`), in order. Borrows wherever nothing had to be decoded.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    raw_pairs(query).map(|(name, value)| (decode(name), decode(value)))
}

/// The last value of a parameter, decoded and not trimmed.
pub fn last<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let [value] = lasts(query, [name]);
    value
}

/// The last values of several parameters, found in one walk.
pub fn lasts<'a, const N: usize>(query: &'a [u8], names: [&str; N]) -> [Option<Cow<'a, [u8]>>; N] {
    let mut found = [None; N];
    for (name, value) in raw_pairs(query) {
        let name = decode(name);
        if let Some(at) = names.iter().position(|is| *is.as_bytes() == *name) {
            found[at] = Some(value);
        }
    }
    found.map(|value| value.map(decode))
}

/// The first value of a parameter, decoded and not trimmed.
pub fn first<'a>(query: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let named = |(is, _): &(&[u8], _)| *decode(is) == *name.as_bytes();
    raw_pairs(query).find(named).map(|(_, value)| decode(value))
}

/// A value as text: UTF-8 or `None`, control characters except white space as spaces, trimmed (tornado 4.5,
/// `RequestHandler.get_argument`).
pub fn text(value: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match value {
        Cow::Borrowed(plain) => tidy(plain),
        Cow::Owned(decoded) => tidy(&decoded).map(|text| Cow::Owned(text.into_owned())),
    }
}

fn tidy(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(value).ok()?;
    if value.iter().any(|byte| matches!(byte, 0..=8 | 0x0e..=0x1f)) {
        let is_control = |c: char| matches!(c, '\0'..='\x08' | '\x0e'..='\x1f');
        return Some(Cow::Owned(text.replace(is_control, " ").trim().to_owned()));
    }
    Some(Cow::Borrowed(text.trim()))
}

fn raw_pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let parts = query
        .split(|&byte| byte == b'&' || byte == b';')
        .filter(|part| !part.is_empty());
    parts.map(|part| match part.iter().position(|&byte| byte == b'=') {
        Some(at) => (&part[..at], &part[at + 1..]),
        None => (part, &part[part.len()..]),
    })
}

/// Undoes `+` and `%XX` (`urllib.unquote_plus`). An escape that is not two hex digits stays as it is.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(plain) = raw.iter().position(|&byte| byte == b'+' || byte == b'%') else {
        return Cow::Borrowed(raw);
    };
    let mut out = Vec::with_capacity(raw.len());
    let (done, mut rest) = raw.split_at(plain);
    out.extend_from_slice(done);
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(match (byte, hex_pair(tail)) {
            (b'%', Some((escaped, after))) => {
                rest = after;
                escaped
            }
            (b'+', _) => b' ',
            _ => *byte,
        });
    }
    Cow::Owned(out)
}

/// The byte that two leading hex digits stand for, and what follows them.
fn hex_pair(raw: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = raw.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some(((digit(high)? << 4 | digit(low)?) as u8, after))
}

/// Appends `raw` encoded (`urllib.quote_plus`).
pub fn encode(out: &mut Vec<u8>, raw: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in raw {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// Writes pairs behind each other, with the right separator in front of each.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    separator: Option<u8>,
}

impl<'a> Encoder<'a> {
    /// The pairs go to the end of `out`, the first one without a separator.
    pub fn new(out: &'a mut Vec<u8>) -> Encoder<'a> {
        Encoder { out, separator: None }
    }

    /// `url` gets the pairs as its query, or as more of the query it already has (spec §16, fix 16). A URL that ends in
    /// `?` or `&` needs no further separator.
    pub fn extend_url(url: &'a mut Vec<u8>) -> Encoder<'a> {
        let separator = match (url.last(), url.contains(&b'?')) {
            (Some(b'?'), _) | (Some(b'&'), true) => None,
            (_, true) => Some(b'&'),
            (_, false) => Some(b'?'),
        };
        Encoder { out: url, separator }
    }

    /// Appends `name=value`, both encoded.
    pub fn pair(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.out.extend(self.separator);
        self.separator = Some(b'&');
        encode(self.out, name);
        self.out.push(b'=');
        encode(self.out, value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(query: &str) -> Vec<(String, String)> {
        let text = |bytes: Cow<'_, [u8]>| String::from_utf8_lossy(&bytes).into_owned();
        pairs(query.as_bytes())
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    fn expect(query: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        assert_eq!(all(query), expected, "{query}");
    }

    #[test]
    fn pairs_as_python_splits_them() {
        expect("", &[]);
        expect("&;&", &[]);
        expect("a=1&b=2;c=3", &[("a", "1"), ("b", "2"), ("c", "3")]);
        expect("a&b=&=c&=", &[("a", ""), ("b", ""), ("", "c"), ("", "")]);
        expect("a=b=c", &[("a", "b=c")]);
        expect("a+b=%20c%2B+", &[("a b", " c+ ")]);
        expect("a%3Db=c%26d", &[("a=b", "c&d")]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        let check = |raw: &str, expected: &[u8]| assert_eq!(*decode(raw.as_bytes()), *expected, "{raw}");
        check("%", b"%");
        check("%4", b"%4");
        check("%zz%+1", b"%zz% 1");
        check("%%41", b"%A");
        check("%aF%Af", b"\xaf\xaf");
        check("%00%ff", b"\0\xff");
        check("\u{e9}%c3%A9", "éé".as_bytes());
    }

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(decode(b"plain-text"), Cow::Borrowed(_)));
        assert!(matches!(decode(b"a+b"), Cow::Owned(_)));
    }

    #[test]
    fn repeated_parameters_first_or_last() {
        let query = b"x=1&%78=2&X=3&x=&y=4";
        assert_eq!(first(query, "x").as_deref(), Some(&b"1"[..]));
        assert_eq!(last(query, "x").as_deref(), Some(&b""[..]));
        assert_eq!(last(query, "z"), None);
        let [z, y, x] = lasts(query, ["z", "y", "x"]);
        assert_eq!((z, y.as_deref(), x.as_deref()), (None, Some(&b"4"[..]), Some(&b""[..])));
    }

    #[test]
    fn text_of_a_value() {
        let check = |raw: &[u8], expected: Option<&str>| assert_eq!(text(Cow::Borrowed(raw)).as_deref(), expected);
        check(b" \ta b\r\n", Some("a b"));
        check("\u{a0}gr\u{fc}n\u{3000}".as_bytes(), Some("grün"));
        check(b"\x00a\x1fb\x7f", Some("a b\x7f"));
        check(b"\x1c", Some(""));
        check(b"\xff", None);
    }

    #[test]
    fn encoding_as_python_does() {
        let mut out = Vec::new();
        Encoder::new(&mut out)
            .pair(b"a b", "~é/".as_bytes())
            .pair(b"x_.-", b"")
            .pair(b"%", b"+&=;");
        assert_eq!(out, b"a+b=%7E%C3%A9%2F&x_.-=&%25=%2B%26%3D%3B");
    }

    #[test]
    fn a_url_with_and_without_a_query() {
        let check = |url: &str, expected: &str| {
            let mut out = url.as_bytes().to_vec();
            Encoder::extend_url(&mut out).pair(b"a", b"1").pair(b"b", b"2");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("http://h/p", "http://h/p?a=1&b=2");
        check("http://h/p?", "http://h/p?a=1&b=2");
        check("http://h/p?k=v", "http://h/p?k=v&a=1&b=2");
        check("http://h/p?k=v&", "http://h/p?k=v&a=1&b=2");
        check("http://h/p&", "http://h/p&?a=1&b=2");
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(list in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8)) {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out);
            for (name, value) in &list {
                encoder.pair(name, value);
            }
            let back: Vec<_> = pairs(&out).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            prop_assert_eq!(back, list);
        }
    }
}
