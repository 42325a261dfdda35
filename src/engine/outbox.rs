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
//! dropped but by [`Outbox::clear`], which is for clients that are gone.
//!
//! Memory: an empty outbox is one null pointer. Buffers come from the core's [`Pool`] and return when the last byte is
//! out, so that a steady state does not allocate.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::limits::OUTBOX_COPY_BYTES_MAX;

/// Bytes of control frames that may wait beyond the outbox bound: some thirty pings, pongs and a close frame. More than
/// that unread means that nobody reads.
pub const CONTROL_BYTES_MAX: usize = 4096;

/// Idle queues a pool keeps: as many as one turn of fan-out and replies fills before it writes.
const POOL_QUEUES_MAX: usize = 1024;

/// Buffer capacity a pooled queue may keep, so that a full pool holds at most 4 MiB.
const POOL_BUFFER_BYTES_MAX: usize = 4096;

/// References to shared bodies a pooled queue may keep room for.
const POOL_SHARED_MAX: usize = 8;

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
    copied: Vec<u8>,
    start: usize,
    /// Shared bodies, in order, each behind `lead` copied bytes.
    shared: VecDeque<Shared>,
    /// Copied bytes behind the last shared body.
    tail: usize,
    /// Bytes waiting, copied and shared.
    len: usize,
    /// Bytes of control frames waiting, at most; what leaves is taken off here first.
    control: usize,
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
            queue.copied = Vec::new();
        }
        if queue.shared.capacity() > POOL_SHARED_MAX {
            queue.shared = VecDeque::new();
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

    /// Takes `count` bytes, fewer than wait, from the front.
    fn advance(&mut self, mut count: usize) {
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
            self.copied.drain(..self.start);
            self.start = 0;
        }
    }

    fn reset(&mut self) {
        self.copied.clear();
        self.shared.clear();
        (self.start, self.tail, self.len, self.control) = (0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: usize = 10_000;

    /// Everything waiting, seen through as many slices as needed.
    fn contents(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let used = outbox.slices(&mut slices);
        assert!(used < slices.len());
        slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn an_idle_outbox_is_a_pointer() {
        assert_eq!(size_of::<Outbox>(), 8);
    }

    #[test]
    fn a_small_body_joins_its_header_and_a_large_one_is_shared() {
        let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
        let small = Bytes::from(vec![1; OUTBOX_COPY_BYTES_MAX]);
        let large = Bytes::from(vec![2; OUTBOX_COPY_BYTES_MAX + 1]);
        outbox.push_shared(b"h", &small, BOUND, &mut pool).unwrap();
        outbox.push_shared(b"i", &large, BOUND, &mut pool).unwrap();
        outbox.push_copy(b"end", BOUND, &mut pool).unwrap();
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(outbox.slices(&mut slices), 3);
        assert_eq!(slices[0].len(), OUTBOX_COPY_BYTES_MAX + 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!(&*slices[2], b"end");
        assert_eq!(outbox.slices(&mut []), 0);
    }

    #[test]
    fn a_full_outbox_takes_control_frames_only() {
        let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
        outbox.push_copy(&[0; BOUND - 1], BOUND, &mut pool).unwrap();
        let body = Bytes::from(vec![1; 5000]);
        outbox
            .push_shared(b"h", &body, BOUND, &mut pool)
            .expect("below the bound: one whole frame more");
        assert_eq!(outbox.push_copy(b"x", BOUND, &mut pool), Err(Full));
        assert_eq!(outbox.push_shared(b"x", &body, BOUND, &mut pool), Err(Full));
        let len = outbox.len_bytes();
        assert_eq!(len, BOUND + 5000);
        for _ in 0..CONTROL_BYTES_MAX / 128 {
            outbox.push_control(&[9; 128], &mut pool).unwrap();
        }
        assert_eq!(outbox.push_control(&[9], &mut pool), Err(Full));
        outbox.advance(128, &mut pool);
        assert_eq!(outbox.push_control(&[9; 128], &mut pool), Ok(()));
        assert_eq!(
            outbox.len_bytes(),
            len + CONTROL_BYTES_MAX,
            "what left makes room for as much"
        );
    }

    #[test]
    fn buffers_are_recycled_but_not_hoarded() {
        let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
        outbox.push_copy(b"abc", BOUND, &mut pool).unwrap();
        let at = contents_at(&outbox);
        outbox.advance(3, &mut pool);
        assert!(outbox.is_empty() && pool.spare.len() == 1);
        outbox.push_copy(b"def", BOUND, &mut pool).unwrap();
        assert_eq!(contents_at(&outbox), at);
        outbox.push_copy(&vec![0; 1 << 20], BOUND, &mut pool).unwrap();
        outbox.clear(&mut pool);
        assert_eq!(pool.spare[0].copied.capacity(), 0);
        let mut many: Vec<_> = (0..POOL_QUEUES_MAX + 10).map(|_| Outbox::new()).collect();
        many.iter_mut()
            .for_each(|one| one.push_copy(b"x", 1, &mut pool).unwrap());
        many.iter_mut().for_each(|one| one.advance(1, &mut pool));
        assert_eq!(pool.spare.len(), POOL_QUEUES_MAX);
    }

    fn contents_at(outbox: &Outbox) -> *const u8 {
        let mut slices = [IoSlice::new(&[])];
        assert_eq!(outbox.slices(&mut slices), 1);
        slices[0].as_ptr()
    }

    #[test]
    fn a_queue_that_never_drains_does_not_grow() {
        let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
        for _ in 0..10_000 {
            outbox.push_copy(&[7; 150], BOUND, &mut pool).unwrap();
            outbox.advance(outbox.len_bytes() - 10, &mut pool);
        }
        assert!(outbox.0.unwrap().copied.capacity() < 4 * COMPACT_BYTES_MIN);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Copy(usize),
        Shared(usize, usize),
        Control(usize),
        Advance(usize),
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..300usize).prop_map(Op::Copy),
            4 => (0..20usize, 0..4000usize).prop_map(|(header, body)| Op::Shared(header, body)),
            2 => (0..140usize).prop_map(Op::Control),
            8 => prop_oneof![0..10usize, 0..5000usize, Just(usize::MAX)].prop_map(Op::Advance),
            1 => Just(Op::Clear),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue_of_bytes(ops in prop::collection::vec(op(), 1..150)) {
            let (mut outbox, mut pool, mut twin) = (Outbox::new(), Pool::new(), VecDeque::new());
            let mut next = 0u8;
            let mut frame = |len: usize| -> Vec<u8> {
                (0..len).map(|_| { next = next.wrapping_mul(5).wrapping_add(3); next }).collect()
            };
            let mut largest = 0;
            for op in ops {
                let room = twin.len() < BOUND;
                match op {
                    Op::Copy(len) => {
                        let bytes = frame(len);
                        prop_assert_eq!(outbox.push_copy(&bytes, BOUND, &mut pool).is_ok(), room);
                        twin.extend(bytes.into_iter().filter(|_| room));
                    }
                    Op::Shared(header, body) => {
                        let (header, body) = (frame(header), Bytes::from(frame(body)));
                        prop_assert_eq!(outbox.push_shared(&header, &body, BOUND, &mut pool).is_ok(), room);
                        twin.extend(header.into_iter().chain(body).filter(|_| room));
                    }
                    Op::Control(len) => {
                        let bytes = frame(len);
                        if outbox.push_control(&bytes, &mut pool).is_ok() {
                            twin.extend(bytes);
                        }
                    }
                    Op::Advance(count) => {
                        outbox.advance(count, &mut pool);
                        twin.drain(..count.min(twin.len()));
                    }
                    Op::Clear => {
                        outbox.clear(&mut pool);
                        twin.clear();
                    }
                }
                largest = largest.max(outbox.len_bytes());
                prop_assert_eq!(outbox.len_bytes(), twin.len());
                prop_assert_eq!(outbox.is_empty(), twin.is_empty());
                prop_assert_eq!(contents(&outbox), twin.iter().copied().collect::<Vec<_>>());
            }
            prop_assert!(largest < BOUND + 4020 + CONTROL_BYTES_MAX);
        }
    }
}
