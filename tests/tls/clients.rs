//! Websocket clients over TLS.

use super::authority::{Version, connect};
use super::common::business::Reply;
use super::common::client::{Client, Op, Open, encode};
use super::common::http::{Connection, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, eventually, ms, packet};
use super::{on_both_drivers, setup};
use std::io::{Read, Write};
use std::time::Duration;

const LARGE: usize = 5 * 1024 * 1024;

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| (n * 31 % 251) as u8).collect()
}

on_both_drivers! {
    fn messages_go_both_ways_with_both_versions(driver) {
        let setup = setup(driver);
        for version in [Version::Tls12, Version::Tls13] {
            let client = Client::open(setup.tunnel(version).port);
            client.send(&packet::send(1, 7, 3, "up"));
            client.expect(Op::Binary, &packet::ack(3, "ok"));
            client.send(&packet::send(2, 7, 4, "up"));
            client.expect(Op::Binary, &packet::rec(4, "ok"));
            std::thread::scope(|scope| {
                let answer = scope.spawn(|| setup.server.send("room", 1, "down"));
                let (id, payload) = client.expect_send(SOON);
                assert_eq!(payload, b"down");
                client.send(&packet::ack(id.expect("id"), "seen"));
                let answer = answer.join().expect("answer");
                assert_eq!(answer["connections"], 1, "{answer}");
                assert!(answer.to_string().contains("seen"), "{answer}");
            });
            client.frame(Op::Close, &1000u16.to_be_bytes());
            client.expect(Op::Close, &1000u16.to_be_bytes());
            assert!(client.until_eof(SOON).is_some());
            setup.server.expect_no_channels();
        }
        assert_eq!(setup.metric(r#"rainbow_tls_handshakes_total{result="done"}"#), 2);
        assert_eq!(setup.metric(r#"rainbow_tls_handshakes_total{result="failed"}"#), 0);
    }

    fn large_messages_go_both_ways(driver) {
        let setup = setup(driver);
        let (client, large) = (Client::open(setup.tunnel(Version::Tls13).port), large());
        client.send(&packet::send(1, 7, 3, &large));
        assert_eq!(client.packet(Duration::from_secs(20)), packet::Packet::Ack { id: 3, data: b"ok".into() });
        assert!(setup.business.requests_to("/message/")[0].body == large);
        setup.server.send("room", 0, &large);
        assert!(client.expect_send(Duration::from_secs(20)).1 == large);
    }

    fn many_small_frames_keep_their_order(driver) {
        const MESSAGES: usize = 1000;
        let setup = setup(|builder| driver(builder).set("forward_order", "client").set("forward_queue", 65536));
        let client = Client::open(setup.tunnel(Version::Tls13).port);
        // Half of them alone in their record, half of them packed.
        for n in 0..MESSAGES / 2 {
            client.send(&packet::send(0, 7, 0, format!("{n}")));
        }
        let packed: Vec<u8> = (MESSAGES / 2..MESSAGES)
            .flat_map(|n| encode(Op::Binary, &packet::send(0, 7, 0, format!("{n}")), true, true))
            .collect();
        client.raw(&packed).expect("write");
        let seen = setup.business.wait_for("/message/", MESSAGES, Duration::from_secs(40));
        for (n, request) in seen.iter().enumerate() {
            assert_eq!(request.text(), n.to_string());
        }
        let mut api = Connection::open(setup.server.port()).expect("connect");
        for n in 0..MESSAGES {
            let request = Request::post("/send/", n.to_string()).query("channel", "room").query("qos", 0);
            let answer = api.exchange(0, &request.signed(TOKEN), SOON).expect("answer");
            assert_eq!(answer.status, 200);
        }
        for n in 0..MESSAGES {
            assert_eq!(client.expect_send(SOON).1, n.to_string().as_bytes());
        }
    }

    fn a_broadcast_reaches_plain_and_tls_clients_alike(driver) {
        const CLIENTS: usize = 40;
        let setup = setup(|builder| driver(builder).set("workers", 2));
        let tunnel = setup.tunnel(Version::Tls13);
        let port = |n: usize| if n.is_multiple_of(2) { tunnel.port } else { setup.server.port() };
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|n| Client::open_with(port(n), Open::device(&format!("d{n}"))))
            .collect();
        let body = "x".repeat(50_000);
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| setup.server.send("room", 1, &body));
            for client in &clients {
                let (id, payload) = client.expect_send(SOON);
                assert!(payload == body.as_bytes());
                client.send(&packet::ack(id.expect("id"), ""));
            }
            assert_eq!(answer.join().expect("answer")["connections"], CLIENTS);
        });
    }

    fn a_client_that_never_reads_is_closed(driver) {
        let setup = setup(|builder| driver(builder).set("outbox_bytes", "256k"));
        let deaf = Open { read: false, ..Open::default() };
        let client = Client::open_with(setup.tunnel(Version::Tls13).port, deaf);
        let body = vec![b'x'; 1024 * 1024];
        let closed = (0..60).any(|_| {
            setup.server.send("room", 0, &body);
            setup.server.channels().is_empty()
        });
        assert!(closed, "60 MiB wait for a client that reads nothing");
        assert_eq!(setup.metric(r#"rainbow_closes_total{cause="slow_consumer"}"#), 1);
        let with_client = setup.descriptors();
        assert!(eventually(Duration::from_secs(15), || setup.descriptors() < with_client), "its socket stays open");
        drop(client);
        setup.expect_healthy();
    }
}

/// Also with handshake messages cut into many records.
#[test]
fn ciphertext_may_come_byte_by_byte() {
    let setup = setup(|builder| builder);
    for version in [Version::Tls12, Version::Tls13] {
        let mut config = (*setup.authority.client(version)).clone();
        config.max_fragment_size = Some(32);
        let name = rustls::pki_types::ServerName::try_from("a.test").expect("name");
        let mut session = rustls::ClientConnection::new(config.into(), name).expect("session");
        let mut tcp = setup.tcp();
        let upgrade = "GET /connect/ HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\n\r\n";
        session.writer().write_all(upgrade.as_bytes()).expect("room");
        let mut answer = Vec::new();
        while answer.len() < 12 {
            let mut sealed = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut sealed).expect("seal");
            }
            for byte in sealed {
                tcp.write_all(&[byte]).expect("write");
                std::thread::sleep(Duration::from_micros(200));
            }
            assert!(
                session.read_tls(&mut tcp).expect("read") > 0,
                "the server ends the connection"
            );
            session.process_new_packets().expect("records");
            let _ = session.reader().read_to_end(&mut answer);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
    }
}

#[test]
fn keys_may_be_updated() {
    let setup = setup(|builder| builder);
    let mut secure = connect(setup.port.number, &setup.authority.client(Version::Tls13), "a.test").expect("connect");
    let mut answer = [0; 15];
    for _ in 0..5 {
        secure.conn.refresh_traffic_keys().expect("TLS 1.3");
        secure
            .write_all(b"GET /hello/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .expect("write");
        secure.read_exact(&mut answer).expect("answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            secure.read_exact(&mut byte).expect("head");
            rest.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&rest).to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|l| l.split("\r\n").next())
            .expect("length");
        let mut body = vec![0; length.parse().expect("length")];
        secure.read_exact(&mut body).expect("body");
    }
}

#[test]
fn a_session_can_be_resumed() {
    let setup = setup(|builder| builder.set("workers", 2));
    for version in [Version::Tls12, Version::Tls13] {
        let config = setup.authority.client(version);
        let kinds: Vec<_> = (0..4)
            .map(|_| {
                let mut secure = connect(setup.port.number, &config, "a.test").expect("connect");
                secure
                    .write_all(b"GET /hello/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
                    .expect("write");
                let mut answer = Vec::new();
                secure
                    .read_to_end(&mut answer)
                    .expect("the server ends the session properly");
                assert!(answer.starts_with(b"HTTP/1.1 200"));
                secure.conn.handshake_kind().expect("done")
            })
            .collect();
        assert_eq!(kinds[0], rustls::HandshakeKind::Full);
        assert!(
            kinds[1..].iter().all(|kind| *kind == rustls::HandshakeKind::Resumed),
            "{version:?}: {kinds:?}"
        );
    }
}

#[test]
fn a_stop_closes_tls_clients_politely() {
    let mut setup = setup(|builder| builder);
    let client = Client::open(setup.tunnel(Version::Tls13).port);
    let _silent = setup.tcp();
    setup.business.reply("/close/", Reply::ok(""));
    assert!(eventually(SOON, || setup.server.info()["channels_cnt"] == 1));
    setup.server.signal("TERM");
    let frame = client.next(SOON).expect("told to come back");
    assert_eq!(
        (frame.op, &frame.payload[..2]),
        (Op::Close, &1012_u16.to_be_bytes()[..])
    );
    client.frame(Op::Close, b"");
    assert!(client.until_eof(SOON).is_some());
    assert_eq!(setup.server.wait_exit(SOON), Some(0));
    assert_eq!(setup.business.requests_to("/close/").len(), 1);
    std::thread::sleep(ms(1));
}
