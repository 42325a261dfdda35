//! This shard's side of the registry.
//!
//! Every membership is stored twice, once with its channel and once with its client, and each copy knows the position of
//! the other. So both are removed by `swap_remove` in O(1), whatever the size of the channel or of the client's list.
//!
//! "Is this client in this channel?" is answered from the client's list: scanned up to 16 entries (128 bytes, two cache
//! lines), beyond that through an index of that client alone (`lists`). Clients in thousands of channels pay for their
//! index, the many in one or two pay nothing. The channel's members are never scanned but by a fan-out.
//!
//! Memory: a client in one channel costs 16 bytes (its entry, without allocation) and 8 to 16 in the array of the channel.
//! One in several pays 32 for its list and 8 to 16 per membership there, 10 to 21 more beyond 16. A channel costs
//! 48 bytes, its shared name and a table entry of 5 to 10; a channel of one client needs no array. Empty channels are freed.
//!
//! Invariants: `clients[m.slot][m.back]` of a member `m` leads back to it, and the other way round; a channel in the
//! table has members; nothing here depends on the order of a hash table (the simulator relies on that).

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::lists::{Crowd, Joined, Member, Membership};
use crate::engine::name::{Name, Space};
use crate::limits::QUERY_ITEM_STEPS;

/// Table entries that are not worth giving back.
const TABLE_KEPT: usize = 64;

/// What a join did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The client is in now; `first`: the channel had no members here, tell its home.
    New {
        /// No members before.
        first: bool,
    },
    /// It was in already.
    Already,
}

/// What a leave did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The client was not in.
    No,
    /// It is out now; `emptied`: the channel has no members here any more, tell its home.
    Left {
        /// No members left.
        emptied: bool,
    },
}

/// Channels of this shard and who is in them.
#[derive(Debug)]
pub struct Members {
    channels: Slab<Channel>,
    /// Numbers of channels by name.
    names: HashTable<u32>,
    hash: SeedableRandomState,
    /// By slot of the client.
    clients: Vec<Joined>,
    memberships: usize,
    /// How often a channel has begun or ended: numbers found before that may be of others now.
    changes: u64,
}

/// Where a channel was found ([`Members::is_at`]).
#[derive(Debug, Default)]
pub struct Place {
    /// The changes it was looked for after.
    known: Option<u64>,
    number: Option<u32>,
}

#[derive(Debug)]
struct Channel {
    name: Name,
    members: Crowd,
}

impl Members {
    /// No channels. `seed`: random per process.
    pub fn new(seed: u64) -> Self {
        Self {
            channels: Slab::new(),
            names: HashTable::new(),
            hash: SeedableRandomState::with_seed(seed, SharedSeed::global_random()),
            clients: Vec::new(),
            memberships: 0,
            changes: 0,
        }
    }

    /// Puts the client of `slot` into `channel`. O(1) amortised. Slots are those of [`crate::engine::slots::Slots`]: the
    /// table of clients is as long as the highest one.
    pub fn join(&mut self, slot: u32, channel: &Name) -> Join {
        if self.clients.len() <= slot as usize {
            self.clients.resize_with(slot as usize + 1, Joined::default);
        }
        let known = self.find(channel);
        let client = &mut self.clients[slot as usize];
        if known.is_some_and(|known| client.position(known).is_some()) {
            return Join::Already;
        }
        let number = known.unwrap_or_else(|| self.channels.vacant_key() as u32);
        let members = known.map_or(0, |known| self.channels[known as usize].members.as_slice().len());
        let member = Member {
            slot,
            back: client.push(Membership {
                channel: number,
                back: members as u32,
            }),
        };
        match known {
            Some(_) => self.channels[number as usize].members.push(member),
            None => self.open(channel, member),
        }
        self.memberships += 1;
        Join::New { first: known.is_none() }
    }

    /// Takes the client of `slot` out of `channel`. O(1) amortised.
    pub fn leave(&mut self, slot: u32, channel: &Name) -> Leave {
        let Some((client, at)) = self.locate(slot, channel) else {
            return Leave::No;
        };
        let left = self.clients[client].swap_remove(at);
        self.relink_channel(client, at);
        let emptied = self.remove_member(left).is_some();
        Leave::Left { emptied }
    }

