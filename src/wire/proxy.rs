//! PROXY protocol headers, versions 1 and 2: what a load balancer sends in front of everything else, so that the server
//! learns whose connection it forwards. Source: HAProxy's "The PROXY protocol", sections 2.1 and 2.2.
//!
//! Strict: exactly the forms the document gives, canonical addresses, no leading zeroes, one space between words; anything
//! else is an error and the connection ends. Of version 2 the additional fields (TLVs) are skipped. Bounds: a header of
//! version 1 has at most [`V1_BYTES_MAX`] bytes, one of version 2 at most [`BYTES_MAX`]. Caller: `io`, before anything else is
//! read from a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header of version 1, with its line end (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// Longest header accepted: version 2 with the largest address and 1.8 KiB of additional fields.
pub const BYTES_MAX: usize = 2048;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes; what follows belongs to the client.
    pub len: usize,
    /// Where the client is; `None` if the proxy speaks for itself (health checks) or does not know.
    pub source: Option<IpAddr>,
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// It begins like neither version.
    NoHeader,
    /// It has another form than the document allows.
    Malformed,
    /// It is longer than allowed.
    TooLong,
    /// Not a TCP connection over IPv4 or IPv6, or an unknown version or command.
    Unsupported,
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProxyError::NoHeader => "no PROXY header",
            ProxyError::Malformed => "malformed PROXY header",
            ProxyError::TooLong => "PROXY header too long",
            ProxyError::Unsupported => "PROXY header of an unknown kind",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads the header at the start of `bytes`; `None` if all of `bytes` belongs to it and more is to come.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if begins(bytes, V2_START) {
        return version_2(bytes);
    }
    if begins(bytes, V1_START) {
        return version_1(bytes);
    }
    Err(ProxyError::NoHeader)
}

/// Whether `bytes` begins with `start`, as far as it goes.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let len = bytes.len().min(start.len());
    bytes[..len] == start[..len]
}

fn version_1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        let is_full = window.len() == V1_BYTES_MAX;
        return if is_full { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
    let line = str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words = line.strip_prefix("PROXY ").ok_or(ProxyError::Malformed)?;
    Ok(Some(Header {
        len: end + 1,
        source: v1_source(words)?,
    }))
}

fn v1_source(words: &str) -> Result<Option<IpAddr>, ProxyError> {
    let mut words = words.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows up to the line end is to be ignored (section 2.1).
        return Ok(None);
    }
    let mut next = || words.next().ok_or(ProxyError::Malformed);
    let (source, target) = (next()?, next()?);
    let source = match family {
        "TCP4" => v1_address::<Ipv4Addr>(source, target)?.into(),
        "TCP6" => v1_address::<Ipv6Addr>(source, target)?.into(),
        _ => return Err(ProxyError::Unsupported),
    };
    for port in [next()?, next()?] {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
        if !is_number || port.parse::<u16>().is_err() {
            return Err(ProxyError::Malformed);
        }
    }
    if words.next().is_some() {
        return Err(ProxyError::Malformed);
    }
    Ok(Some(source))
}

/// Two addresses of one family; the first one.
fn v1_address<A: std::str::FromStr>(source: &str, target: &str) -> Result<A, ProxyError> {
    let read = |text: &str| text.parse::<A>().map_err(|_| ProxyError::Malformed);
    read(target)?;
    read(source)
}

fn version_2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    // What is wrong is said as soon as it is seen: a longer prefix of the same bytes never becomes right.
    let at = |index: usize| bytes.get(index).copied();
    let is_local = match at(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyError::Unsupported),
    };
    let family = match at(13) {
        None => return Ok(None),
        // LOCAL: the addresses are to be ignored, whatever they are (section 2.2).
        Some(_) if is_local => Family::Unknown,
        Some(0x00) => Family::Unknown,
        Some(0x11) => Family::V4,
        Some(0x21) => Family::V6,
        Some(_) => return Err(ProxyError::Unsupported),
    };
    let (Some(high), Some(low)) = (at(14), at(15)) else {
        return Ok(None);
    };
    let (rest, len) = (usize::from(u16::from_be_bytes([high, low])), V2_FIXED);
    if len + rest > BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let fixed = match family {
        Family::Unknown => 0,
        Family::V4 => 12,
        Family::V6 => 36,
    };
    if rest < fixed {
        return Err(ProxyError::Malformed);
    }
    let Some(body) = bytes.get(len..len + rest) else {
        return Ok(None);
    };
    let source = match family {
        Family::Unknown => None,
        Family::V4 => body.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        Family::V6 => body.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    };
    let len = len + rest;
    Ok(Some(Header { len, source }))
}

