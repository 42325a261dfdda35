//! Places and queues: one lane per endpoint and server, first come, first served. Pure: time and bounds come as arguments.
//!
//! Invariant: nobody waits in a lane that has room, unless its breaker is open. Then connect callbacks are refused (a client
//! is told 503 at once and comes back), all others wait: for a probe to be answered, or for their deadline.
//!
//! Bound: a lane lives on when it is not used, because it knows how its server does; there are as many as the builder
//! names servers, and a new builder starts over ([`Lanes::forget_idle`]).

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::adapt::{Adapt, Change};
use super::breaker::{self, Breaker};
use super::sources::Sources;
use crate::engine::command::{CallbackRequest, Endpoint};
use crate::io::http::Origin;

/// A server that was heard within this time is there.
const HEARD_LATELY: Duration = Duration::from_secs(2);
/// Queued callbacks among which a probe is looked for.
const PROBES_TRIED: usize = 1024;
/// Room a queue keeps when it has become empty.
const QUEUE_KEPT: usize = 256;

/// Names a lane.
pub(super) type LaneKey = (Endpoint, Rc<Origin>);

/// One callback on its way. With its request about 250 bytes, and the client's headers.
#[derive(Debug)]
pub(super) struct Job {
    /// Order of submission.
    pub(super) serial: u64,
    /// Number of the call in its lane; set when it starts.
    pub(super) call: u64,
    pub(super) submitted: Instant,
    /// When it must have ended, wherever it is then.
    pub(super) deadline: Instant,
    /// Attempts that failed so far.
    pub(super) attempts: u32,
    /// Whom it is made for.
    pub(super) source: u64,
    pub(super) request: CallbackRequest,
}

/// What holds for a lane now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Calls at once, at most.
    pub(super) in_flight: usize,
    /// Places in the queue.
    pub(super) queued: usize,
    pub(super) breaker: breaker::Rules,
    /// The time.
    pub(super) now: Instant,
    /// A random number, 0..1.
    pub(super) chance: f64,
}

#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
}

#[derive(Default)]
struct Lane {
    in_flight: usize,
    queue: VecDeque<Job>,
    /// Calls started so far.
    calls: u64,
    adapt: Adapt,
    breaker: Breaker,
    sources: Sources,
    /// When the server was heard last.
    heard: Option<Instant>,
    check: Check,
}

/// A neutral request to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    None,
    /// It is time for one.
    Wanted,
    UnderWay,
}

/// What happened to a new callback.
pub(super) enum Placed {
    /// There is room: to be started now; its place is taken.
    Start(Job),
    /// It waits; look at it at this time.
    Queued(Instant),
    /// The queue is full, or nobody is asked.
    Refused(Job),
}

/// What a place that has become free is used for.
pub(super) enum Next {
    /// To be started now.
    Start(Job),
    /// Waited too long; ask again.
    Late(Job),
    /// Not to be started at all; ask again.
    Refused(Job),
    /// Nothing: the place is given back.
    Idle,
}

/// What the end of a call said about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answered,
    /// No answer, or one of a proxy: the server's doing, or that of what was sent.
    Failed,
    /// 503: the server, or the proxy in front of it, says so of itself.
    Unavailable,
    /// There is no connection to the server: nothing a client could send brings that about.
    Down,
    /// Nothing: it was our doing, or the message's.
    Unclear,
}

/// What the end of a call changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    Closed,
    /// The server answers a neutral request while everything clients send fails.
    Exonerated,
    Pace(Change),
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

impl Lanes {
    pub(super) fn place(&mut self, key: &LaneKey, job: Job, rules: Rules) -> Placed {
        let lane = self.lanes.entry_ref(key).or_default();
        if lane.queue.is_empty() && lane.admits(rules) {
            // The probe may be of somebody whose calls always fail; the server itself is asked beside it.
            if lane.breaker.is_open() && key.0 == Endpoint::Connect && lane.sources.is_failing(job.source, rules.now) {
                lane.want_check();
            }
            return Placed::Start(lane.start(job));
        }
        let refused = lane.breaker.is_open() && key.0 == Endpoint::Connect;
        // Of close callbacks the oldest has given way already.
        if refused || (lane.queue.len() >= rules.queued && key.0 != Endpoint::Close) {
            return Placed::Refused(job);
        }
        let look_at = lane.breaker.probe_at().map_or(job.deadline, |at| at.min(job.deadline));
        lane.queue.push_back(job);
        Placed::Queued(look_at)
    }

