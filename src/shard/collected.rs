//! Publishes of one turn, in batches: those to one channel are written to each of its members together. Caller: `fanout.rs`.
//!
//! A turn collects for few channels or for many; of many, an index says which batch of a channel is its last one, so that
//! collecting costs the same for each publish.
//!
//! Invariants: batches leave in the order in which they were begun; of one channel only the last one takes more. A publish to
//! several channels or to clients ends all batches before it, since nothing that comes after it may overtake it; others like
//! it may join its batch, if they follow at once.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

use crate::engine::command::{ClientSet, Publish, Qos, Target};
use crate::engine::ids::{DeliveryKey, ShardId};

/// Publishes of one batch; more start the next batch, so that one client's share of a turn stays small.
const BATCH_PUBLISHES_MAX: usize = 128;
/// Payload bytes of one batch, unless a single publish is larger.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// So many batches are looked through one by one.
const SCANNED_MAX: usize = 8;

/// Batches of one turn that have not begun to be delivered.
#[derive(Debug)]
pub struct Collected {
    batches: VecDeque<Batch>,
    /// Numbers of the batches that may take more, by channel; from the first time on that there are more than [`SCANNED_MAX`]
    /// until there are none.
    last: HashTable<usize>,
    is_indexed: bool,
    hash: SeedableRandomState,
    /// The number of the first batch: how many have left since there were none.
    left: usize,
    /// Batches with lower numbers take nothing more.
    ended: usize,
}

/// Publishes to one target that are written together.
#[derive(Debug)]
pub struct Batch {
    /// Whom they are for.
    pub to: Target,
    /// In order.
    pub publishes: Vec<Entry>,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// What sets it apart from a plain one, once the fan-out has begun.
    pub special: Option<Box<Special>>,
}

/// What most batches do not have.
#[derive(Debug)]
pub struct Special {
    /// Who does not get all of its publishes.
    pub exceptions: ClientSet,
    /// Some of them are counted at the moment of writing.
    pub is_counted: bool,
}

/// One publish of a batch.
#[derive(Debug)]
pub struct Entry {
    /// What is published.
    pub publish: Arc<Publish>,
    /// Shards it went to.
    pub shards: u32,
    /// Its record of who acknowledged or was counted, if that is told, once the fan-out has begun.
    pub delivery: Option<DeliveryKey>,
}

impl Collected {
    /// Nothing. `hash`: random per process, since names come from outside.
    pub fn new(hash: SeedableRandomState) -> Self {
        Self {
            batches: VecDeque::new(),
            last: HashTable::new(),
            is_indexed: false,
            hash,
            left: 0,
            ended: 0,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a publish that went to so many shards.
    pub fn push(&mut self, publish: Arc<Publish>, shards: u32) {
        let bytes = publish.payload.len();
        let entry = |publish| Entry {
            publish,
            shards,
            delivery: None,
        };
        let at = self.last_of(&publish.to);
        if let Some(batch) = at.and_then(|at| self.batches.get_mut(at))
            && batch.has_room(bytes)
        {
            batch.bytes += bytes;
            return batch.publishes.push(entry(publish));
        }
        if let Target::Any(_) = &publish.to {
            self.ended = self.left + self.batches.len();
        }
        self.batches.push_back(Batch {
            to: publish.to.clone(),
            publishes: vec![entry(publish)],
            bytes,
            special: None,
        });
        if self.batches.len() > SCANNED_MAX || self.is_indexed {
            self.index();
        }
    }

    /// Takes the oldest batch out.
    pub fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.left += 1;
        if self.batches.is_empty() {
            self.last.clear();
            self.is_indexed = false;
            (self.left, self.ended) = (0, 0);
        }
        Some(batch)
    }

    /// Where the last batch to a target is, if that one may take more.
    fn last_of(&self, to: &Target) -> Option<usize> {
        let at = match to {
            Target::Any(_) => self
                .batches
                .len()
                .checked_sub(1)
                .filter(|at| self.batches[*at].to == *to)?,
            Target::Set(_) if !self.is_indexed => self.batches.iter().rposition(|batch| batch.to == *to)?,
            Target::Set(name) => {
                let same = |number: &usize| self.at(*number).is_some_and(|batch| batch.to == *to);
                let number = self.last.find(self.hash.hash_one(name), same)?;
                number.checked_sub(self.left)?
            }
        };
        (self.left + at >= self.ended).then_some(at)
    }

    fn at(&self, number: usize) -> Option<&Batch> {
        self.batches.get(number.checked_sub(self.left)?)
    }

    /// Notes the newest batch, and the others if none is noted yet.
    fn index(&mut self) {
        let from = match std::mem::replace(&mut self.is_indexed, true) {
            false => 0,
            true => self.batches.len() - 1,
        };
        for at in from..self.batches.len() {
            self.note(at);
        }
    }

    fn note(&mut self, at: usize) {
        let Self {
            batches,
            last,
            hash,
            left,
            ..
        } = self;
        let name_at = |at: usize| match &batches.get(at)?.to {
            Target::Set(name) => Some(name),
            Target::Any(_) => None,
        };
        let Some(name) = name_at(at) else { return };
        // Numbers of batches that have left stay until none is left; they are nobody's.
        let of = |number: &usize| name_at(number.checked_sub(*left)?);
        let code = hash.hash_one(name);
        match last.find_mut(code, |number| of(number) == Some(name)) {
            Some(number) => *number = *left + at,
            None => {
                let rehash = |number: &usize| of(number).map_or(0, |name| hash.hash_one(name));
                last.insert_unique(code, *left + at, rehash);
            }
        }
    }
}

impl Special {
    /// What publishes have of it on a shard.
    pub fn of(publishes: &[Entry], shard: ShardId) -> Box<Self> {
        let publishes = || publishes.iter().map(|entry| &entry.publish);
        let exceptions = publishes().flat_map(|publish| publish.except.of_shard(shard)).copied();
        Box::new(Self {
            exceptions: exceptions.collect(),
            is_counted: publishes().any(|publish| publish.is_counted()),
        })
    }
}

impl Entry {
    /// Its record, if it is counted at the moment of writing.
    pub fn counted(&self) -> Option<DeliveryKey> {
        self.delivery.filter(|_| self.publish.is_counted())
    }
}

impl Batch {
    /// Bytes it holds, its bookkeeping included.
    pub fn cost(&self) -> usize {
        self.bytes + self.publishes.len() * size_of::<Publish>()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.publishes.len() < BATCH_PUBLISHES_MAX && self.bytes + bytes <= BATCH_BYTES_MAX
    }

