//! Whom a publish is for: several channels and clients, each client once; who is left out; who is counted; and what order
//! everybody sees (`shard/recipients.rs`, `shard/slicing.rs`).

use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::engine::command::{Command, Publish, Qos, Target, Tell};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::limits::FANOUT_SLICE_MEMBERS;
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;

use crate::rig::{Rig, channel};
use crate::wire::{self, Packet};

/// A publish that is counted, and answered in ten seconds at the latest.
fn counted(rig: &mut Rig, to: impl Into<Target>, payload: &str) -> Publish {
    let (ticket, deadline) = (rig.ticket(), rig.now + Duration::from_secs(10));
    Publish::once(ticket, to, 1, Bytes::from(payload.to_owned()), Tell::Counted, deadline)
}

fn untold(to: impl Into<Target>, payload: &str) -> Publish {
    Publish::untold(to, 1, Bytes::from(payload.to_owned()))
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| channel(name)).collect()
}

/// Posts without running anything.
fn post(rig: &mut Rig, publish: Publish) -> Ticket {
    let (ticket, shard) = (publish.ticket, publish.to.distributor(&rig.home).expect("somebody"));
    rig.post(shard, Command::Publish(Arc::new(publish)));
    ticket
}

fn run(rig: &mut Rig, publish: Publish) -> Ticket {
    let ticket = post(rig, publish);
    rig.settle();
    ticket
}

fn payloads(rig: &mut Rig, id: ClientId) -> Vec<String> {
    let payload = |packet| match packet {
        Packet::Send { payload, .. } => String::from_utf8(payload).unwrap(),
        other => panic!("{other:?}"),
    };
    rig.packets(id).into_iter().map(payload).collect()
}

/// The parts of a publish, added up: how many, done, failed, silent.
fn parts(rig: &Rig, ticket: Ticket) -> (usize, u32, u32, u32) {
    let parts: Vec<_> = rig.parts.iter().filter(|part| part.ticket == ticket).collect();
    let sum = |of: fn(&rainbow_server::engine::command::Part) -> u32| parts.iter().map(|part| of(part)).sum();
    (
        parts.len(),
        sum(|part| part.done),
        sum(|part| part.failed),
        sum(|part| part.silent),
    )
}

#[test]
fn in_however_many_sets_a_client_is_it_gets_one() {
    for first in 0..2 {
        let mut rig = Rig::new(3);
        let (a, b) = (rig.channel_at(first), rig.channel_at(2));
        let both = [0, 1, 2].map(|shard| rig.connect(shard, &[&a, &b]));
        let one = [rig.connect(0, &[&a]), rig.connect(1, &[&b])];
        let alone = rig.connect(2, &[]);
        let other = rig.connect(1, &["other"]);
        let clients = vec![both[1], alone, alone];
        let to = || Target::any(names(&[&a, &b, &a]), clients.clone());
        let publish = counted(&mut rig, to(), "x");
        let ticket = run(&mut rig, publish);
        for id in both.into_iter().chain(one).chain([alone]) {
            assert_eq!(payloads(&mut rig, id), ["x"]);
        }
        assert!(payloads(&mut rig, other).is_empty());
        assert_eq!(parts(&rig, ticket), (3, 6, 0, 0));

        // With acknowledgement too: each has to give one.
        let (ticket, deadline) = (rig.ticket(), rig.now + Duration::from_secs(10));
        let mut publish = Publish::once(ticket, to(), 1, Bytes::from_static(b"q"), Tell::Acknowledged, deadline);
        (publish.qos, publish.retry_interval) = (Qos::AtLeastOnce, Duration::from_secs(3));
        run(&mut rig, publish);
        for id in both.into_iter().chain(one).chain([alone]) {
            let packets = rig.packets(id);
            let [Packet::Send { id: number, .. }] = packets[..] else {
                panic!("{packets:?}")
            };
            rig.bytes(id, &wire::ack(number, b""));
        }
        assert_eq!(parts(&rig, ticket), (3, 6, 0, 0));
    }
}

