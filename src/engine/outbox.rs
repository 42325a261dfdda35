//! One client's outgoing bytes. Filled by `shard` (replies, fan-out), drained by `io` with one write per turn.
//!
//! Small frames are copied behind each other into one buffer, so that they leave in one contiguous write; bodies above
//! [`OUTBOX_COPY_BYTES_MAX`] stay shared with every other client and are only referenced between them.
//!
//! Bound and policy: a frame is refused ([`Full`]) while `bytes_max` or more bytes wait; the caller then closes the slow
//! consumer. So the queue holds less than `bytes_max` plus one frame, and a client that keeps up is not closed because
//! one message is larger than its bound. Control frames are exempt, with [`CONTROL_BYTES_MAX`] of their own on top.
//! The bound is ours: the original queues without limit (spec: section 8).
//!
//! Invariants: bytes leave exactly in the order they came; a frame is queued whole or not at all; nothing queued is ever
//! dropped but by [`Outbox::clear`], which is for clients that are gone, and by [`Outbox::drop_oldest`], which takes out
//! whole units that were tagged for it ([`Outbox::tag`]) and of which no byte has left.
//!
//! A *unit* is what was queued by one call: whole frames, or the rest of some when the first bytes went straight to the
//! socket. Neighbours of one kind join, so that a full outbox has few units: kept ones within [`UNIT_AGE`], droppable ones up to
//! [`UNIT_BYTES`].
//!
//! Memory (charged to `budget.rs`): an empty outbox is one null pointer. Buffers come from the core's [`Pool`] and return when the last byte is
//! out, so that a steady state does not allocate.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::budget::Output;
use crate::limits::OUTBOX_COPY_BYTES_MAX;
use crate::time::{Duration, Instant};

/// Bytes of control frames that may wait beyond the outbox bound: some thirty pings, pongs and a close frame. More than
/// that unread means that nobody reads.
pub const CONTROL_BYTES_MAX: usize = 4096;

/// Idle queues a pool keeps: as many as one turn of fan-out and replies fills before it writes.
const POOL_QUEUES_MAX: usize = 1024;

/// Buffer capacity a pooled queue may keep, so that a full pool holds at most 4 MiB.
const POOL_BUFFER_BYTES_MAX: usize = 4096;

/// References to shared bodies a pooled queue may keep room for.
const POOL_SHARED_MAX: usize = 8;

/// Units a pooled queue may keep room for.
const POOL_UNITS_MAX: usize = 16;

/// Kept bytes queued within this time have one age.
const UNIT_AGE: Duration = Duration::from_secs(1);

/// Droppable bytes that are dropped together; a larger message is a unit of its own.
const UNIT_BYTES: usize = 4096;

/// Consumed bytes at the front of a buffer that never drains are moved out once there are this many.
const COMPACT_BYTES_MIN: usize = 4096;

/// The outbox holds its bound; nothing of the frame was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outbox full")
    }
}

impl std::error::Error for Full {}

/// Bounded queue of bytes for one client; 8 bytes while idle.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queue>>);

/// Spare queues of one core.
#[derive(Debug, Default)]
pub struct Pool {
    // Boxed as they are in an outbox: the allocation itself is what is recycled.
    #[expect(clippy::vec_box)]
    spare: Vec<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Copied bytes, all of them; those before `start` are out.
    copied: Output,
    start: usize,
    /// Shared bodies, in order, each behind `lead` copied bytes.
    shared: VecDeque<Shared>,
    /// Copied bytes behind the last shared body.
    tail: usize,
    /// Bytes waiting, copied and shared.
    len: usize,
    /// Bytes of control frames waiting, at most; what leaves is taken off here first.
    control: usize,
    /// What the bytes are, from the front on; what was queued since the last tag is not in it.
    units: VecDeque<Unit>,
    /// Bytes in `units`.
    tagged: usize,
    /// The first unit has lost bytes.
    begun: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unit {
    len: usize,
    since: Instant,
    droppable: bool,
}

#[derive(Debug)]
struct Shared {
    lead: usize,
    body: Bytes,
}

impl Pool {
    /// An empty pool.
    pub const fn new() -> Self {
        Self { spare: Vec::new() }
    }

