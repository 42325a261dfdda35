//! Several servers as one cluster, on loopback: requests passed on and their answers added up, peers in trouble, and who is a
//! peer at all. Other servers are real ones, or a scripted business server in the part of an original one.
//!
//! Some tests wait for the protocol's own times (announcements every 10 s, expiry after 30 s).
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod broadcast;
mod discovery;
mod fixed;
mod passing;
mod strangers;
mod trouble;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::packet;
use common::ports::{self, Port};
use common::server::{Builder, Server};
use common::{SOON, eventually};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// `n` servers that are given the same list of peers, themselves included, each with `n - 1` peers by now.
fn cluster(business: &Business, n: usize) -> Vec<Server> {
    let ports: Vec<Arc<Port>> = (0..n).map(|_| Arc::new(ports::claim())).collect();
    let list: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{}", p.number)).collect();
    let start = |port| {
        Builder::new(business)
            .set("cluster_peers", list.join(", "))
            .on(port)
            .start()
    };
    let servers: Vec<Server> = ports.iter().map(start).collect();
    servers.iter().for_each(|server| expect_peers(server, n - 1, SOON));
    servers
}

/// A server whose one configured peer is `peer`, which is in by now.
fn with_peer(business: &Business, peer: &Business) -> Server {
    with_peer_and(business, peer, |builder| builder)
}

/// The same with other settings.
fn with_peer_and(business: &Business, peer: &Business, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let builder = Builder::new(business).set("cluster_peers", format!("127.0.0.1:{}", peer.port()));
    let server = configure(builder).start();
    expect_peers(&server, 1, SOON);
    server
}

/// What answers like a server without clients.
fn scripted_peer() -> Business {
    let peer = Business::start();
    peer.reply("/hello/", Reply::ok("ok"));
    peer.reply("/send/", Reply::ok(r#"{"status": 0, "connections": 0, "data": ""}"#));
    peer.reply("/sub/", Reply::ok(r#"{"status": 1, "msg": "no such connection"}"#));
    peer.reply("/unsub/", Reply::ok(r#"{"status": 0}"#));
    peer
}

/// Number of peers, as the server tells.
fn peers(server: &Server) -> usize {
    let answer = http::call(server.port(), &Request::get("/metrics"), SOON).expect("/metrics answers");
    let text = answer.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("rainbow_cluster_peers "));
    line.and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("no number of peers in {text}"))
}

/// Waits until there are `n` peers.
fn expect_peers(server: &Server, n: usize, within: Duration) {
    let right = eventually(within, || peers(server) == n);
    assert!(right, "expected {n} peers, got {}", peers(server));
}

/// A client with its identity, in the channels the business server puts it into.
fn client(server: &Server, business: &Business, device: &str) -> (Client, String) {
    let client = Client::open_with(server.port(), Open::device(device));
    let connects = business.requests_to("/connect/");
    let own = connects
        .iter()
        .rev()
        .find(|r| r.header("x-deviceid").as_deref() == Some(device));
    (client, own.expect("connect callback").identity())
}

/// Acknowledges the next SEND of QoS 1 with `data` and returns its payload.
fn acknowledge(client: &Client, data: &str) -> Vec<u8> {
    let (id, payload) = client.expect_send(SOON);
    client.send(&packet::ack(id.expect("an id"), data));
    payload
}

/// A `/send/` of QoS 1 with this timeout in seconds.
fn send(channel: &str, timeout: u32) -> Request {
    Request::post("/send/", "hello")
        .query("channel", channel)
        .query("qos", 1)
        .query("timeout", timeout)
}

/// A socket on a port that servers may listen on too; gets broadcasts, not what is sent to one host.
fn shared_udp(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    socket.bind(&address.into()).expect("bind");
    socket.set_read_timeout(Some(SOON)).expect("read timeout");
    UdpSocket::from(socket)
}
