//! The sockets as the shard sees them. The shell implements this over non-blocking system calls, the simulator over
//! memory with short writes and resets.

use std::io::IoSlice;
use std::net::SocketAddr;

use crate::engine::ids::ClientId;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, 0 if the socket takes none now.
    Taken(usize),
    /// The connection is broken.
    Broken,
}

/// What the shell says about a client that asks to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Welcome,
    /// Its address has `connections_per_address` connections already.
    AddressFull,
    /// The process uses more than `memory_max`.
    MemoryShort,
}

/// Operations on the sockets of one shard's clients. None blocks; none calls back into the shard.
pub trait Sockets {
    /// Writes what the socket takes at once.
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent;
    /// Call `Shard::on_writable` once the socket takes bytes again.
    fn want_write(&mut self, client: ClientId);
    /// Reading had been paused by [`super::Input::Pause`]: read again.
    fn resume(&mut self, client: ClientId);
    /// Nothing more will be written: tell the peer, keep reading.
    fn finish(&mut self, client: ClientId);
    /// The client asks to connect; `forwarded` is the value of its `X-Forwarded-For`. Whether there is room for it.
    fn admit(&mut self, _client: ClientId, _forwarded: Option<&[u8]>) -> Verdict {
        Verdict::Welcome
    }
    /// A number that stands for the address a client connects from, given the value of its `X-Forwarded-For`; 0: unknown.
    fn address(&mut self, _client: ClientId, _forwarded: Option<&[u8]>) -> u64 {
        0
    }
    /// Where a client connects from, given the value of its `X-Forwarded-For`; port 0: only a proxy knows it.
    fn peer(&mut self, _client: ClientId, _forwarded: Option<&[u8]>) -> Option<SocketAddr> {
        None
    }
    /// Close now. The client is not mentioned again.
    fn close(&mut self, client: ClientId);
}
