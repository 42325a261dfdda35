//! A server that may do less: without io_uring, as in most containers, and without privileges.

use super::common::business::Business;
use super::common::client::{Client, Op};
use super::common::http::{self, Request};
use super::common::server::{Builder, Server};
use super::common::{SOON, packet};
use super::{metric, setup};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

/// `io_uring_setup` on every architecture.
const IO_URING_SETUP: &str = "425";

/// Without io_uring; `None` without Python, which sets that up.
fn denied(builder: Builder) -> Option<Builder> {
    let python = Command::new("python3").arg("--version").output();
    if python.is_ok_and(|output| output.status.success()) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/limits/deny.py");
        return Some(builder.through(&["python3", "-B", script, IO_URING_SETUP]));
    }
    assert!(
        std::env::var("CI").map_or(true, |v| v != "true"),
        "python3 does not start"
    );
    // Not eprintln: the test harness would hide the line of a test that passes.
    let _ = std::io::stderr().write_all(b"A SERVER WITHOUT io_uring WAS NOT TESTED: python3 does not start\n");
    None
}

/// A client comes in, its message is answered, a push reaches it.
fn expect_service(server: &Server) {
    let client = Client::open(server.port());
    client.send(&packet::send(1, 7, 1, "x"));
    client.expect(Op::Binary, &packet::ack(1, "ok"));
    assert_eq!(server.send("room", 0, "push")["status"], 0);
    assert_eq!(client.expect_send(SOON).1, b"push");
}

#[test]
fn without_io_uring_it_runs_on_epoll() {
    let business = Business::start();
    let Some(builder) = denied(Builder::new(&business)) else {
        return;
    };
    business.reply("/connect/", super::Reply::channels("room"));
    let server = builder.start();
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    assert!(!page.contains("driver=\"io_uring\""), "{page}");
    assert_eq!(metric(&server, "rainbow_driver_info{core=\"0\",driver=\"epoll\"}"), 1);
    server.expect_said("driver=\"epoll\"");
    expect_service(&server);
}

#[test]
fn who_insists_on_io_uring_is_told() {
    let business = Business::start();
    let Some(builder) = denied(Builder::new(&business)) else {
        return;
    };
    let mut server = builder.set("driver", "io_uring").spawn();
    assert_eq!(server.wait_exit(Duration::from_secs(30)), Some(2));
    server.expect_said("io_uring");
}

#[test]
fn it_needs_no_privileges() {
    let of = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let capabilities = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
        u64::from_str_radix(line.expect("CapEff"), 16).expect("hex")
    };
    let none = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"];
    let privileged = capabilities(&of("self")) != 0;
    let (_business, server) = setup(|b| if privileged { b.through(&none) } else { b });
    assert_eq!(capabilities(&of(&server.pid().to_string())), 0);
    expect_service(&server);
}
