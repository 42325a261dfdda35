//! PROXY protocol headers, and `X-Forwarded-For` behind them.

use crate::wire::forwarded::client_address;
use crate::wire::proxy::{BYTES_MAX, parse};
use std::net::{IpAddr, Ipv4Addr};

/// Any bytes as the start of a connection: the verdict is the same however they arrive, never asks for more than a header
/// may have, and does not depend on what follows the header. The rest is read as a list of forwarders.
pub fn proxy(data: &[u8]) {
    let verdict = parse(data);
    let decided = (0..=data.len()).find(|len| !matches!(parse(&data[..*len]), Ok(None)));
    match decided {
        None => {
            assert_eq!(verdict, Ok(None));
            assert!(data.len() < BYTES_MAX);
        }
        Some(len) => assert_eq!(parse(&data[..len]), verdict, "decided after {len} bytes"),
    }
    let mut rest = data;
    if let Ok(Some(header)) = verdict {
        assert!(header.len <= data.len().min(BYTES_MAX));
        assert_eq!(decided, Some(header.len), "a header is complete with its last byte");
        assert_eq!(parse(&data[..header.len]), verdict);
        if let Some(IpAddr::V4(source)) = header.source
            && data.starts_with(b"PROXY ")
        {
            let text = format!("PROXY TCP4 {source} ");
            assert!(data.starts_with(text.as_bytes()), "addresses are canonical");
        }
        rest = &data[header.len..];
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert_eq!(client_address(peer, rest, |_| false), peer);
    let seen = client_address(peer, rest, |address| address == peer);
    assert!(seen == peer || rest.len() >= 2, "an address needs bytes: {seen}");
}
