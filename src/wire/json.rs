//! JSON as doors read and write it: the few top-level fields of a small object in, strings out in the style of Python's
//! `json.dumps` (everything but printable ASCII escaped). `<`, `>` and `&` are escaped as well: an answer may be declared as
//! html, as in the original, and carries what strangers wrote.
//!
//! Invariants: reading does not recurse (the tape is a flat list, nesting is limited to 1024) and its memory is a multiple
//! of the body, whose size every caller bounds. Of a repeated key the last one counts, as in Python; what only Python
//! calls JSON (`NaN`, `Infinity`, numbers beyond `f64`) is refused. Source: spec sections
//! 3, 10 and 12. Callers: the doors, and what speaks for them (cluster, demo).

use simd_json::prelude::*;
use simd_json::tape;

/// Longest JSON text read of a business answer, a request body or a peer's short answer, in bytes; a longer one counts as
/// not readable. The tape takes up to 12 times as much for the time of the call.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// One field of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction, as far as `i64` goes.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array or an object, and whether it has elements.
    Nested(bool),
}

impl Field {
    /// Python's truth value.
    pub fn is_truthy(&self) -> bool {
        match self {
            Field::Null => false,
            Field::Bool(is) | Field::Nested(is) => *is,
            Field::Integer(value) => *value != 0,
            Field::Float(value) => *value != 0.0,
            Field::Text(text) => !text.is_empty(),
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is a count.
    pub fn count(&self) -> Option<u64> {
        match self {
            Field::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }
}

impl From<tape::Value<'_, '_>> for Field {
    fn from(value: tape::Value<'_, '_>) -> Self {
        if value.is_null() {
            return Field::Null;
        }
        let text = || value.as_str().map(|text| Field::Text(text.to_owned()));
        let number = || {
            value
                .as_i64()
                .map(Field::Integer)
                .or_else(|| value.cast_f64().map(Field::Float))
        };
        let has_elements = || {
            value.as_array().is_some_and(|list| !list.is_empty())
                || value.as_object().is_some_and(|object| !object.is_empty())
        };
        let known = value.as_bool().map(Field::Bool).or_else(text).or_else(number);
        known.unwrap_or_else(|| Field::Nested(has_elements()))
    }
}

/// The named fields of a JSON object. `None` if `text` is longer than [`JSON_BYTES_MAX`], not JSON, not UTF-8 (a byte
/// order mark included), or not an object.
pub fn fields<const N: usize>(text: &[u8], names: [&str; N]) -> Option<[Option<Field>; N]> {
    fields_within(text, JSON_BYTES_MAX, names)
}

/// [`fields`] with a limit of its own, in bytes.
pub fn fields_within<const N: usize>(text: &[u8], bytes_max: usize, names: [&str; N]) -> Option<[Option<Field>; N]> {
    with_value(text, bytes_max, |value| {
        let object = value.as_object()?;
        let mut found = [const { None }; N];
        for (key, value) in object.iter() {
            if let Some(at) = names.iter().position(|name| *name == key) {
                found[at] = Some(value);
            }
        }
        Some(found.map(|value| value.map(Field::from)))
    })
}

/// Parses up to `bytes_max` bytes and looks at the result.
pub fn with_value<T>(text: &[u8], bytes_max: usize, look: impl FnOnce(tape::Value<'_, '_>) -> Option<T>) -> Option<T> {
    if text.len() > bytes_max {
        return None;
    }
    let mut scratch = text.to_vec(); // strings are unescaped in place
    if let Ok(tape) = simd_json::to_tape(&mut scratch) {
        return look(tape.as_value());
    }
    let mut scratch = text.to_vec();
    if !mend_surrogates(&mut scratch) {
        return None;
    }
    look(simd_json::to_tape(&mut scratch).ok()?.as_value())
}

/// Makes `\ufffd` of every escaped surrogate that has no partner: Python writes and reads them (a nickname cut in the
/// middle of an emoji), the parser does not. False if there is none.
fn mend_surrogates(text: &mut [u8]) -> bool {
    let mut mended = false;
    let mut at = 0;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b'\\'))
    {
        at += found;
        let next = unit(text, at + 6);
        at += match unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(next, Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                text[at..at + 6].copy_from_slice(b"\\ufffd");
                mended = true;
                6
            }
            Some(_) => 6,
            None => 2,
        };
    }
    mended
}

/// The UTF-16 unit escaped at `at`.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits
        .iter()
        .try_fold(0, |unit, digit| Some(unit << 4 | (*digit as char).to_digit(16)? as u16))
}

