//! Servers of a cluster sign what they ask each other.

use super::*;
use common::business::Reply;
use common::client::Client;
use common::{eventually, packet, ports};
use std::sync::Arc;
use std::time::Duration;

/// Two servers that know each other.
fn pair(builders: [Builder; 2]) -> Vec<Server> {
    let ports: Vec<_> = (0..2).map(|_| Arc::new(ports::claim())).collect();
    let list = format!("127.0.0.1:{}, 127.0.0.1:{}", ports[0].number, ports[1].number);
    let start = |(builder, port): (Builder, _)| builder.set("cluster_peers", &list).on(port).start();
    let servers: Vec<Server> = builders.into_iter().zip(&ports).map(start).collect();
    servers.iter().for_each(expect_a_peer);
    servers
}

fn expect_a_peer(server: &Server) {
    let has_peer = || {
        let page = http::call(server.port(), &Request::get("/metrics"), SOON).expect("metrics");
        page.text().lines().any(|line| line == "rainbow_cluster_peers 1")
    };
    assert!(eventually(SOON, has_peer), "no peer");
}

/// Sends to a member on each server, whose acknowledgements are counted by the first.
fn reached(servers: &[Server], request: &Request) -> Value {
    let clients: Vec<Client> = servers.iter().map(|server| Client::open(server.port())).collect();
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| answer(&servers[0], request));
        for client in &clients {
            let Some(frame) = client.next(Duration::from_secs(2)) else {
                continue;
            };
            if let Some(packet::Packet::Send { id: Some(id), .. }) = packet::Packet::decode(&frame.payload) {
                client.send(&packet::ack(id, ""));
            }
        }
        asked.join().expect("no panic")
    });
    asked.1
}

#[test]
fn servers_of_a_cluster_sign_what_they_ask() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let send = || signed(TOKEN, "POST", "/send/?channel=room&qos=1&timeout=4", b"\0hi");
    let both = |n: u64| json!({"status": 0, "connections": n, "data": ""});
    let servers = pair([strict(&business), strict(&business)]);
    assert_eq!(reached(&servers, &send()), both(2));
    let unsub = br#"{"identity": "x", "channel": "room"}"#;
    assert_eq!(answer(&servers[0], &signed(TOKEN, "POST", "/unsub/", unsub)), fine());
    let page = http::call(servers[0].port(), &Request::get("/serverinfo/"), SOON).expect("page");
    let name = servers[1].info()["server"].as_str().expect("name").to_owned();
    assert!(page.text().contains(&name), "{}", page.text());
    drop(servers);
    // A server that still signs as the original does is refused, until it is accepted.
    let servers = pair([Builder::new(&business), strict(&business)]);
    let old = || {
        Request::post("/send/", "x")
            .query("channel", "room")
            .query("qos", 1)
            .query("timeout", 4)
    };
    assert_eq!(reached(&servers, &old().signed(TOKEN)), both(1));
    drop(servers);
    let lenient = strict(&business).set("signature_accept", "sha1, hmac-sha256");
    let servers = pair([Builder::new(&business), lenient]);
    assert_eq!(reached(&servers, &old().signed(TOKEN)), both(2));
}

#[test]
fn what_a_peer_is_asked() {
    let (business, peer) = (Business::start(), Business::start());
    peer.reply("/hello/", Reply::ok("ok"));
    for path in ["/send/", "/sub/", "/unsub/", "/serverinfo/", "/updateconfig/"] {
        peer.reply(path, Reply::ok(r#"{"status": 0, "connections": 0, "data": ""}"#));
    }
    let server = strict(&business)
        .set("cluster_peers", format!("127.0.0.1:{}", peer.port()))
        .start();
    expect_a_peer(&server);
    let body = br#"{"identity": "x", "channel": "room"}"#;
    let calls = [
        signed(TOKEN, "POST", "/send/?channel=gr%C3%BCn&qos=1&unknown=1", b"\0\xff"),
        signed(TOKEN, "POST", "/sub/", body),
        signed(TOKEN, "POST", "/unsub/", body),
        signed(TOKEN, "GET", "/serverinfo/", b""),
        signed(TOKEN, "GET", "/updateconfig/", b""),
    ];
    for call in &calls {
        let path = call.path.split('?').next().unwrap_or_default();
        http::call(server.port(), call, SOON).expect("an answer");
        let asked = peer.wait_for(path, 1, SOON).remove(0);
        assert_eq!((&asked.method, &asked.body), (&call.method, &call.body));
        assert!(is_signed(&asked, TOKEN), "{}", asked.target);
    }
}