#[test]
fn who_is_left_out_gets_all_the_others() {
    let mut rig = Rig::new(2);
    let name = rig.channel_at(1);
    let ids = [0, 0, 1, 1].map(|shard| rig.connect(shard, &[&name]));
    let said = [(0, "a"), (1, "b"), (0, "c"), (3, "d")];
    // All in one turn, so in one batch.
    for (speaker, payload) in said {
        post(&mut rig, untold(channel(&name), payload).except(vec![ids[speaker]]));
    }
    post(&mut rig, untold(channel(&name), "all"));
    rig.settle();
    for (number, id) in ids.into_iter().enumerate() {
        let others = said.iter().filter(|(speaker, _)| *speaker != number);
        let expected: Vec<_> = others.map(|(_, payload)| *payload).chain(["all"]).collect();
        assert_eq!(payloads(&mut rig, id), expected, "client {number}");
        assert_eq!(rig.socket(id).writes, 2, "its answer, and one for all of these");
    }
}

#[test]
fn who_is_left_out_is_no_member_of_the_count() {
    let mut rig = Rig::new(1);
    let ids = [0; 3].map(|_| rig.connect(0, &["room"]));
    let publish = counted(&mut rig, channel("room"), "x").except(vec![ids[1]]);
    let ticket = run(&mut rig, publish);
    assert_eq!(parts(&rig, ticket), (1, 2, 0, 0));
    assert_eq!(payloads(&mut rig, ids[1]).len(), 0);
    // The same of acknowledgements, also if it is the last one that is missing.
    let (ticket, command) = rig.publish_command("room", Qos::AtLeastOnce, b"q", 10);
    let Command::Publish(publish) = command else { panic!() };
    let publish = Publish::clone(&publish).except(vec![ids[0], ids[1]]);
    run(&mut rig, publish);
    assert!(payloads(&mut rig, ids[0]).starts_with(&["x".to_owned()]));
    let packets = rig.packets(ids[2]);
    let [_, Packet::Send { id, .. }] = packets[..] else {
        panic!("{packets:?}")
    };
    rig.bytes(ids[2], &wire::ack(id, b""));
    assert_eq!(parts(&rig, ticket), (1, 1, 0, 0));
    assert_eq!(rig.shards[0].debug_counts().deliveries, 0);
}

/// A handle of somebody gone leaves nobody out.
#[test]
fn the_next_client_of_a_slot_is_not_left_out() {
    let mut rig = Rig::new(1);
    let gone = rig.connect(0, &["room"]);
    rig.end(gone);
    rig.callback(Event::Close);
    let next = rig.connect(0, &["room"]);
    assert_eq!(gone.slot, next.slot);
    run(&mut rig, untold(channel("room"), "x").except(vec![gone]));
    run(&mut rig, untold(Target::client(gone), "y"));
    assert_eq!(payloads(&mut rig, next), ["x"]);
}

#[test]
fn what_is_for_one_client_goes_straight_to_its_shard() {
    let mut rig = Rig::new(3);
    let ids = [0, 1, 2].map(|shard| rig.connect(shard, &["room"]));
    for id in ids {
        let publish = counted(&mut rig, Target::client(id), "x");
        let ticket = post(&mut rig, publish);
        rig.step(id.shard.index());
        assert_eq!(parts(&rig, ticket), (1, 1, 0, 0), "no other shard had a turn");
        assert_eq!(payloads(&mut rig, id), ["x"]);
    }
    let gone = ids[1];
    rig.end(gone);
    let publish = counted(&mut rig, Target::client(gone), "x");
    let ticket = run(&mut rig, publish);
    assert_eq!(parts(&rig, ticket), (1, 0, 0, 0));
}

/// A handle is what a caller says: there may be no such shard.
#[test]
fn clients_of_shards_there_are_not_are_nobody() {
    let mut rig = Rig::new(2);
    let here = rig.connect(1, &[]);
    let nowhere = [2, 63, 64, u16::MAX].map(|shard| ClientId {
        shard: ShardId(shard),
        ..here
    });
    assert!(Target::any(vec![], nowhere.to_vec()).distributor(&rig.home).is_none());
    let all = nowhere.into_iter().chain([here]).collect::<Vec<_>>();
    let publish = counted(&mut rig, Target::any(vec![], all), "x");
    let ticket = run(&mut rig, publish);
    assert_eq!(
        (parts(&rig, ticket), payloads(&mut rig, here)),
        ((1, 1, 0, 0), vec!["x".into()])
    );
}

