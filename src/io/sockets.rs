//! The sockets of one shard's clients, by slot. Writes are direct non-blocking calls: a ring submission per write measured
//! no better, and this way nothing is held for an idle client.
//!
//! Two epolls: one holds every client and says who has input, the other holds only those that wait for their socket to take
//! bytes. The table owns the descriptors. Closing one takes it out of both, and a report that was taken before names the slot
//! with its generation, so it finds nobody even if slot and descriptor are in use again.
//!
//! A TLS client's entry points to its session. The session may hold sealed bytes the socket did not take; they are sent before
//! the shard is told that it can write ([`SocketTable::take_writable`]).

use std::collections::HashSet;
use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::Waker;

use super::admission::Doorman;
use super::sys::{self, Epoll};
use super::tls::{End, Received, Scratch, Session};
use crate::engine::ids::{ClientId, ShardId};
use crate::metrics::{CoreMetrics, Metric};
use crate::shard::{Sent, Sockets, Verdict};

/// Clients reported together; between two reports everything else has its turn.
const READY_BATCH: usize = 128;

/// A client that has input.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Who.
    pub client: ClientId,
    /// There is an end behind the input, which is not reported again.
    pub ended: bool,
}

/// A connection that was taken out of the table.
pub struct Removed {
    /// Its socket, which nobody waits for any more.
    pub socket: OwnedFd,
    /// Its session, if it speaks TLS.
    pub tls: Option<Box<Session>>,
    /// Its address, if a PROXY header told it.
    pub told: Option<IpAddr>,
}

/// Sockets by slot. Fan-out walks it, so an entry is small.
pub struct SocketTable {
    shard: ShardId,
    doorman: Doorman,
    entries: Vec<Entry>,
    /// Slots whose socket is waited for to take bytes.
    waiting_to_write: HashSet<u32, foldhash::fast::FixedState>,
    /// Clients whose socket cannot be waited for, until the core takes them.
    failed: Vec<ClientId>,
    scratch: Scratch,
    /// TLS handshakes under way.
    handshakes: usize,
    /// Who waits for one of them to end.
    waiting: Option<Waker>,
    metrics: Arc<CoreMetrics>,
    /// Which sockets have input. Edge-triggered: who does not read a socket empty must rearm it.
    input: Epoll,
    /// Which sockets take bytes, of those that are waited for.
    room: Epoll,
    ready: Vec<(u64, bool)>,
}

#[derive(Default)]
struct Entry {
    /// `None`: no connection, or not this shard's any more.
    socket: Option<OwnedFd>,
    generation: u32,
    tls: Option<Box<Session>>,
}

const _: () = assert!(std::mem::size_of::<Entry>() == 16);

impl SocketTable {
    /// An empty table for the clients of `shard`, which counts into `metrics`.
    pub fn new(shard: ShardId, metrics: Arc<CoreMetrics>, doorman: Doorman) -> io::Result<Self> {
        Ok(Self {
            shard,
            input: Epoll::new(READY_BATCH)?,
            room: Epoll::new(READY_BATCH)?,
            ready: Vec::with_capacity(READY_BATCH),
            doorman,
            entries: Vec::new(),
            waiting_to_write: HashSet::default(),
            failed: Vec::new(),
            scratch: Scratch::default(),
            handshakes: 0,
            waiting: None,
            metrics,
        })
    }

    /// A descriptor that is readable while [`SocketTable::take_ready`] has something to give, and one that is while
    /// [`SocketTable::take_writable`] has.
    pub fn readiness(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((
            sys::duplicate(self.input.as_raw_fd())?,
            sys::duplicate(self.room.as_raw_fd())?,
        ))
    }

