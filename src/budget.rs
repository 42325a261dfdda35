//! One budget of the process for the bytes that *stay*: what was received and is not used yet, what waits to be sent, what
//! somebody else still has to answer. Queues bound what one client or caller may hold; this bounds the sum.
//!
//! Only memory of [`CHUNK`] bytes and more is charged, when it is allocated and when it is freed: a [`Buffer`] charges its
//! capacity, so appending to it costs a comparison, and a small message that passes straight through costs nothing. What is
//! smaller shows in the resident memory, which is looked at once a second (`io/memory.rs`) and taken off the limit.
//!
//! Charging always succeeds. Whoever has charged asks [`is_short`] with its [`Rank`] and gives way when the answer is yes; so
//! the limit is exceeded by at most one buffer of each core. The ranks are the order: the first may use three eighths of the
//! limit, the next one more, and the last one all of it. So the one that asks for more gives way, and the
//! memory of those behind it in the order is left for them.
//!
//! It is one value of the process, as the allocator is: cores add to and read the same few numbers, without locks, and only
//! for large pieces. Without a limit (tests, fuzzing, the simulator) nothing is ever short.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// Memory is charged in multiples of this; what is left over is not.
pub const CHUNK: usize = 4096;

/// What memory is used for; the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Use {
    /// Received from connections and not used yet: request heads, begun messages, input of clients that are not read.
    Input,
    /// Messages of clients until the backend has answered, also of clients that have gone.
    Forwards,
    /// Bytes that wait for clients to take them.
    Outboxes,
    /// Request bodies of the HTTP interface, also while they are delivered.
    Bodies,
    /// Answers of the HTTP interface that their callers have not read, and data of acknowledgements that goes into them.
    Answers,
    /// Answers of backends and other nodes, from the first byte until nobody needs them any more.
    Replies,
}

impl Use {
    /// Every use.
    pub const ALL: [Use; 6] = [
        Use::Input,
        Use::Forwards,
        Use::Outboxes,
        Use::Bodies,
        Use::Answers,
        Use::Replies,
    ];
    /// Labels in the order of [`Use::ALL`].
    pub const LABELS: [&'static str; 6] = ["input", "forwards", "outboxes", "bodies", "answers", "replies"];
}

/// Who gives way, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Clients that lag, judged by what waits for clients alone, so that nobody else can close them: `slow_consumer`.
    Lagging = 3,
    /// Heads of connections that nobody has admitted, and bodies whose signature nobody has checked: refused with 503.
    Stranger = 4,
    /// The begun messages of clients: closed with 1013. Bodies of callers who have signed: 503.
    Begun = 5,
    /// Answers to callers: 503. Answers of backends and other nodes: not read to their end, the call fails.
    Answer = 6,
    /// Messages that are about to be forwarded: the client is not read for a while.
    Forward = 7,
    /// Clients that are not read and hold a receive buffer at most: closed with 1013.
    Last = 8,
}

/// Shares of the limit are in these.
const PARTS: usize = 8;

/// A limit, and what is used of it.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    used: [AtomicUsize; Use::ALL.len()],
}

impl Budget {
    /// Without a limit.
    #[expect(clippy::new_without_default, reason = "a constant cannot be made by Default")]
    pub const fn new() -> Self {
        Self {
            limit: AtomicUsize::new(usize::MAX),
            used: [const { AtomicUsize::new(0) }; Use::ALL.len()],
        }
    }

    /// Sets the limit; what is used already stays.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Bytes used for one thing.
    pub fn used(&self, of: Use) -> usize {
        self.used[of as usize].load(Relaxed)
    }

    /// Bytes used in all.
    pub fn total(&self) -> usize {
        Use::ALL.iter().map(|of| self.used(*of)).sum()
    }

    /// Whether so much is used that those of this rank give way.
    pub fn is_short(&self, rank: Rank) -> bool {
        let used = match rank {
            Rank::Lagging => self.used(Use::Outboxes) + self.used(Use::Bodies),
            _ => self.total(),
        };
        used / PARTS > self.limit() / (PARTS * PARTS) * rank as usize
    }

    /// The charge of one piece of memory changes from `before` to `after` bytes.
    #[cold]
    fn recharge(&self, of: Use, before: usize, after: usize) {
        let (before, after) = (before / CHUNK * CHUNK, after / CHUNK * CHUNK);
        let used = &self.used[of as usize];
        if after > before {
            used.fetch_add(after - before, Relaxed);
        } else if after < before {
            used.fetch_sub(before - after, Relaxed);
        }
    }
}

/// That of this process.
pub static OF_PROCESS: Budget = Budget::new();

/// [`Budget::is_short`] of the process.
pub fn is_short(rank: Rank) -> bool {
    OF_PROCESS.is_short(rank)
}

/// Bytes that are charged as `OF` (a [`Use`]) while they are kept.
#[derive(Debug, Default)]
pub struct Buffer<const OF: usize>(Vec<u8>);

/// Received, not used yet.
pub type Input = Buffer<{ Use::Input as usize }>;
/// Waiting for a client.
pub type Output = Buffer<{ Use::Outboxes as usize }>;
/// Waiting for a caller.
pub type Answer = Buffer<{ Use::Answers as usize }>;
/// From a backend, or another node.
pub type Reply = Buffer<{ Use::Replies as usize }>;

