//! The sockets of one shard's clients, by slot. Writes are direct non-blocking calls: a ring submission per write measured
//! no better, and this way nothing is held for an idle client.
//!
//! The kernel ([`super::kernel`]) says who has input, and of those that wait for their socket who can write. The table owns the
//! descriptors. Closing one ends its reports, and a report that was taken before names the slot
//! with its generation, so it finds nobody even if slot and descriptor are in use again.
//!
//! A TLS handshake needs one of `tls_handshakes` places, from its first byte on. Who gets them, and who loses one to another
//! address, is decided in `tls/places.rs`. A connection without one is not read; one that says nothing needs none and is in
//! nobody's way.
//!
//! A TLS client's entry points to its session. The session may hold sealed bytes the socket did not take; they are sent before
//! the shard is told that it can write ([`SocketTable::take_writable`]).

use std::collections::HashSet;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::admission::Doorman;
use super::kernel::{Host, Kernel, Socket};

use super::tls::places::{Places, Step};
use super::tls::{End, Place, Received, Scratch, Session};
use crate::close::CloseCause;
use crate::engine::ids::{ClientId, ShardId};
use crate::metrics::{CoreMetrics, Metric};
use crate::shard::{Sent, Sockets, Verdict};
use crate::time::Instant;

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
    /// Clients that cannot go on, and why, until the core takes them.
    failed: Vec<(ClientId, CloseCause)>,
    scratch: Scratch,
    /// TLS handshakes under way, and those that wait for a place.
    places: Places,
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
            places: Places::new(doorman.config().tls_handshakes),
            doorman,
            entries: Vec::new(),
            waiting_to_write: HashSet::default(),
            failed: Vec::new(),
            scratch: Scratch::default(),
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
            self.failed.push((client, CloseCause::SocketError));
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
            if session.place != Place::None {
                self.leave_place(client);
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
        let near = (session.is_silent() && session.place == Place::None).then(|| socket.peer());
        match session.place {
            Place::None if session.is_silent() && self.places.are_taken() => {
                session.place = Place::Awaited;
                self.kernel.unwatch(socket);
                let address = self.address_of(client, near.flatten());
                self.places.wait(client, address);
                self.settle_places();
                return Ok(Received {
                    began: true,
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
                let address = self.address_of(client, near.flatten());
                self.places.take(client, address, self.kernel.now());
                self.count_handshakes();
            }
            if established {
                self.metrics.add(Metric::TlsHandshakesDone, 1);
                self.leave_place(client);
            }
        }
        if has_output {
            self.wait_to_write(client);
        }
        received
    }

    /// Sets how many TLS handshakes there may be at one time; those under way go on.
    pub fn set_handshakes_max(&mut self, most: usize) {
        self.places.set_most(most);
        self.settle_places();
    }

    /// When [`SocketTable::settle_places`] should be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.places.next_at()
    }

    /// Takes the clients that cannot go on: their socket could not be watched or waited for, or their handshake has lost its
    /// place.
    pub fn take_failed(&mut self) -> Vec<(ClientId, CloseCause)> {
        std::mem::take(&mut self.failed)
    }

    /// Reports a client by [`SocketTable::take_writable`] once its socket takes bytes.
    fn wait_to_write(&mut self, client: ClientId) {
        if let Some((socket, _)) = find(&mut self.entries, client)
            && self.waiting_to_write.insert(client.slot)
            && self.kernel.await_room(socket, token(client)).is_err()
        {
            self.waiting_to_write.remove(&client.slot);
            self.failed.push((client, CloseCause::SocketError));
        }
    }

    /// Where a client comes from, as far as places go.
    fn address_of(&self, client: ClientId, near: Option<SocketAddr>) -> IpAddr {
        // One that is gone already will end at once, whoever it was.
        let origin = self.doorman.origin(client.slot, || near, None);
        origin.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |origin| origin.ip())
    }

    fn count_handshakes(&self) {
        self.metrics.set(Metric::TlsHandshakesOpen, self.places.held() as u64);
    }

    /// A handshake is over, or waits no longer.
    fn leave_place(&mut self, client: ClientId) {
        if let Some((_, Some(session))) = find(&mut self.entries, client) {
            session.place = Place::None;
        }
        self.places.leave(client);
        self.settle_places();
    }

    /// Gives free places to those that wait, what they have sent is reported again; and ends those who lose theirs.
    pub fn settle_places(&mut self) {
        while let Some(step) = self.places.next(self.kernel.now()) {
            let (Step::Begin(client) | Step::End(client)) = step;
            if let Some((_, Some(session))) = find(&mut self.entries, client) {
                session.place = match step {
                    Step::Begin(_) => Place::Held,
                    Step::End(_) => Place::None,
                };
            }
            match step {
                Step::Begin(_) => self.watch(client),
                Step::End(_) => self.failed.push((client, CloseCause::TlsGaveWay)),
            }
        }
        self.count_handshakes();
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
