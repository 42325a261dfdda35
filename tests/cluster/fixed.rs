//! Configured peers: watched, dropped after 30 s of silence, and back when they answer.

use super::common::business::{Business, Mode, Reply};
use super::common::server::Builder;
use super::common::{SOON, eventually, ports};
use super::{expect_peers, peers, scripted_peer, send, with_peer};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn names_are_resolved_and_ourselves_left_out() {
    let (business, own, other) = (Business::start(), Arc::new(ports::claim()), scripted_peer());
    let list = format!(
        "localhost:{0}, 127.0.0.1:{0}, localhost:{1}, 127.0.0.1:{1}",
        own.number,
        other.port()
    );
    let server = Builder::new(&business).set("cluster_peers", list).on(&own).start();
    expect_peers(&server, 1, SOON);
    other.reply("/send/", Reply::ok(r#"{"status": 0, "connections": 2, "data": ""}"#));
    assert_eq!(server.api(&send("room", 3))["connections"], 2, "asked once");
}

#[test]
fn a_peer_is_in_once_it_answers_and_out_after_30_s() {
    let (business, peer) = (Business::start(), scripted_peer());
    peer.reply("/hello/", Reply::ok("no").status(500));
    let builder = Builder::new(&business).set("cluster_peers", format!("127.0.0.1:{}", peer.port()));
    let server = builder.start();
    peer.wait_for("/hello/", 2, SOON);
    assert_eq!(peers(&server), 0);
    peer.reply("/hello/", Reply::ok("ok"));
    expect_peers(&server, 1, SOON);
    peer.reply("/hello/", Reply::ok("").mode(Mode::Hang));
    let since = Instant::now();
    expect_peers(&server, 0, Duration::from_secs(34));
    assert!(since.elapsed() > Duration::from_secs(19), "{:?}", since.elapsed());
    peer.reply("/hello/", Reply::ok("ok"));
    expect_peers(&server, 1, Duration::from_secs(14));
}

#[test]
fn a_restarted_peer_is_asked_again() {
    let (business, port) = (Business::start(), Arc::new(ports::claim()));
    let peer = Builder::new(&business).on(&port).start();
    let list = format!("127.0.0.1:{}", port.number);
    let server = Builder::new(&business).set("cluster_peers", list).start();
    expect_peers(&server, 1, SOON);
    drop(peer);
    let answer = server.api(&send("room", 6));
    assert_eq!(
        answer,
        json!({"status": 0, "connections": 0, "data": ""}),
        "refused, not waited for"
    );
    let _again = Builder::new(&business).on(&port).start();
    assert_eq!(peers(&server), 1);
    assert_eq!(
        server.api(&send("room", 6)),
        json!({"status": 0, "connections": 0, "data": ""})
    );
}

#[test]
fn without_peers_there_is_no_socket() {
    let (business, peer) = (Business::start(), scripted_peer());
    let lonely = Builder::new(&business).start();
    let fixed = with_peer(&business, &peer);
    let open = Builder::new(&business)
        .set("cluster_udp", "yes")
        .set("cluster_udp_ports", udp_range())
        .start();
    assert!(eventually(SOON, || udp_sockets(open.pid()) == 1));
    assert_eq!((udp_sockets(lonely.pid()), udp_sockets(fixed.pid())), (0, 0));
}

fn udp_range() -> String {
    let port = ports::claim().number;
    format!("{port}-{port}")
}

/// UDP sockets of a process.
fn udp_sockets(pid: u32) -> usize {
    let table = std::fs::read_to_string("/proc/net/udp").expect("/proc/net/udp");
    let inodes: Vec<&str> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(9))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| {
            inodes
                .iter()
                .any(|inode| link.to_str() == Some(&format!("socket:[{inode}]")))
        })
        .map(|link| link.into_os_string())
        .collect::<std::collections::HashSet<_>>()
        .len()
}
