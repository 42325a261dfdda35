//! What an idle client costs the server in memory. Not a timing: the bound holds on any machine, and a buffer that somebody
//! keeps per client breaks it at once. docs/performance.md has the exact number of a release build.

mod common;

use common::business::{Business, Reply};
use common::server::Builder;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Bytes of the server's own memory for a client in one channel.
const BYTES_PER_CLIENT_MAX: u64 = 500;
/// First clients, which also pay for what is allocated once.
const WARM: usize = 500;
/// Clients measured.
const CLIENTS: usize = 4000;

#[test]
fn an_idle_client_is_small() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("idle"));
    let server = Builder::new(&business).set("workers", 1).set("driver", "auto").start();
    let mut clients: Vec<TcpStream> = (0..WARM).map(|_| connect(server.port())).collect();
    let before = anonymous_bytes(server.pid());
    clients.extend((0..CLIENTS).map(|_| connect(server.port())));
    let after = anonymous_bytes(server.pid());
    let each = after.saturating_sub(before) / CLIENTS as u64;
    assert!(
        each <= BYTES_PER_CLIENT_MAX,
        "{each} bytes per idle client, at most {BYTES_PER_CLIENT_MAX} wanted"
    );
    assert!(before > 0 && clients.len() == WARM + CLIENTS);
}

/// A client without any task of its own in this process.
fn connect(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    let head = format!(
        "GET /connect/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         X-DEVICEID: memory\r\nX-CLIENT-OS: test\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("send the upgrade");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer to the upgrade");
        answer.push(byte[0]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    socket
}

/// Anonymous resident memory: what was allocated, without pages of the binary.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// The same of a client of the gateway, with a uid and in one group.
const BYTES_PER_GATEWAY_CLIENT_MAX: u64 = 640;

/// Each has a uid of its own, as users have: a number of six digits.
#[test]
fn an_idle_client_of_the_gateway_is_small() {
    let backend = Business::start();
    let next = std::sync::atomic::AtomicUsize::new(100_000);
    backend.hook(move |_| {
        let user = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Reply::ok(format!(r#"{{"uid": "{user}", "groups": ["idle"]}}"#)))
    });
    let server = Builder::gateway()
        .set("workers", 1)
        .set("driver", "auto")
        .of_gateway("connect_url", format!("http://127.0.0.1:{}/", backend.port()))
        .start();
    // Tables of names double: with so many they are well filled.
    let (warm, more) = (2 * WARM, 3 * CLIENTS);
    let mut clients: Vec<TcpStream> = (0..warm).map(|_| connect(server.gateway_port())).collect();
    let before = anonymous_bytes(server.pid());
    clients.extend((0..more).map(|_| connect(server.gateway_port())));
    let after = anonymous_bytes(server.pid());
    let each = after.saturating_sub(before) / more as u64;
    assert!(
        each <= BYTES_PER_GATEWAY_CLIENT_MAX,
        "{each} bytes per idle client, at most {BYTES_PER_GATEWAY_CLIENT_MAX} wanted"
    );
    assert!(before > 0 && clients.len() == warm + more);
}
