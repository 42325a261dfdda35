//! What of a client's request reaches `connect_url`: its headers, and parameters of its query as headers (docs/headers.md).
//!
//! This is the place where nothing may get in that frames the request, pretends to be this server, or takes the word of a
//! proxy out of its mouth. Invariants of the block that comes out:
//!
//! * No two lines have the same name, `-` and `_` counted as equal.
//! * A header of the request stands over a parameter, and a name with `-` over one with `_`: an edge that sets or deletes
//!   `X-Forwarded-For` need not know of a query or of `X_Forwarded_For`.
//! * Which other names a client may claim is the settings' affair ([`QueryHeaders`]).
//!
//! Source: spec section 4. Pure. Called by [`super::connect`].

use hashbrown::HashSet;

use crate::config::QueryHeaders;
use crate::config::headers::{fold, is_ours};
use crate::engine::ids::Identity;
use crate::wire::http1::{self, Headers};

/// Bytes of a parameter's name that a warning repeats.
const SHOWN_BYTES_MAX: usize = 40;

/// Names and values of a query, decoded.
pub(super) type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// The header lines of a question.
pub(super) struct Block {
    /// Each ended by CRLF, the identity last.
    pub(super) lines: Vec<u8>,
    /// The first parameter that is a header nowhere because the settings do not let a client claim its name.
    pub(super) withheld: Option<String>,
}

/// Parameters, then headers in their order, then the identity.
pub(super) fn block(headers: &Headers, parameters: &Parameters, identity: &Identity, rules: &QueryHeaders) -> Block {
    let mut lines = Vec::with_capacity(512);
    let mut withheld = None;
    let names: Vec<(&[u8], Vec<u8>)> = headers.names().map(|name| (name, fold(name))).collect();
    // Nearly all clients send no parameters, or no name with `_`: then the set is not made.
    let folded_names = |wanted: bool, which: fn(&[u8]) -> bool| -> HashSet<&[u8]> {
        let some = names.iter().filter(|(name, _)| wanted && which(name));
        some.map(|(_, folded)| &folded[..]).collect()
    };
    let sent = folded_names(!parameters.is_empty(), |_| true);
    let plain = folded_names(names.iter().any(|(name, _)| !is_plain(name)), is_plain);
    let mut copied = HashSet::new();
    for (name, value) in parameters {
        if !http1::is_token(name) || value.iter().any(u8::is_ascii_control) {
            continue;
        }
        let folded = fold(name);
        if is_ours(&folded) || sent.contains(&folded[..]) {
            continue;
        }
        if !rules.may_copy(&folded) {
            withheld = withheld.or_else(|| Some(shown(name)));
        } else if copied.insert(folded) {
            http1::push_header(&mut lines, &capitalised(name), value);
        }
    }
    // A parameter that was copied has the name of no header.
    let mut written: HashSet<&[u8]> = HashSet::with_capacity(names.len());
    for (name, folded) in &names {
        let passes = if is_plain(name) {
            !is_ours(folded) && !is_of_the_upgrade(folded)
        } else {
            !plain.contains(&folded[..]) && !is_of_the_upgrade(folded) && rules.may_pass(folded)
        };
        if passes && written.insert(folded) {
            http1::push_header(&mut lines, &capitalised(name), &joined(headers, name));
        }
    }
    http1::push_header(&mut lines, b"Rainbowclientidentity", identity);
    Block { lines, withheld }
}

/// Nobody takes it for another name.
fn is_plain(name: &[u8]) -> bool {
    !name.contains(&b'_')
}

/// The lines of one header as one value. Cookies are separated by `;` (RFC 6265 §5.4), everything else by `,`.
fn joined(headers: &Headers, name: &[u8]) -> Vec<u8> {
    if name.eq_ignore_ascii_case(b"cookie") {
        return headers.all(name).collect::<Vec<_>>().join(&b"; "[..]);
    }
    headers.joined(name).unwrap_or_default()
}

/// What the original does not pass either: said to this server, or about the page that connects.
fn is_of_the_upgrade(folded: &[u8]) -> bool {
    matches!(folded, b"origin" | b"sec-websocket-key" | b"sec-websocket-version")
}

/// A name for the log.
fn shown(name: &[u8]) -> String {
    let short = name.get(..SHOWN_BYTES_MAX).unwrap_or(name);
    String::from_utf8_lossy(short).into_owned()
}

/// `X-DEVICEID` → `X-Deviceid`: how the original spells header names.
pub(super) fn capitalised(name: &[u8]) -> Vec<u8> {
    let mut start = true;
    let spelled = name.iter().map(|byte| {
        let spelled = if start {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        };
        start = *byte == b'-';
        spelled
    });
    spelled.collect()
}
