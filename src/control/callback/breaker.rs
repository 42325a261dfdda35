//! Whether a server is called at all. Pure: time, rules and chance come as arguments.
//!
//! ```text
//! closed ─ `failures` calls in a row failed within 10 s (*) ─▶ open ── pause over ─▶ one probe, the next pause is twice as long
//!   ▲                                                                              │
//!   └────────────────────────── a probe was answered ──────────────────────────────┘
//! ```
//! (*) Without a connection, or with 503: at once. Otherwise the lane looks at who failed before it opens ([`super::sources`]): a server
//! that refuses connections is down, one that answers 502 or hangs up may be so over what one client sends.
//!
//! There is no separate half-open state to get stuck in: a probe that hangs does not hold up the next one. Calls begun
//! before the breaker opened say nothing about what the server can do now, so only a probe closes it, or the lane's neutral
//! request.

use std::time::{Duration, Instant};

/// Failures further apart than this are single failures, which the breaker does not care about.
const STREAK_SPAN: Duration = Duration::from_secs(10);

/// When to open, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Calls in a row that must fail; 0: never open.
    pub(super) failures: u32,
    /// First pause.
    pub(super) pause: Duration,
    /// Longest pause.
    pub(super) pause_max: Duration,
}

/// The breaker of one lane.
#[derive(Debug)]
pub(super) enum Breaker {
    /// Calls go out.
    Closed {
        /// Failures since the last answer.
        streak: u32,
        /// Of these, those that were the server's beyond doubt.
        downs: u32,
        /// When the first of them came.
        since: Option<Instant>,
    },
    /// Only probes go out.
    Open {
        /// When the next one may.
        probe_at: Instant,
        /// Pause after it.
        pause: Duration,
        /// Number of the first call that is a probe.
        first: u64,
        /// Probes under way.
        probes: u32,
    },
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// Calls go out.
    #[default]
    Closed = 0,
    /// A probe is on its way.
    Probing = 1,
    /// Nothing goes out before the next probe.
    Open = 2,
}

/// How many calls have failed in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streak {
    /// Not enough, or the breaker is open already.
    Short,
    /// Enough.
    Failed,
    /// Enough, all beyond doubt.
    Down,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::Closed {
            streak: 0,
            downs: 0,
            since: None,
        }
    }
}

impl Breaker {
    pub(super) fn state(&self) -> BreakerState {
        match (self.is_open(), self.is_probing()) {
            (false, _) => BreakerState::Closed,
            (true, true) => BreakerState::Probing,
            (true, false) => BreakerState::Open,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Breaker::Open { .. })
    }

    /// Whether a probe is on its way.
    fn is_probing(&self) -> bool {
        matches!(self, Breaker::Open { probes: 1.., .. })
    }

    /// When the next probe may go out; `None` while closed.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self {
            Breaker::Open { probe_at, .. } => Some(*probe_at),
            Breaker::Closed { .. } => None,
        }
    }

    /// A probe goes out. `chance` is 0..1.
    pub(super) fn probe(&mut self, now: Instant, rules: Rules, chance: f64) {
        if let Breaker::Open {
            probe_at,
            pause,
            probes,
            ..
        } = self
        {
            *pause = pause.saturating_mul(2).min(rules.pause_max);
            *probe_at = now + shortened(*pause, chance);
            *probes += 1;
        }
    }

    /// A call was answered, begun as number `call`. True: that closed the breaker.
    pub(super) fn on_answer(&mut self, call: u64) -> bool {
        let closes = match self {
            Breaker::Closed { streak: 0, .. } => return false,
            Breaker::Closed { .. } => false,
            Breaker::Open { first, .. } if call < *first => return false,
            Breaker::Open { .. } => true,
        };
        *self = Breaker::default();
        closes
    }

    /// A call failed, beyond doubt over the server (`is_down`) or otherwise.
    pub(super) fn on_failure(&mut self, call: u64, is_down: bool, now: Instant, rules: Rules) -> Streak {
        let (streak, downs, since) = match self {
            Breaker::Open { .. } => {
                self.on_nothing(call);
                return Streak::Short;
            }
            Breaker::Closed { streak, downs, since } => (streak, downs, since),
        };
        if since.is_none_or(|since| now.saturating_duration_since(since) > STREAK_SPAN) {
            (*streak, *downs, *since) = (0, 0, Some(now));
        }
        *streak = streak.saturating_add(1);
        *downs += u32::from(is_down);
        match rules.failures {
            0 => Streak::Short,
            failures if *downs >= failures => Streak::Down,
            failures if *streak >= failures => Streak::Failed,
            _ => Streak::Short,
        }
    }

    /// Whether enough calls have failed in a row.
    pub(super) fn is_full(&self, rules: Rules) -> bool {
        matches!(self, Breaker::Closed { streak, .. } if rules.failures > 0 && *streak >= rules.failures)
    }

    /// The server is to be left alone; `next` is the number of the next call.
    pub(super) fn open(&mut self, next: u64, now: Instant, rules: Rules, chance: f64) {
        let pause = rules.pause.min(rules.pause_max);
        *self = Breaker::Open {
            probe_at: now + shortened(pause, chance),
            pause,
            first: next,
            probes: 0,
        };
    }

    /// A call ended in a way that says nothing about the server.
    pub(super) fn on_nothing(&mut self, call: u64) {
        if let Breaker::Open { first, probes, .. } = self
            && call >= *first
        {
            *probes = probes.saturating_sub(1);
        }
    }
}

