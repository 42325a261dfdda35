//! Containment: a panic while one client is handled closes that client, is counted and logged, and the shard goes on. What a
//! step has borrowed from the shard (buffers, lists) is replaced by an empty one, and the client leaves by the same way as
//! every other, so nothing of it stays behind. A panic outside of a client's handling, or while its remains are cleared
//! away, ends the core and with it the process (`io::runtime`): half a server is worse than none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::client::Phase;
use super::sockets::Sockets;
use super::{Shard, context};
use crate::close::CloseCause;
use crate::engine::command::Report;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::time::Instant;

impl Shard {
    /// Runs one step of one client's handling; `None` if it panicked.
    pub(super) fn contained<R>(
        &mut self,
        id: ClientId,
        now: Instant,
        sockets: &mut dyn Sockets,
        step: impl FnOnce(&mut Self, &mut dyn Sockets) -> R,
    ) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| step(self, sockets))) {
            Ok(result) => Some(result),
            Err(cause) => {
                self.metrics.add(Metric::Panics, 1);
                let cause = cause
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| cause.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("no message");
                tracing::error!(cause, slot = id.slot, "a panic was contained, its client is closed");
                self.end_panicked(id, now, sockets);
                None
            }
        }
    }

    /// The answer a client waited for was lost in a panic: no other will come.
    pub(super) fn forget_unanswered(&mut self, id: ClientId) {
        if let Some(Phase::Authorising { .. }) = self.phase_mut(id) {
            self.free(id);
        }
    }

    /// Ends a client whose state cannot be trusted any more: its callbacks under way are not waited for.
    fn end_panicked(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        self.drop_client(id, CloseCause::Panicked, now, sockets);
        if let Some(Phase::Closing(closing)) = self.phase_mut(id)
            && let Some(session) = closing.session.take()
        {
            let callback = session.close_callback(context!(self, id, now));
            self.reports.extend(callback.map(Report::Callback));
        }
        self.settle_closing(id, now);
    }
}
