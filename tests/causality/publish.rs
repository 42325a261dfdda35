//! A send issued after a join was answered reaches the new member; all members see one order per channel.

use super::common::business::{Business, Reply};
use super::common::client::{Client, Open};
use super::common::http::{Connection, Request};
use super::common::packet::{self, Packet};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, ms};
use super::{acknowledge, clients};
use serde_json::json;
use std::time::Duration;

const SHARDS: usize = 4;
const CLIENTS: usize = 8;

/// One signed call on a kept-alive connection.
fn exchange(connection: &mut Connection, port: u16, request: Request) -> serde_json::Value {
    let answer = connection
        .exchange(port, &request.signed(TOKEN), SOON)
        .expect("answer of the API");
    answer
        .json()
        .unwrap_or_else(|| panic!("{} {}", answer.status, answer.text()))
}

fn membership(path: &str, identity: &str, channel: &str) -> Request {
    Request::post(path, json!({"identity": identity, "channel": channel}).to_string())
}

fn send(channel: &str, qos: u8, body: &str) -> Request {
    Request::post("/send/", body)
        .query("channel", channel)
        .query("qos", qos)
}

#[test]
fn send_after_an_answered_sub_reaches_the_client() {
    const ROUNDS: usize = 50;
    let business = Business::start();
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    let (mut joins, mut sends) = (
        Connection::open(port).expect("connect"),
        Connection::open(port).expect("connect"),
    );
    for round in 0..ROUNDS {
        for (i, (client, identity)) in clients.iter().enumerate() {
            // A new name each time, so that the channel's home shard changes.
            let channel = format!("c{round}-{i}");
            let joined = exchange(&mut joins, port, membership("/sub/", identity, &channel));
            assert_eq!(joined, json!({"status": 0}), "round {round}");
            assert_eq!(
                exchange(&mut sends, port, send(&channel, 0, &channel)),
                json!({"status": 0})
            );
            let (_, payload) = client.expect_send(SOON);
            assert_eq!(payload, channel.as_bytes(), "round {round}, client {i}");
        }
    }
}

#[test]
fn send_after_an_answered_sub_counts_every_member() {
    const ROUNDS: usize = 60;
    let business = Business::start();
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    std::thread::scope(|scope| {
        for (client, _) in &clients {
            scope.spawn(move || (0..ROUNDS).for_each(|_| drop(acknowledge(client, Duration::from_secs(30), "seen"))));
        }
        let mut connection = Connection::open(port).expect("connect");
        for round in 0..ROUNDS {
            let channel = format!("all-{round}");
            for (_, identity) in &clients {
                let joined = exchange(&mut connection, port, membership("/sub/", identity, &channel));
                assert_eq!(joined, json!({"status": 0}));
            }
            let answer = exchange(&mut connection, port, send(&channel, 1, "x"));
            assert_eq!(
                answer,
                json!({"status": 0, "connections": CLIENTS, "data": "seen"}),
                "round {round}"
            );
        }
    });
}

#[test]
fn send_after_an_answered_unsub_does_not_reach_the_client() {
    const ROUNDS: usize = 100;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("end"));
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    let mut connection = Connection::open(port).expect("connect");
    for round in 0..ROUNDS {
        let identity = &clients[round % CLIENTS].1;
        let channel = format!("left-{round}");
        exchange(&mut connection, port, membership("/sub/", identity, &channel));
        assert_eq!(
            exchange(&mut connection, port, membership("/unsub/", identity, &channel)),
            json!({"status": 0})
        );
        let answer = exchange(&mut connection, port, send(&channel, 1, "must not arrive"));
        assert_eq!(
            answer,
            json!({"status": 0, "connections": 0, "data": ""}),
            "round {round}"
        );
    }
    exchange(&mut connection, port, send("end", 0, "end"));
    for (client, _) in &clients {
        assert_eq!(
            client.expect_send(SOON).1,
            b"end",
            "a client got what it had unsubscribed from"
        );
    }
}