/// Three quarters of it up to all of it, so that many servers do not probe in step.
fn shortened(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.75 + chance / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        failures: 20,
        pause: Duration::from_secs(1),
        pause_max: Duration::from_secs(5),
    };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for call in 0..19 {
            assert_eq!(breaker.on_failure(call, call == 7, now, RULES), Streak::Short);
            assert!(!breaker.is_full(RULES));
        }
        assert_eq!(breaker.on_failure(19, true, now, RULES), Streak::Failed);
        assert!(breaker.is_full(RULES));
        breaker.open(100, now, RULES, 1.0);
        breaker
    }

    #[test]
    fn opens_only_for_failures_in_a_row_and_within_the_span() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for call in 0..1000 {
            assert_eq!(breaker.on_failure(call, false, start, RULES), Streak::Short);
            if call % 19 == 18 {
                assert!(!breaker.on_answer(call));
            }
        }
        let mut breaker = Breaker::default();
        for call in 0..1000 {
            let now = start + Duration::from_millis(600) * call;
            assert_eq!(breaker.on_failure(0, true, now, RULES), Streak::Short, "one each 0.6 s");
        }
        let off = Rules { failures: 0, ..RULES };
        let mut breaker = Breaker::default();
        assert!((0..1000).all(|call| breaker.on_failure(call, true, start, off) == Streak::Short));
        let mut breaker = Breaker::default();
        let last = (0..20).map(|call| breaker.on_failure(call, true, start, RULES)).last();
        assert_eq!(last, Some(Streak::Down));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let mut pauses = vec![breaker.probe_at().unwrap() - start];
        for _ in 0..4 {
            let now = breaker.probe_at().unwrap();
            breaker.probe(now, RULES, 1.0);
            pauses.push(breaker.probe_at().unwrap() - now);
        }
        assert_eq!(
            pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(),
            [1, 2, 4, 5, 5]
        );
        breaker.probe(start, RULES, 0.0);
        assert_eq!(breaker.probe_at().unwrap() - start, Duration::from_millis(3750));
    }

    #[test]
    fn only_a_probe_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.on_answer(99), "begun before");
        breaker.probe(now, RULES, 1.0);
        assert!(breaker.is_probing());
        assert_eq!(breaker.on_failure(99, true, now, RULES), Streak::Short);
        assert!(breaker.is_probing(), "a late failure is no probe's");
        assert_eq!(breaker.on_failure(100, true, now, RULES), Streak::Short);
        assert!(breaker.is_open() && !breaker.is_probing());
        breaker.probe(now, RULES, 1.0);
        breaker.probe(now, RULES, 1.0);
        breaker.on_nothing(101);
        assert!(breaker.is_probing() && breaker.on_answer(102));
        assert!(!breaker.is_open());
    }
}
