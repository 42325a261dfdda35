//! Control's side of acknowledgement: one publish, exactly one answer. The only place that counts.
//!
//! ```text
//!   open ──▶ waiting ──────────────── everything is in ───────────────▶ answered
//!               │ deadline T: peers are waited for no longer               ▲
//!               └──▶ grace ── the last part came, or T + RECEIPT_GRACE ────┘
//! ```
//! Inputs may come in any order. The home tells how many shards there are only where no part does. Rules (spec: sections 8, 12, 17):
//! - Only what is published is told ([`Tell::Published`]): answered when the home has passed it on; peers and parts do not
//!   matter.
//! - A publish that asks for the platforms of its members ([`Question::tells_online`]) waits for every shard and peer,
//!   whatever else is told. The platforms are in order of connecting, each once, over all of them.
//! - Else complete when every shard with members has sent its part and every peer its answer. What a part counts is the
//!   shard's affair ([`Tell::Counted`], [`Tell::Acknowledged`]).
//! - Members silent at T make it a timeout, unless the publish says that they count as failed
//!   ([`AtDeadline::Failed`]): then it is complete with the count. A part with silent members means that T has passed.
//! - A peer missing at T makes it a timeout ("every peer's answer, or T"), as does a shard missing at the end of the
//!   grace: nobody knows what its members did. A peer that failed has answered, with nothing.
//! - Every answer, also a timeout, carries the connections and data known by then.
//! - Data: that of the last local member to acknowledge with any, else that of the first peer to answer with any.
//!
//! Caller: the [`desk`](super::desk), which arms a timer for the deadline of each and bounds their number.
//! A ticket nobody waits for any more is unknown here, so late parts fall on the floor; tickets are never reused
//! ([`Tickets`]), so they cannot fall on another publish.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::command::{AtDeadline, Part, Tell};
use super::ids::{DeskId, NodeEpoch, Ticket};
use super::registry::{Presence, online};
use crate::limits::RECEIPT_GRACE;
use crate::time::Instant;

/// Gives out the tickets of one desk, each once.
#[derive(Debug, Default)]
pub struct Tickets(Ticket);

impl Tickets {
    /// For a desk of a node.
    pub fn new(node: NodeEpoch, desk: DeskId) -> Self {
        Self(Ticket { serial: 0, node, desk })
    }

    /// A ticket nobody had before; never [`Ticket::NOBODY`].
    pub fn issue(&mut self) -> Ticket {
        self.0.serial += 1;
        self.0
    }
}

/// What is to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What is told.
    pub tell: Tell,
    /// What silent members count as.
    pub at_deadline: AtDeadline,
    /// T: when the caller is to be answered.
    pub deadline: Instant,
    /// Peers that were asked too and will each answer or fail, once.
    pub peers: u32,
    /// Shards and peers say on which platforms the members are.
    pub tells_online: bool,
}

/// How a publish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everybody was heard.
    Complete,
    /// Somebody was not.
    TimedOut,
}

/// What the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// Members that acknowledged, those of peers included, or that the message was written to or queued for, as far as known;
    /// 0 unless they are counted.
    pub done: u64,
    /// Members that did not or could not, as far as known; those of peers are not told.
    pub failed: u64,
    /// Data one of them sent along; may be empty.
    pub data: Bytes,
    /// Where the members are online, as far as known; empty unless asked for.
    pub platforms: Vec<Presence>,
}

impl Answer {
    /// Everybody was heard who is waited for, and nothing was counted.
    pub const NOTHING: Answer = Answer {
        status: Status::Complete,
        done: 0,
        failed: 0,
        data: Bytes::new(),
        platforms: Vec::new(),
    };

    /// Members it was for, as far as known.
    pub fn matched(&self) -> u64 {
        self.done.saturating_add(self.failed)
    }
}

/// What one peer counted; the default for one that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPart {
    /// Its connections that acknowledged.
    pub connections: u64,
    /// Their data; may be empty.
    pub data: Bytes,
    /// Where its members are online.
    pub platforms: Vec<Presence>,
}

/// What a deadline led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The answer; the ticket is closed.
    Answered(Answer),
    /// Call again then.
    Again(Instant),
    /// The ticket was closed before.
    Closed,
}

/// Publishes that wait for their answer.
#[derive(Debug, Default)]
pub struct Receipts {
    open: HashMap<Ticket, Receipt, RandomState>,
}

#[derive(Debug)]
struct Receipt {
    question: Question,
    phase: Phase,
    /// Shards with members, once the home has told.
    shards: Option<u32>,
    parts: u32,
    /// Shards that told their platforms.
    onlines: u32,
    platforms: Vec<Presence>,
    peers: u32,
    done: u64,
    failed: u64,
    silent: bool,
    data: Option<(Instant, Bytes)>,
    peer_data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Grace,
    Over,
}

impl Receipts {
    /// No publishes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of publishes that wait.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Starts to count for a fresh `ticket`; call it before the publish is posted, and [`Receipts::on_deadline`] at
    /// the deadline of `question`.
    pub fn open(&mut self, ticket: Ticket, question: Question) {
        let known = self.open.insert(ticket, Receipt::new(question));
        debug_assert!(known.is_none(), "tickets are used once");
    }

