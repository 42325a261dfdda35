//! The scheme `hmac-sha256`.
//!
//! ```text
//! signature = hex(HMAC-SHA256(secret, text))        text, four parts with LF between them:
//!   rainbow-hmac-sha256
//!   POST                                              method
//!   /send/?channel=room&timestamp=1420000000&nonce=f3 path and query as sent, up to `&signature=`
//!   2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e… hex SHA-256 of the body
//! ```
//! `&signature=` and 64 lower-case hex digits end the target: nothing but the signature is left out of it, so there is no
//! canonical form to agree on. No part can contain LF. Source: ours; RFC 2104, FIPS 180-4.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Body, Proof, Refusal, Rules, Scheme, Signed, fingerprint, hex, number, text};
use crate::wire::query;

/// First line of what is signed.
const LABEL: &[u8] = b"rainbow-hmac-sha256";
/// What stands in front of the signature.
const MARK: &[u8] = b"&signature=";
/// Hex digits of a signature.
const SIGNATURE_DIGITS: usize = 64;

/// The signature of a request, raw. The target is given in pieces.
pub fn digest(secret: &[u8], method: &str, target: &[&[u8]], body_sha256: &[u8; 32]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        // Not for HMAC, which takes keys of any length (RFC 2104 §2).
        unreachable!("a key of any length will do");
    };
    mac.update(LABEL);
    mac.update(b"\n");
    mac.update(method.as_bytes());
    mac.update(b"\n");
    target.iter().for_each(|piece| mac.update(piece));
    mac.update(b"\n");
    mac.update(hex(body_sha256).as_bytes());
    mac.finalize().into_bytes().into()
}

/// A query in this scheme: what is signed of it, and the signature.
pub(super) type Parts<'q> = (&'q [u8], &'q [u8]);

/// The parts of a query that ends in a signature of this scheme.
pub(super) fn split(query: &[u8]) -> Option<Parts<'_>> {
    let at = query.len().checked_sub(SIGNATURE_DIGITS)?;
    let (front, claimed) = query.split_at_checked(at)?;
    let is_hex = claimed.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then_some((front.strip_suffix(MARK)?, claimed))
}

/// The timestamp of a query, of which `signed` is what [`split`] made of it; inside the window.
pub(super) fn timestamp(rules: &Rules<'_>, signed: &[u8], now_micros: u64) -> Result<i64, Refusal> {
    let [timestamp, nonce] = query::lasts(signed, ["timestamp", "nonce"]);
    let (timestamp, nonce) = (text(timestamp)?, text(nonce)?);
    let timestamp = number::int(&timestamp).ok_or(Refusal::Incomplete)?;
    if nonce.is_empty() {
        return Err(Refusal::Wrong);
    }
    rules.in_window(timestamp, now_micros).map(|()| timestamp)
}

/// `parts` as [`split`] made them.
pub(super) fn check(
    rules: &Rules<'_>,
    request: &Signed<'_>,
    (signed, claimed): Parts<'_>,
    body: &Body<'_>,
    now_micros: u64,
) -> Result<Proof, Refusal> {
    let timestamp = timestamp(rules, signed, now_micros)?;
    let target = [request.path, b"?", signed];
    let found = rules.secrets.find(claimed, |secret| {
        digest(secret, request.method, &target, &body.digest())
    });
    let found = found.ok_or(Refusal::Wrong)?;
    Ok(Proof {
        scheme: Scheme::HmacSha256,
        timestamp,
        fingerprint: fingerprint(&found),
    })
}
