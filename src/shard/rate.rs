//! Frames and bytes of one client per second (`client_messages_per_second`, `client_bytes_per_second`).
//!
//! A token bucket of one second, kept as the time until which what was taken is paid for: a client may go on while that is
//! less than [`BURST`] away. Beyond it the client is paused like one whose messages wait for the business: its socket is not
//! read, nothing is dropped, TCP tells it. A timer ends the pause. A single frame is never refused, however large; the pause
//! after it is as long as it costs. Frames of every kind count, so that pings are no way around, and a compressed message counts
//! as the bytes it has become, so that compressing is none.
//!
//! Without limits in the configuration nothing is kept and nothing is computed.

use super::Shard;
use super::client::Timer;
use super::sockets::Sockets;
use crate::config::Config;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::time::{Duration, Instant};

/// How much of the future may be used up at once.
const BURST: Duration = Duration::from_secs(1);

/// A pause gives at least this much room, so that a fast client costs ten timers per second and not one per frame.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What one client has taken; allocated with its first frame.
#[derive(Debug, Default)]
pub struct Rate {
    frames_paid_until: Instant,
    bytes_paid_until: Instant,
}

impl Rate {
    /// Whether there are limits at all.
    pub fn is_limited(config: &Config) -> bool {
        config.client_messages_per_second > 0 || config.client_bytes_per_second > 0
    }

    /// Takes one frame of `bytes` bytes.
    fn take(&mut self, bytes: usize, config: &Config, now: Instant) {
        let pay = |until: &mut Instant, amount: usize, per_second: usize| {
            if per_second > 0 {
                let micros = (amount as u64).saturating_mul(1_000_000).div_ceil(per_second as u64);
                *until = (*until).max(now) + Duration::from_micros(micros);
            }
        };
        pay(&mut self.frames_paid_until, 1, config.client_messages_per_second);
        pay(&mut self.bytes_paid_until, bytes, config.client_bytes_per_second);
    }

    /// When the client may go on; `None`: now.
    fn pause_until(&self, now: Instant) -> Option<Instant> {
        let debt = self.frames_paid_until.max(self.bytes_paid_until) - now;
        (debt >= BURST).then(|| now + (debt - BURST) + PAUSE_MIN)
    }
}

impl Shard {
    /// Whether the client has used up what it may send for now.
    pub(super) fn is_over_rate(&self, id: ClientId, now: Instant) -> bool {
        self.clients.get(id.slot, id.generation).is_some_and(|client| {
            client.throttled || client.rate.as_ref().is_some_and(|rate| rate.pause_until(now).is_some())
        })
    }

    /// The client sent a frame of `bytes` bytes.
    pub(super) fn take_rate(&mut self, id: ClientId, bytes: usize, now: Instant) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            client.rate.get_or_insert_default().take(bytes, &self.config, now);
        }
    }

    /// Stops reading a client that is over its rate, until a timer.
    pub(super) fn pause_for_rate(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        // Writing replies may have closed it; closing clients are read.
        if client.open().is_none() {
            return;
        }
        client.pause(true, &self.metrics);
        let until = client.rate.as_ref().and_then(|rate| rate.pause_until(now));
        if !std::mem::replace(&mut client.throttled, true) {
            self.wheel.insert(until.unwrap_or(now), Timer::Rate(id));
            self.metrics.add(Metric::RatePauses, 1);
        }
    }

    pub(super) fn on_rate(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            client.throttled = false;
            self.resume_input(id, now, sockets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(frames: usize, bytes: usize) -> Config {
        let mut config = Config::demo(1, &Overrides::default());
        (config.client_messages_per_second, config.client_bytes_per_second) = (frames, bytes);
        config
    }

    /// Frames of `bytes` bytes taken within `seconds` by a client that sends as fast as it may.
    fn taken(config: &Config, bytes: usize, seconds: u64) -> u64 {
        let (mut rate, mut now, mut frames) = (Rate::default(), Instant::from_micros(5_000_000), 0);
        let end = now + Duration::from_secs(seconds);
        while now < end {
            match rate.pause_until(now) {
                Some(until) => now = until,
                None => {
                    rate.take(bytes, config, now);
                    frames += 1;
                }
            }
        }
        frames
    }

    #[test]
    fn the_rate_holds_over_time_with_one_second_of_burst() {
        let frames = taken(&config(50, 0), 10, 100);
        assert!((5000..=5051).contains(&frames), "{frames}");
        let bytes = taken(&config(0, 10_000), 100, 100) * 100;
        assert!((1_000_000..=1_010_100).contains(&bytes), "{bytes}");
        let both = taken(&config(50, 1000), 100, 100);
        assert!((1000..=1011).contains(&both), "the tighter one counts: {both}");
    }

    #[test]
    fn one_large_frame_passes_and_is_paid_for() {
        let config = config(0, 1000);
        let (mut rate, now) = (Rate::default(), Instant::ZERO);
        assert_eq!(rate.pause_until(now), None);
        rate.take(60_000, &config, now);
        assert_eq!(rate.pause_until(now), Some(now + Duration::from_millis(59_100)));
        assert_eq!(rate.pause_until(now + Duration::from_millis(59_100)), None);
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let config = config(0, 0);
        assert!(!Rate::is_limited(&config));
        assert_eq!(taken(&config, 1, 0), 0);
    }
}
