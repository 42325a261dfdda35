//! Tests of [`super`]: what is read, what is refused, and in which words.

use super::*;
use crate::engine::command::CallbackFailure;
use crate::protocol::gateway::names;

const CURRENT: ClientText = ClientText(*b"00112233445566778899");

fn reply(status: u16, body: &str) -> CallbackReply {
    CallbackReply {
        status,
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn verdict_of(status: u16, body: &str) -> Verdict {
    verdict(&CallbackOutcome::Answered(reply(status, body)), CURRENT)
}

fn admitted(body: &str) -> Admitted {
    match verdict_of(200, body) {
        Verdict::Admitted(admitted) => admitted,
        other => panic!("{body}: {other:?}"),
    }
}

fn fault(event: Event, reply: &CallbackReply, session_max: usize) -> Option<Wrong> {
    heard(event, reply, CURRENT, session_max).wrong
}

#[test]
fn nothing_said_is_yes() {
    for body in [
        "",
        "  \n",
        "{}",
        "[]",
        "null",
        r#"{"allow":null,"groups":null}"#,
        r#"{"allow":true}"#,
    ] {
        assert_eq!(admitted(body), Admitted::default(), "{body}");
    }
    assert_eq!(verdict_of(204, ""), Verdict::Admitted(Admitted::default()));
}

#[test]
fn all_fields_of_a_welcome_are_read() {
    let admitted = admitted(
        r#"{"uid":"u1","groups":["a","b"],"session":{"n":{"x":1}, "m":2},
            "messages":["hi",{"json":{"k":1}},{"message_base64":"AP8=","binary":true}],
            "actions":[{"fn":"SendToGroup","args":{"group":"a","message":"new"}},{"fn":"closeCurrentClient"}]}"#,
    );
    assert_eq!(admitted.uid, Some(names::uid(b"u1")));
    assert_eq!(admitted.groups, [names::group(b"a"), names::group(b"b")]);
    assert_eq!(admitted.session.as_deref(), Some(&br#"{"n":{"x":1},"m":2}"#[..]));
    let messages: Vec<_> = admitted
        .messages
        .iter()
        .map(|is| (&is.payload[..], is.binary))
        .collect();
    assert_eq!(
        messages,
        [(&b"hi"[..], false), (br#"{"k":1}"#, false), (&[0, 255], true)]
    );
    assert!(matches!(admitted.actions[0].call, Call::Send(_)));
    assert!(matches!(admitted.actions[1].call, Call::Close { client, .. } if client == CURRENT));
    assert!(admitted.actions.iter().all(|request| request.lenient));
}

#[test]
fn a_no_has_a_status_and_a_reason() {
    let denied = |status, reason: &str| Verdict::Denied(StatusCode::from_u16(status).unwrap(), reason.to_owned());
    assert_eq!(verdict_of(200, r#"{"allow":false}"#), denied(403, ""));
    assert_eq!(
        verdict_of(200, r#"{"allow":false,"status":429,"reason":"later"}"#),
        denied(429, "later")
    );
    assert_eq!(verdict_of(401, ""), denied(401, ""));
    assert_eq!(verdict_of(403, r#"{"reason":"banned"}"#), denied(403, "banned"));
    assert_eq!(verdict_of(403, "<html>"), denied(403, ""));
}

#[test]
fn what_is_no_answer_admits_nobody() {
    for (status, body) in [
        (500, ""),
        (302, ""),
        (404, r#"{"allow":true}"#),
        (429, ""),
        (200, "ok"),
        (200, "\"x\""),
    ] {
        assert_eq!(verdict_of(status, body), Verdict::Unavailable, "{status} {body}");
    }
    let failed = CallbackOutcome::Failed(CallbackFailure::TimedOut);
    assert_eq!(verdict(&failed, CURRENT), Verdict::Unavailable);
}

#[test]
fn a_field_of_another_type_makes_the_answer_useless_and_is_named() {
    let table = [
        (r#"{"allow":"yes"}"#, "allow: true or false expected"),
        (r#"{"allow":false,"status":200}"#, "status: 400 to 599 expected"),
        (r#"{"reason":5}"#, "reason: a string expected"),
        (r#"{"groups":"a"}"#, "groups: a list expected"),
        (r#"{"messages":{}}"#, "messages: a list expected"),
        (r#"{"actions":{}}"#, "actions: a list expected"),
        ("[1]", "a JSON object expected"),
    ];
    for (body, wrong) in table {
        assert_eq!(verdict_of(200, body), Verdict::Unavailable, "{body}");
        assert_eq!(
            fault(Event::Connect, &reply(200, body), 100).as_deref(),
            Some(wrong),
            "{body}"
        );
    }
    for (body, part) in [
        (r#"{"uid":5}"#, "uid"),
        (r#"{"uid":""}"#, "uid"),
        (r#"{"groups":["a",1]}"#, "groups: group"),
        (r#"{"session":"x"}"#, "session"),
        (r#"{"messages":[{"text":"x"}]}"#, "messages: "),
        (r#"{"actions":[{"fn":"sendToAl","args":{}}]}"#, "sendToAl"),
        (r#"{"actions":[{"fn":"sendToAll","args":{}}]}"#, "message"),
        (
            r#"{"actions":[{"fn":"sendToAll"},{"fn":"sendToAll","args":{"message":"x"}}]}"#,
            "message",
        ),
        ("<!DOCTYPE html>", "JSON"),
    ] {
        assert_eq!(verdict_of(200, body), Verdict::Unavailable, "{body}");
        let wrong = fault(Event::Connect, &reply(200, body), 100).unwrap_or_default();
        assert!(wrong.contains(part), "{body}: {wrong}");
    }
    let long = format!(r#"{{"session":{{"x":"{}"}}}}"#, "y".repeat(100));
    let wrong = fault(Event::Connect, &reply(200, &long), 100);
    assert_eq!(wrong.as_deref(), Some("session: longer than session_max = 100"));
    let many = format!(r#"{{"groups":[{}]}}"#, vec!["\"g\""; ITEMS_MAX + 1].join(","));
    assert_eq!(verdict_of(200, &many), Verdict::Unavailable);
}

#[test]
fn an_unknown_field_is_left_out_and_mentioned() {
    let body = r#"{"group":["a"]}"#;
    assert_eq!(admitted(body), Admitted::default());
    let wrong = fault(Event::Connect, &reply(200, body), 100);
    assert_eq!(
        wrong.as_deref(),
        Some("the field \"group\" is not known, and was left out")
    );
    assert!(
        fault(Event::Close, &reply(200, r#"{"allow":true}"#), 100).is_some(),
        "nobody asks that then"
    );
    assert_eq!(fault(Event::Message, &reply(200, r#"{"actions":[]}"#), 100), None);
    assert_eq!(
        fault(Event::Message, &reply(500, "<html>"), 100),
        None,
        "the status says enough"
    );
}

#[test]
fn actions_are_read_all_or_none() {
    let of = |event, status, body: &str| heard(event, &reply(status, body), CURRENT, 100).actions.len();
    let two = r#"{"actions":[{"fn":"sendToCurrentClient","args":{"message":"a"}},{"fn":"SendToAll","args":["b"]}]}"#;
    for event in Event::ALL {
        assert_eq!(of(event, 200, two), 2, "{event:?}");
        assert_eq!(of(event, 500, two), 0, "{event:?}");
    }
    let half = r#"{"actions":[{"fn":"sendToCurrentClient","args":{"message":"a"}},{"fn":"SendToAll","args":[]}]}"#;
    assert_eq!(of(Event::Message, 200, half), 0);
    assert_eq!(of(Event::Message, 200, "ok"), 0);
    let refused = r#"{"allow":false,"actions":[{"fn":"SendToAll","args":["b"]}]}"#;
    assert_eq!(
        of(Event::Connect, 200, refused),
        0,
        "nothing is done for those who stay outside"
    );
    let long = format!(
        r#"{{"session":{{"x":"{}"}},"actions":[{{"fn":"SendToAll","args":["b"]}}]}}"#,
        "y".repeat(100)
    );
    assert_eq!(of(Event::Connect, 200, &long), 0, "nor for those there is no room for");
}