#[test]
fn whoever_cannot_take_a_message_is_counted_as_dropped() {
    let mut rig = Rig::with(2, "outbox_bytes=65536");
    let name = rig.channel_at(0);
    let ids = [0, 0, 1, 1].map(|shard| rig.connect(shard, &[&name]));
    let waits = |rig: &mut Rig, id| rig.socket(id).room = 0;
    // One has to wait for its socket, one is too slow, one is gone already.
    waits(&mut rig, ids[0]);
    waits(&mut rig, ids[2]);
    rig.publish(&name, Qos::AtMostOnce, &[b'x'; 70_000], 1);
    rig.make_room(ids[0], 80_000);
    rig.socket(ids[3]).broken = true;
    let publish = counted(&mut rig, channel(&name), &"y".repeat(40_000));
    let ticket = run(&mut rig, publish);
    assert_eq!(parts(&rig, ticket), (2, 2, 2, 0), "written, queued; too slow, broken");
    let counts = rig.shards.iter().map(|shard| shard.debug_counts());
    assert!(counts.into_iter().all(|counts| counts.deliveries == 0));
    rig.secs(20);
    assert_eq!(parts(&rig, ticket).0, 2, "told once");
}

#[test]
fn a_count_does_not_wait_for_a_member_lost_in_a_panic() {
    let mut rig = Rig::new(1);
    let ids = [0; 3].map(|_| rig.connect(0, &["room"]));
    rig.socket(ids[1]).explosive = true;
    rig.panics = 1;
    let publish = counted(&mut rig, channel("room"), "x");
    let ticket = run(&mut rig, publish);
    assert_eq!(parts(&rig, ticket), (1, 2, 1, 0));
    assert_eq!(rig.shards[0].debug_counts().deliveries, 0);
}

/// A fan-out that takes longer than its caller waits.
#[test]
fn at_the_deadline_it_is_told_who_had_no_turn() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..40).map(|_| rig.connect(0, &["large"])).collect();
    let publish = counted(&mut rig, channel("large"), "x");
    let ticket = post(&mut rig, publish);
    rig.step(0);
    rig.now = rig.now + Duration::from_secs(11);
    let (served, last) = (FANOUT_SLICE_MEMBERS as u32, rig.now);
    while rig.turn(ShardId(0), |shard, net, _| shard.on_tick(last, net)) {}
    let (told, done, failed, silent) = parts(&rig, ticket);
    assert_eq!((told, done + silent, failed), (1, 40, 0));
    assert!((served..40).contains(&done), "{done}");
    rig.settle();
    assert_eq!(parts(&rig, ticket).0, 1, "told once");
    for id in ids {
        assert_eq!(payloads(&mut rig, id), ["x"]);
    }
    assert_eq!(rig.shards[0].debug_counts().deliveries, 0);
}

#[test]
fn nothing_overtakes_a_large_fan_out() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..200).map(|_| rig.connect(0, &["large", "also"])).collect();
    let alone = rig.connect(0, &["also"]);
    let large = counted(&mut rig, channel("large"), "1");
    let ticket = post(&mut rig, large);
    rig.step(0);
    let served = |rig: &Rig| ids.iter().filter(|id| !rig.nets[0].sockets[id].out.is_empty()).count();
    assert_eq!(served(&rig), FANOUT_SLICE_MEMBERS);
    let late = ids[150];
    for publish in [
        untold(Target::client(late), "2"),
        untold(Target::client(alone), "2"),
        untold(Target::any(names(&["also", "large"]), vec![]), "3"),
        untold(channel("also"), "4"),
        untold(Target::client(late), "5"),
    ] {
        post(&mut rig, publish);
    }
    rig.step(0);
    // It did not wait for its turn in a slice.
    assert_eq!(payloads(&mut rig, late), ["1", "2", "3", "4", "5"]);
    rig.settle();
    for id in ids.iter().filter(|id| **id != late) {
        assert_eq!(payloads(&mut rig, *id), ["1", "3", "4"]);
    }
    assert!(payloads(&mut rig, late).is_empty(), "nothing twice");
    assert_eq!(payloads(&mut rig, alone), ["2", "3", "4"]);
    assert_eq!(parts(&rig, ticket), (1, 200, 0, 0), "nobody twice");
}

