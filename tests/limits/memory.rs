//! What clients and callers can make the process hold. Resident memory is looked at from outside, so these bounds hold
//! whatever the server says about itself.

use super::common::SOON;
use super::common::client::{Client, Open};
use super::common::http::Request;
use super::{Server, setup};

const MIB: usize = 1 << 20;

/// Mebibytes the server has grown by since it had `before` KiB.
fn grown_mib(server: &Server, before: u64) -> u64 {
    server.resident_kib().saturating_sub(before) / 1024
}

#[test]
fn a_message_with_acknowledgement_is_shared_by_those_who_lag() {
    const MEMBERS: usize = 60;
    let (_business, server) = setup(|b| b.set("workers", 2).set("outbox_bytes", "64m"));
    let reading = Client::open(server.port());
    let lazy: Vec<Client> = (0..MEMBERS)
        .map(|_| Client::open_with(server.port(), Open::lazy()))
        .collect();
    let before = server.resident_kib();
    // Large ones one by one, small ones together with messages that need no acknowledgement.
    let bodies = [vec![b'm'; 4 * MIB], vec![b's'; 64 * 1024]];
    std::thread::scope(|scope| {
        for qos in [1, 2, 1, 0] {
            let body = if qos == 1 { &bodies[0] } else { &bodies[1] };
            let request = Request::post("/send/", body)
                .query("channel", "room")
                .query("qos", qos)
                .query("timeout", 2);
            let server = &server;
            scope.spawn(move || server.api(&request));
        }
        for _ in 0..4 {
            let body = reading.expect_send(SOON).1;
            assert!(bodies.contains(&body), "another message");
        }
        let grown = grown_mib(&server, before);
        assert!(grown < 48, "{MEMBERS} members hold {grown} MiB");
    });
    drop(lazy);
}
