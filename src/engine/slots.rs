//! Generation-checked slots: where a shard keeps its clients. A slot number is reused as soon as it is free, its generation
//! counts the reuses, so a handle of a dead client ([`super::ids::ClientId`]) finds nothing. Callers: `shard`, `control`.
//!
//! Invariant: a pair (slot, generation) names at most one value, ever: a slot whose generations are used up ([`GENERATION_BITS`])
//! is not used again. Memory: 4 bytes per slot on top of the value and its tag; slots of the busiest moment are never given back.

/// Bits of a generation.
pub const GENERATION_BITS: u32 = 30;
/// The last generation of a slot.
const GENERATION_LAST: u32 = (1 << GENERATION_BITS) - 1;

/// Values in numbered slots.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<Entry<T>>,
    /// How often each slot was emptied; as long as `entries`.
    generations: Vec<u32>,
    len: usize,
    /// The slot to use next, the one emptied last; [`NONE`]: a new one.
    free: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Full(T),
    /// The slot to use after this one.
    Free(u32),
}

/// No slot: four billion values need more memory than a core has.
const NONE: u32 = u32::MAX;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// No slots.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            generations: Vec::new(),
            len: 0,
            free: NONE,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores `value`; returns its slot and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.insert_with(|_, _| value)
    }

    /// Stores what `make` builds from its own slot and generation.
    pub fn insert_with(&mut self, make: impl FnOnce(u32, u32) -> T) -> (u32, u32) {
        let slot = self.free;
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && let Entry::Free(next) = *entry
        {
            let generation = self.generations.get(slot as usize).copied().unwrap_or(0);
            *entry = Entry::Full(make(slot, generation));
            self.free = next;
            self.len += 1;
            return (slot, generation);
        }
        let slot = u32::try_from(self.entries.len()).expect("four billion values need more memory than a core has");
        self.entries.push(Entry::Full(make(slot, 0)));
        self.generations.push(0);
        self.len += 1;
        (slot, 0)
    }

    /// The value of that slot and generation.
    pub fn get(&self, slot: u32, generation: u32) -> Option<&T> {
        self.at(slot).filter(|_| self.generation(slot) == generation)
    }

    /// The value of that slot and generation, to change.
    pub fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        if self.generation(slot) != generation {
            return None;
        }
        self.at_mut(slot)
    }

    /// Whatever is in the slot now; for holders that are told when it leaves, such as the registry.
    pub fn at(&self, slot: u32) -> Option<&T> {
        match self.entries.get(slot as usize) {
            Some(Entry::Full(value)) => Some(value),
            _ => None,
        }
    }

    /// Whatever is in the slot now, to change.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self.entries.get_mut(slot as usize) {
            Some(Entry::Full(value)) => Some(value),
            _ => None,
        }
    }

    /// How often the slot was emptied; 0 for one never used.
    pub fn generation(&self, slot: u32) -> u32 {
        self.generations.get(slot as usize).copied().unwrap_or(0)
    }

    /// Takes the value of that slot and generation out.
    pub fn remove(&mut self, slot: u32, generation: u32) -> Option<T> {
        self.get(slot, generation)?;
        let entry = self.entries.get_mut(slot as usize)?;
        let Entry::Full(value) = std::mem::replace(entry, Entry::Free(self.free)) else {
            return None;
        };
        self.len -= 1;
        let count = self.generations.get_mut(slot as usize)?;
        *count += 1;
        if *count <= GENERATION_LAST {
            self.free = slot;
        }
        Some(value)
    }

    /// Slot, generation and value of each, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        let all = (0..).zip(&self.entries).zip(&self.generations);
        all.filter_map(|((slot, entry), generation)| match entry {
            Entry::Full(value) => Some((slot, *generation, value)),
            Entry::Free(_) => None,
        })
    }

    /// Slot, generation and value of each, by slot, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, u32, &mut T)> {
        let all = (0..).zip(&mut self.entries).zip(&self.generations);
        all.filter_map(|((slot, entry), generation)| match entry {
            Entry::Full(value) => Some((slot, *generation, value)),
            Entry::Free(_) => None,
        })
    }

    /// One more than the highest slot ever used: a walk that may be interrupted counts up to here with [`Slots::at`].
    pub fn end(&self) -> u32 {
        self.generations.len() as u32 // fits: checked by `insert_with`
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
    fn a_slot_retires_before_its_generations_repeat() {
        let mut slots = Slots::new();
        let [first, second] = [1, 2].map(|value| slots.insert(value));
        slots.generations[0] = GENERATION_LAST - 1;
        assert_eq!(slots.remove(first.0, GENERATION_LAST - 1), Some(1));
        assert_eq!(slots.insert(3), (first.0, GENERATION_LAST));
        assert_eq!(slots.remove(second.0, second.1), Some(2));
        assert_eq!(slots.remove(first.0, GENERATION_LAST), Some(3));
        assert_eq!(
            (slots.insert(4), slots.insert(5)),
            ((second.0, 1), (2, 0)),
            "the first is not used again"
        );
        assert!(slots.get(first.0, GENERATION_LAST).is_none() && slots.get(first.0, GENERATION_LAST + 1).is_none());
        assert_eq!((slots.len(), slots.iter().count()), (2, 2));
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
