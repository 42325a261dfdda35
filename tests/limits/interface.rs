//! How much of the server callers of the HTTP interface may hold: connections, and memory of request bodies.

use super::common::client::{Client, Op};
use super::common::http::{Connection, Request};
use super::common::server::TOKEN;
use super::common::{SOON, eventually, packet};
use super::{Server, metric, setup};

fn hello(server: &Server, connection: &mut Connection) -> std::io::Result<u16> {
    let answer = connection.exchange(server.port(), &Request::get("/hello/"), SOON);
    answer.map(|answer| answer.status)
}

fn connect(server: &Server) -> Connection {
    Connection::open(server.port()).expect("connect")
}

#[test]
fn connections_to_the_interface() {
    let (_business, server) = setup(|b| b.set("api_connections", 3));
    let mut kept = Vec::new();
    let three = eventually(SOON, || {
        // The harness has said hello; its connection may count for a moment yet.
        let mut connection = connect(&server);
        if hello(&server, &mut connection).is_ok_and(|status| status == 200) {
            kept.push(connection);
        }
        kept.len() == 3
    });
    assert!(three, "only {} connections", kept.len());
    for _ in 0..4 {
        let mut further = connect(&server);
        assert_eq!(hello(&server, &mut further).expect("an answer"), 503);
        assert!(further.is_closed_within(SOON));
    }
    for connection in &mut kept {
        assert_eq!(hello(&server, connection).expect("an answer"), 200, "who is in stays");
    }
    let client = Client::open(server.port());
    client.send(&packet::send(1, 7, 1, "clients do not count"));
    client.expect(Op::Binary, &packet::ack(1, "ok"));
    kept.truncate(1);
    assert!(eventually(SOON, || hello(&server, &mut connect(&server)).is_ok_and(|s| s == 200)));
    assert!(metric(&server, "rainbow_refused_total{reason=\"api_connections\"}") >= 4);
}

#[test]
fn request_bodies_together() {
    let (_business, server) = setup(|b| b.set("api_bodies_max", "1m").set("api_body_max", "4m"));
    let request = |bytes: usize| {
        let body = vec![b'x'; bytes];
        Request::post("/send/", body).query("channel", "nobody").signed(TOKEN)
    };
    let whole = |bytes| {
        let mut connection = connect(&server);
        let answer = connection.exchange(server.port(), &request(bytes), SOON);
        answer.expect("an answer").status
    };
    assert_eq!(whole(3 << 20), 200, "one alone may be larger");
    assert_eq!(whole((4 << 20) + 1), 413);
    let mut slow = connect(&server);
    let bytes = request(900 << 10).bytes(server.port(), false);
    let (first, rest) = bytes.split_at(800 << 10);
    slow.write(first).expect("write");
    assert!(
        eventually(SOON, || whole(400 << 10) == 503),
        "two bodies, more than all may have"
    );
    assert_eq!(whole(100 << 10), 200, "there is room for a small one");
    slow.write(rest).expect("write");
    assert_eq!(slow.response("POST", SOON).expect("an answer").status, 200);
    assert_eq!(whole(900 << 10), 200, "all is given back");
    assert!(metric(&server, "rainbow_refused_total{reason=\"api_bodies\"}") >= 1);
}
