//! Client messages on their way to the business server: re-entrant handlers, the order of one client, the close callback last.

use super::common::business::{Business, Reply};
use super::common::client::{Client, Op, Open};
use super::common::http::{self, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, ms, packet};
use super::{acknowledge, clients, close_politely};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The handler of a forward subscribes the sender, pushes to it with QoS 1 and only then answers.
fn reentrant_handler(configure: impl FnOnce(Builder) -> Builder) {
    const MESSAGES: u16 = 10;
    let business = Business::start();
    let port: Arc<OnceLock<u16>> = Arc::default();
    let own_port = Arc::clone(&port);
    business.hook(move |request| {
        if !request.path.starts_with("/message/") {
            return None;
        }
        let (port, text) = (*own_port.get()?, request.text());
        let call = |request: Request| {
            http::call(port, &request.signed(TOKEN), SOON)
                .ok()
                .and_then(|r| r.json())
        };
        let body = json!({"identity": request.identity(), "channel": text}).to_string();
        let joined = call(Request::post("/sub/", body));
        let pushed = call(
            Request::post("/send/", "from inside")
                .query("channel", &text)
                .query("qos", 1),
        );
        Some(Reply::ok(format!("{} {}", joined?, pushed?)))
    });
    let server = configure(Builder::new(&business)).start();
    port.set(server.port()).expect("set once");
    let client = Client::open(server.port());
    for id in 1..=MESSAGES {
        client.send(&packet::send(1, 7, id, format!("channel-{id}")));
        assert_eq!(
            acknowledge(&client, SOON, "seen"),
            b"from inside",
            "the push precedes the answer (spec §18)"
        );
        let packet::Packet::Ack { id: answered, data } = client.packet(SOON) else {
            panic!("expected an ACK")
        };
        let text = String::from_utf8(data).expect("text").replace(' ', "");
        assert_eq!(answered, id);
        assert!(text.starts_with(r#"{"status":0}{"#), "{text}");
        assert!(
            text.contains(r#""connections":1"#) && text.contains(r#""data":"seen""#),
            "{text}"
        );
    }
}

#[test]
fn handler_may_call_the_api_from_inside_a_forward() {
    reentrant_handler(|b| b);
}

#[test]
fn handler_may_call_the_api_from_inside_an_ordered_forward() {
    reentrant_handler(|b| b.set("forward_order", "client").set("forward_window", 1));
}

/// Many more forwards than any window wait in line while the handler of the first one needs the client's ACK.
#[test]
fn acknowledgements_do_not_wait_behind_forwards() {
    let business = Business::start();
    let port: Arc<OnceLock<u16>> = Arc::default();
    let own_port = Arc::clone(&port);
    business.reply("/connect/", Reply::channels("room"));
    business.hook(move |request| {
        (request.text() == "first").then(|| {
            let push = Request::post("/send/", "question")
                .query("channel", "room")
                .query("qos", 1)
                .signed(TOKEN);
            let answer = http::call(*own_port.get().expect("port"), &push, SOON);
            Reply::ok(answer.map(|r| r.text()).unwrap_or_default())
        })
    });
    let order = |b: Builder| b.set("forward_order", "client").set("forward_window", 1);
    let server = order(Builder::new(&business)).start();
    port.set(server.port()).expect("set once");
    let client = Client::open(server.port());
    client.send(&packet::send(1, 7, 1, "first"));
    for _ in 0..100 {
        client.send(&packet::send(0, 7, 0, "behind"));
    }
    assert_eq!(acknowledge(&client, SOON, "answer"), b"question");
    let packet::Packet::Ack { id: 1, data } = client.packet(SOON) else {
        panic!("expected the ACK of the first")
    };
    assert!(String::from_utf8_lossy(&data).contains("answer"), "{data:?}");
    business.wait_for("/message/", 101, Duration::from_secs(20));
}

/// Texts of the forwards of one client, in the order in which they arrived.
fn forwarded(business: &Business, identity: &str) -> Vec<String> {
    let forwards = business.requests_to("/message/").into_iter();
    forwards
        .filter(|r| r.identity() == identity)
        .map(|r| r.text())
        .collect()
}

fn ordered_forwards(configure: impl FnOnce(Builder) -> Builder) {
    const CLIENTS: usize = 6;
    const MESSAGES: u16 = 40;
    let business = Business::start();
    // The earlier a message of a group of four, the longer its handler takes.
    business.hook(|request| {
        let number: u64 = request
            .text()
            .parse()
            .ok()
            .filter(|_| request.path.starts_with("/message/"))?;
        Some(Reply::ok(request.text()).delay(ms(8 * (3 - number % 4))))
    });
    let server = configure(Builder::new(&business)).start();
    let clients = clients(server.port(), &business, CLIENTS);
    for number in 0..MESSAGES {
        for (client, _) in &clients {
            client.send(&packet::send((number % 3) as u8, 7, number, number.to_string()));
        }
    }
    business.wait_for("/message/", CLIENTS * usize::from(MESSAGES), Duration::from_secs(60));
    let wanted: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    for (_, identity) in &clients {
        assert_eq!(forwarded(&business, identity), wanted);
    }
}

#[test]
fn ordered_forwards_arrive_in_order() {
    ordered_forwards(|b| b.set("forward_order", "client").set("workers", 2));
}

#[test]
fn ordered_forwards_arrive_in_order_one_by_one() {
    ordered_forwards(|b| {
        b.set("forward_order", "client")
            .set("forward_window", 1)
            .set("workers", 2)
    });
}

#[test]
fn window_of_one_waits_for_the_answer() {
    const MESSAGES: usize = 6;
    let business = Business::start();
    business.reply("/message/", Reply::ok("").delay(ms(150)));
    let server = Builder::new(&business)
        .set("forward_order", "client")
        .set("forward_window", 1)
        .start();
    let client = Client::open(server.port());
    for i in 0..MESSAGES {
        client.send(&packet::send(0, 7, 0, i.to_string()));
    }
    let arrived = business.wait_for("/message/", MESSAGES, Duration::from_secs(20));
    for pair in arrived.windows(2) {
        let apart = pair[1].at.duration_since(pair[0].at);
        assert!(
            apart >= ms(140),
            "the next forward came {apart:?} after the one before, whose answer takes 150 ms"
        );
    }
}

#[test]
fn slow_business_stops_reading_but_loses_nothing() {
    const MESSAGES: usize = 400;
    let business = Business::start();
    business.reply("/message/", Reply::ok("").delay(ms(5)));
    let server = Builder::new(&business)
        .set("forward_order", "client")
        .set("forward_window", 1)
        .start();
    let client = Client::open(server.port());
    for i in 0..MESSAGES {
        client.send(&packet::send(0, 7, 0, format!("{i:0>4000}")));
    }
    let arrived = business.wait_for("/message/", MESSAGES, Duration::from_secs(60));
    let numbers = arrived.iter().map(|r| r.text().parse::<usize>().expect("number"));
    assert!(numbers.eq(0..MESSAGES), "forwards are lost or out of order");
}

#[test]
fn one_close_callback_per_session_after_its_last_message() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 5;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    business.reply("/message/", Reply::ok("ok").delay(ms(40)));
    let server = Builder::new(&business).set("workers", 4).start();
    let clients = clients(server.port(), &business, CLIENTS);
    let identities: Vec<String> = clients.iter().map(|(_, identity)| identity.clone()).collect();
    for (i, (client, _)) in clients.into_iter().enumerate() {
        for n in 0..MESSAGES {
            client.send(&packet::send((n % 3) as u8, 7, n as u16, n.to_string()));
        }
        match i % 4 {
            0 => close_politely(&client, SOON),
            1 => client.drop_now(),
            2 => client.reset(),
            _ => client.frame(Op::Text, b"\x10\x00\x01\xff"),
        }
    }
    business.wait_for("/close/", CLIENTS, Duration::from_secs(30));
    server.expect_no_channels();
    std::thread::sleep(ms(500));
    let mut messages: HashMap<String, Vec<String>> = HashMap::new();
    let mut closes: HashMap<String, usize> = HashMap::new();
    for request in business.requests() {
        let identity = request.identity();
        if request.path == "/close/" {
            *closes.entry(identity).or_default() += 1;
        } else if request.path.starts_with("/message/") {
            assert!(
                !closes.contains_key(&identity),
                "a message of {identity} came after its close callback"
            );
            messages.entry(identity).or_default().push(request.text());
        }
    }
    for (i, identity) in identities.iter().enumerate() {
        assert_eq!(closes.get(identity), Some(&1), "close callbacks of client {i}");
        // A reset may destroy what the server has not read yet; every other end comes after the messages.
        let arrived = messages.get(identity).map_or(0, Vec::len);
        assert!(
            arrived == MESSAGES || i % 4 == 2,
            "client {i}: {arrived} of {MESSAGES} messages were forwarded"
        );
    }
}

#[test]
fn last_member_leaving_answers_the_caller() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).set("workers", 4).start();
    for round in 0..20 {
        let staying = Client::open_with(server.port(), Open::device("staying"));
        let leaving = Client::open_with(server.port(), Open::device("leaving"));
        std::thread::scope(|scope| {
            let call = scope.spawn(|| server.send("room", 1, "x"));
            leaving.expect_send(SOON);
            acknowledge(&staying, SOON, "here");
            leaving.drop_now();
            let answer = call.join().expect("caller");
            assert_eq!(
                answer,
                json!({"status": 0, "connections": 1, "data": "here"}),
                "round {round}"
            );
        });
        drop((staying, leaving));
        server.expect_no_channels();
    }
}

/// What QoS 2 remembers ends with the connection.
#[test]
fn qos_2_on_a_new_connection_may_be_handled_twice() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let message = |dup| {
        packet::Packet::Send {
            dup,
            qos: 2,
            kind: 7,
            id: Some(5),
            payload: b"once?".to_vec(),
        }
        .encode()
    };
    let client = Client::open(server.port());
    client.send(&message(false));
    client.expect(Op::Binary, &packet::rec(5, "ok"));
    client.send(&message(true));
    client.send(&packet::send(1, 8, 1, "behind"));
    client.expect(Op::Binary, &packet::ack(1, "ok"));
    assert_eq!(
        business.requests_to("/message/7/").len(),
        1,
        "dropped on the same connection"
    );
    client.drop_now();
    let client = Client::open(server.port());
    client.send(&message(true));
    client.expect(Op::Binary, &packet::rec(5, "ok"));
    assert_eq!(business.requests_to("/message/7/").len(), 2, "nobody remembers it");
}
