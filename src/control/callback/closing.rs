//! What is special about close callbacks: each must arrive once, so none is refused, and one that was not accepted is
//! repeated with growing, uneven pauses until it is accepted or `close_retry` has passed. It is the only callback that is
//! repeated: a close that arrives twice does no harm, a message may. When too many wait, the oldest gives way.
//!
//! One that waits costs about 400 bytes and the client's headers (its cookie, mostly): the default of 65 536 places is 32 MB,
//! plus the cookies.

use std::rc::Rc;
use std::time::Duration;

use super::lane::Job;
use super::{Inner, Trouble};
use crate::engine::command::{CallbackFailure, CallbackOutcome};
use crate::engine::hook::Hook;
use crate::io::clock;

/// First pause before a close callback is repeated; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

impl Inner {
    /// The oldest waiting close callback of a door, if there is no room for one more.
    pub(super) fn make_room(&self, hook: Hook, places: usize) -> Option<Job> {
        if self.ledger.counts(hook).queued < places as u64 {
            return None;
        }
        let oldest = self.waiting.borrow_mut().take_oldest(hook);
        let oldest = oldest.or_else(|| self.lanes.borrow_mut().take_oldest(hook));
        oldest.inspect(|_| self.ledger.dequeued(hook))
    }

    pub(super) fn retry_or_give_up(&self, mut job: Job, outcome: CallbackOutcome) {
        let (due, settings) = (clock::instant() + self.backoff(job.attempts), self.settings.get());
        if due >= job.submitted + settings.close_retry {
            return self.expire(job, outcome);
        }
        job.attempts += 1;
        let hook = job.request.hook;
        let evicted = self.make_room(hook, settings.close.queued);
        self.ledger.queued(hook);
        self.ledger.retried(hook);
        self.waiting.borrow_mut().park(due, job);
        self.alarm.note(due);
        if let Some(job) = evicted {
            self.complain(&job.request, Trouble::QueueFull.into(), None);
            self.expire(job, CallbackOutcome::Failed(CallbackFailure::Overloaded));
        }
    }

    /// Between half of it and all of it, so that many callbacks failing together do not come back together.
    fn backoff(&self, attempts: u32) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << attempts.min(16)).min(BACKOFF_MAX);
        full.mul_f64(0.5 + self.random.fraction() / 2.0)
    }

    /// Sends a close callback whose pause is over on its way again.
    pub(super) fn release(self: &Rc<Self>, job: Job) {
        let hook = job.request.hook;
        self.ledger.dequeued(hook);
        match self.origin(&job.request) {
            Some(origin) => self.clone().place((hook, origin), job),
            None => self.fail(job, CallbackFailure::Unresolved),
        }
    }
}
