//! The two kinds of lists a membership is stored in: the members of a channel and the channels of a client. Both hold
//! their first entry in place and allocate for the second; the client's list has an index once it is long. Clients of a door
//! whose everybody is a set, with a user and a group, are in three: for so many there is one small allocation.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Longest list of a client that is scanned; longer ones have an index.
const SCAN_MAX: usize = 16;

/// Longest list of a client without a length and a capacity of its own.
const FEW: usize = 3;

/// Room that is not worth giving back, in list and index entries.
const LIST_KEPT: usize = 8;
const INDEX_KEPT: usize = 64;

/// One client of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub(super) slot: u32,
    /// Position of the channel in the client's list.
    pub(super) back: u32,
}

impl Member {
    /// The slot of the client; the registry is told before it is freed.
    pub const fn slot(self) -> u32 {
        self.slot
    }
}

/// Members of a channel: one array, or just the one.
#[derive(Debug)]
pub(super) enum Crowd {
    One(Member),
    Many(Vec<Member>),
}

/// One channel of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) channel: u32,
    /// Position of the client among the channel's members.
    pub(super) back: u32,
}

/// Channels of a client.
#[derive(Debug, Default)]
pub(super) enum Joined {
    #[default]
    None,
    One(Membership),
    /// With how many there are, one at least.
    Few(Box<[Membership; FEW]>, u8),
    Many(Box<List>),
}

#[derive(Debug)]
pub(super) struct List {
    entries: Vec<Membership>,
    /// Channel → position in `entries`, of every entry, for lists that were longer than [`SCAN_MAX`].
    index: Option<Box<HashMap<u32, u32, FixedState>>>,
}

impl Crowd {
    pub(super) fn as_slice(&self) -> &[Member] {
        match self {
            Crowd::One(member) => std::slice::from_ref(member),
            Crowd::Many(members) => members,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Member] {
        match self {
            Crowd::One(member) => std::slice::from_mut(member),
            Crowd::Many(members) => members,
        }
    }

    pub(super) fn push(&mut self, member: Member) {
        match self {
            Crowd::One(first) => *self = Crowd::Many(vec![*first, member]),
            Crowd::Many(members) => members.push(member),
        }
    }

    /// Removes one of several members; returns the one that took its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> Option<Member> {
        let Crowd::Many(members) = self else { return None };
        members.swap_remove(at);
        shrink(members);
        members.get(at).copied()
    }
}

impl Joined {
    pub(super) fn as_slice(&self) -> &[Membership] {
        match self {
            Joined::None => &[],
            Joined::One(membership) => std::slice::from_ref(membership),
            Joined::Few(entries, len) => entries.get(..usize::from(*len)).unwrap_or_default(),
            Joined::Many(list) => &list.entries,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Membership] {
        match self {
            Joined::None => &mut [],
            Joined::One(membership) => std::slice::from_mut(membership),
            Joined::Few(entries, len) => entries.get_mut(..usize::from(*len)).unwrap_or_default(),
            Joined::Many(list) => &mut list.entries,
        }
    }

    pub(super) fn position(&self, channel: u32) -> Option<usize> {
        if let Joined::Many(list) = self
            && let Some(index) = &list.index
        {
            return index.get(&channel).map(|at| *at as usize);
        }
        self.as_slice().iter().position(|entry| entry.channel == channel)
    }

    /// Returns the position of the new entry.
    pub(super) fn push(&mut self, new: Membership) -> u32 {
        match self {
            Joined::None => *self = Joined::One(new),
            // What stands behind the entries is not looked at.
            Joined::One(first) => *self = Joined::Few(Box::new([*first, new, new]), 2),
            Joined::Few(entries, len) => {
                if let Some(place) = entries.get_mut(usize::from(*len)) {
                    *place = new;
                    *len += 1;
                } else {
                    let mut entries = entries.to_vec();
                    entries.push(new);
                    *self = Joined::Many(Box::new(List { entries, index: None }));
                }
            }
            Joined::Many(list) => list.push(new),
        }
        self.as_slice().len() as u32 - 1
    }

    pub(super) fn swap_remove(&mut self, at: usize) -> Membership {
        match self {
            Joined::Many(list) if list.entries.len() > 1 => list.swap_remove(at),
            Joined::Few(entries, len) if *len > 1 => {
                *len -= 1;
                let removed = entries[at];
                entries[at] = entries[usize::from(*len)];
                removed
            }
            _ => {
                let removed = self.as_slice()[at];
                *self = Joined::None;
                removed
            }
        }
    }
}

impl List {
    fn push(&mut self, new: Membership) {
        self.entries.push(new);
        if let Some(index) = &mut self.index {
            index.insert(new.channel, self.entries.len() as u32 - 1);
        } else if self.entries.len() > SCAN_MAX {
            let positions = self.entries.iter().zip(0..);
            self.index = Some(Box::new(positions.map(|(entry, at)| (entry.channel, at)).collect()));
        }
    }

    fn swap_remove(&mut self, at: usize) -> Membership {
        let removed = self.entries.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&removed.channel);
            if let Some(moved) = self.entries.get(at) {
                index.insert(moved.channel, at as u32);
            }
            if self.entries.len() <= SCAN_MAX / 2 {
                self.index = None;
            } else if index.capacity() > INDEX_KEPT && index.len() * 8 < index.capacity() {
                index.shrink_to(index.len() * 2);
            }
        }
        shrink(&mut self.entries);
        removed
    }
}

/// Gives memory back once three quarters are unused; leaves room to grow again.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > LIST_KEPT && list.len() * 4 <= list.capacity() {
        list.shrink_to(list.len() * 2);
    }
}

#[cfg(test)]
impl Joined {
    /// The index, if there is one, says where each entry is, and nothing else.
    pub(super) fn assert_indexed(&self) {
        if let Joined::Many(list) = self
            && let Some(index) = &list.index
        {
            assert_eq!(list.entries.len(), index.len());
        }
        for (at, entry) in self.as_slice().iter().enumerate() {
            assert_eq!(self.position(entry.channel), Some(at));
        }
    }
}
