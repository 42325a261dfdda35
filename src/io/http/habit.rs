//! What one origin has shown about kept connections, and what may be believed of it. Pure; the pool asks and reports.
//!
//! ```text
//!             an answer comes                open for `proof`
//! unproven ───────────────────▶ watched ────────────────────────▶ earned ─┐ grows with the age of the watched one
//!    ▲                             │ ended too soon, or in the way     │ ◀──┘
//!    └────── rest, twice as long each time ◀───────────────────────────┘ a believed connection had ended
//! ```
//! A request that cannot be repeated is lost when it meets the end of its connection, so nothing is believed beyond what was
//! seen: connections are kept for as long as an unused one has been seen to stay open, less a margin, and never longer than the
//! server announces (`Keep-Alive: timeout=`). Servers that end unused connections within seconds (uWSGI at once, gunicorn
//! after 2 s, a worker that blocks on a connection) are not worth the risk: `proof` is longer than that.

use std::time::{Duration, Instant};

/// How long an unused connection must have been seen to stay open before one is kept for a next call. Above the 4 s of uWSGI's
/// `socket-timeout`, whose worker serves nobody else meanwhile, and the 3 s after which gunicorn has ended those of 2 s.
pub(super) const PROOF: Duration = Duration::from_millis(4500);
/// Margin between what a server does or announces and what is used, for the line and for busy servers: this, or a fifth.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest rest of an origin that was caught again and again. A later fault counts as the first one after twice that.
const REST_MAX: Duration = Duration::from_secs(3600);

/// The habit of one origin.
#[derive(Debug)]
pub(super) struct Habit {
    state: State,
    /// What the server announces, less the margin.
    announced: Option<Duration>,
    /// How often it was caught, and when last.
    caught: u32,
    last_caught: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Nothing may be kept. A call may try from this moment on.
    Unproven { from: Option<Instant> },
    /// One connection is out of use and looked at.
    Watched,
    /// Unused connections stay open this long.
    Earned(Duration),
}

/// What to do with a connection after an answer that allows another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Watch,
    Close,
}

impl Habit {
    /// Nothing is known; without a `proof` the best is believed.
    pub(super) fn new(proof: Duration) -> Habit {
        let state = if proof.is_zero() {
            State::Earned(Duration::MAX)
        } else {
            State::Unproven { from: None }
        };
        Habit {
            state,
            announced: None,
            caught: 0,
            last_caught: None,
        }
    }

    /// A call opens a connection: whether the server is to keep it. While nothing is proven only one call in `proof` is to.
    pub(super) fn may_keep(&mut self, proof: Duration, now: Instant) -> bool {
        match &mut self.state {
            State::Earned(_) => true,
            State::Watched => false,
            State::Unproven { from } => {
                let may = from.is_none_or(|from| now >= from);
                if may {
                    *from = Some(now + proof);
                }
                may
            }
        }
    }

    /// How long a connection may have been unused and still carry a call.
    pub(super) fn usable(&self) -> Duration {
        match self.state {
            State::Earned(shown) => shown.min(self.announced.unwrap_or(Duration::MAX)),
            State::Unproven { .. } | State::Watched => Duration::ZERO,
        }
    }

    /// An answer came that allows another request. `announced`: its `Keep-Alive: timeout=`.
    pub(super) fn on_answer(&mut self, announced: Option<Duration>) -> Fate {
        self.announced = announced.map(less_margin);
        match self.state {
            _ if self.announced.is_some_and(|limit| limit.is_zero()) => Fate::Close,
            State::Earned(_) => Fate::Keep,
            State::Watched => Fate::Close,
            State::Unproven { .. } => {
                self.state = State::Watched;
                Fate::Watch
            }
        }
    }

    /// The watched connection is open at this age. False: it has been watched for long enough; `idle` is all that is wanted.
    pub(super) fn on_open(&mut self, age: Duration, proof: Duration, idle: Duration) -> bool {
        let wanted = idle.min(self.announced.unwrap_or(Duration::MAX));
        if age >= proof.min(wanted) {
            self.state = State::Earned(age.min(wanted));
        }
        age < wanted
    }

    /// The server has ended the watched connection since it was last seen open.
    pub(super) fn on_ended(&mut self, now: Instant) {
        match &mut self.state {
            State::Earned(shown) => *shown = less_margin(*shown),
            _ => self.on_caught(now),
        }
    }

