//! Clients that say nothing: optional pings (`ping_interval`, `ping_timeout`) and the idle time-out.
//!
//! One timer per client, and none if both are off. It is lazy: input only stores its time in the client, and the timer, when
//! it fires, looks how long the silence is and arms itself for the rest. Traffic never touches the wheel. Silence of our own
//! making does not count: a client that is not being read is given another turn, and one that is read again begins anew.

use std::num::NonZeroU32;

use super::Shard;
use super::client::{Client, Timer};
use super::frames::Outgoing;
use super::sockets::Sockets;
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::protocol::DoorPolicy;
use crate::time::{Duration, Instant};

/// How long a client had been silent, in milliseconds and more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence(NonZeroU32);

/// What a silent client gets.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing yet: look again after this time.
    Wait(Duration),
    /// A ping; look again after this time.
    Ping(Duration),
    /// It is closed.
    Close(CloseCause),
    /// Neither setting is on any more.
    Unwatched,
}

impl Silence {
    fn new(silence: Duration) -> Self {
        let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(millis).unwrap_or(NonZeroU32::MIN))
    }

    fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0.get()))
    }
}

/// Judges a client that has been silent for `silence`; `pinged`: it was sent a ping when it had been for so long.
fn judge(silence: Duration, pinged: Option<Silence>, policy: &DoorPolicy) -> Verdict {
    let (idle, ping) = (policy.idle_timeout, policy.ping_interval);
    if !idle.is_zero() && silence >= idle {
        return Verdict::Close(CloseCause::IdleTimeout);
    }
    // Zero is off.
    let until = |limit: Duration| (!limit.is_zero()).then(|| limit.saturating_sub(silence));
    let is_due = !ping.is_zero() && silence >= ping;
    if policy.ping_timeout.is_zero() {
        return judge_unanswered(silence, pinged, until(idle), ping);
    }
    let next = match pinged.map(|at| at.duration() + policy.ping_timeout) {
        Some(end) if silence >= end => return Verdict::Close(CloseCause::PingTimeout),
        Some(end) => Some(end - silence),
        // The answer resets the silence: the next ping is due an interval after it, however long it may take to come.
        None if is_due => Some(ping.min(policy.ping_timeout)),
        None => until(ping),
    };
    match [until(idle), next].into_iter().flatten().min() {
        Some(rest) if pinged.is_none() && is_due => Verdict::Ping(rest),
        Some(rest) => Verdict::Wait(rest),
        None => Verdict::Unwatched,
    }
}

/// The same where pings need no answer: one is due an interval after the one before. `idle`: what is left until the client is
/// closed.
fn judge_unanswered(silence: Duration, pinged: Option<Silence>, idle: Option<Duration>, ping: Duration) -> Verdict {
    let due = (!ping.is_zero()).then(|| pinged.map_or(ping, |at| at.duration() + ping));
    let (is_due, next) = match due {
        Some(due) if silence >= due => (true, Some(ping)),
        due => (false, due.map(|due| due - silence)),
    };
    match [idle, next].into_iter().flatten().min() {
        Some(rest) if is_due => Verdict::Ping(rest),
        Some(rest) => Verdict::Wait(rest),
        None => Verdict::Unwatched,
    }
}

impl Shard {
    /// An admitted client is watched from now on, if either setting is on.
    pub(super) fn watch_liveness(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Some(open) = client.open() else { return };
        if let Verdict::Wait(rest) = judge(Duration::ZERO, None, &self.policies[open.door as usize]) {
            client.active = now;
            client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id)));
        }
    }

    pub(super) fn on_liveness(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.liveness = None;
        let Some(door) = client.open().map(|open| open.door) else {
            return;
        };
        if client.paused {
            client.note_input(now);
        }
        let silence = now - client.active;
        match judge(silence, client.pinged, &self.policies[door as usize]) {
            Verdict::Wait(rest) => client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id))),
            Verdict::Ping(rest) => {
                client.pinged = Some(Silence::new(silence));
                client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id)));
                self.metrics.add(Metric::PingsSent, 1);
                self.metrics.add(Metric::FramesOut, 1);
                let ping = self.policies[door as usize].ping.clone();
                self.write(id, &Outgoing::Copied(&ping), now, sockets);
            }
            Verdict::Close(cause) => self.close_client(id, cause, None, now, sockets),
            Verdict::Unwatched => {}
        }
    }

    /// A client is read again: what it has said meanwhile comes only now, so every clock that waits for it begins anew.
    pub(super) fn forgive_pause(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.note_input(now);
        client.went_on = true;
        self.restart_timers(id, now);
    }
}