#[test]
fn what_waits_behind_a_large_channel_keeps_its_order() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..100).map(|_| rig.connect(0, &["x", "y"])).collect();
    let small = rig.connect(0, &["small"]);
    let any = |payload| untold(Target::any(names(&["x", "y"]), vec![small]), payload);
    let steps = [
        untold(channel("x"), "1"),
        untold(channel("x"), "2"),
        any("3"),
        untold(channel("y"), "4"),
        any("5"),
        any("6"),
        untold(channel("x"), "7"),
        untold(Target::client(ids[90]), "8"),
    ];
    for publish in steps {
        post(&mut rig, publish);
        // A turn each, so that nothing is written together.
        rig.step(0);
    }
    rig.settle();
    for (number, id) in ids.into_iter().enumerate() {
        let mut expected = vec!["1", "2", "3", "4", "5", "6", "7"];
        expected.extend((number == 90).then_some("8"));
        assert_eq!(payloads(&mut rig, id), expected, "client {number}");
    }
    assert_eq!(payloads(&mut rig, small), ["3", "5", "6"]);
}

/// Members that leave while a fan-out is sliced are nobody of it, whoever has their slot then.
#[test]
fn the_next_client_of_a_slot_has_no_turn_in_a_slicing() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..60).map(|_| rig.connect(0, &["large"])).collect();
    let large = counted(&mut rig, channel("large"), "1");
    let ticket = post(&mut rig, large);
    rig.step(0);
    // One leaves before it is known who had no turn, one after.
    let (before, after) = (ids[50], ids[51]);
    let end = |rig: &mut Rig, id: ClientId| {
        rig.turn(ShardId(0), |shard, net, now| {
            shard.on_end(id, rainbow_server::close::CloseCause::ClientGone, now, net);
        });
    };
    end(&mut rig, before);
    post(&mut rig, untold(Target::client(ids[59]), "2"));
    rig.step(0);
    assert_eq!(payloads(&mut rig, ids[59]), ["1", "2"]);
    end(&mut rig, after);
    let news = [0; 2].map(|_| rig.accept(0));
    assert!(news.iter().all(|new| [before.slot, after.slot].contains(&new.slot)));
    rig.settle();
    let (told, done, failed, silent) = parts(&rig, ticket);
    assert_eq!((told, failed, silent), (1, 0, 0));
    assert_eq!(done, 58);
}

/// Two doors in one publish: each gets frames of its own form.
#[test]
fn sessions_of_each_form_get_their_frames() {
    let mut rig = Rig::with(1, "echo=yes");
    let room = Name::new(Space::many(2), b"room");
    let rainbow: Vec<_> = (0..3).map(|_| rig.connect(0, &["room"])).collect();
    let echo: Vec<_> = (0..3)
        .map(|_| {
            let id = rig.accept(0);
            let request = String::from_utf8(wire::connect_request("d")).unwrap();
            let request = request.replace("/connect/?device=d", "/echo/?room=room");
            assert_eq!(rig.bytes(id, request.as_bytes()), Input::Continue);
            assert_eq!(rig.status(id), 101);
            id
        })
        .collect();
    for order in [[room.clone(), channel("room")], [channel("room"), room]] {
        let publish = counted(&mut rig, Target::any(order.to_vec(), vec![]), "x");
        let ticket = run(&mut rig, publish);
        assert_eq!(parts(&rig, ticket), (1, 6, 0, 0));
        for id in &rainbow {
            assert_eq!(payloads(&mut rig, *id), ["x"]);
        }
        for id in &echo {
            assert_eq!(std::mem::take(&mut rig.socket(*id).out), [0x81, 1, b'x']);
        }
    }
}