impl<const OF: usize> Buffer<OF> {
    /// An empty one, without memory.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let before = self.0.capacity();
        self.0.extend_from_slice(bytes);
        if self.0.capacity() != before {
            self.note(before);
        }
    }

    /// Bytes it has memory for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Removes bytes at the front; what is left does not keep the memory of many times as much.
    pub fn consume(&mut self, count: usize) {
        let before = self.0.capacity();
        self.0.drain(..count.min(self.0.len()));
        if before >= CHUNK && self.0.len() < before / 4 {
            self.0.shrink_to_fit();
            self.note(before);
        }
    }

    /// Removes all bytes; keeps a little memory for the next ones.
    pub fn clear(&mut self) {
        let before = self.0.capacity();
        if before > CHUNK {
            self.0 = Vec::new();
            self.note(before);
        } else {
            self.0.clear();
        }
    }

    /// Lets something append to it that knows only vectors.
    pub fn fill<R>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.0.capacity();
        let result = fill(&mut self.0);
        self.note(before);
        result
    }

    /// The same bytes to share, charged until nobody shares them any more.
    pub fn share(self) -> Bytes {
        if self.0.capacity() < CHUNK {
            Bytes::from(self.into_vec())
        } else {
            Bytes::from_owner(self)
        }
    }

    /// The bytes, which are not charged any more.
    pub fn into_vec(mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.0);
        self.note(bytes.capacity());
        bytes
    }

    #[cold]
    fn note(&self, before: usize) {
        let after = self.0.capacity();
        if before != after && before.max(after) >= CHUNK {
            OF_PROCESS.recharge(Self::OF, before, after);
        }
    }

    const OF: Use = Use::ALL[OF];
}

impl<const OF: usize> From<Vec<u8>> for Buffer<OF> {
    fn from(bytes: Vec<u8>) -> Self {
        let buffer = Self(bytes);
        buffer.note(0);
        buffer
    }
}

impl<const OF: usize> Drop for Buffer<OF> {
    fn drop(&mut self) {
        if self.0.capacity() >= CHUNK {
            OF_PROCESS.recharge(Self::OF, self.0.capacity(), 0);
        }
    }
}

impl<const OF: usize> Deref for Buffer<OF> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const OF: usize> DerefMut for Buffer<OF> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const OF: usize> AsRef<[u8]> for Buffer<OF> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that are charged as `OF` until nobody shares them any more.
pub fn hold<const OF: usize>(bytes: Vec<u8>) -> Bytes {
    Buffer::<OF>::from(bytes).share()
}

/// Memory that is charged while this is kept, whoever has it.
#[derive(Debug)]
pub struct Claim {
    of: Use,
    bytes: usize,
}

impl Claim {
    /// Nothing yet.
    pub const fn new(of: Use) -> Self {
        Self { of, bytes: 0 }
    }

    /// It is so many bytes now.
    pub fn set(&mut self, bytes: usize) {
        OF_PROCESS.recharge(self.of, self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranks_give_way_in_order() {
        let budget = Budget::new();
        let ranks = [
            Rank::Lagging,
            Rank::Stranger,
            Rank::Begun,
            Rank::Answer,
            Rank::Forward,
            Rank::Last,
        ];
        assert!(ranks.is_sorted());
        budget.recharge(Use::Input, 0, 1 << 40);
        assert!(!budget.is_short(Rank::Stranger), "without a limit");
        budget.recharge(Use::Input, 1 << 40, 0);
        budget.set_limit(800 * CHUNK);
        for (index, rank) in ranks.into_iter().enumerate() {
            let most = 100 * CHUNK * rank as usize;
            budget.recharge(Use::Outboxes, 0, most);
            assert!(!budget.is_short(rank), "{rank:?} may use its share");
            budget.recharge(Use::Bodies, 0, 2 * CHUNK);
            assert!(budget.is_short(rank), "{rank:?} gives way");
            assert!(ranks[index + 1..].iter().all(|behind| !budget.is_short(*behind)));
            budget.recharge(Use::Outboxes, most, 0);
            budget.recharge(Use::Bodies, 2 * CHUNK, 0);
        }
        assert_eq!(budget.total(), 0);
        budget.recharge(Use::Input, 0, 900 * CHUNK);
        assert!(
            budget.is_short(Rank::Last) && !budget.is_short(Rank::Lagging),
            "not its doing"
        );
    }

    /// One use that no other test of this process touches.
    #[test]
    fn what_is_kept_is_charged_until_it_is_dropped() {
        const ANSWERS: usize = Use::Answers as usize;
        let used = || OF_PROCESS.used(Use::Answers);
        assert_eq!(used(), 0);
        let mut answer = Answer::new();
        answer.extend_from_slice(&[1; CHUNK / 2]);
        assert_eq!(used(), 0, "small");
        answer.extend_from_slice(&[2; 10 * CHUNK]);
        assert_eq!(used(), answer.capacity() / CHUNK * CHUNK);
        answer.consume(10 * CHUNK);
        assert!(used() <= CHUNK && answer.len() == CHUNK / 2, "{}", used());
        drop(answer);
        assert_eq!(used(), 0);
        let bytes = hold::<ANSWERS>(vec![7; 3 * CHUNK]);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((used(), &part[..]), (3 * CHUNK, &[7; 10][..]));
        drop(part);
        let mut claim = Claim::new(Use::Answers);
        claim.set(5 * CHUNK + 1);
        claim.set(2 * CHUNK);
        assert_eq!(used(), 2 * CHUNK);
        drop(claim);
        let mut answer = Answer::from(vec![0; 2 * CHUNK]);
        answer.fill(|bytes| bytes.resize(8 * CHUNK, 1));
        assert_eq!(used(), 8 * CHUNK);
        assert_eq!(answer.into_vec().len(), 8 * CHUNK);
        assert_eq!(used(), 0);
    }
}
