//! Messages of one client on their way to the business. With `forward_order = client` at most `forward_window` are in
//! flight and the others wait in order (`protocol/serial.rs`); without, all are in flight at once, as in the original.
//!
//! Bound: `forward_queue` messages or `forward_queue_bytes`. One exception keeps acknowledgements moving: while the client
//! owes acknowledgements, reading goes on up to [`PATIENCE`] times the bound, because the business handler that is in the
//! way may itself be waiting for exactly that acknowledgement.

use crate::config::{Config, ForwardOrder};
use crate::engine::command::CallbackRequest;
use crate::protocol::serial::Serial;

/// How far beyond the bound a client that owes acknowledgements is still read.
const PATIENCE: usize = 4;

/// Forwards of one client.
#[derive(Debug, Default)]
pub struct Forwards(Serial<CallbackRequest>);

impl Forwards {
    /// Takes a message. Returns it if it may be sent now.
    pub fn push(&mut self, request: CallbackRequest, config: &Config) -> Option<CallbackRequest> {
        let bytes = request.body.len();
        self.0.push(request, bytes, window(config))
    }

    /// A forward of `bytes` payload bytes has ended. Returns the next one to be sent, if one may.
    pub fn finish(&mut self, bytes: usize, config: &Config) -> Option<CallbackRequest> {
        self.0.finish(bytes, window(config))
    }

    /// Messages in flight and waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in flight or waiting.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the client may be read; `owes` says that it owes acknowledgements.
    pub fn has_room(&self, owes: bool, config: &Config) -> bool {
        let factor = if owes { PATIENCE } else { 1 };
        self.0
            .is_within(config.forward_queue * factor, config.forward_queue_bytes * factor)
    }
}

/// Forwards at once.
fn window(config: &Config) -> usize {
    match config.forward_order {
        ForwardOrder::None => usize::MAX,
        ForwardOrder::Client => config.forward_window,
    }
}