/// Appends `text` as a JSON string; bytes that are not UTF-8 become U+FFFD.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' => push_escaped(out, c),
            ' '..='~' => out.push(c as u8),
            _ => push_escaped(out, c),
        }
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, c: char) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(*unit >> shift & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Option<Option<Field>> {
        fields(text.as_bytes(), ["a"]).map(|[field]| field)
    }

    #[test]
    fn fields_of_every_kind() {
        let text = |text: &str| Field::Text(text.to_owned());
        let cases = [
            ("null", Field::Null, false),
            ("true", Field::Bool(true), true),
            ("false", Field::Bool(false), false),
            ("0", Field::Integer(0), false),
            ("-3", Field::Integer(-3), true),
            ("0.0", Field::Float(0.0), false),
            ("1.5", Field::Float(1.5), true),
            ("\"\"", text(""), false),
            ("\"0\"", text("0"), true),
            ("\"\\u4f60\\n\"", text("你\n"), true),
            ("[]", Field::Nested(false), false),
            ("[0]", Field::Nested(true), true),
            ("{}", Field::Nested(false), false),
            ("{\"a\": 1}", Field::Nested(true), true),
            ("18446744073709551615", Field::Float(18_446_744_073_709_551_615.0), true),
            (
                "123456789012345678901234567890",
                Field::Float(1.234_567_890_123_456_8e29),
                true,
            ),
        ];
        for (json, field, truthy) in cases {
            assert_eq!(field.is_truthy(), truthy, "{json}");
            assert_eq!(
                one(&format!(" {{\"b\": [1], \"a\": {json}}}\n")),
                Some(Some(field)),
                "{json}"
            );
        }
        assert_eq!(one("{}"), Some(None));
        assert_eq!(one("{\"b\": {\"a\": 1}}"), Some(None), "top level only");
        assert_eq!(
            one("{\"a\": 1, \"a\": 2}"),
            Some(Some(Field::Integer(2))),
            "the last one counts"
        );
    }

    #[test]
    fn anything_but_an_object_is_none() {
        for text in [
            "",
            " ",
            "{",
            "[]",
            "5",
            "null",
            "\"s\"",
            "ok",
            "identity=1",
            "{}{}",
            "{\"a\": }",
            "\u{feff}{}",
        ] {
            assert_eq!(one(text), None, "{text:?}");
        }
        assert_eq!(fields(b"{\"a\": \"\xff\"}", ["a"]), None);
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(JSON_BYTES_MAX));
        assert_eq!(one(&long), None);
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        let read =
            |json: &str| one(&format!("{{\"a\": \"{json}\"}}")).and_then(|field| field?.text().map(str::to_owned));
        assert_eq!(read(r"x\ud83d").as_deref(), Some("x\u{fffd}"));
        assert_eq!(
            read(r"\ude00\ud83d\ude00\ud83dx").as_deref(),
            Some("\u{fffd}😀\u{fffd}x")
        );
        assert_eq!(read(r"\\ud83d\n").as_deref(), Some("\\ud83d\n"), "an escaped backslash");
        assert_eq!(read(r"\ud83d\ud8"), None);
        assert_eq!(read(r"\ud83d\"), None);
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        for depth in [10_000, 400_000] {
            assert_eq!(one(&format!("{{\"a\": {}", "[".repeat(depth))), None);
            assert_eq!(
                one(&format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth))),
                None
            );
            assert_eq!(one(&"{\"a\":".repeat(depth)), None);
        }
        let fine = format!("{{\"a\": {}{}}}", "[".repeat(900), "]".repeat(900));
        assert_eq!(one(&fine), Some(Some(Field::Nested(true))));
    }

    #[test]
    fn strings_as_python_writes_them() {
        let mut out = Vec::new();
        push_string(&mut out, "a\"\\/\n\r\t\u{8}\u{c}\0\u{7f}é你😀".as_bytes());
        assert_eq!(out, br#""a\"\\/\n\r\t\b\f\u0000\u007f\u00e9\u4f60\ud83d\ude00""#);
        out.clear();
        push_string(&mut out, b"a\xffb");
        assert_eq!(out, br#""a\ufffdb""#);
    }

    #[test]
    fn what_is_written_is_no_markup() {
        let mut out = Vec::new();
        push_string(&mut out, b"<script>&</script>");
        assert_eq!(out, br#""\u003cscript\u003e\u0026\u003c/script\u003e""#);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>()) {
            let mut json = b"{\"a\": ".to_vec();
            push_string(&mut json, text.as_bytes());
            json.push(b'}');
            prop_assert!(json.is_ascii());
            prop_assert_eq!(fields(&json, ["a"]), Some([Some(Field::Text(text))]));
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = fields(&text, ["a"]);
        }
    }
}