impl Client {
    /// The client has sent something.
    pub(super) fn note_input(&mut self, now: Instant) {
        self.active = now;
        self.pinged = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    fn policy(ping: u64, idle: u64) -> DoorPolicy {
        DoorPolicy {
            ping_interval: Duration::from_secs(ping),
            ping_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(idle),
            ..DoorPolicy::of(&Config::demo(1, &Overrides::default()))
        }
    }

    #[test]
    fn verdicts() {
        let judge = |silence, pinged: Option<u64>, ping, idle| {
            let pinged = pinged.map(|secs| Silence::new(Duration::from_secs(secs)));
            judge(Duration::from_secs(silence), pinged, &policy(ping, idle))
        };
        let wait = |secs| Verdict::Wait(Duration::from_secs(secs));
        let ping = |secs| Verdict::Ping(Duration::from_secs(secs));
        assert_eq!(judge(0, None, 0, 0), Verdict::Unwatched);
        assert_eq!((judge(0, None, 30, 0), judge(10, None, 30, 0)), (wait(30), wait(20)));
        assert_eq!((judge(30, None, 30, 0), judge(31, None, 30, 0)), (ping(5), ping(5)));
        assert_eq!(judge(34, Some(30), 30, 0), wait(1));
        assert_eq!(judge(35, Some(30), 30, 0), Verdict::Close(CloseCause::PingTimeout));
        assert_eq!(judge(36, Some(32), 30, 0), wait(1), "the ping was late");
        assert_eq!(judge(40, None, 0, 60), wait(20));
        assert_eq!(judge(60, None, 0, 60), Verdict::Close(CloseCause::IdleTimeout));
        assert_eq!(judge(58, None, 30, 60), ping(2));
        assert_eq!(judge(60, Some(30), 30, 60), Verdict::Close(CloseCause::IdleTimeout));
        // The time to answer may be longer than the interval.
        assert_eq!(judge(2, None, 2, 0), ping(2));
        assert_eq!(
            (judge(4, Some(2), 2, 0), judge(7, Some(2), 2, 0)),
            (wait(3), Verdict::Close(CloseCause::PingTimeout))
        );
        assert_eq!(
            (judge(0, None, 2, 0), judge(1, None, 2, 0)),
            (wait(2), wait(1)),
            "answered at once"
        );
        // Switched off after the ping: it still has its time.
        assert_eq!(judge(31, Some(30), 0, 0), wait(4));
        assert_eq!(judge(10, None, 30, 20), wait(10));
    }

    #[test]
    fn verdicts_where_pings_need_no_answer() {
        let judge = |silence, pinged: Option<u64>, ping, idle| {
            let pinged = pinged.map(|secs| Silence::new(Duration::from_secs(secs)));
            let policy = DoorPolicy {
                ping_timeout: Duration::ZERO,
                ..policy(ping, idle)
            };
            judge(Duration::from_secs(silence), pinged, &policy)
        };
        let (wait, ping) = (
            |secs| Verdict::Wait(Duration::from_secs(secs)),
            |secs| Verdict::Ping(Duration::from_secs(secs)),
        );
        assert_eq!((judge(0, None, 30, 0), judge(30, None, 30, 0)), (wait(30), ping(30)));
        assert_eq!(
            (judge(31, Some(30), 30, 0), judge(60, Some(30), 30, 0)),
            (wait(29), ping(30))
        );
        assert_eq!(judge(95, Some(60), 30, 0), ping(30), "however late");
        assert_eq!(judge(60, Some(30), 30, 70), ping(10));
        assert_eq!(judge(70, Some(60), 30, 70), Verdict::Close(CloseCause::IdleTimeout));
        assert_eq!(judge(7, None, 0, 0), Verdict::Unwatched);
    }
}
