//! Ids of messages that wait for an acknowledgement, for one client. Ids run 1, 2 … 65534, 1 … over all channels (spec:
//! section 6), so most waiting ones form a window that starts at the oldest: look-up is an index, not a search.
//!
//! A message that stays unanswered while the others go on must not stretch the window until the ring is used up: once
//! most of the window is settled, its oldest entry moves to `stuck`, a small map, and its id is skipped when its turn
//! comes again. So an id is handed out whenever fewer than `inflight_max` messages wait.
//!
//! Invariants: `entries` never starts with a settled entry; it holds at most [`WINDOW_SLACK`] settled ones more than
//! waiting ones. Callers: the session.

use std::collections::{BTreeMap, VecDeque};

use super::packet::MESSAGE_ID_MAX;
use crate::engine::ids::DeliveryKey;

/// Capacity an empty window may keep; more is given back.
const SPARE_ENTRIES: usize = 8;

/// Settled entries a window may hold beyond as many as wait, before its oldest entry counts as stuck.
const WINDOW_SLACK: usize = 64;

/// The unacknowledged messages of one client.
#[derive(Debug)]
pub struct Inflight {
    /// Next id to hand out.
    next: u16,
    /// Number of waiting entries.
    waiting: u16,
    /// Entry of id `next - len` … `next - 1`; `None` is settled, or stuck, or was skipped.
    entries: VecDeque<Option<DeliveryKey>>,
    /// Entries that the window has left behind.
    stuck: BTreeMap<u16, DeliveryKey>,
}

impl Default for Inflight {
    fn default() -> Self {
        Self {
            next: 1,
            waiting: 0,
            entries: VecDeque::new(),
            stuck: BTreeMap::new(),
        }
    }
}

impl Inflight {
    /// Takes an id for `delivery`: the next one that is not in use. `None` if `max` messages wait already.
    pub fn insert(&mut self, delivery: DeliveryKey, max: usize) -> Option<u16> {
        if usize::from(self.waiting) >= max.min(usize::from(MESSAGE_ID_MAX)) {
            return None;
        }
        while !self.stuck.is_empty() && self.stuck.contains_key(&self.next) {
            self.advance(None);
        }
        let id = self.next;
        self.advance(Some(delivery));
        self.waiting += 1;
        Some(id)
    }

    /// The delivery that waits under `id`.
    pub fn find(&self, id: u16) -> Option<DeliveryKey> {
        let in_window = self.index(id).and_then(|index| *self.entries.get(index)?);
        in_window.or_else(|| self.stuck.get(&id).copied())
    }

    /// Settles `id`; `None` if it is not waiting.
    pub fn remove(&mut self, id: u16) -> Option<DeliveryKey> {
        let in_window = self.index(id).and_then(|index| self.entries.get_mut(index)?.take());
        let delivery = match in_window {
            Some(delivery) => delivery,
            None => self.stuck.remove(&id)?,
        };
        self.waiting -= 1;
        self.trim();
        Some(delivery)
    }

    /// Takes every waiting delivery out.
    pub fn clear(&mut self, mut taken: impl FnMut(DeliveryKey)) {
        std::mem::take(&mut self.stuck).into_values().for_each(&mut taken);
        for delivery in std::mem::take(&mut self.entries).into_iter().flatten() {
            taken(delivery);
        }
        self.waiting = 0;
    }