    fn take(&mut self) -> Box<Queue> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes an empty queue back, without the memory of its worst moment.
    fn put(&mut self, mut queue: Box<Queue>) {
        if self.spare.len() >= POOL_QUEUES_MAX {
            return;
        }
        queue.reset();
        if queue.copied.capacity() > POOL_BUFFER_BYTES_MAX {
            queue.copied = Output::new();
        }
        if queue.shared.capacity() > POOL_SHARED_MAX {
            queue.shared = VecDeque::new();
        }
        if queue.units.capacity() > POOL_UNITS_MAX {
            queue.units = VecDeque::new();
        }
        self.spare.push(queue);
    }
}

impl Outbox {
    /// An empty outbox.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether everything is out.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes waiting.
    pub fn len_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len)
    }

    /// Queues a copy of `frame`.
    ///
    /// # Errors
    /// [`Full`] while `bytes_max` or more bytes wait.
    pub fn push_copy(&mut self, frame: &[u8], bytes_max: usize, pool: &mut Pool) -> Result<(), Full> {
        self.admit(bytes_max)?;
        self.push(frame, pool);
        Ok(())
    }

    /// Queues `header` and `body` as one frame; the body by reference if that pays.
    ///
    /// # Errors
    /// [`Full`] while `bytes_max` or more bytes wait.
    pub fn push_shared(&mut self, header: &[u8], body: &Bytes, bytes_max: usize, pool: &mut Pool) -> Result<(), Full> {
        self.admit(bytes_max)?;
        self.push(header, pool);
        if body.len() <= OUTBOX_COPY_BYTES_MAX {
            self.push(body, pool);
        } else {
            self.0.get_or_insert_with(|| pool.take()).share(body.clone());
        }
        Ok(())
    }

    /// Queues a copy of a control frame (ping, pong, close), whatever else waits.
    ///
    /// # Errors
    /// [`Full`] if [`CONTROL_BYTES_MAX`] bytes of control frames would wait.
    pub fn push_control(&mut self, frame: &[u8], pool: &mut Pool) -> Result<(), Full> {
        let waiting = self.0.as_ref().map_or(0, |queue| queue.control);
        if waiting + frame.len() > CONTROL_BYTES_MAX {
            return Err(Full);
        }
        self.push(frame, pool);
        if let Some(queue) = &mut self.0 {
            queue.control += frame.len();
        }
        Ok(())
    }

    /// Says that the `bytes` queued last are one unit, waiting since `now`, and whether [`Outbox::drop_oldest`] may take it
    /// out. What was queued between two tags is kept, and has the age of the later one.
    pub fn tag(&mut self, bytes: usize, droppable: bool, now: Instant) {
        if let Some(queue) = &mut self.0 {
            let bytes = bytes.min(queue.len - queue.tagged);
            let between = queue.len - queue.tagged - bytes;
            queue.unit(between, false, now);
            queue.unit(bytes, droppable, now);
        }
    }

    /// Since when the oldest tagged byte has been waiting.
    pub fn waiting_since(&self) -> Option<Instant> {
        Some(self.0.as_ref()?.units.front()?.since)
    }

    /// Takes droppable units out, oldest first, while more than `keep` bytes wait or the unit is older than `since`; never one
    /// of which a byte has left. Returns the bytes dropped. Moves every waiting byte once: call it seldom, for much.
    pub fn drop_oldest(&mut self, keep: usize, since: Instant, pool: &mut Pool) -> usize {
        let Some(old) = &mut self.0 else { return 0 };
        let (mut len, first) = (old.len, usize::from(old.begun));
        let mut dropped = vec![false; old.units.len()];
        for (unit, dropped) in old.units.iter().zip(&mut dropped).skip(first) {
            if unit.droppable && (len > keep || unit.since < since) {
                len -= unit.len;
                *dropped = true;
            }
        }
        let bytes = old.len - len;
        if bytes > 0 {
            let mut fresh = pool.take();
            old.copy_kept(&dropped, &mut fresh);
            pool.put(std::mem::replace(old, fresh));
            if len == 0 {
                self.clear(pool);
            }
        }
        bytes
    }

    /// Fills `slices` with what is to be written next, in order; returns how many were used. None left over means that
    /// there may be more behind them.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(queue) = &self.0 else { return 0 };
        let mut free = slices.iter_mut();
        let mut used = 0;
        for piece in queue.pieces().filter(|piece| !piece.is_empty()) {
            let Some(slice) = free.next() else { break };
            *slice = IoSlice::new(piece);
            used += 1;
        }
        used
    }

    /// `count` bytes are out; counts beyond what waits are cut.
    pub fn advance(&mut self, count: usize, pool: &mut Pool) {
        let Some(queue) = &mut self.0 else { return };
        if count < queue.len {
            queue.advance(count);
        } else {
            self.clear(pool);
        }
    }

    /// Drops everything, half-written frames too: the client is gone.
    pub fn clear(&mut self, pool: &mut Pool) {
        if let Some(queue) = self.0.take() {
            pool.put(queue);
        }
    }

    fn admit(&self, bytes_max: usize) -> Result<(), Full> {
        if self.len_bytes() < bytes_max {
            Ok(())
        } else {
            Err(Full)
        }
    }

    fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        if !bytes.is_empty() {
            self.0.get_or_insert_with(|| pool.take()).copy(bytes);
        }
    }
}

