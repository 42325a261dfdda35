//! PROXY protocol headers, and `X-Forwarded-For` behind them.

use crate::wire::forwarded::client_address;
use crate::wire::proxy::{DECIDING_BYTES, ProxyError, parse};
use std::net::{IpAddr, Ipv4Addr};

/// Longest header allowed: shorter than some of the corpus.
const LEN_MAX: usize = 4096;

/// Any bytes as the start of a connection: the verdict is the same however they arrive, comes with the last byte of a header at the
/// latest, never allows more than a header may have, and does not depend on what follows the header. The rest is read as a list
/// of forwarders.
pub fn proxy(data: &[u8]) {
    let parse = |bytes: &[u8]| parse(bytes, LEN_MAX);
    let verdict = parse(data);
    let decided = (0..=data.len().min(DECIDING_BYTES)).find(|len| !matches!(parse(&data[..*len]), Ok(None)));
    match decided {
        None => {
            assert_eq!(verdict, Ok(None));
            assert!(data.len() < DECIDING_BYTES);
        }
        Some(len) => assert_eq!(parse(&data[..len]), verdict, "decided after {len} bytes"),
    }
    let mut rest = data;
    if let Ok(Some(header)) = verdict {
        assert!(header.len <= LEN_MAX && decided.is_some_and(|decided| decided <= header.len));
        if data.starts_with(b"PROXY ") {
            assert_eq!(decided, Some(header.len), "a line is complete with its last byte");
        }
        if let Some(IpAddr::V4(source)) = header.source
            && data.starts_with(b"PROXY ")
        {
            let text = format!("PROXY TCP4 {source} ");
            assert!(data.starts_with(text.as_bytes()), "addresses are canonical");
        }
        // LOCAL, or an address that is none: nobody is named.
        if matches!(data.get(12..14), Some([0x20, _] | [0x21, 0x00 | 0x31 | 0x32])) && !data.starts_with(b"PROXY ") {
            assert_eq!(header.source, None);
        }
        rest = data.get(header.len..).unwrap_or_default();
    }
    if let Err(ProxyError::TooLong(len)) = verdict {
        assert!(len > LEN_MAX && len <= 16 + 0xffff);
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert_eq!(client_address(peer, rest, |_| false), peer);
    let seen = client_address(peer, rest, |address| address == peer);
    assert!(seen == peer || rest.len() >= 2, "an address needs bytes: {seen}");
}
