//! The table of functions, requests that are understood and requests that are not, and what is written against its schema.

use std::collections::BTreeSet;

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::name::Name;
use crate::protocol::gateway::names;

const A: &str = "0123456789abcdef0123";
const B: &str = "abcdefabcdefabcdef00";

fn http(request: &str, body: &str) -> Result<Request, ApiError> {
    let (method, target) = request.split_once(' ').expect("a method and a target");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request::from_http(&HttpRequest {
        method: &method.parse().expect("a method"),
        path: path.as_bytes(),
        query: query.as_bytes(),
        body: body.as_bytes(),
    })
}

fn function(name: &str, arguments: Value) -> Result<Request, ApiError> {
    Request::from_function(name, arguments, &Context::default())
}

fn refused(result: Result<Request, ApiError>) -> (&'static str, String) {
    let error = result.expect_err("refused");
    (error.code.word(), error.message.into_owned())
}

#[test]
fn names_and_routes_are_used_once() {
    let names: Vec<_> = FUNCTIONS
        .iter()
        .flat_map(Function::names)
        .map(str::to_ascii_lowercase)
        .collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let routes = || FUNCTIONS.iter().filter_map(|is| is.route.as_ref());
    let distinct: BTreeSet<_> = routes().map(|route| (route.method.as_str(), route.path)).collect();
    assert_eq!(distinct.len(), routes().count());
    for function in &FUNCTIONS {
        let parameters: BTreeSet<_> = function.parameters.iter().map(|is| is.name).collect();
        assert_eq!(parameters.len(), function.parameters.len(), "{}", function.name);
        assert!(function.positional <= function.parameters.len(), "{}", function.name);
        for name in function.route.iter().flat_map(|route| path::parameters(route.path)) {
            assert!(parameters.contains(name), "{}: {name}", function.name);
        }
        for name in function.aliases.iter().flat_map(|alias| alias.sets) {
            assert!(parameters.contains(name), "{}: {name}", function.name);
        }
    }
}

/// The functions of bin-x/websocket, and those of GatewayWorker and GatewayClient that are about clients.
#[test]
fn every_function_of_the_originals_is_there() {
    let names = "SendToAll SendToClient SendToUid SendToGroup BindUid UnbindUid IsUidOnline GetUidByClientId \
        GetClientIdsByUid JoinGroup LeaveGroup GetClientCountByGroup GetClientIdsByGroup GetUidsByGroup \
        GetUidCountByGroup GetAllUid GetAllGroups CloseClient IsOnline GetAllClientCount GetInfo SetInfo UpdateInfo \
        sendToAll sendToClient sendToCurrentClient sendToUid sendToGroup isOnline isUidOnline isUidsOnline bindUid \
        unbindUid getClientIdByUid batchGetClientIdByUid getUidByClientId joinGroup leaveGroup ungroup \
        getClientIdCountByGroup getClientCountByGroup batchGetClientIdCountByGroup getClientIdListByGroup \
        getClientSessionsByGroup getAllClientSessions getUidListByGroup getUidCountByGroup getAllClientIdList \
        getAllClientIdCount getAllClientCount getAllUidList getAllUidCount getAllGroupIdList getAllGroupUidList \
        getAllGroupUidCount getAllGroupClientIdList getAllGroupClientIdCount closeClient closeCurrentClient \
        destoryClient destoryCurrentClient setSession getSession updateSession getAllClientInfo getClientInfoByGroup";
    for name in names.split_whitespace() {
        assert!(Function::named(name).is_some(), "{name}");
    }
    assert!(Function::named("setSocketSession").is_none(), "internal");
}