    /// Takes the client of `slot` out of all its channels and tells which of them have no members any more. Returns how
    /// many it was in. O(its channels).
    pub fn leave_all(&mut self, slot: u32, mut emptied: impl FnMut(Name)) -> usize {
        let Some(client) = self.clients.get_mut(slot as usize) else {
            return 0;
        };
        let left = std::mem::take(client);
        for membership in left.as_slice() {
            if let Some(name) = self.remove_member(*membership) {
                emptied(name);
            }
        }
        left.as_slice().len()
    }

    /// Takes everybody out of `channel`; returns how many there were. O(members).
    pub fn vacate(&mut self, channel: &Name) -> usize {
        let Some(number) = self.find(channel) else { return 0 };
        let closed = self.close(number);
        let members = closed.members.as_slice();
        for member in members {
            let (client, at) = (member.slot as usize, member.back as usize);
            self.clients[client].swap_remove(at);
            self.relink_channel(client, at);
        }
        self.memberships -= members.len();
        members.len()
    }

    /// The members of `channel` in one array; `None` if it has none.
    pub fn members(&self, channel: &Name) -> Option<&[Member]> {
        let number = self.find(channel)?;
        Some(self.channels[number as usize].members.as_slice())
    }

    /// Whether the client of `slot` is in `channel`. O(1).
    pub fn contains(&self, slot: u32, channel: &Name) -> bool {
        self.locate(slot, channel).is_some()
    }

    /// As [`Members::contains`], for many clients of one channel in a row: `place` remembers where the channel was found.
    pub fn is_at(&self, slot: u32, channel: &Name, place: &mut Place) -> bool {
        if place.known != Some(self.changes) {
            (place.known, place.number) = (Some(self.changes), self.find(channel));
        }
        let client = self.clients.get(slot as usize);
        place
            .number
            .is_some_and(|number| client.is_some_and(|client| client.position(number).is_some()))
    }

    /// The channels of the client of `slot`, in no particular order.
    pub fn channels_of(&self, slot: u32) -> impl ExactSizeIterator<Item = &Name> + DoubleEndedIterator {
        let joined = self.clients.get(slot as usize).map_or(&[][..], Joined::as_slice);
        joined
            .iter()
            .map(|membership| &self.channels[membership.channel as usize].name)
    }

    /// Number of channels with members.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether no channel has members.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Number of (client, channel) pairs.
    pub fn memberships(&self) -> usize {
        self.memberships
    }

    /// At most `max` names of a space with their numbers of members, from `cursor` (0, or where the last page ended) on, and
    /// where the next page starts, if there is one. A page may be empty and still not the last: it ends when `steps` are
    /// used up ([`crate::limits::QUERY_STEPS_PER_TURN`]), but looks at one place at least. What comes and goes between two
    /// pages may be missed, or seen twice if it was emptied and filled again.
    pub fn page(
        &self,
        space: Space,
        cursor: usize,
        max: usize,
        steps: &mut usize,
    ) -> (Vec<(Name, u32)>, Option<usize>) {
        let (places, mut page) = (self.channels.capacity(), Vec::new());
        for number in cursor..places {
            if number > cursor && (page.len() >= max || *steps == 0) {
                return (page, Some(number));
            }
            let Some(channel) = self.channels.get(number) else {
                *steps = steps.saturating_sub(1);
                continue;
            };
            *steps = steps.saturating_sub(QUERY_ITEM_STEPS);
            if channel.name.space() == space {
                page.push((channel.name.clone(), channel.members.as_slice().len() as u32));
            }
        }
        (page, None)
    }

    fn find(&self, name: &Name) -> Option<u32> {
        let same = |number: &u32| self.channels[*number as usize].name == *name;
        self.names.find(self.hash.hash_one(name), same).copied()
    }

