//! The one timer store of a core: a hierarchical timing wheel. QoS retries, keep-alive, handshake and idle deadlines live
//! here; nothing else holds a timer. Callers: `shard`, `control`.
//!
//! Time is counted in ticks of [`WHEEL_TICK`]. Level `l` has 64 slots of 64^l ticks; a timer lies on the level of the
//! highest 6-bit digit in which its tick differs from the current one, and moves down when the wheel reaches its slot.
//! Nine levels reach the end of time, so there is no "too far" case to get wrong. Invariants, with `current` the tick
//! the wheel stands on:
//! - every timer of a tick before `current` has fired;
//! - an occupied slot lies behind `current` on its level (level 0: at or behind), so the first occupied slot of the
//!   lowest occupied level is the earliest one, found with two bit scans: idle hours cost nothing;
//! - `moving` names a slot on its way down. That may stop half-way when the budget ends; until it is empty nothing fires
//!   and everything inserted queues up behind it.
//!
//! What holds for callers: a timer never fires early; advanced every tick, it fires less than one tick late. Timers fire
//! in the order of their ticks, those of one tick in the order of insertion. A deadline in the past counts as the current
//! tick. Memory: one node (32 bytes with an 8-byte payload) per timer of the busiest moment, never given back.

use std::num::NonZeroU32;

use crate::limits::WHEEL_TICK;
use crate::time::Instant;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 9;
const LISTS: usize = LEVELS * SLOTS;
/// In place of a list: none.
const NONE: u16 = u16::MAX;
/// In place of a node: none.
const NIL: u32 = u32::MAX;
const TICK_MICROS: u64 = WHEEL_TICK.as_micros() as u64;

/// Nodes moved down per unit of the budget: moving one costs some 10 ns, firing one is the start of real work.
const MOVES_PER_FIRING: usize = 16;

const _: () = assert!(TICK_MICROS > 0);
const _: () = assert!(u64::MAX / TICK_MICROS < 1 << (DIGIT_BITS as u64 * LEVELS as u64));

/// Handle of one pending timer. Stale after it fired or was cancelled, and known to be; 8 bytes, also as an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    node: u32,
    generation: NonZeroU32,
}

/// Timers that carry a `T` each.
#[derive(Debug)]
pub struct Wheel<T> {
    current: u64,
    len: usize,
    occupied: [u64; LEVELS],
    lists: Box<[List; LISTS]>,
    nodes: Vec<Node<T>>,
    /// Head of the chain of unused nodes.
    free: u32,
    /// List on its way down, its bit in `occupied` already cleared; or [`NONE`].
    moving: u16,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

#[derive(Debug)]
struct Node<T> {
    tick: u64,
    next: u32,
    prev: u32,
    generation: NonZeroU32,
    /// Where it hangs.
    list: u16,
    payload: T,
}

const EMPTY: List = List { head: NIL, tail: NIL };

impl<T: Copy> Default for Wheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that stands at [`Instant::ZERO`].
    pub fn new() -> Self {
        Self {
            current: 0,
            len: 0,
            occupied: [0; LEVELS],
            lists: Box::new([EMPTY; LISTS]),
            nodes: Vec::new(),
            free: NIL,
            moving: NONE,
        }
    }

    /// Number of pending timers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `payload` fire at `at`, or with the next [`Wheel::advance`] if that is past. O(1).
    pub fn insert(&mut self, at: Instant, payload: T) -> TimerId {
        let tick = at.as_micros().div_ceil(TICK_MICROS).max(self.current);
        let node = self.allocate(tick, payload);
        let list = if self.moving == NONE {
            self.list_of(tick)
        } else {
            self.moving
        };
        self.append(list, node);
        self.len += 1;
        TimerId {
            node,
            generation: self.nodes[node as usize].generation,
        }
    }

