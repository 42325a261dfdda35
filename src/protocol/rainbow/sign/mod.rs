//! Signatures: how rainbow proves itself to the business and to its peers, and how callers of the API prove themselves to
//! rainbow. `docs/signature.md` is the specification for everybody else, with test vectors.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | which scheme and which secrets are in force, signing, checking |
//! | `sha1.rs` | the original's scheme: covers token, timestamp and nonce (spec section 5) |
//! | `hmac.rs` | covers method, target and body as well |
//! | `replay.rs` | remembers what was accepted, so that nothing is accepted twice |
//!
//! Both schemes carry `timestamp`, `nonce` and `signature` in the query. Secrets are compared in constant time, and all of
//! them are tried whichever fits. Pure: the time comes as an argument. Called by [`super::api`], [`super::relay`] and the
//! control core.

pub mod hmac;
pub mod replay;
pub mod sha1;

use std::borrow::Cow;
use std::cell::OnceCell;

use sha2::{Digest, Sha256};

pub use self::replay::Replays;
pub use self::sha1::{Signature, signature};
pub use crate::config::Scheme;

use super::number;
use crate::config::Config;
use crate::time::Duration;
use crate::wire::query;

/// A request as its signature sees it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// As sent, in upper case.
    pub method: &'a str,
    /// As sent, undecoded, without query.
    pub path: &'a [u8],
    /// As sent, undecoded, without `?`.
    pub query: &'a [u8],
    /// Transfer encoding removed.
    pub body: &'a [u8],
}

/// What a genuine request leaves behind, for [`Replays::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How it was signed.
    pub scheme: Scheme,
    /// When, in seconds since 1970; inside the window.
    pub timestamp: i64,
    /// Start of the signature.
    fingerprint: u64,
}

/// Why a request is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A parameter is absent or cannot be read: 400 with the html page.
    Incomplete,
    /// The timestamp is not an integer (SHA-1 only): 500 with the html page.
    NotANumber,
    /// Empty, changed on the way, or made with another secret: 200 `signature error`.
    Wrong,
    /// Its timestamp is this many seconds ahead of our clock (negative: behind), outside the window: 200 `signature error`.
    Stale(i64),
    /// Of a scheme that is not accepted: 200 `signature error`.
    Scheme,
    /// Accepted before: 200 `signature used before`.
    Used,
    /// Not later than something forgotten, so it may have been accepted before: 200 `signature too old`.
    TooOld,
    /// No more can be remembered: 200 `too many signatures`.
    NoRoom,
    /// Made by this server for others, or for another server: 200 `signature error`.
    Astray,
}

/// The secrets a signature may be made with.
#[derive(Clone, Copy, Debug)]
pub struct Secrets<'a> {
    /// `security_token`: the one we sign with.
    pub current: &'a [u8],
    /// `security_token_previous`, while secrets are being exchanged.
    pub previous: Option<&'a [u8]>,
}

impl<'a> Secrets<'a> {
    /// One secret.
    pub const fn one(current: &'a [u8]) -> Self {
        Self {
            current,
            previous: None,
        }
    }

    /// The digest that was `claimed` in hex, if one of the secrets makes it. Always tries them all.
    fn find<const BYTES: usize>(&self, claimed: &[u8], digest: impl Fn(&[u8]) -> [u8; BYTES]) -> Option<[u8; BYTES]> {
        let mut found = None;
        for secret in [Some(self.current), self.previous].into_iter().flatten() {
            let expected = digest(secret);
            if is_hex_of(claimed, &expected) {
                found = Some(expected);
            }
        }
        found
    }
}

/// What callers are measured by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Any of them will do.
    pub secrets: Secrets<'a>,
    /// Any of them will do.
    pub accept: &'a [Scheme],
    /// A timestamp must be less than this far from our time.
    pub window: Duration,
}

