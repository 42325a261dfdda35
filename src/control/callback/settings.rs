//! What an operator may set about callbacks. The configuration fills it in; the scheduler takes it at start and on reload.

use std::time::Duration;

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
    /// Time after its submission at which a close callback that nobody accepted is given up.
    pub close_retry: Duration,
}

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
            close_retry: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Time from submission to the end.
    pub(super) fn span(&self, endpoint: Endpoint) -> Duration {
        match endpoint {
            Endpoint::Connect | Endpoint::Message => self.timeout,
            Endpoint::Close => self.close_retry,
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
