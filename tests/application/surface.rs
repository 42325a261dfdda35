//! Everything that can be asked (case 25): from Rust, by name, and over HTTP, with one meaning.

use super::*;
use common::http::{self, Request};
use rainbow_server::application::{ApiError, Client as Handle, ErrorCode, Exclusive, Message};
use serde_json::{Value, json};

/// Tells every client its id.
struct Ids;

impl Application for Ids {
    async fn on_connect(&self, _: &Api, client: &Handle) {
        client.send(client.id().to_string()).await.expect("sent");
    }
}

/// Three clients and their ids, in the order of those.
struct Three {
    server: Fixture,
    clients: Vec<(ClientId, Client)>,
}

impl Three {
    fn start() -> Self {
        let server = Fixture::start(Ids, |server| server);
        let mut clients: Vec<_> = (0..3)
            .map(|_| server.client())
            .map(|client| (id(&client), client))
            .collect();
        clients.sort_by_key(|(id, _)| *id);
        Self { server, clients }
    }

    fn ids(&self) -> [ClientId; 3] {
        [0, 1, 2].map(|at| self.clients[at].0)
    }

    /// Asks by name, in the process and over HTTP: both say the same.
    fn called(&self, function: &str, arguments: Value) -> Result<Value, String> {
        let here = wait(self.server.api().call(function, arguments.clone()));
        let there = over_http(&self.server, function, &arguments);
        let here = here.map_err(|error| error.code.word().to_owned());
        assert_eq!(here, there, "{function} {arguments}");
        here
    }

    /// Who receives `payload`; the others are sent something else meanwhile.
    fn receivers(&self, payload: &str) -> Vec<usize> {
        let mut receivers = Vec::new();
        for (at, (id, client)) in self.clients.iter().enumerate() {
            wait(self.server.api().send_to_client(*id, "end")).expect("sent");
            let texts: Vec<_> = std::iter::from_fn(|| Some(text(client)).filter(|text| text != "end")).collect();
            assert!(texts.is_empty() || texts == [payload], "{texts:?}");
            receivers.extend((!texts.is_empty()).then_some(at));
        }
        receivers
    }
}