impl<'a> Rules<'a> {
    /// The rules of a configuration. Without `signature_accept` the scheme we sign with is the only one accepted.
    pub fn of(config: &'a Config) -> Self {
        let previous = config.security_token_previous.expose().as_bytes();
        let own: &[Scheme] = match config.signature {
            Scheme::Sha1 => &[Scheme::Sha1],
            Scheme::HmacSha256 => &[Scheme::HmacSha256],
        };
        let accept = &config.signature_accept[..];
        Self {
            secrets: Secrets {
                current: config.security_token.expose().as_bytes(),
                previous: (!previous.is_empty()).then_some(previous),
            },
            accept: if accept.is_empty() { own } else { accept },
            window: config.signature_window,
        }
    }

    /// Checks the signature of a request at `now_micros` microseconds since 1970. Whether it was used before is not
    /// looked at. A request that is not signed by an accepted scheme is refused, however good its signature.
    pub fn check(&self, request: &Signed<'_>, now_micros: u64) -> Result<Proof, Refusal> {
        self.check_body(request, &Body::new(request.body), now_micros)
    }

    /// The same for a body that may have been hashed as it arrived; `request.body` is not looked at.
    pub fn check_body(&self, request: &Signed<'_>, body: &Body<'_>, now_micros: u64) -> Result<Proof, Refusal> {
        match self.scheme_of(request.query)? {
            Some(parts) => hmac::check(self, request, parts, body, now_micros),
            None => self.check_sha1(request.query, now_micros),
        }
    }

    /// Checks what can be checked before the body has come. `None`: the signature covers the body, so [`Rules::check_body`]
    /// has to say, at the same `now_micros`; what does not depend on the body is in order.
    pub fn check_head(&self, query: &[u8], now_micros: u64) -> Result<Option<Proof>, Refusal> {
        match self.scheme_of(query)? {
            Some((signed, _)) => hmac::timestamp(self, signed, now_micros).map(|_| None),
            None => self.check_sha1(query, now_micros).map(Some),
        }
    }

    /// A good signature of the other scheme is worth nothing, but is not a wrong secret either.
    fn check_sha1(&self, query: &[u8], now_micros: u64) -> Result<Proof, Refusal> {
        sha1::check(self, query, now_micros).map_err(|refusal| match refusal {
            Refusal::Wrong if hmac::split(query).is_some() => Refusal::Scheme,
            refusal => refusal,
        })
    }

    /// The parts of a query signed with hmac-sha256, or `None` for sha1: whichever is accepted.
    fn scheme_of<'q>(&self, query: &'q [u8]) -> Result<Option<hmac::Parts<'q>>, Refusal> {
        match hmac::split(query) {
            Some(parts) if self.accept.contains(&Scheme::HmacSha256) => Ok(Some(parts)),
            _ if self.accept.contains(&Scheme::Sha1) => Ok(None),
            _ => Parameters::read(query).and(Err(Refusal::Scheme)),
        }
    }

    /// Whether a timestamp is close enough to our time.
    fn in_window(&self, seconds: i64, now_micros: u64) -> Result<(), Refusal> {
        let ahead = i128::from(seconds) * 1_000_000 - i128::from(now_micros);
        if ahead.unsigned_abs() < self.window.as_micros() {
            return Ok(());
        }
        Err(Refusal::Stale(seconds.saturating_sub_unsigned(now_micros / 1_000_000)))
    }
}

/// Timestamp and nonce of a request, as its signature has them.
pub fn timestamp_and_nonce(query: &[u8]) -> Option<(u64, u64)> {
    let Parameters { timestamp, nonce, .. } = Parameters::read(query).ok()?;
    Some((timestamp.parse().ok()?, nonce.parse().ok()?))
}

