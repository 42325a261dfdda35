//! Peers that break the rules of TLS, or leave in the middle.

use super::authority::{Version, connect};
use super::common::client::{Client, Op};
use super::common::server::Builder;
use super::common::{SOON, eventually, ms, packet};
use super::{on_both_drivers, setup};
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionTrafficSecrets, ContentType, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const UPGRADE: &str = "GET /connect/ HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\n\r\n";

/// The first bytes of a correct client.
fn client_hello(setup: &super::Setup) -> Vec<u8> {
    let name = ServerName::try_from("a.test").expect("name");
    let mut session = ClientConnection::new(setup.authority.client(Version::Tls13), name).expect("session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("hello");
    hello
}

/// Everything the server says until it closes.
fn until_closed(tcp: &mut TcpStream, within: Duration) -> Vec<u8> {
    tcp.set_read_timeout(Some(within)).expect("timeout");
    let mut said = Vec::new();
    match tcp.read_to_end(&mut said) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => drop(other.unwrap_or_else(|error| panic!("the connection stays open after {said:?}: {error}"))),
    }
    said
}

on_both_drivers! {
    fn garbage_ends_the_connection(driver) {
        let setup = setup(driver);
        let hello = client_hello(&setup);
        let mut torn = hello.clone();
        torn[60..120].fill(0xff);
        let endless = [&[22, 3, 1, 0x3f, 0xff][..], &[1, 0xff, 0xff, 0xff], &[0; 60_000]].concat();
        let cases: [(&str, Vec<u8>); 6] = [
            ("not TLS at all", vec![0; 300]),
            ("text", b"hello?\r\n\r\n".to_vec()),
            ("a torn hello", torn),
            ("a hello with a handshake message behind it", [&hello[..], &hello].concat()),
            ("application data first", [23, 3, 3, 0, 5, 1, 2, 3, 4, 5].to_vec()),
            ("an endless handshake message", endless),
        ];
        for (number, (what, bytes)) in cases.into_iter().enumerate() {
            let mut tcp = setup.tcp();
            let _ = tcp.write_all(&bytes);
            let said = until_closed(&mut tcp, SOON);
            // An alert, if the connection lived to see it; behind a server hello in the one case that begins well.
            let is_alert = said.is_empty() || u8::from(ContentType::Alert) == said[0] || u8::from(ContentType::Handshake) == said[0];
            assert!(is_alert, "{what}: {said:?}");
            let failed = || setup.metric(r#"rainbow_closes_total{cause="tls_failed"}"#);
            assert!(eventually(SOON, || failed() == number as u64 + 1), "{what}: {} counted", failed());
        }
        assert!(setup.business.requests().is_empty());
        setup.expect_healthy();
    }

    fn plain_http_is_told_so(driver) {
        let setup = setup(driver);
        let mut tcp = setup.tcp();
        tcp.write_all(b"GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\n").expect("write");
        let said = String::from_utf8(until_closed(&mut tcp, SOON)).expect("text");
        let (head, body) = said.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n") && body.contains("https"), "{said}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{said}");
        setup.expect_healthy();
    }

    fn slow_handshakes_are_cut(driver) {
        let setup = setup(|builder| driver(builder).set("handshake_timeout", 1));
        let (mut silent, mut half, mut slow) = (setup.tcp(), setup.tcp(), setup.tcp());
        let hello = client_hello(&setup);
        half.write_all(&hello[..hello.len() / 2]).expect("write");
        let started = Instant::now();
        let cut = hello[..hello.len() - 1].iter().any(|byte| {
            std::thread::sleep(ms(50));
            slow.write_all(&[*byte]).is_err()
        });
        assert!(cut && started.elapsed() >= ms(700), "after {:?}", started.elapsed());
        until_closed(&mut silent, SOON);
        until_closed(&mut half, SOON);
        // The deadline covers the request behind the handshake too.
        let mut idle = connect(setup.port.number, &setup.authority.client(Version::Tls13), "a.test").expect("connect");
        assert_eq!(idle.read(&mut [0; 10]).expect("the session ends properly"), 0);
        // One that never said a byte has not begun a handshake.
        assert_eq!(setup.metric(r#"rainbow_tls_handshakes_total{result="failed"}"#), 2);
        setup.expect_healthy();
    }

    /// Whoever says nothing is in nobody's way, however many they are, and is closed before those who have begun.
    fn silent_connections_keep_nobody_out(driver) {
        let setup = setup(|builder| {
            driver(builder)
                .set("workers", 1)
                .set("tls_handshakes", 2)
                .set("tls_first_byte_timeout", 60)
                .set("handshake_timeout", 120)
        });
        let open = || setup.metric(r#"rainbow_handshakes_open{core="0"}"#);
        let mut silent: Vec<_> = (0..50).map(|_| setup.tcp()).collect();
        assert!(eventually(SOON, || open() == 50), "{} are accepted", open());
        assert_eq!(setup.metric(r#"rainbow_tls_handshakes_open{core="0"}"#), 0);
        setup.expect_healthy();
        // Half of them leave, the others may still begin.
        drop(silent.split_off(25));
        assert!(eventually(SOON, || open() == 25), "{} are left", open());
        for tcp in &mut silent {
            tcp.write_all(&client_hello(&setup)).expect("write");
            tcp.set_read_timeout(Some(SOON)).expect("timeout");
            tcp.read_exact(&mut [0]).expect("the server's hello");
            tcp.shutdown(Shutdown::Both).expect("shutdown");
        }
        setup.expect_healthy();
        assert_eq!(setup.metric(r#"rainbow_closes_total{cause="tls_silent"}"#), 0);
    }

    fn silence_has_a_time_of_its_own(driver) {
        let setup = setup(|builder| driver(builder).set("tls_first_byte_timeout", 1).set("handshake_timeout", 120));
        let mut begun = setup.tcp();
        begun.write_all(&client_hello(&setup)[..1]).expect("write");
        let silent: Vec<_> = (0..20).map(|_| setup.tcp()).collect();
        for mut tcp in silent {
            assert!(until_closed(&mut tcp, SOON).is_empty());
        }
        let ended = || setup.metric(r#"rainbow_closes_total{cause="tls_silent"}"#);
        assert_eq!(ended(), 20);
        assert_eq!(setup.metric(r#"rainbow_tls_handshakes_total{result="failed"}"#), 0);
        begun.write_all(&client_hello(&setup)[1..]).expect("write");
        begun.set_read_timeout(Some(SOON)).expect("timeout");
        begun.read_exact(&mut [0]).expect("the server's hello: it has more time");
    }

    fn handshakes_under_way_are_bounded(driver) {
        let setup = setup(|builder| {
            driver(builder).set("workers", 1).set("tls_handshakes", 2).set("handshake_timeout", 30)
        });
        let accepted = || setup.metric(r#"rainbow_accepted_total{core="0"}"#);
        let before = accepted();
        let mut stuck = [setup.tcp(), setup.tcp()];
        stuck.iter_mut().for_each(|tcp| tcp.write_all(&[22]).expect("write"));
        let begun = || setup.metric(r#"rainbow_tls_handshakes_open{core="0"}"#);
        assert!(eventually(SOON, || begun() == 2));
        assert!(accepted() >= before + 2);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| setup.expect_healthy());
            std::thread::sleep(ms(500));
            assert!(!waiting.is_finished(), "a third handshake began");
            // One that ends makes room at once.
            let _ = stuck[0].shutdown(Shutdown::Both);
            waiting.join().expect("healthy");
        });
        assert!(started.elapsed() < Duration::from_secs(20), "the room was not used: {:?}", started.elapsed());
        drop(stuck);
        setup.expect_healthy();
    }
}

#[test]
fn damaged_flights_do_no_harm() {
    let setup = setup(|builder| builder);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..300 {
        let version = if round % 2 == 0 { Version::Tls12 } else { Version::Tls13 };
        let mut session = ClientConnection::new(
            setup.authority.client(version),
            ServerName::try_from("a.test").expect("name"),
        )
        .expect("session");
        session.writer().write_all(UPGRADE.as_bytes()).expect("room");
        let mut tcp = setup.tcp();
        tcp.set_read_timeout(Some(SOON)).expect("timeout");
        let damaged_flight = random(3);
        for flight in 0..=damaged_flight {
            let mut sealed = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut sealed).expect("seal");
            }
            if flight == damaged_flight && !sealed.is_empty() {
                let at = random(sealed.len());
                match random(4) {
                    0 => sealed[at] ^= 1 << random(8),
                    1 => drop(sealed.drain(at..(at + 1 + random(20)).min(sealed.len()))),
                    2 => sealed.extend_from_within(at..),
                    _ => sealed.insert(at, random(256) as u8),
                }
            }
            if tcp.write_all(&sealed).is_err() || flight == damaged_flight {
                break;
            }
            if session.read_tls(&mut tcp).unwrap_or(0) == 0 || session.process_new_packets().is_err() {
                break;
            }
        }
    }
    setup.expect_healthy();
}

#[test]
fn clients_that_leave_in_the_handshake_leave_nothing() {
    let setup = setup(|builder| builder.set("tls_handshakes", 50));
    let hello = client_hello(&setup);
    for number in 0..200 {
        let mut tcp = setup.tcp();
        tcp.write_all(&hello[..hello.len() * (number % 5) / 4]).expect("write");
        if number % 2 == 0 {
            let mut first = [0];
            if number % 5 == 4 {
                tcp.read_exact(&mut first).expect("the server's answer");
            }
        }
        drop(tcp);
    }
    // A fifth of them has not said a byte.
    let ended = || setup.metric(r#"rainbow_tls_handshakes_total{result="failed"}"#);
    assert!(eventually(SOON, || ended() == 160), "{} of 160 ended", ended());
    let open = || setup.metric("rainbow_handshakes_open{core=\"0\"}");
    assert!(eventually(SOON, || open() == 0), "{} are left", open());
    setup.expect_healthy();
}

#[test]
fn a_torn_record_ends_an_open_client() {
    let setup = setup(|builder| builder);
    let mut secure = connect(setup.port.number, &setup.authority.client(Version::Tls13), "a.test").expect("connect");
    secure
        .write_all(b"GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("write");
    let mut answer = [0; 12];
    secure.read_exact(&mut answer).expect("answer");
    secure.sock.write_all(&[23, 3, 3, 0, 40]).expect("write");
    secure.sock.write_all(&[7; 40]).expect("write");
    let mut rest = Vec::new();
    let error = secure.read_to_end(&mut rest).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    setup.expect_healthy();
}

/// A client that ends its TCP stream without the closing alert, or its session without TCP, is gone all the same.
#[test]
fn every_end_of_a_client_is_noticed() {
    let setup = setup(|builder| builder);
    let client = Client::open(setup.tunnel(Version::Tls13).port);
    client.send(&packet::send(1, 7, 3, "up"));
    client.expect(Op::Binary, &packet::ack(3, "ok"));
    client.half_close(); // becomes a closing alert and the end of TCP
    assert!(client.until_eof(SOON).is_some());
    setup.server.expect_no_channels();

    for with_alert in [true, false] {
        let config = setup.authority.client(Version::Tls12);
        let mut secure = connect(setup.port.number, &config, "a.test").expect("connect");
        secure.write_all(UPGRADE.as_bytes()).expect("write");
        let mut answer = [0; 12];
        secure.read_exact(&mut answer).expect("answer");
        assert_eq!(&answer, b"HTTP/1.1 101");
        if with_alert {
            secure.conn.send_close_notify();
            secure.flush().expect("write");
        } else {
            secure.sock.shutdown(Shutdown::Both).expect("shutdown");
        }
        setup.server.expect_no_channels();
    }
    setup.business.wait_for("/close/", 3, SOON);
}

/// Half of a handshake message stays unfinished behind the handshake while the server has something to say.
#[test]
fn an_unfinished_handshake_message_does_not_disturb_what_is_sent() {
    let setup = setup(|builder| builder);
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_256_GCM_SHA384;
    let mut config = (*setup.authority.client(Version::Tls13)).clone();
    config.enable_secret_extraction = true;
    for ends_well in [true, false] {
        let mut secure = connect(setup.port.number, &Arc::new(config.clone()), "a.test").expect("connect");
        secure.write_all(UPGRADE.as_bytes()).expect("write");
        secure.read_exact(&mut [0; 12]).expect("answer");
        assert!(eventually(SOON, || setup.server.info()["channels_cnt"] == 1));
        let StreamOwned {
            conn, sock: mut tcp, ..
        } = secure;
        let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) =
            conn.dangerous_extract_secrets().expect("keys").tx
        else {
            panic!("another suite")
        };
        let mut sealer = suite.tls13().expect("TLS 1.3").aead_alg.encrypter(key, iv);
        let mut record = |number: u64, typ: ContentType, payload: &[u8]| {
            let version = rustls::ProtocolVersion::TLSv1_2;
            let payload = payload.into();
            let plain = OutboundPlainMessage { typ, version, payload };
            sealer.encrypt(plain, sequence + number).expect("sealed").encode()
        };
        // A key update (RFC 8446 §4.6.3) has five bytes.
        tcp.write_all(&record(0, ContentType::Handshake, &[24, 0]))
            .expect("write");
        for _ in 0..3 {
            setup.server.send("room", 0, "x".repeat(100_000));
            tcp.read_exact(&mut [0; 100_000]).expect("records");
        }
        if ends_well {
            tcp.write_all(&record(1, ContentType::Handshake, &[0, 1, 0]))
                .expect("write");
            setup.server.send("room", 0, "x".repeat(100_000));
            tcp.read_exact(&mut [0; 100_000]).expect("records");
            tcp.shutdown(Shutdown::Both).expect("shutdown");
        } else {
            // Nothing may come in between (RFC 8446 §5.1).
            tcp.write_all(&record(1, ContentType::ApplicationData, b"x"))
                .expect("write");
            until_closed(&mut tcp, SOON);
        }
        setup.server.expect_no_channels();
        assert_eq!(
            setup.metric(r#"rainbow_closes_total{cause="tls_failed"}"#),
            u64::from(!ends_well)
        );
    }
    setup.expect_healthy();
}