/// REST request, body, function, arguments: both have to mean the same.
fn pairs() -> Vec<(String, Value, &'static str, Value)> {
    let of = |request: String| request;
    vec![
        (
            of("POST /v1/messages".into()),
            json!({"message": "x"}),
            "SendToAll",
            json!(["x"]),
        ),
        (
            of("POST /v1/messages".into()),
            json!({"json": {"b": 1, "a": null}, "clients": [A], "exclude": [B]}),
            "sendToAll",
            json!({"json": {"b": 1, "a": null}, "client_id_array": [A], "exclude_client_id": B}),
        ),
        (
            format!("POST /v1/clients/{A}/messages"),
            json!({"message_base64": "/w==", "binary": true}),
            "SendToClient",
            json!({"clientId": A, "message_base64": "/w==", "binary": true}),
        ),
        (
            of("POST /v1/uids/a%2Fb/messages".into()),
            json!({"message": ""}),
            "sendToUid",
            json!(["a/b", "", false]),
        ),
        (
            of("POST /v1/uids/messages".into()),
            json!({"uids": ["a", "b"], "message": "x"}),
            "SendToUid",
            json!([["a", "b"], "x"]),
        ),
        (
            of("POST /v1/groups/g%20%C3%A9/messages".into()),
            json!({"message": "x", "exclude": [A]}),
            "sendToGroup",
            json!(["g é", "x", [A]]),
        ),
        (
            of("POST /v1/groups/messages".into()),
            json!({"groups": ["g"], "message": "x"}),
            "sendToGroups",
            json!({"groups": ["g"], "message": "x"}),
        ),
        (
            of("POST /v1/messages:multi".into()),
            json!({"targets": {"uids": ["u"], "groups": ["g"]}, "message": "x"}),
            "sendToTargets",
            json!([{"groups": ["g"], "uids": ["u"]}, "x"]),
        ),
        (
            format!("PUT /v1/clients/{A}/uid"),
            json!({"uid": "u"}),
            "bindUid",
            json!([A, "u"]),
        ),
        (
            format!("PUT /v1/clients/{A}/uid?lenient=1"),
            json!({"uid": "u", "exclusive": "kick"}),
            "BindUid",
            json!({"client_id": A, "uid": "u", "exclusive": "kick", "lenient": true}),
        ),
        (
            format!("DELETE /v1/clients/{A}/uid"),
            Value::Null,
            "unbindUid",
            json!([A, "ignored"]),
        ),
        (
            of("GET /v1/uids/u".into()),
            Value::Null,
            "IsUidOnline",
            json!({"uid": "u"}),
        ),
        (
            of("POST /v1/uids:online".into()),
            json!({"uids": ["a"]}),
            "isUidsOnline",
            json!([["a"]]),
        ),
        (
            format!("GET /v1/clients/{A}/uid"),
            Value::Null,
            "GetUidByClientId",
            json!([A]),
        ),
        (
            of("GET /v1/uids/u/clients".into()),
            Value::Null,
            "getClientIdByUid",
            json!(["u"]),
        ),
        (
            of("POST /v1/uids:clients".into()),
            json!({"uids": ["a"]}),
            "batchGetClientIdByUid",
            json!([["a"]]),
        ),
        (
            of("GET /v1/uids?limit=10&cursor=0.5".into()),
            Value::Null,
            "GetAllUid",
            json!({"limit": 10, "cursor": "0.5"}),
        ),
        (
            of("GET /v1/uids:count".into()),
            Value::Null,
            "getAllUidCount",
            Value::Null,
        ),
        (
            format!("PUT /v1/groups/g/clients/{A}"),
            Value::Null,
            "JoinGroup",
            json!({"id": A, "group": "g"}),
        ),
        (
            format!("DELETE /v1/groups/g/clients/{A}"),
            Value::Null,
            "leaveGroup",
            json!([A, "g"]),
        ),
        (
            of("POST /v1/groups/g/clients".into()),
            json!({"add": [A], "remove": [B]}),
            "changeGroup",
            json!(["g", [A], [B]]),
        ),
        (of("DELETE /v1/groups/g".into()), Value::Null, "ungroup", json!(["g"])),
        (
            of("GET /v1/groups/g".into()),
            Value::Null,
            "getClientIdCountByGroup",
            json!(["g"]),
        ),
        (
            of("POST /v1/groups:count".into()),
            json!({"groups": ["g"]}),
            "batchGetClientIdCountByGroup",
            json!([["g"]]),
        ),
        (
            of("GET /v1/groups/g/clients?session=1".into()),
            Value::Null,
            "getClientSessionsByGroup",
            json!(["g"]),
        ),
        (
            of("GET /v1/groups/g/clients".into()),
            Value::Null,
            "GetClientIdsByGroup",
            json!([["g"]]),
        ),
        (
            of("GET /v1/groups/g/uids".into()),
            Value::Null,
            "GetUidCountByGroup",
            json!(["g"]),
        ),
        (of("GET /v1/groups".into()), Value::Null, "GetAllGroups", json!([])),
        (
            of("GET /v1/groups?counts=1".into()),
            Value::Null,
            "getAllGroupClientIdCount",
            json!([]),
        ),
        (
            of("GET /v1/groups?clients=true".into()),
            Value::Null,
            "getAllGroupClientIdList",
            json!({}),
        ),
        (
            of("GET /v1/groups?uids=1&counts=1".into()),
            Value::Null,
            "getAllGroupUidCount",
            json!({}),
        ),
        (
            of("GET /v1/groups?uids=1".into()),
            Value::Null,
            "getAllGroupUidList",
            Value::Null,
        ),
        (
            format!("GET /v1/clients/{A}/groups"),
            Value::Null,
            "getGroupsByClientId",
            json!([A]),
        ),
        (
            format!("DELETE /v1/clients/{A}?code=4000&reason=a+b"),
            json!({"message": "bye"}),
            "closeClient",
            json!([A, "bye", 4000, "a b"]),
        ),
        (
            format!("DELETE /v1/clients/{A}?force=1"),
            Value::Null,
            "destoryClient",
            json!([A]),
        ),
        (
            of("DELETE /v1/uids/u/clients".into()),
            json!({"message": "bye"}),
            "closeUid",
            json!(["u", "bye"]),
        ),
        (
            of("DELETE /v1/groups/g/clients".into()),
            Value::Null,
            "closeGroup",
            json!(["g"]),
        ),
        (
            format!("GET /v1/clients/{A}/online"),
            Value::Null,
            "isOnline",
            json!([A]),
        ),
        (format!("HEAD /v1/clients/{A}"), Value::Null, "getClient", json!([A])),
        (
            of("GET /v1/clients:count".into()),
            Value::Null,
            "GetAllClientCount",
            Value::Null,
        ),
        (
            of("GET /v1/clients".into()),
            Value::Null,
            "getAllClientIdList",
            json!([""]),
        ),
        (
            of("GET /v1/clients?session=1".into()),
            Value::Null,
            "getAllClientInfo",
            json!([null]),
        ),
        (
            format!("GET /v1/clients/{A}/session"),
            Value::Null,
            "getSession",
            json!([A]),
        ),
        (
            format!("PUT /v1/clients/{A}/session"),
            json!({"a": {"b": [1.5]}}),
            "SetInfo",
            json!({"clientId": A, "info": {"a": {"b": [1.5]}}}),
        ),
        (
            format!("PATCH /v1/clients/{A}/session"),
            json!({"a": null}),
            "updateSession",
            json!([A, {"a": null}]),
        ),
        (
            of("POST /v1/batch".into()),
            json!({"calls": [{"fn": "joingroup", "args": [A, "g"]}, {"fn": "getAllUidCount"}]}),
            "batch",
            json!([[{"fn": "JoinGroup", "args": {"client_id": A, "group": "g"}}, {"fn": "getAllUidCount"}]]),
        ),
        (of("GET /v1/nodes".into()), Value::Null, "getNodes", Value::Null),
    ]
}

