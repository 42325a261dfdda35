//! The PROXY header of a connection: awaited, taken to its last byte and not a byte further, or refused.
//!
//! Nothing of it is kept but what decides ([`proxy::DECIDING_BYTES`]); the rest is received into a small buffer and forgotten, so
//! a header costs the same however long it claims to be. Connections that wait for theirs are bounded in `greet.rs`.
//!
//! A refused connection is counted; the operator, whose proxy it usually is, is told once a minute of each kind of refusal.
//! One that ends before it has sent a byte (a load balancer that looks whether the port is open) is neither.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use monoio::net::TcpStream;

use super::{Core, Via};
use crate::config::Config;
use crate::io::sys;
use crate::metrics::Metric;
use crate::time::Seldom;
use crate::wire::proxy::{self, DECIDING_BYTES, ProxyError};

/// Bytes of a header that are received, and forgotten, at a time.
const SKIPPED_BYTES: usize = 4096;

/// When each kind of refusal was mentioned last.
#[derive(Default)]
pub(super) struct Notes(RefCell<[Seldom; 5]>);

/// Why a connection goes no further.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It has not begun with a header.
    Refused(ProxyError),
    /// The header was not whole in time, or was cut off.
    Incomplete,
    /// It ended without a byte.
    Left,
    /// The server stops.
    Stopped,
}

/// A header of which some bytes may have come.
enum Incoming {
    /// What has come does not tell.
    Deciding { bytes: [u8; DECIDING_BYTES], len: usize },
    /// It tells this, and has so many bytes that have not come.
    Skipping { source: Option<IpAddr>, left: usize },
}

/// Waits for the header of a connection, then lets the connection in.
pub(super) async fn await_header(core: Rc<Core>, stream: TcpStream, peer: IpAddr, via: Via, config: &Config) {
    let told = receive(&core, &stream, config).await;
    core.greeting.waiting.set(core.greeting.waiting.get() - 1);
    match told {
        Ok(told) => {
            // The runtime keeps its own reference to the descriptor.
            let socket = sys::descriptor(&stream).try_clone_to_owned();
            drop(stream);
            if let Err(error) = socket.and_then(|socket| core.let_in(socket, peer, told, via)) {
                tracing::warn!(%error, "a connection could not be taken in");
            }
        }
        Err(end) => core.note_header(&end, peer, config),
    }
}

/// The address the header tells.
async fn receive(core: &Core, stream: &TcpStream, config: &Config) -> Result<Option<IpAddr>, End> {
    let deadline = std::time::Instant::now() + config.handshake_timeout;
    let mut incoming = Incoming::new();
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        // Readiness only: nothing is lost when the time is over.
        let is_ready = matches!(monoio::time::timeout(left, stream.readable(false)).await, Ok(Ok(())));
        if core.stopped.get() {
            return Err(End::Stopped);
        }
        if !is_ready {
            return Err(End::Incomplete);
        }
        if let Some(source) = incoming.take(sys::descriptor(stream), config.proxy_header_max)? {
            return Ok(source);
        }
    }
}

impl Incoming {
    fn new() -> Self {
        Self::Deciding {
            bytes: [0; DECIDING_BYTES],
            len: 0,
        }
    }

    /// Takes what is there of the header; `Some` when it is complete. What follows the header is the client's: as long as
    /// its length is not known, bytes are looked at before they are taken.
    fn take(&mut self, socket: BorrowedFd<'_>, len_max: usize) -> Result<Option<Option<IpAddr>>, End> {
        if let Self::Deciding { bytes, len } = self {
            let room = bytes.get_mut(*len..).unwrap_or_default();
            let Some(peeked) = (match sys::peek(socket, room) {
                Ok(0) if *len == 0 => return Err(End::Left),
                peeked => came(peeked)?,
            }) else {
                return Ok(None);
            };
            let known = bytes.get(..*len + peeked).unwrap_or_default();
            match proxy::parse(known, len_max).map_err(End::Refused)? {
                // All that was looked at belongs to it.
                None => {
                    skip(socket, peeked)?;
                    *len += peeked;
                    return Ok(None);
                }
                Some(header) => {
                    let left = header.len - *len;
                    let source = header.source;
                    *self = Self::Skipping { source, left };
                }
            }
        }
        let Self::Skipping { source, left } = self else {
            return Ok(None);
        };
        *left = skip(socket, *left)?;
        Ok((*left == 0).then_some(*source))
    }
}

/// Takes up to `count` bytes and forgets them; how many of them have not come.
fn skip(socket: BorrowedFd<'_>, count: usize) -> Result<usize, End> {
    let (mut left, mut forgotten) = (count, [0; SKIPPED_BYTES]);
    while left > 0 {
        let room = forgotten.get_mut(..left.min(SKIPPED_BYTES)).unwrap_or_default();
        match came(sys::recv(socket, room))? {
            Some(received) => left -= received,
            None => break,
        }
    }
    Ok(left)
}

