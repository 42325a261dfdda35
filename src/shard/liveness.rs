//! Clients that say nothing: optional pings (`ping_interval`, `ping_timeout`) and the idle time-out.
//!
//! One timer per client, and none if both are off. It is lazy: input only stores its time in the client, and the timer, when
//! it fires, looks how long the silence is and arms itself for the rest. Traffic never touches the wheel. Silence of our own
//! making does not count: a client that is not being read is given another turn.

use super::Shard;
use super::client::{Client, Timer};
use super::frames::Outgoing;
use super::sockets::Sockets;
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::time::{Duration, Instant};
use crate::wire::ws;

/// What a silent client gets.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing yet: look again after this time.
    Wait(Duration),
    /// A ping, and this time to answer it.
    Ping(Duration),
    /// It is closed.
    Close(CloseCause),
    /// Neither setting is on any more.
    Unwatched,
}

/// Judges a client that has been silent for `silence`; `pinged`: it has been sent a ping in that time, and the timer that
/// followed it is over.
fn judge(silence: Duration, pinged: bool, config: &Config) -> Verdict {
    let (idle, ping) = (config.idle_timeout, config.ping_interval);
    if !idle.is_zero() && silence >= idle {
        return Verdict::Close(CloseCause::IdleTimeout);
    }
    if pinged {
        return Verdict::Close(CloseCause::PingTimeout);
    }
    // Zero is off.
    let until = |limit: Duration| (!limit.is_zero()).then(|| limit.saturating_sub(silence));
    if !ping.is_zero() && silence >= ping {
        return Verdict::Ping(config.ping_timeout.min(until(idle).unwrap_or(Duration::MAX)));
    }
    match [until(idle), until(ping)].into_iter().flatten().min() {
        Some(rest) => Verdict::Wait(rest),
        None => Verdict::Unwatched,
    }
}

impl Shard {
    /// An admitted client is watched from now on, if either setting is on.
    pub(super) fn watch_liveness(&mut self, id: ClientId, now: Instant) {
        let verdict = judge(Duration::ZERO, false, &self.config);
        if let (Some(client), Verdict::Wait(rest)) = (self.clients.get_mut(id.slot, id.generation), verdict) {
            client.active = now;
            client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id)));
        }
    }

    pub(super) fn on_liveness(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.liveness = None;
        if client.open().is_none() {
            return;
        }
        if client.paused {
            client.note_input(now);
        }
        match judge(now - client.active, client.pinged, &self.config) {
            Verdict::Wait(rest) => client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id))),
            Verdict::Ping(rest) => {
                client.pinged = true;
                client.liveness = Some(self.wheel.insert(now + rest, Timer::Liveness(id)));
                self.metrics.add(Metric::PingsSent, 1);
                self.metrics.add(Metric::FramesOut, 1);
                let (header, len) = ws::header(ws::Opcode::Ping, 0);
                self.write(id, &Outgoing::Copied(&header[..len]), now, sockets);
            }
            Verdict::Close(cause) => self.close_client(id, cause, None, now, sockets),
            Verdict::Unwatched => {}
        }
    }
}

impl Client {
    /// The client has sent something.
    pub(super) fn note_input(&mut self, now: Instant) {
        self.active = now;
        self.pinged = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(ping: u64, idle: u64) -> Config {
        let mut config = Config::demo(1, &Overrides::default());
        config.ping_interval = Duration::from_secs(ping);
        config.ping_timeout = Duration::from_secs(5);
        config.idle_timeout = Duration::from_secs(idle);
        config
    }

    #[test]
    fn verdicts() {
        let judge = |silence, pinged, ping, idle| judge(Duration::from_secs(silence), pinged, &config(ping, idle));
        let wait = |secs| Verdict::Wait(Duration::from_secs(secs));
        let ping = |secs| Verdict::Ping(Duration::from_secs(secs));
        assert_eq!(judge(0, false, 0, 0), Verdict::Unwatched);
        assert_eq!((judge(0, false, 30, 0), judge(10, false, 30, 0)), (wait(30), wait(20)));
        assert_eq!((judge(30, false, 30, 0), judge(31, false, 30, 0)), (ping(5), ping(5)));
        assert_eq!(judge(35, true, 30, 0), Verdict::Close(CloseCause::PingTimeout));
        assert_eq!(judge(40, false, 0, 60), wait(20));
        assert_eq!(judge(60, false, 0, 60), Verdict::Close(CloseCause::IdleTimeout));
        assert_eq!(judge(58, false, 30, 60), ping(2));
        assert_eq!(judge(60, true, 30, 60), Verdict::Close(CloseCause::IdleTimeout));
        assert_eq!(judge(10, false, 30, 20), wait(10));
    }
}
