//! Limits of TLS clients: the same as of the others, and PROXY headers in front of the handshake.

use super::authority::Version;
use super::common::client::{Client, Op};
use super::common::{SOON, eventually, packet};
use super::setup;
use super::tunnel::Tunnel;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A connection from an address of loopback.
fn connect_from(address: [u8; 4], port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from((address, 0)).into()).expect("bind");
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&target.into()).expect("connect");
    socket.into()
}

/// A port whose connections continue at `target`, behind a PROXY header.
fn proxy(target: u16, header: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // Not the address that the harness says hello from.
            let mut far = connect_from([127, 0, 0, 9], target);
            // The first bytes of the handshake follow in the same segment or later, as it comes.
            far.write_all(header).expect("write");
            copy(near.try_clone().expect("clone"), far.try_clone().expect("clone"));
            copy(far, near);
        }
    });
    port
}

#[test]
fn proxy_headers_come_before_the_handshake() {
    let setup = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", "127.0.0.9")
            .set("connections_per_address", 1)
    });
    let through = |header| {
        let port = proxy(setup.port.number, header);
        let config = setup.authority.client(Version::Tls13);
        let tunnel = Tunnel::start(port, config, "a.test");
        Client::start(tunnel.port, Default::default()).expect("connect")
    };
    let first = through(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n");
    let _first = first.let_in();
    let second = through(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n");
    assert_eq!(second.answer(SOON).expect("answer").status, 503);
    let _other = through(b"PROXY TCP4 192.0.2.2 127.0.0.1 1 2\r\n").let_in();
}

#[test]
fn a_client_over_its_rate_is_read_more_slowly() {
    for version in [Version::Tls12, Version::Tls13] {
        let setup = setup(|b| b.set("client_messages_per_second", 20));
        let client = Client::open(setup.tunnel(version).port);
        let started = Instant::now();
        for number in 0..50 {
            client.send(&packet::send(0, 7, 0, format!("{number:>1000}")));
        }
        setup.business.wait_for("/message/7/", 50, Duration::from_secs(20));
        assert!(
            started.elapsed() >= Duration::from_millis(1200),
            "{:?}",
            started.elapsed()
        );
        client.send(&packet::send(1, 7, 2, "later"));
        client.expect(Op::Binary, &packet::ack(2, "ok"));
    }
}

/// They could not read an answer.
#[test]
fn refused_connections_are_just_closed() {
    let setup = setup(|b| b.set("workers", 1).set("connections_per_address", 1));
    let tcp = || connect_from([127, 0, 0, 9], setup.port.number);
    let _silent = tcp();
    assert!(eventually(SOON, || setup.metric("rainbow_handshakes_open{core=\"0\"}") == 1));
    let mut refused = tcp();
    refused.set_read_timeout(Some(SOON)).expect("timeout");
    assert_eq!(refused.read(&mut [0; 64]).expect("an end"), 0);
    assert_eq!(setup.metric("rainbow_refused_total{reason=\"address\"}"), 1);
}

/// A connection whose handshake has begun and does not go on.
fn stuck(setup: &super::Setup) -> TcpStream {
    let mut tcp = setup.tcp();
    tcp.write_all(&[22]).expect("write");
    tcp
}

#[test]
fn handshakes_beyond_the_limit_wait_for_a_place() {
    let setup = setup(|b| b.set("workers", 1).set("tls_handshakes", 2));
    let mut begun = vec![stuck(&setup), stuck(&setup)];
    let under_way = || setup.metric("rainbow_tls_handshakes_open{core=\"0\"}");
    let open = || setup.metric("rainbow_handshakes_open{core=\"0\"}");
    assert!(eventually(SOON, || under_way() == 2), "{} are under way", under_way());
    let tunnel = setup.tunnel(Version::Tls13);
    let third = Client::start(tunnel.port, Default::default()).expect("connect");
    assert!(third.answer(Duration::from_millis(700)).is_err(), "it is served");
    assert_eq!((open(), under_way()), (3, 2), "it is accepted, and not read");
    begun.pop();
    assert_eq!(third.answer(SOON).expect("answer").status, 101);
    assert_eq!(setup.metric("rainbow_tls_handshakes_total{result=\"done\"}"), 1);
}

/// Of one address: first come, first served.
#[test]
fn handshakes_that_begin_late_wait_in_their_order() {
    let setup = setup(|b| {
        b.set("workers", 1)
            .set("tls_handshakes", 1)
            .set("tls_first_byte_timeout", 60)
            .set("handshake_timeout", 60)
    });
    let open = || setup.metric("rainbow_handshakes_open{core=\"0\"}");
    let under_way = || setup.metric("rainbow_tls_handshakes_open{core=\"0\"}");
    let (mut second, mut third) = (setup.tcp(), setup.tcp());
    assert!(eventually(SOON, || open() == 2));
    let first = stuck(&setup);
    assert!(eventually(SOON, || under_way() == 1));
    let read = |tcp: &mut TcpStream, within| {
        tcp.set_read_timeout(Some(within)).expect("timeout");
        tcp.read(&mut [0])
    };
    // Nobody is told anything before its turn; plain HTTP is answered at once in it.
    for tcp in [&mut second, &mut third] {
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        assert!(read(tcp, Duration::from_millis(700)).is_err(), "it is served");
    }
    assert_eq!((open(), under_way()), (3, 1));
    drop(first);
    for tcp in [&mut second, &mut third] {
        assert_eq!(read(tcp, SOON).expect("an answer"), 1);
    }
    assert!(eventually(SOON, || (open(), under_way()) == (0, 0)));
    setup.expect_healthy();
}

/// One address begins handshakes without end and finishes none. Clients of other addresses come in all the same.
#[test]
fn one_address_with_unfinished_handshakes_keeps_nobody_out() {
    const PER_SECOND: u64 = 60;
    const MOST: usize = 2400;
    let setup = setup(|b| {
        b.set("workers", 1)
            .set("tls_handshakes", 16)
            .set("handshake_timeout", 60)
    });
    let under_way = || setup.metric("rainbow_tls_handshakes_open{core=\"0\"}");
    let gave_way = || setup.metric("rainbow_closes_total{cause=\"tls_gave_way\"}");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let mut held = Vec::new();
            while !over.load(SeqCst) && held.len() < MOST {
                let mut tcp = connect_from([127, 0, 0, 66], setup.port.number);
                let _ = tcp.write_all(&[22]);
                held.push(tcp);
                std::thread::sleep(Duration::from_micros(1_000_000 / PER_SECOND));
            }
            held
        });
        assert!(eventually(SOON, || under_way() == 16), "{} are under way", under_way());
        for number in 0..10 {
            let tunnel = setup.tunnel(Version::Tls13);
            let client = Client::start(tunnel.port, Default::default()).expect("connect");
            assert_eq!(client.answer(SOON).expect("answer").status, 101, "client {number}");
        }
        over.store(true, SeqCst);
        drop(attack.join().expect("the attack"));
    });
    let ended = gave_way();
    assert!(
        (1..=10).contains(&ended),
        "{ended} gave way: one for each client at most"
    );
    let said = setup
        .server
        .log_tail()
        .matches("a TLS handshake was ended for one of another")
        .count();
    assert_eq!(said, 1, "once a minute: {}", setup.server.log_tail());
    setup.expect_healthy();
}

