//! Actions in the backend's answers: carried out in order, and before the next event of the client.

use super::*;

/// The text of a message event.
fn said(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

on_both_drivers! {
    /// The second message is on its way while the first is answered, and still sees what that answer did.
    fn an_open_client_is_changed_between_two_of_its_messages(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |event| ok(json!({"actions": [
            {"fn": "bindUid", "args": [event["client_id"], said(event)]},
            {"fn": "updateSession", "args": [event["client_id"], {said(event): 1}]},
            {"fn": "sendToCurrentClient", "args": {"message": format!("first of {}", said(event))}},
            {"fn": "sendToUid", "args": {"uid": said(event), "json": {"second_of": said(event)}}},
        ]})).delay(ms(20)));
        let client = Client::open_with(server.gateway_port(), anybody());
        for text in ["a", "b", "c"] {
            client.frame(Op::Text, text.as_bytes());
        }
        for text in ["a", "b", "c"] {
            client.expect(Op::Text, format!("first of {text}").as_bytes());
            client.expect(Op::Text, json!({"second_of": text}).to_string().as_bytes());
        }
        let told: Vec<_> = all(&backend, "message").iter().map(|event| (event["uid"].clone(), event["session"].clone())).collect();
        assert_eq!(told, [
            (Value::Null, json!({})),
            (json!("a"), json!({"a": 1})),
            (json!("b"), json!({"a": 1, "b": 1})),
        ]);
    }

    /// What the answer to connect wants done finds the client there, and comes before its first message.
    fn of_connect_they_find_the_client_and_precede_its_first_message(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "connect", |event| ok(json!({"messages": ["welcome"], "actions": [
            {"fn": "bindUid", "args": [event["client_id"], "u"]},
            {"fn": "sendToUid", "args": ["u", "you are u"]},
        ]})));
        for _ in 0..20 {
            let client = Client::open_with(server.gateway_port(), anybody());
            client.frame(Op::Text, b"x");
            client.expect(Op::Text, b"welcome");
            client.expect(Op::Text, b"you are u");
            next(&backend, "connect");
            assert_eq!(next(&backend, "message")["uid"], "u");
            client.frame(Op::Close, b"");
            assert_eq!(next(&backend, "close")["uid"], "u");
        }
    }

    fn of_close_they_reach_those_who_stay(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "close", |event| ok(json!({"actions": [
            {"fn": "sendToCurrentClient", "args": {"message": "nobody hears this"}},
            {"fn": "leaveGroup", "args": [event["client_id"], "g"]},
            {"fn": "sendToAll", "args": [format!("{} left", event["client_id"])]},
        ]})));
        let (stays, goes) = (Client::open_with(server.gateway_port(), anybody()), Client::open_with(server.gateway_port(), anybody()));
        next(&backend, "connect");
        let id = next(&backend, "connect")["client_id"].clone();
        goes.frame(Op::Close, b"");
        stays.expect(Op::Text, format!("{id} left").as_bytes());
        stays.expect_silence(ms(100));
    }

    fn a_client_is_closed_by_an_answer_to_it(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |_| ok(json!({"actions": [
            {"fn": "closeCurrentClient", "args": {"message": "farewell", "code": 4000, "reason": "done"}},
        ]})));
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, b"quit");
        client.expect(Op::Text, b"farewell");
        client.expect(Op::Close, &[&4000u16.to_be_bytes()[..], b"done"].concat());
        next(&backend, "connect");
        next(&backend, "message");
        let gone = next(&backend, "close");
        assert_eq!((&gone["cause"], &gone["code"], &gone["reason"]), (&json!("kicked"), &json!(4000), &json!("done")));
    }

    fn one_that_cannot_be_read_stops_all_and_one_that_is_refused_only_itself(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |event| {
            let second = match said(event) {
                "unreadable" => json!({"fn": "sendToAll", "args": {"text": "x"}}),
                _ => json!({"fn": "BindUid", "args": {"client_id": event["client_id"], "uid": "taken", "exclusive": "reject"}}),
            };
            ok(json!({"actions": [
                {"fn": "sendToCurrentClient", "args": {"message": "before"}},
                second,
                {"fn": "sendToCurrentClient", "args": {"message": "behind"}},
            ]}))
        });
        let (first, second) = (Client::open_with(server.gateway_port(), anybody()), Client::open_with(server.gateway_port(), anybody()));
        first.frame(Op::Text, b"take it");
        first.expect(Op::Text, b"before");
        first.expect(Op::Text, b"behind");
        second.frame(Op::Text, b"unreadable");
        second.frame(Op::Text, b"take it too");
        second.expect(Op::Text, b"before");
        second.expect(Op::Text, b"behind");
        second.expect_silence(ms(50));
        server.expect_said("an action of the answer was refused");
        server.expect_said("uid_taken");
        server.expect_said("actions: ");
        let troubles = |reason: &str| metric(&server, &format!("rainbow_callback_troubles_total{{kind=\"gateway_message\",reason=\"{reason}\"}}"));
        assert_eq!((troubles("bad_answer"), troubles("action_refused")), (1, 1));
    }
}
