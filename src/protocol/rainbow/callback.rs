//! Header blocks of the requests to the business server (spec: section 4). The session builds them, the control core adds
//! what belongs to a call: URL, signature, framing.

use crate::engine::hook::HookDoor;
use crate::engine::ids::Identity;
use crate::wire::http1;

/// The number of this door among those with hooks.
pub const HOOKS: HookDoor = HookDoor(0);

/// Header lines of message and close callbacks: the identity, and the cookie if one is set.
pub fn client_headers(identity: &Identity, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + cookie.map_or(0, |cookie| cookie.len() + 24));
    http1::push_header(&mut out, b"Rainbowclientidentity", identity);
    if let Some(cookie) = cookie {
        http1::push_header(&mut out, b"Rainbowclientcookie", cookie);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_optional() {
        let identity = [b'a'; 64];
        let line = format!("Rainbowclientidentity: {}\r\n", "a".repeat(64));
        assert_eq!(client_headers(&identity, None), line.as_bytes());
        let both = format!("{line}Rainbowclientcookie: c1,c2\r\n");
        assert_eq!(client_headers(&identity, Some(b"c1,c2")), both.as_bytes());
    }
}
