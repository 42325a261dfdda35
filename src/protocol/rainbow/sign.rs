//! Signatures: how rainbow proves itself to the business, and how callers of the API prove themselves to rainbow.
//!
//! `signature` = lower-case hex SHA-1 of token, timestamp and nonce, sorted and concatenated. Python sorts by code point,
//! which is the byte order of UTF-8. There is no replay memory: only the time window limits reuse. Source: spec section 5.
//! Called by [`super::callback`], [`super::api`] and [`super::peer`].

use sha1::{Digest, Sha1};

use super::number;
use crate::wire::query;

/// Lower-case hex SHA-1.
pub type Signature = [u8; 40];

/// A caller's timestamp must be less than this far from our time, in microseconds.
const WINDOW_MICROS: i128 = 10_000_000;

/// What a caller's signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Genuine and in time.
    Genuine,
    /// A parameter is absent or not UTF-8: 400 with the html page.
    Incomplete,
    /// The timestamp is not an integer: 500 with the html page.
    NotANumber,
    /// Empty, outside the window, or wrong: 200 `signature error`.
    Refused,
}

/// The signature of a timestamp and a nonce, given as the text that is sent.
pub fn signature(token: &[u8], timestamp: &[u8], nonce: &[u8]) -> Signature {
    let mut parts = [token, timestamp, nonce];
    parts.sort_unstable();
    let mut sha = Sha1::new();
    for part in parts {
        sha.update(part);
    }
    hex(&sha.finalize().into())
}

