//! The interface of the README from before 0.01: clients that belong to a user, and `/send/` to a user (spec: section 1).
#![cfg(feature = "runtime")]

mod common;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, eventually, ms, packet};
use serde_json::json;

/// Its connect answers say that the device is the user; a device called `nobody` belongs to none.
fn business_with_users() -> Business {
    let business = Business::start();
    business.hook(|request| {
        let device = request.header("x-deviceid").filter(|_| request.path == "/connect/")?;
        let answer = match device.as_str() {
            "nobody" => Reply::success(),
            uid => Reply::ok(json!({"status": "success", "uid": uid}).to_string()),
        };
        Some(answer.header("RAINBOWCLIENTCHANNEL", "u1"))
    });
    business
}

/// Only what the older layout has.
fn older_layout(business: &Business) -> Builder {
    let base = format!("http://127.0.0.1:{}", business.port());
    Builder::bare()
        .set("auth_url", format!("{base}/connect/"))
        .set("security_key", TOKEN)
        .set("forward_url", format!("{base}/message/{{message_type}}/"))
        .set("cluster_udp", "no")
}

fn client(server: &Server, user: &str, platform: &str) -> Client {
    let mut open = Open::device(user);
    open.headers[1].1 = platform.into();
    Client::open_with(server.port(), open)
}

fn to_user(uid: &str, qos: u8) -> Request {
    Request::post("/send/", "hello")
        .query("message_type", 7)
        .query("uid", uid)
        .query("qos", qos)
        .query("timeout", 9)
}

fn acknowledge(client: &Client) {
    let (id, payload) = client.expect_send(SOON);
    assert_eq!(payload, b"hello");
    if let Some(id) = id {
        client.send(&packet::ack(id, ""));
    }
}

#[test]
fn a_user_is_reached_on_every_platform_and_told_which() {
    let business = business_with_users();
    let server = older_layout(&business).set("workers", 3).start();
    let first = client(&server, "u1", "ios");
    let others = ["android", "ios", "web"].map(|platform| client(&server, "u1", platform));
    let strangers = [client(&server, "u2", "ios"), client(&server, "nobody", "tv")];
    for qos in [0, 1] {
        std::thread::scope(|scope| {
            others
                .iter()
                .chain([&first])
                .for_each(|client| _ = scope.spawn(|| acknowledge(client)));
            let answer = server.api(&to_user("u1", qos));
            assert_eq!(answer, json!({"online_client": ["ios", "android", "web"]}));
        });
    }
    // They are in the channel that is called like the user; so is everybody else.
    strangers.iter().for_each(|client| client.expect_silence(ms(200)));
    assert_eq!(server.api(&to_user("nobody", 1)), json!({"online_client": []}));
    assert_eq!(server.channels(), [("u1".to_owned(), 6)], "users are not listed");
    let old_and_new = Request::post("/send/", "to all")
        .query("channel", "u1")
        .query("message_type", 9);
    assert_eq!(server.api(&old_and_new.query("qos", 0)), json!({"status": 0}));
    for client in others.iter().chain(&strangers) {
        assert_eq!(client.expect_send(SOON).1, b"to all");
    }
    // A platform goes with its last client, and nobody is told, since there is no close_url.
    drop(first);
    let then = json!({"online_client": ["android", "ios", "web"]});
    assert!(eventually(SOON, || server.api(&to_user("u1", 0)) == then));
    assert!(business.requests().iter().all(|request| request.path == "/connect/"));
}

#[test]
fn a_user_that_does_not_acknowledge_is_online_all_the_same() {
    let business = business_with_users();
    let server = Builder::new(&business).start();
    let silent = client(&server, "u1", "ios");
    let answer = server.api(&to_user("u1", 1).query("timeout", 1));
    assert_eq!(answer, json!({"online_client": ["ios"]}));
    assert_eq!(silent.expect_send(SOON).1, b"hello");
    let bad = Request::post("/send/", "x")
        .query("message_type", 70_000)
        .query("uid", "u1");
    assert_eq!(server.api(&bad), json!({"status": 1, "msg": "msgtype error"}));
}

#[test]
fn a_user_is_no_channel_and_does_not_count_as_one() {
    let business = business_with_users();
    let server = Builder::new(&business).set("channels_max", 1).start();
    let client = client(&server, "u7", "ios");
    // Its one channel is u1; taking everybody out of the channel u7 leaves the user u7 alone.
    assert_eq!(server.channels(), [("u1".to_owned(), 1)]);
    let vacate = json!({"identity": "x", "channel": "u7", "occupy": true}).to_string();
    server.api(&Request::post("/sub/", vacate));
    assert_eq!(server.api(&to_user("u7", 0)), json!({"online_client": ["ios"]}));
    assert_eq!(client.expect_send(SOON).1, b"hello");
}

/// A client may choose what its backend calls it: however many do, the log has one line a minute about it.
#[test]
fn users_with_names_too_long_do_not_fill_the_log() {
    let business = Business::start();
    let long = json!({"status": "success", "uid": "u".repeat(1025)}).to_string();
    business.reply("/connect/", Reply::ok(&long));
    let server = Builder::new(&business).start();
    for _ in 0..20 {
        drop(Client::open(server.port()));
    }
    let page = http::call(server.port(), &Request::get("/metrics"), SOON).expect("metrics");
    assert!(page.text().contains("\nrainbow_uids_refused_total 20\n"));
    let lines = server.log_tail().matches("the uid of a connect answer").count();
    assert!((1..=2).contains(&lines), "one line a minute: {}", server.log_tail());
}
