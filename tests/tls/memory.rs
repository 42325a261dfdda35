//! What an idle TLS client costs.

use super::authority::{Version, connect};
use super::setup;
use std::io::{Read, Write};
use std::net::TcpStream;

const CLIENTS: u64 = 1000;
/// Resident bytes of the server for one idle client over TLS: socket task, shard slot, session.
const BYTES_MAX: u64 = 12 * 1024;

/// `n` open websocket clients, their TLS sessions forgotten.
fn clients(setup: &super::Setup, version: Version, n: u64) -> Vec<TcpStream> {
    let config = setup.authority.client(version);
    let request = |device: u64| {
        format!(
            "GET /connect/ HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-DEVICEID: {device}\r\n\
             X-CLIENT-OS: o\r\n\r\n"
        )
    };
    (0..n)
        .map(|device| {
            let mut secure = connect(setup.port.number, &config, "a.test").expect("connect");
            secure.write_all(request(device).as_bytes()).expect("write");
            let mut answer = [0; 12];
            secure.read_exact(&mut answer).expect("answer");
            assert_eq!(&answer, b"HTTP/1.1 101");
            secure.sock
        })
        .collect()
}

fn bytes_per_client(version: Version) {
    rainbow_server::io::sys::raise_descriptor_limit();
    let setup = setup(|builder| builder.set("workers", 1));
    // What the first clients make the server allocate once is not theirs.
    let warm = clients(&setup, version, 300);
    let before = setup.server.resident_kib();
    let idle = clients(&setup, version, CLIENTS);
    let each = setup.server.resident_kib().saturating_sub(before) * 1024 / CLIENTS;
    println!("{version:?}: {each} bytes for each idle client");
    assert!(each <= BYTES_MAX, "{each} bytes for each idle client");
    drop((warm, idle));
    setup.server.expect_no_channels();
}

#[test]
fn an_idle_tls13_client_is_small() {
    bytes_per_client(Version::Tls13);
}

#[test]
fn an_idle_tls12_client_is_small() {
    bytes_per_client(Version::Tls12);
}
