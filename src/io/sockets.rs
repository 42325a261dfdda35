//! The sockets of one shard's clients, by slot. Writes are direct non-blocking calls: a ring submission per write measured
//! no better, and this way nothing is held for an idle client.
//!
//! The kernel ([`super::kernel`]) says who has input, and of those that wait for their socket who can write. The table owns the
//! descriptors. Closing one ends its reports, and a report that was taken before names the slot
//! with its generation, so it finds nobody even if slot and descriptor are in use again.
//!
//! A TLS handshake needs one of `tls_handshakes` places, from its first byte on. A connection without one waits until a place
//! is free, first come, first served, and is not read meanwhile; one that says nothing needs none and is in nobody's way.
//!
//! A TLS client's entry points to its session. The session may hold sealed bytes the socket did not take; they are sent before
//! the shard is told that it can write ([`SocketTable::take_writable`]).

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use super::admission::Doorman;
use super::kernel::{Host, Kernel, Socket};

use super::tls::{End, Place, Received, Scratch, Session};
use crate::engine::ids::{ClientId, ShardId};
use crate::metrics::{CoreMetrics, Metric};
use crate::shard::{Sent, Sockets, Verdict};

/// Clients reported together; between two reports everything else has its turn.
pub const READY_BATCH: usize = 128;

/// A client that has input.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Who.
    pub client: ClientId,
    /// There is an end behind the input, which is not reported again.
    pub ended: bool,
}

/// A connection that was taken out of the table.
pub struct Removed<S> {
    /// Its socket, which nobody waits for any more.
    pub socket: S,
    /// Its session, if it speaks TLS.
    pub tls: Option<Box<Session>>,
    /// Its address, if a PROXY header told it.
    pub told: Option<IpAddr>,
}

/// Sockets by slot. Fan-out walks it, so an entry is small.
pub struct SocketTable<K: Kernel = Host> {
    shard: ShardId,
    kernel: K,
    doorman: Doorman,
    entries: Vec<Entry<K::Socket>>,
    /// Slots whose socket is waited for to take bytes.
    waiting_to_write: HashSet<u32, foldhash::fast::FixedState>,
    /// Clients whose socket cannot be waited for, until the core takes them.
    failed: Vec<ClientId>,
    scratch: Scratch,
    /// TLS handshakes under way, and how many there may be.
    handshakes: usize,
    handshakes_max: usize,
    /// Clients whose handshake waits for a place; only while there is none. Some may be gone: they wait no longer than
    /// `handshake_timeout`, so this has no more entries than were let in during that time.
    awaiting: VecDeque<ClientId>,
    /// Who waits for one of them to end.
    waiting: Option<Waker>,
    metrics: Arc<CoreMetrics>,
    ready: Vec<(u64, bool)>,
}

struct Entry<S> {
    /// `None`: no connection, or not this shard's any more.
    socket: Option<S>,
    generation: u32,
    tls: Option<Box<Session>>,
}

const _: () = assert!(std::mem::size_of::<Entry<OwnedFd>>() == 16);

impl<S> Entry<S> {
    fn vacant() -> Self {
        Self {
            socket: None,
            generation: 0,
            tls: None,
        }
    }
}

impl<K: Kernel> SocketTable<K> {
    /// An empty table for the clients of `shard`, which counts into `metrics`.
    pub fn new(shard: ShardId, kernel: K, metrics: Arc<CoreMetrics>, doorman: Doorman) -> Self {
        Self {
            shard,
            kernel,
            ready: Vec::with_capacity(READY_BATCH),
            handshakes_max: doorman.config().tls_handshakes,
            awaiting: VecDeque::new(),
            doorman,
            entries: Vec::new(),
            waiting_to_write: HashSet::default(),
            failed: Vec::new(),
            scratch: Scratch::default(),
            handshakes: 0,
            waiting: None,
            metrics,
        }
    }

    /// What readiness and time come from.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Begins to report a client's input, that which is there already included.
    pub fn watch(&mut self, client: ClientId) {
        if find(&mut self.entries, client).is_some_and(|(socket, _)| self.kernel.watch(socket, token(client)).is_err())
        {
            self.failed.push(client);
        }
    }

