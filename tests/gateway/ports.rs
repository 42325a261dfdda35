//! The two ports side by side: what holds on the main one holds on that of the gateway. TLS: `tests/tls/gateway.rs`.

use super::common::business::Business;
use super::common::client::Op;
use super::common::eventually;
use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Both doors are on.
fn both(business: &Business) -> Builder {
    Builder::new(business).set("bind", "127.0.0.1").with_gateway()
}

/// The status of an upgrade on each port, the main one first.
fn upgrades(server: &Server, header: Option<(&str, &str)>) -> [u16; 2] {
    let status = |port, mut open: Open| {
        open.headers
            .extend(header.map(|(name, value)| (name.into(), value.into())));
        let client = Client::start(port, open).expect("connect");
        client.answer(SOON).expect("an answer").status
    };
    [
        status(server.port(), Open::default()),
        status(server.gateway_port(), anybody()),
    ]
}

#[test]
fn origins() {
    let business = Business::start();
    let server = both(&business).set("origins", "https://good.test").start();
    assert_eq!(upgrades(&server, None), [101, 101]);
    assert_eq!(upgrades(&server, Some(("Origin", "https://good.test"))), [101, 101]);
    assert_eq!(upgrades(&server, Some(("Origin", "https://bad.test"))), [403, 403]);
}

#[test]
fn places_of_an_address_are_counted_over_both() {
    let business = Business::start();
    let server = both(&business).set("connections_per_address", 2).start();
    let first = Client::open(server.port());
    let second = client(&server);
    assert_eq!(upgrades(&server, None), [503, 503]);
    drop(second);
    assert!(eventually(SOON, || upgrades(&server, None)[1] == 101));
    drop(first);
}

#[test]
fn proxy_headers() {
    let business = Business::start();
    // This machine asks the interface without; the proxy is another address of it.
    let server = both(&business)
        .set("proxy_protocol", "yes")
        .set("trusted_proxies", "127.0.0.9")
        .set("connections_per_address", 1)
        .start();
    for (port, open) in [(server.port(), Open::default()), (server.gateway_port(), anybody())] {
        let from_proxy = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
            let own: std::net::SocketAddr = "127.0.0.9:0".parse().expect("address");
            socket.bind(&own.into()).expect("bind");
            let to: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
            socket.connect(&to.into()).expect("connect");
            TcpStream::from(socket)
        };
        let told = |address: &str| {
            let mut stream = from_proxy();
            let header = format!("PROXY TCP4 {address} 127.0.0.1 4711 80\r\n");
            stream.write_all(header.as_bytes()).expect("write");
            Client::start_on(stream, port, open.clone()).expect("write")
        };
        let one = told("192.0.2.1").let_in();
        let again = told("192.0.2.1");
        assert!(
            again.answer(SOON).map_or(true, |answer| answer.status == 503),
            "the address it was told has no place"
        );
        let other = told("192.0.2.2").let_in();
        let mut without = from_proxy();
        without.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        without.set_read_timeout(Some(SOON)).expect("timeout");
        assert!(
            matches!(without.read(&mut [0; 9]), Ok(0) | Err(_)),
            "closed without an answer"
        );
        // Their places are free again.
        drop((one, other));
        assert!(eventually(SOON, || metric(&server, "rainbow_sessions_open") == 0));
        drop(told("192.0.2.1").let_in());
    }
}

