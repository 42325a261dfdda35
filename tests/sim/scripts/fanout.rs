//! Large channels in slices, batches of one turn (`shard/fanout.rs`).

use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{Command, Qos};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::limits::{FANOUT_SLICE_BYTES, FANOUT_SLICE_MEMBERS, FANOUT_WAITING_BYTES_MAX, RETRY_SLICE_MEMBERS};
use rainbow_server::shard::Input;
use rainbow_server::shard::turn::Length;
use rainbow_server::time::Duration;

use crate::rig::{ADMITTED, Rig, channel, reply};
use crate::wire::{self, Frame, Packet};

const HOME: ShardId = ShardId(0);

fn crowd(rig: &mut Rig, count: usize) -> Vec<ClientId> {
    (0..count).map(|_| rig.connect(0, &["large"])).collect()
}

fn payloads(rig: &mut Rig, id: ClientId) -> Vec<String> {
    let payload = |packet| match packet {
        Packet::Send { payload, .. } => String::from_utf8(payload).unwrap(),
        other => panic!("{other:?}"),
    };
    rig.packets(id).into_iter().map(payload).collect()
}

fn post(rig: &mut Rig, name: &str, qos: Qos, payload: &str) -> Ticket {
    let (ticket, command) = rig.publish_command(name, qos, payload.as_bytes(), 10);
    rig.post(HOME, command);
    ticket
}

#[test]
fn a_small_channel_is_served_between_the_slices_of_a_large_one() {
    let mut rig = Rig::new(1);
    let large = crowd(&mut rig, 1000);
    let small = rig.connect(0, &["small"]);
    post(&mut rig, "large", Qos::AtMostOnce, "1");
    rig.step(0);
    assert!(rig.has_more(0));
    post(&mut rig, "small", Qos::AtMostOnce, "s");
    post(&mut rig, "large", Qos::AtMostOnce, "2");
    rig.step(0);
    assert_eq!(payloads(&mut rig, small), ["s"]);
    let served = large
        .iter()
        .filter(|id| !rig.nets[0].sockets[id].out.is_empty())
        .count();
    assert_eq!(served, 2 * FANOUT_SLICE_MEMBERS);
    rig.settle();
    for id in large {
        assert_eq!(payloads(&mut rig, id), ["1", "2"], "order is kept");
    }
}

#[test]
fn other_clients_do_not_make_a_slice_longer() {
    let mut rig = Rig::new(1);
    let large = crowd(&mut rig, 1000);
    post(&mut rig, "large", Qos::AtMostOnce, "1");
    rig.step(0);
    let served = |rig: &Rig| {
        large
            .iter()
            .filter(|id| !rig.nets[0].sockets[id].out.is_empty())
            .count()
    };
    let before = served(&rig);
    // What the shell does for each client with input between two turns of the mailbox.
    for _ in 0..10 {
        rig.turn_of(Length::Short, ShardId(0), |_, _, _| ());
        assert!(rig.has_more(0));
    }
    assert_eq!(served(&rig), before);
    rig.turn(ShardId(0), |_, _, _| ());
    assert!(rig.has_more(0));
    assert_eq!(served(&rig), before + FANOUT_SLICE_MEMBERS);
}

#[test]
fn slices_are_bounded_in_bytes_too() {
    let mut rig = Rig::new(1);
    // Too few for slices, were it not for the size.
    let ids = crowd(&mut rig, 10);
    let payload = "x".repeat(FANOUT_SLICE_BYTES / 2 - 1);
    post(&mut rig, "large", Qos::AtMostOnce, &payload);
    for served in [2, 4, 6, 8, 10] {
        rig.step(0);
        let now = ids.iter().filter(|id| !rig.nets[0].sockets[id].out.is_empty()).count();
        assert_eq!(now, served);
    }
    // One client at least, whatever the size.
    let ids = (0..2).map(|_| rig.connect(0, &["huge"])).collect::<Vec<_>>();
    post(&mut rig, "huge", Qos::AtMostOnce, &"x".repeat(2 * FANOUT_SLICE_BYTES));
    rig.step(0);
    assert_eq!(
        ids.iter().filter(|id| !rig.nets[0].sockets[id].out.is_empty()).count(),
        1
    );
    rig.settle();
    ids.iter().for_each(|id| assert_eq!(payloads(&mut rig, *id).len(), 1));
}

