//! A shard that empties itself (`shard/drain.rs`).

use rainbow_server::engine::command::Command;
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::protocol::ListenerId;
use rainbow_server::time::Duration;

use crate::rig::{ADMITTED, Rig, reply};
use crate::wire::{self, Frame};

const MINUTES: &str = "drain_timeout = 600\n";

fn drain(rig: &mut Rig) {
    rig.run(ShardId(0), Command::Drain);
}

/// What each client was told by now: the code, and the delay in milliseconds.
fn told(rig: &mut Rig, id: ClientId) -> Option<(u16, u64)> {
    match &rig.frames(id)[..] {
        [] => None,
        [Frame::Close(payload)] => {
            let (code, reason) = payload.split_at(2);
            let reason = std::str::from_utf8(reason).expect("UTF-8");
            let millis = reason.strip_prefix("reconnect_after=").expect("when to come back");
            Some((
                u16::from_be_bytes([code[0], code[1]]),
                millis.parse().expect("milliseconds"),
            ))
        }
        other => panic!("{other:?}"),
    }
}

/// Closes like a correct client.
fn leave(rig: &mut Rig, id: ClientId) {
    rig.bytes(id, &wire::close(None));
    rig.end(id);
}

#[test]
fn everybody_goes_and_is_told_once() {
    let mut rig = Rig::with(2, "drain_rate = 0");
    let open: Vec<_> = (0..300).map(|_| rig.connect(0, &["c"])).collect();
    rig.bytes(open[7], &wire::send(false, 1, 1, 2, b"m"));
    let message = rig.message();
    rig.post(ShardId(0), Command::Drain);
    rig.step(0);
    assert!(rig.has_more(0), "not all in one turn");
    rig.settle();
    for id in &open {
        assert_eq!(told(&mut rig, *id).expect("told").0, 1012);
        leave(&mut rig, *id);
    }
    assert_eq!(rig.callbacks.len(), 299);
    assert_eq!(rig.drained, 0, "a message is under way");
    rig.answer_ok(&message, "");
    assert_eq!((rig.callbacks.len(), rig.drained), (300, 1));
    rig.run(ShardId(1), Command::Drain);
    assert_eq!(rig.drained, 2, "an empty shard is drained at once");
    assert!(rig.shards.iter().all(|shard| shard.next_deadline().is_none()));
    let now = rig.now;
    assert_eq!(rig.shards[0].on_accept(ListenerId::MAIN, now), None);
}

#[test]
fn clients_are_closed_at_the_pace() {
    let mut rig = Rig::with(1, &format!("{MINUTES}drain_rate = 2"));
    let open: Vec<_> = (0..10).map(|_| rig.connect(0, &["c"])).collect();
    drain(&mut rig);
    // Timers fire within 10 ms behind their time.
    rig.advance(Duration::from_millis(20));
    for second in 0..5 {
        let closed = open.iter().filter(|id| told(&mut rig, **id).is_some()).count();
        assert_eq!(closed, if second == 0 { 1 } else { 2 }, "after {second} s");
        rig.secs(1);
    }
    assert_eq!(open.iter().filter(|id| told(&mut rig, **id).is_some()).count(), 1);
}

#[test]
fn the_pace_is_divided_among_the_shards() {
    let mut rig = Rig::with(2, &format!("{MINUTES}drain_rate = 2"));
    let open: Vec<_> = (0..4).map(|_| rig.connect(0, &["c"])).collect();
    drain(&mut rig);
    rig.advance(Duration::from_millis(2500));
    assert_eq!(open.iter().filter(|id| told(&mut rig, **id).is_some()).count(), 3);
}

#[test]
fn where_time_is_short_everybody_is_told_within_half_of_it() {
    let mut rig = Rig::with(1, "drain_timeout = 4\ndrain_rate = 1");
    let open: Vec<_> = (0..100).map(|_| rig.connect(0, &["c"])).collect();
    drain(&mut rig);
    rig.secs(1);
    let half = open.iter().filter(|id| told(&mut rig, **id).is_some()).count();
    assert!((49..=52).contains(&half), "{half} after a quarter of the time");
    rig.secs(1);
    let rest = open.iter().filter(|id| told(&mut rig, **id).is_some()).count();
    assert_eq!(half + rest, 100);
}

#[test]
fn the_delays_are_spread_evenly() {
    let mut rig = Rig::with(1, "reconnect_spread = 10\ndrain_rate = 0");
    let open: Vec<_> = (0..1000).map(|_| rig.connect(0, &[])).collect();
    drain(&mut rig);
    let mut delays: Vec<_> = open.iter().map(|id| told(&mut rig, *id).expect("told").1).collect();
    delays.sort_unstable();
    assert!(delays.iter().all(|delay| *delay <= 10_000));
    for second in 0..10 {
        let within = delays.iter().filter(|delay| **delay / 1000 == second).count();
        assert!((98..=102).contains(&within), "{within} in second {second}");
    }
    delays.dedup();
    assert!(delays.len() > 990, "only {} different ones", delays.len());
}

#[test]
fn without_a_spread_all_may_come_at_once() {
    let mut rig = Rig::with(1, "reconnect_spread = 0");
    let id = rig.connect(0, &[]);
    drain(&mut rig);
    assert_eq!(told(&mut rig, id), Some((1012, 0)));
}

#[test]
fn handshakes_go_on_and_end_in_a_close_frame() {
    let mut rig = Rig::with(1, MINUTES);
    let (asking, fresh) = (rig.accept(0), rig.accept(0));
    rig.bytes(asking, &wire::connect_request("d"));
    let first = rig.callback(Event::Connect);
    drain(&mut rig);
    rig.bytes(fresh, &wire::connect_request("d"));
    let second = rig.callback(Event::Connect);
    for (id, asked) in [(asking, first), (fresh, second)] {
        rig.answer(&asked, reply(200, &[], ADMITTED));
        assert_eq!(rig.status(id), 101);
        assert_eq!(told(&mut rig, id).expect("told").0, 1012);
        leave(&mut rig, id);
        assert_eq!(rig.callback(Event::Close).client, id);
    }
    assert_eq!(rig.drained, 1);
    assert!(rig.shards[0].next_deadline().is_none());
}

#[test]
fn handshakes_are_cut_at_half_time() {
    let mut rig = Rig::with(1, "drain_timeout = 4");
    let (asking, silent) = (rig.accept(0), rig.accept(0));
    rig.bytes(asking, &wire::connect_request("d"));
    let asked = rig.callback(Event::Connect);
    let gone = rig.accept(0);
    rig.bytes(gone, &wire::connect_request("d"));
    let asked_too = rig.callback(Event::Connect);
    rig.end(gone);
    drain(&mut rig);
    rig.advance(Duration::from_millis(1990));
    assert!(!rig.socket(asking).closed && !rig.socket(silent).closed);
    rig.advance(Duration::from_millis(20));
    assert!(rig.socket(asking).closed && rig.socket(silent).closed);
    let now = rig.now;
    assert_eq!(rig.shards[0].on_accept(ListenerId::MAIN, now), None);
    assert_eq!(rig.drained, 0, "the business server has not answered");
    rig.answer(&asked, reply(200, &[], ADMITTED));
    rig.answer(&asked_too, reply(200, &[], "{\"status\":\"no\"}"));
    assert_eq!(rig.callback(Event::Close).client, asking);
    assert!(rig.callbacks.is_empty());
    assert_eq!(rig.drained, 1);
}
