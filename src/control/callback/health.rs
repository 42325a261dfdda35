//! What the ends of calls say about a server, where that goes, and how an operator learns of it.
//!
//! A failure is: no connection, no answer in time, a connection that ends without one, and the statuses a proxy gives for a
//! server that is not there (502 and above). An answer is everything else, 500 included: it is what a handler says about
//! *one* message, and a client that has found a message that breaks the handler must not be able to close the door for
//! everybody. For the same reason a failure that a request can bring about (502, a connection that ends, silence) is held
//! against the server only when it is not one source's (`sources.rs`), nobody has been answered for two seconds and, where
//! anybody may ask (connect), a neutral request fails too. 503 is what a server says of itself: unless it says so to single
//! sources only, it is believed at once. A server that cannot be connected to is down. A call that had little time left because it had waited in the queue says nothing.

use std::rc::Rc;
use std::time::Duration;

use super::adapt::Change;
use super::breaker::BreakerState;
use super::lane::{Job, Rules, Turn, Verdict};
use super::lanes::LaneKey;
use super::{Callbacks, Inner, check};
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackReply};
use crate::engine::hook::Hook;
use crate::io::clock;

/// First status that stands for a server that is not there.
pub(super) const STATUS_UNAVAILABLE: u16 = 502;
/// What a server says of itself when it is not.
const STATUS_OF_ITSELF: u16 = 503;

/// How the servers of one hook are treated now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Calls at once to one of them: the lowest bound of them.
    pub limit: usize,
    /// The breaker; of several, the worst.
    pub breaker: BreakerState,
}

impl Callbacks {
    /// How the servers of `hook` are treated now.
    pub fn health(&self, hook: Hook) -> Health {
        let ceiling = self.0.settings.get().lane(hook.event).in_flight;
        let (limit, breaker) = self.0.lanes.borrow().health(hook, ceiling);
        Health { limit, breaker }
    }
}

/// What the end of a call says about the server. `took` of the `timeout` were used.
pub(super) fn verdict(outcome: &CallbackOutcome, took: Duration, timeout: Duration) -> Verdict {
    use CallbackFailure::{
        Dropped, Garbage, Handshake, MemoryShort, Overloaded, Redirects, Refused, TimedOut, Unreachable, Unresolved,
    };
    match outcome {
        CallbackOutcome::Answered(reply) if reply.status == STATUS_OF_ITSELF => Verdict::Unavailable,
        CallbackOutcome::Answered(reply) if reply.status >= STATUS_UNAVAILABLE => Verdict::Failed,
        CallbackOutcome::Answered(_) => Verdict::Answered,
        CallbackOutcome::Failed(TimedOut) if took < timeout / 2 => Verdict::Unclear,
        CallbackOutcome::Failed(TimedOut | Dropped) => Verdict::Failed,
        CallbackOutcome::Failed(Refused | Unreachable | Handshake | Unresolved) => Verdict::Down,
        CallbackOutcome::Failed(Garbage | Redirects | Overloaded | MemoryShort) => Verdict::Unclear,
    }
}

impl Inner {
    /// What holds for the lanes of `hook` now.
    pub(super) fn rules(&self, hook: Hook) -> Rules {
        let settings = self.settings.get();
        let lane = settings.lane(hook.event);
        Rules {
            in_flight: lane.in_flight,
            queued: lane.queued,
            breaker: settings.breaker(hook.event),
            now: clock::instant(),
            chance: self.random.fraction(),
        }
    }

    /// A call of a lane has ended.
    pub(super) fn learn(self: &Rc<Self>, key: &LaneKey, job: &Job, verdict: Verdict) {
        let rules = self.rules(key.0);
        let turn = self
            .lanes
            .borrow_mut()
            .on_end(key, job.call, job.source, verdict, rules);
        if self.lanes.borrow_mut().wants_check(key) {
            monoio::spawn(check(self.clone(), key.clone()));
        }
        self.tell(key, turn);
    }

    /// What has changed, for the operator.
    pub(super) fn tell(self: &Rc<Self>, key: &LaneKey, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let (kind, server, tls) = (self.kind(key.0), &key.1.authority, key.1.tls);
        match turn {
            Turn::Opened => {
                self.ledger.opened(key.0);
                tracing::warn!(kind, %server, tls, "callbacks fail one after the other: only probes are sent");
                let look_at = self.lanes.borrow().look_at();
                look_at.into_iter().for_each(|at| self.alarm.note(at));
            }
            Turn::Closed => {
                tracing::info!(kind, %server, tls, "callbacks are answered again");
                self.fill(key);
            }
            Turn::Exonerated => {
                tracing::debug!(kind, %server, tls, "callbacks fail, but the backend answers: some requests make it fail");
            }
            Turn::Pace(Change::Reduced(limit)) => {
                tracing::warn!(kind, %server, tls, limit, "most callbacks fail: fewer are sent at once");
            }
            Turn::Pace(Change::Restored) => tracing::info!(kind, %server, tls, "callbacks are sent at full pace again"),
        }
    }
}

/// Whether a neutral request found the server: whatever it says, unless a proxy says it.
pub(super) fn is_alive(result: &Result<CallbackReply, CallbackFailure>) -> bool {
    use CallbackFailure::{Garbage, MemoryShort, Redirects};
    match result {
        Ok(reply) => reply.status < STATUS_UNAVAILABLE,
        Err(failure) => matches!(failure, Garbage | Redirects | MemoryShort),
    }
}
