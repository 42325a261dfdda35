//! Discovery by broadcast: what is announced, and which datagrams make a peer. Broadcasts stay on loopback.

use super::common::business::{Business, Reply};
use super::common::ports::{self, Port};
use super::common::server::{Builder, Server};
use super::common::{SOON, ms};
use super::{expect_peers, peers, scripted_peer, shared_udp};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "grün";

/// A server that listens and announces on a port of its own, which is shared with the test.
fn discoverable(business: &Business, port: &Port) -> Builder {
    Builder::new(business)
        .set("cluster_udp", "yes")
        .set("cluster_name", NAME)
        .set("cluster_broadcast", "127.255.255.255")
        .set("cluster_udp_ports", format!("{0}-{0}", port.number))
}

/// Sends a datagram to the servers on `port`.
fn tell(port: &Port, datagram: impl AsRef<[u8]>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
    socket.set_broadcast(true).expect("SO_BROADCAST");
    let sent = socket.send_to(datagram.as_ref(), ("127.255.255.255", port.number));
    sent.expect("send a datagram");
}

fn online(peer: &Business) -> Value {
    json!({"msgtype": "online", "port": peer.port(), "server_identity": "0".repeat(40), "cluster_name": NAME})
}

/// `online` with one field changed, or taken away.
fn changed(peer: &Business, key: &str, value: Option<Value>) -> String {
    let mut datagram = online(peer);
    let fields = datagram.as_object_mut().expect("object");
    match value {
        Some(value) => drop(fields.insert(key.into(), value)),
        None => drop(fields.remove(key)),
    }
    datagram.to_string()
}

/// The next announcement of `server`, and when it came.
fn announcement(socket: &UdpSocket, server: &Server) -> (Value, Instant) {
    let end = Instant::now() + Duration::from_secs(15);
    socket.set_read_timeout(Some(Duration::from_secs(15))).expect("timeout");
    while Instant::now() < end {
        let mut buffer = [0; 2048];
        let (length, _) = socket.recv_from(&mut buffer).expect("an announcement");
        let datagram: Value = serde_json::from_slice(&buffer[..length]).expect("JSON");
        if datagram["port"] == server.port() {
            return (datagram, Instant::now());
        }
    }
    panic!("no announcement");
}

#[test]
fn a_server_announces_itself_and_says_goodbye() {
    let (business, port) = (Business::start(), ports::claim());
    let socket = shared_udp(port.number);
    // Counted from before the start, since on a busy machine the first one may be read late.
    let begun = Instant::now();
    let mut server = discoverable(&business, &port).start();
    let (first, _) = announcement(&socket, &server);
    let identity = first["server_identity"].as_str().expect("identity").to_owned();
    assert!(
        identity.len() == 40 && identity.bytes().all(|b| b.is_ascii_hexdigit()),
        "{first}"
    );
    let expected =
        |msgtype| json!({"msgtype": msgtype, "port": server.port(), "server_identity": identity, "cluster_name": NAME});
    assert_eq!(first, expected("online"));
    let (second, again) = announcement(&socket, &server);
    assert_eq!(second, first);
    assert!(again - begun > Duration::from_secs(2), "{:?}", again - begun);
    let goodbye = expected("offline");
    server.signal("TERM");
    assert_eq!(announcement(&socket, &server).0, goodbye);
    assert_eq!(server.wait_exit(SOON), Some(0));
    socket.set_read_timeout(Some(ms(300))).expect("timeout");
    assert!(socket.recv_from(&mut [0; 9]).is_err(), "goodbye is said once");
}

#[test]
fn two_servers_find_each_other() {
    let (business, port) = (Business::start(), ports::claim());
    let first = discoverable(&business, &port).start();
    let second = discoverable(&business, &port).start();
    let stranger = discoverable(&business, &port).set("cluster_name", "other").start();
    expect_peers(&first, 1, SOON);
    expect_peers(&second, 1, Duration::from_secs(14));
    second.signal("TERM");
    expect_peers(&first, 0, SOON);
    assert_eq!(peers(&stranger), 0);
}

/// Neither says goodbye for the other, nor takes it for a peer: to both that would be asking themselves.
#[test]
fn a_server_that_is_replaced_stays_in_the_cluster() {
    let (business, udp, port) = (Business::start(), ports::claim(), Arc::new(ports::claim()));
    let other = discoverable(&business, &udp).start();
    let builder = || discoverable(&business, &udp).on(&port).set("drain_timeout", 10);
    let mut old = builder().start();
    expect_peers(&other, 1, SOON);
    let new = builder().arg("--takeover").start();
    assert_eq!(old.wait_exit(SOON), Some(0));
    assert_eq!(peers(&other), 1, "a goodbye would have been heard by now");
    expect_peers(&new, 1, Duration::from_secs(14));
    let mut as_the_old_one = online(&business);
    as_the_old_one["port"] = json!(port.number);
    tell(&udp, as_the_old_one.to_string());
    let peer = scripted_peer();
    tell(&udp, online(&peer).to_string());
    expect_peers(&new, 2, SOON);
    std::thread::sleep(ms(500));
    assert_eq!(peers(&new), 2, "it is its own peer");
}

