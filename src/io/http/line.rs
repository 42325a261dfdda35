//! The TCP connection under a call: what went out, and how the peer ended it. Used by `conn.rs` and `tls.rs`.
//!
//! A connection whose read was dropped half-way must be dropped as well: what the kernel had already given is not known any
//! more.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use monoio::buf::IoBufMut;
use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;

use crate::io::sys;

/// How long and how often to look whether a connection that the peer has ended is reset as well: an answer to our last bytes,
/// so one way to the peer and back.
const VERDICT_LOOKS: u32 = 100;
const VERDICT_PAUSE: Duration = Duration::from_millis(10);

/// One TCP connection.
pub(super) struct Line {
    tcp: TcpStream,
    /// Bytes of the present request the kernel has taken.
    sent: usize,
    end: Option<End>,
}

/// How the peer ended a connection, as seen first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order: it said that it would send no more.
    Finished,
    /// Otherwise.
    Broken,
}

/// What `parts` has from byte `at` on.
pub(super) fn remaining(parts: [&[u8]; 2], at: usize) -> (&[u8], &[u8]) {
    let [head, body] = parts;
    let behind = at.saturating_sub(head.len());
    (
        head.get(at..).unwrap_or_default(),
        body.get(behind..).unwrap_or_default(),
    )
}

/// Why not everything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The peer has something to say, and takes no more meanwhile.
    PeerSpeaks,
    /// The connection is broken; what the peer said before may still be there.
    Failed,
}

impl Line {
    pub(super) fn new(tcp: TcpStream) -> Line {
        Line {
            tcp,
            sent: 0,
            end: None,
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        sys::descriptor(&self.tcp)
    }

    /// See [`sys::is_stale`]. One system call.
    pub(super) fn is_stale(&self) -> bool {
        sys::is_stale(self.descriptor())
    }

    /// A request begins.
    pub(super) fn begin(&mut self) {
        self.sent = 0;
    }

    /// Bytes of it the kernel has taken.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends what `parts` has from byte `at` on, and moves `at`; with `listen` it stops when the peer speaks instead of taking
    /// more. Directly, since a write on the ring would be one more way round it.
    pub(super) async fn send(&mut self, parts: [&[u8]; 2], at: &mut usize, listen: bool) -> Result<(), Stop> {
        loop {
            let result = match remaining(parts, *at) {
                ([], []) => return Ok(()),
                (only, []) | ([], only) => sys::send(self.descriptor(), &[IoSlice::new(only)]),
                (head, body) => sys::send(self.descriptor(), &[IoSlice::new(head), IoSlice::new(body)]),
            };
            match result {
                Ok(taken @ 1..) => {
                    *at += taken;
                    self.sent += taken;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wait(listen).await? {
                        return Err(Stop::PeerSpeaks);
                    }
                }
                Ok(_) => return Err(Stop::Failed),
                Err(error) => {
                    self.note(&error);
                    return Err(Stop::Failed);
                }
            }
        }
    }

    /// Waits until the socket takes bytes, or, if `listen`, until something can be read (true).
    async fn wait(&self, listen: bool) -> Result<bool, Stop> {
        if !listen {
            return self.tcp.writable(false).await.map(|()| false).map_err(|_| Stop::Failed);
        }
        let (mut readable, mut writable) = (pin!(self.tcp.readable(false)), pin!(self.tcp.writable(false)));
        poll_fn(|context| {
            if let Poll::Ready(result) = writable.as_mut().poll(context) {
                return Poll::Ready(result.map(|()| false));
            }
            readable.as_mut().poll(context).map(|result| result.map(|()| true))
        })
        .await
        .map_err(|_| Stop::Failed)
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity, of which there must be some. `Ok(0)` is the end.
    pub(super) async fn receive(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (filled, capacity) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.tcp.read(IoBufMut::slice_mut(buffer, filled..capacity)).await;
        match &result {
            Ok(0) => self.end = self.end.or(Some(End::Finished)),
            Ok(_) => {}
            Err(error) => self.note(error),
        }
        (result, slice.into_inner())
    }

    /// The peer sends no more.
    pub(super) fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Linux tells a reset that follows an orderly end by EPIPE.
    fn note(&mut self, error: &io::Error) {
        let end = if error.kind() == ErrorKind::BrokenPipe {
            End::Finished
        } else {
            End::Broken
        };
        self.end = self.end.or(Some(end));
    }

    /// True if the peer cannot have read a byte of the present request: it had ended the connection in order before its kernel
    /// acknowledged any, and answers what came later with a reset. ("Some means to detect that the original request was never
    /// applied", RFC 9110 §9.2.2.) A reset alone proves nothing: bytes may have been read and not yet acknowledged.
    pub(super) async fn was_never_read(&mut self) -> bool {
        for _ in 0..VERDICT_LOOKS {
            if self.end.is_none() {
                match sys::peek(self.descriptor(), &mut [0]) {
                    Ok(0) => self.end = Some(End::Finished),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => self.note(&error),
                    Ok(_) => return false,
                }
            }
            if self.end == Some(End::Broken) || sys::unacknowledged(self.descriptor()) < self.sent || self.sent == 0 {
                return false;
            }
            if self.end == Some(End::Finished) && sys::is_gone(self.descriptor()) {
                return true;
            }
            monoio::time::sleep(VERDICT_PAUSE).await;
        }
        false
    }
}
