//! One slot of a shard, from accept to free.
//!
//! ```text
//!   accept ─▶ Handshaking ─▶ Authorising ─▶ Open ─▶ Closing ─▶ free
//!                 │ │             └── client left ──▶ Closing (close callback if the business had said yes)
//!                 │ └── no door's path ─▶ handed over to the control core
//!                 └── refused: answered, and Handshaking again (keep-alive)
//! ```
//! Closing is a state machine of its own: the slot is free when the socket is closed, the messages still on their way to
//! the business have ended, and the close callback has been handed to the control core.

use bytes::Bytes;

use super::copies::Kind;
use super::liveness::Silence;
use super::rate::Rate;
use super::timers::SessionTimers;
use crate::budget::Input;
use crate::engine::ids::{ClientId, DeliveryKey};
use crate::engine::outbox::Outbox;
use crate::engine::wheel::TimerId;
use crate::metrics::{CoreMetrics, Metric};
use crate::protocol::{Door, ListenerId, Session, TimerKind};
use crate::time::Instant;
use crate::wire::deflate::Agreed;
use crate::wire::http1::answer::Manner;
use crate::wire::ws;
use crate::wire::ws::upgrade::{AcceptKey, NoUpgrade};

/// Everything a shard keeps of one connection.
#[derive(Debug)]
pub struct Client {
    /// Where the connection stands.
    pub phase: Phase,
    /// Received bytes that are not processed yet: an unfinished head or frame, or input that came while paused.
    pub tail: Input,
    /// Bytes on their way out.
    pub outbox: Outbox,
    /// When something was received last, as far as `liveness.rs` needs it.
    pub active: Instant,
    /// Pending if pings or the idle time-out are on.
    pub liveness: Option<TimerId>,
    /// What was taken of the client's rate, if there is one.
    pub rate: Option<Box<Rate>>,
    /// The socket is not being read.
    pub paused: bool,
    /// It is not, because the client is over its rate or memory is short; [`Timer::Rate`] is pending.
    pub throttled: bool,
    /// It is not, because it has its turn to inflate later; listed in the shard's queue for that.
    pub inflating: bool,
    /// A ping was sent, so long after `active`, and nothing came since.
    pub pinged: Option<Silence>,
    /// How often the socket has taken something out of the outbox; wraps.
    pub advances: u16,
    /// [`Timer::Begun`] is pending.
    pub begun_watched: bool,
    /// A message became whole since that was armed.
    pub went_on: bool,
    /// [`Timer::Outbox`] is pending.
    pub outbox_watched: bool,
    /// A `want_write` is pending.
    pub write_armed: bool,
    /// Listed in the shard's dirty list.
    pub dirty: bool,
}

/// Where a connection stands.
#[derive(Debug)]
pub enum Phase {
    /// Waiting for a request head.
    Handshaking {
        /// Where the connection came in.
        listener: ListenerId,
        /// Runs out with [`crate::close::CloseCause::HandshakeTimeout`], or earlier with `TlsSilent`.
        deadline: TimerId,
    },
    /// The business is being asked.
    Authorising {
        /// What the answer decides about.
        upgrade: Box<Upgrade>,
        /// What its door remembers about it until then.
        keep: Bytes,
        /// The client has left meanwhile.
        gone: bool,
    },
    /// Admitted.
    Open(Open),
    /// On its way out.
    Closing(Closing),
}

/// What the business's answer decides about.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    /// Where the client wants in.
    pub door: Door,
    /// Where its connection came in.
    pub listener: ListenerId,
    /// Whether the request can become a websocket; told only to those who are admitted (spec: section 3).
    pub accept: Result<AcceptKey, NoUpgrade>,
    /// The compression it would have.
    pub deflate: Option<Agreed>,
    /// How an HTTP answer would have to be framed.
    pub manner: Manner,
}

/// An admitted client.
#[derive(Debug)]
pub struct Open {
    /// Incoming frames.
    pub decoder: ws::Decoder,
    /// Messages may be compressed.
    pub deflate: Option<Agreed>,
    /// Where it came in.
    pub door: Door,
    /// Which copy of shared bytes it takes.
    pub kind: Kind,
    /// The door's state.
    pub session: Session,
    /// What the session wants to be woken for.
    pub timers: SessionTimers,
}

/// A connection on its way out.
#[derive(Debug)]
pub struct Closing {
    /// Present until the close callback has been handed over.
    pub session: Option<Session>,
    /// Looks for the client's own close frame.
    pub decoder: ws::Decoder,
    /// As while it was open; `None`: it never was.
    pub door: Option<Door>,
    /// As while it was open.
    pub deflate: Option<Agreed>,
    /// Runs out when the peer does not end the connection itself.
    pub linger: Option<TimerId>,
    /// The socket is still open.
    pub socket: bool,
    /// The client's close frame has come, or will never: once the outbox is empty TCP ends.
    pub answered: bool,
    /// We have told the peer that nothing more comes.
    pub finished: bool,
}

/// Timers of the shard's wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No whole request head yet.
    Handshake(ClientId),
    /// Not a byte on the TLS port yet.
    FirstByte(ClientId),
    /// The session asked for it.
    Session(ClientId, TimerKind),
    /// Time to look whether the client is silent.
    Liveness(ClientId),
    /// Time to look how long bytes have been waiting for the client.
    Outbox(ClientId),
    /// Time to look whether a begun message has become whole.
    Begun(ClientId),
    /// The client may send again.
    Rate(ClientId),
    /// The peer has not ended the connection yet.
    Linger(ClientId),
    /// Repeat a delivery to the members that have not acknowledged it.
    Retry(DeliveryKey),
    /// Answer the caller of a delivery.
    Deadline(DeliveryKey),
    /// The server stops and something is due.
    Drain,
}

impl Client {
    /// A connection just accepted.
    pub fn new(listener: ListenerId, deadline: TimerId) -> Self {
        Self {
            phase: Phase::Handshaking { listener, deadline },
            tail: Input::new(),
            outbox: Outbox::default(),
            active: Instant::ZERO,
            liveness: None,
            rate: None,
            paused: false,
            throttled: false,
            inflating: false,
            pinged: None,
            advances: 0,
            begun_watched: false,
            went_on: false,
            outbox_watched: false,
            write_armed: false,
            dirty: false,
        }
    }

    /// Notes whether the socket is being read; counted.
    pub fn pause(&mut self, paused: bool, metrics: &CoreMetrics) {
        match (std::mem::replace(&mut self.paused, paused), paused) {
            (false, true) => metrics.add(Metric::ReadsPaused, 1),
            (true, false) => metrics.sub(Metric::ReadsPaused, 1),
            _ => {}
        }
    }

    /// Whether it is admitted, and not on its way out.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The admitted client, if it is one.
    pub fn open(&mut self) -> Option<&mut Open> {
        match &mut self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        let (tail, outbox, flags) = (size_of::<Vec<u8>>(), size_of::<Outbox>(), 16);
        // Limits and liveness take three words.
        assert_eq!(size_of::<Client>(), size_of::<Phase>() + tail + outbox + flags + 24);
    }
}
