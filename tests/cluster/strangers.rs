//! Who is no server of the cluster gets nothing out of it: no membership by a datagram alone where datagrams are signed, no
//! signature for what was not signed, no use of the signatures it is given as a peer, and no say in how long others wait.

use super::common::business::{Business, Mode, Reply, Request as Got};
use super::common::hmac;
use super::common::http::{self, Request};
use super::common::ports::{self, Port};
use super::common::server::{Builder, Server, TOKEN};
use super::common::{SOON, ms};
use super::{acknowledge, client, expect_peers, peers, scripted_peer, send, with_peer};
use serde_json::json;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "c";
const BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

fn listening(business: &Business, port: &Port, how: &str) -> Builder {
    Builder::new(business)
        .set("cluster_udp", how)
        .set("cluster_name", NAME)
        .set("cluster_broadcast", BROADCAST)
        .set("cluster_udp_ports", format!("{0}-{0}", port.number))
}

fn tell(from: &str, to: Ipv4Addr, port: &Port, datagram: &str) {
    let socket = UdpSocket::bind((from, 0)).expect("socket");
    socket.set_broadcast(true).expect("SO_BROADCAST");
    socket
        .send_to(datagram.as_bytes(), (to, port.number))
        .expect("send a datagram");
}

fn members(peer: &Business) -> String {
    let port = peer.port();
    let identity = "5".repeat(40);
    format!(r#"{{"msgtype": "online", "port": {port}, "server_identity": "{identity}", "cluster_name": "{NAME}""#)
}

/// As `cluster_udp = signed` writes it, by hand.
fn signed(peer: &Business, token: &str, address: &str, seconds_ago: i64) -> String {
    let time = (http::unix_seconds() - seconds_ago) * 1_000_000;
    let covered = format!(r#"{}, "address": "{address}", "time": {time}"#, members(peer));
    let text = format!("rainbow-announcement\n{covered}");
    format!(r#"{covered}, "signature": "{}"}}"#, hmac::of(token, text.as_bytes()))
}

/// Nothing was asked of `peer`, and it is none.
fn is_ignored(server: &Server, peer: &Business) {
    std::thread::sleep(ms(500));
    assert_eq!(peer.requests().len(), 0, "{:?}", peer.requests());
    assert_eq!(peers(server), 0);
}

/// What was sent to a peer, sent to a server as it was.
fn played(got: &Got, server: &Server) -> String {
    let request = hmac::raw(&got.method, &got.target, &got.body);
    http::call(server.port(), &request, SOON).expect("an answer").text()
}

const REFUSED: &str = r#"{"status": 1, "msg": "signature error"}"#;

#[test]
fn who_cannot_sign_a_datagram_is_no_peer() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let server = listening(&business, &port, "signed").start();
    tell("127.0.0.1", BROADCAST, &port, &format!("{}}}", members(&peer)));
    tell(
        "127.0.0.1",
        BROADCAST,
        &port,
        &signed(&peer, "not the token", "127.0.0.1", 0),
    );
    tell("127.0.0.1", BROADCAST, &port, &signed(&peer, TOKEN, "127.0.0.1", 3600));
    let good = signed(&peer, TOKEN, "127.0.0.1", 0);
    tell("127.0.0.2", BROADCAST, &port, &good);
    is_ignored(&server, &peer);
    tell("127.0.0.1", BROADCAST, &port, &good);
    expect_peers(&server, 1, SOON);
}

#[test]
fn servers_that_sign_find_each_other() {
    let (business, port) = (Business::start(), ports::claim());
    let first = listening(&business, &port, "signed").start();
    let second = listening(&business, &port, "signed").start();
    let stranger = listening(&business, &port, "signed")
        .set("security_token", "another")
        .start();
    expect_peers(&first, 1, SOON);
    expect_peers(&second, 1, Duration::from_secs(14));
    assert_eq!(peers(&stranger), 0);
    second.signal("TERM");
    expect_peers(&first, 0, SOON);
}

#[test]
fn with_addresses_in_bind_only_broadcasts_are_heard() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let server = listening(&business, &port, "open").set("bind", "127.0.0.1").start();
    let datagram = format!("{}}}", members(&peer));
    tell("127.0.0.1", Ipv4Addr::LOCALHOST, &port, &datagram);
    is_ignored(&server, &peer);
    tell("127.0.0.1", BROADCAST, &port, &datagram);
    expect_peers(&server, 1, SOON);
}

#[test]
fn what_was_not_signed_is_passed_on_without_a_signature() {
    for scheme in ["sha1", "hmac-sha256"] {
        let (business, peer) = (Business::start(), scripted_peer());
        let server = with_peer_signing(&business, &peer, scheme);
        for path in ["/serverinfo/", "/updateconfig/"] {
            http::call(server.port(), &Request::get(path), SOON).expect("an answer");
            let got = peer.wait_for(path, 1, SOON).pop().expect("passed on");
            assert_eq!(got.target, format!("{path}?cluster=1"));
        }
        // Not by a signature that is none either.
        let forged = Request::get("/serverinfo/")
            .query("timestamp", 1)
            .query("nonce", 1)
            .query("signature", 1);
        http::call(server.port(), &forged, SOON).expect("an answer");
        let got = peer.wait_for("/serverinfo/", 2, SOON).pop().expect("passed on");
        assert_eq!(got.target, "/serverinfo/?cluster=1");
    }
}

fn with_peer_signing(business: &Business, peer: &Business, scheme: &str) -> Server {
    let builder = Builder::new(business).set("cluster_peers", format!("127.0.0.1:{}", peer.port()));
    let server = builder.set("signature", scheme).start();
    expect_peers(&server, 1, SOON);
    server
}

#[test]
fn a_signature_made_for_a_peer_is_of_no_use_to_it() {
    for (scheme, hello) in [("sha1", "ok"), ("hmac-sha256", "ok"), ("hmac-sha256", NAMED)] {
        let (business, peer) = (Business::start(), scripted_peer());
        business.reply("/connect/", Reply::channels("room"));
        peer.reply("/hello/", Reply::ok(hello));
        let server = with_peer_signing(&business, &peer, scheme);
        let (here, _) = client(&server, &business, "d");
        let asked = match scheme {
            "sha1" => Request::post("/send/", "once").signed(TOKEN),
            _ => {
                let target = hmac::signed_at(
                    TOKEN,
                    "POST",
                    "/send/?channel=room&qos=0",
                    b"once",
                    http::unix_seconds(),
                    &http::nonce(),
                );
                hmac::raw("POST", &target, b"once")
            }
        };
        let asked = if scheme == "sha1" {
            asked.query("channel", "room").query("qos", 0)
        } else {
            asked
        };
        let answer = http::call(server.port(), &asked, SOON).expect("an answer");
        assert_eq!(answer.json(), Some(json!({"status": 0})));
        assert_eq!(here.expect_send(SOON).1, b"once");
        let got = peer.wait_for("/send/", 1, SOON).pop().expect("passed on");
        assert_eq!(got.target.contains("&rainbow_node="), hello == NAMED, "{}", got.target);
        assert_eq!(played(&got, &server), REFUSED, "{scheme} {hello}");
        // The parameters that sha1 does not cover may be changed at will: it is still ours.
        let changed = got.target.replacen("&cluster=1", "", 1);
        let request = hmac::raw("POST", &changed, b"twice");
        let answer = http::call(server.port(), &request, SOON).expect("an answer").text();
        assert_eq!(answer, REFUSED);
        here.expect_silence(ms(300));
    }
}

/// How a server of ours says who it is.
const NAMED: &str = "ok 5555555555555555555555555555555555555555";

#[test]
fn what_was_signed_for_one_server_is_refused_by_another() {
    let (business, peer) = (Business::start(), scripted_peer());
    peer.reply("/hello/", Reply::ok(NAMED));
    let server = with_peer_signing(&business, &peer, "hmac-sha256");
    let third = Builder::new(&business).set("signature", "hmac-sha256").start();
    let target = "/send/?channel=room&qos=1&timeout=5";
    let signed = hmac::signed_at(TOKEN, "POST", target, b"x", http::unix_seconds(), &http::nonce());
    http::call(server.port(), &hmac::raw("POST", &signed, b"x"), SOON).expect("an answer");
    let got = peer.wait_for("/send/", 1, SOON).pop().expect("passed on");
    assert_eq!(played(&got, &third), REFUSED);
    let metrics = http::call(third.port(), &Request::get("/metrics"), SOON)
        .expect("/metrics")
        .text();
    assert!(
        metrics.contains(r#"signatures_refused_total{reason="astray"} 1"#),
        "{metrics}"
    );
}

#[test]
fn a_peer_that_was_restarted_is_sent_what_it_believes() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let ports: Vec<Arc<Port>> = (0..2).map(|_| Arc::new(ports::claim())).collect();
    let list = format!("127.0.0.1:{}, 127.0.0.1:{}", ports[0].number, ports[1].number);
    let start = |at: usize| {
        let builder = Builder::new(&business).set("cluster_peers", &list);
        builder.set("signature", "hmac-sha256").on(&ports[at]).start()
    };
    let (first, mut second) = (start(0), start(1));
    expect_peers(&first, 1, SOON);
    second.signal("TERM");
    assert_eq!(second.wait_exit(SOON), Some(0));
    let second = start(1);
    let (there, _) = client(&second, &business, "d");
    let target = "/send/?channel=room&qos=1&timeout=9";
    let signed = hmac::signed_at(TOKEN, "POST", target, b"x", http::unix_seconds(), &http::nonce());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| http::call(first.port(), &hmac::raw("POST", &signed, b"x"), SOON));
        assert_eq!(acknowledge(&there, "here"), b"x");
        let answer = asked.join().expect("caller").expect("an answer").json();
        assert_eq!(answer, Some(json!({"status": 0, "connections": 1, "data": "here"})));
    });
}