    /// Index of the client and position of the channel in its list.
    fn locate(&self, slot: u32, channel: &Name) -> Option<(usize, usize)> {
        let client = self.clients.get(slot as usize)?;
        let at = client.position(self.find(channel)?)?;
        Some((slot as usize, at))
    }

    fn open(&mut self, name: &Name, member: Member) {
        self.changes += 1;
        let number = self.channels.insert(Channel {
            name: name.clone(),
            members: Crowd::One(member),
        });
        let (channels, hash) = (&self.channels, &self.hash);
        let rehash = |number: &u32| hash.hash_one(&channels[*number as usize].name);
        self.names.insert_unique(hash.hash_one(name), number as u32, rehash);
    }

    fn close(&mut self, number: u32) -> Channel {
        self.changes += 1;
        let hash = self.hash.hash_one(&self.channels[number as usize].name);
        if let Ok(entry) = self.names.find_entry(hash, |entry| *entry == number) {
            entry.remove();
        }
        let closed = self.channels.remove(number as usize);
        self.shrink();
        closed
    }

    /// Gives memory back after a burst. The slab only when it is empty: its numbers must not change.
    fn shrink(&mut self) {
        let (len, capacity) = (self.names.len(), self.names.capacity());
        if capacity <= TABLE_KEPT || len * 8 >= capacity {
            return;
        }
        let (channels, hash) = (&self.channels, &self.hash);
        let rehash = |number: &u32| hash.hash_one(&channels[*number as usize].name);
        self.names.shrink_to(len * 2, rehash);
        if self.channels.is_empty() {
            self.channels = Slab::new();
        }
    }

    /// Removes the channel's copy of a membership whose client's copy is gone; the name if that emptied the channel.
    fn remove_member(&mut self, membership: Membership) -> Option<Name> {
        self.memberships -= 1;
        let members = &mut self.channels[membership.channel as usize].members;
        if members.as_slice().len() == 1 {
            return Some(self.close(membership.channel).name);
        }
        if let Some(moved) = members.swap_remove(membership.back as usize) {
            self.clients[moved.slot as usize].as_mut_slice()[moved.back as usize].back = membership.back;
        }
        None
    }