    /// Takes a timer back; false if it fired or was cancelled before. O(1).
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        let pending = self
            .nodes
            .get(timer.node as usize)
            .is_some_and(|node| node.generation == timer.generation);
        if pending {
            self.unlink(timer.node);
            self.release(timer.node);
        }
        pending
    }

    /// Moves the wheel to `now` and appends what fires to `fired`, at most `budget` payloads. True if the budget (at
    /// least 1 is taken) ended first: call again, before sleeping.
    pub fn advance(&mut self, now: Instant, budget: usize, fired: &mut Vec<T>) -> bool {
        let target = now.as_micros() / TICK_MICROS;
        let mut moves = budget.max(1).saturating_mul(MOVES_PER_FIRING);
        while self.settle(&mut moves) {
            let Some((level, slot, start)) = self.earliest() else {
                break;
            };
            if start > target {
                break;
            }
            if moves < MOVES_PER_FIRING {
                return true;
            }
            self.current = start;
            if level == 0 {
                let first = self.lists[slot].head;
                fired.push(self.nodes[first as usize].payload);
                self.unlink(first);
                self.release(first);
                moves -= MOVES_PER_FIRING;
            } else {
                self.moving = (level * SLOTS + slot) as u16;
                self.occupied[level] &= !(1 << slot);
            }
        }
        if self.moving != NONE {
            return true;
        }
        self.current = self.current.max(target);
        false
    }

    /// When to advance again at the latest: never after the tick in which the earliest timer fires. It may be earlier
    /// (then a level has to be moved down, at most eight times in the life of a timer). `None` without timers.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.moving != NONE {
            self.current
        } else {
            self.earliest()?.2
        };
        Some(Instant::from_micros(tick.saturating_mul(TICK_MICROS)))
    }

    /// Level, slot and first tick of the earliest occupied slot.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = DIGIT_BITS * level as u32;
        let block = self.current >> (shift + DIGIT_BITS) << DIGIT_BITS;
        Some((level, slot as usize, (block | u64::from(slot)) << shift))
    }

    /// Moves what is on its way down to its place; false if the budget ended first.
    fn settle(&mut self, moves: &mut usize) -> bool {
        while self.moving != NONE {
            if *moves == 0 {
                return false;
            }
            *moves -= 1;
            let node = self.lists[usize::from(self.moving)].head;
            self.unlink(node);
            self.append(self.list_of(self.nodes[node as usize].tick), node);
        }
        true
    }

    fn list_of(&self, tick: u64) -> u16 {
        let differing = (tick ^ self.current) | 1; // 1: an equal tick lies on level 0
        let level = (differing.ilog2() / DIGIT_BITS) as usize;
        let digit = (tick >> (DIGIT_BITS * level as u32)) as usize % SLOTS;
        (level * SLOTS + digit) as u16
    }

    fn append(&mut self, list: u16, node: u32) {
        let at = usize::from(list);
        let tail = std::mem::replace(&mut self.lists[at].tail, node);
        match self.nodes.get_mut(tail as usize) {
            Some(last) => last.next = node,
            None => {
                self.lists[at].head = node;
                self.occupied[at / SLOTS] |= 1 << (at % SLOTS);
            }
        }
        let this = &mut self.nodes[node as usize];
        (this.prev, this.next, this.list) = (tail, NIL, list);
    }

    fn unlink(&mut self, node: u32) {
        let Node { prev, next, list, .. } = self.nodes[node as usize];
        let at = usize::from(list);
        match self.nodes.get_mut(prev as usize) {
            Some(before) => before.next = next,
            None => self.lists[at].head = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(after) => after.prev = prev,
            None => self.lists[at].tail = prev,
        }
        if self.lists[at].head == NIL {
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
            if list == self.moving {
                self.moving = NONE;
            }
        }
    }

    fn allocate(&mut self, tick: u64, payload: T) -> u32 {
        if let Some(node) = self.nodes.get_mut(self.free as usize) {
            let index = std::mem::replace(&mut self.free, node.next);
            (node.tick, node.payload) = (tick, payload);
            return index;
        }
        let index = u32::try_from(self.nodes.len()).ok().filter(|index| *index != NIL);
        self.nodes.push(Node {
            tick,
            next: NIL,
            prev: NIL,
            generation: NonZeroU32::MIN,
            list: NONE,
            payload,
        });
        index.expect("four billion timers need more memory than a core has")
    }

    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        node.next = std::mem::replace(&mut self.free, index);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Duration;

    const BUDGET: usize = usize::MAX;

    fn fire(wheel: &mut Wheel<u32>, at: Instant, budget: usize) -> (Vec<u32>, bool) {
        let mut fired = Vec::new();
        let more = wheel.advance(at, budget, &mut fired);
        (fired, more)
    }

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn never_early_and_at_most_one_tick_late() {
        let mut wheel = Wheel::new();
        wheel.insert(at(TICK_MICROS + 1), 1);
        assert_eq!(fire(&mut wheel, at(TICK_MICROS + 1), BUDGET).0, [0u32; 0]);
        assert_eq!(fire(&mut wheel, at(2 * TICK_MICROS - 1), BUDGET).0, [0u32; 0]);
        assert_eq!(wheel.next_deadline(), Some(at(2 * TICK_MICROS)));
        assert_eq!(fire(&mut wheel, at(2 * TICK_MICROS), BUDGET).0, [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_past_deadline_fires_at_once_even_at_the_same_moment() {
        let mut wheel = Wheel::new();
        let now = at(77 * TICK_MICROS + 5);
        fire(&mut wheel, now, BUDGET);
        wheel.insert(at(3), 1);
        assert_eq!(fire(&mut wheel, now, BUDGET).0, [1]);
    }

    #[test]
    fn the_end_of_time_never_comes() {
        let mut wheel = Wheel::new();
        wheel.insert(at(u64::MAX), 1);
        let soon = wheel.insert(at(u64::MAX - 2 * TICK_MICROS), 2);
        assert_eq!(fire(&mut wheel, at(u64::MAX), BUDGET), (vec![2], false));
        assert!(!wheel.cancel(soon));
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn stale_ids_are_noticed() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(at(5), 1);
        assert!(wheel.cancel(first));
        assert!(!wheel.cancel(first));
        let second = wheel.insert(at(5), 2);
        assert!(!wheel.cancel(first), "the node is reused, the id is not");
        assert_eq!(fire(&mut wheel, at(TICK_MICROS), BUDGET).0, [2]);
        assert!(!wheel.cancel(second));
    }

    #[test]
    fn years_without_a_timer_cost_a_few_steps() {
        let mut wheel = Wheel::new();
        let mut now = Instant::ZERO;
        for _ in 0..100_000 {
            now = now + Duration::from_secs(30 * 24 * 3600);
            wheel.insert(now, 1);
            assert_eq!(fire(&mut wheel, now + WHEEL_TICK, BUDGET).0, [1]);
        }
    }

    #[test]
    fn sleeping_until_next_deadline_is_enough() {
        let mut wheel = Wheel::new();
        let deadline = at(123_456_789_012);
        wheel.insert(deadline, 1);
        let mut wakes = 0;
        loop {
            let now = wheel.next_deadline().unwrap();
            wakes += 1;
            if !fire(&mut wheel, now, BUDGET).0.is_empty() {
                assert!(now >= deadline && now - deadline < WHEEL_TICK);
                break;
            }
        }
        assert!(wakes <= LEVELS, "{wakes} wakes");
    }

    #[test]
    fn handles_and_nodes_are_small() {
        assert_eq!(size_of::<Option<TimerId>>(), 8);
        assert_eq!(size_of::<Node<(u32, u32)>>(), 32);
    }

    /// Moving a hundred thousand timers down and firing them obeys the budget.
    #[test]
    fn one_tick_of_many_timers_is_sliced() {
        let mut wheel = Wheel::new();
        let deadline = at(3_000_000);
        for number in 0..100_000 {
            wheel.insert(deadline, number);
        }
        let (mut seen, mut more, mut turns) = (Vec::new(), true, 0);
        while more {
            let (fired, again) = fire(&mut wheel, deadline, 256);
            assert!(fired.len() <= 256);
            (more, turns) = (again, turns + 1);
            seen.extend(fired);
        }
        assert!(seen.iter().copied().eq(0..100_000));
        assert!(turns < 500, "{turns} turns");
    }

    #[test]
    fn a_timer_set_while_its_tick_moves_down_stays_last() {
        let mut wheel = Wheel::new();
        let deadline = at(100 * TICK_MICROS);
        for number in 0..40 {
            wheel.insert(deadline, number);
        }
        assert_eq!(fire(&mut wheel, deadline, 1), (vec![], true));
        wheel.insert(deadline, 40);
        assert_eq!(wheel.next_deadline(), Some(at(64 * TICK_MICROS)));
        assert!(fire(&mut wheel, deadline, BUDGET).0.into_iter().eq(0..=40));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert { delay: u64 },
        InsertPast { ago: u64 },
        Cancel { which: usize },
        Advance { micros: u64, budget: usize },
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..3 * TICK_MICROS,
            0..200 * TICK_MICROS,
            0..10_000 * TICK_MICROS,
            0..1_000_000 * TICK_MICROS,
            0..u64::MAX / 64,
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        let budget = prop_oneof![1usize..4, Just(BUDGET)];
        prop_oneof![
            5 => span().prop_map(|delay| Op::Insert { delay }),
            1 => span().prop_map(|ago| Op::InsertPast { ago }),
            2 => any::<usize>().prop_map(|which| Op::Cancel { which }),
            4 => (span(), budget).prop_map(|(micros, budget)| Op::Advance { micros, budget }),
        ]
    }

    /// The obvious wheel: timers by tick and order of insertion.
    #[derive(Default)]
    struct Twin {
        pending: BTreeMap<(u64, u32), bool>,
        now: u64,
    }

    impl Twin {
        fn check(&mut self, fired: &[u32], more: bool) {
            let target = self.now / TICK_MICROS;
            let mut last = (0, 0);
            for number in fired {
                let key = *self.pending.keys().find(|key| key.1 == *number).expect("pending");
                assert!(key.0 <= target, "early");
                let punctual = self.pending.remove(&key).expect("pending");
                if punctual {
                    assert!(last < key, "out of order");
                    last = key;
                }
            }
            if !more {
                let first = self.pending.first_key_value().map(|(key, _)| key.0);
                assert!(first.is_none_or(|tick| tick > target), "late");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn behaves_like_its_twin(ops in prop::collection::vec(op(), 1..200)) {
            let (mut wheel, mut twin, mut ids) = (Wheel::new(), Twin::default(), Vec::new());
            for op in ops {
                match op {
                    Op::Insert { .. } | Op::InsertPast { .. } => {
                        let deadline = match op {
                            Op::Insert { delay } => twin.now.saturating_add(delay),
                            Op::InsertPast { ago } => twin.now.saturating_sub(ago),
                            _ => unreachable!(),
                        };
                        let number = ids.len() as u32;
                        let tick = deadline.div_ceil(TICK_MICROS);
                        ids.push((wheel.insert(at(deadline), number), tick));
                        twin.pending.insert((tick, number), tick > twin.now / TICK_MICROS);
                    }
                    Op::Cancel { which } if !ids.is_empty() => {
                        let number = which % ids.len();
                        let (id, tick) = ids[number];
                        let pending = twin.pending.remove(&(tick, number as u32)).is_some();
                        prop_assert_eq!(wheel.cancel(id), pending);
                    }
                    Op::Cancel { .. } => {}
                    Op::Advance { micros, budget } => {
                        twin.now = twin.now.saturating_add(micros);
                        let (fired, more) = fire(&mut wheel, at(twin.now), budget);
                        prop_assert!(fired.len() <= budget);
                        twin.check(&fired, more);
                    }
                }
                prop_assert_eq!(wheel.len(), twin.pending.len());
                let first = twin.pending.first_key_value().map(|(key, _)| key.0.max(twin.now / TICK_MICROS));
                match (wheel.next_deadline(), first) {
                    (None, None) => {}
                    (Some(wake), Some(tick)) => prop_assert!(wake.as_micros() <= tick.saturating_mul(TICK_MICROS)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