#[test]
fn send_after_101_reaches_the_channel_of_the_connect_reply() {
    const ROUNDS: usize = 200;
    let business = Business::start();
    business.hook(|request| {
        let device = request.header("x-deviceid").filter(|_| request.path == "/connect/")?;
        Some(Reply::channels(&format!("own-{device};;all")))
    });
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let mut sends = Connection::open(port).expect("connect");
    for round in 0..ROUNDS {
        let device = round.to_string();
        let client = Client::open_with(port, Open::device(&device));
        assert_eq!(
            exchange(&mut sends, port, send(&format!("own-{device}"), 0, &device)),
            json!({"status": 0})
        );
        assert_eq!(client.expect_send(SOON).1, device.as_bytes(), "round {round}");
    }
    business.wait_for("/close/", ROUNDS, Duration::from_secs(20));
    server.expect_no_channels();
}

#[test]
fn occupy_moves_a_channel_between_shards() {
    let business = Business::start();
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    let mut connection = Connection::open(port).expect("connect");
    for round in 0..80 {
        let (client, identity) = &clients[round % CLIENTS];
        let body = json!({"identity": identity, "channel": "seat", "occupy": true}).to_string();
        assert_eq!(
            exchange(&mut connection, port, Request::post("/sub/", body)),
            json!({"status": 0})
        );
        let text = format!("round {round}");
        exchange(&mut connection, port, send("seat", 0, &text));
        assert_eq!(client.expect_send(SOON).1, text.as_bytes(), "only the holder gets it");
    }
    for (client, _) in &clients {
        client.expect_silence(ms(20));
    }
}

#[test]
fn all_members_see_one_order_per_channel() {
    const CALLERS: usize = 4;
    const EACH: usize = 100;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                let mut connection = Connection::open(port).expect("connect");
                for i in 0..EACH {
                    let answer = exchange(&mut connection, port, send("room", 0, &format!("{caller}:{i}")));
                    assert_eq!(answer, json!({"status": 0}));
                }
            });
        }
    });
    let seen = |client: &Client| -> Vec<String> {
        let payloads = (0..CALLERS * EACH).map(|_| client.expect_send(SOON).1);
        payloads.map(|p| String::from_utf8(p).expect("text")).collect()
    };
    let orders: Vec<Vec<String>> = clients.iter().map(|(client, _)| seen(client)).collect();
    for (i, order) in orders.iter().enumerate() {
        let differ = order.iter().zip(&orders[0]).position(|(a, b)| a != b);
        assert_eq!(differ, None, "client {i} differs from client 0 at this place");
    }
    for caller in 0..CALLERS {
        let own = orders[0].iter().filter(|m| m.starts_with(&format!("{caller}:")));
        let wanted: Vec<String> = (0..EACH).map(|i| format!("{caller}:{i}")).collect();
        assert!(own.eq(&wanted), "the sends of caller {caller} arrive out of order");
    }
}

/// Calls that come at once on one connection do not wait for each other where nobody acknowledges. Their answers and, in each
/// channel, their messages keep their order all the same.
#[test]
fn pipelined_sends_keep_their_order_and_so_do_their_answers() {
    const CHANNELS: usize = 5;
    const CALLS: usize = 700; // more than may be under way, more than one read brings
    let business = Business::start();
    business.hook(|request| {
        let device = request.header("x-deviceid").filter(|_| request.path == "/connect/")?;
        let number: usize = device.strip_prefix('d')?.parse().ok()?;
        Some(Reply::channels(&format!("c{}", number % CHANNELS)))
    });
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, 2 * CHANNELS);
    // Every 9th is answered 404, so that an answer out of place shows.
    let requests: Vec<Request> = (0..CALLS)
        .map(|call| match call % 9 {
            8 => Request::get("/nobody/"),
            _ => send(&format!("c{}", call % CHANNELS), 0, &call.to_string()).signed(TOKEN),
        })
        .collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes(port, false)).collect();
    let mut connection = Connection::open(port).expect("connect");
    connection.write(&bytes).expect("write");
    for (call, request) in requests.iter().enumerate() {
        let answer = connection.response(&request.method, SOON).expect("answer");
        let status = if call % 9 == 8 { 404 } else { 200 };
        assert_eq!(answer.status, status, "call {call}: {}", answer.text());
    }
    for (i, (client, _)) in clients.iter().enumerate() {
        let own = (0..CALLS).filter(|call| call % CHANNELS == i % CHANNELS && call % 9 != 8);
        for call in own {
            let payload = client.expect_send(SOON).1;
            assert_eq!(String::from_utf8_lossy(&payload), call.to_string(), "client {i}");
        }
    }
}

