//! Publishes of one turn, in batches: those to one channel are written to each of its members together. Caller: `fanout.rs`.
//!
//! A turn collects for few channels or for many; of many, an index says which batch of a channel is its last one, so that
//! collecting costs the same for each publish.
//!
//! Invariants: batches leave in the order in which they were begun; of one channel only the last one takes more.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

use crate::engine::command::{Publish, Qos};
use crate::engine::ids::DeliveryKey;
use crate::engine::name::Name;

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
    hash: SeedableRandomState,
    /// The number of the first batch: how many have left since there were none.
    left: usize,
}

/// Publishes to one channel that are written together.
#[derive(Debug)]
pub struct Batch {
    /// Where they go.
    pub channel: Name,
    /// In order.
    pub publishes: Vec<Entry>,
    /// Bytes of their payloads.
    pub bytes: usize,
}

/// One publish of a batch.
#[derive(Debug)]
pub struct Entry {
    /// What is published.
    pub publish: Arc<Publish>,
    /// Shards it went to.
    pub shards: u32,
    /// Its acknowledgements, if it asked for them, once the fan-out has begun.
    pub delivery: Option<DeliveryKey>,
}

impl Collected {
    /// Nothing. `hash`: random per process, since names come from outside.
    pub fn new(hash: SeedableRandomState) -> Self {
        Self {
            batches: VecDeque::new(),
            last: HashTable::new(),
            hash,
            left: 0,
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
        let at = self.last_of(&publish.channel);
        if let Some(batch) = at.and_then(|at| self.batches.get_mut(at))
            && batch.has_room(bytes)
        {
            batch.bytes += bytes;
            return batch.publishes.push(entry(publish));
        }
        self.batches.push_back(Batch {
            channel: publish.channel.clone(),
            publishes: vec![entry(publish)],
            bytes,
        });
        if self.batches.len() > SCANNED_MAX || !self.last.is_empty() {
            self.index();
        }
    }

    /// Takes the oldest batch out.
    pub fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.left += 1;
        if self.batches.is_empty() {
            self.last.clear();
            self.left = 0;
        }
        Some(batch)
    }

    /// Where the last batch to a channel is.
    fn last_of(&self, channel: &Name) -> Option<usize> {
        if self.last.is_empty() {
            return self.batches.iter().rposition(|batch| batch.channel == *channel);
        }
        let same = |number: &usize| self.at(*number).is_some_and(|batch| batch.channel == *channel);
        let number = self.last.find(self.hash.hash_one(channel), same)?;
        number.checked_sub(self.left)
    }

    fn at(&self, number: usize) -> Option<&Batch> {
        self.batches.get(number.checked_sub(self.left)?)
    }

    /// Notes the newest batch, and the others if none is noted yet.
    fn index(&mut self) {
        let from = if self.last.is_empty() {
            0
        } else {
            self.batches.len() - 1
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
        } = self;
        let Some(batch) = batches.get(at) else { return };
        // Numbers of batches that have left stay until none is left; they are nobody's.
        let of = |number: &usize| batches.get(number.checked_sub(*left)?).map(|batch| &batch.channel);
        let code = hash.hash_one(&batch.channel);
        match last.find_mut(code, |number| of(number) == Some(&batch.channel)) {
            Some(number) => *number = *left + at,
            None => {
                let rehash = |number: &usize| of(number).map_or(0, |channel| hash.hash_one(channel));
                last.insert_unique(code, *left + at, rehash);
            }
        }
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use foldhash::SharedSeed;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::command::AtDeadline;
    use crate::engine::ids::Ticket;
    use crate::time::{Duration, Instant};

    fn publish(channel: u16, ticket: u64, bytes: usize) -> Arc<Publish> {
        Arc::new(Publish {
            ticket: Ticket {
                serial: ticket,
                ..Ticket::default()
            },
            channel: Name::channel(&channel.to_be_bytes()),
            msgtype: 1,
            qos: Qos::AtMostOnce,
            payload: Bytes::from(vec![0; bytes]),
            retries: 0,
            retry_interval: Duration::ZERO,
            deadline: Instant::ZERO,
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        })
    }

    fn collected() -> Collected {
        Collected::new(SeedableRandomState::with_seed(1, SharedSeed::global_random()))
    }

    proptest! {
        /// As if every batch had been looked through.
        #[test]
        fn batches_are_those_of_a_search(steps in prop::collection::vec((0..40u16, 0..9u8), 0..400)) {
            let (mut collected, mut model) = (collected(), VecDeque::<(u16, Vec<u64>, usize)>::new());
            for (ticket, (channel, step)) in (0..).zip(steps) {
                if step == 0 {
                    let batch = collected.pop();
                    let tickets = batch.map(|batch| batch.publishes.iter().map(|entry| entry.publish.ticket.serial).collect());
                    prop_assert_eq!(tickets, model.pop_front().map(|(_, tickets, _)| tickets));
                    continue;
                }
                let bytes = if step == 1 { BATCH_BYTES_MAX } else { 1 };
                collected.push(publish(channel, ticket, bytes), 1);
                match model.iter_mut().rev().find(|(of, ..)| *of == channel) {
                    Some((_, tickets, sum)) if *sum + bytes <= BATCH_BYTES_MAX && tickets.len() < BATCH_PUBLISHES_MAX => {
                        tickets.push(ticket);
                        *sum += bytes;
                    }
                    _ => model.push_back((channel, vec![ticket], bytes)),
                }
            }
            while let Some((channel, tickets, _)) = model.pop_front() {
                let batch = collected.pop().unwrap();
                prop_assert_eq!(&batch.channel, &Name::channel(&channel.to_be_bytes()));
                prop_assert_eq!(batch.publishes.iter().map(|entry| entry.publish.ticket.serial).collect::<Vec<_>>(), tickets);
            }
            prop_assert!(collected.is_empty() && collected.last.is_empty());
        }
    }
}
