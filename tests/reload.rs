//! A reload: what takes effect when (the class of a setting), what the log says about it, and that a file with an error
//! changes nothing.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, eventually};

/// Adds lines to the file of the server, asks it to read that, and waits for what the log says.
fn reload(server: &Server, lines: &str, word: &str) -> String {
    let text = std::fs::read_to_string(&server.ini).expect("ini file");
    std::fs::write(&server.ini, format!("{text}{lines}\n")).expect("ini file");
    let count = || server.log_tail().matches(word).count();
    let before = count();
    server.signal("HUP");
    assert!(
        eventually(SOON, || count() > before),
        "{word:?} is not in: {}",
        server.log_tail()
    );
    let log = server.log_tail();
    log.lines()
        .rfind(|line| line.contains(word))
        .expect("the line")
        .to_owned()
}

const DONE: &str = "configuration read again";
const REFUSED: &str = "reload refused";

fn send_signed_with(server: &Server, token: &str) -> serde_json::Value {
    let send = Request::post("/send/", "x").query("channel", "nobody").signed(token);
    let answer = http::call(server.port(), &send, SOON).expect("an answer");
    answer.json().unwrap_or_default()
}

fn upgrade(server: &Server, origin: &str) -> u16 {
    let mut open = Open::default();
    open.headers.push(("Origin".into(), origin.into()));
    let client = Client::start(server.port(), open).expect("connect");
    client.answer(SOON).expect("an answer").status
}

#[test]
fn hot_settings_are_in_force_at_once() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    assert_ne!(send_signed_with(&server, "otherthere")["status"], 0);
    let log = reload(&server, "security_token = otherthere", DONE);
    assert!(log.contains("hot=\"security_token\""), "{log}");
    assert!(
        log.contains("new_connections=\"\"") && log.contains("needs_restart=\"\""),
        "{log}"
    );
    assert!(!log.contains("otherthere"), "{log}");
    assert_eq!(send_signed_with(&server, "otherthere")["status"], 0);
    assert_ne!(send_signed_with(&server, TOKEN)["status"], 0);
}

#[test]
fn settings_of_new_connections_leave_the_others_alone() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).start();
    let before = Client::open(server.port());
    assert_eq!(upgrade(&server, "http://elsewhere"), 101);
    let log = reload(&server, "origins = http://here", DONE);
    assert!(log.contains("new_connections=\"origins\""), "{log}");
    assert!(log.contains("hot=\"\"") && log.contains("needs_restart=\"\""), "{log}");
    assert_eq!(upgrade(&server, "http://elsewhere"), 403);
    assert_eq!(upgrade(&server, "http://here"), 101);
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    before.expect_send(SOON);
}

#[test]
fn settings_that_need_a_restart_are_named_and_kept() {
    let business = Business::start();
    let port = std::sync::Arc::new(common::ports::claim());
    let builder = Builder::new(&business).on(&port).set("workers", 2);
    let server = builder.start();
    let workers = || {
        let page = http::call(server.port(), &Request::get("/metrics"), SOON)
            .expect("metrics")
            .text();
        page.lines()
            .filter(|line| line.starts_with("rainbow_accepted_total{core="))
            .count()
    };
    let before = workers();
    let log = reload(&server, "workers = 1\ncluster_name = other", DONE);
    assert!(log.contains("needs_restart=\"cluster_name workers\""), "{log}");
    assert!(
        log.contains("hot=\"\"") && log.contains("new_connections=\"\""),
        "{log}"
    );
    assert_eq!(workers(), before);
    let again = reload(&server, "", DONE);
    assert!(
        again.contains("needs_restart=\"cluster_name workers\""),
        "until it has been: {again}"
    );
}

#[test]
fn a_file_with_an_error_changes_nothing() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    for (mistake, key) in [
        ("drain_timeout = soon", "drain_timeout"),
        (
            "tls_port = 1\ntls_cert = /nonexistent\ntls_key = /nonexistent",
            "tls_cert",
        ),
        (
            "callback_cert = /nonexistent\ncallback_key = /nonexistent",
            "callback_cert",
        ),
        ("ca_file = /nonexistent", "ca_file"),
        ("origins = http://a\n[main", ""),
    ] {
        let good = std::fs::read_to_string(&server.ini).expect("ini file");
        let log = reload(
            &server,
            &format!("security_token = otherthere\norigins = http://here\n{mistake}"),
            REFUSED,
        );
        assert!(log.contains(key), "{mistake}: {log}");
        assert_eq!(
            send_signed_with(&server, TOKEN)["status"],
            0,
            "security_token after {mistake}"
        );
        assert_eq!(upgrade(&server, "http://elsewhere"), 101, "origins after {mistake}");
        std::fs::write(&server.ini, good).expect("ini file");
    }
    std::fs::remove_file(&server.ini).expect("ini file");
    let before = server.log_tail().matches(REFUSED).count();
    let update = http::call(server.port(), &Request::get("/updateconfig/"), SOON).expect("an answer");
    assert_eq!(update.status, 200, "it says nothing about success");
    assert!(eventually(SOON, || server.log_tail().matches(REFUSED).count() > before));
    assert_eq!(send_signed_with(&server, TOKEN)["status"], 0);
}
