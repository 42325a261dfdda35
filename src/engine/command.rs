//! The one vocabulary of the engine. Doors translate their bytes and HTTP verbs into it, cores exchange it through their
//! mailboxes, the simulator speaks it. It names no protocol.
//!
//! ```text
//!   control ── Publish ──▶ home shard ── Deliver ──▶ every shard with members ── Report::Part ──▶ control
//!   control ── Join ─────▶ owning shard ── Interest (0→1) ──▶ home shard
//!   shard   ── Report::Callback ──▶ control ── CallbackDone ──▶ the same shard
//! ```
//! Mailboxes are FIFO per receiver and everything a step causes is posted before its answer: whoever has seen an answer
//! can rely on its effects.

use std::sync::Arc;

use bytes::Bytes;

use super::hook::Hook;
use super::ids::{ClientId, ShardId, Ticket};
use super::name::{Name, Space};
use super::query::{Page, Query};
use super::registry::Presence;
use crate::close::CloseCause;
use crate::time::Instant;

pub use super::publish::{Any, AtDeadline, ClientSet, Publish, Qos, Target, Tell};

/// To a shard.
#[derive(Debug)]
pub enum Command {
    /// To the shard that distributes it ([`Target::distributor`]).
    Publish(Arc<Publish>),
    /// From there: deliver to those of yours it is for, as one of so many shards.
    Deliver(Arc<Publish>, u32),
    /// To the home of the channel: `shard` has its first member, or lost its last.
    Interest {
        /// The channel.
        channel: Name,
        /// Who tells.
        shard: ShardId,
        /// First member came (true) or last one left (false).
        joined: bool,
    },
    /// To the owning shard: put the client into the channel; if its name is of a single-valued space
    /// ([`super::name::Space::single`]), in place of the one it has there. Answered by [`Report::Done`].
    Join {
        /// The client.
        client: ClientId,
        /// The channel.
        channel: Name,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// To the owning shard: take the client out of the channel. Answered by [`Report::Done`].
    Leave {
        /// The client.
        client: ClientId,
        /// The channel.
        channel: Name,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// To the home of the channel: empty it everywhere, then put `client` in. Answered by [`Report::Done`].
    Occupy {
        /// The channel.
        channel: Name,
        /// The holder to be, if its identity is one of this process.
        client: Option<ClientId>,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// From the home of the channel: all your members leave it.
    Vacate {
        /// The channel.
        channel: Name,
    },
    /// To the owning shard: a callback it asked for has ended.
    CallbackDone {
        /// The client that asked.
        client: ClientId,
        /// The `token` of the request.
        token: u64,
        /// How it ended.
        outcome: CallbackOutcome,
    },
    /// One page of what this shard says to a question. Answered by [`Report::Told`], in its turn: what is posted behind it
    /// may be carried out before.
    Query {
        /// The question.
        query: Arc<Query>,
        /// 0, or where the last page ended.
        cursor: u64,
        /// Items wanted at most.
        max: u32,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// To the owning shard: take the client out of the set it is in of a single-valued space, whichever that is. Answered
    /// by [`Report::Done`].
    Unbind {
        /// The client.
        client: ClientId,
        /// Single-valued ([`super::name::Space::single`]).
        space: Space,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// To the owning shard: change what the client's session keeps. Answered by [`Report::Done`].
    Edit {
        /// The client.
        client: ClientId,
        /// How.
        edit: Edit,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// To the owning shard: end the connection. Answered by [`Report::Done`].
    Close {
        /// The client.
        client: ClientId,
        /// How.
        order: Box<CloseOrder>,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// Close every client, accept no more. Answered by [`Report::Drained`] when the last slot is free.
    Drain,
}

/// A change of what a client's session keeps. Its door knows what it means, the engine does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The door's own number for what is to be done with `patch`.
    pub verb: u8,
    /// What it is done with.
    pub patch: Bytes,
}

/// How a connection is to be ended: the farewell and then the close frame go behind everything that waits for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseOrder {
    /// What is counted, and what the client is told if there is no `code`.
    pub cause: CloseCause,
    /// Code of the close frame; one that must not travel (RFC 6455 §7.4) is left out.
    pub code: Option<u16>,
    /// Reason of the close frame, if there is a `code`; UTF-8, of which [`CloseOrder::REASON_BYTES_MAX`] are sent.
    pub reason: Bytes,
    /// A last message: its tag and its payload. Left out if the client has too much waiting already.
    pub farewell: Option<(u16, Bytes)>,
    /// Neither is sent, nor what waits: TCP ends at once.
    pub force: bool,
}

impl CloseOrder {
    /// What a close frame holds beside its code (RFC 6455 §5.5).
    pub const REASON_BYTES_MAX: usize = 123;

    /// A close frame as the cause has it.
    pub fn new(cause: CloseCause) -> Self {
        Self {
            cause,
            code: None,
            reason: Bytes::new(),
            farewell: None,
            force: false,
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// There is no such client (any more).
    NoClient,
    /// It was not made.
    Refused(Why),
    /// It was so already.
    Unchanged,
    /// It was made.
    Changed,
    /// It was made, and ended what the client was in before, of this single-valued space.
    Replaced(Name),
    /// What the session keeps now, in the door's own words.
    Edited(Bytes),
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client is in `channels_max` sets.
    TooManyChannels,
    /// The session would keep more than it may.
    Full,
    /// The door does not understand it; a phrase that says what.
    Invalid(&'static str),
}

impl Done {
    /// Whether it is now as was asked for.
    pub const fn is_so(&self) -> bool {
        !matches!(self, Done::NoClient | Done::Refused(_))
    }
}

/// From a shard to the control core.
#[derive(Debug)]
pub enum Report {
    /// The publish was handed to `shards` shards. Told only where no [`Report::Part`] will tell: if it is all that was asked
    /// for ([`Tell::Published`]), or nobody is there.
    Published {
        /// Of the publish.
        ticket: Ticket,
        /// Number of shards with members.
        shards: u32,
    },
    /// What one shard knows of a publish once all of its members are done or failed, or at the deadline; sent once. For
    /// [`Tell::Counted`] and [`Tell::Acknowledged`].
    Part(Part),
    /// The platforms one shard's members of a publish are on; sent once, before its [`Report::Part`] if there is one.
    Online {
        /// Of the publish.
        ticket: Ticket,
        /// How many shards tell theirs.
        shards: u32,
        /// Each once, in order of connecting.
        platforms: Vec<Presence>,
    },
    /// What a [`Command::Join`], `Leave`, `Occupy`, `Unbind`, `Edit` or `Close` came to; sent once.
    Done {
        /// Of the command.
        ticket: Ticket,
        /// What it did.
        done: Done,
    },
    /// Ask the business.
    Callback(CallbackRequest),
    /// One page of what this shard says to a [`Command::Query`].
    Told {
        /// Of the question.
        ticket: Ticket,
        /// What it says; it may be empty and still not the last.
        page: Page,
        /// Where to go on, or `None` after the last page.
        next: Option<u64>,
    },
    /// All clients of this shard are gone.
    Drained {
        /// Who tells.
        shard: ShardId,
    },
}

/// One shard's share of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of the publish.
    pub ticket: Ticket,
    /// How many shards have a share; each sends one part.
    pub shards: u32,
    /// Members that acknowledged, or that it was written to or queued for.
    pub done: u32,
    /// Members that failed: retries used up, disconnected, or could not take the message.
    pub failed: u32,
    /// Members that did neither by the deadline.
    pub silent: u32,
    /// Data of the last member to acknowledge with data, and when that was.
    pub data: Option<(Instant, Bytes)>,
}

/// A question to the business server. The control core adds what belongs to the call itself: URL, signature, framing.
#[derive(Clone, Debug)]
pub struct CallbackRequest {
    /// Who asks; the answer goes back to it.
    pub client: ClientId,
    /// Returned with the answer; the session's own note of what this was about.
    pub token: u64,
    /// What it is about.
    pub hook: Hook,
    /// Message type, for the URL of [`super::hook::Event::Message`].
    pub msgtype: u16,
    /// Query parameters to add, URL-encoded, without leading `?` or `&`; may be empty.
    pub query: Bytes,
    /// Header lines to add, each `Name: value\r\n`, already checked; may be empty.
    pub headers: Bytes,
    /// Body of a POST; ignored for GET callbacks.
    pub body: Bytes,
    /// Stands for the address of a client that is not admitted yet; 0: unknown, or it is.
    pub address: u64,
}

/// How a callback ended.
#[derive(Debug)]
pub enum CallbackOutcome {
    /// The business answered with a final status (redirects followed).
    Answered(CallbackReply),
    /// No usable answer: refused, unreachable, dropped, garbage, too slow.
    Failed(CallbackFailure),
}

/// A business answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackReply {
    /// HTTP status.
    pub status: u16,
    /// Headers as received, names in lower case, repeated ones in order.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Body, decoded (chunks and gzip removed).
    pub body: Bytes,
}

impl CallbackReply {
    /// Status 200..=299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Values of every header called `name` (lower case), in order.
    pub fn headers_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Bytes> {
        self.headers
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value)
    }
}

/// Why a callback brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackFailure {
    /// Too many callbacks are waiting already, or the server has been failing for a while.
    Overloaded,
    /// The name did not resolve.
    Unresolved,
    /// Nobody listens there: the connection was refused.
    Refused,
    /// No address could be connected to, for another reason.
    Unreachable,
    /// TLS could not be agreed on, or the certificate is not good.
    Handshake,
    /// The connection ended before a whole answer.
    Dropped,
    /// The answer was not HTTP, or over a limit.
    Garbage,
    /// More than five redirects, or one to nowhere.
    Redirects,
    /// The deadline passed.
    TimedOut,
    /// Memory is short, so the answer was not read to its end.
    MemoryShort,
}