    /// No publish asks for acknowledgement: every member gets the same bytes.
    pub fn is_shared(&self) -> bool {
        self.publishes.iter().all(|entry| entry.publish.qos == Qos::AtMostOnce)
    }

    /// The records of its publishes.
    pub fn keys(&self) -> impl Iterator<Item = DeliveryKey> {
        self.publishes.iter().filter_map(|entry| entry.delivery)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use foldhash::SharedSeed;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::command::Tell;
    use crate::engine::ids::{ClientId, Ticket};
    use crate::engine::name::Name;
    use crate::time::Instant;

    /// From 40 on: to a client.
    fn target(number: u16) -> Target {
        match number.checked_sub(40) {
            None => Name::channel(&number.to_be_bytes()).into(),
            Some(slot) => Target::client(ClientId {
                shard: ShardId(0),
                slot: u32::from(slot),
                generation: 0,
            }),
        }
    }

    fn publish(to: u16, serial: u64, bytes: usize) -> Arc<Publish> {
        let ticket = Ticket {
            serial,
            ..Ticket::default()
        };
        let payload = Bytes::from(vec![0; bytes]);
        let publish = Publish::once(ticket, target(to), 1, payload, Tell::Published, Instant::ZERO);
        Arc::new(publish)
    }

    fn collected() -> Collected {
        Collected::new(SeedableRandomState::with_seed(1, SharedSeed::global_random()))
    }

    #[derive(Default)]
    struct Model {
        /// Target, tickets, bytes, takes more.
        batches: VecDeque<(u16, Vec<u64>, usize, bool)>,
    }

    impl Model {
        fn push(&mut self, to: u16, ticket: u64, bytes: usize) {
            let last = self.batches.len().saturating_sub(1);
            let mut batches = self.batches.iter_mut().enumerate().rev();
            let found = match to {
                0..40 => batches.find(|(_, batch)| batch.0 == to),
                _ => batches.find(|(at, batch)| *at == last && batch.0 == to),
            };
            match found {
                Some((_, (_, tickets, sum, true)))
                    if *sum + bytes <= BATCH_BYTES_MAX && tickets.len() < BATCH_PUBLISHES_MAX =>
                {
                    tickets.push(ticket);
                    *sum += bytes;
                    return;
                }
                _ => {}
            }
            if to >= 40 {
                self.batches.iter_mut().for_each(|batch| batch.3 = false);
            }
            self.batches.push_back((to, vec![ticket], bytes, true));
        }
    }

    fn tickets(batch: &Batch) -> Vec<u64> {
        batch
            .publishes
            .iter()
            .map(|entry| entry.publish.ticket.serial)
            .collect()
    }

    proptest! {
        /// As if every batch had been looked through.
        #[test]
        fn batches_are_those_of_a_search(steps in prop::collection::vec((0..44u16, 0..9u8), 0..400)) {
            let (mut collected, mut model) = (collected(), Model::default());
            for (ticket, (to, step)) in (0..).zip(steps) {
                if step == 0 {
                    let batch = collected.pop();
                    prop_assert_eq!(batch.as_ref().map(tickets), model.batches.pop_front().map(|batch| batch.1));
                    continue;
                }
                let bytes = if step == 1 { BATCH_BYTES_MAX } else { 1 };
                collected.push(publish(to, ticket, bytes), 1);
                model.push(to, ticket, bytes);
            }
            while let Some((to, expected, ..)) = model.batches.pop_front() {
                let batch = collected.pop().unwrap();
                prop_assert_eq!(&batch.to, &target(to));
                prop_assert_eq!(tickets(&batch), expected);
            }
            prop_assert!(collected.is_empty() && collected.last.is_empty());
        }
    }
}