#[test]
fn two_large_channels_take_turns() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..600).map(|_| rig.connect(0, &["x", "y"])).collect();
    post(&mut rig, "x", Qos::AtMostOnce, "x");
    post(&mut rig, "y", Qos::AtMostOnce, "y");
    rig.step(0);
    rig.step(0);
    let both = ids.iter().filter(|id| rig.nets[0].sockets[id].writes == 3).count();
    assert_eq!(both, FANOUT_SLICE_MEMBERS, "one slice each");
    rig.settle();
    for id in ids {
        assert_eq!(payloads(&mut rig, id).len(), 2);
    }
}

#[test]
fn who_leaves_before_its_turn_is_skipped_and_who_comes_is_not_served_twice() {
    let mut rig = Rig::new(1);
    let ids = crowd(&mut rig, 1100);
    let ticket = post(&mut rig, "large", Qos::AtLeastOnce, "1");
    rig.step(0);
    let waiting: Vec<_> = ids
        .iter()
        .copied()
        .filter(|id| rig.nets[0].sockets[id].out.is_empty())
        .collect();
    assert_eq!(waiting.len(), 1100 - FANOUT_SLICE_MEMBERS);
    // Each turn serves a slice; these two are in the second and in the last one.
    let (leaver, acker, closer) = (waiting[0], waiting[1], waiting[waiting.len() - 1]);
    let leave = Command::Leave {
        client: leaver,
        channel: crate::rig::channel("large"),
        ticket: rig.ticket(),
    };
    rig.batch(0, [leave]);
    rig.turn(HOME, |shard, net, now| {
        shard.on_end(closer, CloseCause::ClientGone, now, net)
    });
    rig.callback(Event::Close);
    let late = rig.accept(0);
    let mut request = wire::connect_request("late");
    let asked = rig.shards[0].on_bytes(late, &mut request, rig.now, &mut rig.nets[0]);
    assert_eq!(asked, Input::Continue);
    let outcome = reply(200, &[("rainbowclientchannel", "large")], ADMITTED);
    rig.batch(
        0,
        [Command::CallbackDone {
            client: late,
            token: 0,
            outcome,
        }],
    );
    assert_eq!(rig.status(late), 101);
    assert!(rig.has_more(0), "still slicing");
    assert_eq!(
        (late.slot, late.generation),
        (closer.slot, closer.generation + 1),
        "in the slot of the closed one"
    );
    rig.settle();
    assert!(payloads(&mut rig, leaver).is_empty());
    assert!(payloads(&mut rig, late).is_empty(), "it joined later");
    assert_eq!(payloads(&mut rig, acker), ["1"]);
    for id in ids.iter().filter(|id| ![leaver, closer].contains(id)) {
        rig.bytes(*id, &wire::ack(1, b""));
    }
    assert_eq!(
        rig.part(ticket),
        Some((1098, 0, 0, String::new())),
        "the members at fan-out, less those that left before"
    );
}

#[test]
fn retries_of_a_large_channel_are_sliced_too() {
    let mut rig = Rig::new(1);
    let ids = crowd(&mut rig, 1000);
    rig.publish("large", Qos::AtLeastOnce, b"1", 4);
    ids.iter().for_each(|id| assert_eq!(rig.packets(*id).len(), 1));
    rig.bytes(ids[5], &wire::ack(1, b""));
    rig.advance(Duration::from_millis(2_990));
    rig.now = rig.now + Duration::from_millis(20);
    for slice in 1..5 {
        rig.turn(HOME, |shard, net, now| shard.on_tick(now, net));
        let served = ids.iter().filter(|id| !rig.nets[0].sockets[id].out.is_empty()).count();
        // One had answered, one will be gone when its slice comes.
        assert_eq!(served, (slice * RETRY_SLICE_MEMBERS - 1).min(998));
        // Answers and ends between two slices.
        if slice == 2 {
            rig.bytes(ids[0], &wire::ack(1, b""));
            rig.end(ids[999]);
        }
    }
}

#[test]
fn rounds_of_a_large_channel_keep_their_count() {
    let mut rig = Rig::new(1);
    let ids = crowd(&mut rig, 1000);
    let ticket = rig.publish("large", Qos::AtLeastOnce, b"1", 7);
    for id in &ids[..100] {
        rig.bytes(*id, &wire::ack(1, b""));
    }
    rig.secs(4);
    for id in &ids[900..] {
        rig.bytes(*id, &wire::ack(1, b""));
    }
    rig.secs(4);
    assert_eq!(rig.part(ticket), Some((200, 0, 800, String::new())));
    rig.secs(2);
    for (at, id) in ids.iter().enumerate() {
        let frames = rig.frames(*id);
        let pings = frames.iter().filter(|frame| **frame == Frame::Ping).count();
        let expected = match at {
            0..100 => (1, 0),
            100..900 => (4, 1),
            _ => (2, 0),
        };
        assert_eq!((frames.len(), pings), expected, "{at}");
    }
    assert_eq!(rig.shards[0].debug_counts().deliveries, 0);
}

