//! What sessions want done ([`Actions`]), carried out: its steps in order, its reply behind the mail they rely on.

use super::Shard;
use super::sockets::Sockets;
use crate::engine::command::Report;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::protocol::{Action, Actions};
use crate::time::Instant;

impl Shard {
    /// Executes the steps of a session, then queues its reply.
    pub(super) fn perform(&mut self, id: ClientId, actions: &mut Actions, now: Instant, sockets: &mut dyn Sockets) {
        self.perform_steps(id, actions, now, sockets);
        self.queue_reply(id, &mut actions.reply, &mut actions.reply_frames, now, sockets);
    }

    /// Executes the steps of a session. If other cores have to hear of one, the reply is queued before it, and so waits until
    /// their mail has left; other replies the caller may write at once.
    pub(super) fn perform_steps(
        &mut self,
        id: ClientId,
        actions: &mut Actions,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let (reply, frames) = (&mut actions.reply, &mut actions.reply_frames);
        for step in actions.steps.drain(..) {
            if is_heard_elsewhere(&step) {
                self.queue_reply(id, reply, frames, now, sockets);
            }
            match step {
                Action::Callback(request) => {
                    self.metrics.add(Metric::Forwarded, 1);
                    self.reports.push(Report::Callback(request));
                }
                Action::Acknowledged(delivery, data) => self.member_done(delivery, data, now),
                Action::DataLeftOut(why, bytes) => {
                    let max = self.config.ack_data_max;
                    self.notes.ack_data.left_out(why, bytes, max, &self.metrics, now);
                }
                Action::Arm(kind, after) => self.arm(id, kind, after, now),
                Action::Disarm(kind) => self.disarm(id, kind),
                Action::Note(note) => self.note(&note, now),
                Action::Join(channel) => {
                    self.join(id, channel, now);
                }
                Action::Leave(channel) => {
                    self.leave(id, &channel);
                }
                Action::Bind { name, platform } => self.bind(id, name, platform, now),
                Action::Publish(publish) => self.publish(id, publish, now),
                Action::Close(cause, code) => self.close_client(id, cause, code, now, sockets),
            }
        }
    }

    /// Queues what a session has said so far until the end of the turn.
    fn queue_reply(
        &mut self,
        id: ClientId,
        reply: &mut Vec<u8>,
        frames: &mut u64,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        if !reply.is_empty() {
            self.pack_reply(id, reply);
            self.metrics.add(Metric::FramesOut, std::mem::take(frames));
            self.queue(id, reply, now, sockets);
            reply.clear();
        }
    }
}

/// Whether other cores may have to hear of it.
fn is_heard_elsewhere(step: &Action) -> bool {
    match step {
        Action::Join(_) | Action::Leave(_) | Action::Bind { .. } | Action::Publish(_) | Action::Close(..) => true,
        Action::Callback(_)
        | Action::Acknowledged(..)
        | Action::DataLeftOut(..)
        | Action::Arm(..)
        | Action::Disarm(_)
        | Action::Note(_) => false,
    }
}
