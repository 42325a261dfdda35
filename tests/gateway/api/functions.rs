//! Every function by REST, by the names of bin-x/websocket and by those of GatewayWorker, from the same state: the same
//! answer, the same state afterwards, the same messages (case 25).

use std::collections::BTreeSet;

use rainbow_server::protocol::gateway::api::FUNCTIONS;

use super::*;

/// One thing by several ways: the first is REST, the others functions with their arguments.
struct Row {
    rest: (String, Value),
    calls: Vec<(&'static str, Value)>,
}

fn row(request: impl Into<String>, body: Value, calls: impl Into<Vec<(&'static str, Value)>>) -> Row {
    Row {
        rest: (request.into(), body),
        calls: calls.into(),
    }
}

/// Three clients in a state that has something of everything.
struct World {
    gateway: Gateway,
    clients: [Client; 3],
    ids: [String; 3],
}

impl World {
    fn new(gateway: Gateway) -> Self {
        let (clients, ids) = gateway.connect_many();
        Self { gateway, clients, ids }
    }

    fn reset(&mut self) {
        for at in 0..3 {
            if !self.gateway.get(&format!("/v1/clients/{}/online", self.ids[at]))["online"]
                .as_bool()
                .expect("a bool")
            {
                (self.clients[at], self.ids[at]) = self.gateway.connect();
            }
        }
        let [a, b, c] = &self.ids;
        let calls = json!({"calls": [
            {"fn": "ungroup", "args": ["g"]}, {"fn": "ungroup", "args": ["h"]}, {"fn": "ungroup", "args": ["new"]},
            {"fn": "bindUid", "args": [a, "u"]}, {"fn": "bindUid", "args": [b, "u"]}, {"fn": "unbindUid", "args": [c]},
            {"fn": "joinGroup", "args": [a, "g"]}, {"fn": "joinGroup", "args": [b, "g"]},
            {"fn": "joinGroup", "args": [b, "h"]}, {"fn": "joinGroup", "args": [c, "h"]},
            {"fn": "setSession", "args": [a, {"k": "v", "n": {"x": 1}}]},
            {"fn": "setSession", "args": [b, {}]}, {"fn": "setSession", "args": [c, {}]},
        ]});
        let results = self.gateway.done("POST /v1/batch", calls);
        assert!(
            results["results"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|one| one["ok"] == true),
            "{results}"
        );
    }

    /// All that can be seen.
    fn state(&self) -> Value {
        let gateway = &self.gateway;
        let online: Vec<_> = self
            .ids
            .iter()
            .map(|id| gateway.get(&format!("/v1/clients/{id}/online")))
            .collect();
        json!([
            online,
            gateway.get("/v1/clients?session=1"),
            gateway.get("/v1/groups?clients=1"),
            gateway.get("/v1/uids"),
            gateway.done("POST /v1/uids:clients", json!({"uids": ["u", "w"]})),
        ])
    }

    /// What a way leads to, with ids in the order of the clients in place of ids.
    fn outcome(&mut self, request: &str, body: &Value) -> String {
        self.reset();
        let fill = |text: &str| {
            let names = ["{A}", "{B}", "{C}"].into_iter().zip(&self.ids);
            names.fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
        };
        let request = fill(request);
        let body: Value = serde_json::from_str(&fill(&body.to_string())).expect("JSON");
        let answer = self.gateway.rest(&request, body);
        let state = self.state();
        let here: Vec<&Client> = self.clients.iter().collect();
        let texts = self.gateway.received(&here);
        let all = normal(&json!([answer.0, answer.1, state, texts])).to_string();
        let names = ["{A}", "{B}", "{C}"].into_iter().zip(&self.ids);
        let named = names.fold(all, |text, (name, id)| text.replace(id.as_str(), name));
        normal(&serde_json::from_str(&named).expect("JSON")).to_string()
    }
}

#[allow(clippy::too_many_lines)]
fn rows() -> Vec<Row> {
    let none = Value::Null;
    let page = || json!({"limit": 1000});
    vec![
        row(
            "POST /v1/messages",
            json!({"message": "x"}),
            [("SendToAll", json!({"message": "x"})), ("sendToAll", json!(["x"]))],
        ),
        row(
            "POST /v1/messages",
            json!({"message": "x", "clients": ["{A}", "{B}", GONE], "exclude": ["{A}"]}),
            [("sendToAll", json!(["x", ["{A}", "{B}", GONE], "{A}"]))],
        ),
        row(
            "POST /v1/messages",
            json!({"message": "x", "clients": []}),
            [("sendToAll", json!(["x", []]))],
        ),
        row(
            "POST /v1/clients/{A}/messages",
            json!({"json": {"a": [1, "é"]}}),
            [
                (
                    "SendToClient",
                    json!({"clientId": "{A}", "message": "{\"a\":[1,\"é\"]}"}),
                ),
                ("sendToClient", json!(["{A}", "{\"a\":[1,\"é\"]}"])),
            ],
        ),
        row(
            "POST /v1/clients/{A}/messages",
            json!({"message_base64": "AP8=", "binary": true}),
            [(
                "sendToClient",
                json!({"client_id": "{A}", "message_base64": "AP8=", "binary": true}),
            )],
        ),
        row(
            format!("POST /v1/clients/{GONE}/messages"),
            json!({"message": "x"}),
            [("sendToClient", json!([GONE, "x"]))],
        ),
        row(
            "POST /v1/uids/u/messages",
            json!({"message": "x"}),
            [
                ("SendToUid", json!({"uid": "u", "message": "x"})),
                ("sendToUid", json!(["u", "x"])),
            ],
        ),
        row(
            "POST /v1/uids/messages",
            json!({"uids": ["u", "w"], "message": "x", "exclude": ["{B}"]}),
            [
                ("sendToUids", json!([["u", "w"], "x", ["{B}"]])),
                (
                    "sendToUid",
                    json!({"uid": ["u", "w"], "message": "x", "exclude": "{B}"}),
                ),
            ],
        ),
        row(
            "POST /v1/groups/g/messages",
            json!({"message": "x"}),
            [
                ("SendToGroup", json!({"group": "g", "message": "x"})),
                ("sendToGroup", json!(["g", "x"])),
            ],
        ),
        row(
            "POST /v1/groups/messages",
            json!({"groups": ["g", "h"], "message": "x", "exclude": ["{C}"]}),
            [
                ("sendToGroups", json!([["g", "h"], "x", ["{C}"]])),
                ("sendToGroup", json!([["g", "h"], "x", "{C}"])),
            ],
        ),
        row(
            "POST /v1/messages:multi",
            json!({"targets": {"clients": ["{A}"], "uids": ["u"], "groups": ["h"]}, "message": "x"}),
            [(
                "sendToTargets",
                json!([{"clients": ["{A}"], "uids": ["u"], "groups": ["h"]}, "x"]),
            )],
        ),
        row(
            "POST /v1/messages:multi",
            json!({"targets": {"all": true}, "message": "x"}),
            [("SendToAll", json!(["x"]))],
        ),
        row(
            "PUT /v1/clients/{C}/uid",
            json!({"uid": "w"}),
            [
                ("BindUid", json!({"clientId": "{C}", "uid": "w"})),
                ("bindUid", json!(["{C}", "w"])),
            ],
        ),
        row(
            "PUT /v1/clients/{C}/uid",
            json!({"uid": "u", "exclusive": "reject"}),
            [(
                "bindUid",
                json!({"client_id": "{C}", "uid": "u", "exclusive": "reject"}),
            )],
        ),
        row(
            "DELETE /v1/clients/{A}/uid",
            none.clone(),
            [
                ("UnbindUid", json!({"clientId": "{A}"})),
                ("unbindUid", json!(["{A}", "any"])),
            ],
        ),
        row(
            "GET /v1/uids/u",
            none.clone(),
            [("IsUidOnline", json!({"uid": "u"})), ("isUidOnline", json!(["u"]))],
        ),
        row(
            "POST /v1/uids:online",
            json!({"uids": ["u", "w"]}),
            [
                ("isUidsOnline", json!([["u", "w"]])),
                ("areUidsOnline", json!([["u", "w"]])),
            ],
        ),
        row(
            "GET /v1/clients/{A}/uid",
            none.clone(),
            [
                ("GetUidByClientId", json!({"clientId": "{A}"})),
                ("getUidByClientId", json!(["{A}"])),
            ],
        ),
        row(
            "GET /v1/uids/u/clients",
            none.clone(),
            [
                ("GetClientIdsByUid", json!({"uid": "u"})),
                ("getClientIdByUid", json!(["u"])),
            ],
        ),
        row(
            "POST /v1/uids:clients",
            json!({"uids": ["u", "w"]}),
            [("batchGetClientIdByUid", json!([["u", "w"]]))],
        ),
        row(
            "GET /v1/uids",
            none.clone(),
            [("GetAllUid", json!({})), ("getAllUidList", json!([]))],
        ),
        row("GET /v1/uids:count", none.clone(), [("getAllUidCount", json!([]))]),
        row(
            "PUT /v1/groups/new/clients/{A}",
            none.clone(),
            [
                ("JoinGroup", json!({"clientId": "{A}", "group": "new"})),
                ("joinGroup", json!(["{A}", "new"])),
            ],
        ),
        row(
            "PUT /v1/groups/g/clients/{A}",
            none.clone(),
            [("joinGroup", json!(["{A}", "g"]))],
        ),
        row(
            "DELETE /v1/groups/g/clients/{A}",
            none.clone(),
            [
                ("LeaveGroup", json!({"clientId": "{A}", "group": "g"})),
                ("leaveGroup", json!(["{A}", "g"])),
            ],
        ),
        row(
            "POST /v1/groups/g/clients",
            json!({"add": ["{A}", "{C}", GONE], "remove": ["{B}"]}),
            [("changeGroup", json!(["g", ["{A}", "{C}", GONE], ["{B}"]]))],
        ),
        row("DELETE /v1/groups/g", none.clone(), [("ungroup", json!(["g"]))]),
        row(
            "GET /v1/groups/g",
            none.clone(),
            [
                ("GetClientCountByGroup", json!({"group": "g"})),
                ("getClientIdCountByGroup", json!(["g"])),
                ("getClientCountByGroup", json!(["g"])),
            ],
        ),
        row(
            "POST /v1/groups:count",
            json!({"groups": ["g", "none"]}),
            [("batchGetClientIdCountByGroup", json!([["g", "none"]]))],
        ),
        row(
            "GET /v1/groups/g/clients",
            none.clone(),
            [
                ("GetClientIdsByGroup", json!({"group": "g"})),
                ("getClientIdListByGroup", json!(["g"])),
                ("getClientIdListByGroup", json!([["g"]])),
            ],
        ),
        row(
            "GET /v1/groups/g/clients?session=1",
            none.clone(),
            [
                ("getClientSessionsByGroup", json!(["g"])),
                ("getClientInfoByGroup", json!(["g"])),
                ("getAllClientSessions", json!(["g"])),
            ],
        ),
        row(
            "GET /v1/groups/g/uids",
            none.clone(),
            [
                ("GetUidsByGroup", json!({"group": "g"})),
                ("getUidListByGroup", json!(["g"])),
                ("GetUidCountByGroup", json!({"group": "g"})),
                ("getUidCountByGroup", json!([["g"]])),
            ],
        ),
        row(
            "GET /v1/groups",
            none.clone(),
            [("GetAllGroups", json!({})), ("getAllGroupIdList", json!([]))],
        ),
        row(
            "GET /v1/groups?counts=1",
            none.clone(),
            [("getAllGroupClientIdCount", json!([]))],
        ),
        row(
            "GET /v1/groups?clients=1",
            none.clone(),
            [("getAllGroupClientIdList", json!([]))],
        ),
        row(
            "GET /v1/groups?uids=1&counts=1",
            none.clone(),
            [("getAllGroupUidCount", json!([]))],
        ),
        row(
            "GET /v1/groups?uids=1",
            none.clone(),
            [("getAllGroupUidList", json!([]))],
        ),
        row(
            "GET /v1/clients/{B}/groups",
            none.clone(),
            [("getGroupsByClientId", json!(["{B}"]))],
        ),
        row(
            "DELETE /v1/clients/{A}",
            json!({"message": "bye"}),
            [
                ("CloseClient", json!({"clientId": "{A}", "message": "bye"})),
                ("closeClient", json!(["{A}", "bye"])),
            ],
        ),
        row(
            "DELETE /v1/clients/{A}?force=1",
            none.clone(),
            [("destoryClient", json!(["{A}"])), ("destroyClient", json!(["{A}"]))],
        ),
        row("DELETE /v1/uids/u/clients", none.clone(), [("closeUid", json!(["u"]))]),
        row(
            "DELETE /v1/groups/h/clients",
            none.clone(),
            [("closeGroup", json!(["h"]))],
        ),
        row(
            "GET /v1/clients/{A}/online",
            none.clone(),
            [("IsOnline", json!({"clientId": "{A}"})), ("isOnline", json!(["{A}"]))],
        ),
        row("GET /v1/clients/{A}", none.clone(), [("getClient", json!(["{A}"]))]),
        row(
            format!("GET /v1/clients/{GONE}"),
            none.clone(),
            [("getClient", json!([GONE]))],
        ),
        row(
            "GET /v1/clients:count",
            none.clone(),
            [
                ("GetAllClientCount", json!({})),
                ("getAllClientCount", json!([])),
                ("getAllClientIdCount", json!([])),
            ],
        ),
        row("GET /v1/clients", none.clone(), [("getAllClientIdList", json!([]))]),
        row(
            "GET /v1/clients?limit=1000",
            none.clone(),
            [("getAllClientIdList", page())],
        ),
        row(
            "GET /v1/clients?session=1",
            none.clone(),
            [("getAllClientSessions", json!([""])), ("getAllClientInfo", json!([]))],
        ),
        row(
            "GET /v1/clients/{A}/session",
            none.clone(),
            [("GetInfo", json!({"clientId": "{A}"})), ("getSession", json!(["{A}"]))],
        ),
        row(
            "PUT /v1/clients/{A}/session",
            json!({"new": [1, {"x": null}]}),
            [
                ("SetInfo", json!({"clientId": "{A}", "info": {"new": [1, {"x": null}]}})),
                ("setSession", json!(["{A}", {"new": [1, {"x": null}]}])),
            ],
        ),
        row(
            "PATCH /v1/clients/{A}/session",
            json!({"n": {"y": 2, "x": null}}),
            [
                (
                    "UpdateInfo",
                    json!({"clientId": "{A}", "info": {"n": {"y": 2, "x": null}}}),
                ),
                ("updateSession", json!(["{A}", {"n": {"y": 2, "x": null}}])),
            ],
        ),
        row(
            "POST /v1/batch",
            json!({"calls": [{"fn": "joinGroup", "args": ["{C}", "g"]}, {"fn": "SendToGroup", "args": ["g", "x"]}, {"fn": "isOnline", "args": [GONE]}]}),
            [(
                "batch",
                json!([[{"fn": "JoinGroup", "args": {"clientId": "{C}", "group": "g"}}, {"fn": "sendToGroup", "args": ["g", "x"]}, {"fn": "isOnline", "args": [GONE]}]]),
            )],
        ),
        row("GET /v1/nodes", none.clone(), [("getNodes", json!([]))]),
    ]
}

on_both_drivers! {
    fn every_function_by_every_name(on) {
        let mut world = World::new(Gateway::on(&on));
        let (mut called, mut states) = (BTreeSet::new(), BTreeSet::new());
        for Row { rest: (request, body), calls } in rows() {
            let expected = world.outcome(&request, &body);
            for (name, arguments) in calls {
                let given = world.outcome(&format!("POST /v1/call/{name}"), &arguments);
                assert_eq!(given, expected, "{name} {arguments} is not {request} {body}");
                called.insert(name.to_ascii_lowercase());
            }
            states.insert(expected);
        }
        assert!(states.len() > 40, "the ways differ from each other: {}", states.len());
        let current = |name: &&str| !name.contains("Current");
        let names = FUNCTIONS.iter().flat_map(|function| function.names()).filter(current);
        let missing: Vec<_> = names.filter(|name| !called.contains(&name.to_ascii_lowercase())).collect();
        assert!(missing.is_empty(), "not called: {missing:?}");
    }
}
