//! Bad input from every side: clients, callers of the API, business servers. Whatever comes, the connection that sent it ends or
//! gets an error, and everybody else is served as before.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod business;
mod callers;
mod frames;
mod heads;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::server::{Builder, Server};
use common::{SOON, packet};

/// A business server that puts every client into `room`, and a server that uses it.
fn setup(configure: impl FnOnce(Builder) -> Builder) -> (Business, Server) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    // Broken answers in a row are what these tests are made of: without the breaker, each is judged alone.
    let builder = Builder::new(&business).set("breaker_failures", 0);
    let server = configure(builder).start();
    (business, server)
}

/// A new client gets in, its message is forwarded and answered, a push reaches it, and it leaves `room` when it goes.
fn expect_healthy(business: &Business, server: &Server) {
    business.reply("/connect/", Reply::channels("healthy"));
    business.reply("/message/", Reply::ok("ok"));
    let client = Client::open_with(server.port(), Open::device("healthy"));
    client.send(&packet::send(1, 7, 9, "x"));
    client.expect(common::client::Op::Binary, &packet::ack(9, "ok"));
    assert_eq!(server.send("healthy", 0, "push")["status"], 0);
    assert_eq!(client.expect_send(SOON).1, b"push");
    drop(client);
    let gone = common::eventually(SOON, || !server.channels().iter().any(|(name, _)| name == "healthy"));
    assert!(
        gone,
        "a client that left is still in its channel: {:?}",
        server.channels()
    );
}
