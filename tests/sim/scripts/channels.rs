//! Join, leave, occupy, census over two shards (spec sections 10 and 11).

use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::engine::command::{Command, Publish, Qos};
use rainbow_server::engine::ids::ClientId;
use rainbow_server::engine::name::{Name, Space};

use crate::rig::{Rig, channel};

fn receivers(rig: &mut Rig, name: &str, ids: &[ClientId]) -> Vec<bool> {
    rig.publish(name, Qos::AtMostOnce, b"?", 10);
    ids.iter().map(|id| rig.packets(*id).len() == 1).collect()
}

#[test]
fn join_and_leave_across_shards() {
    let mut rig = Rig::new(2);
    let ids = [rig.connect(0, &[]), rig.connect(1, &[])];
    for home in 0..2 {
        let name = &rig.channel_at(home);
        assert_eq!(receivers(&mut rig, name, &ids), [false, false]);
        assert!(rig.join(ids[0], name));
        assert!(rig.join(ids[1], name) && rig.join(ids[1], name));
        assert_eq!(
            receivers(&mut rig, name, &ids),
            [true, true],
            "once, however often joined"
        );
        assert!(rig.leave(ids[1], name));
        assert_eq!(receivers(&mut rig, name, &ids), [true, false]);
        assert!(rig.leave(ids[1], name), "not a member, still known");
        assert!(rig.leave(ids[0], name));
        let ticket = rig.publish(name, Qos::AtLeastOnce, b"", 10);
        assert_eq!(rig.published[&ticket], 0);
    }
}

/// A user id is a name of this kind: whoever is called otherwise is not called so any more.
#[test]
fn of_a_single_valued_space_a_client_is_in_one_set() {
    let mut rig = Rig::with(2, "channels_max=1");
    let ids = [rig.connect(0, &["c"]), rig.connect(1, &["c"])];
    let name = |text: &str| Name::new(Space::single(9), text.as_bytes());
    let called = |rig: &mut Rig, text: &str| {
        let publish = Publish::untold(name(text), 1, Bytes::from_static(b"?"));
        let home = publish.to.distributor(&rig.home).unwrap();
        rig.run(home, Command::Publish(Arc::new(publish)));
        ids.map(|id| rig.packets(id).len())
    };
    let bind = |rig: &mut Rig, client: ClientId, text: &str| {
        rig.ask(client.shard, |ticket| Command::Join {
            client,
            channel: name(text),
            ticket,
        })
    };
    // Names at home on either shard.
    for text in ["a", "b", "d", "e", "f", "g"] {
        assert!(ids.iter().all(|id| bind(&mut rig, *id, text)));
    }
    assert_eq!(called(&mut rig, "g"), [1, 1]);
    assert!(bind(&mut rig, ids[0], "a") && bind(&mut rig, ids[0], "a"));
    assert_eq!(called(&mut rig, "a"), [1, 0]);
    assert_eq!(called(&mut rig, "g"), [0, 1]);
    assert_eq!(called(&mut rig, "f"), [0, 0]);
    assert_eq!(
        receivers(&mut rig, "c", &ids),
        [true, true],
        "channels are no such space"
    );
    assert!(
        !rig.join(ids[0], "another"),
        "a name does not count as a channel, channels do"
    );
    let counts = |rig: &Rig| {
        rig.shards
            .iter()
            .map(|shard| shard.debug_counts().interests)
            .sum::<usize>()
    };
    assert_eq!(counts(&rig), 3, "c, a and g");
    ids.iter().for_each(|id| rig.end(*id));
    assert_eq!(counts(&rig), 0);
}

#[test]
fn occupy_empties_the_channel_everywhere_first() {
    let mut rig = Rig::new(2);
    let ids = [
        rig.connect(0, &[]),
        rig.connect(0, &[]),
        rig.connect(1, &[]),
        rig.connect(1, &[]),
    ];
    for home in 0..2 {
        let name = &rig.channel_at(home);
        for holder in 0..4 {
            for id in ids {
                assert!(rig.join(id, name));
            }
            assert!(rig.occupy(name, Some(ids[holder])));
            let mut expected = [false; 4];
            expected[holder] = true;
            assert_eq!(receivers(&mut rig, name, &ids), expected);
        }
        for id in ids {
            assert!(rig.join(id, name));
        }
        assert!(!rig.occupy(name, None));
        assert_eq!(receivers(&mut rig, name, &ids), [false; 4], "emptied even for nobody");
        let dead = ClientId {
            generation: 99,
            ..ids[2]
        };
        for id in ids {
            assert!(rig.join(id, name));
        }
        assert!(!rig.occupy(name, Some(dead)));
        assert_eq!(receivers(&mut rig, name, &ids), [false; 4]);
    }
}

#[test]
fn the_channels_of_one_client_are_bounded() {
    let mut rig = Rig::with(1, "channels_max=2");
    let id = rig.connect(0, &["a", "b", "c"]);
    assert_eq!(receivers(&mut rig, "b", &[id]), [true]);
    assert_eq!(receivers(&mut rig, "c", &[id]), [false]);
    assert!(rig.join(id, "a"), "a member already");
    assert!(!rig.join(id, "c"));
    rig.leave(id, "a");
    assert!(rig.join(id, "c"));
}

#[test]
fn a_publish_behind_a_join_in_the_same_turn_reaches_the_client() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    let (first, second) = (
        rig.publish_command("c", Qos::AtMostOnce, b"1", 10).1,
        rig.publish_command("c", Qos::AtMostOnce, b"2", 10).1,
    );
    let (third, ticket) = (rig.publish_command("c", Qos::AtMostOnce, b"3", 10).1, rig.ticket());
    let left = rig.ticket();
    rig.batch(
        0,
        [
            first,
            Command::Join {
                client: id,
                channel: channel("c"),
                ticket,
            },
            second,
            Command::Leave {
                client: id,
                channel: channel("c"),
                ticket: left,
            },
            third,
        ],
    );
    let payloads: Vec<_> = rig
        .packets(id)
        .into_iter()
        .map(|packet| format!("{packet:?}"))
        .collect();
    assert!(
        payloads.len() == 1 && payloads[0].contains("payload: [50]"),
        "{payloads:?}"
    );
}
