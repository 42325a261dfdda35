//! On which platform each client of a user is, and since when: what whoever sends to a user is told. Only clients that belong
//! to a user have an entry, so the others cost nothing.
//!
//! Bounds: [`PLATFORMS_MAX`] platforms of one user are told, the earliest ones; a platform is cut after
//! [`PLATFORM_BYTES_MAX`] bytes. Both are chosen by clients.
//!
//! Callers: `shard`, and [`crate::engine::receipt`], which adds up what shards and peers tell ([`note`]).

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Platforms of one user that are told; a person has a handful.
pub const PLATFORMS_MAX: usize = 32;

/// Bytes of the name of a platform that are kept.
pub const PLATFORM_BYTES_MAX: usize = 256;

/// A platform somebody is online with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Presence {
    /// When its first client of those still there was admitted, in microseconds of this process's clock. Negative for
    /// clients of peers that are older than this process.
    pub since: i64,
    /// Its name, as the client gave it.
    pub platform: Bytes,
}

/// The clients of this shard of whom it is known where they are online, by slot.
#[derive(Debug, Default)]
pub struct Online {
    clients: HashMap<u32, Presence, RandomState>,
}

impl Online {
    /// The client of `slot` is online there from now on.
    pub fn insert(&mut self, slot: u32, presence: Presence) {
        self.clients.insert(slot, presence);
    }

    /// The client of `slot` is gone; nothing happens if it belonged to nobody.
    pub fn remove(&mut self, slot: u32) {
        if !self.clients.is_empty() && self.clients.remove(&slot).is_some() && self.clients.is_empty() {
            self.clients = HashMap::default();
        }
    }

    /// Whether the client of `slot` belongs to a user.
    pub fn contains(&self, slot: u32) -> bool {
        !self.clients.is_empty() && self.clients.contains_key(&slot)
    }

    /// Platforms of these clients, each once, in order of connecting. O(clients).
    pub fn platforms(&self, slots: impl Iterator<Item = u32>) -> Vec<Presence> {
        let mut platforms = Vec::new();
        for presence in slots.filter_map(|slot| self.clients.get(&slot)) {
            note(&mut platforms, presence);
        }
        platforms
    }

    /// Clients that belong to a user.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// Adds to a list that has each platform once, in order of connecting, and at most [`PLATFORMS_MAX`].
pub fn note(platforms: &mut Vec<Presence>, presence: &Presence) {
    let known = platforms.iter().position(|known| known.platform == presence.platform);
    match known {
        Some(at) if platforms[at].since <= presence.since => return,
        Some(at) => drop(platforms.remove(at)),
        None if platforms.len() < PLATFORMS_MAX => {}
        None if platforms.last() <= Some(presence) => return,
        None => drop(platforms.pop()),
    }
    let at = platforms.partition_point(|known| known <= presence);
    platforms.insert(at, presence.clone());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn presence(since: i64, platform: u8) -> Presence {
        Presence {
            since,
            platform: Bytes::from(vec![platform]),
        }
    }

    #[test]
    fn who_is_gone_is_not_online() {
        let mut online = Online::default();
        online.insert(1, presence(10, b'i'));
        online.insert(2, presence(20, b'a'));
        online.insert(3, presence(30, b'i'));
        assert_eq!(
            online.platforms([3, 2, 1, 9].into_iter()),
            [presence(10, b'i'), presence(20, b'a')]
        );
        online.remove(1);
        online.remove(9);
        assert!(!online.contains(1) && online.contains(2));
        assert_eq!(
            online.platforms([1, 2, 3].into_iter()),
            [presence(20, b'a'), presence(30, b'i')]
        );
        online.remove(2);
        online.remove(3);
        assert!(online.is_empty() && online.platforms([1, 2, 3].into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn each_once_the_earliest_in_order(seen in prop::collection::vec((-20..20i64, 0..50u8), 0..200)) {
            let (mut platforms, mut first) = (Vec::new(), BTreeMap::new());
            for (since, platform) in seen {
                note(&mut platforms, &presence(since, platform));
                let known = first.entry(platform).or_insert(since);
                *known = since.min(*known);
                // What fell out at the bound may come back earlier, never later: the list is that of the earliest.
                let mut all: Vec<_> = first.iter().map(|(platform, since)| presence(*since, *platform)).collect();
                all.sort();
                all.truncate(PLATFORMS_MAX);
                prop_assert_eq!(&platforms, &all);
            }
        }
    }
}