    /// To be asked when a call has ended.
    pub(super) fn next(&mut self, key: &LaneKey, rules: Rules) -> Next {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Next::Idle;
        };
        let open = lane.breaker.is_open();
        let usable = if open {
            key.0 == Endpoint::Connect
        } else {
            lane.in_flight <= lane.adapt.limit(rules.in_flight)
        };
        match if usable { lane.queue.pop_front() } else { None } {
            Some(job) if job.deadline <= rules.now => Next::Late(job),
            Some(job) if open => Next::Refused(job),
            Some(job) => {
                lane.in_flight -= 1;
                Next::Start(lane.start(job))
            }
            None => {
                lane.in_flight -= 1;
                if lane.queue.is_empty() && lane.queue.capacity() > QUEUE_KEPT {
                    lane.queue = VecDeque::new();
                }
                Next::Idle
            }
        }
    }

    /// A queued callback for which there is room now: after a bound was raised, a breaker closed, or for a probe.
    pub(super) fn start_queued(&mut self, key: &LaneKey, rules: Rules) -> Option<Job> {
        self.lanes.get_mut(key)?.start_queued(rules)
    }

    /// Whether the lane has both, callbacks that wait and room for them.
    pub(super) fn has_startable(&self, key: &LaneKey, ceiling: usize) -> bool {
        self.lanes.get(key).is_some_and(|lane| {
            !lane.queue.is_empty() && !lane.breaker.is_open() && lane.in_flight < lane.adapt.limit(ceiling)
        })
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
        let lane = self.lanes.get_mut(key)?;
        let (next, ceiling, now) = (lane.calls, rules.in_flight, rules.now);
        let mut counts = true;
        let turned = match verdict {
            Verdict::Unclear => {
                lane.breaker.on_nothing(call);
                return None;
            }
            Verdict::Answered => {
                lane.heard = Some(now);
                lane.sources.on_answer(source, now);
                lane.breaker.on_answer(call).then_some(Turn::Closed)
            }
            Verdict::Failed | Verdict::Unavailable | Verdict::Down => {
                lane.sources.on_failure(source, now);
                counts = verdict == Verdict::Down || lane.sources.are_broad(now);
                let is_down = counts && verdict != Verdict::Failed;
                let is_full = lane.breaker.on_failure(call, is_down, now, rules.breaker);
                let is_heard = lane
                    .heard
                    .is_some_and(|at| now.saturating_duration_since(at) < HEARD_LATELY);
                match is_full {
                    breaker::Streak::Down => lane.open(rules),
                    breaker::Streak::Failed if !counts || is_heard => None,
                    // Anybody can make these calls fail.
                    breaker::Streak::Failed if key.0 == Endpoint::Connect => {
                        lane.want_check();
                        None
                    }
                    breaker::Streak::Failed => lane.open(rules),
                    breaker::Streak::Short => None,
                }
            }
        };
        if turned == Some(Turn::Closed) {
            lane.adapt.restart(next, ceiling);
        }
        if !counts {
            return turned;
        }
        let change = lane.adapt.on_end(verdict == Verdict::Answered, call, next, ceiling);
        turned.or(change.map(Turn::Pace))
    }

    /// Whether a neutral request should be sent to the server of a lane; it counts as sent then.
    pub(super) fn wants_check(&mut self, key: &LaneKey) -> bool {
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.check == Check::Wanted) else {
            return false;
        };
        lane.check = Check::UnderWay;
        true
    }

    /// Learns from the end of a neutral request.
    pub(super) fn on_checked(&mut self, key: &LaneKey, is_alive: bool, rules: Rules) -> Option<Turn> {
        let lane = self.lanes.get_mut(key)?;
        lane.check = Check::None;
        if !is_alive {
            return if lane.breaker.is_full(rules.breaker) {
                lane.open(rules)
            } else {
                None
            };
        }
        lane.heard = Some(rules.now);
        let was_open = lane.breaker.is_open();
        lane.breaker = Breaker::default();
        if was_open {
            lane.adapt.restart(lane.calls, rules.in_flight);
            return Some(Turn::Closed);
        }
        Some(Turn::Exonerated)
    }

    /// A callback whose deadline has passed in its queue. Only the heads of the queues are looked at: one time-out for all
    /// makes deadlines ascend. (A close callback on its second attempt may stand behind younger ones; it is found late
    /// when it comes to the head.)
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Job> {
        let late = |lane: &&mut Lane| lane.queue.front().is_some_and(|job| job.deadline <= now);
        self.lanes.values_mut().find(late)?.queue.pop_front()
    }

    /// The lanes whose next probe is due, with somebody to be it.
    pub(super) fn due_probes(&self, now: Instant) -> Vec<LaneKey> {
        let due = |lane: &Lane| !lane.queue.is_empty() && lane.breaker.probe_at().is_some_and(|at| at <= now);
        self.lanes
            .iter()
            .filter(|(_, lane)| due(lane))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// When something has to be done in a queue, at the latest.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let look_at = |lane: &Lane| {
            let deadline = lane.queue.front()?.deadline;
            Some(lane.breaker.probe_at().map_or(deadline, |at| at.min(deadline)))
        };
        self.lanes.values().filter_map(look_at).min()
    }

    /// The callback of `endpoint` that was submitted first of those at the heads of its queues.
    pub(super) fn take_oldest(&mut self, endpoint: Endpoint) -> Option<Job> {
        let lanes = self.lanes.iter_mut().filter(|(key, _)| key.0 == endpoint);
        let first = |lane: &Lane| lane.queue.front().map(|job| job.serial);
        let (_, (_, lane)) = lanes
            .filter_map(|(key, lane)| Some((first(lane)?, (key, lane))))
            .min_by_key(|(serial, _)| *serial)?;
        lane.queue.pop_front()
    }

    pub(super) fn is_open(&self, key: &LaneKey) -> bool {
        self.lanes.get(key).is_some_and(|lane| lane.breaker.is_open())
    }

    pub(super) fn has_queued(&self, key: &LaneKey) -> bool {
        self.lanes.get(key).is_some_and(|lane| !lane.queue.is_empty())
    }

    pub(super) fn keys(&self) -> Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }

    /// Forgets the lanes nobody uses, and what they know about their servers.
    pub(super) fn forget_idle(&mut self) {
        self.lanes
            .retain(|_, lane| lane.in_flight > 0 || !lane.queue.is_empty());
    }

    /// The lowest bound and the worst breaker of the lanes of `endpoint`.
    pub(super) fn health(&self, endpoint: Endpoint, ceiling: usize) -> (usize, BreakerState) {
        let lanes = self
            .lanes
            .iter()
            .filter(|(key, _)| key.0 == endpoint)
            .map(|(_, lane)| lane);
        lanes.fold((ceiling, BreakerState::Closed), |(limit, state), lane| {
            (limit.min(lane.adapt.limit(ceiling)), state.max(lane.state()))
        })
    }
}

