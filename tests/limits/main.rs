//! What clients may use of the server, on the wire: connections, handshakes, memory, descriptors, rates; and what becomes of
//! those that read too slowly or say nothing. Limits tested elsewhere: message size (`hostile/frames.rs`), head size and time
//! (`hostile/heads.rs`), channels of a client (`hostile/business.rs`).
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod acks;
mod admission;
mod interface;
mod memory;
mod overload;
mod proxies;
mod rates;
mod sandbox;
mod silence;
mod slow;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::http::Response;
use common::server::{Builder, Server, metric};
use common::{SOON, eventually};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};

/// A business server that puts every client into `room`, and a server that uses it.
fn setup(configure: impl FnOnce(Builder) -> Builder) -> (Business, Server) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = configure(Builder::new(&business)).start();
    (business, server)
}

/// A connection from an address of loopback (127.0.0.0/8).
fn connect_from(address: &str, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let own: SocketAddr = format!("{address}:0").parse().expect("address");
    socket.bind(&own.into()).expect("bind");
    socket
        .connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())
        .expect("connect");
    socket.into()
}

/// A client from an address, with further headers, that has not been let in yet.
fn start_from(address: &str, server: &Server, headers: &[(&str, &str)]) -> Client {
    let mut open = Open::default();
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    open.headers.extend(headers);
    Client::start_on(connect_from(address, server.port()), server.port(), open).expect("write")
}

fn expect_503(answer: std::io::Result<Response>) {
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("5"));
}

fn refused(client: &Client) {
    expect_503(client.answer(SOON));
}

/// A new client gets in within a while.
fn expect_open(server: &Server) -> Client {
    let mut found = None;
    let opened = eventually(SOON, || {
        found = Client::start(server.port(), Open::default())
            .ok()
            .filter(|client| client.answer(SOON).is_ok_and(|answer| answer.status == 101));
        found.is_some()
    });
    assert!(opened, "nobody gets in any more");
    found.expect("a client")
}
