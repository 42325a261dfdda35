//! Integers in query strings, read as Python's `int()` reads them.
//!
//! White space around the digits, one sign and leading zeros are fine; underscores, fractions and an empty text are not.
//! Numbers beyond `i64` saturate: Python's are unbounded, and no parameter means anything there. Source: spec sections 5
//! and 10.

/// The integer `text` spells, or `None` where Python raises `ValueError`.
pub fn int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digit = |digit: u8| i64::from(digit - b'0');
    let size = digits
        .bytes()
        .fold(0_i64, |sum, d| sum.saturating_mul(10).saturating_add(digit(d)));
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::int;

    #[test]
    fn as_python_reads_them() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            (" 12 ", 12),
            ("\t-3\n", -3),
            ("007", 7),
            ("65536", 65_536),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", -i64::MAX),
        ];
        for (text, value) in cases {
            assert_eq!(int(text), Some(value), "{text:?}");
        }
        for text in [
            "", " ", "a", "1.0", "1.5", "1 2", "1_0", "--1", "+-1", "0x1", "1e3", "12L", "-", "１",
        ] {
            assert_eq!(int(text), None, "{text:?}");
        }
    }
}
