//! What an operator may set about callbacks. The configuration fills it in; the scheduler takes it at start and on reload.

use std::time::Duration;

use super::breaker;
use crate::engine::command::Endpoint;

/// Bounds of the lanes of one endpoint.
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
    /// Time from submission to the end.
    pub(super) fn span(&self, endpoint: Endpoint) -> Duration {
        match endpoint {
            Endpoint::Connect | Endpoint::Message => self.timeout,
            // A first attempt that has to wait must not be late already.
            Endpoint::Close => self.close_retry.max(self.timeout),
        }
    }

    /// When calls to a server of `endpoint` stop.
    pub(super) fn breaker(&self, endpoint: Endpoint) -> breaker::Rules {
        breaker::Rules {
            failures: self.breaker_failures,
            pause: self.breaker_pause,
            pause_max: match endpoint {
                Endpoint::Connect | Endpoint::Message => BREAKER_PAUSE_MAX.min(self.timeout / 2),
                Endpoint::Close => BREAKER_PAUSE_MAX,
            },
        }
    }

    pub(super) fn lane(&self, endpoint: Endpoint) -> LaneLimits {
        match endpoint {
            Endpoint::Connect => self.connect,
            Endpoint::Message => self.message,
            Endpoint::Close => self.close,
        }
    }
}
