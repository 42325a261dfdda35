//! Places and queues: one lane per endpoint and server, first come, first served. Pure: time and bounds come as arguments.
//!
//! Invariant: nobody waits in a lane that has room, unless its breaker is open. Then connect callbacks are refused (a client
//! is told 503 at once and comes back), all others wait: for a probe to be answered, or for their deadline.
//!
//! Bound: a lane lives on when it is not used, because it knows how its server does; there are as many as the builder
//! names servers, and a new builder starts over ([`Lanes::forget_idle`]).

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashMap;

use super::adapt::{Adapt, Change};
use super::breaker::{self, Breaker};
use crate::engine::command::{CallbackRequest, Endpoint};
use crate::io::http::Origin;

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
    Failed,
    /// Nothing: it was our doing, or the message's.
    Unclear,
}

/// What the end of a call changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    Closed,
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

    /// Learns from the end of a call.
    pub(super) fn on_end(&mut self, key: &LaneKey, call: u64, verdict: Verdict, rules: Rules) -> Option<Turn> {
        let lane = self.lanes.get_mut(key)?;
        let (next, ceiling) = (lane.calls, rules.in_flight);
        let turned = match verdict {
            Verdict::Unclear => {
                lane.breaker.on_nothing(call);
                return None;
            }
            Verdict::Answered => lane.breaker.on_answer(call).then_some(Turn::Closed),
            Verdict::Failed => lane
                .breaker
                .on_failure(call, next, rules.now, rules.breaker, rules.chance)
                .then_some(Turn::Opened),
        };
        if turned == Some(Turn::Closed) {
            lane.adapt.restart(next, ceiling);
        }
        let change = lane.adapt.on_end(verdict == Verdict::Answered, call, next, ceiling);
        turned.or(change.map(Turn::Pace))
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
        let job = self.queue.pop_front()?;
        Some(self.start(job))
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
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::engine::ids::{ClientId, ShardId};
    use crate::io::http::Url;

    fn job(serial: u64, deadline: Instant) -> Job {
        let client = ClientId {
            shard: ShardId(0),
            slot: 0,
            generation: 0,
        };
        let request = CallbackRequest {
            client,
            token: serial,
            endpoint: Endpoint::Message,
            msgtype: 0,
            query: Bytes::new(),
            headers: Bytes::new(),
            body: Bytes::new(),
        };
        Job {
            serial,
            call: 0,
            submitted: deadline,
            deadline,
            attempts: 0,
            request,
        }
    }

    fn key(endpoint: Endpoint) -> LaneKey {
        (endpoint, Url::parse(b"http://h/").unwrap().origin)
    }

    fn bound(in_flight: usize, now: Instant) -> Rules {
        Rules {
            in_flight,
            queued: 10,
            breaker: breaker::Rules {
                failures: 2,
                pause: Duration::from_secs(1),
                pause_max: Duration::from_secs(2),
            },
            now,
            chance: 1.0,
        }
    }

    #[test]
    fn a_waiting_callback_stays_small() {
        assert!(size_of::<Job>() <= 256, "{}", size_of::<Job>());
    }

    #[test]
    fn a_lowered_bound_takes_places_away_and_an_idle_lane_is_forgotten() {
        let (mut lanes, now, key) = (Lanes::default(), Instant::now(), key(Endpoint::Message));
        let later = now + Duration::from_secs(1);
        for serial in 0..5 {
            lanes.place(&key, job(serial, later), bound(3, now));
        }
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Idle));
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Idle));
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Start(job) if job.serial == 3));
        assert!(lanes.start_queued(&key, bound(1, now)).is_none());
        assert!(
            lanes
                .start_queued(&key, bound(2, now))
                .is_some_and(|job| job.serial == 4)
        );
        assert!(lanes.start_queued(&key, bound(9, now)).is_none(), "nobody waits");
        lanes.forget_idle();
        assert_eq!(lanes.keys().len(), 1);
        for _ in 0..2 {
            assert!(matches!(lanes.next(&key, bound(2, now)), Next::Idle));
        }
        lanes.forget_idle();
        assert!(lanes.keys().is_empty());
    }

    #[test]
    fn late_ones_are_found_by_the_tick_or_when_their_turn_comes() {
        let (mut lanes, now, key) = (Lanes::default(), Instant::now(), key(Endpoint::Message));
        let at = |millis| now + Duration::from_millis(millis);
        for serial in 0..4 {
            lanes.place(&key, job(serial, at(10 * serial)), bound(1, now));
        }
        assert!(lanes.take_late(at(9)).is_none());
        assert_eq!(lanes.look_at(), Some(at(10)));
        assert!(lanes.take_late(at(10)).is_some_and(|job| job.serial == 1));
        assert!(lanes.take_late(at(10)).is_none());
        assert!(matches!(lanes.next(&key, bound(1, at(20))), Next::Late(job) if job.serial == 2));
        assert!(matches!(lanes.next(&key, bound(1, at(20))), Next::Start(job) if job.serial == 3));
        assert_eq!(lanes.look_at(), None);
    }

    /// Opens the breaker of a lane with one place, behind which two callbacks wait.
    fn broken(key: &LaneKey, now: Instant) -> Lanes {
        let mut lanes = Lanes::default();
        for serial in 0..3 {
            lanes.place(key, job(serial, now + Duration::from_secs(9)), bound(1, now));
        }
        assert_eq!(lanes.on_end(key, 0, Verdict::Failed, bound(1, now)), None);
        assert_eq!(lanes.on_end(key, 0, Verdict::Failed, bound(1, now)), Some(Turn::Opened));
        lanes
    }

    #[test]
    fn behind_an_open_breaker_messages_wait_and_the_oldest_probes() {
        let (now, key) = (Instant::now(), key(Endpoint::Message));
        let mut lanes = broken(&key, now);
        let at = |secs| now + Duration::from_secs(secs);
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Idle));
        assert!(matches!(lanes.place(&key, job(3, at(9)), bound(1, now)), Placed::Queued(look) if look == at(1)));
        assert!(lanes.due_probes(now).is_empty() && lanes.look_at() == Some(at(1)));
        assert_eq!(lanes.health(Endpoint::Message, 5), (5, BreakerState::Open));

        assert_eq!(lanes.due_probes(at(1)).len(), 1);
        let probe = lanes.start_queued(&key, bound(1, at(1))).unwrap();
        assert_eq!(
            (probe.serial, lanes.health(Endpoint::Message, 5).1),
            (1, BreakerState::Probing)
        );
        assert!(lanes.start_queued(&key, bound(1, at(1))).is_none());
        let second = lanes.start_queued(&key, bound(1, at(3))).unwrap();
        assert_eq!(second.serial, 2, "a hanging probe does not hold up the next");
        assert_eq!(
            lanes.on_end(&key, second.call, Verdict::Answered, bound(1, at(3))),
            Some(Turn::Closed)
        );
        assert!(matches!(lanes.next(&key, bound(9, at(3))), Next::Start(job) if job.serial == 3));
    }

    #[test]
    fn behind_an_open_breaker_connects_are_refused() {
        let (now, key) = (Instant::now(), key(Endpoint::Connect));
        let mut lanes = broken(&key, now);
        let later = now + Duration::from_secs(1);
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Refused(job) if job.serial == 1));
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Refused(job) if job.serial == 2));
        assert!(matches!(lanes.next(&key, bound(1, now)), Next::Idle));
        assert!(matches!(
            lanes.place(&key, job(3, later), bound(1, now)),
            Placed::Refused(_)
        ));
        assert!(matches!(lanes.place(&key, job(4, later), bound(1, later)), Placed::Start(job) if job.serial == 4));
        assert!(matches!(
            lanes.place(&key, job(5, later), bound(1, later)),
            Placed::Refused(_)
        ));
    }
}
