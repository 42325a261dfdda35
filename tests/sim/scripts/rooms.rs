//! Clients that speak to clients: what a session publishes, by the rooms of the echo door.

use rainbow_server::engine::command::{Command, Publish, Qos};
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::limits::{FANOUT_SLICE_MEMBERS, FANOUT_WAITING_BYTES_MAX};
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;
use std::sync::Arc;

use crate::rig::Rig;
use crate::wire;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn room(name: &str) -> Name {
    Name::new(Space::many(2), name.as_bytes())
}

/// A room whose home is `shard`.
fn room_at(rig: &Rig, shard: u16) -> String {
    let mut names = (0..).map(|n| format!("room {n}"));
    names
        .find(|name| rig.home.home_of(&room(name)) == ShardId(shard))
        .unwrap()
}

fn enter(rig: &mut Rig, shard: u16, name: &str) -> ClientId {
    let id = rig.accept(shard);
    let request = String::from_utf8(wire::connect_request("d")).unwrap();
    let target = format!("/echo/?room={}", name.replace(' ', "+"));
    let request = request.replace("/connect/?device=d", &target);
    assert_eq!(rig.bytes(id, request.as_bytes()), Input::Continue);
    assert_eq!(rig.status(id), 101);
    id
}

/// What a client got since the last look: opcodes and payloads of short frames.
fn heard(rig: &mut Rig, id: ClientId) -> Vec<(u8, String)> {
    let bytes = std::mem::take(&mut rig.socket(id).out);
    let (mut rest, mut heard) = (&bytes[..], Vec::new());
    while let [first, len, ..] = rest {
        let (payload, behind) = rest[2..].split_at(usize::from(*len));
        heard.push((first & 0x0f, String::from_utf8(payload.to_vec()).unwrap()));
        rest = behind;
    }
    heard
}

#[test]
fn a_room_hears_its_members_and_nobody_else_does() {
    for home in 0..2 {
        let mut rig = Rig::with(2, "echo=yes");
        let name = room_at(&rig, home);
        let members = [0, 1, 1].map(|shard| enter(&mut rig, shard, &name));
        let others = [enter(&mut rig, 0, "other"), enter(&mut rig, 1, "")];
        let rainbow = rig.connect(0, &[&name]);
        rig.bytes(members[1], &wire::frame(TEXT, b"hello"));
        rig.bytes(members[0], &wire::frame(BINARY, b"bye"));
        for member in members {
            let expected = [(TEXT, "hello".to_owned()), (BINARY, "bye".to_owned())];
            assert_eq!(heard(&mut rig, member), expected);
        }
        for other in others {
            assert!(heard(&mut rig, other).is_empty());
        }
        assert!(rig.frames(rainbow).is_empty(), "a channel of that name is another");
        rig.publish(&name, Qos::AtMostOnce, b"?", 10);
        assert_eq!(rig.packets(rainbow).len(), 1);
        assert!(members.iter().all(|id| rig.socket(*id).out.is_empty()));
        assert_eq!(rig.published.len(), 1, "nobody is told of what a client published");
        assert!(rig.callbacks.is_empty());
    }
}

#[test]
fn all_members_hear_one_order() {
    let mut rig = Rig::with(2, "echo=yes");
    let name = room_at(&rig, 1);
    let members = [0, 1].map(|shard| enter(&mut rig, shard, &name));
    for n in 0..4 {
        for id in members {
            // Nothing is delivered between the two.
            let mut frame = wire::frame(TEXT, format!("{n} of {}", id.shard.0).as_bytes());
            rig.turn(id.shard, |shard, net, now| shard.on_bytes(id, &mut frame, now, net));
        }
        rig.settle();
    }
    let [first, second] = members.map(|id| heard(&mut rig, id));
    assert_eq!(first.len(), 8);
    assert_eq!(first, second);
}

#[test]
fn who_leaves_is_heard_and_hears_no_more() {
    let mut rig = Rig::with(2, "echo=yes");
    let members = [0, 1].map(|shard| enter(&mut rig, shard, "a"));
    let last = [wire::frame(TEXT, b"last"), wire::close(Some(1000))].concat();
    rig.bytes(members[0], &last);
    assert_eq!(heard(&mut rig, members[1]), [(TEXT, "last".to_owned())]);
    rig.end(members[0]);
    rig.bytes(members[1], &wire::frame(TEXT, b"alone"));
    assert_eq!(heard(&mut rig, members[1]), [(TEXT, "alone".to_owned())]);
}

