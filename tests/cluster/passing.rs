//! What is passed on to the other servers, and how their answers add up.

use super::common::business::{Business, Reply};
use super::common::client::{Client, Open};
use super::common::http::{self, Request};
use super::common::packet;
use super::common::server::{Server, TOKEN};
use super::common::{SOON, eventually, ms};
use super::{acknowledge, client, cluster, scripted_peer, send, with_peer, with_peer_and};
use serde_json::json;

fn membership(path: &str, identity: &str, channel: &str, occupy: bool) -> Request {
    let body = json!({"identity": identity, "channel": channel, "occupy": occupy});
    Request::post(path, body.to_string())
}

#[test]
fn acknowledgements_of_all_servers_add_up() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let servers = cluster(&business, 3);
    let clients: Vec<_> = servers.iter().map(|server| client(server, &business, "d").0).collect();
    // Which server is asked; what each client says; the data of the answer.
    for (asked, says, data) in [
        (0, ["L", "P", "Q"], "L"),
        (1, ["", "", ""], ""),
        (2, ["P", "", ""], "P"),
        (0, ["", "Q", ""], "Q"),
    ] {
        std::thread::scope(|scope| {
            for (client, says) in clients.iter().zip(says) {
                scope.spawn(move || assert_eq!(acknowledge(client, says), b"hello"));
            }
            let answer = servers[asked].api(&send("room", 6));
            assert_eq!(answer, json!({"status": 0, "connections": 3, "data": data}));
        });
    }
}

/// A peer may tell more than is passed on here.
#[test]
fn data_of_a_peer_has_the_same_bound() {
    let (business, peer) = (Business::start(), scripted_peer());
    let server = with_peer_and(&business, &peer, |b| b.set("ack_data_max", "4k"));
    for (bytes, passes) in [(4096, true), (4097, false), (100_000, false)] {
        let data = "d".repeat(bytes);
        let answer = json!({"status": 0, "connections": 3, "data": data});
        peer.reply("/send/", Reply::ok(answer.to_string()));
        let told = server.api(&send("room", 6));
        let data = if passes { &data[..] } else { "" };
        assert_eq!(told, json!({"status": 0, "connections": 3, "data": data}));
    }
    server.expect_said("it is longer than ack_data_max");
}

#[test]
fn a_channel_and_a_message_of_any_bytes() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("你好 & co"));
    let servers = cluster(&business, 2);
    let (here, _) = client(&servers[1], &business, "d");
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let request = Request::post("/send/", &body)
        .query("channel", "你好 & co")
        .query("qos", 1);
    std::thread::scope(|scope| {
        let got = scope.spawn(|| acknowledge(&here, "ünï"));
        let answer = servers[0].api(&request);
        assert_eq!(answer, json!({"status": 0, "connections": 1, "data": "ünï"}));
        assert!(
            got.join().expect("client") == body,
            "the message is passed on byte for byte"
        );
    });
}

#[test]
fn a_request_of_a_peer_is_not_passed_on() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let servers = cluster(&business, 2);
    let (other, _) = client(&servers[1], &business, "d");
    let answer = servers[0].api(&send("room", 3).query("cluster", 1));
    assert_eq!(answer, json!({"status": 0, "connections": 0, "data": ""}));
    other.expect_silence(ms(200));
}

#[test]
fn messages_of_one_caller_keep_their_order() {
    const MESSAGES: usize = 500;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let servers = cluster(&business, 2);
    let (other, _) = client(&servers[1], &business, "d");
    std::thread::scope(|scope| {
        // Callers of QoS 0 do not wait for the other server, those of QoS 1 do.
        scope.spawn(|| {
            for n in 0..MESSAGES {
                servers[0].send("room", u8::from(n % 9 == 0), n.to_string());
            }
        });
        for n in 0..MESSAGES {
            let (id, payload) = other.expect_send(SOON);
            assert_eq!(payload, n.to_string().into_bytes());
            if let Some(id) = id {
                other.send(&packet::ack(id, ""));
            }
        }
    });
}

#[test]
fn membership_is_changed_wherever_the_client_is() {
    let business = Business::start();
    let servers = cluster(&business, 3);
    let (_client, identity) = client(&servers[2], &business, "d");
    for channel in ["room", "你好"] {
        let answer = servers[0].api(&membership("/sub/", &identity, channel, false));
        assert_eq!(answer, json!({"status": 0}));
        assert_eq!(servers[2].channels(), [(channel.to_owned(), 1)]);
        let answer = servers[1].api(&membership("/unsub/", &identity, channel, false));
        assert_eq!(answer, json!({"status": 0}));
        assert_eq!(servers[2].channels(), []);
    }
    let answer = servers[0].api(&membership("/sub/", "nobody", "room", false));
    assert_eq!(answer, json!({"status": 1, "msg": "no such connection"}));
}

