//! Messages of one client on their way to the business. With `forward_order = client` at most `forward_window` are in
//! flight and the others wait here in order; without, all are in flight at once, as in the original.
//!
//! Bound: `forward_queue` messages or `forward_queue_bytes`, in flight and waiting together. Policy: when full the client's
//! socket is no longer read, nothing is dropped. One exception keeps acknowledgements moving: while the client owes
//! acknowledgements, reading goes on up to [`PATIENCE`] times the bound, because the business handler that is in the way
//! may itself be waiting for exactly that acknowledgement.

use std::collections::VecDeque;

use crate::config::{Config, ForwardOrder};
use crate::engine::command::CallbackRequest;

/// How far beyond the bound a client that owes acknowledgements is still read.
const PATIENCE: usize = 4;

/// Forwards of one client.
#[derive(Debug, Default)]
pub struct Forwards {
    in_flight: u32,
    /// Payload bytes in flight and waiting.
    bytes: usize,
    queue: VecDeque<CallbackRequest>,
}

impl Forwards {
    /// Takes a message. Returns it if it may be sent now.
    pub fn push(&mut self, request: CallbackRequest, config: &Config) -> Option<CallbackRequest> {
        self.bytes += request.body.len();
        // A reload may have widened the window while messages wait: they keep their place.
        if self.queue.is_empty() && self.may_send(config) {
            self.in_flight += 1;
            return Some(request);
        }
        self.queue.push_back(request);
        None
    }

    /// A forward of `bytes` payload bytes has ended. Returns the next one to be sent, if one may.
    pub fn finish(&mut self, bytes: usize, config: &Config) -> Option<CallbackRequest> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if !self.may_send(config) {
            return None;
        }
        let request = self.queue.pop_front()?;
        self.in_flight += 1;
        if self.queue.is_empty() {
            self.queue.shrink_to(0);
        }
        Some(request)
    }

    /// Messages in flight and waiting.
    pub fn len(&self) -> usize {
        self.in_flight as usize + self.queue.len()
    }

    /// Whether nothing is in flight or waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the client may be read; `owes` says that it owes acknowledgements.
    pub fn has_room(&self, owes: bool, config: &Config) -> bool {
        let factor = if owes { PATIENCE } else { 1 };
        self.len() < config.forward_queue * factor && self.bytes < config.forward_queue_bytes * factor
    }

    fn may_send(&self, config: &Config) -> bool {
        config.forward_order == ForwardOrder::None || (self.in_flight as usize) < config.forward_window
    }
}
