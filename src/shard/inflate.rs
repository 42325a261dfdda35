//! The work of inflating what clients send compressed. A few kilobytes may become `message_max` bytes, so what is received says
//! nothing about the time it takes: [`INFLATED_BYTES_PER_TURN`] are inflated between two looks at mail and timers, all clients
//! together, and one message beyond. Clients that speak compressed and have more wait in a queue, unread, each for its turn;
//! nothing is dropped, and clients without compression do not wait at all.
//!
//! The queue goes on at the end of a long turn, behind everything else. Its replies are written in the next one, once the mail
//! they rely on has been posted. Bound: every client is in it once at most.

use std::collections::VecDeque;

use super::Shard;
use super::client::Client;
use super::sockets::Sockets;
use crate::engine::ids::ClientId;
use crate::limits::INFLATED_BYTES_PER_TURN;
use crate::time::Instant;

/// Clients of the queue that have their turn together: what they sent besides takes time too.
const CLIENTS_PER_TURN: usize = 64;

/// What may still be inflated in this turn, and who waits for the next one.
#[derive(Debug)]
pub(super) struct Inflating {
    /// None while somebody waits.
    left: usize,
    waiting: VecDeque<ClientId>,
}

impl Default for Inflating {
    fn default() -> Self {
        Self {
            left: INFLATED_BYTES_PER_TURN,
            waiting: VecDeque::new(),
        }
    }
}

impl Inflating {
    /// Whether nothing more is to be inflated in this turn: another one is needed.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// A message of `packed` bytes became `unpacked` bytes, however many were left. Returns how many more that is.
    pub(super) fn take(&mut self, packed: usize, unpacked: usize) -> usize {
        self.left = self.left.saturating_sub(packed.max(unpacked));
        unpacked.saturating_sub(packed)
    }

    /// Whether there is nothing to be done for the next turn.
    pub(super) fn is_untouched(&self) -> bool {
        self.left == INFLATED_BYTES_PER_TURN
    }
}

impl Client {
    /// Whether it may send compressed messages.
    pub(super) fn is_compressed(&mut self) -> bool {
        self.open().is_some_and(|open| open.deflate.is_some())
    }
}

impl Shard {
    /// Does not read a client until it is its turn again.
    pub(super) fn pause_to_inflate(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        // Writing replies may have closed it; closing clients are read.
        if client.open().is_none() {
            return;
        }
        client.pause(true, &self.metrics);
        if !std::mem::replace(&mut client.inflating, true) {
            self.inflating.waiting.push_back(id);
        }
    }

    /// A new turn to inflate in, for those that wait for it first.
    #[cold]
    pub(super) fn go_on_inflating(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        self.inflating.left = INFLATED_BYTES_PER_TURN;
        for _ in 0..self.inflating.waiting.len().min(CLIENTS_PER_TURN) {
            if self.inflating.is_spent() {
                break;
            }
            if let Some(id) = self.inflating.waiting.pop_front() {
                self.contained(id, now, sockets, |shard, sockets| {
                    if let Some(client) = shard.clients.get_mut(id.slot, id.generation) {
                        client.inflating = false;
                        shard.resume_input(id, now, sockets);
                    }
                });
            }
        }
        // Those that are left, and whoever comes behind them, wait for the next turn.
        let is_over = self.inflating.waiting.is_empty();
        self.inflating.left = if is_over { INFLATED_BYTES_PER_TURN } else { 0 };
    }
}