fn text(value: &Value) -> String {
    if value.is_null() {
        String::new()
    } else {
        value.to_string()
    }
}

#[test]
fn rest_and_functions_mean_the_same() {
    let mut seen = BTreeSet::new();
    for (request, body, name, arguments) in pairs() {
        let rest = http(&request, &text(&body)).unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(
            Ok(&rest),
            function(name, arguments.clone()).as_ref(),
            "{request} and {name}"
        );
        let called = http(&format!("POST /v1/call/{name}"), &text(&arguments));
        assert_eq!(Ok(rest), called, "{name} over HTTP");
        let (method, path) = request.split_once(' ').expect("two words");
        let method = if method == "HEAD" { "GET" } else { method };
        let method: Method = method.parse().expect("a method");
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        match path::find(&method, path.as_bytes()) {
            Ok(path::Found::Function(function, _)) => seen.insert(function.name),
            _ => panic!("{request} is nobody's"),
        };
    }
    let all: BTreeSet<_> = FUNCTIONS
        .iter()
        .filter(|is| is.route.is_some())
        .map(|is| is.name)
        .collect();
    assert_eq!(seen, all, "every route is tried");
}

#[test]
fn arguments_are_what_was_written() {
    let Call::Send(send) = http("POST /v1/messages", r#"{"json": {"b": 1, "a": [1.5, "é"]}}"#)
        .expect("read")
        .call
    else {
        panic!("a send");
    };
    assert_eq!(
        send.message.payload, r#"{"b":1,"a":[1.5,"é"]}"#,
        "compact, in its order"
    );
    assert_eq!((send.message.binary, send.to), (false, Targets::Everybody));
    let read = http("POST /v1/messages", r#"{"message": "", "clients": []}"#)
        .expect("read")
        .call;
    let nobody = Targets::Any {
        names: vec![],
        clients: vec![],
    };
    assert!(
        matches!(read, Call::Send(Send { to, .. }) if to == nobody),
        "an empty list is nobody"
    );
    let read = http("PUT /v1/groups/a%2fb%00/clients/0123456789abcdef0123", "")
        .expect("read")
        .call;
    assert!(matches!(read, Call::JoinGroup { group, .. } if group == names::group(b"a/b\0")));
    let read = http("POST /v1/messages", r#"{"json": null}"#).expect("read").call;
    assert!(matches!(read, Call::Send(send) if send.message.payload == "null"));
    let read = function("setSession", json!([A, []])).expect("PHP's empty array").call;
    assert!(matches!(read, Call::SetSession { session, .. } if session == "{}"));
}

#[test]
fn what_is_wrong_is_named() {
    let (long, deep) = (
        "u".repeat(NAME_BYTES_MAX + 1),
        format!("{}{}", "[".repeat(65), "]".repeat(65)),
    );
    let many = json!({"uids": vec!["u"; LIST_MAX + 1]}).to_string();
    let calls = json!({"calls": vec![json!({"fn": "getNodes"}); BATCH_MAX + 1]}).to_string();
    let clients = |id: &str| format!("GET /v1/clients/{id}/uid");
    for (request, body, code, part) in [
        ("GET /v1/nothing", "", "not_found", ""),
        ("GET /v1/", "", "not_found", ""),
        ("GET /v1/uids/u/", "", "not_found", ""),
        ("POST /v1/uids/u", "", "method_not_allowed", ""),
        ("GET /v1/call/SendToAll", "", "method_not_allowed", "POST"),
        ("POST /v1/call/NoSuch", "{}", "unknown_function", "\"NoSuch\""),
        ("POST /v1/call/", "{}", "unknown_function", ""),
        ("POST /v1/call/%ff", "{}", "bad_request", "UTF-8"),
        ("POST /v1/call/getNodes?x=1", "", "bad_request", "\"x\""),
        ("POST /v1/call/getNodes?lenient=maybe", "", "bad_request", "lenient"),
        ("POST /v1/call/getNodes", "5", "bad_request", "an object or a list"),
        (
            "POST /v1/call/joinGroup",
            r#"["a","b","c"]"#,
            "bad_request",
            "at most 2",
        ),
        (
            "POST /v1/call/joinGroup",
            r#"{"client_id":"x","clientId":"y"}"#,
            "bad_request",
            "given twice",
        ),
        (
            "POST /v1/call/sendToCurrentClient",
            r#"["x"]"#,
            "bad_request",
            "current client",
        ),
        (&clients("0123456789ABCDEF0123"), "", "bad_request", "client_id"),
        (&clients("zz"), "", "bad_request", "client_id"),
        (&clients("%ff"), "", "bad_request", "client_id: the path: no UTF-8"),
        (&clients("%4"), "", "bad_request", "hex digits"),
        (&clients(""), "", "bad_request", "must not be empty"),
        ("GET /v1/uids/", "", "bad_request", "uid: must not be empty"),
        (
            &format!("GET /v1/uids/{long}"),
            "",
            "bad_request",
            "uid: at most 255 bytes",
        ),
        ("POST /v1/messages", "", "bad_request", "message"),
        ("POST /v1/messages", "[]", "bad_request", "an object"),
        ("GET /v1/uids", "null", "bad_request", "an object"),
        (
            "POST /v1/messages:multi",
            r#"{"targets": {"uids": null}, "message": "x"}"#,
            "bad_request",
            "targets: uids",
        ),
        ("POST /v1/messages", "{\"message\":\"\u{1}\"", "bad_request", "JSON"),
        ("POST /v1/messages", &deep, "bad_request", "deeper"),
        (
            "POST /v1/messages",
            r#"{"message": 5}"#,
            "bad_request",
            "message: a string",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "json": 1}"#,
            "bad_request",
            "only one of",
        ),
        (
            "POST /v1/messages",
            r#"{"message_base64": "%"}"#,
            "bad_request",
            "message_base64",
        ),
        (
            "POST /v1/messages",
            r#"{"message_base64": "/w=="}"#,
            "bad_request",
            "UTF-8",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "binary": 1}"#,
            "bad_request",
            "binary",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "clients": [5]}"#,
            "bad_request",
            "clients",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "clients": ["5"]}"#,
            "bad_request",
            "clients: \"5\"",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "exclude": {}}"#,
            "bad_request",
            "exclude",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "colour": 1}"#,
            "bad_request",
            "\"colour\": unknown",
        ),
        (
            "POST /v1/messages",
            r#"{"message": "x", "raw": true}"#,
            "bad_request",
            "\"raw\": unknown",
        ),
        ("POST /v1/messages?message=x", "", "bad_request", "\"message\": unknown"),
        (
            "POST /v1/uids/u/messages",
            r#"{"uid": "v", "message": "x"}"#,
            "bad_request",
            "\"uid\": unknown",
        ),
        (
            "POST /v1/uids/messages",
            r#"{"uids": "u", "message": "x"}"#,
            "bad_request",
            "uids",
        ),
        (
            "POST /v1/uids/messages",
            r#"{"uids": [""], "message": "x"}"#,
            "bad_request",
            "uids: must not be empty",
        ),
        ("POST /v1/uids:online", &many, "too_large", "uids"),
        (
            "POST /v1/messages:multi",
            r#"{"targets": {"rooms": []}, "message": "x"}"#,
            "bad_request",
            "targets: \"rooms\"",
        ),
        (
            "POST /v1/messages:multi",
            r#"{"targets": {"all": 1}, "message": "x"}"#,
            "bad_request",
            "targets: all",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/uid",
            "{}",
            "bad_request",
            "uid is missing",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/uid",
            r#"{"uid": ""}"#,
            "bad_request",
            "uid",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/uid",
            r#"{"uid": 7}"#,
            "bad_request",
            "uid: a string",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/uid",
            r#"{"uid": "u", "exclusive": "yes"}"#,
            "bad_request",
            "exclusive",
        ),
        ("GET /v1/uids?limit=0", "", "bad_request", "limit"),
        ("GET /v1/uids?limit=10001", "", "bad_request", "limit"),
        ("GET /v1/uids?limit=%2b1", "", "bad_request", "limit"),
        (
            "GET /v1/uids?limit=1&limit=1",
            "",
            "bad_request",
            "limit is given twice",
        ),
        ("GET /v1/uids?cursor=x", "", "bad_request", "without limit"),
        ("GET /v1/uids?limit=1&cursor=%ff", "", "bad_request", "cursor: no UTF-8"),
        ("GET /v1/uids", r#"{"limit": 1}"#, "bad_request", "\"limit\": unknown"),
        ("GET /v1/groups?clients=1&uids=1", "", "bad_request", "only one of"),
        ("GET /v1/groups?counts=yes", "", "bad_request", "counts"),
        (
            "DELETE /v1/clients/0123456789abcdef0123?code=1005",
            "",
            "bad_request",
            "code",
        ),
        (
            "DELETE /v1/clients/0123456789abcdef0123?code=70000",
            "",
            "bad_request",
            "code",
        ),
        (
            "DELETE /v1/clients/0123456789abcdef0123?force=1",
            r#"{"message": "x"}"#,
            "bad_request",
            "force",
        ),
        (
            "DELETE /v1/clients/0123456789abcdef0123?binary=1",
            "",
            "bad_request",
            "binary",
        ),
        (
            "DELETE /v1/clients/0123456789abcdef0123?code=1000",
            r#"{"code": 1000}"#,
            "bad_request",
            "code is given twice",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/session",
            "[1]",
            "bad_request",
            "session: an object",
        ),
        (
            "PUT /v1/clients/0123456789abcdef0123/session",
            "",
            "bad_request",
            "JSON",
        ),
        (
            "PATCH /v1/clients/0123456789abcdef0123/session",
            "\"x\"",
            "bad_request",
            "session: an object",
        ),
        ("POST /v1/batch", "{}", "bad_request", "calls is missing"),
        (
            "POST /v1/batch",
            r#"{"calls": [{"args": []}]}"#,
            "bad_request",
            "calls[0]: fn is missing",
        ),
        (
            "POST /v1/batch",
            r#"{"calls": [{"fn": "getNodes"}, {"fn": "no"}]}"#,
            "unknown_function",
            "calls[1]",
        ),
        (
            "POST /v1/batch",
            r#"{"calls": [{"fn": "getNodes", "x": 1}]}"#,
            "bad_request",
            "calls[0]: \"x\"",
        ),
        (
            "POST /v1/batch",
            r#"{"calls": [{"fn": "batch", "args": [[]]}]}"#,
            "bad_request",
            "part of a batch",
        ),
        ("POST /v1/batch", &calls, "too_large", "calls"),
    ] {
        let (word, message) = refused(http(request, body));
        assert_eq!(word, code, "{request} {body:.60}: {message}");
        assert!(message.contains(part), "{request} {body:.60}: {message}");
        assert!(message.len() < 300, "{message}");
    }
    let reason = "é".repeat(62);
    let (_, message) = refused(function("closeClient", json!({"id": A, "reason": reason})));
    assert!(message.contains("reason: at most 123 bytes"), "{message}");
}

