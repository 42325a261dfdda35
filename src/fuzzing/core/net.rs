//! A kernel in memory: connections between clients that a script moves and the core under test. Smooth, it takes and gives
//! everything at once. Rough, bytes arrive and leave in pieces, calls are interrupted, buffers fill up, reports come late, in any
//! order, for nothing, or for who is gone; but as with a real kernel everything arrives in the end, in order.
//!
//! Reports follow epoll: input is edge-triggered, room level-triggered, closing a descriptor ends its reports, and the lowest free
//! descriptor is used next.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use crate::engine::ids::ClientId;
use crate::fuzzing::Random;
use crate::io::kernel::{Kernel, Socket};
use crate::io::sockets::token;
use crate::time::{Duration, Instant};

/// The kernel; clones are the same one.
#[derive(Clone)]
pub(super) struct Net(Rc<RefCell<State>>);

/// The server's end of a connection.
pub(super) struct Plug {
    net: Net,
    descriptor: usize,
}

struct State {
    now: Instant,
    rough: Option<Random>,
    /// Watching and waiting may fail.
    fails: bool,
    wires: Vec<Wire>,
    descriptors: Vec<Option<Descriptor>>,
    /// Tokens under which somebody was watched: whose wire it is.
    tokens: HashMap<u64, usize>,
    /// Calls made on sockets.
    calls: usize,
}

/// Both directions of one connection.
#[derive(Default)]
pub(super) struct Wire {
    /// Sent by the client, not arrived.
    coming: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// The client has ended its direction; whether that has arrived.
    pub(super) ended: Option<bool>,
    pub(super) reset: bool,
    /// The client reads nothing.
    pub(super) stalled: bool,
    /// The buffer between is full.
    full: bool,
    /// What the server has sent.
    pub(super) out: Vec<u8>,
    /// The server has ended its direction.
    pub(super) finished: bool,
    /// The server has cut it off, with what had not been sent.
    pub(super) cut: bool,
    /// The server has closed it.
    pub(super) closed: bool,
    descriptor: usize,
    /// Of the last client that had it.
    token: u64,
}

struct Descriptor {
    wire: usize,
    input: Option<Watch>,
    room: Option<u64>,
}

#[derive(Clone, Copy)]
struct Watch {
    token: u64,
    edge: bool,
}

impl Wire {
    fn has_end(&self) -> bool {
        self.reset || self.ended == Some(true)
    }

    fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.has_end()
    }

    fn is_writable(&self) -> bool {
        self.reset || self.finished || !(self.stalled || self.full)
    }
}

impl Net {
    pub(super) fn new(rough: Option<Random>, fails: bool) -> Self {
        Self(Rc::new(RefCell::new(State {
            now: Instant::from_micros(1),
            rough,
            fails,
            wires: Vec::new(),
            descriptors: Vec::new(),
            tokens: HashMap::new(),
            calls: 0,
        })))
    }

    pub(super) fn is_rough(&self) -> bool {
        self.0.borrow().rough.is_some()
    }

    /// A client connects; its connection is the next wire.
    pub(super) fn connect(&self) -> Plug {
        let state = &mut *self.0.borrow_mut();
        let free = state.descriptors.iter().position(Option::is_none);
        let descriptor = free.unwrap_or(state.descriptors.len());
        let new = Descriptor {
            wire: state.wires.len(),
            input: None,
            room: None,
        };
        match state.descriptors.get_mut(descriptor) {
            Some(slot) => *slot = Some(new),
            None => state.descriptors.push(Some(new)),
        }
        state.wires.push(Wire {
            descriptor,
            ..Wire::default()
        });
        Plug {
            net: self.clone(),
            descriptor,
        }
    }

    /// The client of a wire says something, and maybe nothing after that.
    pub(super) fn say(&self, wire: usize, bytes: &[u8], ends: bool) {
        let state = &mut *self.0.borrow_mut();
        let smooth = state.rough.is_none();
        let Some(there) = state
            .wires
            .get_mut(wire)
            .filter(|wire| wire.ended.is_none() && !wire.reset)
        else {
            return;
        };
        there.coming.extend(bytes);
        if ends {
            there.ended = Some(false);
        }
        if smooth {
            state.arrive(wire, usize::MAX);
        }
    }

    /// The connection of a wire breaks.
    pub(super) fn reset(&self, wire: usize) {
        let state = &mut *self.0.borrow_mut();
        if let Some(there) = state.wires.get_mut(wire) {
            there.reset = true;
            there.coming.clear();
            there.arrived.clear();
            state.edge(wire);
        }
    }

