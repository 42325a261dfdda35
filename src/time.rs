//! Time as an argument. Nothing below the shell reads a clock: every entry point takes the `Instant` it happens at, so
//! that the simulator and the tests own time. The shell's clock is `io::clock`.

use std::ops::{Add, Sub};
pub use std::time::Duration;

/// Monotonic time in microseconds since the process (or the simulation) started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment the clock started.
    pub const ZERO: Instant = Instant(0);

    /// From microseconds since start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since start, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates: a deadline past the end of time never fires.
    fn add(self, span: Duration) -> Instant {
        Instant(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// Says when something that may happen thousands of times a second is worth another line of log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    quiet_until: Option<Instant>,
    hidden: u64,
}

impl Seldom {
    /// Time between two lines about the same thing.
    pub const PAUSE: Duration = Duration::from_secs(60);

    /// It has happened. `Some`: say so, and that it has happened so many times since the last line.
    pub fn happened(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.hidden += 1;
            return None;
        }
        self.quiet_until = Some(now + Self::PAUSE);
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_and_the_others_counted() {
        let mut seldom = Seldom::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        assert_eq!(seldom.happened(at(5)), Some(0));
        assert!((5..65).all(|secs| seldom.happened(at(secs)).is_none()));
        assert_eq!(seldom.happened(at(65)), Some(60));
        assert_eq!(seldom.happened(at(200)), Some(0));
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Instant::from_micros(u64::MAX - 1);
        assert_eq!(end + Duration::from_secs(1), Instant::from_micros(u64::MAX));
        assert_eq!(Instant::ZERO.since(end), Duration::ZERO);
        assert_eq!(
            (Instant::from_micros(5_000) - Instant::from_micros(2_000)).as_millis(),
            3
        );
    }
}