fn hex(digest: &[u8; 20]) -> Signature {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = digest[at / 2];
        DIGITS[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

/// Checks the signature in a query string at `now_micros` microseconds since 1970.
pub fn check(query: &[u8], token: &[u8], now_micros: u64) -> Verdict {
    let text = |name| query::last(query, name).and_then(query::text);
    let (Some(timestamp), Some(nonce), Some(claimed)) = (text("timestamp"), text("nonce"), text("signature")) else {
        return Verdict::Incomplete;
    };
    if timestamp.is_empty() || nonce.is_empty() || claimed.is_empty() {
        return Verdict::Refused;
    }
    let Some(seconds) = number::int(&timestamp) else {
        return Verdict::NotANumber;
    };
    let expected = signature(token, timestamp.as_bytes(), nonce.as_bytes());
    if in_window(seconds, now_micros) && equal(&expected, claimed.as_bytes()) {
        Verdict::Genuine
    } else {
        Verdict::Refused
    }
}

fn in_window(seconds: i64, now_micros: u64) -> bool {
    (i128::from(seconds) * 1_000_000 - i128::from(now_micros)).abs() < WINDOW_MICROS
}

/// Compares in a time that depends on the length of `claimed` only.
fn equal(expected: &Signature, claimed: &[u8]) -> bool {
    if claimed.len() != expected.len() {
        return false;
    }
    let difference = expected.iter().zip(claimed).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// What signs our own requests: the token, the time, and a nonce.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The shared secret, UTF-8.
    pub token: &'a [u8],
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// As [`nonce`] makes it.
    pub nonce: u32,
}

impl Signer<'_> {
    /// Adds `timestamp`, `nonce` and `signature` to a query.
    pub fn sign(&self, query: &mut query::Encoder<'_>) {
        let (timestamp, nonce) = (self.unix_seconds.to_string(), self.nonce.to_string());
        let signature = signature(self.token, timestamp.as_bytes(), nonce.as_bytes());
        query.pair(b"timestamp", timestamp.as_bytes());
        query.pair(b"nonce", nonce.as_bytes());
        query.pair(b"signature", &signature);
    }
}

/// A nonce of the original's range, 1000..=99999, from any random number.
pub const fn nonce(random: u32) -> u32 {
    1000 + random % 99_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_420_000_000_250_000;

    fn signed(token: &str, timestamp: &str, nonce: &str) -> String {
        let signature = signature(token.as_bytes(), timestamp.as_bytes(), nonce.as_bytes());
        let mut out = Vec::new();
        query::Encoder::new(&mut out)
            .pair(b"timestamp", timestamp.as_bytes())
            .pair(b"nonce", nonce.as_bytes())
            .pair(b"signature", &signature);
        String::from_utf8(out).unwrap()
    }

    fn verdict(query: &str) -> Verdict {
        check(query.as_bytes(), b"testtoken", NOW)
    }

    #[test]
    fn the_table_of_section_5() {
        let good = signed("testtoken", "1420000000", "1234");
        assert_eq!(verdict(&good), Verdict::Genuine);
        for name in ["timestamp", "nonce", "signature"] {
            assert_eq!(
                verdict(&good.replace(name, "other")),
                Verdict::Incomplete,
                "{name} absent"
            );
            assert_eq!(verdict(&format!("{good}&{name}=")), Verdict::Refused, "{name} empty");
            assert_eq!(
                verdict(&format!("{good}&{name}=+%20")),
                Verdict::Refused,
                "{name} blank"
            );
            assert_eq!(
                verdict(&format!("{good}&{name}=%ff")),
                Verdict::Incomplete,
                "{name} not UTF-8"
            );
        }
        for timestamp in ["abc", "12.5", "1_000", "0x10", "- 5", "+"] {
            assert_eq!(
                verdict(&signed("testtoken", timestamp, "1")),
                Verdict::NotANumber,
                "{timestamp}"
            );
        }
        assert_eq!(
            verdict(&good.to_uppercase().replace("TIMESTAMP", "timestamp")),
            Verdict::Incomplete
        );
        assert_eq!(verdict(&signed("other", "1420000000", "1234")), Verdict::Refused);
        let (head, tail) = good.split_at(good.len() - 40);
        assert_eq!(verdict(&format!("{head}{}", tail.to_uppercase())), Verdict::Refused);
        assert_eq!(verdict(&format!("{head}{}", &tail[1..])), Verdict::Refused);
    }

    #[test]
    fn the_window_is_strict() {
        let at = |timestamp: &str, now| check(signed("t", timestamp, "n").as_bytes(), b"t", now);
        assert_eq!(at("1420000010", NOW), Verdict::Genuine);
        assert_eq!(at("1419999991", NOW), Verdict::Genuine);
        assert_eq!(at("1419999990", NOW), Verdict::Refused);
        assert_eq!(at("1420000011", NOW), Verdict::Refused);
        assert_eq!(
            at("1420000010", 1_420_000_000_000_000),
            Verdict::Refused,
            "a whole second"
        );
        assert_eq!(at("99999999999999999999999999", NOW), Verdict::Refused);
        assert_eq!(at("-99999999999999999999999999", NOW), Verdict::Refused);
    }

    #[test]
    fn the_text_as_sent_is_hashed() {
        for timestamp in ["+1420000000", "0001420000000"] {
            assert_eq!(
                verdict(&signed("testtoken", timestamp, "a b")),
                Verdict::Genuine,
                "{timestamp}"
            );
        }
        let spaced = signed("testtoken", "1420000000", "n").replace("=n", "=++n%20");
        assert_eq!(verdict(&spaced), Verdict::Genuine, "trimmed before hashing");
        assert_eq!(
            verdict(&signed("testtoken", "1420000000", "schlüssel")),
            Verdict::Genuine
        );
        let token = "geheimnis-ß";
        assert_eq!(
            check(signed(token, "1420000000", "1").as_bytes(), token.as_bytes(), NOW),
            Verdict::Genuine
        );
    }

    #[test]
    fn what_we_sign_we_accept() {
        for random in [0, 1, 98_999, 99_000, u32::MAX] {
            let nonce = nonce(random);
            assert!((1000..=99_999).contains(&nonce));
            let signer = Signer {
                token: b"testtoken",
                unix_seconds: 1_420_000_000,
                nonce,
            };
            let mut out = Vec::new();
            signer.sign(&mut query::Encoder::new(&mut out));
            assert_eq!(check(&out, b"testtoken", NOW), Verdict::Genuine);
        }
    }
}