    /// Time for the kernel: bytes arrive, buffers empty. True if anything was left to do.
    pub(super) fn advance(&self) -> bool {
        let state = &mut *self.0.borrow_mut();
        let mut moved = false;
        for wire in 0..state.wires.len() {
            let there = &state.wires[wire];
            if there.closed {
                continue;
            }
            if !there.coming.is_empty() || there.ended == Some(false) {
                moved = true;
                let count = state.roughly(64);
                state.arrive(wire, count);
            }
            if state.wires[wire].full && state.chance(2) {
                moved = true;
                state.wires[wire].full = false;
            }
        }
        moved
    }

    /// Whether a report is due that the core has not taken.
    pub(super) fn has_reports(&self) -> bool {
        let state = self.0.borrow();
        let mut open = state.descriptors.iter().flatten();
        open.any(|open| {
            let wire = &state.wires[open.wire];
            let room = open.room.is_some() && (wire.is_writable() || wire.full && !wire.stalled);
            room || open.input.is_some_and(|watch| watch.edge && wire.is_readable())
        })
    }

    pub(super) fn pass(&self, span: Duration) {
        let mut state = self.0.borrow_mut();
        state.now = state.now + span;
    }

    pub(super) fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    pub(super) fn wires(&self) -> usize {
        self.0.borrow().wires.len()
    }

    /// Looks at a wire, or changes it.
    pub(super) fn wire<R>(&self, wire: usize, with: impl FnOnce(&mut Wire) -> R) -> R {
        with(&mut self.0.borrow_mut().wires[wire])
    }

    /// The wire of a client, if it was ever watched.
    pub(super) fn wire_of(&self, client: ClientId) -> Option<usize> {
        self.0.borrow().tokens.get(&token(client)).copied()
    }

    /// The client was told that it is one, over the wire it still has.
    pub(super) fn is_welcomed(&self, client: ClientId) -> bool {
        self.wire_of(client).is_some_and(|wire| {
            self.wire(wire, |wire| {
                let out = &wire.out;
                wire.token == token(client) && out.windows(13).any(|bytes| bytes == b"HTTP/1.1 101 ")
            })
        })
    }

    /// No descriptor is open.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().descriptors.iter().all(Option::is_none)
    }
}

impl State {
    /// One in `of`, when rough.
    fn chance(&mut self, of: usize) -> bool {
        self.rough.as_mut().is_some_and(|random| random.below(of) == 0)
    }

    /// All, or some of `most` when rough; at least one.
    fn roughly(&mut self, most: usize) -> usize {
        self.rough.as_mut().map_or(usize::MAX, |random| 1 + random.below(most))
    }

    fn arrive(&mut self, wire: usize, count: usize) {
        let there = &mut self.wires[wire];
        let count = count.min(there.coming.len());
        there.arrived.extend(there.coming.drain(..count));
        // The end may come with the last bytes or after them.
        let ends = there.coming.is_empty() && there.ended == Some(false);
        if ends && (count == 0 || !self.chance(2)) {
            self.wires[wire].ended = Some(true);
        }
        self.edge(wire);
    }

    fn edge(&mut self, wire: usize) {
        let there = &self.wires[wire];
        if there.closed {
            return;
        }
        if let Some(Some(Descriptor { input: Some(watch), .. })) = self.descriptors.get_mut(there.descriptor) {
            watch.edge = true;
        }
    }

    fn shuffle(&mut self, ready: &mut [(u64, bool)]) {
        if let Some(random) = &mut self.rough {
            for last in (1..ready.len()).rev() {
                ready.swap(last, random.below(last + 1));
            }
        }
    }

    /// A token nobody has any more, or that has nothing to report. Who is there and not watched is never reported, nor is
    /// anybody twice in one go. Room is not made up: asking again moves the time at which a slow client is looked at.
    fn nonsense(&mut self, ready: &[(u64, bool)], room: bool) -> Option<(u64, bool)> {
        if !self.chance(4) {
            return None;
        }
        let reportable = |(token, wire): (&u64, &usize)| {
            let there = &self.wires[*wire];
            let open = self.descriptors.get(there.descriptor).and_then(Option::as_ref);
            let unwatched = open.is_some_and(|open| open.wire == *wire && (room || open.input.is_none()));
            let twice = ready.iter().any(|(reported, _)| reported == token);
            (!twice && (there.token != *token || !unwatched)).then_some(*token)
        };
        let mut known: Vec<u64> = self.tokens.iter().filter_map(reportable).collect();
        known.sort_unstable();
        let at = self.rough.as_mut()?.below(known.len());
        known.get(at).map(|token| (*token, false))
    }
}

impl Plug {
    /// The wire it is plugged to.
    pub(super) fn wire(&self) -> usize {
        let state = self.net.0.borrow();
        state.descriptors[self.descriptor].as_ref().expect("open").wire
    }