impl Lane {
    /// Whether a call may start now. Where that makes it a probe, the pause until the next one begins.
    fn admits(&mut self, rules: Rules) -> bool {
        match self.breaker.probe_at() {
            None => self.in_flight < self.adapt.limit(rules.in_flight),
            Some(at) if at > rules.now => false,
            Some(_) => {
                self.breaker.probe(rules.now, rules.breaker, rules.chance);
                true
            }
        }
    }

    fn start(&mut self, mut job: Job) -> Job {
        self.in_flight += 1;
        job.call = self.calls;
        self.calls += 1;
        job
    }

    fn start_queued(&mut self, rules: Rules) -> Option<Job> {
        if self.queue.is_empty() || !self.admits(rules) {
            return None;
        }
        // A probe is the oldest of those whose calls do not fail always: what those say is known.
        let at = if self.breaker.is_open() {
            let is_new = |job: &Job| !self.sources.is_failing(job.source, rules.now);
            self.queue.iter().take(PROBES_TRIED).position(is_new).unwrap_or(0)
        } else {
            0
        };
        let job = self.queue.remove(at)?;
        Some(self.start(job))
    }

    fn open(&mut self, rules: Rules) -> Option<Turn> {
        self.breaker.open(self.calls, rules.now, rules.breaker, rules.chance);
        Some(Turn::Opened)
    }

    fn want_check(&mut self) {
        if self.check == Check::None {
            self.check = Check::Wanted;
        }
    }

    fn state(&self) -> BreakerState {
        match (self.breaker.is_open(), self.breaker.is_probing()) {
            (false, _) => BreakerState::Closed,
            (true, true) => BreakerState::Probing,
            (true, false) => BreakerState::Open,
        }
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
