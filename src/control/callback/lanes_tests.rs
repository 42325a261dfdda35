//! Tests of [`super`], by behaviour.

use std::time::Duration;

use bytes::Bytes;

use super::super::breaker;
use super::*;
use crate::engine::command::CallbackRequest;
use crate::engine::hook::{Event, HookDoor};
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
        hook: hook(Event::Message),
        msgtype: 0,
        query: Bytes::new(),
        headers: Bytes::new(),
        body: Bytes::new(),
        address: 0,
    };
    Job {
        serial,
        call: 0,
        submitted: deadline,
        deadline,
        attempts: 0,
        source: serial,
        request,
    }
}

fn hook(event: Event) -> Hook {
    HookDoor(1).on(event)
}

fn key(event: Event) -> LaneKey {
    (hook(event), Url::parse(b"http://h/").unwrap().origin)
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
    let (mut lanes, now, key) = (Lanes::default(), Instant::now(), key(Event::Message));
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
    let (mut lanes, now, key) = (Lanes::default(), Instant::now(), key(Event::Message));
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
    assert_eq!(lanes.on_end(key, 0, 0, Verdict::Down, bound(1, now)), None);
    assert_eq!(
        lanes.on_end(key, 0, 0, Verdict::Down, bound(1, now)),
        Some(Turn::Opened)
    );
    lanes
}

#[test]
fn behind_an_open_breaker_messages_wait_and_the_oldest_probes() {
    let (now, key) = (Instant::now(), key(Event::Message));
    let mut lanes = broken(&key, now);
    let at = |secs| now + Duration::from_secs(secs);
    assert!(matches!(lanes.next(&key, bound(1, now)), Next::Idle));
    assert!(matches!(lanes.place(&key, job(3, at(9)), bound(1, now)), Placed::Queued(look) if look == at(1)));
    assert!(lanes.due_probes(now).is_empty() && lanes.look_at() == Some(at(1)));
    assert_eq!(lanes.health(hook(Event::Message), 5), (5, BreakerState::Open));

    assert_eq!(lanes.due_probes(at(1)).len(), 1);
    let probe = lanes.start_queued(&key, bound(1, at(1))).unwrap();
    assert_eq!(
        (probe.serial, lanes.health(hook(Event::Message), 5).1),
        (1, BreakerState::Probing)
    );
    assert!(lanes.start_queued(&key, bound(1, at(1))).is_none());
    let second = lanes.start_queued(&key, bound(1, at(3))).unwrap();
    assert_eq!(second.serial, 2, "a hanging probe does not hold up the next");
    assert_eq!(
        lanes.on_end(&key, second.call, 2, Verdict::Answered, bound(1, at(3))),
        Some(Turn::Closed)
    );
    assert!(matches!(lanes.next(&key, bound(9, at(3))), Next::Start(job) if job.serial == 3));
}

/// `count` calls fail the way one can bring about, of `sources` clients in turn.
fn fail(lanes: &mut Lanes, key: &LaneKey, count: u64, sources: u64, now: Instant) -> Option<Turn> {
    (0..count)
        .filter_map(|n| lanes.on_end(key, 0, n % sources, Verdict::Failed, bound(64, now)))
        .find(|turn| !matches!(turn, Turn::Pace(_)))
}

#[test]
fn what_clients_can_bring_about_opens_only_if_it_is_everybody() {
    let (now, key) = (Instant::now(), key(Event::Message));
    let at = |secs| now + Duration::from_secs(secs);
    let mut lanes = Lanes::default();
    lanes.place(&key, job(0, at(9)), bound(1, now));
    lanes.on_end(&key, 0, 77, Verdict::Answered, bound(1, now));
    assert_eq!(
        fail(&mut lanes, &key, 1000, 3, at(3)),
        None,
        "three of them, and another is answered"
    );
    assert_eq!(
        lanes.health(hook(Event::Message), 64).0,
        64,
        "and nobody is slowed down"
    );
    assert_eq!(
        fail(&mut lanes, &key, 100, 4, at(1)),
        None,
        "four, but the server was heard a second ago"
    );
    assert_eq!(fail(&mut lanes, &key, 100, 4, at(3)), Some(Turn::Opened));
    let mut lanes = Lanes::default();
    lanes.place(&key, job(0, at(9)), bound(1, now));
    lanes.on_end(&key, 0, 77, Verdict::Answered, bound(1, now));
    let down = (0..2).filter_map(|_| lanes.on_end(&key, 0, 1, Verdict::Down, bound(1, now)));
    assert_eq!(
        down.last(),
        Some(Turn::Opened),
        "nothing a client does refuses connections"
    );
}

#[test]
fn where_anybody_may_ask_the_server_itself_is_asked() {
    let (now, key) = (Instant::now(), key(Event::Connect));
    let at = |secs| now + Duration::from_secs(secs);
    let mut lanes = Lanes::default();
    lanes.place(&key, job(0, at(9)), bound(1, now));
    assert_eq!(fail(&mut lanes, &key, 1, 9, now), None);
    assert!(!lanes.wants_check(&key));
    assert_eq!(fail(&mut lanes, &key, 1, 9, now), None);
    assert!(lanes.wants_check(&key) && !lanes.wants_check(&key), "one at a time");
    assert_eq!(lanes.on_checked(&key, true, bound(1, at(1))), Some(Turn::Exonerated));
    assert_eq!(fail(&mut lanes, &key, 100, 9, at(2)), None);
    assert!(!lanes.wants_check(&key), "heard a second ago");
    assert_eq!(fail(&mut lanes, &key, 1, 9, at(3)), None);
    assert!(lanes.wants_check(&key));
    assert_eq!(lanes.on_checked(&key, false, bound(1, at(3))), Some(Turn::Opened));
    assert!(matches!(
        lanes.place(&key, job(1, at(9)), bound(1, at(3))),
        Placed::Refused(_)
    ));
    assert!(matches!(
        lanes.place(&key, job(1, at(9)), bound(1, at(4))),
        Placed::Start(_)
    ));
    assert!(lanes.wants_check(&key), "the probe is of one that failed");
    assert_eq!(lanes.on_checked(&key, true, bound(1, at(4))), Some(Turn::Closed));
    assert_eq!(fail(&mut lanes, &key, 2, 9, at(7)), None);
    assert!(lanes.wants_check(&key));
    lanes.on_end(&key, 9, 5, Verdict::Answered, bound(1, at(7)));
    assert_eq!(
        lanes.on_checked(&key, false, bound(1, at(7))),
        None,
        "answered meanwhile"
    );
}

#[test]
fn a_probe_is_one_whose_calls_do_not_always_fail() {
    let (now, key) = (Instant::now(), key(Event::Message));
    let mut lanes = Lanes::default();
    let later = now + Duration::from_secs(9);
    lanes.place(&key, job(0, later), bound(1, now));
    assert_eq!(fail(&mut lanes, &key, 2, 1, now), Some(Turn::Opened));
    for serial in [0, 0, 5, 6] {
        assert!(matches!(
            lanes.place(&key, job(serial, later), bound(1, now)),
            Placed::Queued(_)
        ));
    }
    let at = |secs| now + Duration::from_secs(secs);
    let serials = [1, 4, 7].map(|secs| lanes.start_queued(&key, bound(1, at(secs))).map(|job| job.serial));
    assert_eq!(serials, [Some(5), Some(6), Some(0)]);
}

#[test]
fn behind_an_open_breaker_connects_are_refused() {
    let (now, key) = (Instant::now(), key(Event::Connect));
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
