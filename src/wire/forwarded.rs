//! `X-Forwarded-For`: which address a request came from, when it came through proxies.
//!
//! Every proxy appends the address it was connected from, so only the entries from the right end on are worth something:
//! the last one was written by our peer, and each further one by the proxy that the entry to its right names. The walk ends at
//! the first address that is no proxy of ours. Callers: `io`, for `connections_per_address` and the log.

use std::net::{IpAddr, SocketAddr};

/// Proxies in a row that are believed; more do not happen, and a list may be as long as a request head.
const HOPS_MAX: usize = 16;

/// The address of the client that `peer` forwards. `forwarded` is the header's value, repeated ones joined by commas.
/// An entry that is no address ends the walk at the address before it.
pub fn client_address(peer: IpAddr, forwarded: &[u8], is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut nearest = peer;
    for entry in forwarded.rsplit(|byte| *byte == b',').take(HOPS_MAX) {
        if !is_trusted(nearest) {
            break;
        }
        match address(entry) {
            Some(address) => nearest = address,
            None => break,
        }
    }
    nearest
}

/// An address, with or without port; IPv6 ones may stand in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let plain = bare.unwrap_or(text).parse::<IpAddr>();
    let address = plain
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &str) -> String {
        let is_trusted = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
        client_address(peer.parse().unwrap(), forwarded.as_bytes(), is_trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(seen("192.0.2.1", "198.51.100.1"), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(
            seen("10.0.0.1", "203.0.113.9, 198.51.100.1"),
            "198.51.100.1",
            "what the client claims"
        );
        assert_eq!(
            seen("10.0.0.1", "203.0.113.9,198.51.100.1, 10.0.0.2 ,10.0.0.3"),
            "198.51.100.1"
        );
        assert_eq!(seen("10.0.0.1", "10.0.0.2"), "10.0.0.2");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        assert_eq!(seen("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "198.51.100.1, unknown"), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "unknown, 10.0.0.2"), "10.0.0.2");
        assert_eq!(seen("10.0.0.1", "198.51.100.1,"), "10.0.0.1");
        let many = "10.0.0.2,".repeat(10_000) + "10.0.0.3";
        assert_eq!(seen("10.0.0.1", &format!("1.2.3.4,{many}")), "10.0.0.2");
    }

    #[test]
    fn ports_and_brackets() {
        assert_eq!(seen("10.0.0.1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", "2001:db8::1"), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", "::ffff:198.51.100.1"), "198.51.100.1");
    }
}
