//! Changes that callers ask for: what each is told, and that nobody but the client is changed.

use rainbow_server::engine::command::{Command, Done, Edit, Why};
use rainbow_server::engine::ids::ClientId;
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::shard::Input;

use crate::rig::{Rig, channel};
use crate::wire;

fn user(name: &str) -> Name {
    Name::user(name.as_bytes())
}

fn join(rig: &mut Rig, client: ClientId, name: &Name) -> Done {
    let channel = name.clone();
    rig.change(client.shard, |ticket| Command::Join {
        client,
        channel,
        ticket,
    })
}

fn leave(rig: &mut Rig, client: ClientId, name: &Name) -> Done {
    let channel = name.clone();
    rig.change(client.shard, |ticket| Command::Leave {
        client,
        channel,
        ticket,
    })
}

fn unbind(rig: &mut Rig, client: ClientId, space: Space) -> Done {
    rig.change(client.shard, |ticket| Command::Unbind { client, space, ticket })
}

#[test]
fn who_asks_for_a_change_is_told_what_it_did() {
    let mut rig = Rig::with(2, "channels_max=1");
    let id = rig.connect(1, &[]);
    let (one, other) = (user("one"), user("other"));
    assert_eq!(unbind(&mut rig, id, Space::USER), Done::Unchanged);
    assert_eq!(join(&mut rig, id, &one), Done::Changed);
    assert_eq!(join(&mut rig, id, &one), Done::Unchanged);
    assert_eq!(join(&mut rig, id, &other), Done::Replaced(one.clone()));
    assert_eq!(join(&mut rig, id, &channel("c")), Done::Changed);
    assert_eq!(join(&mut rig, id, &channel("c")), Done::Unchanged);
    assert_eq!(join(&mut rig, id, &channel("d")), Done::Refused(Why::TooManyChannels));
    assert_eq!(
        unbind(&mut rig, id, Space::CHANNEL),
        Done::Unchanged,
        "of many there is none"
    );
    assert_eq!(unbind(&mut rig, id, Space::USER), Done::Replaced(other));
    assert_eq!(unbind(&mut rig, id, Space::USER), Done::Unchanged);
    assert_eq!(leave(&mut rig, id, &one), Done::Unchanged);
    assert_eq!(leave(&mut rig, id, &channel("c")), Done::Changed);
    rig.end(id);
    assert_eq!(join(&mut rig, id, &one), Done::NoClient);
    assert_eq!(leave(&mut rig, id, &one), Done::NoClient);
    assert_eq!(unbind(&mut rig, id, Space::USER), Done::NoClient);
    let counts = rig.shards.iter().map(|shard| shard.debug_counts());
    assert!(
        counts
            .into_iter()
            .all(|counts| (counts.memberships, counts.interests) == (0, 0))
    );
}

fn edit(rig: &mut Rig, client: ClientId, verb: u8, patch: &'static str) -> Done {
    let edit = Edit {
        verb,
        patch: patch.into(),
    };
    rig.change(client.shard, |ticket| Command::Edit { client, edit, ticket })
}

#[test]
fn an_edit_is_the_sessions_affair() {
    let mut rig = Rig::with(1, "echo=yes");
    let request = String::from_utf8(wire::connect_request("d")).unwrap();
    let ids = ["r", "r&receipt=old"].map(|room| {
        let id = rig.accept(0);
        let request = request.replace("/connect/?device=d", &format!("/echo/?room={room}"));
        assert_eq!(rig.bytes(id, request.as_bytes()), Input::Continue);
        assert_eq!(rig.status(id), 101);
        id
    });
    assert_eq!(edit(&mut rig, ids[0], 0, "new"), Done::Edited("new".into()));
    assert_eq!(edit(&mut rig, ids[1], 1, "er"), Done::Edited("older".into()));
    assert_eq!(edit(&mut rig, ids[1], 1, ""), Done::Edited("older".into()));
    let much: &'static str = Box::leak("x".repeat(1020).into_boxed_str());
    assert_eq!(edit(&mut rig, ids[1], 1, much), Done::Refused(Why::Full));
    assert!(matches!(edit(&mut rig, ids[0], 9, ""), Done::Refused(Why::Invalid(_))));
    rig.bytes(ids[1], &wire::frame(1, b"m"));
    assert!(
        rig.socket(ids[1]).out.starts_with(b"\x82\x05older"),
        "it is what it was edited to be"
    );
    let rainbow = rig.connect(0, &[]);
    assert!(matches!(edit(&mut rig, rainbow, 0, ""), Done::Refused(Why::Invalid(_))));
    rig.end(ids[0]);
    assert_eq!(edit(&mut rig, ids[0], 0, "gone"), Done::NoClient);
}
