//! What the clients of a shard do while memory is short (`budget.rs` has the order): heads of strangers are refused, begun
//! messages closed, clients with large messages not read for a while. And the deadline of a begun message, which holds memory
//! for as long as its sender likes otherwise.
//!
//! Only who holds, or sends, [`CHUNK`] bytes and more is looked at: a small message that arrives whole passes whatever the others
//! do. The deadline has one lazy timer per client, armed with the first input that stays, never cancelled: it looks whether
//! some message has become whole since.

use super::Shard;
use super::client::{Client, Phase, Timer};
use super::input::Input;
use super::sockets::Sockets;
use crate::budget::{self, CHUNK, Rank, is_short};
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::limits::RECEIVE_SCRATCH_BYTES;
use crate::metrics::Metric;
use crate::time::{Duration, Instant};
use crate::wire::http1::answer::{HttpAnswer, Manner};
use crate::wire::ws;

/// How long a client with large messages is not read while memory is short, and one that sends to channels while large fan-outs
/// hold all they may.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client that is not read may hold: what one receive call took, in a buffer that doubles.
const UNREAD_BYTES: usize = 2 * RECEIVE_SCRATCH_BYTES;

/// Bytes that may wait for a client before it counts as one that lags.
const LAG_BYTES: usize = 64 * 1024;

/// Whether a connection that nobody has admitted has to give way.
pub fn is_short_for_stranger(held: &budget::Input) -> bool {
    held.capacity() >= CHUNK && is_short(Rank::Stranger)
}

/// Whether what a client sends has to wait.
pub fn is_short_for_messages(received: &[u8]) -> bool {
    received.len() >= CHUNK && is_short(Rank::Forward)
}

impl Client {
    /// Bytes of memory for input that is not used yet.
    fn held_input(&self) -> usize {
        let decoder = match &self.phase {
            Phase::Open(open) => open.decoder.held(),
            Phase::Closing(closing) => closing.decoder.held(),
            Phase::Handshaking { .. } | Phase::Authorising { .. } => 0,
        };
        self.tail.capacity() + decoder
    }

    /// Whether [`Shard::mind_input`] has nothing to do.
    pub(super) fn holds_little(&self) -> bool {
        self.held_input() < CHUNK
    }

    /// Whether so much waits for it that it has to give way.
    pub(super) fn lags(&self) -> bool {
        self.outbox.len_bytes() > LAG_BYTES && is_short(Rank::Lagging)
    }

    /// Bytes that may wait for it.
    pub(super) fn outbox_max(&self, bytes_max: usize) -> usize {
        if self.lags() {
            bytes_max.min(LAG_BYTES)
        } else {
            bytes_max
        }
    }
}

impl Shard {
    /// A part of a request head stays.
    pub(super) fn mind_head(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) -> Input {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return Input::Gone;
        };
        if matches!(client.phase, Phase::Handshaking { .. }) && is_short_for_stranger(&client.tail) {
            client.tail = budget::Input::new();
            self.metrics.add(Metric::RefusedMemory, 1);
            self.answer(id, &HttpAnswer::overloaded(), Manner::LAST, now, sockets);
            self.close_client(id, CloseCause::Refused, None, now, sockets);
        }
        self.input_state(id)
    }

    /// Input stays that is not used yet.
    pub(super) fn mind_input(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let held = client.held_input();
        if held < CHUNK {
            return;
        }
        let rank = if held > UNREAD_BYTES { Rank::Begun } else { Rank::Last };
        if is_short(rank) {
            self.metrics.add(Metric::GaveWayBegun, 1);
            return self.end_begun(id, CloseCause::Overloaded, now, sockets);
        }
        let limit = self.config.message_timeout;
        if client.is_open() && !client.begun_watched && !limit.is_zero() {
            (client.begun_watched, client.went_on) = (true, false);
            self.wheel.insert(now + limit, Timer::Begun(id));
        }
    }

    /// Closes a client and forgets what it has sent of a message.
    fn end_begun(&mut self, id: ClientId, cause: CloseCause, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.tail = budget::Input::new();
        match &mut client.phase {
            Phase::Open(open) => open.decoder = ws::Decoder::new(),
            Phase::Closing(closing) => {
                // What follows are no frames any more.
                (closing.decoder, closing.answered) = (ws::Decoder::new(), true);
                return self.finish_closing(id, sockets);
            }
            Phase::Handshaking { .. } | Phase::Authorising { .. } => {}
        }
        self.close_client(id, cause, None, now, sockets);
        if let Some(Phase::Closing(closing)) = self.phase_mut(id) {
            closing.answered = true;
            self.finish_closing(id, sockets);
        }
    }

    /// Time for a message that was begun to be whole.
    pub(super) fn on_begun(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let limit = self.config.message_timeout;
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.begun_watched = false;
        if !client.is_open() || client.held_input() < CHUNK || limit.is_zero() {
            return;
        }
        // While it is not read the rest cannot come.
        if std::mem::take(&mut client.went_on) || client.paused {
            client.begun_watched = true;
            self.wheel.insert(now + limit, Timer::Begun(id));
            return;
        }
        self.end_begun(id, CloseCause::MessageTimeout, now, sockets);
    }

    /// Does not read a client for a while: there is no memory for its messages.
    pub(super) fn pause_for_memory(&mut self, id: ClientId, now: Instant) {
        if self.pause_for_a_while(id, now) {
            self.metrics.add(Metric::GaveWayForwards, 1);
        }
    }

    /// Does not read a client for a while. False: it is not read already, or on its way out (closing clients are read).
    pub(super) fn pause_for_a_while(&mut self, id: ClientId, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return false;
        };
        if !client.is_open() {
            return false;
        }
        client.pause(true, &self.metrics);
        let begins = !std::mem::replace(&mut client.throttled, true);
        if begins {
            self.wheel.insert(now + PAUSE, Timer::Rate(id));
        }
        begins
    }

    /// Bytes were queued for a client. False: it lags while memory is short, and is gone.
    pub(super) fn mind_outbox(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let lags = self.clients.get(id.slot, id.generation).is_some_and(Client::lags);
        if lags {
            self.metrics.add(Metric::GaveWayLagging, 1);
            self.drop_client(id, CloseCause::SlowConsumer, now, sockets);
        }
        !lags
    }
}
