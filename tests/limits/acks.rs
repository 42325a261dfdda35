//! Data that clients send along with their acknowledgements: passed on to the caller up to a bound.

use super::common::client::{Client, Op};
use super::common::http::Request;
use super::common::packet;
use super::common::{SOON, eventually};
use super::{Server, metric, setup};
use serde_json::{Value, json};

const TOO_LONG: &str = "rainbow_ack_data_left_out_total{reason=\"too_long\"}";

/// What the caller of a publish to `room` is told, whose members do `acknowledge`.
fn publish(server: &Server, qos: u8, acknowledge: impl FnOnce()) -> Value {
    let request = Request::post("/send/", "m").query("channel", "room").query("qos", qos);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.api(&request));
        acknowledge();
        answer.join().expect("an answer")
    })
}

fn delivered(connections: u64, data: &[u8]) -> Value {
    json!({"status": 0, "connections": connections, "data": String::from_utf8_lossy(data)})
}

#[test]
fn what_is_too_long_is_left_out_and_the_acknowledgement_counts() {
    let (_business, server) = setup(|b| b.set("ack_data_max", "4k").set("workers", 1));
    let client = Client::open(server.port());
    let (longest, longer) = (vec![b'd'; 4096], vec![b'd'; 4097]);
    for (qos, data, told) in [
        (1, &b""[..], &b""[..]),
        (1, b"short", b"short"),
        (1, &longest, &longest),
        (2, &longest, &longest),
        (1, &longer, b""),
        (2, &longer, b""),
        (1, b"short again", b"short again"),
    ] {
        let answer = publish(&server, qos, || {
            let id = client.expect_send(SOON).0.expect("an id");
            if qos == 1 {
                client.send(&packet::ack(id, data));
            } else {
                client.send(&packet::rec(id, data));
                client.expect(Op::Binary, &packet::rel(id));
                client.send(&packet::com(id));
            }
        });
        assert_eq!(answer, delivered(1, told), "QoS {qos}, {} bytes", data.len());
    }
    assert_eq!(metric(&server, TOO_LONG), 2);
    server.expect_said("it is longer than ack_data_max");
    server.expect_said("bytes=4097 ack_data_max=4096");
    let lines = server.log_tail().matches("it is longer than ack_data_max").count();
    assert_eq!(lines, 1, "said once");
}

/// As if it had come without data.
#[test]
fn data_of_another_member_stands_in() {
    let (_business, server) = setup(|b| b.set("ack_data_max", "4k"));
    let (first, second) = (Client::open(server.port()), Client::open(server.port()));
    let answer = publish(&server, 1, || {
        let id = |client: &Client| client.expect_send(SOON).0.expect("an id");
        let (of_first, of_second) = (id(&first), id(&second));
        let before = metric(&server, "rainbow_acks_total");
        first.send(&packet::ack(of_first, "said first"));
        assert!(eventually(SOON, || metric(&server, "rainbow_acks_total") > before));
        second.send(&packet::ack(of_second, vec![b'd'; 5000]));
    });
    assert_eq!(answer, delivered(2, b"said first"));
}

/// What the bound is by default is more than any answer of a client needs; the longest that can be set fits, whatever its bytes.
#[test]
fn long_data_passes_where_it_may() {
    let (_business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let acknowledge = |data: &[u8]| {
        let id = client.expect_send(SOON).0.expect("an id");
        client.send(&packet::ack(id, data));
    };
    let long = vec![b'd'; 1 << 20];
    assert!(publish(&server, 1, || acknowledge(&long)) == delivered(1, &long));
    let (_business, server) = setup(|b| b.set("ack_data_max", "2m"));
    let client = Client::open(server.port());
    let odd: Vec<u8> = (0..2 << 20).map(|n| if n % 2 == 0 { 0xff } else { 1 }).collect();
    let answer = publish(&server, 1, || {
        let id = client.expect_send(SOON).0.expect("an id");
        client.send(&packet::ack(id, &odd));
    });
    assert!(answer == delivered(1, &odd));
}