    /// After an entry of the client's list was removed: the one that took its place tells its channel.
    fn relink_channel(&mut self, client: usize, at: usize) {
        if let Some(moved) = self.clients[client].as_slice().get(at) {
            let members = &mut self.channels[moved.channel as usize].members;
            members.as_mut_slice()[moved.back as usize].back = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn name(number: u32) -> Name {
        Name::channel(format!("channel {number}").as_bytes())
    }

    impl Members {
        fn assert_consistent(&self) {
            let mut memberships = 0;
            for (number, channel) in &self.channels {
                assert_eq!(self.find(&channel.name), Some(number as u32));
                assert!(!channel.members.as_slice().is_empty());
                for (at, member) in channel.members.as_slice().iter().enumerate() {
                    let back = self.clients[member.slot as usize].as_slice()[member.back as usize];
                    assert_eq!((back.channel as usize, back.back as usize), (number, at));
                    memberships += 1;
                }
            }
            for client in &self.clients {
                for (at, entry) in client.as_slice().iter().enumerate() {
                    assert_eq!(client.position(entry.channel), Some(at));
                    memberships -= 1;
                }
                client.assert_indexed();
            }
            assert_eq!(memberships, 0);
            assert_eq!(self.names.len(), self.channels.len());
        }

        fn census(&self, max: usize) -> BTreeMap<Name, u32> {
            let (mut all, mut cursor) = (BTreeMap::new(), Some(0));
            while let Some(from) = cursor {
                let (page, next) = self.page(Space::CHANNEL, from, max, &mut (8 * max));
                assert!(page.len() <= max && next.is_none_or(|next| next > from));
                all.extend(page);
                cursor = next;
            }
            all
        }
    }

    #[test]
    fn a_client_in_one_channel_is_cheap() {
        assert_eq!(size_of::<Joined>(), 16);
        assert_eq!(size_of::<Member>(), 8);
        assert!(size_of::<Channel>() <= 40, "48 with the tag of the slab entry");
        let mut members = Members::new(1);
        (0..1000).for_each(|slot| assert!(members.join(slot, &name(0)) == Join::New { first: slot == 0 }));
        let Crowd::Many(array) = &members.channels[0].members else {
            panic!()
        };
        let per_client = size_of::<Joined>() + array.capacity() * size_of::<Member>() / 1000;
        assert!(per_client <= 40, "{per_client} bytes");
    }

    #[test]
    fn first_and_last_are_told() {
        let mut members = Members::new(1);
        assert_eq!(members.join(7, &name(1)), Join::New { first: true });
        assert_eq!(members.join(7, &name(1)), Join::Already);
        assert_eq!(members.join(3, &name(1)), Join::New { first: false });
        assert_eq!(members.join(3, &name(2)), Join::New { first: true });
        assert_eq!(members.leave(7, &name(2)), Leave::No);
        assert_eq!(members.leave(99, &name(2)), Leave::No);
        assert_eq!(members.leave(7, &name(1)), Leave::Left { emptied: false });
        assert_eq!(members.leave(7, &name(1)), Leave::No);
        let mut emptied = Vec::new();
        assert_eq!(members.leave_all(3, |name| emptied.push(name)), 2);
        assert_eq!(emptied, [name(1), name(2)]);
        assert_eq!(members.leave_all(3, |_| unreachable!()), 0);
        assert_eq!(members.leave_all(99, |_| unreachable!()), 0);
        assert_eq!(members.members(&name(1)), None);
        assert!(members.is_empty());
    }

    /// Numbers of channels are used again, so a place that was found may be another channel's later.
    #[test]
    fn a_place_is_looked_for_again_when_channels_begin_or_end() {
        let mut members = Members::new(1);
        members.join(1, &name(1));
        let mut place = Place::default();
        assert!(members.is_at(1, &name(1), &mut place) && !members.is_at(2, &name(1), &mut place));
        members.leave(1, &name(1));
        assert!(!members.is_at(1, &name(1), &mut place));
        members.join(2, &name(2));
        assert!(
            !members.is_at(2, &name(1), &mut place),
            "under the number the first one had"
        );
        members.join(1, &name(1));
        assert!(members.is_at(1, &name(1), &mut place));
        members.join(3, &name(1));
        assert!(members.is_at(3, &name(1), &mut place));
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut members = Members::new(1);
        for channel in 0..20_000 {
            members.join(0, &name(channel));
            members.join(1 + channel, &name(0));
        }
        members.leave_all(0, drop);
        (2..20_001).for_each(|slot| assert_ne!(members.leave(slot, &name(0)), Leave::No));
        assert_eq!(members.len(), 1);
        assert!(members.names.capacity() <= 2 * TABLE_KEPT);
        let Crowd::Many(array) = &members.channels[0].members else {
            panic!()
        };
        assert!(array.capacity() <= 8);
        members.vacate(&name(0));
        assert!(members.is_empty() && members.memberships() == 0);
        members.assert_consistent();
    }

    /// Coarse: anything quadratic here takes minutes.
    #[test]
    fn one_client_in_65535_channels_and_one_channel_of_100000_clients() {
        let started = Instant::now();
        let mut members = Members::new(1);
        let names: Vec<_> = (0..65_535).map(name).collect();
        (1..100_001).for_each(|slot| assert_ne!(members.join(slot, &names[0]), Join::Already));
        for round in 0..2 {
            names
                .iter()
                .for_each(|name| assert_ne!(members.join(0, name), Join::Already));
            names
                .iter()
                .for_each(|name| assert_eq!(members.join(0, name), Join::Already));
            if round == 0 {
                names
                    .iter()
                    .for_each(|name| assert_ne!(members.leave(0, name), Leave::No));
            } else {
                assert_eq!(members.channels_of(0).len(), names.len());
                assert_eq!(members.leave_all(0, drop), names.len());
            }
        }
        (1..50_001).for_each(|slot| assert_ne!(members.leave(slot, &names[0]), Leave::No));
        assert_eq!(members.vacate(&names[0]), 50_000);
        members.assert_consistent();
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn a_census_survives_changes_between_its_pages() {
        let mut members = Members::new(1);
        (0..1000).for_each(|channel| assert_ne!(members.join(1, &name(channel)), Join::Already));
        let page = |members: &Members, from| members.page(Space::CHANNEL, from, 100, &mut 1000);
        let (first, next) = page(&members, 0);
        assert_eq!((first.len(), next), (100, Some(100)));
        members.leave_all(1, drop);
        let (empty, next) = page(&members, 100);
        assert!(empty.is_empty() && next.is_none_or(|next| next > 100));
        assert_eq!(page(&members, usize::MAX), (vec![], None));
        members.join(1, &name(5));
        assert_eq!(members.census(1), BTreeMap::from([(name(5), 1)]));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Join(u32, u32),
        Leave(u32, u32),
        LeaveAll(u32),
        Vacate(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        // Few clients and more channels than are scanned, so that indices come and go.
        let pair = || (0..5u32, 0..40u32);
        prop_oneof![
            20 => pair().prop_map(|(slot, channel)| Op::Join(slot, channel)),
            12 => pair().prop_map(|(slot, channel)| Op::Leave(slot, channel)),
            1 => (0..5u32).prop_map(Op::LeaveAll),
            2 => (0..40u32).prop_map(Op::Vacate),
        ]
    }

    type Twin = BTreeMap<u32, BTreeSet<u32>>;

    fn apply(op: &Op, members: &mut Members, twin: &mut Twin) {
        match *op {
            Op::Join(slot, channel) => {
                let crowd = twin.entry(channel).or_default();
                let first = crowd.is_empty();
                let expected = if crowd.insert(slot) {
                    Join::New { first }
                } else {
                    Join::Already
                };
                assert_eq!(members.join(slot, &name(channel)), expected);
            }
            Op::Leave(slot, channel) => {
                let crowd = twin.entry(channel).or_default();
                let removed = crowd.remove(&slot);
                let emptied = crowd.is_empty();
                let expected = if removed { Leave::Left { emptied } } else { Leave::No };
                assert_eq!(members.leave(slot, &name(channel)), expected);
            }
            Op::LeaveAll(slot) => {
                let (mut left, mut expected, mut emptied) = (0, BTreeSet::new(), BTreeSet::new());
                for (channel, crowd) in twin.iter_mut() {
                    if crowd.remove(&slot) {
                        left += 1;
                        expected.extend(crowd.is_empty().then(|| name(*channel)));
                    }
                }
                assert_eq!(members.leave_all(slot, |name| assert!(emptied.insert(name))), left);
                assert_eq!(emptied, expected);
            }
            Op::Vacate(channel) => {
                let crowd = twin.remove(&channel).unwrap_or_default();
                assert_eq!(members.vacate(&name(channel)), crowd.len());
            }
        }
        twin.retain(|_, crowd| !crowd.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_sets(ops in prop::collection::vec(op(), 1..250), max in 1..50usize) {
            let (mut members, mut twin) = (Members::new(4), Twin::new());
            for op in &ops {
                apply(op, &mut members, &mut twin);
                members.assert_consistent();
            }
            prop_assert_eq!(members.memberships(), twin.values().map(BTreeSet::len).sum::<usize>());
            for channel in 0..40 {
                let slots = members.members(&name(channel)).map(|crowd| crowd.iter().map(|m| m.slot()).collect());
                prop_assert_eq!(slots.as_ref(), twin.get(&channel));
            }
            for slot in 0..6 {
                let joined: BTreeSet<_> = members.channels_of(slot).cloned().collect();
                for channel in 0..40 {
                    let expected = twin.get(&channel).is_some_and(|crowd| crowd.contains(&slot));
                    prop_assert_eq!(members.contains(slot, &name(channel)), expected);
                    prop_assert_eq!(joined.contains(&name(channel)), expected);
                }
            }
            let census = twin.iter().map(|(channel, crowd)| (name(*channel), crowd.len() as u32)).collect();
            prop_assert_eq!(members.census(max), census);
        }
    }
}
