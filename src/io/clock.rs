//! The one clock of the process. Everything below the shell gets its time from here, as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// Monotonic time since start and wall-clock time; one per process, copied to every core.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: std::time::Instant,
    started_unix_micros: u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            started: std::time::Instant::now(),
            started_unix_micros: unix_micros(),
        }
    }

    /// Time since start.
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// `at` as the runtime's own kind of instant, for its timers.
    pub fn to_std(&self, at: Instant) -> std::time::Instant {
        self.started + std::time::Duration::from_micros(at.as_micros())
    }

    /// Wall-clock time of the start, in microseconds since 1970.
    pub fn started_unix_micros(&self) -> u64 {
        self.started_unix_micros
    }

    /// Wall-clock time now, in microseconds since 1970; follows the system's clock when that is set.
    pub fn unix_micros(&self) -> u64 {
        unix_micros()
    }
}

/// The time as the runtime's own kind of instant, for whoever hands it to timers only.
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// Wall-clock time now, in seconds since 1970.
pub fn unix_seconds() -> u64 {
    unix_micros() / 1_000_000
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
