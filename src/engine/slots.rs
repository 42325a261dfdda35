//! Generation-checked slots: where a shard keeps its clients. A slot number is reused as soon as it is free, its generation
//! counts the reuses, so a handle of a dead client ([`super::ids::ClientId`]) finds nothing. Callers: `shard`, `control`.
//!
//! Invariant: a pair (slot, generation) names at most one value, ever (after 2^32 reuses of one slot the count wraps; a
//! handle would have to outlive all of them). Memory: 4 bytes per slot on top of the slab entry; slots of the busiest
//! moment are never given back.

use slab::Slab;

/// Values in numbered slots.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Slab<T>,
    /// How often each slot was emptied; as long as the highest slot ever used.
    generations: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// No slots.
    pub const fn new() -> Self {
        Self {
            entries: Slab::new(),
            generations: Vec::new(),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Stores `value`; returns its slot and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.insert_with(|_, _| value)
    }

    /// Stores what `make` builds from its own slot and generation.
    pub fn insert_with(&mut self, make: impl FnOnce(u32, u32) -> T) -> (u32, u32) {
        let entry = self.entries.vacant_entry();
        let index = entry.key();
        let slot = u32::try_from(index).expect("four billion values need more memory than a core has");
        if index >= self.generations.len() {
            self.generations.resize(index + 1, 0);
        }
        let generation = self.generations[index];
        entry.insert(make(slot, generation));
        (slot, generation)
    }

    /// The value of that slot and generation.
    pub fn get(&self, slot: u32, generation: u32) -> Option<&T> {
        self.entries
            .get(slot as usize)
            .filter(|_| self.generation(slot) == generation)
    }

    /// The value of that slot and generation, to change.
    pub fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        if self.generation(slot) != generation {
            return None;
        }
        self.entries.get_mut(slot as usize)
    }

    /// Whatever is in the slot now; for holders that are told when it leaves, such as the registry.
    pub fn at(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot as usize)
    }

    /// Whatever is in the slot now, to change.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entries.get_mut(slot as usize)
    }

    /// How often the slot was emptied; 0 for one never used.
    pub fn generation(&self, slot: u32) -> u32 {
        self.generations.get(slot as usize).copied().unwrap_or(0)
    }

    /// Takes the value of that slot and generation out.
    pub fn remove(&mut self, slot: u32, generation: u32) -> Option<T> {
        self.get(slot, generation)?;
        let value = self.entries.try_remove(slot as usize)?;
        let count = &mut self.generations[slot as usize];
        *count = count.wrapping_add(1);
        Some(value)
    }

    /// Slot, generation and value of each, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        self.entries.iter().map(|(index, value)| {
            let slot = index as u32; // fits: checked by `insert_with`
            (slot, self.generation(slot), value)
        })
    }

    /// Slot, generation and value of each, by slot, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, u32, &mut T)> {
        let generations = &self.generations;
        self.entries
            .iter_mut()
            .map(|(index, value)| (index as u32, generations[index], value))
    }

    /// One more than the highest slot ever used: a walk that may be interrupted counts up to here with [`Slots::at`].
    pub fn end(&self) -> u32 {
        self.generations.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dead_handle_finds_nothing() {
        let mut slots = Slots::new();
        let (slot, old) = slots.insert("a");
        assert_eq!(slots.remove(slot, old), Some("a"));
        assert_eq!(slots.remove(slot, old), None);
        let (again, new) = slots.insert("b");
        assert_eq!((again, new), (slot, old + 1));
        assert_eq!(slots.get(slot, old), None);
        assert_eq!(slots.get_mut(slot, old), None);
        assert_eq!(slots.remove(slot, old), None);
        assert_eq!(slots.get(slot, new), Some(&"b"));
        assert_eq!(slots.at(slot), Some(&"b"));
        assert_eq!(slots.at(slot + 1), None);
        assert_eq!(slots.get(u32::MAX, 0), None);
    }

    #[test]
    fn generations_wrap() {
        let mut slots = Slots::new();
        let (slot, _) = slots.insert(1);
        slots.generations[0] = u32::MAX;
        assert_eq!(slots.remove(slot, u32::MAX), Some(1));
        assert_eq!(slots.insert(2), (slot, 0));
    }

    #[test]
    fn the_value_may_know_its_handle() {
        let mut slots = Slots::new();
        let (slot, generation) = slots.insert_with(|slot, generation| (slot, generation));
        assert_eq!(slots.get(slot, generation), Some(&(slot, generation)));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((any::<bool>(), any::<usize>()), 1..200)) {
            let (mut slots, mut twin, mut seen) = (Slots::new(), BTreeMap::new(), Vec::new());
            for (number, (insert, which)) in ops.into_iter().enumerate() {
                if insert || seen.is_empty() {
                    let handle = slots.insert(number);
                    prop_assert!(!seen.contains(&handle), "a handle is never given out twice");
                    seen.push(handle);
                    twin.insert(handle, number);
                } else {
                    let (slot, generation) = seen[which % seen.len()];
                    prop_assert_eq!(slots.remove(slot, generation), twin.remove(&(slot, generation)));
                }
                let all: Vec<_> = slots.iter().map(|(slot, generation, value)| ((slot, generation), *value)).collect();
                prop_assert_eq!(all, twin.clone().into_iter().collect::<Vec<_>>());
                for &(slot, generation) in &seen {
                    prop_assert_eq!(slots.get(slot, generation), twin.get(&(slot, generation)));
                }
                prop_assert!(slots.iter_mut().all(|(slot, _, _)| slot < seen.len() as u32));
                prop_assert_eq!(slots.len(), twin.len());
            }
        }
    }
}