    /// Begins to report a client's input, that which is there already included.
    pub fn watch(&mut self, client: ClientId) {
        let Some(fd) = self.fd(client) else { return };
        let watched = match self.input.add(fd, token(client), false) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.input.rearm(fd, token(client)),
            watched => watched,
        };
        if watched.is_err() {
            self.failed.push(client);
        }
    }

    /// Reports a client's input again if there is some left.
    pub fn rewatch(&mut self, client: ClientId) {
        if let Some(fd) = self.fd(client) {
            // Cannot fail for a socket that is watched; one that is not is about to be closed.
            let _ = self.input.rearm(fd, token(client));
        }
    }

    /// Does not report a client's input any more, until it is watched again.
    pub fn unwatch(&mut self, client: ClientId) {
        if let Some(fd) = self.fd(client) {
            // It may not have been watched yet.
            let _ = self.input.remove(fd);
        }
    }

    /// Appends clients that have input, at most [`READY_BATCH`]. Some may be gone by the time they are looked at.
    pub fn take_ready(&mut self, into: &mut Vec<Ready>) -> io::Result<()> {
        self.ready.clear();
        self.input.wait(0, &mut self.ready)?;
        let shard = self.shard;
        into.extend(self.ready.iter().map(|(token, ended)| Ready {
            client: named(shard, *token),
            ended: *ended,
        }));
        Ok(())
    }

    /// Appends clients whose socket takes bytes again, at most [`READY_BATCH`]; they are not waited for any more. What their
    /// sessions held is sent first, and who has more of that stays.
    pub fn take_writable(&mut self, into: &mut Vec<ClientId>) -> io::Result<()> {
        self.ready.clear();
        self.room.wait(0, &mut self.ready)?;
        for (token, _) in &self.ready {
            let client = named(self.shard, *token);
            let Some(entry) = Self::find(&mut self.entries, client) else {
                continue;
            };
            if entry.flush() {
                self.waiting_to_write.remove(&client.slot);
                if let Some(socket) = &entry.socket {
                    let _ = self.room.remove(socket.as_raw_fd());
                }
                into.push(client);
            }
        }
        Ok(())
    }

    /// Who decides about connections.
    pub fn doorman(&self) -> &Doorman {
        &self.doorman
    }

    /// The same, for a change.
    pub fn doorman_mut(&mut self) -> &mut Doorman {
        &mut self.doorman
    }

    /// A connection was accepted for `client`, with its session if it speaks TLS.
    pub fn insert(&mut self, client: ClientId, socket: OwnedFd, tls: Option<Box<Session>>) {
        let slot = client.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, Entry::default);
        }
        self.handshakes += usize::from(tls.as_ref().is_some_and(|session| session.is_handshaking()));
        self.entries[slot] = Entry {
            socket: Some(socket),
            generation: client.generation,
            tls,
        };
    }

    /// Takes a client out without closing its socket.
    pub fn remove(&mut self, client: ClientId) -> Option<Removed> {
        if self.waiting_to_write.contains(&client.slot)
            && let Some(fd) = self.fd(client)
        {
            let _ = self.room.remove(fd);
        }
        // A socket that lives on would stay watched.
        self.unwatch(client);
        self.forget(client)
    }

    fn forget(&mut self, client: ClientId) -> Option<Removed> {
        let entry = Self::find(&mut self.entries, client)?;
        let (socket, tls) = (entry.socket.take()?, entry.tls.take());
        let told = self.doorman.leave(client.slot);
        self.waiting_to_write.remove(&client.slot);
        if tls.as_ref().is_some_and(|session| session.is_handshaking()) {
            self.handshake_ended(Metric::TlsHandshakesFailed);
        }
        Some(Removed { socket, tls, told })
    }

    /// Receives once from a client into `buffer`. `WouldBlock` if its socket is empty.
    pub fn receive(&mut self, client: ClientId, buffer: &mut [u8]) -> io::Result<Received> {
        let entry = Self::find(&mut self.entries, client).ok_or(ErrorKind::NotConnected)?;
        let fd = entry.fd();
        let Some(session) = &mut entry.tls else {
            let bytes = sys::recv(fd, buffer)?;
            return Ok(Received {
                bytes,
                more: bytes == buffer.len(),
                established: false,
                end: (bytes == 0).then_some(End::Closed),
            });
        };
        let received = session.receive(fd, buffer, &mut self.scratch);
        let has_output = session.has_output();
        if received.as_ref().is_ok_and(|received| received.established) {
            self.handshake_ended(Metric::TlsHandshakesDone);
        }
        if has_output {
            self.wait_to_write(client);
        }
        received
    }

    /// TLS handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// Wakes `waker` once when a handshake has ended, or when [`SocketTable::wake_waiting`] is called.
    pub fn wait_for_handshake(&mut self, waker: &Waker) {
        self.waiting = Some(waker.clone());
    }

    /// Wakes who waits for a handshake to end.
    pub fn wake_waiting(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Takes the clients whose socket could not be watched or waited for: they cannot go on.
    pub fn take_failed(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.failed)
    }

    /// Reports a client by [`SocketTable::take_writable`] once its socket takes bytes.
    fn wait_to_write(&mut self, client: ClientId) {
        let Some(fd) = self.fd(client) else { return };
        if self.waiting_to_write.insert(client.slot) && self.room.add_for_room(fd, token(client)).is_err() {
            self.waiting_to_write.remove(&client.slot);
            self.failed.push(client);
        }
    }

    fn handshake_ended(&mut self, how: Metric) {
        self.metrics.add(how, 1);
        self.handshakes = self.handshakes.saturating_sub(1);
        self.wake_waiting();
    }

    fn fd(&mut self, client: ClientId) -> Option<RawFd> {
        Self::find(&mut self.entries, client).map(|entry| entry.fd())
    }

    fn find(entries: &mut [Entry], client: ClientId) -> Option<&mut Entry> {
        let entry = entries.get_mut(client.slot as usize)?;
        (entry.generation == client.generation && entry.socket.is_some()).then_some(entry)
    }
}

