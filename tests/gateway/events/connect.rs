//! May a client come in? What the backend is asked, and what its answer makes of the client.

use super::*;
use crate::common::client::Open;

/// A client's request as the upgrade is asked for; what it is answered.
fn answered(server: &Server, open: Open) -> (u16, String, Vec<(String, String)>) {
    let client = Client::start(server.gateway_port(), open).expect("connects");
    let answer = client.answer(SOON).expect("an answer");
    (answer.status, answer.text(), answer.headers.clone())
}

on_both_drivers! {
    fn the_backend_is_shown_the_request(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let headers = [("Cookie", "sid=1; theme=dark"), ("X-Token", "t\u{e9}\""), ("Sec-WebSocket-Protocol", "a, b")];
        let client = Client::open_with(server.gateway_port(), Open {
            target: "/room/1?name=J%C3%B6rg&x=1&x=2".into(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).to_vec(),
            ..Open::default()
        });
        let asked = next(&backend, "connect");
        let id = asked["client_id"].as_str().expect("an id");
        assert!(id.len() == 20 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        assert_eq!(asked["ip"], "127.0.0.1");
        assert!(asked["port"].as_u64().is_some_and(|port| port > 0 && port != u64::from(server.gateway_port())));
        assert_eq!(asked["path"], "/room/1");
        assert_eq!(asked["query"], json!({"name": "Jörg", "x": "2"}));
        assert_eq!(asked["cookies"], json!({"sid": "1", "theme": "dark"}));
        assert_eq!(asked["headers"]["x-token"], "té\"");
        assert_eq!(asked["headers"]["upgrade"], "websocket");
        assert_eq!(asked["subprotocols"], json!(["a", "b"]));
        assert_eq!(asked["node"].as_str().map(str::len), Some(8));
        drop(client);
        let gone = next(&backend, "close");
        assert_eq!((&gone["client_id"], &gone["uid"], &gone["groups"]), (&asked["client_id"], &Value::Null, &json!([])));
    }

    fn ids_differ_and_are_the_same_in_every_event(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let clients: Vec<_> = (0..20).map(|_| Client::open_with(server.gateway_port(), anybody())).collect();
        for client in &clients {
            client.frame(Op::Text, b"x");
        }
        backend.wait_for("/events/", 40, SOON);
        drop(clients);
        backend.wait_for("/events/", 60, SOON);
        let ids = |name| {
            let mut ids: Vec<_> = all(&backend, name).iter().map(|body| body["client_id"].to_string()).collect();
            ids.sort();
            ids
        };
        let (asked, said, gone) = (ids("connect"), ids("message"), ids("close"));
        assert_eq!((&asked, &asked), (&said, &gone));
        assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "{asked:?}");
    }

    fn who_is_not_wanted_is_told_so_and_nobody_is_told_of_it_afterwards(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let answers = [
            (Reply::ok(r#"{"allow": false}"#), 403, "Forbidden\n"),
            (Reply::ok(r#"{"allow": false, "status": 429, "reason": "too many"}"#), 429, "too many"),
            (Reply::ok("").status(401), 401, "Unauthorized\n"),
            (Reply::ok(r#"{"reason": "banned"}"#).status(403), 403, "banned"),
        ];
        for (reply, status, text) in answers {
            answer(&backend, "connect", move |_| reply.clone());
            let (got, body, _) = answered(&server, anybody());
            assert_eq!((got, body.as_str()), (status, text));
        }
        assert_eq!(metric(&server, "rainbow_closes_total{cause=\"denied\"}"), 4);
        std::thread::sleep(ms(200));
        assert_eq!(all(&backend, "close").len(), 0);
        assert!(!server.log_tail().contains("gateway_connect"), "a refusal is no fault:\n{}", server.log_tail());
    }

    fn without_a_usable_answer_a_client_is_told_to_come_back(setup) {
        let backend = backend();
        let server = setup(telling(&backend).set("callback_timeout", 1)).start();
        let answers = [
            Reply::ok("").status(500),
            Reply::ok("").status(429),
            Reply::ok("<html>please log in</html>"),
            Reply::ok(r#"{"allow": 1}"#),
            Reply::ok(r#"{"uid": 17}"#),
            Reply::ok(r#"{"actions": [{"fn": "noSuchFunction"}]}"#),
            Reply::ok("").delay(ms(1_500)),
        ];
        for reply in answers {
            let shown = format!("{reply:?}");
            answer(&backend, "connect", move |_| reply.clone());
            let (status, _, headers) = answered(&server, anybody());
            assert_eq!(status, 503, "{shown}");
            assert!(headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("retry-after")), "{headers:?}");
        }
        drop(backend);
        assert_eq!(answered(&server, anybody()).0, 503, "nobody listens");
    }

    fn an_answer_makes_the_client_what_it_is_from_its_first_moment(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "connect", |asked| ok(json!({
            "uid": "u1",
            "groups": ["b", "a"],
            "session": {"since": 5, "deep": {"list": [1, null]}},
            "messages": [{"json": {"your_id": asked["client_id"]}}, "two", {"message_base64": "AP8=", "binary": true}],
        })));
        let client = Client::open_with(server.gateway_port(), anybody());
        let id = next(&backend, "connect")["client_id"].clone();
        client.expect(Op::Text, json!({"your_id": id}).to_string().as_bytes());
        client.expect(Op::Text, b"two");
        client.expect(Op::Binary, &[0, 255]);
        client.frame(Op::Text, b"hi");
        let said = next(&backend, "message");
        let session = json!({"since": 5, "deep": {"list": [1, null]}});
        assert_eq!((&said["uid"], &said["session"]), (&json!("u1"), &session));
        client.drop_now();
        let gone = next(&backend, "close");
        assert_eq!((&gone["uid"], &gone["groups"], &gone["session"]), (&json!("u1"), &json!(["a", "b"]), &session));
    }

    fn whoever_leaves_while_the_backend_thinks_is_told_of_once(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "connect", |_| ok(json!({"uid": "u", "groups": ["g"]})).delay(ms(400)));
        let client = Client::start(server.gateway_port(), anybody()).expect("connects");
        let asked = next(&backend, "connect");
        client.drop_now();
        let gone = next(&backend, "close");
        assert_eq!(gone["client_id"], asked["client_id"]);
        assert_eq!((&gone["cause"], &gone["uid"], &gone["groups"]), (&json!("gone_during_auth"), &json!("u"), &json!(["g"])));
        assert_eq!((&gone["code"], &gone["reason"]), (&json!(1006), &json!("")));
    }

    fn without_a_url_everybody_comes_in_and_nobody_is_told(setup) {
        let backend = backend();
        let server = setup(Builder::gateway()).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, b"hello");
        client.frame(Op::Ping, b"1");
        client.expect(Op::Pong, b"1");
        client.drop_now();
        std::thread::sleep(ms(100));
        assert!(backend.requests().is_empty());
    }

    fn each_event_may_have_a_url_of_its_own_or_none(setup) {
        let backend = backend();
        let url = |path: &str| format!("http://127.0.0.1:{}/{path}/", backend.port());
        let server = setup(Builder::gateway().of_gateway("message_url", url("said"))).start();
        backend.reply("/said/", Reply::ok(""));
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, b"x");
        let request = backend.next(SOON).expect("the message");
        assert_eq!((request.path.as_str(), event(&request).as_str()), ("/said/", "message"));
        assert_eq!(request.header("x-rainbow-signature"), None, "no secret, no signature");
        client.drop_now();
        assert!(backend.next(ms(300)).is_none(), "no close event");
    }
}