#[test]
fn occupy_empties_the_channel_on_every_server() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let servers = cluster(&business, 3);
    let _members: Vec<_> = servers
        .iter()
        .map(|server| client(server, &business, "member"))
        .collect();
    business.reply("/connect/", Reply::success());
    let (_last, identity) = client(&servers[1], &business, "last");
    let answer = servers[0].api(&membership("/sub/", &identity, "room", true));
    assert_eq!(answer, json!({"status": 0}));
    assert_eq!(servers[0].channels(), []);
    assert_eq!(servers[1].channels(), [("room".to_owned(), 1)]);
    assert_eq!(servers[2].channels(), []);
    let answer = servers[2].api(&membership("/sub/", "nobody", "room", true));
    assert_eq!(answer, json!({"status": 1, "msg": "no such connection"}));
    assert_eq!(servers[1].channels(), [], "an unknown identity empties it, too");
}

#[test]
fn serverinfo_shows_all_servers() {
    let business = Business::start();
    let servers = cluster(&business, 3);
    for (server, channel) in servers.iter().zip(["red", "green", "你好"]) {
        let (_, identity) = client(server, &business, "d");
        let _ = server.sub(&identity, channel);
    }
    business.reply("/connect/", Reply::channels("here"));
    let _clients: Vec<_> = servers.iter().map(|server| client(server, &business, "e")).collect();
    for server in &servers {
        let answer = http::call(server.port(), &Request::get("/serverinfo/"), SOON).expect("page");
        assert_eq!(answer.status, 200);
        let page = answer.text();
        for other in &servers {
            let name = other.info()["server"].as_str().expect("name").to_owned();
            assert!(page.contains(&name), "{name} is missing in {page}");
        }
        assert_eq!(page.matches("here").count(), 3, "{page}");
    }
}

#[test]
fn updateconfig_is_passed_on() {
    let business = Business::start();
    let servers = cluster(&business, 2);
    let ini = std::fs::read_to_string(&servers[1].ini).expect("ini file");
    std::fs::write(&servers[1].ini, ini.replace(TOKEN, "fresh-token")).expect("ini file");
    let update = Request::get("/updateconfig/");
    assert_eq!(
        http::call(servers[0].port(), &update, SOON).expect("answer").json(),
        Some(json!({"status": 0}))
    );
    let request = Request::post("/send/", "x").query("channel", "c").query("qos", 0);
    let accepted = eventually(SOON, || {
        let answer = http::call(servers[1].port(), &request.clone().signed("fresh-token"), SOON);
        answer.is_ok_and(|answer| answer.json() == Some(json!({"status": 0})))
    });
    assert!(accepted, "the other server did not read its configuration again");
}

#[test]
fn what_a_peer_is_asked() {
    let (business, peer) = (Business::start(), scripted_peer());
    let server = with_peer(&business, &peer);
    let sub = membership("/sub/", "someone", "room", false);
    let unsub = membership("/unsub/", "someone", "room", false);
    let sends = Request::post("/send/", "")
        .query("channel", "grün")
        .query("msgtype", 9)
        .query("unknown", "x");
    let calls = [sub, unsub, sends.query("qos", 2).query("timeout", 20)];
    let gets = ["/serverinfo/", "/updateconfig/"].map(Request::get);
    for request in calls.iter().chain(&gets) {
        http::call(server.port(), &request.clone().signed(TOKEN), SOON).expect("answer");
        let asked = peer.wait_for(&request.path, 1, SOON).remove(0);
        assert_eq!((&asked.method, &asked.body), (&request.method, &request.body));
        let value = |name: &str| {
            let values: Vec<_> = asked
                .query
                .iter()
                .filter(|(key, _)| key == name)
                .map(|(_, v)| v.as_str())
                .collect();
            assert!(values.len() <= 1, "{name} twice in {}", asked.target);
            values.first().map(|v| v.to_string()).unwrap_or_default()
        };
        assert_eq!(value("cluster"), "1");
        assert_eq!(
            value("signature"),
            http::sign(TOKEN, &value("timestamp"), &value("nonce"))
        );
        let is_send = request.path == "/send/";
        let own = ["channel", "msgtype", "qos", "timeout"].map(value);
        assert_eq!(own, if is_send { ["grün", "9", "2", "19"] } else { [""; 4] });
        assert_eq!(asked.query.len(), if is_send { 8 } else { 4 }, "{}", asked.target);
    }
}

#[test]
fn a_user_is_reached_on_all_servers_and_its_platforms_are_in_order_of_connecting() {
    let business = Business::start();
    business.reply("/connect/", Reply::ok(r#"{"status": "success", "uid": "u1"}"#));
    let servers = cluster(&business, 2);
    let join = |server: &Server, platform: &str| {
        let mut open = Open::default();
        open.headers[1].1 = platform.into();
        Client::open_with(server.port(), open)
    };
    let clients = [
        join(&servers[1], "ios"),
        join(&servers[0], "android"),
        join(&servers[1], "web"),
        join(&servers[0], "ios"),
    ];
    for (asked, qos) in [(0, 1), (1, 0)] {
        let request = Request::post("/send/", "hello")
            .query("uid", "u1")
            .query("message_type", 3);
        std::thread::scope(|scope| {
            for client in &clients {
                scope.spawn(move || {
                    let (id, payload) = client.expect_send(SOON);
                    assert_eq!(payload, b"hello");
                    id.into_iter().for_each(|id| client.send(&packet::ack(id, "")));
                });
            }
            let answer = servers[asked].api(&request.query("qos", qos).query("timeout", 6));
            assert_eq!(answer, json!({"online_client": ["ios", "android", "web"]}));
        });
    }
}