/// Bytes that came; `None`: none now.
fn came(result: std::io::Result<usize>) -> Result<Option<usize>, End> {
    use std::io::ErrorKind::{Interrupted, WouldBlock};
    match result {
        Ok(0) => Err(End::Incomplete),
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(None),
        Err(_) => Err(End::Incomplete),
    }
}

impl Core {
    /// A connection went no further than its header: counts it, and says so now and then.
    fn note_header(&self, end: &End, peer: IpAddr, config: &Config) {
        let (kind, what, advice) = match end {
            End::Left | End::Stopped => return,
            End::Incomplete => (
                0,
                "the PROXY header did not come, or not all of it, within handshake_timeout",
                NO_HEADER,
            ),
            End::Refused(ProxyError::NoHeader) => (1, "a connection began without a PROXY header", NO_HEADER),
            End::Refused(ProxyError::Malformed) => (2, "a PROXY header was malformed", NOT_STANDARD),
            End::Refused(ProxyError::Unsupported) => (3, "a PROXY header was of an unknown kind", NOT_STANDARD),
            End::Refused(ProxyError::TooLong(_)) => (4, "a PROXY header was too long", TOO_LONG),
        };
        let sockets = self.sockets.borrow();
        sockets.doorman().count(Metric::RefusedProxyHeader);
        let mut notes = self.greeting.notes.0.borrow_mut();
        let Some(more) = notes.get_mut(kind).and_then(|note| note.happened(self.now())) else {
            return;
        };
        let bytes = match end {
            End::Refused(ProxyError::TooLong(bytes)) => Some(*bytes),
            _ => None,
        };
        let (max, timeout) = (config.proxy_header_max, config.handshake_timeout.as_secs_f64());
        tracing::warn!(%peer, bytes, proxy_header_max = max, handshake_timeout = timeout, more, "{what}: {advice}");
    }
}

const NO_HEADER: &str = "if this is your proxy, let it send one (HAProxy: send-proxy-v2; AWS: proxy protocol v2); if it is not, \
    list only your proxies in trusted_proxies, then others need none";
const NOT_STANDARD: &str =
    "the connection was closed, as the standard demands; if this is your proxy, let it send version 2";
const TOO_LONG: &str = "let the proxy send fewer fields, or raise proxy_header_max";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    const MAX: usize = 16 * 1024;

    fn pair() -> (StdStream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// What is left of the stream once `header` has been taken, which comes in `pieces`.
    fn taken(pieces: &[&[u8]], rest: &[u8], source: Option<&str>) {
        let (mut client, server) = pair();
        let mut incoming = Incoming::new();
        assert_eq!(incoming.take(server.as_fd(), MAX), Ok(None), "nothing has come");
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            client.write_all(piece).unwrap();
            wait_for_input(&server);
            assert_eq!(incoming.take(server.as_fd(), MAX), Ok(None));
        }
        client.write_all(&[last, rest].concat()).unwrap();
        let source = source.map(|text| text.parse().unwrap());
        let mut told = None;
        while told.is_none() {
            wait_for_input(&server);
            told = incoming.take(server.as_fd(), MAX).unwrap();
        }
        assert_eq!(told, Some(source));
        let mut left = vec![0; 2 * rest.len()];
        let count = sys::recv(server.as_fd(), &mut left).unwrap();
        assert_eq!(&left[..count], rest);
    }

    fn wait_for_input(server: &StdStream) {
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(server.peek(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn the_header_is_taken_to_its_last_byte() {
        let v1: [&[u8]; 3] = [b"PROXY TCP4 192.0", b".2.7 10.0.0.1 1 2\r", b"\n"];
        taken(&v1, b"GET /connect/", Some("192.0.2.7"));
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x23\x45\xc0\0\x02\x07".to_vec();
        v2.resize(16 + 0x2345, 7);
        taken(&[&v2], b"GET /connect/", Some("192.0.2.7"));
        taken(
            &[&v2[..5], &v2[5..17], &v2[17..40], &v2[40..9000], &v2[9000..]],
            b"G",
            Some("192.0.2.7"),
        );
        taken(&[b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"], b"GET /connect/", None);
    }

    #[test]
    fn a_connection_that_ends_is_told_from_one_that_is_cut_off() {
        for (bytes, end) in [(&b""[..], End::Left), (b"PROXY ", End::Incomplete)] {
            let (mut client, server) = pair();
            client.write_all(bytes).unwrap();
            drop(client);
            let mut incoming = Incoming::new();
            let ended = loop {
                match incoming.take(server.as_fd(), MAX) {
                    Ok(None) => std::thread::yield_now(),
                    other => break other,
                }
            };
            assert_eq!(ended, Err(end));
        }
    }
}