/// The three parameters as the original reads them; of repeated ones the last.
struct Parameters<'a> {
    timestamp: Cow<'a, str>,
    nonce: Cow<'a, str>,
    signature: Cow<'a, str>,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a [u8]) -> Result<Self, Refusal> {
        let [timestamp, nonce, signature] = query::lasts(query, ["timestamp", "nonce", "signature"]);
        Ok(Self {
            timestamp: text(timestamp)?,
            nonce: text(nonce)?,
            signature: text(signature)?,
        })
    }
}

fn text(value: Option<Cow<'_, [u8]>>) -> Result<Cow<'_, str>, Refusal> {
    value.and_then(query::text).ok_or(Refusal::Incomplete)
}

/// What signs our own requests.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// How.
    pub scheme: Scheme,
    /// The shared secret, UTF-8.
    pub secret: &'a [u8],
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// Any random number; the nonce is made of it.
    pub random: u64,
    /// For another server of the cluster: `random` is the nonce, so that we know it again (`cluster/rainbow/own.rs`).
    pub is_relay: bool,
}

impl<'a> Signer<'a> {
    /// The signer of a configuration.
    pub fn of(config: &'a Config, unix_seconds: u64, random: u64) -> Self {
        Self {
            scheme: config.signature,
            secret: config.security_token.expose().as_bytes(),
            unix_seconds,
            random,
            is_relay: false,
        }
    }

    /// Adds `timestamp`, `nonce` and `signature` to the target of a request, which must be final but for them: path, and
    /// query if there is one.
    pub fn sign(&self, method: &str, target: &mut Vec<u8>, body: &Body<'_>) {
        let timestamp = self.unix_seconds.to_string();
        let nonce = match self.scheme {
            _ if self.is_relay => self.random.to_string(),
            Scheme::Sha1 => sha1::nonce(self.random).to_string(),
            Scheme::HmacSha256 => format!("{:016x}", self.random),
        };
        query::Encoder::extend_url(target)
            .pair(b"timestamp", timestamp.as_bytes())
            .pair(b"nonce", nonce.as_bytes());
        let signature = match self.scheme {
            Scheme::Sha1 => hex(&sha1::digest(self.secret, timestamp.as_bytes(), nonce.as_bytes())),
            Scheme::HmacSha256 => hex(&hmac::digest(self.secret, method, &[target], &body.digest())),
        };
        target.extend_from_slice(b"&signature=");
        target.extend_from_slice(signature.as_bytes());
    }
}

/// A body with its SHA-256, computed at most once, and only if a scheme needs it.
#[derive(Debug, Default)]
pub struct Body<'a> {
    bytes: &'a [u8],
    digest: OnceCell<[u8; 32]>,
}

impl<'a> Body<'a> {
    /// The body of one or more requests.
    pub fn new(bytes: &'a [u8]) -> Self {
        let digest = OnceCell::new();
        Self { bytes, digest }
    }

    /// A body that was hashed as it arrived, if it was: no core stands still over a large one.
    pub fn hashed(bytes: &'a [u8], digest: Option<[u8; 32]>) -> Self {
        let digest = digest.map_or_else(OnceCell::new, OnceCell::from);
        Self { bytes, digest }
    }

    /// Its SHA-256.
    pub fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| Sha256::digest(self.bytes).into())
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte).map(char::from)).collect()
}

/// The two digits of a byte.
fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|four| DIGITS[usize::from(four)])
}

/// Whether `claimed` is the lower-case hex of `digest`, in a time that depends on the length of `claimed` only.
fn is_hex_of(claimed: &[u8], digest: &[u8]) -> bool {
    let (pairs, rest) = claimed.as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return false;
    }
    let difference = digest.iter().zip(pairs).fold(0, |sum, (byte, [high, low])| {
        let [a, b] = digits(*byte);
        sum | (a ^ high) | (b ^ low)
    });
    std::hint::black_box(difference) == 0
}

/// Start of a digest, enough to tell it from all others that are remembered.
fn fingerprint(digest: &[u8]) -> u64 {
    digest.first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
}

#[cfg(test)]
mod tests;
