//! The lanes of all hooks and servers (`lane.rs`), and what is asked of all of them. Pure: time and bounds come as arguments.
//!
//! Bound: a lane lives on when it is not used, because it knows how its server does; there are as many as the builder
//! names servers, and a new builder starts over ([`Lanes::forget_idle`]).

use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashMap;

use super::breaker::BreakerState;
use super::lane::{Job, Lane, Next, Placed, Rules, Turn, Verdict};
use crate::engine::hook::Hook;
use crate::io::http::Origin;

/// Names a lane.
pub(super) type LaneKey = (Hook, Rc<Origin>);

#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
}

impl Lanes {
    /// A new callback.
    pub(super) fn place(&mut self, key: &LaneKey, job: Job, rules: Rules) -> Placed {
        self.lanes.entry_ref(key).or_default().place(key.0.event, job, rules)
    }

    /// To be asked when a call has ended.
    pub(super) fn next(&mut self, key: &LaneKey, rules: Rules) -> Next {
        let lane = self.lanes.get_mut(key);
        lane.map_or(Next::Idle, |lane| lane.next(key.0.event, rules))
    }

    /// See [`Lane::start_queued`].
    pub(super) fn start_queued(&mut self, key: &LaneKey, rules: Rules) -> Option<Job> {
        self.lanes.get_mut(key)?.start_queued(rules)
    }

    /// See [`Lane::has_startable`].
    pub(super) fn has_startable(&self, key: &LaneKey, ceiling: usize) -> bool {
        self.lanes.get(key).is_some_and(|lane| lane.has_startable(ceiling))
    }

    /// Learns from the end of a call that was made for `source`.
    pub(super) fn on_end(
        &mut self,
        key: &LaneKey,
        call: u64,
        source: u64,
        verdict: Verdict,
        rules: Rules,
    ) -> Option<Turn> {
        self.lanes
            .get_mut(key)?
            .on_end(key.0.event, call, source, verdict, rules)
    }

    /// See [`Lane::wants_check`].
    pub(super) fn wants_check(&mut self, key: &LaneKey) -> bool {
        self.lanes.get_mut(key).is_some_and(Lane::wants_check)
    }

    /// Learns from the end of a neutral request.
    pub(super) fn on_checked(&mut self, key: &LaneKey, is_alive: bool, rules: Rules) -> Option<Turn> {
        self.lanes.get_mut(key)?.on_checked(is_alive, rules)
    }

    /// A callback whose deadline has passed in its queue. Only the heads of the queues are looked at: one time-out for all
    /// makes deadlines ascend. (A close callback on its second attempt may stand behind younger ones; it is found late
    /// when it comes to the head.)
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Job> {
        let is_late = |lane: &&mut Lane| lane.first().is_some_and(|job| job.deadline <= now);
        self.lanes.values_mut().find(is_late)?.take_first()
    }

    /// The lanes whose next probe is due, with somebody to be it.
    pub(super) fn due_probes(&self, now: Instant) -> Vec<LaneKey> {
        let lanes = self.lanes.iter();
        lanes
            .filter(|(_, lane)| lane.is_probe_due(now))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// When something has to be done in a queue, at the latest.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.lanes.values().filter_map(Lane::look_at).min()
    }

    /// The callback of `hook` that was submitted first of those at the heads of its queues.
    pub(super) fn take_oldest(&mut self, hook: Hook) -> Option<Job> {
        let lanes = self.lanes.iter_mut().filter(|(key, _)| key.0 == hook);
        let waiting = lanes.filter_map(|(_, lane)| Some((lane.first()?.serial, lane)));
        let (_, lane) = waiting.min_by_key(|(serial, _)| *serial)?;
        lane.take_first()
    }

    pub(super) fn is_open(&self, key: &LaneKey) -> bool {
        self.lanes.get(key).is_some_and(Lane::is_open)
    }

    pub(super) fn has_queued(&self, key: &LaneKey) -> bool {
        self.lanes.get(key).is_some_and(Lane::has_queued)
    }

    pub(super) fn keys(&self) -> Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }

    /// Forgets the lanes nobody uses, and what they know about their servers.
    pub(super) fn forget_idle(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_idle());
    }

    /// The lowest bound and the worst breaker of the lanes of `hook`.
    pub(super) fn health(&self, hook: Hook, ceiling: usize) -> (usize, BreakerState) {
        let lanes = self.lanes.iter().filter(|(key, _)| key.0 == hook);
        lanes.fold((ceiling, BreakerState::Closed), |(limit, state), (_, lane)| {
            (limit.min(lane.limit(ceiling)), state.max(lane.state()))
        })
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