    /// Reports a client's input again if there is some left.
    pub fn rewatch(&mut self, client: ClientId) {
        if let Some((socket, _)) = find(&mut self.entries, client) {
            self.kernel.rearm(socket, token(client));
        }
    }

    /// Does not report a client's input any more, until it is watched again.
    pub fn unwatch(&mut self, client: ClientId) {
        if let Some((socket, _)) = find(&mut self.entries, client) {
            self.kernel.unwatch(socket);
        }
    }

    /// Appends clients that have input, at most [`READY_BATCH`]. Some may be gone by the time they are looked at.
    pub fn take_ready(&mut self, into: &mut Vec<Ready>) -> io::Result<()> {
        self.ready.clear();
        self.kernel.take_input(&mut self.ready)?;
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
        self.kernel.take_room(&mut self.ready)?;
        for (token, _) in &self.ready {
            let client = named(self.shard, *token);
            let Some((socket, tls)) = find(&mut self.entries, client) else {
                continue;
            };
            // A broken socket shows at the next send or receive.
            let is_done = tls.as_mut().is_none_or(|session| session.flush(socket).unwrap_or(true));
            if is_done {
                self.waiting_to_write.remove(&client.slot);
                self.kernel.forget_room(socket);
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
    pub fn insert(&mut self, client: ClientId, socket: K::Socket, tls: Option<Box<Session>>) {
        let slot = client.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, Entry::vacant);
        }
        self.entries[slot] = Entry {
            socket: Some(socket),
            generation: client.generation,
            tls,
        };
    }

    /// Takes a client out without closing its socket.
    pub fn remove(&mut self, client: ClientId) -> Option<Removed<K::Socket>> {
        // A socket that lives on would stay watched.
        if let Some((socket, _)) = find(&mut self.entries, client) {
            self.kernel.unwatch(socket);
            if self.waiting_to_write.contains(&client.slot) {
                self.kernel.forget_room(socket);
            }
        }
        self.forget(client)
    }

    fn forget(&mut self, client: ClientId) -> Option<Removed<K::Socket>> {
        let entry = self.entries.get_mut(client.slot as usize)?;
        let socket = entry.socket.take_if(|_| entry.generation == client.generation)?;
        let tls = entry.tls.take();
        let told = self.doorman.leave(client.slot);
        self.waiting_to_write.remove(&client.slot);
        if let Some(session) = tls.as_ref().filter(|session| session.is_handshaking()) {
            if !session.is_silent() {
                self.metrics.add(Metric::TlsHandshakesFailed, 1);
            }
            if session.place == Place::Held {
                self.give_place_back();
            }
        }
        Some(Removed { socket, tls, told })
    }

    /// Receives once from a client into `buffer`. `WouldBlock` if its socket is empty.
    pub fn receive(&mut self, client: ClientId, buffer: &mut [u8]) -> io::Result<Received> {
        let (socket, tls) = find(&mut self.entries, client).ok_or(ErrorKind::NotConnected)?;
        let Some(session) = tls else {
            let bytes = socket.recv(buffer)?;
            return Ok(Received {
                bytes,
                more: bytes == buffer.len(),
                began: false,
                established: false,
                end: (bytes == 0).then_some(End::Closed),
            });
        };
        match session.place {
            Place::None if session.is_silent() && self.handshakes >= self.handshakes_max => {
                session.place = Place::Awaited;
                self.kernel.unwatch(socket);
                self.awaiting.push_back(client);
                let began = true;
                return Ok(Received {
                    began,
                    ..Received::default()
                });
            }
            Place::Awaited => return Err(ErrorKind::WouldBlock.into()),
            Place::None | Place::Held => {}
        }
        let received = session.receive(socket, buffer, &mut self.scratch);
        let has_output = session.has_output();
        if let Ok(Received { began, established, .. }) = received {
            if began && session.place == Place::None {
                session.place = Place::Held;
                self.handshakes += 1;
                self.metrics.set(Metric::TlsHandshakesOpen, self.handshakes as u64);
            }
            if established {
                session.place = Place::None;
                self.metrics.add(Metric::TlsHandshakesDone, 1);
                self.give_place_back();
            }
        }
        if has_output {
            self.wait_to_write(client);
        }
        received
    }

    /// TLS handshakes that may begin now.
    pub fn handshakes_left(&self) -> usize {
        self.handshakes_max.saturating_sub(self.handshakes)
    }

    /// Sets how many there may be at one time; those under way go on.
    pub fn set_handshakes_max(&mut self, most: usize) {
        self.handshakes_max = most;
        self.give_places();
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
        if let Some((socket, _)) = find(&mut self.entries, client)
            && self.waiting_to_write.insert(client.slot)
            && self.kernel.await_room(socket, token(client)).is_err()
        {
            self.waiting_to_write.remove(&client.slot);
            self.failed.push(client);
        }
    }

    fn count_handshakes(&mut self, under_way: usize) {
        self.handshakes = under_way;
        self.metrics.set(Metric::TlsHandshakesOpen, under_way as u64);
    }

    /// A handshake is over.
    fn give_place_back(&mut self) {
        self.count_handshakes(self.handshakes.saturating_sub(1));
        self.give_places();
    }

    /// Gives free places to those that have waited longest; what they have sent is reported again.
    fn give_places(&mut self) {
        while self.handshakes < self.handshakes_max
            && let Some(client) = self.awaiting.pop_front()
        {
            if let Some((_, Some(session))) = find(&mut self.entries, client)
                && session.place == Place::Awaited
            {
                session.place = Place::Held;
                self.count_handshakes(self.handshakes + 1);
                self.watch(client);
            }
        }
        self.wake_waiting();
    }
}

/// A client's socket and session.
type Connection<'a, S> = (&'a S, &'a mut Option<Box<Session>>);

fn find<S>(entries: &mut [Entry<S>], client: ClientId) -> Option<Connection<'_, S>> {
    let entry = entries.get_mut(client.slot as usize)?;
    let socket = entry.socket.as_ref()?;
    (entry.generation == client.generation).then_some((socket, &mut entry.tls))
}

