//! Ids of messages that wait for an acknowledgement, for one client. Ids run 1, 2 … 65534, 1 … over all channels (spec:
//! section 6), so the waiting ones form a window that starts at the oldest: look-up is an index, not a search.
//!
//! Invariant: `entries` never starts with a settled entry, so it is empty exactly when nothing waits.

use std::collections::VecDeque;

use crate::engine::ids::DeliveryKey;
use crate::limits::MESSAGE_ID_MAX;

/// Capacity an empty window may keep; more is given back.
const SPARE_ENTRIES: usize = 8;

/// The unacknowledged messages of one client.
#[derive(Debug)]
pub struct Inflight {
    /// Next id to hand out.
    next: u16,
    /// Number of waiting entries.
    waiting: u16,
    /// Entry of id `next - len` … `next - 1`; `None` is settled.
    entries: VecDeque<Option<DeliveryKey>>,
}

impl Default for Inflight {
    fn default() -> Self {
        Self {
            next: 1,
            waiting: 0,
            entries: VecDeque::new(),
        }
    }
}

impl Inflight {
    /// Takes an id for `delivery`. `None` if `max` messages wait already, or if the oldest waiting id would come round
    /// again.
    pub fn insert(&mut self, delivery: DeliveryKey, max: usize) -> Option<u16> {
        if usize::from(self.waiting) >= max || self.entries.len() >= usize::from(MESSAGE_ID_MAX) {
            return None;
        }
        let id = self.next;
        self.next = if id == MESSAGE_ID_MAX { 1 } else { id + 1 };
        self.entries.push_back(Some(delivery));
        self.waiting += 1;
        Some(id)
    }

    /// The delivery that waits under `id`.
    pub fn find(&self, id: u16) -> Option<DeliveryKey> {
        *self.entries.get(self.index(id)?)?
    }

    /// Settles `id`; `None` if it is not waiting.
    pub fn remove(&mut self, id: u16) -> Option<DeliveryKey> {
        let index = self.index(id)?;
        let delivery = self.entries.get_mut(index)?.take()?;
        self.waiting -= 1;
        self.trim();
        Some(delivery)
    }

    /// Takes every waiting delivery out.
    pub fn clear(&mut self, mut taken: impl FnMut(DeliveryKey)) {
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
        assert_eq!(inflight.insert(key(0), 2), Some(1));
        assert_eq!(inflight.insert(key(1), 2), Some(2));
        assert_eq!(inflight.insert(key(2), 2), None);
        inflight.remove(2);
        for n in 3..=MESSAGE_ID_MAX {
            assert_eq!(inflight.insert(key(0), 2), Some(n));
            inflight.remove(n);
        }
        // 1 still waits: the next id would be 1 again.
        assert_eq!(inflight.insert(key(0), 2), None);
        inflight.remove(1);
        assert_eq!(inflight.insert(key(0), 2), Some(1));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u8..3, 0u16..40), 0..400)) {
            let mut inflight = Inflight::default();
            let mut twin = BTreeMap::new();
            let mut serial = 0;
            for (step, argument) in steps {
                if step < 2 {
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