#[test]
fn acknowledgements_during_the_slicing_count() {
    let mut rig = Rig::new(1);
    let ids = crowd(&mut rig, 600);
    let ticket = post(&mut rig, "large", Qos::ExactlyOnce, "1");
    while !ids.iter().all(|id| rig.nets[0].sockets[id].out.is_empty()) || rig.published.is_empty() || rig.has_more(0) {
        rig.step(0);
        for id in &ids {
            if !rig.nets[0].sockets[id].out.is_empty() {
                rig.packets(*id);
                let mut ack = wire::ack(1, b"");
                rig.turn(HOME, |shard, net, now| shard.on_bytes(*id, &mut ack, now, net));
            }
        }
    }
    assert_eq!(rig.part(ticket), Some((600, 0, 0, String::new())));
    assert_eq!(rig.shards[0].next_deadline(), None);
}

#[test]
fn publishes_during_the_slicing_wait_for_their_turn() {
    let mut rig = Rig::new(1);
    let ids = crowd(&mut rig, 700);
    for n in 0..5 {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][n % 3];
        post(&mut rig, "large", qos, &n.to_string());
        rig.step(0);
    }
    rig.settle();
    for id in &ids {
        assert_eq!(payloads(&mut rig, *id), ["0", "1", "2", "3", "4"]);
    }
    // A large channel that became small while publishes waited.
    post(&mut rig, "large", Qos::AtMostOnce, "a");
    rig.step(0);
    post(&mut rig, "large", Qos::AtMostOnce, "b");
    rig.step(0);
    ids[10..].iter().for_each(|id| rig.end(*id));
    post(&mut rig, "large", Qos::AtMostOnce, "c");
    rig.settle();
    for id in &ids[..10] {
        let got = payloads(&mut rig, *id);
        assert_eq!(got, ["a", "b", "c"]);
    }
}

#[test]
fn one_turn_is_one_write_per_client() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["large"]);
    let before = rig.socket(id).writes;
    for n in 0..40 {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][n % 3];
        post(&mut rig, "large", qos, &n.to_string());
    }
    rig.step(0);
    assert_eq!(rig.socket(id).writes, before + 1);
    let expected: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut rig, id), expected, "a mix of levels keeps its order");
}

#[test]
fn every_publish_of_a_mixed_batch_has_its_own_receipt() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["large"]);
    let tickets = [Qos::AtLeastOnce, Qos::AtMostOnce, Qos::ExactlyOnce].map(|qos| post(&mut rig, "large", qos, "x"));
    rig.step(0);
    rig.bytes(id, &wire::ack(2, b"two"));
    assert_eq!(rig.part(tickets[2]), Some((1, 0, 0, "two".into())));
    assert_eq!(rig.part(tickets[0]), None);
    rig.bytes(id, &wire::ack(1, b"one"));
    assert_eq!(rig.part(tickets[0]), Some((1, 0, 0, "one".into())));
    assert_eq!(rig.part(tickets[1]), None, "nobody acknowledges it");
}

#[test]
fn a_batch_is_bounded() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["large"]);
    let before = rig.socket(id).writes;
    for n in 0..300 {
        post(&mut rig, "large", Qos::AtMostOnce, &n.to_string());
    }
    rig.step(0);
    assert_eq!(rig.socket(id).writes, before + 3);
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut rig, id), expected);
}

#[test]
fn what_waits_behind_a_large_channel_is_bounded() {
    let mut rig = Rig::new(1);
    crowd(&mut rig, FANOUT_SLICE_MEMBERS + 1);
    post(&mut rig, "large", Qos::AtMostOnce, "first");
    rig.step(0);
    let payload = vec![b'x'; FANOUT_WAITING_BYTES_MAX + 1];
    let (_, publish) = rig.publish_command("large", Qos::AtMostOnce, &payload, 10);
    let vacate = Command::Vacate {
        channel: channel("large"),
    };
    assert!(!rig.shards[0].is_full());
    // Not a turn: the slice under way would be done at its end.
    for command in [publish, vacate] {
        rig.shards[0].on_command(command, rig.now, &mut rig.nets[0]);
    }
    assert!(rig.shards[0].is_full());
    rig.settle();
    assert!(!rig.shards[0].is_full());
}
