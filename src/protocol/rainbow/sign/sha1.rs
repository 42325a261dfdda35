//! The original's scheme: `signature` = lower-case hex SHA-1 of token, timestamp and nonce, sorted and concatenated.
//!
//! Python sorts by code point, which is the byte order of UTF-8. The request itself is not covered. Source: spec section 5.

use sha1::{Digest, Sha1};

use super::{Parameters, Proof, Refusal, Rules, Scheme, fingerprint, hex, number};

/// Lower-case hex SHA-1.
pub type Signature = [u8; 40];

/// The signature of a timestamp and a nonce, given as the text that is sent.
pub fn signature(token: &[u8], timestamp: &[u8], nonce: &[u8]) -> Signature {
    let hex = hex(&digest(token, timestamp, nonce));
    std::array::from_fn(|at| hex.as_bytes()[at])
}

/// The same, raw.
pub(super) fn digest(token: &[u8], timestamp: &[u8], nonce: &[u8]) -> [u8; 20] {
    let mut parts = [token, timestamp, nonce];
    parts.sort_unstable();
    let mut sha = Sha1::new();
    for part in parts {
        sha.update(part);
    }
    sha.finalize().into()
}

/// A nonce of the original's range, 1000..=99999, from any random number.
pub const fn nonce(random: u64) -> u64 {
    1000 + random % 99_000
}

/// Checks in the original's order.
pub(super) fn check(rules: &Rules<'_>, query: &[u8], now_micros: u64) -> Result<Proof, Refusal> {
    let Parameters {
        timestamp,
        nonce,
        signature,
    } = Parameters::read(query)?;
    if timestamp.is_empty() || nonce.is_empty() || signature.is_empty() {
        return Err(Refusal::Wrong);
    }
    let seconds = number::int(&timestamp).ok_or(Refusal::NotANumber)?;
    let found = rules.secrets.find(signature.as_bytes(), |token| {
        digest(token, timestamp.as_bytes(), nonce.as_bytes())
    });
    let found = found.ok_or(Refusal::Wrong)?;
    rules.in_window(seconds, now_micros)?;
    Ok(Proof {
        scheme: Scheme::Sha1,
        timestamp: seconds,
        fingerprint: fingerprint(&found),
    })
}