#[test]
fn rates() {
    let business = Business::start();
    let server = both(&business).set("client_messages_per_second", 20).start();
    let fast = client(&server);
    for _ in 0..60 {
        fast.frame(Op::Ping, b"x");
    }
    assert!(eventually(SOON, || metric(&server, "rainbow_rate_pauses_total") >= 1));
    for _ in 0..60 {
        fast.expect(Op::Pong, b"x");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_its_section() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = other.local_addr().expect("address").port();
    let mut server = Builder::gateway().of_gateway("port", port).spawn();
    assert_eq!(server.wait_exit(SOON), Some(2));
    server.expect_said(&format!("[gateway] port {port} is taken (at 127.0.0.1:{port})"));
}

#[test]
fn an_address_of_its_own() {
    let server = Builder::gateway().of_gateway("bind", "127.0.0.2").start();
    let refused = TcpStream::connect(("127.0.0.1", server.gateway_port()));
    assert!(refused.is_err());
    let stream = TcpStream::connect(("127.0.0.2", server.gateway_port())).expect("connect");
    Client::start_on(stream, server.gateway_port(), anybody())
        .expect("write")
        .let_in();
}

#[test]
fn stopping_tells_when_to_come_back() {
    let mut server = Builder::gateway()
        .set("drain_timeout", 5)
        .set("reconnect_spread", 3)
        .start();
    let client = client(&server);
    server.signal("TERM");
    let frame = client.next(SOON).expect("a close frame");
    assert_eq!(
        (frame.op, &frame.payload[..2]),
        (Op::Close, &1012_u16.to_be_bytes()[..])
    );
    assert!(frame.payload[2..].starts_with(b"reconnect_after="), "{frame:?}");
    client.frame(Op::Close, &1012_u16.to_be_bytes());
    assert_eq!(server.wait_exit(SOON), Some(0));
}

#[test]
fn a_reload_changes_new_clients_and_names_what_needs_a_restart() {
    let builder = Builder::gateway();
    let server = builder.clone().start();
    let old = client(&server);
    let changed = builder
        .of_gateway("message_max", 100)
        .of_gateway("paths", "/new")
        .of_gateway("port", 1)
        .of_gateway("id_format", "gatewayworker");
    std::fs::write(&server.ini, changed.text()).expect("ini file");
    server.signal("HUP");
    server.expect_said("needs_restart=\"[gateway] port [gateway] id_format\"");
    server.expect_said("new_connections=\"[gateway] paths [gateway] message_max\"");
    let status = |target: &str| {
        let open = Open {
            target: target.into(),
            ..anybody()
        };
        Client::start(server.gateway_port(), open)
            .expect("connect")
            .answer(SOON)
            .expect("an answer")
            .status
    };
    assert!(eventually(SOON, || (status("/"), status("/new")) == (404, 101)));
    old.frame(Op::Ping, b"still there");
    old.expect(Op::Pong, b"still there");
    let new = Client::open_with(
        server.gateway_port(),
        Open {
            target: "/new".into(),
            ..anybody()
        },
    );
    new.frame(Op::Text, &[b'x'; 101]);
    assert_eq!(
        new.next(SOON).expect("a close frame").payload[..2],
        1009_u16.to_be_bytes()
    );
    // The section is gone: the door stays until the restart.
    std::fs::write(&server.ini, Builder::bare().set("bind", "127.0.0.1").text()).expect("ini file");
    server.signal("HUP");
    server.expect_said("reload refused");
}

/// Clients that come and go on a port until told to stop, and how many were served; a failure panics their thread.
fn crowd(port: u16, open: Open, ends: &Arc<AtomicBool>, served: &Arc<AtomicUsize>) -> std::thread::JoinHandle<()> {
    let (ends, served) = (ends.clone(), served.clone());
    std::thread::spawn(move || {
        while !ends.load(SeqCst) {
            let client = Client::open_with(port, open.clone());
            client.frame(Op::Close, b"");
            assert!(client.until_eof(SOON).is_some());
            served.fetch_add(1, SeqCst);
        }
    })
}

/// The main listener and the gateway's, for rainbow's clients and the gateway's: nobody is refused while both change hands.
fn both_ports_change_hands(on: impl Fn(Builder) -> Builder) {
    let business = Business::start();
    let main = Arc::new(super::common::ports::claim());
    let builder = on(both(&business).on(&main).set("drain_timeout", 20));
    let mut server = builder.clone().start();
    let stays = client(&server);
    let (ends, main_served, gateway_served) = (Arc::default(), Arc::default(), Arc::default());
    let crowds = [
        crowd(server.port(), Open::device("crowd"), &ends, &main_served),
        crowd(server.gateway_port(), anybody(), &ends, &gateway_served),
    ];
    let served = || [main_served.load(SeqCst), gateway_served.load(SeqCst)];
    let more = |than: [usize; 2]| {
        eventually(SOON, || {
            served().iter().zip(than).all(|(now, before)| *now > before + 5)
        })
    };
    assert!(more([0, 0]), "nobody is served");
    let successor = builder.arg("--takeover").start();
    let frame = stays.next(SOON).expect("told to come back");
    assert_eq!(
        (frame.op, &frame.payload[..2]),
        (Op::Close, &1012_u16.to_be_bytes()[..])
    );
    stays.frame(Op::Close, b"");
    assert_eq!(server.wait_exit(Duration::from_secs(25)), Some(0));
    assert!(more(served()), "the new process serves both ports");
    ends.store(true, SeqCst);
    for crowd in crowds {
        crowd.join().expect("nobody is refused");
    }
    drop(successor);
}

#[test]
fn takeover_on_the_default_driver() {
    both_ports_change_hands(|builder| builder);
}

#[test]
fn takeover_on_epoll() {
    both_ports_change_hands(Builder::legacy_driver);
}