fn over_http(server: &Fixture, function: &str, arguments: &Value) -> Result<Value, String> {
    let request = Request::post(&format!("/v1/call/{function}"), arguments.to_string());
    let answer = http::call(server.main.number, &request, SOON).expect("an answer");
    let mut json = answer.json().expect("JSON");
    match json["ok"] == true {
        true => Ok(json["data"].take()),
        false => Err(json["error"]["code"].as_str().expect("a code").to_owned()),
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

fn code<T>(result: Result<T, ApiError>) -> ErrorCode {
    result.err().expect("an error").code
}

const UNKNOWN: &str = "00000000000000000000";

#[test]
fn messages_reach_whom_they_are_for_once() {
    let three = Three::start();
    let (api, [a, b, c]) = (three.server.api(), three.ids());
    wait(api.bind_uid(a, "u1")).expect("bound");
    wait(api.bind_uid(b, "u1")).expect("bound");
    for (client, group) in [(a, "g1"), (b, "g1"), (b, "g2"), (c, "g2")] {
        wait(api.join_group(client, group)).expect("joined");
    }
    let nobody: [ClientId; 0] = [];
    let gone: ClientId = UNKNOWN.parse().expect("an id");
    let sendings = [
        (api.send_to_all("x"), vec![0, 1, 2]),
        (api.send_to_all("x").exclude([a]), vec![1, 2]),
        (api.send_to_all("x").only([b]), vec![1]),
        (api.send_to_all("x").only(nobody), vec![]),
        (api.send_to_all("x").only([a, c]).exclude([c]), vec![0]),
        (api.send_to_client(c, "x"), vec![2]),
        (api.send_to_clients([a, gone, c], "x"), vec![0, 2]),
        (api.send_to_uid("u1", "x"), vec![0, 1]),
        (api.send_to_uid("u2", "x"), vec![]),
        (api.send_to_uids(["u1", "u2"], "x").exclude([b]), vec![0]),
        (api.send_to_group("g2", "x"), vec![1, 2]),
        (api.send_to_groups(["g1", "g2"], "x"), vec![0, 1, 2]),
        (api.send_to(["u1"], ["g2"], [a, c], "x"), vec![0, 1, 2]),
        (api.send_to([], ["g2"], [a], "x"), vec![0, 1, 2]),
    ];
    for (number, (sending, receivers)) in sendings.into_iter().enumerate() {
        let sent = wait(sending).expect("sent");
        let n = receivers.len() as u64;
        assert_eq!((sent.matched, sent.queued, sent.dropped), (n, n, 0), "sending {number}");
        assert_eq!(three.receivers("x"), receivers, "sending {number}");
    }
    assert_eq!(code(wait(api.send_to_client(gone, "x"))), ErrorCode::ClientNotFound);
    assert_eq!(code(wait(api.send_to_group("", "x"))), ErrorCode::BadRequest);
    assert_eq!(
        code(wait(api.send_to_uid(&"u".repeat(256), "x"))),
        ErrorCode::BadRequest
    );
    wait(api.send_to_client(a, Message::Binary(vec![0xff].into()))).expect("sent");
    three.clients[0].1.expect(Op::Binary, &[0xff]);
    wait(api.send_to_client(a, json!({"k": 1}))).expect("sent");
    three.clients[0].1.expect(Op::Text, br#"{"k":1}"#);
}

#[test]
fn uids() {
    let three = Three::start();
    let (api, [a, b, c]) = (three.server.api(), three.ids());
    assert_eq!(wait(api.bind_uid(a, "u1")), Ok(None));
    assert_eq!(wait(api.bind_uid(b, "u1")), Ok(None));
    assert_eq!(wait(api.bind_uid(c, "u2")), Ok(None));
    assert_eq!(wait(api.is_uid_online("u1")), Ok(true));
    let online = [("u1".to_owned(), true), ("u9".to_owned(), false)];
    assert_eq!(wait(api.uids_online(["u1", "u9"])), Ok(online.into()));
    assert_eq!(wait(api.uid_of(a)), Ok(Some("u1".into())));
    assert_eq!(wait(api.clients_of_uid("u1")).map(sorted), Ok(vec![a, b]));
    let of_both = wait(api.clients_of_uids(["u2", "u9"]));
    assert_eq!(of_both, Ok(vec![("u2".into(), vec![c]), ("u9".into(), vec![])]));
    assert_eq!(wait(api.all_uids()).map(sorted), Ok(vec!["u1".into(), "u2".into()]));
    assert_eq!(wait(api.all_uid_count()), Ok(2));
    three
        .called("GetUidByClientId", json!({"client_id": a.as_str()}))
        .expect("a uid");
    three.called("getAllUidCount", json!({})).expect("a number");

    assert_eq!(wait(api.bind_uid(b, "u3")), Ok(Some("u1".into())));
    assert_eq!(wait(api.clients_of_uid("u1")), Ok(vec![a]));
    let taken = wait(api.bind_uid_with(a, "u2", Exclusive::Reject));
    assert_eq!(code(taken), ErrorCode::UidTaken);
    assert_eq!(wait(api.uid_of(a)), Ok(Some("u1".into())), "nothing has changed");
    assert_eq!(wait(api.unbind_uid(b)), Ok(Some("u3".into())));
    assert_eq!(wait(api.unbind_uid(b)), Ok(None));
    assert_eq!(
        (wait(api.uid_of(b)), wait(api.is_uid_online("u3"))),
        (Ok(None), Ok(false))
    );
    assert_eq!(code(wait(api.bind_uid(a, ""))), ErrorCode::BadRequest);
    assert_eq!(wait(api.bind_uid_with(a, "u2", Exclusive::Kick)), Ok(Some("u1".into())));
    let close = three.clients[2].1.next(SOON).expect("a close frame");
    assert_eq!(close.op, Op::Close);
    assert!(eventually(SOON, || wait(api.clients_of_uid("u2")) == Ok(vec![a])));
    assert_eq!(wait(api.close_uid("u2").code(4000)), Ok(1));
    assert!(eventually(SOON, || wait(api.all_uids()) == Ok(vec![])));
}

#[test]
fn groups() {
    let three = Three::start();
    let (api, [a, b, c]) = (three.server.api(), three.ids());
    assert_eq!(wait(api.join_group(a, "g1")), Ok(true));
    assert_eq!(wait(api.join_group(a, "g1")), Ok(false), "it is in there");
    let gone: ClientId = UNKNOWN.parse().expect("an id");
    assert_eq!(wait(api.change_group("g2", [a, b, gone], [c])), Ok((2, vec![gone])));
    wait(api.bind_uid(b, "u")).expect("bound");
    assert_eq!(wait(api.group_count("g2")), Ok(2));
    assert_eq!(wait(api.group_uid_count("g2")), Ok(1), "who has no uid does not count");
    assert_eq!(wait(api.group_uids("g2")), Ok(vec!["u".into()]));
    assert_eq!(wait(api.groups_uids(["g1", "g2"])), Ok(vec!["u".into()]));
    let counts = [("g2".to_owned(), 2), ("g9".to_owned(), 0)];
    assert_eq!(wait(api.group_counts(["g2", "g9"])), Ok(counts.into()));
    assert_eq!(wait(api.group_clients("g2")).map(sorted), Ok(vec![a, b]));
    assert_eq!(wait(api.groups_clients(["g1", "g2"])).map(sorted), Ok(vec![a, b]));
    assert_eq!(wait(api.all_groups()).map(sorted), Ok(vec!["g1".into(), "g2".into()]));
    assert_eq!(
        wait(api.group_stats()).map(sorted),
        Ok(vec![("g1".into(), 1), ("g2".into(), 2)])
    );
    assert_eq!(
        wait(api.group_uid_stats()).map(sorted),
        Ok(vec![("g1".into(), 0), ("g2".into(), 1)])
    );
    let clients = wait(api.all_groups_clients()).map(sorted).expect("groups");
    assert_eq!(
        (clients[0].clone(), sorted(clients[1].1.clone())),
        (("g1".into(), vec![a]), vec![a, b])
    );
    let uids = wait(api.all_groups_uids()).map(sorted);
    assert_eq!(uids, Ok(vec![("g1".into(), vec![]), ("g2".into(), vec!["u".into()])]));
    assert_eq!(wait(api.groups_of(a)).map(sorted), Ok(vec!["g1".into(), "g2".into()]));
    three
        .called("GetClientCountByGroup", json!({"group": "g2"}))
        .expect("numbers");
    three.called("GetUidsByGroup", json!({"group": "g2"})).expect("uids");

    assert_eq!(wait(api.leave_group(c, "g1")), Ok(false));
    assert_eq!(wait(api.leave_group(a, "g1")), Ok(true));
    assert_eq!(wait(api.all_groups()), Ok(vec!["g2".into()]), "the last has left");
    assert_eq!(wait(api.ungroup("g2")), Ok(2));
    assert_eq!(wait(api.all_groups()), Ok(vec![]));
    assert_eq!(wait(api.groups_of(b)), Ok(vec![]));
    assert_eq!(wait(api.join_group(b, "g2")), Ok(true), "it can be used again");
    assert_eq!(wait(api.close_group("g2").message("out")), Ok(1));
    three.clients[1].1.expect(Op::Text, b"out");
    assert_eq!(code(wait(api.join_group(a, ""))), ErrorCode::BadRequest);
    let none: [&str; 0] = [];
    assert_eq!(code(wait(api.groups_uids(none))), ErrorCode::BadRequest);
    assert_eq!(
        code(wait(api.groups_clients(none))),
        ErrorCode::BadRequest,
        "that would be everybody"
    );
}

#[test]
fn clients_and_their_sessions() {
    let three = Three::start();
    let (api, [a, b, c]) = (three.server.api(), three.ids());
    assert_eq!(wait(api.client_count()), Ok(3));
    assert_eq!(wait(api.client_ids()).map(sorted), Ok(vec![a, b, c]));
    let (mut pages, mut from) = (Vec::new(), None);
    loop {
        let part = wait(api.client_ids().part(2, from)).expect("a part");
        assert!(part.items.len() <= 2);
        pages.extend(part.items);
        from = part.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(sorted(pages), [a, b, c]);
    assert_eq!(code(wait(api.client_ids().part(0, None))), ErrorCode::BadRequest);
    assert_eq!(
        (wait(api.is_online(a)), wait(api.is_online(UNKNOWN.parse().unwrap()))),
        (Ok(true), Ok(false))
    );
    assert_eq!(code("nonsense".parse::<ClientId>()), ErrorCode::BadRequest);
    assert_eq!(
        wait(api.nodes()).map(|nodes| (nodes.len(), nodes[0].clients)),
        Ok((1, 3))
    );

    let object = |value: Value| value.as_object().cloned().expect("an object");
    assert_eq!(wait(api.session(a)), Ok(object(json!({}))));
    wait(api.set_session(a, json!({"x": {"y": 1, "z": 2}}))).expect("set");
    let merged = wait(api.update_session(a, json!({"x": {"y": null}, "n": [1]})));
    assert_eq!(merged, Ok(object(json!({"x": {"z": 2}, "n": [1]}))));
    assert_eq!(wait(api.session(a)), merged);
    wait(api.join_group(a, "g")).expect("joined");
    assert_eq!(wait(api.sessions(Some("g"))), Ok(vec![(a, merged.clone().unwrap())]));
    assert_eq!(wait(api.sessions(None)).map(|all| all.len()), Ok(3));
    assert_eq!(code(wait(api.set_session(a, json!([])))), ErrorCode::BadRequest);
    assert_eq!(code(wait(api.sessions(Some("")))), ErrorCode::BadRequest);
    let session = three.called("GetInfo", json!({"client_id": a.as_str()}));
    assert_eq!(session, Ok(Value::Object(merged.unwrap())));
    three
        .called("GetInfo", json!({"client_id": UNKNOWN}))
        .expect_err("not there");
    three.called("noSuchFunction", json!({})).expect_err("not there");

    let calls = [
        ("IsOnline", json!({"client_id": b.as_str()})),
        ("GetInfo", json!({"client_id": UNKNOWN})),
    ];
    let results = wait(api.batch(calls)).expect("results");
    assert_eq!(results[0], Ok(json!({"online": true})));
    assert_eq!(
        results[1].as_ref().map_err(|error| error.code),
        Err(ErrorCode::ClientNotFound)
    );
    assert_eq!(code(wait(api.batch([("IsOnline", json!({}))]))), ErrorCode::BadRequest);

    assert_eq!(code(wait(api.close_client(b).code(1005))), ErrorCode::BadRequest);
    assert_eq!(
        code(wait(api.close_client(b).reason("r".repeat(124)))),
        ErrorCode::BadRequest
    );
    assert_eq!(wait(api.close_client(b).code(4001).reason("why")), Ok(1));
    three.clients[1].1.expect(Op::Close, b"\x0f\xa1why");
    wait(api.destroy_client(c)).expect("destroyed");
    assert!(three.clients[2].1.until_eof(SOON).expect("it ends").is_empty());
    assert!(eventually(SOON, || wait(api.client_count()) == Ok(1)));
    assert_eq!(code(wait(api.close_client(c))), ErrorCode::ClientNotFound);
}

/// Far more calls at once than may be under way.
#[test]
fn calls_from_many_threads_are_all_answered() {
    let three = Three::start();
    let api = three.server.api();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .expect("threads");
    let tasks: Vec<_> = (0..5_000)
        .map(|number| {
            let (api, group) = (api.clone(), format!("g{}", number % 100));
            runtime.spawn(async move { api.group_count(&group).await })
        })
        .collect();
    let answers = tasks.into_iter().map(|task| runtime.block_on(task).expect("no panic"));
    assert!(answers.into_iter().all(|answer| answer == Ok(0)));
}