#[test]
fn leniency_reads_malformed_ids_as_nobody() {
    let lenient = http("POST /v1/clients/nonsense/messages?lenient=1", r#"{"message": "x"}"#).expect("read");
    assert!(
        lenient.lenient
            && matches!(
                lenient.call,
                Call::Send(Send {
                    to: Targets::Client(ClientText::NOBODY),
                    ..
                })
            )
    );
    let read = http(
        "POST /v1/messages?lenient=1",
        &json!({"message": "x", "clients": ["?", A]}).to_string(),
    )
    .expect("read");
    assert!(matches!(read.call, Call::Send(Send { to: Targets::Any { clients, .. }, .. }) if clients.len() == 1));
    let read = http("POST /v1/call/isOnline?lenient=1", r#"["?"]"#).expect("read");
    assert!(read.lenient);
    assert_eq!(read.call.of_nobody(), Ok(Outcome::Online(false)));
    let batch = http(
        "POST /v1/batch?lenient=1",
        r#"{"calls": [{"fn": "isOnline", "args": ["?"]}]}"#,
    )
    .expect("read");
    assert!(matches!(batch.call, Call::Batch(calls) if calls.iter().all(|call| call.lenient)));
}

#[test]
fn actions_have_a_current_client() {
    let context = Context {
        current: ClientText::new(A),
        ..Context::default()
    };
    let action = |text: Value| item(text, &context).expect("read").call;
    let sent = action(json!({"fn": "sendToCurrentClient", "args": ["x"]}));
    assert!(matches!(sent, Call::Send(Send { to: Targets::Client(client), .. }) if Some(client) == context.current));
    let closed = action(json!({"fn": "destoryCurrentClient"}));
    assert!(matches!(
        closed,
        Call::Close {
            farewell: Farewell { force: true, .. },
            ..
        }
    ));
}

/// One of each, with the function whose answer it is.
fn outcomes() -> Vec<(Shape, Outcome)> {
    let (client, next) = (ClientText::new(A).expect("an id"), || Some("1.2".to_owned()));
    let (uid, group) = (|| names::uid("ü\"".as_bytes()), || names::group(b"g"));
    let error = ApiError::client_not_found();
    let listed = Listed {
        client,
        session: "{\"a\":1}".into(),
    };
    let node = NodeInfo {
        node: "01ab".into(),
        clients: 3,
        is_self: true,
    };
    vec![
        (
            Shape::Sent,
            Outcome::Sent(Sent {
                matched: 3,
                queued: 2,
                dropped: 1,
                nodes: 1,
            }),
        ),
        (Shape::PreviousUid, Outcome::PreviousUid(None)),
        (Shape::PreviousUid, Outcome::PreviousUid(Some(uid()))),
        (Shape::UidOnline, Outcome::UidOnline(2)),
        (
            Shape::OnlineByName,
            Outcome::OnlineByName(vec![(uid(), true), (names::uid(b"v"), false)]),
        ),
        (Shape::Uid, Outcome::Uid(Some(uid()))),
        (
            Shape::Clients,
            Outcome::Clients {
                clients: vec![client, client],
                next: next(),
            },
        ),
        (
            Shape::Clients,
            Outcome::Clients {
                clients: vec![],
                next: None,
            },
        ),
        (
            Shape::Clients,
            Outcome::Sessions {
                clients: vec![listed.clone()],
                next: next(),
            },
        ),
        (
            Shape::Clients,
            Outcome::Sessions {
                clients: vec![Listed {
                    session: "".into(),
                    ..listed
                }],
                next: None,
            },
        ),
        (
            Shape::ClientsByName,
            Outcome::ClientsByName(vec![(uid(), vec![client]), (names::uid(b"v"), vec![])]),
        ),
        (
            Shape::Uids,
            Outcome::Uids {
                uids: vec![uid()],
                next: None,
            },
        ),
        (Shape::UidsCounted, Outcome::UidsCounted(vec![uid()])),
        (Shape::Count, Outcome::Count(u64::MAX)),
        (Shape::Changed, Outcome::Changed(true)),
        (
            Shape::GroupChanged,
            Outcome::GroupChanged {
                changed: 1,
                not_found: vec![client],
            },
        ),
        (Shape::Removed, Outcome::Removed(3)),
        (Shape::GroupCount, Outcome::GroupCount { clients: 3, uids: 2 }),
        (Shape::CountByName, Outcome::CountByName(vec![(group(), 3)])),
        (
            Shape::Groups,
            Outcome::Groups {
                groups: vec![group()],
                next: next(),
            },
        ),
        (
            Shape::Groups,
            Outcome::GroupCounts {
                groups: vec![(group(), 3)],
                next: None,
            },
        ),
        (
            Shape::Groups,
            Outcome::GroupClients {
                groups: vec![(group(), vec![client])],
                next: None,
            },
        ),
        (
            Shape::Groups,
            Outcome::GroupUids {
                groups: vec![(group(), vec![uid()])],
                next: next(),
            },
        ),
        (Shape::Closed, Outcome::Closed(true)),
        (Shape::ClosedCount, Outcome::ClosedCount(2)),
        (Shape::Online, Outcome::Online(false)),
        (
            Shape::ClientCount,
            Outcome::ClientCount(vec![("01ab".into(), 3), ("02".into(), 4)]),
        ),
        (Shape::Session, Outcome::Session("{\"a\":{}}".into())),
        (Shape::Session, Outcome::Session("".into())),
        (Shape::Nothing, Outcome::Nothing),
        (
            Shape::Results,
            Outcome::Results(vec![
                Ok(Outcome::Nothing),
                Err(error),
                Ok(Outcome::Session("{}".into())),
            ]),
        ),
        (Shape::Nodes, Outcome::Nodes(vec![node])),
    ]
}

#[test]
fn answers_have_the_shape_that_is_described() {
    let description = openapi::describe();
    let mut seen = BTreeSet::new();
    for (shape, outcome) in outcomes() {
        let (status, body) = answer(&Ok(outcome));
        let value = read_json(&body).unwrap_or_else(|error| panic!("{error}: {}", body.escape_ascii()));
        assert_eq!((status.as_u16(), &value["ok"]), (200, &json!(true)));
        schema::check(&description, &shape.schema(), &value["data"]).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        seen.insert(shape.name());
    }
    assert_eq!(seen.len(), Shape::ALL.len(), "every shape is tried");
    assert!(FUNCTIONS.iter().all(|is| Shape::ALL.contains(&is.answer)));
    for code in ErrorCode::ALL {
        let (status, body) = answer(&Err(ApiError::new(code, "it\"s wrong")));
        let value = read_json(&body).expect("JSON");
        assert_eq!(status, code.status());
        schema::check(&description, &json!({"$ref": "#/components/schemas/Error"}), &value).expect("described");
    }
    let wrong = json!({"matched": 1, "queued": "1", "dropped": 0, "nodes": 1});
    assert!(
        schema::check(&description, &Shape::Sent.schema(), &wrong).is_err(),
        "the check can fail"
    );
}

#[test]
fn the_description_describes_every_route() {
    let text = openapi::document();
    let description = read_json(text).expect("JSON within our own bounds");
    for function in &FUNCTIONS {
        let Some(route) = &function.route else { continue };
        let operation = &description["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
        assert_eq!(operation["operationId"], function.name);
    }
    let mut references = BTreeSet::new();
    schema::references(&description, &mut references);
    for reference in references {
        assert!(schema::resolve(&description, &reference).is_some(), "{reference}");
    }
}

/// As much of JSON schema as the description uses.
mod schema {
    use super::*;

    pub fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| match value {
                Value::String(text) if key == "$ref" => drop(found.insert(text.clone())),
                value => references(value, found),
            }),
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    pub fn resolve<'a>(description: &'a Value, reference: &str) -> Option<&'a Value> {
        description.pointer(reference.strip_prefix('#')?)
    }

    pub fn check(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        let bad = || Err(format!("{value} is not {schema}"));
        if let Some(reference) = schema["$ref"].as_str() {
            return check(
                description,
                resolve(description, reference).ok_or("no such schema")?,
                value,
            );
        }
        if let Some(any) = schema["anyOf"].as_array() {
            return any
                .iter()
                .map(|one| check(description, one, value))
                .find(Result::is_ok)
                .unwrap_or_else(bad);
        }
        if schema.get("const").is_some_and(|is| is != value)
            || schema["enum"].as_array().is_some_and(|list| !list.contains(value))
        {
            return bad();
        }
        let is = match schema["type"].as_str() {
            None => true,
            Some("null") => value.is_null(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64(),
            Some("string") => value.as_str().is_some_and(|text| {
                schema["minLength"]
                    .as_u64()
                    .is_none_or(|least| text.len() as u64 >= least)
            }),
            Some("array") => return items(description, schema, value),
            Some("object") => return fields(description, schema, value),
            Some(other) => return Err(format!("type {other}")),
        };
        let is_id =
            schema.get("pattern").is_none() || value.as_str().is_some_and(|text| ClientText::new(text).is_some());
        if is && is_id { Ok(()) } else { bad() }
    }

    fn items(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        let list = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
        list.iter()
            .try_for_each(|item| check(description, &schema["items"], item))
    }

    fn fields(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        let fields = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
        let required = schema["required"].as_array().into_iter().flatten();
        if let Some(missing) = required
            .filter_map(Value::as_str)
            .find(|name| !fields.contains_key(*name))
        {
            return Err(format!("{value} lacks {missing}"));
        }
        for (name, value) in fields {
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => check(description, schema, value)?,
                (None, Value::Bool(false)) => return Err(format!("{name} is too much")),
                (None, schema @ Value::Object(_)) => check(description, schema, value)?,
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// Texts of all lengths and characters, as a name may be.
fn any_name() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("a name", |text| (1..=NAME_BYTES_MAX).contains(&text.len()))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn names_are_the_same_in_paths_and_in_bodies(group in any_name(), uid in any_name()) {
        let path = format!("PUT /v1/groups/{}/clients/{A}", encoded(&group));
        prop_assert_eq!(http(&path, ""), function("joinGroup", json!([A, group])));
        let path = format!("GET /v1/uids/{}", encoded(&uid));
        let expected = Call::IsUidOnline { uid: Name::new(names::UID, uid.as_bytes()) };
        prop_assert_eq!(http(&path, "").map(|read| read.call), Ok(expected));
    }

    #[test]
    fn messages_arrive_as_they_were(message in any::<String>(), binary in any::<bool>()) {
        let body = json!({"message": message, "binary": binary}).to_string();
        let Ok(Request { call: Call::Send(send), .. }) = http("POST /v1/messages", &body) else {
            return Err(TestCaseError::fail("not read"));
        };
        prop_assert_eq!((&send.message.payload[..], send.message.binary), (message.as_bytes(), binary));
    }

    #[test]
    fn nothing_panics(at in 0..FUNCTIONS.len(), path in "[a-z0-9%/:{}]{0,20}", query in "[a-z0-9=&;%+]{0,20}", body in any::<String>()) {
        let method = FUNCTIONS[at].route.as_ref().map_or("POST", |route| route.method.as_str());
        let _ = http(&format!("{method} /v1/{path}?{query}"), &body);
    }
}
