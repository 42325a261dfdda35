//! The sockets of one shard's clients, by slot. Writes are direct non-blocking calls: a ring submission per write measured
//! no better, and this way nothing is held for an idle client.

use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::net::TcpStream;

use super::admission::Doorman;
use super::sys;
use crate::engine::ids::ClientId;
use crate::shard::{Sent, Sockets, Verdict};

/// Sockets by slot. Fan-out walks it, so an entry is small.
pub struct SocketTable {
    doorman: Doorman,
    entries: Vec<Entry>,
    /// Clients whose socket has to be waited for, until the core takes them.
    want_write: Vec<ClientId>,
    resume: Vec<ClientId>,
}

#[derive(Default)]
struct Entry {
    fd: RawFd,
    generation: u32,
    stream: Option<Rc<TcpStream>>,
}

impl SocketTable {
    /// An empty table.
    pub fn new(doorman: Doorman) -> Self {
        Self {
            doorman,
            entries: Vec::new(),
            want_write: Vec::new(),
            resume: Vec::new(),
        }
    }

    /// Who decides about connections.
    pub fn doorman(&self) -> &Doorman {
        &self.doorman
    }

    /// The same, for a change.
    pub fn doorman_mut(&mut self) -> &mut Doorman {
        &mut self.doorman
    }

    /// A connection was accepted for `client`.
    pub fn insert(&mut self, client: ClientId, stream: Rc<TcpStream>) {
        let slot = client.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, Entry::default);
        }
        self.entries[slot] = Entry {
            fd: stream.as_raw_fd(),
            generation: client.generation,
            stream: Some(stream),
        };
    }

    /// The stream of a client.
    pub fn stream(&self, client: ClientId) -> Option<Rc<TcpStream>> {
        self.entry(client)?.stream.clone()
    }

    /// Forgets a client without closing its socket. Returns its address if a PROXY header told it.
    pub fn remove(&mut self, client: ClientId) -> Option<IpAddr> {
        self.entry(client)?;
        self.entries[client.slot as usize].stream = None;
        self.doorman.leave(client.slot)
    }

    /// Takes the clients that want to write.
    pub fn take_want_write(&mut self, into: &mut Vec<ClientId>) {
        into.append(&mut self.want_write);
    }

    /// Takes the clients that are to be read again.
    pub fn take_resume(&mut self, into: &mut Vec<ClientId>) {
        into.append(&mut self.resume);
    }

    /// Whether somebody waits in one of the two lists.
    pub fn has_requests(&self) -> bool {
        !self.want_write.is_empty() || !self.resume.is_empty()
    }

    fn entry(&self, client: ClientId) -> Option<&Entry> {
        let entry = self.entries.get(client.slot as usize)?;
        (entry.generation == client.generation && entry.stream.is_some()).then_some(entry)
    }
}

impl Sockets for SocketTable {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let Some(entry) = self.entry(client) else {
            return Sent::Broken;
        };
        loop {
            return match sys::send(entry.fd, parts) {
                Ok(taken) => Sent::Taken(taken),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Sent::Taken(0),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Sent::Taken(0),
                Err(_) => Sent::Broken,
            };
        }
    }

    fn admit(&mut self, client: ClientId, forwarded: Option<&[u8]>) -> Verdict {
        let fd = self.entry(client).map(|entry| entry.fd);
        let peer = || sys::peer_address(fd?).map(|peer| peer.ip());
        self.doorman.admit(client.slot, peer, forwarded)
    }

    fn want_write(&mut self, client: ClientId) {
        self.want_write.push(client);
    }

    fn resume(&mut self, client: ClientId) {
        self.resume.push(client);
    }

    fn finish(&mut self, client: ClientId) {
        if let Some(entry) = self.entry(client) {
            sys::finish(entry.fd);
        }
    }

    fn close(&mut self, client: ClientId) {
        if let Some(entry) = self.entry(client) {
            // Whoever waits for the socket wakes up, finds its client gone and drops the last reference.
            sys::shutdown(entry.fd);
            self.remove(client);
        }
    }
}