#[test]
fn bad_datagrams_are_ignored() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let socket = shared_udp(port.number);
    let server = discoverable(&business, &port).start();
    let own = announcement(&socket, &server).0["server_identity"].clone();
    let bad = [
        "junk".into(),
        String::new(),
        "[]".into(),
        "{}".into(),
        "null".into(),
        "[".repeat(1000),
        changed(&peer, "cluster_name", Some(json!("other"))),
        changed(&peer, "cluster_name", Some(json!(1))),
        changed(&peer, "cluster_name", None),
        changed(&peer, "server_identity", Some(own)),
        changed(&peer, "server_identity", None),
        changed(&peer, "msgtype", Some(json!("hello"))),
        changed(&peer, "msgtype", None),
        changed(&peer, "port", None),
        changed(&peer, "port", Some(json!(0))),
        changed(&peer, "port", Some(json!(-1))),
        changed(&peer, "port", Some(json!(65536 + u32::from(peer.port())))),
        changed(&peer, "port", Some(json!("80"))),
        changed(&peer, "padding", Some(json!("x".repeat(1024)))),
    ];
    for datagram in bad {
        tell(&port, datagram);
    }
    tell(&port, b"\xff\xfe{}");
    std::thread::sleep(ms(500));
    assert!(peer.requests().is_empty(), "{:?}", peer.requests());
    tell(&port, online(&peer).to_string());
    expect_peers(&server, 1, SOON);
}

#[test]
fn a_peer_is_in_once_it_answered() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let server = discoverable(&business, &port).start();
    for reply in [
        Reply::ok("no").status(500),
        Reply::ok("").status(204),
        Reply::ok("no").status(404),
        // Some other service that answers everything: it is sent no messages and no signatures.
        Reply::ok("<html>hello</html>"),
        Reply::ok(""),
    ] {
        peer.reply("/hello/", reply);
        let asked = peer.requests().len();
        tell(&port, online(&peer).to_string());
        let probe = peer.wait_for("/hello/", asked + 1, SOON).pop().expect("a probe");
        assert_eq!(
            (probe.method.as_str(), probe.target.as_str()),
            ("GET", "/hello/"),
            "no signature"
        );
        std::thread::sleep(ms(200));
        assert_eq!(peers(&server), 0);
    }
    peer.reply("/hello/", Reply::ok("ok"));
    tell(&port, online(&peer).to_string());
    expect_peers(&server, 1, SOON);
    let asked = peer.requests().len();
    tell(&port, online(&peer).to_string());
    std::thread::sleep(ms(300));
    assert_eq!(
        (peers(&server), peer.requests().len()),
        (1, asked),
        "known: asked no more"
    );
    tell(&port, changed(&peer, "msgtype", Some(json!("offline"))));
    expect_peers(&server, 0, SOON);
}

#[test]
fn a_silent_peer_is_dropped_also_by_a_lone_survivor() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let builder = discoverable(&business, &port).set("cluster_broadcast", "");
    let server = builder.start();
    tell(&port, online(&peer).to_string());
    expect_peers(&server, 1, SOON);
    std::thread::sleep(Duration::from_secs(5));
    tell(&port, online(&peer).to_string());
    let heard = Instant::now();
    expect_peers(&server, 0, Duration::from_secs(36));
    let silent = heard.elapsed();
    assert!(silent > Duration::from_secs(29), "dropped after {silent:?}");
    assert_eq!(peer.requests_to("/hello/").len(), 1);
}

#[test]
fn a_flood_of_datagrams_does_no_harm() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let server = discoverable(&business, &port).start();
    for n in 1..20_000u32 {
        let datagram = changed(&peer, "port", Some(json!(n % 9 + 1))); // nobody answers there
        tell(&port, datagram);
    }
    assert_eq!(server.send("room", 0, "x"), json!({"status": 0}));
    let joined = super::eventually(SOON, || {
        tell(&port, online(&peer).to_string());
        peers(&server) == 1
    });
    assert!(joined, "the flood is over");
}

#[test]
fn a_port_that_is_taken_is_tried_again() {
    let (business, peer, port) = (Business::start(), scripted_peer(), ports::claim());
    let taken = UdpSocket::bind(("0.0.0.0", port.number)).expect("bind");
    let server = discoverable(&business, &port).start();
    assert_eq!(server.send("room", 0, "x"), json!({"status": 0}), "serves without");
    drop(taken);
    let joined = super::eventually(Duration::from_secs(16), || {
        tell(&port, online(&peer).to_string());
        std::thread::sleep(ms(200));
        peers(&server) == 1
    });
    assert!(joined, "{}", server.log_tail());
}
