//! Cases 7 to 18 of the conformance list, on one node with several shards.

use super::*;

on_both_drivers! {
    /// Case 7.
    fn to_everybody_to_some_and_to_nobody(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c], [id_a, id_b, _]) = gateway.connect_many();
        let sent = gateway.call("SendToAll", json!(["all"]));
        assert_eq!(sent, json!({"matched": 3, "queued": 3, "dropped": 0, "nodes": 1}));
        gateway.call("sendToAll", json!({"message": "not a", "exclude_client_id": [id_a]}));
        gateway.call("sendToAll", json!(["only b", [id_b, GONE]]));
        let sent = gateway.call("sendToAll", json!(["nobody", []]));
        assert_eq!(sent["matched"], 0);
        let got = gateway.received(&[&a, &b, &c]);
        assert_eq!(got, [vec!["all"], vec!["all", "not a", "only b"], vec!["all", "not a"]]);
    }

    /// Case 8.
    fn to_one_client_or_to_one_that_is_not_there(on) {
        let gateway = Gateway::on(&on);
        let ([a, b], [id_a, _]) = gateway.connect_many();
        let to = |id: &str| format!("POST /v1/clients/{id}/messages");
        gateway.done(&to(&id_a), json!({"message": "a"}));
        gateway.done(&to(&id_a), json!({"message_base64": "/wA=", "binary": true}));
        gateway.done(&to(&id_a), json!({"message": ""}));
        assert_eq!(gateway.refused(&to(GONE), json!({"message": "x"})), (404, "client_not_found".into()));
        assert_eq!(gateway.refused(&to("malformed"), json!({"message": "x"})), (400, "bad_request".into()));
        for id in [GONE, "malformed", "%2e%2e"] {
            let sent = gateway.done(&format!("{}?lenient=1", to(id)), json!({"message": "x"}));
            assert_eq!(sent["matched"], 0, "{id}");
        }
        assert_eq!(gateway.received(&[&a, &b]), [vec!["a", "binary \u{fffd}\0", ""], vec![]]);
    }

    /// Case 9.
    fn to_uids(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c], [id_a, id_b, id_c]) = gateway.connect_many();
        for (id, uid) in [(&id_a, "u1"), (&id_b, "u1"), (&id_c, "u2")] {
            gateway.call("BindUid", json!([id, uid]));
        }
        assert_eq!(gateway.call("sendToUid", json!(["u1", "one"]))["queued"], 2);
        assert_eq!(gateway.call("sendToUid", json!([["u1", "u2", "u1", "u3"], "all"]))["queued"], 3);
        assert_eq!(gateway.received(&[&a, &b, &c]), [vec!["one", "all"], vec!["one", "all"], vec!["all"]]);
    }

    /// Case 10.
    fn rebinding_leaves_nothing_behind(on) {
        let gateway = Gateway::on(&on);
        let (_clients, [id_a, id_b]) = gateway.connect_many::<2>();
        gateway.call("BindUid", json!([id_a, "u1"]));
        assert_eq!(gateway.call("BindUid", json!([id_b, "u1"]))["previous_uid"], Value::Null);
        assert_eq!(gateway.call("BindUid", json!([id_b, "u3"]))["previous_uid"], "u1");
        assert_eq!(gateway.call("BindUid", json!([id_b, "u3"]))["previous_uid"], "u3");
        assert_eq!(gateway.get("/v1/uids/u1/clients")["client_ids"], json!([id_a]));
        gateway.call("BindUid", json!([id_b, "u1"]));
        assert_eq!(gateway.get("/v1/uids/u3"), json!({"online": false, "clients": 0}));
        assert_eq!(gateway.get("/v1/uids")["uids"], json!(["u1"]));
        assert_eq!(gateway.get("/v1/uids:count")["count"], 1);
    }

    /// Case 11.
    fn unbinding_and_disconnecting(on) {
        let gateway = Gateway::on(&on);
        let ([a, b], [id_a, id_b]) = gateway.connect_many();
        gateway.call("BindUid", json!([id_a, "u1"]));
        gateway.call("BindUid", json!([id_b, "u2"]));
        assert_eq!(gateway.call("UnbindUid", json!([id_a]))["previous_uid"], "u1");
        assert_eq!(gateway.call("UnbindUid", json!([id_a]))["previous_uid"], Value::Null);
        assert_eq!(gateway.get(&format!("/v1/clients/{id_a}/uid"))["uid"], Value::Null);
        b.reset();
        assert!(eventually(SOON, || gateway.get("/v1/uids/u2")["online"] == false));
        assert_eq!(gateway.get("/v1/uids")["uids"], json!([]));
        assert_eq!(gateway.refused(&format!("GET /v1/clients/{id_b}/uid"), Value::Null).0, 404);
        drop(a);
    }

    /// Case 12.
    fn no_empty_uid(on) {
        let gateway = Gateway::on(&on);
        let (_clients, [id_a, id_b, id_c]) = gateway.connect_many::<3>();
        assert_eq!(gateway.refused("POST /v1/call/BindUid", json!([id_a, ""])), (400, "bad_request".into()));
        for id in [&id_a, &id_b, &id_c] {
            gateway.call("JoinGroup", json!([id, "g"]));
        }
        gateway.call("BindUid", json!([id_a, "u1"]));
        gateway.call("BindUid", json!([id_b, "u2"]));
        let uids = gateway.get("/v1/groups/g/uids");
        assert_eq!((strings(&uids["uids"]), &uids["count"]), (sorted(["u1", "u2"]), &json!(2)));
        assert_eq!(gateway.get("/v1/groups/g"), json!({"clients": 3, "uids": 2}));
    }

    /// Case 13.
    fn to_groups(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c], [id_a, id_b, id_c]) = gateway.connect_many();
        assert_eq!(gateway.call("JoinGroup", json!([id_a, "g"]))["changed"], true);
        assert_eq!(gateway.call("JoinGroup", json!([id_a, "g"]))["changed"], false);
        for (id, group) in [(&id_b, "g"), (&id_b, "h"), (&id_c, "h")] {
            gateway.call("JoinGroup", json!([id, group]));
        }
        assert_eq!(gateway.get("/v1/groups/g")["clients"], 2);
        assert_eq!(gateway.call("SendToGroup", json!(["g", "one"]))["queued"], 2);
        gateway.call("sendToGroup", json!(["g", "not a", id_a]));
        assert_eq!(gateway.call("sendToGroup", json!([["g", "h"], "both"]))["queued"], 3);
        let targets = json!({"targets": {"groups": ["h"], "clients": [id_c, id_a]}, "message": "mixed"});
        assert_eq!(gateway.done("POST /v1/messages:multi", targets)["queued"], 3);
        let got = gateway.received(&[&a, &b, &c]);
        assert_eq!(got, [vec!["one", "both", "mixed"], vec!["one", "not a", "both", "mixed"], vec!["both", "mixed"]]);
    }

    /// Case 14.
    fn the_last_one_takes_the_group_along(on) {
        let gateway = Gateway::on(&on);
        let ([a, b], [id_a, id_b]) = gateway.connect_many();
        assert_eq!(gateway.call("LeaveGroup", json!([id_a, "g"]))["changed"], false);
        gateway.call("JoinGroup", json!([id_a, "g"]));
        gateway.call("JoinGroup", json!([id_b, "h"]));
        assert_eq!(gateway.call("LeaveGroup", json!([id_a, "g"]))["changed"], true);
        assert_eq!(gateway.get("/v1/groups")["groups"], json!(["h"]));
        b.reset();
        assert!(eventually(SOON, || gateway.get("/v1/groups")["groups"] == json!([])));
        drop(a);
    }

    /// Case 15.
    fn ungroup_and_the_groups_of_a_client(on) {
        let gateway = Gateway::on(&on);
        let (_clients, [id_a, id_b, id_c]) = gateway.connect_many::<3>();
        for id in [&id_a, &id_b, &id_c] {
            gateway.call("JoinGroup", json!([id, "g"]));
        }
        gateway.call("JoinGroup", json!([id_a, "h/1"]));
        gateway.call("BindUid", json!([id_a, "u"]));
        let groups = gateway.get(&format!("/v1/clients/{id_a}/groups"));
        assert_eq!(strings(&groups["groups"]), sorted(["g", "h/1"]));
        assert_eq!(gateway.done("DELETE /v1/groups/g", Value::Null), json!({"removed": 3}));
        assert_eq!(gateway.done("DELETE /v1/groups/g", Value::Null), json!({"removed": 0}));
        assert_eq!(gateway.get(&format!("/v1/clients/{id_a}/groups"))["groups"], json!(["h/1"]));
        assert_eq!(gateway.get("/v1/groups/g/clients")["client_ids"], json!([]));
        assert_eq!(gateway.call("JoinGroup", json!([id_b, "g"]))["changed"], true);
        assert_eq!(gateway.get("/v1/groups/g/clients")["client_ids"], json!([id_b]));
    }

    /// Cases 16 and 17.
    fn sessions(on) {
        let gateway = Gateway::on(&on);
        let ([a, b], [id_a, id_b]) = gateway.connect_many();
        let of = |id: &str| format!("/v1/clients/{id}/session");
        assert_eq!(gateway.get(&of(&id_a)), json!({}), "never set");
        gateway.call("SetInfo", json!({"clientId": id_a, "info": {"name": "x", "age": "7"}}));
        gateway.call("SetInfo", json!({"clientId": id_a, "info": {"name": "y"}}));
        assert_eq!(gateway.get(&of(&id_a)), json!({"name": "y"}), "replaced");
        let merged = gateway.call("UpdateInfo", json!([id_a, {"n": {"a": {"b": 1, "c": [1]}}, "k": null}]));
        assert_eq!(merged, json!({"name": "y", "n": {"a": {"b": 1, "c": [1]}}}));
        let merged = gateway.done(&format!("PATCH {}", of(&id_a)), json!({"n": {"a": {"b": null, "c": [2]}}, "name": null}));
        assert_eq!(merged, json!({"n": {"a": {"c": [2]}}}));
        gateway.call("SetInfo", json!([id_a, {}]));
        gateway.call("UpdateInfo", json!([id_a, {"k": "v"}]));
        assert_eq!(gateway.get(&of(&id_a)), json!({"k": "v"}));
        assert_eq!(gateway.received(&[&a, &b]), [const { Vec::<String>::new() }; 2], "both are connected");
        // What is too long is refused, and changes nothing.
        let long = json!({"long": "x".repeat(70_000)});
        assert_eq!(gateway.refused(&format!("PATCH {}", of(&id_a)), long.clone()), (413, "too_large".into()));
        assert_eq!(gateway.refused(&format!("PUT {}", of(&id_a)), long), (413, "too_large".into()));
        assert_eq!(gateway.get(&of(&id_a)), json!({"k": "v"}));
        a.reset();
        assert!(eventually(SOON, || gateway.rest(&format!("GET {}", of(&id_a)), Value::Null).0 == 404), "offline is another thing");
        let (_again, id) = gateway.connect();
        assert_eq!(gateway.get(&of(&id)), json!({}));
        assert_eq!(gateway.get("/v1/clients?session=1")["sessions"], normal(&json!({id: {}, id_b: {}})));
    }

    /// Case 18.
    fn closing(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c, d], [id_a, id_b, id_c, id_d]) = gateway.connect_many();
        let online = |id: &str| gateway.get(&format!("/v1/clients/{id}/online"))["online"].clone();
        let closed = gateway.done(&format!("DELETE /v1/clients/{id_a}?code=4001&reason=gone"), json!({"message": "bye"}));
        assert_eq!(closed, json!({"closed": true}));
        assert_eq!(online(&id_a), false, "at once");
        a.expect(Op::Text, b"bye");
        a.expect(Op::Close, b"\x0f\xa1gone");
        gateway.call("CloseClient", json!([id_b]));
        b.expect(Op::Close, b"\x03\xe8");
        gateway.call("destoryClient", json!([id_c]));
        assert_eq!(c.next(SOON).expect("the end").op, Op::Eof);
        assert_eq!(gateway.refused(&format!("DELETE /v1/clients/{id_c}"), Value::Null), (404, "client_not_found".into()));
        assert_eq!(gateway.done(&format!("DELETE /v1/clients/{id_c}?lenient=1"), Value::Null), json!({"closed": false}));
        assert_eq!(gateway.received(&[&d]), [const { Vec::<String>::new() }]);
        assert_eq!(online(&id_d), true);
    }

    fn closing_a_uid_or_a_group(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c, d], [id_a, id_b, id_c, _]) = gateway.connect_many();
        gateway.call("bindUid", json!([id_a, "u"]));
        gateway.call("joinGroup", json!([id_b, "g"]));
        gateway.call("joinGroup", json!([id_c, "g"]));
        assert_eq!(gateway.done("DELETE /v1/uids/u/clients", json!({"message": "bye"})), json!({"closed": 1}));
        a.expect(Op::Text, b"bye");
        a.expect(Op::Close, b"\x03\xe8");
        assert_eq!(gateway.done("DELETE /v1/groups/g/clients?code=4000", Value::Null), json!({"closed": 2}));
        b.expect(Op::Close, b"\x0f\xa0");
        c.expect(Op::Close, b"\x0f\xa0");
        assert_eq!(gateway.get("/v1/clients:count")["count"], 1);
        drop(d);
    }

    fn exclusive_logins(on) {
        let gateway = Gateway::on(&on);
        let ([a, b, c], [id_a, id_b, id_c]) = gateway.connect_many();
        let bind = |id: &str, exclusive: &str| gateway.rest(&format!("PUT /v1/clients/{id}/uid"), json!({"uid": "u", "exclusive": exclusive}));
        assert_eq!(bind(&id_a, "reject").0, 200);
        assert_eq!(bind(&id_a, "reject").0, 200, "it has it already");
        let (status, value) = bind(&id_b, "reject");
        assert_eq!((status, &value["error"]["code"]), (409, &json!("uid_taken")));
        assert_eq!(gateway.get(&format!("/v1/clients/{id_b}/uid"))["uid"], Value::Null);
        assert_eq!(bind(&id_b, "kick").0, 200);
        assert_eq!(a.next(SOON).expect("a close frame").op, Op::Close);
        assert_eq!(gateway.get("/v1/uids/u/clients")["client_ids"], json!([id_b]));
        assert_eq!(bind(GONE, "kick").0, 404);
        assert_eq!(gateway.get("/v1/uids/u/clients")["client_ids"], json!([id_b]), "nobody is kicked for nobody");
        gateway.call("bindUid", json!([id_c, "u"]));
        assert_eq!(gateway.get("/v1/uids/u")["clients"], 2, "not exclusive");
        drop((b, c));
    }

    /// Many want the same uid at once: one of them has it in the end.
    fn of_many_that_want_a_uid_one_has_it(on) {
        let gateway = Gateway::on(&on);
        let (_clients, ids) = gateway.connect_many::<12>();
        for (exclusive, refusals) in [("reject", 11), ("kick", 0)] {
            let port = gateway.server.port();
            let threads: Vec<_> = ids.iter().map(|id| {
                let body = json!({"uid": format!("u {exclusive}"), "exclusive": exclusive}).to_string();
                let put = Request { method: "PUT".into(), ..Request::post(&format!("/v1/clients/{id}/uid"), body) };
                let put = put.header("Authorization", &format!("Bearer {TOKEN}"));
                std::thread::spawn(move || http::call(port, &put, SOON).expect("an answer").status)
            }).collect();
            let answers: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            let refused = answers.iter().filter(|status| **status == 409).count();
            assert_eq!(gateway.get(&format!("/v1/uids/u%20{exclusive}"))["clients"], 1, "{answers:?}");
            assert_eq!(refused, refusals, "{answers:?}");
        }
    }

    fn lists_in_parts(on) {
        let gateway = Gateway::on(&on);
        let (_clients, ids) = gateway.connect_many::<25>();
        for (at, id) in ids.iter().enumerate() {
            gateway.call("joinGroup", json!([id, "g"]));
            gateway.call("bindUid", json!([id, format!("u{at}")]));
        }
        for (path, field, expected) in [
            ("/v1/clients", "client_ids", 25), ("/v1/groups/g/clients", "client_ids", 25), ("/v1/uids", "uids", 25),
            ("/v1/groups", "groups", 1), ("/v1/uids/u7/clients", "client_ids", 1),
        ] {
            let (mut all, mut cursor, mut parts) = (std::collections::BTreeSet::new(), String::new(), 0);
            loop {
                let part = gateway.get(&format!("{path}?limit=4{cursor}"));
                let items = strings(&part[field]);
                assert!(items.len() <= 4, "{path}: {part}");
                all.extend(items);
                parts += 1;
                assert!(parts < 40, "{path} does not end");
                match part["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={}", http::escape(next)),
                    None => break,
                }
            }
            assert_eq!(all.len(), expected, "{path}");
        }
        assert_eq!(gateway.refused("GET /v1/clients?limit=4&cursor=nonsense", Value::Null), (400, "bad_request".into()));
    }
}