/// Behind a proxy it is the told address that counts.
#[test]
fn the_address_a_proxy_tells_is_the_one_that_gives_way() {
    let setup = setup(|b| {
        b.set("workers", 1)
            .set("tls_handshakes", 2)
            .set("handshake_timeout", 60)
            .set("proxy_protocol", "yes")
            .set("trusted_proxies", "127.0.0.9")
    });
    let from = |address: &str, bytes: &[u8]| {
        let mut tcp = connect_from([127, 0, 0, 9], setup.port.number);
        let header = format!("PROXY TCP4 {address} 127.0.0.1 4711 443\r\n");
        tcp.write_all(&[header.as_bytes(), bytes].concat()).expect("write");
        tcp.set_read_timeout(Some(SOON)).expect("timeout");
        tcp
    };
    let crowd = [from("192.0.2.1", &[22]), from("192.0.2.1", &[22])];
    let under_way = || setup.metric("rainbow_tls_handshakes_open{core=\"0\"}");
    assert!(eventually(SOON, || under_way() == 2), "{} are under way", under_way());
    // Plain HTTP is answered as soon as it has a place.
    let mut other = from("192.0.2.2", b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(other.read(&mut [0]).expect("an answer"), 1);
    assert_eq!(setup.metric("rainbow_closes_total{cause=\"tls_gave_way\"}"), 1);
    assert!(eventually(SOON, || under_way() == 1), "{} are under way", under_way());
    let ended = crowd.into_iter().filter(|mut tcp| {
        tcp.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
        tcp.read(&mut [0]).is_ok()
    });
    assert_eq!(ended.count(), 1, "one of the crowd");
}

/// More places at a reload are for those that wait.
#[test]
fn more_places_help_those_that_wait() {
    let setup = setup(|b| {
        b.set("workers", 1)
            .set("tls_handshakes", 1)
            .set("handshake_timeout", 60)
    });
    let open = || setup.metric("rainbow_handshakes_open{core=\"0\"}");
    let mut late = setup.tcp();
    assert!(eventually(SOON, || open() == 1));
    let _stuck = stuck(&setup);
    assert!(eventually(SOON, || setup
        .metric("rainbow_tls_handshakes_open{core=\"0\"}")
        == 1));
    late.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
    super::certificates::set(&setup, &[("tls_handshakes", "2".into())]);
    setup.server.signal("HUP");
    late.set_read_timeout(Some(SOON)).expect("timeout");
    assert_eq!(late.read(&mut [0]).expect("an answer"), 1);
    setup.expect_healthy();
}
