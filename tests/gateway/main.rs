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
use common::server::{Builder, Server};
use common::{SOON, ms};

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

/// A value of `/metrics`: the sum of all series that start so.
fn metric(server: &Server, name: &str) -> u64 {
    let page = http::call(server.port(), &Request::get("/metrics"), SOON).expect("/metrics answers");
    let text = page.text();
    let values = text.lines().filter(|line| line.starts_with(name));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// One test for io_uring and one for epoll.
macro_rules! on_both_drivers {
    ($($(#[$about:meta])* fn $name:ident($setup:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            $(#[$about])*
            fn run($setup: impl Fn(Builder) -> Builder) $body

            #[test]
            fn default_driver() {
                run(|builder| builder);
            }

            #[test]
            fn epoll() {
                run(Builder::legacy_driver);
            }
        }
    )+};
}
use on_both_drivers;
