//! PROXY protocol headers, versions 1 and 2: what a load balancer sends in front of everything else, so that the server
//! learns whose connection it forwards. Source: HAProxy's "The PROXY protocol", sections 2.1 and 2.2.
//!
//! Strict: exactly the forms the document gives, canonical addresses, no leading zeroes, one space between words; anything
//! else is an error and the connection ends. Of version 2, whose headers are up to 64 KiB long, everything behind the source
//! address is skipped: the additional fields (TLVs) of HAProxy, AWS and Azure tell nothing that is needed here.
//!
//! [`parse`] decides by the first [`DECIDING_BYTES`] at the latest, so nobody has to keep a whole header. Caller: `io`, before
//! anything else is read from a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header of version 1, with its line end (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// So many bytes of a connection always say whether it begins with a header, and with which.
pub const DECIDING_BYTES: usize = V1_BYTES_MAX;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes, which may be more than was looked at; what follows belongs to the client.
    pub len: usize,
    /// Where the client is; `None` if the proxy speaks for itself (health checks), does not know, or forwards something that
    /// has no IP address: the connection's own address stands.
    pub source: Option<IpAddr>,
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// It begins like neither version.
    NoHeader,
    /// It has another form than the document allows.
    Malformed,
    /// One of version 2, of so many bytes: more than the caller allows.
    TooLong(usize),
    /// A version, command, address family or protocol that the document does not have.
    Unsupported,
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProxyError::NoHeader => "no PROXY header",
            ProxyError::Malformed => "malformed PROXY header",
            ProxyError::TooLong(_) => "PROXY header too long",
            ProxyError::Unsupported => "PROXY header of an unknown kind",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads the header at the start of `bytes`, of which one of version 2 may have `len_max` bytes; `None`: more bytes are
/// needed to tell.
pub fn parse(bytes: &[u8], len_max: usize) -> Result<Option<Header>, ProxyError> {
    if begins(bytes, V2_START) {
        return version_2(bytes, len_max);
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
        return if is_full { Err(ProxyError::Malformed) } else { Ok(None) };
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

fn version_2(bytes: &[u8], len_max: usize) -> Result<Option<Header>, ProxyError> {
    // What is wrong is said as soon as it is seen: a longer prefix of the same bytes never becomes right.
    let at = |index: usize| bytes.get(index).copied();
    let is_local = match at(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyError::Unsupported),
    };
    let address = match at(13) {
        None => return Ok(None),
        // LOCAL: the addresses are to be ignored, whatever they are (section 2.2).
        Some(_) if is_local => Address::Unknown,
        Some(family) => Address::of(family)?,
    };
    let (Some(high), Some(low)) = (at(14), at(15)) else {
        return Ok(None);
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let len = V2_FIXED + rest;
    if len > len_max {
        return Err(ProxyError::TooLong(len));
    }
    if rest < address.bytes() {
        return Err(ProxyError::Malformed);
    }
    let body = bytes.get(V2_FIXED..).unwrap_or_default();
    let source = match address {
        Address::Unknown | Address::Unix => None,
        Address::V4 => match body.first_chunk::<4>() {
            Some(octets) => Some(IpAddr::from(*octets)),
            None => return Ok(None),
        },
        Address::V6 => match body.first_chunk::<16>() {
            Some(octets) => Some(IpAddr::from(*octets)),
            None => return Ok(None),
        },
    };
    Ok(Some(Header { len, source }))
}

/// What the addresses of version 2 are.
#[derive(Clone, Copy)]
enum Address {
    /// None are told, or none that mean anything here.
    Unknown,
    V4,
    V6,
    Unix,
}

impl Address {
    /// By the byte of family (upper half) and protocol: stream and datagram have the same addresses. Who does not say the
    /// family or the protocol means nothing by the addresses; other values must be refused (section 2.2).
    fn of(byte: u8) -> Result<Self, ProxyError> {
        match (byte >> 4, byte & 0xf) {
            (0..=3, 0) | (0, 1 | 2) => Ok(Address::Unknown),
            (1, 1 | 2) => Ok(Address::V4),
            (2, 1 | 2) => Ok(Address::V6),
            (3, 1 | 2) => Ok(Address::Unix),
            _ => Err(ProxyError::Unsupported),
        }
    }

    /// Bytes that source and target, with their ports, have at least.
    fn bytes(self) -> usize {
        match self {
            Address::Unknown => 0,
            Address::V4 => 12,
            Address::V6 => 36,
            Address::Unix => 216,
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
