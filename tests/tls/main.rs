//! TLS on the listeners, from outside: the protocol and the API over it, certificates by name and after a reload, peers that
//! break the rules, what an idle client costs. Clients are rustls'; the ordinary ones come through a `Tunnel`.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod authority;
mod certificates;
mod clients;
mod files;
mod gateway;
mod hostile;
mod limits;
mod memory;
mod settings;
mod takeover;
mod tunnel;

use authority::{Authority, Version};
use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::on_both_drivers;
use common::ports;
use common::server::{Builder, Server};
use std::net::TcpStream;
use tunnel::Tunnel;

/// A server with a TLS port, and everything its clients need.
struct Setup {
    business: Business,
    server: Server,
    authority: Authority,
    port: ports::Port,
}

/// Clients are put into `room`; the certificate is made out to `a.test` and `localhost`.
fn setup(configure: impl FnOnce(Builder) -> Builder) -> Setup {
    let (business, authority, port) = (Business::start(), Authority::new(), ports::claim());
    business.reply("/connect/", Reply::channels("room"));
    let (cert, key) = authority.issue("own", &["a.test", "localhost"]);
    let builder = Builder::new(&business)
        .set("tls_port", port.number)
        .set("tls_cert", cert.display())
        .set("tls_key", key.display());
    let server = configure(builder).start();
    Setup {
        business,
        server,
        authority,
        port,
    }
}

impl Setup {
    /// A port whose connections continue as TLS connections of the server.
    fn tunnel(&self, version: Version) -> Tunnel {
        Tunnel::start(self.port.number, self.authority.client(version), "a.test")
    }

    /// A bare TCP connection to the TLS port.
    fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port.number)).expect("connect")
    }

    /// The value of a line of `/metrics` that begins so.
    fn metric(&self, line: &str) -> u64 {
        let page = common::http::call(
            self.server.port(),
            &common::http::Request::get("/metrics"),
            common::SOON,
        );
        let page = page.expect("metrics").text();
        let values = page
            .lines()
            .filter_map(|l| l.strip_prefix(line)?.trim().parse::<u64>().ok());
        values.sum()
    }

    /// Descriptors the server has open.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server.pid())).map_or(0, Iterator::count)
    }

    /// A new TLS client gets in, its message is forwarded and answered, a push reaches it.
    fn expect_healthy(&self) {
        use common::{SOON, packet};
        self.business.reply("/connect/", Reply::channels("healthy"));
        let client = Client::open_with(self.tunnel(Version::Tls13).port, Open::device("healthy"));
        client.send(&packet::send(1, 7, 9, "x"));
        client.expect(common::client::Op::Binary, &packet::ack(9, "ok"));
        assert_eq!(self.server.send("healthy", 0, "push")["status"], 0);
        assert_eq!(client.expect_send(SOON).1, b"push");
    }
}
