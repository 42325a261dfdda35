//! One turn of a shard, the same in the shell, in the simulator, under fuzzing and in benches:
//!
//! ```text
//!   call the shard ─▶ post its mail ─▶ end the turn: deliver, write ─▶ post what that left
//! ```
//! Posting before writing is what makes "whoever has seen an answer can rely on its effects" true across cores. While mail
//! waits for room, replies are kept as well. Callers: `io/core.rs`, the simulator, `fuzzing`, `benches`.

use super::Shard;
use super::sockets::Sockets;
use crate::engine::command::{Command, Report};
use crate::engine::ids::ShardId;
use crate::time::Instant;

/// What a shard has its turns in.
pub trait Shell {
    /// The sockets of its clients.
    type Sockets: Sockets;
    /// The shard with them.
    fn shard(&mut self) -> (&mut Shard, &mut Self::Sockets);
    /// Posts all of [`Shard::mail`], in order.
    fn post(&mut self);
    /// Mail of this core waits for room in other mailboxes.
    fn is_congested(&self) -> bool;
}

/// How much of what takes long is done in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Nothing: one of many turns between two looks at the sockets. So the pause that large fan-outs make is one slice, whoever
    /// else is served.
    Short,
    /// A slice of a large fan-out, a page of what callers ask, and clients that were put off have their turn to inflate.
    Long,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Turned<R> {
    /// Of the call.
    pub result: R,
    /// There is more to do at once: a long turn after the sockets had theirs.
    pub more: bool,
}

/// What a shard leaves for other cores.
pub struct Mail<'a> {
    /// For other shards, and for itself.
    pub commands: &'a mut Vec<(ShardId, Command)>,
    /// For the control core.
    pub reports: &'a mut Vec<Report>,
}

/// One turn. `call` tells the shard what has happened.
pub fn turn<S: Shell, R>(
    shell: &mut S,
    length: Length,
    now: Instant,
    call: impl FnOnce(&mut Shard, &mut S::Sockets, Instant) -> R,
) -> Turned<R> {
    let (shard, sockets) = shell.shard();
    let result = call(shard, sockets, now);
    post(shell);
    let is_congested = shell.is_congested();
    let (shard, sockets) = shell.shard();
    let more = match length {
        Length::Short => shard.end_short_turn(is_congested, now, sockets),
        Length::Long => shard.end_turn(is_congested, now, sockets),
    };
    post(shell);
    Turned { result, more }
}

fn post(shell: &mut impl Shell) {
    let (shard, _) = shell.shard();
    if !shard.commands.is_empty() || !shard.reports.is_empty() {
        shell.post();
    }
}

impl Shard {
    /// What has to be posted.
    pub fn mail(&mut self) -> Mail<'_> {
        Mail {
            commands: &mut self.commands,
            reports: &mut self.reports,
        }
    }

    /// Collected publishes are delivered, corked replies written. `corked`: none is written, since mail waits for room.
    fn end_turn(&mut self, corked: bool, now: Instant, sockets: &mut dyn Sockets) -> bool {
        self.corked = corked;
        self.run_collected(now, sockets);
        if self.fanout.has_slices() {
            self.run_slice(now, sockets);
        }
        self.answer_queries(now, sockets);
        if self.inflating.is_untouched() {
            return self.finish_turn(now, sockets);
        }
        let more = self.finish_turn(now, sockets);
        if !corked {
            self.go_on_inflating(now, sockets);
        }
        more || self.has_more() || self.inflating.is_spent()
    }

    fn end_short_turn(&mut self, corked: bool, now: Instant, sockets: &mut dyn Sockets) -> bool {
        self.corked = corked;
        self.run_collected(now, sockets);
        self.finish_turn(now, sockets) || self.inflating.is_spent()
    }

    fn finish_turn(&mut self, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let drains = self.drain_some(now, sockets);
        if !self.corked {
            self.flush_dirty(now, sockets);
        }
        self.corked = true;
        self.report_drained();
        drains || self.has_more()
    }

    /// Whether something waits for the next turn, but for what is to be inflated.
    fn has_more(&self) -> bool {
        self.fanout.has_slices() || self.fanout.has_collected() || !self.dirty.is_empty() || !self.queries.is_empty()
    }
}
