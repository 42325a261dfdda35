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
