//! What a backend is told of the gateway's clients, in virtual time: order, one at a time, the last event once.

use rainbow_server::engine::command::{CallbackRequest, Command, Done, Edit};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::protocol::ListenerId;
use rainbow_server::protocol::gateway::session::ADMISSION;
use rainbow_server::protocol::gateway::{data, events, names};
use rainbow_server::time::Duration;
use serde_json::{Value, json};

use crate::rig::{Rig, reply};
use crate::wire;

const TEXT: u8 = 1;

fn rig() -> Rig {
    Rig::with(2, "bind = ::1\n[gateway]\nurl = http://backend/")
}

fn body(request: &CallbackRequest) -> Value {
    assert_eq!(request.hook.door, events::HOOKS);
    serde_json::from_slice(&request.body).expect("JSON")
}

/// A client that wants in, and what the backend is asked about it.
fn knock(rig: &mut Rig, shard: u16) -> (ClientId, CallbackRequest) {
    let id = rig.accept_at(ListenerId::GATEWAY, shard);
    rig.bytes(id, &wire::connect_request("d"));
    (id, rig.callback(Event::Connect))
}

fn enter(rig: &mut Rig, answer: &str) -> ClientId {
    let (id, asked) = knock(rig, 0);
    rig.answer_ok(&asked, answer);
    assert_eq!(rig.status(id), 101);
    id
}

fn says(rig: &mut Rig, id: ClientId, text: &str) {
    rig.bytes(id, &wire::frame(TEXT, text.as_bytes()));
}

#[test]
fn one_event_at_a_time_and_each_with_what_holds_then() {
    let mut rig = rig();
    let id = enter(&mut rig, r#"{"groups":["g"]}"#);
    for text in ["one", "two", "three"] {
        says(&mut rig, id, text);
    }
    let first = rig.callback(Event::Message);
    assert_eq!(body(&first)["message"], "one");
    assert!(rig.callbacks.is_empty(), "the others wait");
    // What the answer wants is done before the shard hears that it is.
    rig.change(id.shard, |ticket| Command::Join {
        client: id,
        channel: names::uid(b"u"),
        ticket,
    });
    let edit = Edit {
        verb: data::SET,
        patch: r#"{"n":1}"#.into(),
    };
    rig.change(id.shard, |ticket| Command::Edit {
        client: id,
        edit,
        ticket,
    });
    assert!(rig.callbacks.is_empty(), "still");
    rig.answer_ok(&first, "");
    let second = body(&rig.callback(Event::Message));
    assert_eq!(
        (&second["message"], &second["uid"], &second["session"]),
        (&json!("two"), &json!("u"), &json!({"n": 1}))
    );
}

#[test]
fn a_failed_event_lets_the_next_one_pass() {
    let mut rig = rig();
    let id = enter(&mut rig, "");
    says(&mut rig, id, "one");
    says(&mut rig, id, "two");
    let first = rig.callback(Event::Message);
    rig.answer_failed(&first);
    assert_eq!(body(&rig.callback(Event::Message))["message"], "two");
}

#[test]
fn actions_of_connect_hold_the_first_message_back() {
    let mut rig = rig();
    let id = enter(&mut rig, r#"{"actions":[{"fn":"sendToAll","args":["x"]}]}"#);
    says(&mut rig, id, "one");
    assert!(rig.callbacks.is_empty());
    rig.run(
        id.shard,
        Command::CallbackDone {
            client: id,
            token: ADMISSION,
            outcome: reply(200, &[], ""),
        },
    );
    assert_eq!(body(&rig.callback(Event::Message))["message"], "one");
}

#[test]
fn the_last_event_comes_last_and_is_the_picture_of_the_end() {
    let mut rig = rig();
    let id = enter(&mut rig, r#"{"uid":"u","groups":["b","a"],"session":{"k":1}}"#);
    says(&mut rig, id, "one");
    says(&mut rig, id, "two");
    rig.advance(Duration::from_secs(5));
    rig.end(id);
    let first = rig.callback(Event::Message);
    rig.answer_ok(&first, "");
    let second = rig.callback(Event::Message);
    assert_eq!(body(&second)["uid"], "u", "it had one when it went");
    assert!(rig.callbacks.is_empty(), "not before the last message");
    rig.answer_ok(&second, "");
    let gone = body(&rig.callback(Event::Close));
    assert_eq!(
        (&gone["uid"], &gone["groups"], &gone["session"]),
        (&json!("u"), &json!(["a", "b"]), &json!({"k": 1}))
    );
    assert_eq!(
        (&gone["cause"], &gone["code"], &gone["duration_ms"]),
        (&json!("client_gone"), &json!(1006), &json!(5000))
    );
    rig.advance(Duration::from_secs(60));
    assert!(rig.callbacks.is_empty(), "once");
    let left = rig.change(id.shard, |ticket| Command::Join {
        client: id,
        channel: names::group(b"g"),
        ticket,
    });
    assert_eq!(left, Done::NoClient);
}

#[test]
fn whoever_is_admitted_when_it_is_gone_is_told_of_too() {
    let mut rig = rig();
    let (id, asked) = knock(&mut rig, 1);
    rig.end(id);
    rig.answer_ok(&asked, r#"{"uid":"u","groups":["g"]}"#);
    let gone = body(&rig.callback(Event::Close));
    assert_eq!(
        (&gone["uid"], &gone["groups"], &gone["cause"]),
        (&json!("u"), &json!(["g"]), &json!("gone_during_auth"))
    );
    let (id, asked) = knock(&mut rig, 1);
    rig.end(id);
    rig.answer_ok(&asked, r#"{"allow":false}"#);
    assert!(rig.callbacks.is_empty(), "nobody was let in");
}
