//! Clients of the gateway: where they may come in, what they hear, what is kept with them.

use std::sync::Arc;

use rainbow_server::engine::command::{Command, Done, Edit, Publish, Why};
use rainbow_server::engine::ids::ClientId;
use rainbow_server::protocol::ListenerId;
use rainbow_server::protocol::gateway::{data, names};
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;

use crate::rig::Rig;
use crate::wire;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn rig(shards: usize, lines: &str) -> Rig {
    Rig::with(shards, &format!("bind = ::1\n[gateway]\n{lines}"))
}

fn enter(rig: &mut Rig, shard: u16) -> ClientId {
    let id = rig.accept_at(ListenerId::GATEWAY, shard);
    assert_eq!(rig.bytes(id, &wire::connect_request("d")), Input::Continue);
    assert_eq!(rig.status(id), 101);
    id
}

fn publish(rig: &mut Rig, opcode: u8, text: &'static str) {
    let to = names::everybody();
    let home = rig.home.home_of(&to);
    let publish = Publish::untold(to, u16::from(opcode), text.into());
    rig.run(home, Command::Publish(Arc::new(publish)));
}

fn edit(rig: &mut Rig, client: ClientId, verb: u8, patch: &'static str) -> Done {
    let edit = Edit {
        verb,
        patch: patch.into(),
    };
    rig.change(client.shard, |ticket| Command::Edit { client, edit, ticket })
}

/// The bytes a client got since the last look.
fn heard(rig: &mut Rig, id: ClientId) -> Vec<u8> {
    std::mem::take(&mut rig.socket(id).out)
}

#[test]
fn a_listener_has_its_own_doors() {
    let mut rig = rig(1, "");
    let request = wire::connect_request("d");
    // On the main port the same request is a client of rainbow, which is asked about.
    let rainbow = rig.accept(0);
    assert_eq!(rig.bytes(rainbow, &request), Input::Continue);
    assert_eq!(rig.callbacks.len(), 1);
    // What is no door's is never handed over where there is no HTTP interface.
    let call = rig.accept_at(ListenerId::GATEWAY, 0);
    let head = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(rig.bytes(call, head), Input::Continue);
    assert!(heard(&mut rig, call).starts_with(b"HTTP/1.1 400 "));
    // The connection may still become a client.
    assert_eq!(rig.bytes(call, &request), Input::Continue);
    assert_eq!(rig.status(call), 101);
    assert_eq!(rig.callbacks.len(), 1, "nobody is asked about it");
}

#[test]
fn another_path_is_no_door() {
    let mut rig = rig(1, "paths = /ws");
    let id = rig.accept_at(ListenerId::GATEWAY, 0);
    rig.bytes(id, &wire::connect_request("d"));
    assert!(heard(&mut rig, id).starts_with(b"HTTP/1.1 404 "));
    assert!(rig.callbacks.is_empty());
}

#[test]
fn everybody_hears_what_is_sent_to_everybody_as_it_was_sent() {
    let mut rig = rig(2, "");
    let clients = [0, 1, 1].map(|shard| enter(&mut rig, shard));
    let rainbow = rig.connect(0, &[""]);
    for id in clients {
        heard(&mut rig, id);
    }
    publish(&mut rig, TEXT, "hello");
    publish(&mut rig, BINARY, "");
    for id in clients {
        assert_eq!(heard(&mut rig, id), b"\x81\x05hello\x82\x00");
    }
    assert!(rig.frames(rainbow).is_empty(), "a client of another door");
    rig.end(clients[0]);
    publish(&mut rig, TEXT, "again");
    assert_eq!(heard(&mut rig, clients[1]), b"\x81\x05again");
}

#[test]
fn data_is_kept_with_its_client_alone() {
    let mut rig = rig(1, "session_max = 1k");
    let [one, other] = [0, 0].map(|shard| enter(&mut rig, shard));
    assert_eq!(
        edit(&mut rig, one, data::SET, r#"{"a": {"b": 1}}"#),
        Done::Edited(r#"{"a":{"b":1}}"#.into())
    );
    assert_eq!(
        edit(&mut rig, other, data::MERGE, r#"{"c": 2}"#),
        Done::Edited(r#"{"c":2}"#.into())
    );
    let merged = r#"{"a":{"d":3}}"#;
    assert_eq!(
        edit(&mut rig, one, data::MERGE, r#"{"a": {"b": null, "d": 3}}"#),
        Done::Edited(merged.into())
    );
    let much: &'static str = Box::leak(format!(r#"{{"x":"{}"}}"#, "x".repeat(1024)).into_boxed_str());
    assert_eq!(edit(&mut rig, one, data::MERGE, much), Done::Refused(Why::Full));
    assert!(matches!(
        edit(&mut rig, one, data::SET, "[]"),
        Done::Refused(Why::Invalid(_))
    ));
    assert_eq!(
        edit(&mut rig, one, data::MERGE, "{}"),
        Done::Edited(merged.into()),
        "unchanged"
    );
    rig.end(one);
    assert_eq!(edit(&mut rig, one, data::SET, "{}"), Done::NoClient);
}

/// Each door has heartbeats of its own.
#[test]
fn heartbeats_are_those_of_the_door() {
    let mut rig = rig(1, "ping_interval = 10\nping_timeout = 0\nping_data = beat");
    let (own, rainbow) = (enter(&mut rig, 0), rig.connect(0, &[]));
    heard(&mut rig, own);
    for _ in 0..3 {
        rig.advance(Duration::from_secs(10));
        assert_eq!(heard(&mut rig, own), b"\x81\x04beat");
    }
    // One that has just spoken is left alone: the next is due an interval after that.
    rig.advance(Duration::from_secs(5));
    rig.bytes(own, &wire::frame(TEXT, b"alive"));
    rig.advance(Duration::from_secs(9));
    assert!(heard(&mut rig, own).is_empty());
    rig.advance(Duration::from_secs(1));
    assert_eq!(heard(&mut rig, own), b"\x81\x04beat");
    assert!(rig.frames(rainbow).is_empty());
}
