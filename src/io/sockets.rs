//! The sockets of one shard's clients, by slot. Writes are direct non-blocking calls: a ring submission per write measured
//! no better, and this way nothing is held for an idle client.
//!
//! A TLS client's entry points to its session. The session may hold sealed bytes the socket did not take; whoever waits for
//! the socket flushes them before the shard is told that it can write ([`SocketTable::flush`]).

use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use monoio::net::TcpStream;

use super::admission::Doorman;
use super::sys::{self, Epoll};
use super::tls::{End, Received, Scratch, Session};
use crate::engine::ids::ClientId;
use crate::metrics::{CoreMetrics, Metric};
use crate::shard::{Sent, Sockets, Verdict};

/// Clients reported together; between two reports everything else has its turn.
const READY_BATCH: usize = 128;

/// Sockets by slot. Fan-out walks it, so an entry is small.
pub struct SocketTable {
    doorman: Doorman,
    entries: Vec<Entry>,
    /// Clients whose socket has to be waited for, until the core takes them.
    want_write: Vec<ClientId>,
    resume: Vec<ClientId>,
    scratch: Scratch,
    /// TLS handshakes under way.
    handshakes: usize,
    /// Who waits for one of them to end.
    waiting: Option<Waker>,
    metrics: Arc<CoreMetrics>,
    /// Which sockets have input. Edge-triggered: who does not read a socket empty must rearm it.
    readiness: Epoll,
    ready: Vec<u64>,
}

#[derive(Default)]
struct Entry {
    fd: RawFd,
    generation: u32,
    link: Link,
}

const _: () = assert!(std::mem::size_of::<Entry>() <= 24);

#[derive(Default)]
enum Link {
    /// No connection, or not this shard's any more.
    #[default]
    None,
    Plain(Rc<TcpStream>),
    Tls(Box<Secure>),
}

struct Secure {
    stream: Rc<TcpStream>,
    session: Box<Session>,
    /// Somebody waits until the socket takes bytes.
    write_armed: bool,
}

impl SocketTable {
    /// An empty table that counts into `metrics`.
    pub fn new(metrics: Arc<CoreMetrics>, doorman: Doorman) -> io::Result<Self> {
        Ok(Self {
            readiness: Epoll::new(READY_BATCH)?,
            ready: Vec::with_capacity(READY_BATCH),
            doorman,
            entries: Vec::new(),
            want_write: Vec::new(),
            resume: Vec::new(),
            scratch: Scratch::default(),
            handshakes: 0,
            waiting: None,
            metrics,
        })
    }

    /// A descriptor that is readable while [`SocketTable::take_ready`] has something to give.
    pub fn readiness(&self) -> io::Result<OwnedFd> {
        sys::duplicate(self.readiness.as_raw_fd())
    }