#[test]
fn a_peer_that_hangs_delays_one_call() {
    let (business, peer) = (Business::start(), scripted_peer());
    peer.reply("/send/", Reply::ok("").mode(Mode::Hang));
    let server = with_peer(&business, &peer);
    peer.reply("/hello/", Reply::ok("").mode(Mode::Hang));
    let answer = server.api(&send("room", 4));
    assert_eq!(answer["connections"], 0, "{answer}");
    for _ in 0..20 {
        assert_eq!(
            server.api(&send("room", 4)),
            json!({"status": 0, "connections": 0, "data": ""})
        );
    }
    assert_eq!(peer.requests_to("/send/").len(), 1, "left out after its first deadline");
    peer.reply("/send/", Reply::ok(r#"{"status": 0, "connections": 3, "data": "P"}"#));
    peer.reply("/hello/", Reply::ok("ok"));
    let is_back = || server.api(&send("room", 4))["connections"] == 3;
    assert!(super::common::eventually(SOON, is_back), "until it answers");
}

#[test]
fn a_peer_sends_us_nowhere_else() {
    let (business, peer, inside) = (Business::start(), scripted_peer(), Business::start());
    let server = with_peer(&business, &peer);
    for status in [302, 307] {
        let elsewhere = format!("http://127.0.0.1:{}/internal", inside.port());
        let mut reply = Reply::ok("").status(status);
        reply.headers.push(("Location".into(), elsewhere));
        peer.reply("/send/", reply);
        let asked = peer.requests_to("/send/").len();
        assert_eq!(server.api(&send("room", 4))["connections"], 0);
        assert_eq!(peer.requests_to("/send/").len(), asked + 1);
    }
    assert_eq!(inside.requests().len(), 0, "{:?}", inside.requests());
}