    /// Number of waiting messages.
    pub fn len(&self) -> usize {
        usize::from(self.waiting)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn index(&self, id: u16) -> Option<usize> {
        if id == 0 || id > MESSAGE_ID_MAX {
            return None;
        }
        let newest = if self.next == 1 { MESSAGE_ID_MAX } else { self.next - 1 };
        let age = (usize::from(newest) + usize::from(MESSAGE_ID_MAX) - usize::from(id)) % usize::from(MESSAGE_ID_MAX);
        self.entries.len().checked_sub(age + 1)
    }

    /// Puts the entry of the next id at the end of the window.
    fn advance(&mut self, entry: Option<DeliveryKey>) {
        self.next = if self.next == MESSAGE_ID_MAX { 1 } else { self.next + 1 };
        if entry.is_some() || !self.entries.is_empty() {
            self.entries.push_back(entry);
        }
        if self.entries.len() > WINDOW_SLACK {
            self.leave_stuck_behind();
        }
    }

    #[cold]
    fn leave_stuck_behind(&mut self) {
        // One entry came, so the loop takes out as many as it has to in one or two rounds on average.
        while self.is_stretched() {
            let oldest = self.oldest();
            if let Some(Some(delivery)) = self.entries.pop_front() {
                self.stuck.insert(oldest, delivery);
            }
            self.trim();
        }
    }

    /// Most of the window is settled behind its oldest entry, or the window is about to meet itself.
    fn is_stretched(&self) -> bool {
        let waiting = usize::from(self.waiting) - self.stuck.len();
        self.entries.len() > (2 * waiting + WINDOW_SLACK).min(usize::from(MESSAGE_ID_MAX) - 1)
    }

    /// Id of the first entry of the window.
    fn oldest(&self) -> u16 {
        let ring = usize::from(MESSAGE_ID_MAX);
        let before = (usize::from(self.next) - 1 + ring - self.entries.len() % ring) % ring;
        before as u16 + 1
    }

    #[inline]
    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > SPARE_ENTRIES {
            self.entries.shrink_to(SPARE_ENTRIES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn key(slot: u32) -> DeliveryKey {
        DeliveryKey { slot, generation: 0 }
    }

    #[test]
    fn ids_run_to_65534_and_start_over() {
        let mut inflight = Inflight::default();
        for round in 0..2 {
            for id in 1..=MESSAGE_ID_MAX {
                assert_eq!(inflight.insert(key(round), 10), Some(id));
                assert_eq!(inflight.remove(id), Some(key(round)));
            }
        }
        assert!(inflight.is_empty());
    }

    #[test]
    fn unknown_ids_are_unknown() {
        let mut inflight = Inflight::default();
        inflight.insert(key(1), 10);
        for id in [0, 2, 100, MESSAGE_ID_MAX, u16::MAX] {
            assert_eq!(inflight.remove(id), None, "{id}");
        }
        assert_eq!(inflight.remove(1), Some(key(1)));
        assert_eq!(inflight.remove(1), None);
    }

    #[test]
    fn the_bound_holds_and_a_waiting_id_is_never_reused() {
        let mut inflight = Inflight::default();
        assert_eq!(inflight.insert(key(7), 2), Some(1));
        assert_eq!(inflight.insert(key(1), 2), Some(2));
        assert_eq!(inflight.insert(key(2), 2), None);
        inflight.remove(2);
        for _ in 0..3 {
            for n in 2..=MESSAGE_ID_MAX {
                if n == 2 && inflight.next == 3 {
                    continue;
                }
                assert_eq!(inflight.insert(key(0), 2), Some(n));
                assert_eq!(inflight.remove(n), Some(key(0)));
            }
            // 1 still waits: it is skipped.
            assert!(inflight.entries.len() <= WINDOW_SLACK + 2, "the window stays small");
            assert_eq!(inflight.find(1), Some(key(7)));
            assert_eq!(inflight.len(), 1);
        }
        assert_eq!(inflight.remove(1), Some(key(7)));
        assert!(inflight.is_empty());
        assert_eq!(inflight.insert(key(0), 2), Some(1));
    }

    #[test]
    fn all_ids_may_be_in_use() {
        let all = usize::from(MESSAGE_ID_MAX);
        let mut inflight = Inflight::default();
        for id in 1..=MESSAGE_ID_MAX {
            assert_eq!(inflight.insert(key(u32::from(id)), usize::MAX), Some(id));
        }
        assert_eq!((inflight.insert(key(0), usize::MAX), inflight.len()), (None, all));
        for id in [40_000, 1, 40_000, MESSAGE_ID_MAX, 65_000] {
            assert!(inflight.remove(id).is_some());
            assert_eq!(inflight.insert(key(u32::from(id)), usize::MAX), Some(id));
        }
        for id in 1..=MESSAGE_ID_MAX {
            assert_eq!(inflight.find(id), Some(key(u32::from(id))), "{id}");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_map(start in 1u16..=MESSAGE_ID_MAX, steps in proptest::collection::vec((0u8..5, 0u16..400), 0..900)) {
            let mut inflight = Inflight { next: start, ..Inflight::default() };
            let mut twin = BTreeMap::new();
            let mut serial = 0;
            for (step, argument) in steps {
                // Near the newest ids, across the end of the ring.
                let newest = u32::from(inflight.next) + u32::from(MESSAGE_ID_MAX);
                let argument = ((newest - u32::from(argument)) % u32::from(MESSAGE_ID_MAX)) as u16 + 1;
                if step < 3 {
                    serial += 1;
                    if let Some(id) = inflight.insert(key(serial), 20) {
                        proptest::prop_assert!(twin.insert(id, key(serial)).is_none());
                    } else {
                        proptest::prop_assert_eq!(twin.len(), 20);
                    }
                } else {
                    proptest::prop_assert_eq!(inflight.find(argument), twin.get(&argument).copied());
                    proptest::prop_assert_eq!(inflight.remove(argument), twin.remove(&argument));
                }
                proptest::prop_assert_eq!(inflight.len(), twin.len());
            }
            let mut left = Vec::new();
            inflight.clear(|delivery| left.push(delivery));
            proptest::prop_assert_eq!(left.len(), twin.len());
        }
    }
}
