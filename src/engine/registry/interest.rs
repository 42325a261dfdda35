//! The home side of the registry: channel → shards with members. Memory: one table entry (24 bytes and the shared name)
//! per channel with members anywhere, none for others.

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::engine::ids::ShardId;
use crate::engine::name::Name;
use crate::limits::SHARDS_MAX;

/// Fewer entries are not worth giving memory back for.
const TABLE_KEPT: usize = 64;

/// Which shard is the home of a channel; the same on every core that was given the same seed and number of shards.
#[derive(Clone, Debug)]
pub struct HomeHash {
    hash: FixedState,
    shards: u16,
}

impl HomeHash {
    /// `seed`: one random number per process; `shards`: how many there are, 1..=[`SHARDS_MAX`].
    pub fn new(seed: u64, shards: usize) -> Self {
        debug_assert!((1..=SHARDS_MAX).contains(&shards));
        Self {
            hash: FixedState::with_seed(seed),
            shards: shards.clamp(1, SHARDS_MAX) as u16,
        }
    }

    /// Whether there is such a shard.
    pub fn has(&self, shard: ShardId) -> bool {
        shard.0 < self.shards
    }

    /// The home of `channel`.
    pub fn home_of(&self, channel: &Name) -> ShardId {
        let hash = u128::from(self.hash.hash_one(channel));
        ShardId(((hash * u128::from(self.shards)) >> u64::BITS) as u16) // below `shards`
    }
}

/// Shards with members, per channel.
#[derive(Debug)]
pub struct Interest {
    shards: HashMap<Name, u64, SeedableRandomState>,
}

impl Interest {
    /// Nobody is interested in anything. `seed`: random per process.
    pub fn new(seed: u64) -> Self {
        let hash = SeedableRandomState::with_seed(seed, SharedSeed::global_random());
        Self {
            shards: HashMap::with_hasher(hash),
        }
    }

    /// `shard` has its first member of `channel` (`joined`) or lost its last one.
    pub fn note(&mut self, channel: &Name, shard: ShardId, joined: bool) {
        let bit = bit(shard);
        if joined {
            *self.shards.entry_ref(channel).or_insert(0) |= bit;
        } else if let Some(shards) = self.shards.get_mut(channel) {
            *shards &= !bit;
            if *shards == 0 {
                self.shards.remove(channel);
                self.shrink();
            }
        }
    }

    /// Shards with members of `channel`: bit n for shard n.
    pub fn shards(&self, channel: &Name) -> u64 {
        self.shards.get(channel).copied().unwrap_or(0)
    }

    /// Channels with members anywhere, of those this shard is the home of.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    fn shrink(&mut self) {
        let (len, capacity) = (self.shards.len(), self.shards.capacity());
        if capacity > TABLE_KEPT && len * 8 < capacity {
            self.shards.shrink_to(len * 2);
        }
    }
}

/// 0 for a shard that cannot exist.
fn bit(shard: ShardId) -> u64 {
    debug_assert!(shard.index() < SHARDS_MAX);
    1u64.checked_shl(u32::from(shard.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn homes_are_stable_spread_and_seeded() {
        let (home, same) = (HomeHash::new(1, 7), HomeHash::new(1, 7));
        let other = HomeHash::new(2, 7);
        let (mut counts, mut moved) = ([0; 7], 0);
        for n in 0..7000u32 {
            let name = Name::channel(format!("user-{n}").as_bytes());
            let shard = home.home_of(&name);
            assert_eq!(shard, same.home_of(&name));
            moved += usize::from(shard != other.home_of(&name));
            counts[shard.index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert!(moved > 5000);
        assert_eq!(HomeHash::new(1, 1).home_of(&Name::channel(b"x")), ShardId(0));
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut interest = Interest::new(3);
        let names: Vec<Name> = (0..10_000).map(|n| Name::channel(format!("{n}").as_bytes())).collect();
        names.iter().for_each(|name| interest.note(name, ShardId(63), true));
        assert_eq!(interest.shards(&names[0]), 1 << 63);
        names.iter().for_each(|name| interest.note(name, ShardId(63), false));
        assert!(interest.is_empty() && interest.shards.capacity() <= 2 * TABLE_KEPT);
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_sets(ops in prop::collection::vec((0..6u8, 0..64u16, any::<bool>()), 1..300)) {
            let (mut interest, mut twin) = (Interest::new(9), BTreeMap::<u8, BTreeSet<u16>>::new());
            for (channel, shard, joined) in ops {
                interest.note(&Name::channel(&[channel]), ShardId(shard), joined);
                let shards = twin.entry(channel).or_default();
                if joined { shards.insert(shard); } else { shards.remove(&shard); }
                for channel in 0..6 {
                    let bits = twin.get(&channel).into_iter().flatten().fold(0, |bits, shard| bits | 1 << shard);
                    prop_assert_eq!(interest.shards(&Name::channel(&[channel])), bits);
                }
                prop_assert_eq!(interest.len(), twin.values().filter(|shards| !shards.is_empty()).count());
            }
        }
    }
}
