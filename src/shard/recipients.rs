//! Who of this shard a publish is for: the members of its set, or of any of several sets and some clients, each once. Callers:
//! `fanout.rs`, which asks again at a recipient's turn if that comes later.
//!
//! A [`SlotSet`] says who has been seen: a bit for each slot of the shard, so that a union of sets costs one look at each
//! member. A single set needs none.

use super::Shard;
use super::client::Client;
use crate::engine::command::{Any, Target};
use crate::engine::ids::ClientId;
use crate::engine::registry::Place;

/// One client of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Recipient {
    /// Its slot.
    pub slot: u32,
    /// The slot's generation at the time of the snapshot.
    pub generation: u32,
}

/// Some of the slots of a shard.
#[derive(Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// Adds a slot; false if it was there.
    pub fn insert(&mut self, slot: u32) -> bool {
        let (at, bit) = place(slot);
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let Some(word) = self.words.get_mut(at) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes a slot out; false if it was not there.
    pub fn remove(&mut self, slot: u32) -> bool {
        let (at, bit) = place(slot);
        let Some(word) = self.words.get_mut(at) else {
            return false;
        };
        let was_there = *word & bit != 0;
        *word &= !bit;
        was_there
    }
}

/// The word of a slot, and its bit there.
const fn place(slot: u32) -> (usize, u64) {
    ((slot / u64::BITS) as usize, 1 << (slot % u64::BITS))
}

impl Shard {
    /// Everybody here it is for, at this moment.
    pub(super) fn pick(&mut self, to: &Target, into: &mut Vec<Recipient>) {
        match to {
            Target::Set(name) => {
                for member in self.members.members(name).unwrap_or_default() {
                    let (slot, generation) = (member.slot(), self.clients.generation(member.slot()));
                    into.push(Recipient { slot, generation });
                }
            }
            Target::Any(any) => self.pick_any(any, into),
        }
    }

    fn pick_any(&mut self, any: &Any, into: &mut Vec<Recipient>) {
        let (names, clients) = (any.names(), any.clients().of_shard(self.id));
        let mut seen = std::mem::take(&mut self.fanout.seen);
        for client in clients {
            if self.is_open(*client) && seen.insert(client.slot) {
                let (slot, generation) = (client.slot, client.generation);
                into.push(Recipient { slot, generation });
            }
        }
        for member in names
            .iter()
            .flat_map(|name| self.members.members(name).unwrap_or_default())
        {
            if seen.insert(member.slot()) {
                let (slot, generation) = (member.slot(), self.clients.generation(member.slot()));
                into.push(Recipient { slot, generation });
            }
        }
        // As empty as before, without walking over all slots.
        for recipient in &*into {
            seen.remove(recipient.slot);
        }
        self.fanout.seen = seen;
    }

    /// Most clients of this shard it can be for.
    pub(super) fn recipients_max(&self, to: &Target) -> usize {
        let of = |name| self.members.members(name).map_or(0, <[_]>::len);
        match to {
            Target::Set(name) => of(name),
            Target::Any(any) => any.names().iter().map(of).sum::<usize>() + any.clients().of_shard(self.id).len(),
        }
    }

    /// Whether it is for this client still; `place` is of this target alone.
    pub(super) fn is_recipient(&self, client: ClientId, to: &Target, place: &mut Place) -> bool {
        match to {
            Target::Set(name) => self.members.is_at(client.slot, name, place),
            Target::Any(any) => self.is_any(client, any),
        }
    }

    /// Whether it is in any of these sets, or one of these clients.
    pub(super) fn is_any(&self, client: ClientId, any: &Any) -> bool {
        let mut names = any.names().iter();
        any.clients().contains(client) || names.any(|name| self.members.contains(client.slot, name))
    }

    /// Those of a snapshot who are still there, and how many are not.
    pub(super) fn still_there(&self, recipients: &[Recipient]) -> (SlotSet, usize) {
        let (mut set, mut gone) = (SlotSet::default(), 0);
        for Recipient { slot, generation } in recipients {
            match self.clients.get(*slot, *generation).is_some_and(Client::is_open) {
                true => drop(set.insert(*slot)),
                false => gone += 1,
            }
        }
        (set, gone)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slot_set_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..300u32), 0..200)) {
            let (mut set, mut twin) = (SlotSet::default(), BTreeSet::new());
            for (inserts, slot) in steps {
                if inserts {
                    prop_assert_eq!(set.insert(slot), twin.insert(slot));
                } else {
                    prop_assert_eq!(set.remove(slot), twin.remove(&slot));
                }
            }
            prop_assert!((0..400).all(|slot| set.remove(slot) == twin.contains(&slot)));
        }
    }
}