impl Queue {
    fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.tail += bytes.len();
        self.len += bytes.len();
    }

    fn share(&mut self, body: Bytes) {
        self.len += body.len();
        let lead = std::mem::take(&mut self.tail);
        self.shared.push_back(Shared { lead, body });
    }

    /// Copied and shared bytes in turns; some may be empty.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.start;
        let turns = self.shared.iter().flat_map(move |shared| {
            let lead = &self.copied[at..at + shared.lead];
            at += shared.lead;
            [lead, &shared.body]
        });
        turns.chain(std::iter::once(&self.copied[self.copied.len() - self.tail..]))
    }

    fn unit(&mut self, len: usize, droppable: bool, since: Instant) {
        if len == 0 {
            return;
        }
        self.tagged += len;
        let is_first_begun = self.begun && self.units.len() == 1;
        match self.units.back_mut() {
            Some(last) if !droppable && !last.droppable && since - last.since < UNIT_AGE => last.len += len,
            Some(last) if droppable && last.droppable && last.len + len <= UNIT_BYTES && !is_first_begun => {
                last.len += len;
            }
            _ => self.units.push_back(Unit { len, since, droppable }),
        }
    }

    /// `count` bytes have left: so have their units.
    fn advance_units(&mut self, mut count: usize) {
        self.tagged -= count.min(self.tagged);
        while let Some(unit) = self.units.front_mut() {
            if count < unit.len {
                unit.len -= count;
                self.begun |= count > 0;
                return;
            }
            count -= unit.len;
            self.begun = false;
            self.units.pop_front();
        }
    }

    /// Copies everything but the dropped units to the end of an empty queue.
    fn copy_kept(&self, dropped: &[bool], into: &mut Queue) {
        let mut units = self.units.iter().zip(dropped);
        // Bytes left of the current unit; behind the last one everything is kept.
        let (mut left, mut skip) = (0, false);
        for (index, piece) in self.pieces().enumerate() {
            let mut at = 0;
            while at < piece.len() {
                if left == 0 {
                    (left, skip) = units
                        .next()
                        .map_or((usize::MAX, false), |(unit, drop)| (unit.len, *drop));
                }
                let end = piece.len().min(at.saturating_add(left));
                if !skip {
                    match self.shared.get(index / 2).filter(|_| index % 2 == 1) {
                        Some(shared) => into.share(shared.body.slice(at..end)),
                        None => into.copy(&piece[at..end]),
                    }
                }
                left -= end - at;
                at = end;
            }
        }
        into.units.extend(
            self.units
                .iter()
                .zip(dropped)
                .filter(|(_, drop)| !**drop)
                .map(|(unit, _)| *unit),
        );
        into.tagged = into.units.iter().map(|unit| unit.len).sum();
        into.control = self.control.min(into.len);
        into.begun = self.begun;
    }

    /// Takes `count` bytes, fewer than wait, from the front.
    fn advance(&mut self, mut count: usize) {
        self.advance_units(count);
        self.len -= count;
        self.control -= count.min(self.control);
        while let Some(front) = self.shared.front_mut() {
            let lead = count.min(front.lead);
            front.lead -= lead;
            self.start += lead;
            count -= lead;
            if count < front.body.len() {
                front.body.advance(count);
                return self.compact();
            }
            count -= front.body.len();
            self.shared.pop_front();
        }
        self.tail -= count;
        self.start += count;
        self.compact();
    }

    /// Moves the waiting bytes to the front once at least as many are out: each byte is moved at most once.
    fn compact(&mut self) {
        if self.start >= COMPACT_BYTES_MIN && self.start * 2 >= self.copied.len() {
            self.copied.consume(self.start);
            self.start = 0;
        }
    }

    fn reset(&mut self) {
        self.copied.clear();
        self.shared.clear();
        self.units.clear();
        (self.start, self.tail, self.len, self.control) = (0, 0, 0, 0);
        (self.tagged, self.begun) = (0, false);
    }
}

#[cfg(test)]
mod tests;
