//! What was accepted lately, so that nobody can send it again.
//!
//! Signatures are remembered, not nonces: a signature covers the nonce and everything else, and nobody without the secret
//! can choose one. Two generations: the younger one takes what comes, after two windows it becomes the older one, and the
//! one before is forgotten. So an entry stays for two windows at least, the time its timestamp could be inside the window,
//! and for four at most.
//!
//! Invariants: at most `capacity` entries (of about 20 bytes); when they are used up, further requests are refused, since
//! they could not be recognised. What is forgotten stays refused by its timestamp: a clock that is set back brings nothing
//! back (and calls are refused until it has caught up). The memory starts empty.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::{Proof, Refusal};
use crate::time::{Duration, Instant};

/// The memory of one control core.
#[derive(Debug)]
pub struct Replays {
    young: Generation,
    old: Generation,
    /// When the young generation was begun.
    begun: Instant,
    /// Largest timestamp of anything forgotten.
    forgotten: i64,
}

#[derive(Debug)]
struct Generation {
    fingerprints: HashSet<u64, RandomState>,
    /// Largest timestamp in it.
    newest: i64,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            fingerprints: HashSet::default(),
            newest: i64::MIN,
        }
    }
}

impl Default for Replays {
    fn default() -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            begun: Instant::ZERO,
            forgotten: i64::MIN,
        }
    }
}

impl Replays {
    /// Accepts a genuine request once. `window` and `capacity` are the settings in force; `now` never goes back.
    ///
    /// # Errors
    /// [`Refusal::Used`], [`Refusal::TooOld`], or [`Refusal::NoRoom`].
    pub fn admit(&mut self, proof: &Proof, window: Duration, capacity: usize, now: Instant) -> Result<(), Refusal> {
        let span = window * 2;
        if now.since(self.begun) >= span {
            self.forget_old();
            if now.since(self.begun) >= span * 2 {
                self.forget_old();
            }
            self.begun = now;
        }
        let Proof {
            timestamp, fingerprint, ..
        } = *proof;
        if timestamp <= self.forgotten {
            return Err(Refusal::TooOld);
        }
        if self.young.fingerprints.contains(&fingerprint) || self.old.fingerprints.contains(&fingerprint) {
            return Err(Refusal::Used);
        }
        if self.len() >= capacity {
            return Err(Refusal::NoRoom);
        }
        self.young.fingerprints.insert(fingerprint);
        self.young.newest = self.young.newest.max(timestamp);
        Ok(())
    }

    /// Forgets the old generation; the young one is the old one now.
    fn forget_old(&mut self) {
        self.forgotten = self.forgotten.max(self.old.newest);
        self.old.newest = i64::MIN;
        self.old.fingerprints.clear();
        std::mem::swap(&mut self.old, &mut self.young);
    }

    /// Signatures remembered now.
    pub fn len(&self) -> usize {
        self.young.fingerprints.len() + self.old.fingerprints.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rainbow::sign::Scheme;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const WINDOW: Duration = Duration::from_secs(10);

    fn proof(fingerprint: u64, timestamp: i64) -> Proof {
        Proof {
            scheme: Scheme::HmacSha256,
            timestamp,
            fingerprint,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn admit(replays: &mut Replays, fingerprint: u64, timestamp: i64, seconds: u64) -> Result<(), Refusal> {
        replays.admit(&proof(fingerprint, timestamp), WINDOW, 1000, at(seconds))
    }

    #[test]
    fn once_only_while_it_could_be_in_the_window() {
        let mut replays = Replays::default();
        assert_eq!(admit(&mut replays, 1, 109, 100), Ok(()), "a clock ahead of ours");
        for seconds in 100..=118 {
            assert_eq!(admit(&mut replays, 1, 109, seconds), Err(Refusal::Used), "{seconds}");
        }
        assert_eq!(admit(&mut replays, 2, 125, 125), Ok(()));
        assert_eq!(replays.len(), 2, "a new generation");
        assert_eq!(admit(&mut replays, 3, 146, 146), Ok(()));
        assert_eq!(replays.len(), 2, "the first is forgotten");
        assert_eq!(admit(&mut replays, 4, 300, 300), Ok(()));
        assert_eq!(replays.len(), 1, "a long silence ends both generations");
    }

    #[test]
    fn a_clock_set_back_brings_nothing_back() {
        let mut replays = Replays::default();
        assert_eq!(admit(&mut replays, 1, 100, 100), Ok(()));
        assert_eq!(admit(&mut replays, 2, 200, 200), Ok(()));
        assert_eq!(
            admit(&mut replays, 1, 100, 201),
            Err(Refusal::TooOld),
            "forgotten, but not forgiven"
        );
        assert_eq!(admit(&mut replays, 3, 101, 201), Ok(()));
    }

    #[test]
    fn when_full_nothing_new_gets_in_until_there_is_room() {
        let mut replays = Replays::default();
        for fingerprint in 0..1000 {
            assert_eq!(admit(&mut replays, fingerprint, 100, 100), Ok(()));
        }
        assert_eq!(admit(&mut replays, 1000, 100, 100), Err(Refusal::NoRoom));
        assert_eq!(admit(&mut replays, 7, 100, 100), Err(Refusal::Used), "still recognised");
        assert_eq!(admit(&mut replays, 1000, 119, 120), Err(Refusal::NoRoom));
        assert_eq!(admit(&mut replays, 1000, 140, 140), Ok(()));
        assert_eq!(replays.len(), 1);
    }

    proptest! {
        /// Against a twin that never forgets: with a clock that runs well, nothing is accepted twice and nothing fresh is
        /// refused.
        #[test]
        fn as_if_nothing_were_forgotten(steps in prop::collection::vec((0_u64..6, 0_u64..40, -9_i64..=9), 1..300)) {
            let (mut replays, mut all, mut now) = (Replays::default(), HashMap::new(), 50);
            for (wait, fingerprint, skew) in steps {
                now += wait;
                let timestamp = *all.get(&fingerprint).unwrap_or(&(now as i64 + skew));
                if timestamp.abs_diff(now as i64) >= 10 {
                    continue;
                }
                let known = all.insert(fingerprint, timestamp).is_some();
                let expected = if known { Err(Refusal::Used) } else { Ok(()) };
                prop_assert_eq!(admit(&mut replays, fingerprint, timestamp, now), expected);
            }
        }
    }
}
