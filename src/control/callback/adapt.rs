//! How many calls a server gets at once: as many as the operator allows while it answers, fewer while nearly all fail. Pure.
//!
//! Additive increase, multiplicative decrease, like TCP, over windows of as many calls as may be under way:
//!
//! * three of four calls failed: half of it, and what else fails of the calls begun before belongs to the same trouble;
//! * at least every second call was answered: one more. After a pause of the breaker it starts at [`RESTART`] and doubles up
//!   to where it had been ("slow start"), so that a server that comes back is not met by everything that waited.
//!
//! Why failures and not response times: a server that is slow but answers needs *more* calls at once to get its work done, and
//! a bound that follows latency starves it. Why three of four: of two servers behind one address one may be dead; the other
//! half of the calls is served best by trying all. For the same reason there is a floor, a sixteenth of the ceiling: a server
//! that answers one call of five after long silence still gets its callbacks. What the failures of a *dead* server cost
//! is bounded by the breaker.

/// Calls that are looked at together, at least.
const WINDOW_MIN: usize = 16;
/// Calls at once after the breaker has closed.
const RESTART: usize = 8;
/// The floor is this part of the ceiling, but at least one call.
const FLOOR_PART: usize = 16;

/// What a call's end changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Fewer calls at once from now on; the first time since it was at the ceiling.
    Reduced(usize),
    /// The ceiling is reached again.
    Restored,
}

/// The bound of one lane.
#[derive(Debug, Default)]
pub(super) struct Adapt {
    /// `None`: the ceiling.
    limit: Option<usize>,
    /// Up to here it grows by one for each answer.
    doubling: usize,
    answered: usize,
    failed: usize,
    /// Number of the first call that counts.
    since: u64,
}

impl Adapt {
    /// Calls that may be under way.
    pub(super) fn limit(&self, ceiling: usize) -> usize {
        let ceiling = ceiling.max(1);
        self.limit.map_or(ceiling, |limit| limit.min(ceiling))
    }

    /// Call number `call` has ended; `next` is the number of the next one.
    pub(super) fn on_end(&mut self, answered: bool, call: u64, next: u64, ceiling: usize) -> Option<Change> {
        if call < self.since {
            return None;
        }
        let limit = self.limit(ceiling);
        let window = limit.max(WINDOW_MIN);
        *(if answered { &mut self.answered } else { &mut self.failed }) += 1;
        if self.failed * 4 >= window * 3 {
            (self.answered, self.failed, self.since) = (0, 0, next);
            return self.halve(limit, ceiling);
        }
        let mut more = usize::from(answered && limit < self.doubling);
        if self.answered + self.failed >= window {
            more += usize::from(self.failed <= self.answered);
            (self.answered, self.failed) = (0, 0);
        }
        self.grow(more, ceiling)
    }

    /// The server is back after a pause.
    pub(super) fn restart(&mut self, next: u64, ceiling: usize) {
        let limit = self.limit(ceiling);
        *self = Adapt {
            limit: (RESTART < limit || self.limit.is_some()).then_some(limit.min(RESTART)),
            doubling: limit,
            since: next,
            ..Adapt::default()
        };
    }

    fn halve(&mut self, limit: usize, ceiling: usize) -> Option<Change> {
        let floor = (ceiling / FLOOR_PART).max(1);
        let half = (limit / 2).max(floor);
        if half >= limit {
            return None;
        }
        let first = self.limit.is_none();
        (self.limit, self.doubling) = (Some(half), half);
        first.then_some(Change::Reduced(half))
    }

    fn grow(&mut self, more: usize, ceiling: usize) -> Option<Change> {
        let limit = self.limit?;
        self.limit = Some(limit + more).filter(|limit| *limit < ceiling.max(1));
        self.limit.is_none().then_some(Change::Restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: usize = 64;

    /// Ends `count` calls, each begun after the one before.
    fn end(adapt: &mut Adapt, answered: bool, calls: &mut u64, count: usize) {
        for _ in 0..count {
            adapt.on_end(answered, *calls, *calls + 1, CEILING);
            *calls += 1;
        }
    }

    #[test]
    fn a_burst_halves_once_down_to_the_floor() {
        let mut adapt = Adapt::default();
        for _ in 0..CEILING {
            adapt.on_end(false, 0, CEILING as u64, CEILING); // all begun together
        }
        assert_eq!(adapt.limit(CEILING), 32);
        end(&mut adapt, false, &mut 64, 1000);
        assert_eq!(adapt.limit(CEILING), 4, "a sixteenth");
        assert_eq!(adapt.limit(2), 2, "a lowered ceiling holds at once");
    }

    #[test]
    fn single_failures_and_every_second_one_change_nothing() {
        let (mut adapt, mut calls) = (Adapt::default(), 0);
        for _ in 0..320 {
            end(&mut adapt, false, &mut calls, 1);
            end(&mut adapt, true, &mut calls, 1);
        }
        assert_eq!(adapt.limit(CEILING), CEILING);
        end(&mut adapt, false, &mut calls, 40);
        assert_eq!(adapt.limit(CEILING), CEILING, "less than three of four of a window");
    }

    #[test]
    fn answers_bring_it_back_one_per_window() {
        let (mut adapt, mut calls) = (Adapt::default(), 0);
        end(&mut adapt, false, &mut calls, 48);
        assert_eq!(adapt.limit(CEILING), 32);
        end(&mut adapt, true, &mut calls, 32);
        assert_eq!(adapt.limit(CEILING), 33);
        end(&mut adapt, true, &mut calls, 33 * 40);
        assert!((50..CEILING).contains(&adapt.limit(CEILING)));
        let restored = (0..CEILING * CEILING).find_map(|n| adapt.on_end(true, calls + n as u64, 0, CEILING));
        assert_eq!((restored, adapt.limit(CEILING)), (Some(Change::Restored), CEILING));
    }

    #[test]
    fn after_a_pause_it_doubles_up_to_where_it_was() {
        let mut adapt = Adapt::default();
        adapt.restart(10, CEILING);
        assert_eq!(adapt.limit(CEILING), 8);
        assert_eq!(adapt.on_end(true, 9, 11, CEILING), None, "begun before");
        let mut calls = 10;
        end(&mut adapt, true, &mut calls, 24);
        assert!((32..35).contains(&adapt.limit(CEILING)), "{adapt:?}");
        end(&mut adapt, true, &mut calls, 32);
        assert_eq!(adapt.limit(CEILING), CEILING);

        let mut narrow = Adapt::default();
        narrow.restart(0, 3);
        assert_eq!(narrow.limit(3), 3);
        assert!(narrow.limit.is_none());
    }
}