/// Whoever has the answer can rely on what it speaks of: it waits for the mail of the steps it goes with.
#[test]
fn a_receipt_waits_until_the_message_has_left() {
    let mut rig = Rig::with(2, "echo=yes");
    let name = room_at(&rig, 1);
    let speaker = enter(&mut rig, 0, &format!("{name}&receipt=sent"));
    let listener = enter(&mut rig, 1, &name);
    rig.corked = true;
    let mut two = [wire::frame(TEXT, b"one"), wire::frame(TEXT, b"two")].concat();
    rig.turn(speaker.shard, |shard, net, now| {
        shard.on_bytes(speaker, &mut two, now, net)
    });
    assert!(heard(&mut rig, speaker).is_empty(), "its mail may wait for room");
    rig.corked = false;
    rig.settle();
    let sent = (BINARY, "sent".to_owned());
    let said = ["one", "two"].map(|text| (TEXT, text.to_owned()));
    assert_eq!(heard(&mut rig, listener), said);
    assert_eq!(heard(&mut rig, speaker), [&[sent.clone(), sent][..], &said].concat());
}

/// A session that closes knows what its client was in, and why it goes.
#[test]
fn a_farewell_is_heard_by_those_who_stay() {
    for home in 0..2 {
        let mut rig = Rig::with(2, "echo=yes\nidle_timeout=30");
        let name = room_at(&rig, home);
        let stays = [0, 1].map(|shard| enter(&mut rig, shard, &name));
        let other = enter(&mut rig, 0, "other");
        let goes = [0, 1, 1].map(|shard| enter(&mut rig, shard, &format!("{name}&farewell=bye {shard}")));
        rig.bytes(goes[0], &wire::close(Some(1000)));
        rig.end(goes[1]);
        rig.secs(20);
        for id in stays {
            rig.bytes(id, &wire::pong());
        }
        rig.secs(20);
        let expected = ["bye 0 (client_closed)", "bye 1 (client_gone)", "bye 1 (idle_timeout)"];
        for id in stays {
            assert_eq!(heard(&mut rig, id), expected.map(|text| (BINARY, text.to_owned())));
        }
        assert_eq!(rig.socket(other).out.first(), Some(&0x88), "only its own close frame");
        assert_eq!(
            rig.shards
                .iter()
                .map(|shard| shard.debug_counts().memberships)
                .sum::<usize>(),
            2
        );
    }
}

/// A session's publishes are bounded as those of callers are.
#[test]
fn while_large_fan_outs_hold_all_they_may_a_speaker_is_not_read() {
    let mut rig = Rig::with(1, "echo=yes");
    let members: Vec<_> = (0..=FANOUT_SLICE_MEMBERS)
        .map(|_| enter(&mut rig, 0, "large"))
        .collect();
    let large = |payload: Vec<u8>| {
        let publish = Publish::untold(room("large"), u16::from(BINARY), payload.into());
        Command::Publish(Arc::new(publish))
    };
    let other = Command::Vacate { channel: room("other") };
    let again = Command::Vacate { channel: room("other") };
    // Not turns: the slice under way would be done at their end.
    for command in [
        large(b"first".to_vec()),
        other,
        large(vec![b'x'; FANOUT_WAITING_BYTES_MAX + 1]),
        again,
    ] {
        rig.shards[0].on_command(command, rig.now, &mut rig.nets[0]);
    }
    assert!(rig.shards[0].is_full());
    let mut frame = wire::frame(TEXT, b"second");
    let input = rig.shards[0].on_bytes(members[0], &mut frame, rig.now, &mut rig.nets[0]);
    assert_eq!(input, Input::Pause);
    rig.settle();
    rig.advance(Duration::from_millis(200));
    assert!(!rig.shards[0].is_full());
    assert_eq!(rig.bytes(members[0], &wire::frame(TEXT, b"third")), Input::Continue);
    for id in members {
        assert!(rig.socket(id).out.ends_with(b"\x81\x06second\x81\x05third"));
    }
}
