//! Places and queues: one lane per endpoint and server, first come, first served. Pure: time and bounds come as arguments.
//!
//! Invariants: a lane exists only while it is used; nobody waits in a lane that has room.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashMap;

use super::LaneLimits;
use crate::engine::command::{CallbackRequest, Endpoint};
use crate::io::http::Origin;

/// Names a lane.
pub(super) type LaneKey = (Endpoint, Rc<Origin>);

/// One callback on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// Order of submission.
    pub(super) serial: u64,
    /// When it must have ended, wherever it is then.
    pub(super) deadline: Instant,
    /// Attempts that failed so far.
    pub(super) attempts: u32,
    pub(super) request: CallbackRequest,
}

#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
    /// When the tick has to look at the queues: not later than the first deadline in them.
    look_at: Option<Instant>,
}

#[derive(Default)]
struct Lane {
    in_flight: usize,
    queue: VecDeque<Job>,
}

/// What happened to a new callback.
pub(super) enum Placed {
    /// There is room: to be started now; its place is taken.
    Start(Job),
    Queued,
    /// The queue is full.
    Refused(Job),
}

/// What a place that has become free is used for.
pub(super) enum Next {
    /// To be started now.
    Start(Job),
    /// Waited too long; ask again.
    Late(Job),
    /// Nothing: the place is given back.
    Idle,
}

impl Lanes {
    pub(super) fn place(&mut self, key: &LaneKey, job: Job, limits: LaneLimits) -> Placed {
        let lane = self.lanes.entry_ref(key).or_default();
        if lane.in_flight < limits.in_flight.max(1) && lane.queue.is_empty() {
            lane.in_flight += 1;
            return Placed::Start(job);
        }
        if lane.queue.len() >= limits.queued && key.0 != Endpoint::Close {
            return Placed::Refused(job); // of close callbacks the oldest has given way already
        }
        self.look_at = Some(self.look_at.map_or(job.deadline, |at| at.min(job.deadline)));
        lane.queue.push_back(job);
        Placed::Queued
    }

    /// To be asked when a call has ended.
    pub(super) fn next(&mut self, key: &LaneKey, limits: LaneLimits, now: Instant) -> Next {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Next::Idle;
        };
        if lane.in_flight <= limits.in_flight.max(1)
            && let Some(job) = lane.queue.pop_front()
        {
            return if job.deadline <= now {
                Next::Late(job)
            } else {
                Next::Start(job)
            };
        }
        lane.in_flight -= 1;
        if lane.in_flight == 0 && lane.queue.is_empty() {
            self.lanes.remove(key);
        }
        Next::Idle
    }

    /// A queued callback for which there is room now, after the bounds were raised.
    pub(super) fn start_queued(&mut self, key: &LaneKey, limits: LaneLimits) -> Option<Job> {
        let lane = self.lanes.get_mut(key)?;
        if lane.in_flight >= limits.in_flight.max(1) {
            return None;
        }
        let job = lane.queue.pop_front()?;
        lane.in_flight += 1;
        Some(job)
    }

    /// A callback whose deadline has passed in its queue. Only the heads of the queues are looked at, and only when one
    /// can be late: one time-out for all makes deadlines ascend. (A close callback on its second attempt may stand behind
    /// younger ones; it is found late when it comes to the head.)
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Job> {
        if self.look_at.is_none_or(|at| at > now) {
            return None;
        }
        for lane in self.lanes.values_mut() {
            if lane.queue.front().is_some_and(|job| job.deadline <= now) {
                return lane.queue.pop_front();
            }
        }
        let heads = self.lanes.values().filter_map(|lane| lane.queue.front());
        self.look_at = heads.map(|job| job.deadline).min();
        None
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
            deadline,
            attempts: 0,
            request,
        }
    }

    fn key() -> LaneKey {
        (Endpoint::Message, Url::parse(b"http://h/").unwrap().origin)
    }

    fn bound(in_flight: usize) -> LaneLimits {
        LaneLimits { in_flight, queued: 10 }
    }

    #[test]
    fn a_lowered_bound_takes_places_away_and_an_empty_lane_vanishes() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        for serial in 0..5 {
            lanes.place(&key(), job(serial, later), bound(3));
        }
        assert!(matches!(lanes.next(&key(), bound(1), now), Next::Idle));
        assert!(matches!(lanes.next(&key(), bound(1), now), Next::Idle));
        assert!(matches!(lanes.next(&key(), bound(1), now), Next::Start(job) if job.serial == 3));
        assert!(lanes.start_queued(&key(), bound(1)).is_none());
        assert!(lanes.start_queued(&key(), bound(2)).is_some_and(|job| job.serial == 4));
        assert!(lanes.start_queued(&key(), bound(9)).is_none(), "nobody waits");
        for _ in 0..2 {
            assert!(matches!(lanes.next(&key(), bound(2), now), Next::Idle));
        }
        assert!(lanes.keys().is_empty());
    }

    #[test]
    fn late_ones_are_found_by_the_tick_or_when_their_turn_comes() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        for serial in 0..4 {
            lanes.place(&key(), job(serial, at(10 * serial)), bound(1));
        }
        assert!(lanes.take_late(at(9)).is_none());
        assert!(lanes.take_late(at(10)).is_some_and(|job| job.serial == 1));
        assert!(lanes.take_late(at(10)).is_none());
        assert!(matches!(lanes.next(&key(), bound(1), at(20)), Next::Late(job) if job.serial == 2));
        assert!(matches!(lanes.next(&key(), bound(1), at(20)), Next::Start(job) if job.serial == 3));
    }
}
