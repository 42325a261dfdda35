//! Who a lane's calls are made for, and with what success: whether it is the server that fails, or what some clients send.
//! Pure.
//!
//! A *source* is a client, or the address of one that is not admitted yet. A client that has found a message which kills the
//! handler, or a head at which the backend closes, fails as often as it likes; what it cannot do is to fail in the name of
//! others. So failures count as the server's only when they are *broad*: nobody else has been answered lately, or several
//! sources fail. One source, however fast, never is several.
//!
//! Bounds: [`KEPT`] sources of each kind, the one heard longest ago gives way. Nothing is hidden by that: more than
//! [`SEVERAL`] failing ones are several whoever they are, and those that are answered change nothing by being many.

use std::time::{Duration, Instant};

/// Sources remembered of each kind.
const KEPT: usize = 16;
/// So many failing sources are not one client's doing.
const SEVERAL: usize = 4;
/// What was longer ago says nothing about now.
const LATELY: Duration = Duration::from_secs(10);

/// The sources of one lane.
#[derive(Debug, Default)]
pub(super) struct Sources {
    answered: Recent,
    failing: Recent,
}

impl Sources {
    pub(super) fn on_answer(&mut self, source: u64, now: Instant) {
        self.failing.remove(source);
        self.answered.note(source, now);
    }

    pub(super) fn on_failure(&mut self, source: u64, now: Instant) {
        self.failing.note(source, now);
    }

    /// Whether this source's last call failed, and not long ago.
    pub(super) fn is_failing(&self, source: u64, now: Instant) -> bool {
        self.failing.since(now).any(|failing| failing == source)
    }

    /// Whether failures are the server's.
    pub(super) fn are_broad(&self, now: Instant) -> bool {
        let mut others = self.answered.since(now).filter(|source| !self.is_failing(*source, now));
        others.next().is_none() || self.failing.since(now).count() >= SEVERAL
    }
}

/// Some sources, and when each was heard of last.
#[derive(Debug, Default)]
struct Recent(Vec<(u64, Instant)>);

impl Recent {
    fn note(&mut self, source: u64, now: Instant) {
        if let Some((_, at)) = self.0.iter_mut().find(|(is, _)| *is == source) {
            *at = now;
        } else if self.0.len() < KEPT {
            self.0.push((source, now));
        } else if let Some(oldest) = self.0.iter_mut().min_by_key(|(_, at)| *at) {
            *oldest = (source, now);
        }
    }

    fn remove(&mut self, source: u64) {
        self.0.retain(|(is, _)| *is != source);
    }

    fn since(&self, now: Instant) -> impl Iterator<Item = u64> {
        let is_late = move |at: Instant| now.saturating_duration_since(at) > LATELY;
        self.0
            .iter()
            .filter(move |(_, at)| !is_late(*at))
            .map(|(source, _)| *source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_never_several_while_others_are_answered() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let at = |secs| now + Duration::from_secs(secs);
        for _ in 0..1000 {
            sources.on_failure(1, now);
        }
        assert!(sources.are_broad(now), "nobody else is there");
        sources.on_answer(2, now);
        assert!(!sources.are_broad(at(10)));
        assert!(sources.are_broad(at(11)), "that was long ago");
        sources.on_failure(2, at(1));
        assert!(sources.are_broad(at(1)), "nobody else is answered any more");
    }

    #[test]
    fn several_are_broad_and_the_table_is_bounded() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        sources.on_answer(0, now);
        for source in 1..4 {
            sources.on_failure(source, now);
        }
        assert!(!sources.are_broad(now));
        sources.on_failure(4, now);
        assert!(sources.are_broad(now) && sources.is_failing(4, now) && !sources.is_failing(0, now));
        for source in 1..5 {
            sources.on_answer(source, now);
        }
        assert!(!sources.is_failing(4, now), "answered again");
        for source in 0..1000 {
            sources.on_failure(source, now + Duration::from_millis(source));
            sources.on_answer(source + 10_000, now);
        }
        assert_eq!((sources.failing.0.len(), sources.answered.0.len()), (KEPT, KEPT));
        assert!(sources.is_failing(999, now + Duration::from_secs(1)));
    }
}