impl<K: Kernel> Sockets for SocketTable<K> {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let Some((socket, tls)) = find(&mut self.entries, client) else {
            return Sent::Broken;
        };
        let Some(session) = tls else {
            return send_plain(socket, parts);
        };
        let sent = session.send(socket, parts, &mut self.scratch);
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
        let peer = || Some(find(&mut self.entries, client)?.0.peer()?.ip());
        self.doorman.admit(client.slot, peer, forwarded)
    }

    fn address(&mut self, client: ClientId, forwarded: Option<&[u8]>) -> u64 {
        let peer = || Some(find(&mut self.entries, client)?.0.peer()?.ip());
        self.doorman.number(client.slot, peer, forwarded)
    }

    fn peer(&mut self, client: ClientId, forwarded: Option<&[u8]>) -> Option<SocketAddr> {
        let peer = || find(&mut self.entries, client)?.0.peer();
        self.doorman.origin(client.slot, peer, forwarded)
    }

    fn want_write(&mut self, client: ClientId) {
        self.wait_to_write(client);
    }

    fn resume(&mut self, client: ClientId) {
        self.watch(client);
    }

    fn finish(&mut self, client: ClientId) {
        let Some((socket, tls)) = find(&mut self.entries, client) else {
            return;
        };
        let Some(session) = tls else {
            return socket.finish();
        };
        session.finish(socket);
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
            session.finish(&socket);
        }
        // The end of the stream goes out before the reset that closing a socket with unread input sends.
        socket.shutdown();
    }
}

/// What a client is called in the kernel.
pub fn token(client: ClientId) -> u64 {
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

fn send_plain(socket: &impl Socket, parts: &[IoSlice<'_>]) -> Sent {
    loop {
        return match socket.send(parts) {
            Ok(taken) => Sent::Taken(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Taken(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Sent::Taken(0),
            Err(_) => Sent::Broken,
        };
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
