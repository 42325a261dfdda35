//! The clients of the gateway over TLS: the certificates of the main port, on a port of its own.

use super::common::client::Op;
use super::common::http::{Connection, Request};
use super::common::server::Builder;
use super::common::{SOON, eventually};
use super::*;

on_both_drivers! {
    fn clients_of_the_gateway_come_in_with_tls(on) {
        // With rainbow's TLS port, and without any.
        for main_port in [0, ports::claim().number] {
            let (authority, port) = (Authority::new(), ports::claim());
            let (cert, key) = authority.issue("own", &["a.test"]);
            let builder = Builder::gateway()
                .set("tls_port", main_port)
                .set("tls_cert", cert.display())
                .set("tls_key", key.display())
                .of_gateway("tls_port", port.number)
                .of_gateway("ping_interval", "0.2");
            let server = on(builder).start();
            let tunnel = Tunnel::start(port.number, authority.client(Version::Tls13), "a.test");
            let open = Open { target: "/".into(), headers: Vec::new(), ..Open::default() };
            let client = Client::open_with(tunnel.port, open.clone());
            client.frame(Op::Ping, b"over TLS");
            client.expect(Op::Pong, b"over TLS");
            client.expect(Op::Ping, b"");
            client.frame(Op::Text, &vec![b'x'; 1 << 20]);
            client.frame(Op::Close, &1000_u16.to_be_bytes());
            assert!(client.until_eof(SOON).is_some());
            // What is no client's is answered here too, and goes nowhere else.
            let mut connection = Connection::open(tunnel.port).expect("connect");
            let answer = connection.exchange(tunnel.port, &Request::get("/healthz"), SOON).expect("an answer");
            assert_eq!(answer.status, 400);
            // New certificates after a reload.
            let (cert, key) = authority.issue("next", &["b.test"]);
            let text = std::fs::read_to_string(&server.ini).expect("ini file");
            let text = text.lines().map(|line| match line.split(' ').next() {
                Some("tls_cert") => format!("tls_cert = {}\n", cert.display()),
                Some("tls_key") => format!("tls_key = {}\n", key.display()),
                _ => format!("{line}\n"),
            });
            std::fs::write(&server.ini, text.collect::<String>()).expect("ini file");
            server.signal("HUP");
            server.expect_said("configuration read again");
            let tunnel = Tunnel::start(port.number, authority.client(Version::Tls13), "b.test");
            let is_in = || {
                let client = Client::start(tunnel.port, open.clone()).and_then(|client| client.answer(SOON));
                client.is_ok_and(|answer| answer.status == 101)
            };
            assert!(eventually(SOON, is_in), "the new certificate is not served");
        }
    }
}
