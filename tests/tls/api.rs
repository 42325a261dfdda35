//! The HTTP interface over TLS: the connection moves to the control core, and back for `/connect/`.

use super::authority::{Version, connect};
use super::common::client::{Client, Op, Open};
use super::common::http::{Connection, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, packet};
use super::{on_both_drivers, setup};
use std::io::{Read, Write};
use std::time::Duration;

on_both_drivers! {
    fn calls_on_one_connection_then_a_client(driver) {
        let setup = setup(driver);
        for version in [Version::Tls12, Version::Tls13] {
            let tunnel = setup.tunnel(version);
            let mut api = Connection::open(tunnel.port).expect("connect");
            for n in 0..50 {
                let body = vec![b'x'; n * 4000];
                let request = Request::post("/send/", &body).query("channel", "room").query("qos", 0);
                let answer = api.exchange(0, &request.signed(TOKEN), SOON).expect("answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            let client = Client::start_on(api.into_stream(), 0, Open::default()).expect("upgrade").let_in();
            client.send(&packet::send(1, 7, 3, "up"));
            client.expect(Op::Binary, &packet::ack(3, "ok"));
            setup.server.send("room", 0, "down");
            assert_eq!(client.expect_send(SOON).1, b"down");
        }
    }

    fn pipelined_calls_are_answered_in_order(driver) {
        const CALLS: usize = 200;
        let setup = setup(driver);
        let mut api = Connection::open(setup.tunnel(Version::Tls13).port).expect("connect");
        let hello = Request::get("/hello/").bytes(0, false);
        let nothing = Request::get("/nothing/").bytes(0, false);
        let all: Vec<u8> = (0..CALLS).flat_map(|n| if n % 3 == 0 { nothing.clone() } else { hello.clone() }).collect();
        api.write(&all).expect("write");
        for n in 0..CALLS {
            let answer = api.response("GET", SOON).expect("answer");
            assert_eq!(answer.status, if n % 3 == 0 { 404 } else { 200 });
        }
        // In front of an upgrade request in the same record.
        let behind = Open { behind: Some(hello), ..Open::default() };
        let client = Client::open_with(setup.tunnel(Version::Tls13).port, behind);
        client.send(&packet::send(1, 7, 3, "up"));
        client.expect(Op::Binary, &packet::ack(3, "ok"));
    }

    fn large_bodies_and_answers_pass(driver) {
        let setup = setup(|builder| driver(builder).set("ack_data_max", "2m"));
        let client = Client::open(setup.tunnel(Version::Tls12).port);
        let mut api = Connection::open(setup.tunnel(Version::Tls12).port).expect("connect");
        let body: Vec<u8> = (0..5 * 1024 * 1024).map(|n| (n % 253) as u8).collect();
        let request = Request::post("/send/", &body).query("channel", "room").query("qos", 0).signed(TOKEN);
        let answer = api.exchange(0, &request, Duration::from_secs(20)).expect("answer");
        assert_eq!(answer.status, 200);
        assert!(client.expect_send(Duration::from_secs(20)).1 == body);
        // Acknowledged with 2 MiB, which is the answer of the call.
        let request = Request::post("/send/", "q").query("channel", "room").query("qos", 1).query("timeout", 60).signed(TOKEN);
        api.write(&request.bytes(0, false)).expect("write");
        let (id, _) = client.expect_send(SOON);
        let text = "y".repeat(2 * 1024 * 1024 - 64);
        client.send(&packet::ack(id.expect("id"), &text));
        let answer = api.response("POST", Duration::from_secs(20)).expect("answer");
        assert!(answer.text().contains(&text), "{} bytes", answer.body.len());
    }
}

/// The peer says that nothing more comes and still gets its answers, then the proper end of the session.
#[test]
fn a_half_closed_connection_gets_its_answers() {
    let setup = setup(|builder| builder);
    for request in [
        "GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\nGET /he",
    ] {
        let mut secure =
            connect(setup.port.number, &setup.authority.client(Version::Tls13), "a.test").expect("connect");
        secure.write_all(request.as_bytes()).expect("write");
        secure.conn.send_close_notify();
        secure.flush().expect("write");
        secure.sock.shutdown(std::net::Shutdown::Write).expect("half close");
        let mut answer = Vec::new();
        let end = secure.read_to_end(&mut answer);
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{end:?} {}",
            String::from_utf8_lossy(&answer)
        );
    }
    setup.expect_healthy();
}

/// Without TLS: a second request that breaks off must not occupy the control core.
#[test]
fn a_broken_off_request_behind_a_whole_one_is_the_end() {
    let setup = setup(|builder| builder);
    let mut api = Connection::open(setup.server.port()).expect("connect");
    api.write(b"GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\nGET /he")
        .expect("write");
    assert_eq!(api.response("GET", SOON).expect("answer").status, 200);
    api.stopper()
        .expect("clone")
        .shutdown(std::net::Shutdown::Write)
        .expect("half close");
    assert!(api.is_closed_within(SOON));
    setup.expect_healthy();
}
