//! One connection to a business server, plain or encrypted: bytes out, bytes in. Used by the pool and the exchange.
//!
//! A connection whose read or write was dropped half-way must be dropped as well: what the kernel had already taken or
//! given is not known any more.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, RawFd};

use monoio::buf::IoBufMut;
use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;

use super::tls::TlsStream;
use crate::io::sys;

/// A write that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unwritten {
    /// Not one byte was accepted: the peer cannot have seen anything.
    pub(super) nothing_sent: bool,
}

impl From<Unwritten> for io::Error {
    fn from(_: Unwritten) -> io::Error {
        ErrorKind::BrokenPipe.into()
    }
}

/// An open connection.
pub(super) enum Conn {
    /// `http`
    Plain(TcpStream),
    /// `https`
    Tls(Box<TlsStream>),
}

impl Conn {
    /// True if it cannot carry another request (see [`sys::is_stale`]). One system call.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Conn::Plain(tcp) => sys::is_stale(tcp),
            Conn::Tls(tls) => tls.has_unread() || sys::is_stale(tls.tcp()),
        }
    }

    /// A call begins. To be held no longer than the connection.
    pub(super) fn unanswered(&self) -> Unanswered {
        let tcp = match self {
            Conn::Plain(tcp) => tcp,
            Conn::Tls(tls) => tls.tcp(),
        };
        Unanswered(Some(tcp.as_raw_fd()))
    }

    /// Sends all of `bytes`.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        match self {
            Conn::Plain(tcp) => send_all(tcp, bytes).await,
            Conn::Tls(tls) => Box::pin(tls.write_all(bytes)).await,
        }
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity, of which there must be some. `Ok(0)` is the end.
    pub(super) async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Conn::Plain(tcp) => {
                let (filled, capacity) = (buffer.len(), buffer.capacity());
                let (result, slice) = tcp.read(IoBufMut::slice_mut(buffer, filled..capacity)).await;
                (result, slice.into_inner())
            }
            Conn::Tls(tls) => {
                let result = Box::pin(tls.read(&mut buffer)).await;
                (result, buffer)
            }
        }
    }
}

/// Resets a connection whose call is given up, by its deadline or after a failure: dropped before the connection is, without
/// [`Unanswered::answered`]. Closed in order it would leave its request in the kernel, which delivers it when the line is mended,
/// maybe behind the later messages and the close callback of its client.
pub(super) struct Unanswered(Option<RawFd>);

impl Unanswered {
    /// Nothing to give up any more.
    pub(super) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(fd) = self.0 {
            sys::reset_on_close(fd);
        }
    }
}

/// Sends all of `bytes` over `tcp`: directly, since a write on the ring would be one more way round it.
pub(super) async fn send_all(tcp: &TcpStream, bytes: &[u8]) -> Result<(), Unwritten> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match sys::send(tcp.as_raw_fd(), &[IoSlice::new(rest)]) {
            Ok(taken @ 1..) => rest = rest.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && tcp.writable(false).await.is_ok() => {}
            _ => {
                return Err(Unwritten {
                    nothing_sent: rest.len() == bytes.len(),
                });
            }
        }
    }
    Ok(())
}
