//! What a core asks of the kernel for its clients: their sockets, which of them are ready, and the time. [`Host`] is the real
//! thing; `fuzzing/core.rs` plays another one, which chops, delays and fails. The core is compiled for each, so this costs
//! nothing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::clock::Clock;
use super::sys::{self, Epoll};
use crate::time::Instant;

/// A connected socket. No call blocks.
pub trait Socket {
    /// Receives what is there. `WouldBlock` if nothing is, 0 at the end of the stream.
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Sends what the socket takes at once.
    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends the sending direction.
    fn finish(&self);
    /// Ends both directions.
    fn shutdown(&self);
    /// Who is at the other end; `None` if nobody is any more.
    fn peer(&self) -> Option<SocketAddr>;
}

impl<T: AsFd> Socket for T {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        sys::recv(self.as_fd(), buffer)
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::send(self.as_fd(), parts)
    }

    fn finish(&self) {
        sys::finish(self.as_fd());
    }

    fn shutdown(&self) {
        sys::shutdown(self.as_fd());
    }

    fn peer(&self) -> Option<SocketAddr> {
        sys::peer_address(self.as_fd())
    }
}

/// Readiness of a core's sockets, and the time. Sockets are reported by the token they were given; closing one ends that.
pub trait Kernel {
    /// Closed when dropped.
    type Socket: Socket;

    /// The time.
    fn now(&self) -> Instant;
    /// The time of day, in microseconds since 1970; may jump.
    fn unix_micros(&self) -> u64;
    /// Reports `socket` whenever input or its end arrives, and now if there is some; also if it was watched already.
    fn watch(&self, socket: &Self::Socket, token: u64) -> io::Result<()>;
    /// Reports a watched `socket` now if it has input.
    fn rearm(&self, socket: &Self::Socket, token: u64);
    /// Does not report input of `socket` any more.
    fn unwatch(&self, socket: &Self::Socket);
    /// Reports `socket` as long as it takes bytes or is broken.
    fn await_room(&self, socket: &Self::Socket, token: u64) -> io::Result<()>;
    /// Ends that.
    fn forget_room(&self, socket: &Self::Socket);
    /// Appends some of the sockets with input, each with whether there is an end behind it, which is not reported again.
    fn take_input(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()>;
    /// Appends some of the sockets that are waited for and take bytes; the flag means nothing.
    fn take_room(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()>;
}

/// The kernel this process runs on. Two epolls: one holds every client and says who has input, the other holds only those
/// that wait for their socket to take bytes.
pub struct Host {
    input: Epoll,
    room: Epoll,
    clock: Clock,
}

impl Host {
    /// Reports at most `batch` sockets at a time.
    pub fn new(batch: usize, clock: Clock) -> io::Result<Self> {
        Ok(Self {
            input: Epoll::new(batch)?,
            room: Epoll::new(batch)?,
            clock,
        })
    }

    /// A descriptor that is readable while there is input to take, and one for room.
    pub fn readiness(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((
            self.input.as_fd().try_clone_to_owned()?,
            self.room.as_fd().try_clone_to_owned()?,
        ))
    }
}

impl Kernel for Host {
    type Socket = OwnedFd;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn unix_micros(&self) -> u64 {
        self.clock.unix_micros()
    }

    fn watch(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        match self.input.add(socket.as_fd(), token, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.input.rearm(socket.as_fd(), token),
            watched => watched,
        }
    }

    fn rearm(&self, socket: &OwnedFd, token: u64) {
        // Cannot fail for a socket that is watched; one that is not is about to be closed.
        let _ = self.input.rearm(socket.as_fd(), token);
    }

    fn unwatch(&self, socket: &OwnedFd) {
        // It may not have been watched yet.
        let _ = self.input.remove(socket.as_fd());
    }

    fn await_room(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        self.room.add_for_room(socket.as_fd(), token)
    }

    fn forget_room(&self, socket: &OwnedFd) {
        let _ = self.room.remove(socket.as_fd());
    }

    fn take_input(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        self.input.wait(0, ready)
    }

    fn take_room(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        self.room.wait(0, ready)
    }
}