/// What changes who is where, or waits for clients, waits for the calls before it, and those behind wait for it: pipelined or
/// not, calls of one connection take effect one after the other.
#[test]
fn pipelined_calls_see_the_effects_of_those_before_them() {
    const ROUNDS: usize = 60;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("end"));
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let port = server.port();
    let clients = clients(port, &business, CLIENTS);
    let mut connection = Connection::open(port).expect("connect");
    for round in 0..ROUNDS {
        let (client, identity) = &clients[round % CLIENTS];
        let channel = format!("pipelined-{round}");
        let calls = [
            send(&channel, 0, "nobody is there yet"),
            membership("/sub/", identity, &channel),
            send(&channel, 0, "one"),
            send("elsewhere", 0, "nobody is there"),
            send(&channel, 0, "two"),
            membership("/unsub/", identity, &channel),
            send(&channel, 0, "it has left"),
            send(&channel, 1, "it has left"),
            membership("/sub/", identity, &channel),
            send(&channel, 0, "three"),
        ];
        let bytes: Vec<u8> = calls
            .into_iter()
            .flat_map(|call| call.signed(TOKEN).bytes(port, false))
            .collect();
        connection.write(&bytes).expect("write");
        for call in 0..10 {
            let answer = connection.response("POST", SOON).expect("answer").json();
            let wanted = match call {
                7 => json!({"status": 0, "connections": 0, "data": ""}),
                _ => json!({"status": 0}),
            };
            assert_eq!(answer, Some(wanted), "round {round}, call {call}");
        }
        for text in ["one", "two", "three"] {
            assert_eq!(client.expect_send(SOON).1, text.as_bytes(), "round {round}");
        }
    }
    exchange(&mut connection, port, send("end", 0, "end"));
    for (client, _) in &clients {
        assert_eq!(client.expect_send(SOON).1, b"end", "a client got what was not for it");
    }
}

/// Whose connection breaks is not told the outcome, and that is all.
#[test]
fn a_publish_goes_on_without_its_caller() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).set("workers", SHARDS).start();
    let clients = clients(server.port(), &business, 2);
    let request = send("room", 1, "for everybody").query("timeout", 20);
    let mut caller = Connection::open(server.port()).expect("connect");
    caller
        .write(&request.signed(TOKEN).bytes(server.port(), false))
        .expect("write");
    let (first, payload) = clients[0].0.expect_send(SOON);
    assert_eq!(payload, b"for everybody");
    let caller = caller.into_stream();
    socket2::SockRef::from(&caller)
        .set_linger(Some(Duration::ZERO))
        .expect("linger");
    drop(caller); // with a reset
    assert_eq!(acknowledge(&clients[1].0, SOON, ""), b"for everybody");
    // The silent one is still asked.
    let Packet::Send { dup: true, id, .. } = clients[0].0.packet(SOON) else {
        panic!("expected a repetition")
    };
    assert_eq!(id, first);
    clients[0].0.send(&packet::ack(id.expect("an id"), ""));
    clients[1].0.expect_silence(ms(200));
    assert_eq!(server.send("room", 0, "next")["status"], 0);
    for (client, _) in &clients {
        assert_eq!(client.expect_send(SOON).1, b"next");
    }
}
