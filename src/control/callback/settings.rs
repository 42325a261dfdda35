//! What an operator may set about callbacks. The configuration fills it in; the scheduler takes it at start and on reload.

use std::time::Duration;

use super::breaker;
use crate::config::Config;
use crate::engine::hook::Event;
use crate::io::http::Options;

/// Bounds of the lanes of one event, at each door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Calls at once to one server.
    pub in_flight: usize,
    /// Callbacks waiting behind them. For close callbacks: all that wait, for a place or for their next attempt.
    pub queued: usize,
}

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connect callbacks (`auth_concurrency`).
    pub connect: LaneLimits,
    /// Message callbacks.
    pub message: LaneLimits,
    /// Close callbacks.
    pub close: LaneLimits,
    /// Time a callback has, from its submission to its end; of a close callback, each attempt.
    pub timeout: Duration,
    /// Time after its submission at which a close callback that nobody accepted is given up. It is tried at least once.
    pub close_retry: Duration,
    /// Failures in a row, within 10 s, after which a server is only probed; 0: it is always called.
    pub breaker_failures: u32,
    /// Pause before the first probe; doubles up to [`BREAKER_PAUSE_MAX`], and for callbacks somebody waits for up to half
    /// of `timeout`, so that they see a server that comes back.
    pub breaker_pause: Duration,
}

/// Longest pause between two probes.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(30);

impl Default for Settings {
    fn default() -> Settings {
        let lane = |queued| LaneLimits {
            in_flight: 1024,
            queued,
        };
        Settings {
            connect: lane(16_384),
            message: lane(16_384),
            close: lane(65_536),
            timeout: Duration::from_secs(15),
            close_retry: Duration::from_secs(3600),
            breaker_failures: 20,
            breaker_pause: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// As an operator has set them.
    pub fn of(config: &Config) -> Settings {
        let lane = |in_flight, queued| LaneLimits { in_flight, queued };
        Settings {
            connect: lane(config.auth_concurrency, config.auth_queue),
            message: lane(config.callback_concurrency, config.callback_queue),
            close: lane(config.callback_concurrency, config.close_queue),
            timeout: config.callback_timeout,
            close_retry: config.close_retry,
            breaker_failures: u32::try_from(config.breaker_failures).unwrap_or(u32::MAX),
            breaker_pause: config.breaker_pause,
        }
    }

    /// Time from submission to the end.
    pub(super) fn span(&self, event: Event) -> Duration {
        match event {
            Event::Connect | Event::Message => self.timeout,
            // A first attempt that has to wait must not be late already.
            Event::Close => self.close_retry.max(self.timeout),
        }
    }

    /// When calls to a server for `event` stop.
    pub(super) fn breaker(&self, event: Event) -> breaker::Rules {
        breaker::Rules {
            failures: self.breaker_failures,
            pause: self.breaker_pause,
            pause_max: match event {
                Event::Connect | Event::Message => BREAKER_PAUSE_MAX.min(self.timeout / 2),
                Event::Close => BREAKER_PAUSE_MAX,
            },
        }
    }

    pub(super) fn lane(&self, event: Event) -> LaneLimits {
        match event {
            Event::Connect => self.connect,
            Event::Message => self.message,
            Event::Close => self.close,
        }
    }
}

/// Settings of the outgoing HTTP client.
pub fn options(config: &Config) -> Options {
    Options {
        idle: config.callback_idle,
        age_max: config.callback_age,
        ca_file: config.ca_file.clone(),
        identity: config.callback_cert.clone().zip(config.callback_key.clone()),
        ..Options::default()
    }
}
