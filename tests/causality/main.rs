//! What must be seen after what: subscriptions and sends, the order within a channel, forwards of one client, close callbacks,
//! and a stop on signal. Most of it runs on four shards, where each step may happen on another thread.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod crash;
mod forward;
mod one_core;
mod publish;
mod stop;

use common::business::Business;
use common::client::{Client, Op, Open};
use common::packet;
use std::time::Duration;

/// The identity the server gave to the client of that device.
fn identity_of(business: &Business, device: &str) -> String {
    let connects = business.requests_to("/connect/");
    let own = connects
        .iter()
        .rev()
        .find(|r| r.header("x-deviceid").as_deref() == Some(device));
    own.unwrap_or_else(|| panic!("no connect callback of {device}"))
        .identity()
}

/// `n` clients named `d0`, `d1`, …, with their identities.
fn clients(port: u16, business: &Business, n: usize) -> Vec<(Client, String)> {
    (0..n)
        .map(|i| {
            let device = format!("d{i}");
            let client = Client::open_with(port, Open::device(&device));
            (client, identity_of(business, &device))
        })
        .collect()
}

/// The next SEND, acknowledged at once with `data`; returns its payload.
fn acknowledge(client: &Client, within: Duration, data: &str) -> Vec<u8> {
    let (id, payload) = client.expect_send(within);
    client.send(&packet::ack(id.expect("a QoS 1 SEND has an id"), data));
    payload
}

/// Closes like a correct client and waits for the end.
fn close_politely(client: &Client, within: Duration) {
    client.frame(Op::Close, &1000u16.to_be_bytes());
    assert!(
        client.until_eof(within).is_some(),
        "the server does not finish the close handshake"
    );
}
