//! Addresses this machine does not have, and ports that are taken.

use super::common::business::Business;
use super::common::client::Client;
use super::common::http::{self, Request};
use super::common::server::{Builder, Server};
use super::common::{SOON, eventually, ports};
use super::{can_run, not_run};
use std::net::TcpListener;
use std::sync::Arc;

/// For documentation (RFC 5737, RFC 3849): nobody has them.
const ELSEWHERE: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn refused(builder: &Builder, words: &[&str]) {
    let mut server = builder.spawn();
    assert_eq!(server.wait_exit(SOON), Some(2), "{}", server.log_tail());
    let said = server.log_tail();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("free a port"), "{said}");
}

#[test]
fn an_address_of_another_machine_is_refused_by_name() {
    let business = Business::start();
    for address in ELSEWHERE {
        for bind in [
            format!("127.0.0.1, {address}"),
            format!("{address}, 127.0.0.1"),
            address.to_owned(),
        ] {
            for search in ["yes", "no"] {
                let builder = Builder::new(&business).set("bind", &bind).set("port_search", search);
                refused(
                    &builder,
                    &[
                        &format!("bind: {address} is no address of this machine"),
                        "bind_missing = warn",
                    ],
                );
            }
        }
    }
}

/// The server's own network: no interface but loopback is up there, and addresses come when the test says so.
#[test]
fn an_address_that_comes_later_is_served_then() {
    if !can_run("unshare", &["-n", "ip", "link", "set", "lo", "up"]) {
        return not_run(
            "an address that comes later",
            "no network namespace (needs root, unshare and ip)",
        );
    }
    let business = Business::start();
    let binds = "127.0.0.1, 192.0.2.10, 2001:db8::10";
    let server = Builder::new(&business)
        .set("bind", binds)
        .set("bind_missing", "warn")
        .set("connect_url", "http://127.0.0.1:9/")
        .through(&["unshare", "-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    let server = server.spawn();
    let inside = |command: &[&str]| {
        let (pid, mut all) = (server.pid().to_string(), vec!["-n", "-t"]);
        all.push(&pid);
        all.extend(command);
        std::process::Command::new("nsenter")
            .args(all)
            .output()
            .expect("nsenter")
    };
    let hello = |address: &str| {
        let script = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),2); \
                      s.sendall(b'GET /hello/ HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'); \
                      sys.exit(b' 200 ' not in s.recv(4096))";
        inside(&["python3", "-c", script, address, &server.port().to_string()])
            .status
            .success()
    };
    assert!(eventually(SOON, || hello("127.0.0.1")), "{}", server.log_tail());
    for (address, with_length) in ELSEWHERE.into_iter().zip(["192.0.2.10/32", "2001:db8::10/128"]) {
        server.expect_said(address);
        assert!(!hello(address), "{address} is there already");
        let added = inside(&["ip", "addr", "add", with_length, "dev", "lo"]);
        assert!(added.status.success(), "{added:?}");
        assert!(eventually(SOON, || hello(address)), "{address}: {}", server.log_tail());
    }
}

/// A claimed port that something else listens on.
fn taken() -> (Arc<ports::Port>, TcpListener) {
    let port = Arc::new(ports::claim());
    let listener = TcpListener::bind(("127.0.0.1", port.number)).expect("bind");
    (port, listener)
}

fn ports_in(log: &str) -> Option<u16> {
    let ports = log.split("ports=[").nth(1)?;
    ports.split([',', ']']).next()?.trim().parse().ok()
}

fn starts_elsewhere(server: &Server, wanted: u16) {
    assert!(
        eventually(SOON, || ports_in(&server.log_tail()).is_some()),
        "{}",
        server.log_tail()
    );
    let found = ports_in(&server.log_tail()).expect("a port");
    assert!(found != wanted && (1984..=2003).contains(&found), "{found}");
    let hello = || http::call(found, &Request::get("/hello/"), SOON).is_ok_and(|answer| answer.status == 200);
    assert!(eventually(SOON, hello), "{}", server.log_tail());
    server.expect_said("listening on another port");
}

#[test]
fn a_port_that_was_named_on_the_command_line_is_meant() {
    let (business, (port, _listener)) = (Business::start(), taken());
    let words = [
        &*format!("port {} is taken", port.number),
        "free it, or name another one",
    ];
    refused(&Builder::new(&business).on(&port), &words);
    refused(&Builder::new(&business).on(&port).set("port_search", "no"), &words);
    refused(&Builder::demo().on(&port), &words);
    let searches = Builder::new(&business).on(&port).set("port_search", "yes").spawn();
    starts_elsewhere(&searches, port.number);
}

#[test]
fn a_port_that_was_named_in_a_file_of_ours_is_meant() {
    let (business, (port, _listener)) = (Business::start(), taken());
    let file = || {
        Builder::new(&business)
            .without_port_option()
            .set("http_port", port.number)
    };
    // A file of the original, which would search, cannot be tried here: it would broadcast (`src/config/tests.rs`).
    starts_elsewhere(&file().set("port_search", "yes").spawn(), port.number);
    refused(&file(), &[&format!("port {} is taken", port.number)]);
    let printed = super::shell("\"$0\" --print-config", &[]);
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.lines().any(|line| line == "port_search = no"), "{printed}");
}

#[test]
fn all_ports_of_the_addresses_are_served() {
    let business = Business::start();
    let server = Builder::new(&business).set("bind", "127.0.0.1, ::1").start();
    drop(Client::open(server.port()));
    let six = std::net::TcpStream::connect(("::1", server.port()));
    assert!(
        six.is_ok() || !std::path::Path::new("/proc/net/if_inet6").exists(),
        "{six:?}"
    );
}