    /// The watched connection was let go without a result. `in_the_way`: the server answers nobody else meanwhile.
    pub(super) fn on_abandoned(&mut self, in_the_way: bool, now: Instant) {
        match self.state {
            State::Earned(_) => {}
            _ if in_the_way => self.on_caught(now),
            _ => self.state = State::Unproven { from: None },
        }
    }

    /// A connection that was believed to be open had been ended: nothing is believed until shown anew, after a rest.
    /// Those that break with it are one fault.
    pub(super) fn on_caught(&mut self, now: Instant) {
        if let State::Unproven { .. } = self.state {
            return;
        }
        let long_ago = |last: Instant| now.duration_since(last) > 2 * REST_MAX;
        if self.last_caught.is_some_and(long_ago) {
            self.caught = 0;
        }
        let rest = PROOF.saturating_mul(1 << self.caught.min(16)).min(REST_MAX);
        self.caught += 1;
        self.last_caught = Some(now);
        self.state = State::Unproven { from: Some(now + rest) };
    }
}

fn less_margin(time: Duration) -> Duration {
    time.saturating_sub(MARGIN.max(time / 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(20);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A habit with one connection out, and when that was.
    fn watched(announced: Option<Duration>) -> (Habit, Instant) {
        let (mut habit, now) = (Habit::new(PROOF), Instant::now());
        assert!(habit.may_keep(PROOF, now));
        assert!(!habit.may_keep(PROOF, now), "one is enough");
        assert_eq!(habit.on_answer(announced), Fate::Watch);
        assert_eq!(habit.on_answer(announced), Fate::Close);
        (habit, now)
    }

    #[test]
    fn reuse_is_earned_and_grows_with_what_was_seen() {
        let (mut habit, now) = watched(None);
        assert!(habit.on_open(seconds(4), PROOF, IDLE));
        assert_eq!(habit.usable(), Duration::ZERO);
        assert!(habit.on_open(seconds(5), PROOF, IDLE));
        assert_eq!(habit.usable(), seconds(5));
        assert!(habit.may_keep(PROOF, now) && habit.on_answer(None) == Fate::Keep);
        assert!(!habit.on_open(seconds(21), PROOF, IDLE), "all that is wanted");
        assert_eq!(habit.usable(), IDLE);
    }

    #[test]
    fn the_time_of_an_idle_server_is_learnt() {
        let (mut habit, now) = watched(None);
        assert!(habit.on_open(seconds(10), PROOF, IDLE));
        habit.on_ended(now);
        assert_eq!(habit.usable(), seconds(8), "a fifth less");
    }

    #[test]
    fn what_is_announced_is_heeded() {
        let (mut habit, _) = watched(Some(seconds(5)));
        assert!(!habit.on_open(seconds(4), PROOF, IDLE), "no need to look until the end");
        assert_eq!(habit.usable(), seconds(4));
        assert_eq!(habit.on_answer(Some(seconds(3))), Fate::Keep);
        assert_eq!(habit.usable(), seconds(2));
        assert_eq!(habit.on_answer(Some(seconds(1))), Fate::Close);
    }

    #[test]
    fn a_server_that_closes_is_tried_ever_more_rarely() {
        let (mut habit, mut now) = watched(None);
        let mut rests = Vec::new();
        for _ in 0..14 {
            habit.on_ended(now);
            let caught = now;
            while !habit.may_keep(PROOF, now) {
                now += Duration::from_millis(500);
            }
            rests.push((now - caught).as_millis());
            assert_eq!(habit.on_answer(None), Fate::Watch);
        }
        assert_eq!(rests[..3], [4500, 9000, 18000]);
        assert_eq!(rests[13], REST_MAX.as_millis());
        now += 3 * REST_MAX;
        habit.on_ended(now);
        assert!(habit.may_keep(PROOF, now + PROOF), "long ago is forgotten");
    }

    #[test]
    fn connections_that_break_together_are_one_fault() {
        let (mut habit, now) = watched(None);
        habit.on_open(IDLE, PROOF, IDLE);
        for _ in 0..50 {
            habit.on_caught(now);
        }
        assert_eq!(habit.usable(), Duration::ZERO);
        assert!(!habit.may_keep(PROOF, now) && habit.may_keep(PROOF, now + PROOF));
    }

    #[test]
    fn a_watched_connection_in_the_way_of_others_is_a_fault() {
        let (mut habit, now) = watched(None);
        habit.on_abandoned(false, now);
        assert!(habit.may_keep(PROOF, now));
        habit.on_answer(None);
        habit.on_abandoned(true, now);
        assert!(!habit.may_keep(PROOF, now));
    }
}