    /// The home has handed the publish to `shards` shards.
    pub fn on_published(&mut self, ticket: Ticket, shards: u32) -> Option<Answer> {
        self.step(ticket, |receipt| {
            receipt.shards.get_or_insert(shards);
        })
    }

    /// A shard has told its share.
    pub fn on_part(&mut self, part: Part) -> Option<Answer> {
        self.step(part.ticket, |receipt| receipt.add(part))
    }

    /// One of `shards` shards has told where its members are online.
    pub fn on_online(&mut self, ticket: Ticket, shards: u32, platforms: &[Presence]) -> Option<Answer> {
        self.step(ticket, |receipt| {
            receipt.shards.get_or_insert(shards);
            receipt.onlines += 1;
            receipt.add_platforms(platforms);
        })
    }

    /// A peer has answered or failed.
    pub fn on_peer(&mut self, ticket: Ticket, part: PeerPart) -> Option<Answer> {
        self.step(ticket, |receipt| receipt.add_peer(part))
    }

    /// The time of this ticket has come, or what looks like it: early calls are told when to call again.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) -> Deadline {
        let Some(receipt) = self.open.get_mut(&ticket) else {
            return Deadline::Closed;
        };
        let deadline = receipt.question.deadline;
        let end = deadline + RECEIPT_GRACE;
        let (phase, next) = match now {
            now if now < deadline => return Deadline::Again(deadline),
            now if now < end => (Phase::Grace, end),
            _ => (Phase::Over, end),
        };
        receipt.phase = phase;
        match self.step(ticket, |_| ()) {
            Some(answer) => Deadline::Answered(answer),
            None => Deadline::Again(next),
        }
    }

    /// The caller has hung up; nobody is to be answered. False if the ticket was closed before.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.open.remove(&ticket).is_some()
    }

    fn step(&mut self, ticket: Ticket, input: impl FnOnce(&mut Receipt)) -> Option<Answer> {
        let Entry::Occupied(mut entry) = self.open.entry(ticket) else {
            return None;
        };
        input(entry.get_mut());
        let status = entry.get().status()?;
        Some(entry.remove().answer(status))
    }
}

impl Receipt {
    fn new(question: Question) -> Self {
        Self {
            question,
            phase: Phase::Waiting,
            shards: None,
            parts: 0,
            onlines: 0,
            platforms: Vec::new(),
            peers: 0,
            done: 0,
            failed: 0,
            silent: false,
            data: None,
            peer_data: Bytes::new(),
        }
    }

    fn add(&mut self, part: Part) {
        self.shards.get_or_insert(part.shards);
        self.parts += 1;
        self.done = self.done.saturating_add(u64::from(part.done));
        self.failed = self.failed.saturating_add(u64::from(part.failed));
        self.silent |= part.silent > 0;
        let latest = self.data.as_ref().map(|(when, _)| *when);
        self.data = match part.data {
            Some((when, data)) if !data.is_empty() && latest.is_none_or(|latest| latest <= when) => Some((when, data)),
            _ => self.data.take(),
        };
    }

    fn add_peer(&mut self, part: PeerPart) {
        self.peers += 1;
        self.done = self.done.saturating_add(part.connections);
        if self.peer_data.is_empty() {
            self.peer_data = part.data;
        }
        self.add_platforms(&part.platforms);
    }

    fn add_platforms(&mut self, platforms: &[Presence]) {
        platforms
            .iter()
            .for_each(|presence| online::note(&mut self.platforms, presence));
    }

    /// How it ended, if it has.
    fn status(&self) -> Option<Status> {
        let published = self.shards.is_some();
        let Question { tell, tells_online, .. } = self.question;
        let has_parts = tell.has_parts();
        if !has_parts && !tells_online {
            return match self.phase {
                _ if published => Some(Status::Complete),
                Phase::Over => Some(Status::TimedOut),
                Phase::Waiting | Phase::Grace => None,
            };
        }
        let shards_in = self
            .shards
            .is_some_and(|shards| (!has_parts || self.parts >= shards) && (!tells_online || self.onlines >= shards));
        let peers_in = self.peers >= self.question.peers;
        let ended = match self.phase {
            Phase::Waiting => shards_in && (peers_in || self.silent),
            Phase::Grace => shards_in,
            Phase::Over => true,
        };
        let timed_out = self.silent && self.question.at_deadline == AtDeadline::TimedOut;
        ended.then_some(match shards_in && peers_in && !timed_out {
            true => Status::Complete,
            false => Status::TimedOut,
        })
    }

    fn answer(self, status: Status) -> Answer {
        if !self.question.tell.has_parts() {
            return Answer {
                status,
                platforms: self.platforms,
                ..Answer::NOTHING
            };
        }
        Answer {
            status,
            done: self.done,
            failed: self.failed,
            data: self.data.map_or(self.peer_data, |(_, data)| data),
            platforms: self.platforms,
        }
    }
}

#[cfg(test)]
mod tests;