    /// Nobody would report it: as it must be before it goes to another core.
    pub(super) fn is_unwatched(&self) -> bool {
        let state = self.net.0.borrow();
        let open = state.descriptors[self.descriptor].as_ref().expect("open");
        open.input.is_none() && open.room.is_none()
    }

    /// What has arrived and what is on its way.
    pub(super) fn take_all(&self) -> Vec<u8> {
        self.net.wire(self.wire(), |wire| {
            wire.arrived.drain(..).chain(wire.coming.drain(..)).collect()
        })
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let state = &mut *self.net.0.borrow_mut();
        let open = state.descriptors[self.descriptor].take().expect("closed twice");
        state.wires[open.wire].closed = true;
    }
}

impl Socket for Plug {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = self.wire();
        let state = &mut *self.net.0.borrow_mut();
        state.calls += 1;
        if state.chance(16) {
            return Err(ErrorKind::Interrupted.into());
        }
        let there = &mut state.wires[wire];
        if there.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let count = buffer.len().min(there.arrived.len());
        if count == 0 {
            let ended = there.ended == Some(true);
            return if ended {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        for (to, from) in buffer.iter_mut().zip(there.arrived.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let wire = self.wire();
        let state = &mut *self.net.0.borrow_mut();
        state.calls += 1;
        if state.chance(16) {
            return Err(ErrorKind::Interrupted.into());
        }
        let there = &state.wires[wire];
        if there.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        assert!(!there.finished, "sent after the end");
        if !there.is_writable() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if state.chance(16) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let most = state.roughly(offered.max(1) * 2);
        let taken = offered.min(most);
        let there = &mut state.wires[wire];
        let bytes = parts.iter().flat_map(|part| part.iter().copied());
        there.out.extend(bytes.take(taken));
        there.full = taken < offered;
        Ok(taken)
    }

    fn finish(&self) {
        self.net.wire(self.wire(), |wire| wire.finished = true);
    }

    fn shutdown(&self) {
        self.net.wire(self.wire(), |wire| {
            wire.cut = !wire.finished;
            wire.finished = true;
        });
    }

    fn peer(&self) -> Option<SocketAddr> {
        let gone = self.net.wire(self.wire(), |wire| wire.reset);
        (!gone).then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }
}

impl Kernel for Net {
    type Socket = Plug;

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn unix_micros(&self) -> u64 {
        self.now().as_micros()
    }

    fn watch(&self, socket: &Plug, token: u64) -> io::Result<()> {
        let wire = socket.wire();
        let state = &mut *self.0.borrow_mut();
        if state.fails && state.chance(8) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.tokens.insert(token, wire);
        state.wires[wire].token = token;
        if let Some(Some(open)) = state.descriptors.get_mut(socket.descriptor) {
            open.input = Some(Watch { token, edge: true });
        }
        Ok(())
    }

    fn rearm(&self, socket: &Plug, token: u64) {
        let state = &mut *self.0.borrow_mut();
        if let Some(Some(open)) = state.descriptors.get_mut(socket.descriptor)
            && open.input.is_some()
        {
            open.input = Some(Watch { token, edge: true });
        }
    }

    fn unwatch(&self, socket: &Plug) {
        if let Some(Some(open)) = self.0.borrow_mut().descriptors.get_mut(socket.descriptor) {
            open.input = None;
        }
    }

    fn await_room(&self, socket: &Plug, token: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        if state.fails && state.chance(8) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        if let Some(Some(open)) = state.descriptors.get_mut(socket.descriptor) {
            assert!(open.room.replace(token).is_none(), "waited for twice");
        }
        Ok(())
    }

    fn forget_room(&self, socket: &Plug) {
        if let Some(Some(open)) = self.0.borrow_mut().descriptors.get_mut(socket.descriptor) {
            open.room = None;
        }
    }

    fn take_input(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        for at in 0..state.descriptors.len() {
            // Some are reported by the next call.
            if state.chance(4) {
                continue;
            }
            let Some(Descriptor {
                wire,
                input: Some(watch),
                ..
            }) = &mut state.descriptors[at]
            else {
                continue;
            };
            let there = &state.wires[*wire];
            if std::mem::take(&mut watch.edge) && there.is_readable() {
                ready.push((watch.token, there.has_end()));
            }
        }
        let nonsense = state.nonsense(ready, false);
        ready.extend(nonsense);
        state.shuffle(ready);
        Ok(())
    }

    fn take_room(&mut self, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        for at in 0..state.descriptors.len() {
            if state.chance(4) {
                continue;
            }
            if let Some(Descriptor {
                wire,
                room: Some(token),
                ..
            }) = &state.descriptors[at]
                && state.wires[*wire].is_writable()
            {
                ready.push((*token, false));
            }
        }
        let nonsense = state.nonsense(ready, true);
        ready.extend(nonsense);
        state.shuffle(ready);
        Ok(())
    }
}