/// Address family of version 2.
enum Family {
    Unknown,
    V4,
    V6,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
        let header = parse(bytes)?.expect("a whole header");
        assert_eq!(header.len, bytes.len());
        Ok(header.source)
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u16).to_be_bytes();
        [V2_START, &[command, family][..], &len, body].concat()
    }

    #[test]
    fn version_1_of_the_document() {
        let ip = |text: &str| Ok(Some(text.parse::<IpAddr>().unwrap()));
        assert_eq!(
            source(b"PROXY TCP4 255.255.255.255 1.2.3.4 65535 65535\r\n"),
            ip("255.255.255.255")
        );
        assert_eq!(source(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n"), ip("2001:db8::1"));
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), Ok(None));
        let longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(source(longest), Ok(None));
        let with_more = parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET / HTTP/1.1\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(with_more.len, 32);
    }

    #[test]
    fn version_1_is_strict() {
        for line in [
            "PROXY",
            "PROXY ",
            "PROXY TCP4",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 ",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.04 1.2.3.4 1 1",
            "PROXY TCP4 ::1 1.2.3.4 1 1",
            "PROXY TCP6 1.2.3.4 ::1 1 1",
            "PROXY TCP6 ::1 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 ",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 1",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \u{e9}",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 1",
            "GET / HTTP/1.1",
        ] {
            assert!(parse(format!("{line}\r\n").as_bytes()).is_err(), "{line:?}");
        }
        let bare = parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n");
        assert_eq!(bare, Err(ProxyError::Malformed), "a line end without CR");
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        assert_eq!(parse(endless.as_bytes()), Err(ProxyError::TooLong));
        assert_eq!(parse(&endless.as_bytes()[..V1_BYTES_MAX - 1]), Ok(None));
    }

    #[test]
    fn version_2_of_the_document() {
        let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0, 80, 0, 81]].concat();
        assert_eq!(source(&v2(0x21, 0x11, &v4)), Ok(Some("192.0.2.7".parse().unwrap())));
        let mut v6 = [0u8; 36];
        v6[15] = 9;
        assert_eq!(source(&v2(0x21, 0x21, &v6)), Ok(Some("::9".parse().unwrap())));
        let with_fields = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        assert_eq!(
            source(&v2(0x21, 0x11, &with_fields)),
            Ok(Some("192.0.2.7".parse().unwrap()))
        );
        for local in [
            v2(0x20, 0, &[]),
            v2(0x20, 0x11, &v4),
            v2(0x20, 0x99, b"x"),
            v2(0x21, 0, b"any"),
        ] {
            assert_eq!(source(&local), Ok(None));
        }
    }

    #[test]
    fn version_2_is_strict() {
        let body = [0; 216];
        for (command, family, error) in [
            (0x22, 0x11, ProxyError::Unsupported),
            (0x11, 0x11, ProxyError::Unsupported),
            (0x21, 0x12, ProxyError::Unsupported),
            (0x21, 0x31, ProxyError::Unsupported),
        ] {
            assert_eq!(parse(&v2(command, family, &body)), Err(error));
        }
        assert_eq!(parse(&v2(0x21, 0x11, &body[..11])), Err(ProxyError::Malformed));
        assert_eq!(parse(&v2(0x21, 0x21, &body[..35])), Err(ProxyError::Malformed));
        assert!(parse(&v2(0x21, 0x11, &[0; BYTES_MAX - V2_FIXED])).is_ok());
        assert_eq!(
            parse(&v2(0x21, 0x11, &[0; BYTES_MAX - V2_FIXED + 1])),
            Err(ProxyError::TooLong)
        );
        assert_eq!(parse(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(ProxyError::NoHeader));
    }

    #[test]
    fn a_prefix_asks_for_more() {
        let v4 = v2(0x21, 0x11, &[1; 20]);
        for whole in [&b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[..], &v4] {
            for len in 0..whole.len() {
                assert_eq!(parse(&whole[..len]), Ok(None), "{len} bytes");
            }
            assert!(parse(whole).unwrap().is_some());
        }
    }
}
