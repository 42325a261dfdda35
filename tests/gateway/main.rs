//! The gateway door, from outside: its port and its clients. Cases are those of the door's conformance list where a test says
//! so; each of these runs on io_uring and on epoll.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod clients;
mod events;
mod heartbeats;
mod ids;
mod ports;

use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::{Builder, Server, metric};
use common::{SOON, ms, on_both_drivers};

/// How a client of the gateway opens: any path, no header of its own.
fn anybody() -> Open {
    Open {
        target: "/".into(),
        headers: Vec::new(),
        ..Open::default()
    }
}

/// A client that was let in.
fn client(server: &Server) -> Client {
    Client::open_with(server.gateway_port(), anybody())
}
