//! Timers of sessions: a door arms them by kind, and is called when one fires. At most one of each kind runs.
//!
//! A client without a timer has a null pointer: doors arm few, for what has gone wrong or cannot go on for ever, and none with
//! every message (pings and idle clients: `liveness.rs`, which is lazy).

use super::Shard;
use super::client::{Client, Timer};
use super::sockets::Sockets;
use crate::engine::ids::ClientId;
use crate::engine::wheel::TimerId;
use crate::protocol::TimerKind;
use crate::time::{Duration, Instant};

/// The timers of one session that run.
#[derive(Debug, Default)]
pub struct SessionTimers(Option<Box<Armed>>);

#[derive(Debug)]
struct Armed {
    kind: TimerKind,
    after: Duration,
    timer: TimerId,
    others: SessionTimers,
}

impl SessionTimers {
    fn find(&mut self, kind: TimerKind) -> Option<&mut Armed> {
        let armed = self.0.as_deref_mut()?;
        if armed.kind == kind {
            return Some(armed);
        }
        armed.others.find(kind)
    }

    fn push(&mut self, kind: TimerKind, after: Duration, timer: TimerId) {
        let others = std::mem::take(self);
        self.0 = Some(Box::new(Armed {
            kind,
            after,
            timer,
            others,
        }));
    }

    /// Forgets the timer of this kind.
    fn remove(&mut self, kind: TimerKind) -> Option<TimerId> {
        let mut armed = self.0.take()?;
        if armed.kind == kind {
            *self = armed.others;
            return Some(armed.timer);
        }
        let removed = armed.others.remove(kind);
        self.0 = Some(armed);
        removed
    }

    /// Forgets one of them, whichever.
    pub fn pop(&mut self) -> Option<TimerId> {
        let armed = self.0.take()?;
        *self = armed.others;
        Some(armed.timer)
    }
}

impl Shard {
    pub(super) fn arm(&mut self, id: ClientId, kind: TimerKind, after: Duration, now: Instant) {
        let Some(open) = self.clients.get_mut(id.slot, id.generation).and_then(Client::open) else {
            return;
        };
        if open.timers.find(kind).is_none() {
            let timer = self.wheel.insert(now + after, Timer::Session(id, kind));
            open.timers.push(kind, after, timer);
        }
    }

    pub(super) fn disarm(&mut self, id: ClientId, kind: TimerKind) {
        let Some(open) = self.clients.get_mut(id.slot, id.generation).and_then(Client::open) else {
            return;
        };
        if let Some(timer) = open.timers.remove(kind) {
            self.wheel.cancel(timer);
        }
    }

    /// The client is read again: timers that wait for what it says begin anew.
    pub(super) fn restart_timers(&mut self, id: ClientId, now: Instant) {
        let Some(open) = self.clients.get_mut(id.slot, id.generation).and_then(Client::open) else {
            return;
        };
        let mut timers = &mut open.timers;
        while let Some(armed) = &mut timers.0 {
            if armed.kind.awaits_client {
                self.wheel.cancel(armed.timer);
                armed.timer = self.wheel.insert(now + armed.after, Timer::Session(id, armed.kind));
            }
            timers = &mut armed.others;
        }
    }

    pub(super) fn on_session_timer(&mut self, id: ClientId, kind: TimerKind, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let waits = client.paused && kind.awaits_client;
        let Some(open) = client.open() else { return };
        if waits {
            if let Some(armed) = open.timers.find(kind) {
                armed.timer = self.wheel.insert(now + armed.after, Timer::Session(id, kind));
            }
            return;
        }
        open.timers.remove(kind);
        let mut actions = std::mem::take(&mut self.actions);
        open.session.on_timer(kind, &mut actions);
        self.perform(id, &mut actions, now, sockets);
        self.actions = actions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wheel::Wheel;

    #[test]
    fn one_of_each_kind() {
        let mut wheel = Wheel::new();
        let [a, b, c] = [1, 2, 3].map(|n| wheel.insert(Instant::ZERO, n));
        let kinds = [0, 1, 2].map(|number| TimerKind {
            number,
            awaits_client: number == 1,
        });
        let mut timers = SessionTimers::default();
        assert!(timers.find(kinds[0]).is_none() && timers.remove(kinds[0]).is_none() && timers.pop().is_none());
        for (kind, timer) in kinds.into_iter().zip([a, b, c]) {
            timers.push(kind, Duration::from_secs(1), timer);
        }
        assert_eq!(kinds.map(|kind| timers.find(kind).unwrap().timer), [a, b, c]);
        assert_eq!((timers.remove(kinds[1]), timers.remove(kinds[1])), (Some(b), None));
        assert_eq!((timers.pop(), timers.pop(), timers.pop()), (Some(c), Some(a), None));
    }

    #[test]
    fn none_cost_a_pointer() {
        assert_eq!(size_of::<SessionTimers>(), size_of::<usize>());
    }
}