    /// Begins to report a client's input, that which is there already included.
    pub fn watch(&mut self, client: ClientId) -> io::Result<()> {
        let entry = Self::find(&mut self.entries, client).ok_or(ErrorKind::NotConnected)?;
        match self.readiness.add(entry.fd, token(client), false) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.readiness.rearm(entry.fd, token(client)),
            watched => watched,
        }
    }

    /// Reports a client's input again if there is some left.
    pub fn rewatch(&mut self, client: ClientId) {
        if let Some(entry) = Self::find(&mut self.entries, client) {
            // Cannot fail for a socket that is watched; one that is not is about to be closed.
            let _ = self.readiness.rearm(entry.fd, token(client));
        }
    }

    /// Does not report a client's input any more, until it is watched again.
    pub fn unwatch(&mut self, client: ClientId) {
        if let Some(entry) = Self::find(&mut self.entries, client) {
            // It may not have been watched yet.
            let _ = self.readiness.remove(entry.fd);
        }
    }

    /// Appends clients that have input, as slot and generation, at most [`READY_BATCH`]. Some may be gone by now.
    pub fn take_ready(&mut self, into: &mut Vec<(u32, u32)>) -> io::Result<()> {
        self.ready.clear();
        self.readiness.wait(0, &mut self.ready)?;
        into.extend(self.ready.iter().map(|token| ((token >> 32) as u32, *token as u32)));
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
    pub fn insert(&mut self, client: ClientId, stream: Rc<TcpStream>, tls: Option<Box<Session>>) {
        let slot = client.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, Entry::default);
        }
        let fd = stream.as_raw_fd();
        self.handshakes += usize::from(tls.as_ref().is_some_and(|session| session.is_handshaking()));
        let link = match tls {
            None => Link::Plain(stream),
            Some(session) => Link::Tls(Box::new(Secure {
                stream,
                session,
                write_armed: false,
            })),
        };
        self.entries[slot] = Entry {
            fd,
            generation: client.generation,
            link,
        };
    }

    /// The stream of a client.
    pub fn stream(&self, client: ClientId) -> Option<Rc<TcpStream>> {
        match &self.entries.get(client.slot as usize)? {
            entry if entry.generation != client.generation => None,
            Entry { link: Link::None, .. } => None,
            Entry {
                link: Link::Plain(stream),
                ..
            } => Some(stream.clone()),
            Entry {
                link: Link::Tls(secure),
                ..
            } => Some(secure.stream.clone()),
        }
    }

    /// Forgets a client without closing its socket; gives its TLS session, if it has one, and its address if a PROXY
    /// header told it.
    pub fn remove(&mut self, client: ClientId) -> (Option<Box<Session>>, Option<IpAddr>) {
        let Some(entry) = self.entry(client) else {
            return (None, None);
        };
        let link = std::mem::take(&mut entry.link);
        let told = self.doorman.leave(client.slot);
        let Link::Tls(secure) = link else {
            return (None, told);
        };
        if secure.session.is_handshaking() {
            self.handshake_ended(Metric::TlsHandshakesFailed);
        }
        (Some(secure.session), told)
    }

    /// Receives once from a client into `buffer`. `WouldBlock` if its socket is empty.
    pub fn receive(&mut self, client: ClientId, buffer: &mut [u8]) -> io::Result<Received> {
        let entry = Self::find(&mut self.entries, client).ok_or(ErrorKind::NotConnected)?;
        let Link::Tls(secure) = &mut entry.link else {
            let bytes = sys::recv(entry.fd, buffer)?;
            return Ok(Received {
                bytes,
                more: bytes == buffer.len(),
                established: false,
                end: (bytes == 0).then_some(End::Closed),
            });
        };
        let received = secure.session.receive(entry.fd, buffer, &mut self.scratch);
        let arm = secure.session.has_output() && !std::mem::replace(&mut secure.write_armed, true);
        if arm {
            self.want_write.push(client);
        }
        if received.as_ref().is_ok_and(|received| received.established) {
            self.handshake_ended(Metric::TlsHandshakesDone);
        }
        received
    }

    /// The socket of a client takes bytes: sends what its session holds. True once the shard may be told.
    pub fn flush(&mut self, client: ClientId) -> bool {
        let Some(entry) = self.entry(client) else { return true };
        let fd = entry.fd;
        let Link::Tls(secure) = &mut entry.link else {
            return true;
        };
        // A broken socket shows at the next send or receive.
        let is_done = secure.session.flush(fd).unwrap_or(true);
        secure.write_armed = !is_done;
        is_done
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

    fn handshake_ended(&mut self, how: Metric) {
        self.metrics.add(how, 1);
        self.handshakes = self.handshakes.saturating_sub(1);
        self.wake_waiting();
    }

    fn entry(&mut self, client: ClientId) -> Option<&mut Entry> {
        Self::find(&mut self.entries, client)
    }

    fn find(entries: &mut [Entry], client: ClientId) -> Option<&mut Entry> {
        let entry = entries.get_mut(client.slot as usize)?;
        (entry.generation == client.generation && !matches!(entry.link, Link::None)).then_some(entry)
    }
}

impl Sockets for SocketTable {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let Some(entry) = Self::find(&mut self.entries, client) else {
            return Sent::Broken;
        };
        let Link::Tls(secure) = &mut entry.link else {
            return send_plain(entry.fd, parts);
        };
        let sent = secure.session.send(entry.fd, parts, &mut self.scratch);
        if secure.session.has_output() && !std::mem::replace(&mut secure.write_armed, true) {
            self.want_write.push(client);
        }
        match sent {
            Ok(taken) => Sent::Taken(taken),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Taken(0),
            Err(_) => Sent::Broken,
        }
    }

    fn admit(&mut self, client: ClientId, forwarded: Option<&[u8]>) -> Verdict {
        let fd = self.entry(client).map(|entry| entry.fd);
        let peer = || sys::peer_address(fd?).map(|peer| peer.ip());
        self.doorman.admit(client.slot, peer, forwarded)
    }

    fn want_write(&mut self, client: ClientId) {
        if let Some(Entry {
            link: Link::Tls(secure),
            ..
        }) = self.entry(client)
            && std::mem::replace(&mut secure.write_armed, true)
        {
            return;
        }
        self.want_write.push(client);
    }

    fn resume(&mut self, client: ClientId) {
        self.resume.push(client);
    }

    fn finish(&mut self, client: ClientId) {
        let Some(entry) = Self::find(&mut self.entries, client) else {
            return;
        };
        let Link::Tls(secure) = &mut entry.link else {
            return sys::finish(entry.fd);
        };
        secure.session.finish(entry.fd);
        if secure.session.has_output() && !std::mem::replace(&mut secure.write_armed, true) {
            self.want_write.push(client);
        }
    }

    fn close(&mut self, client: ClientId) {
        let Some(entry) = self.entry(client) else { return };
        let fd = entry.fd;
        if let Link::Tls(secure) = &mut entry.link {
            // Politely, if the socket takes it at once.
            secure.session.finish(fd);
        }
        // Whoever waits for the socket wakes up, finds its client gone and drops the last reference.
        sys::shutdown(fd);
        self.remove(client);
    }
}

/// What a client is called in the kernel.
fn token(client: ClientId) -> u64 {
    u64::from(client.slot) << 32 | u64::from(client.generation)
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