impl Entry {
    /// The descriptor; one that cannot be open if there is none.
    fn fd(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Sends what the session holds. True once there is nothing left.
    fn flush(&mut self) -> bool {
        let fd = self.fd();
        // A broken socket shows at the next send or receive.
        self.tls
            .as_mut()
            .is_none_or(|session| session.flush(fd).unwrap_or(true))
    }
}

impl Sockets for SocketTable {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let Some(entry) = Self::find(&mut self.entries, client) else {
            return Sent::Broken;
        };
        let fd = entry.fd();
        let Some(session) = &mut entry.tls else {
            return send_plain(fd, parts);
        };
        let sent = session.send(fd, parts, &mut self.scratch);
        if session.has_output() {
            self.wait_to_write(client);
        }
        match sent {
            Ok(taken) => Sent::Taken(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Taken(0),
            Err(_) => Sent::Broken,
        }
    }

    fn admit(&mut self, client: ClientId, forwarded: Option<&[u8]>) -> Verdict {
        let fd = self.fd(client);
        let peer = || sys::peer_address(fd?).map(|peer| peer.ip());
        self.doorman.admit(client.slot, peer, forwarded)
    }

    fn want_write(&mut self, client: ClientId) {
        self.wait_to_write(client);
    }

    fn resume(&mut self, client: ClientId) {
        self.watch(client);
    }

    fn finish(&mut self, client: ClientId) {
        let Some(entry) = Self::find(&mut self.entries, client) else {
            return;
        };
        let fd = entry.fd();
        let Some(session) = &mut entry.tls else {
            return sys::finish(fd);
        };
        session.finish(fd);
        if session.has_output() {
            self.wait_to_write(client);
        }
    }

    fn close(&mut self, client: ClientId) {
        let Some(Removed { socket, tls, .. }) = self.forget(client) else {
            return;
        };
        if let Some(mut session) = tls {
            // Politely, if the socket takes it at once.
            session.finish(socket.as_raw_fd());
        }
        // The end of the stream goes out before the reset that closing a socket with unread input sends.
        sys::shutdown(socket.as_raw_fd());
    }
}

/// What a client is called in the kernel.
fn token(client: ClientId) -> u64 {
    u64::from(client.slot) << 32 | u64::from(client.generation)
}

/// Who is called that.
fn named(shard: ShardId, token: u64) -> ClientId {
    ClientId {
        shard,
        slot: (token >> 32) as u32,
        generation: token as u32,
    }
}

fn send_plain(fd: RawFd, parts: &[IoSlice<'_>]) -> Sent {
    loop {
        return match sys::send(fd, parts) {
            Ok(taken) => Sent::Taken(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Taken(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Sent::Taken(0),
            Err(_) => Sent::Broken,
        };
    }
}
