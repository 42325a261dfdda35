//! Limits of TLS clients: the same as of the others, and PROXY headers in front of the handshake.

use super::authority::Version;
use super::common::client::{Client, Op};
use super::common::{SOON, packet};
use super::setup;
use super::tunnel::Tunnel;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

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
            let far = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            far.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).expect("bind");
            far.connect(&SocketAddr::from(([127, 0, 0, 1], target)).into())
                .expect("connect");
            let mut far = TcpStream::from(far);
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
