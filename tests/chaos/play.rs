//! Steps the scenarios share.

use crate::audit::{Report, audit};
use crate::common::server::{Builder, Server, TOKEN};
use crate::measure::{self, scrape};
use crate::roles::{Role, Stage, wait_until};
use std::time::Duration;

/// How long something may take that ought to happen soon. Generous: only that it happens is under test.
pub const LONG: Duration = Duration::from_secs(90);

/// A server for the processes of a stage. Messages of a client in order, so that the auditor can look at it.
pub fn server(stage: &Stage) -> Builder {
    let base = format!("http://{}", stage.place.business);
    Builder::bare()
        .on(&stage.server_port)
        .set("connect_url", format!("{base}/connect/"))
        .set("forward_url", format!("{base}/message/{{message_type}}/"))
        .set("close_url", format!("{base}/close/"))
        .set("security_token", TOKEN)
        .set("cluster_udp", "no")
        .set("forward_order", "client")
        // Two, so that messages pass between cores.
        .set("workers", 2)
}

/// Clients that talk, callers that publish, some of both coming and going.
pub fn begin(load: &mut Role, clients: u64) {
    load.say(format!("clients {clients}"));
    everybody_is_in(load, clients);
    load.say("say 300");
    load.say("publish 200");
    load.say("churn 1");
}

pub fn everybody_is_in(load: &mut Role, clients: u64) {
    wait_until(load, LONG, "every client is in", |now| now["open"] == clients);
}

/// For that long, as it is.
pub fn go_on(time: Duration) {
    std::thread::sleep(time);
}

/// Lets everything come to rest, audits, lets all clients leave, audits again.
pub fn end(scenario: &str, stage: &mut Stage, server: &Server, load: &mut Role, clients: u64) -> Report {
    for command in ["churn 0", "slow 0", "publish 0"] {
        load.say(command);
    }
    wait_until(load, LONG, "every caller is answered", |now| now["calls"] == 0);
    load.say("say 0");
    stage.business.say("fail 0");
    wait_until(load, LONG, "every message is acknowledged", |now| {
        now["open"] == clients && now["waiting"] == 0
    });
    expect_open(server, clients);
    measure::expect_settled_books(server);
    // A message without acknowledgement may still be on a slow line. What is wrong stays wrong.
    let mut clean = Report::default();
    crate::common::eventually(LONG, || {
        let (said, heard) = stage.events();
        clean = audit(&said, &heard);
        clean.violations.is_empty()
    });
    assert_eq!(
        clean.violations,
        Vec::<String>::new(),
        "{} while clients are there",
        clean.broken
    );
    load.say("leave");
    expect_open(server, 0);
    measure::expect_settled_books(server);
    let (said, heard) = stage.events();
    let report = audit(&said, &heard);
    report.expect_clean(scenario);
    assert!(report.answered > 0 && report.closes > 0, "nothing happened: {report}");
    report
}

fn expect_open(server: &Server, clients: u64) {
    let mut open = 0.0;
    let right = crate::common::eventually(LONG, || {
        open = measure::cores(&scrape(server), "rainbow_sessions_open");
        open == clients as f64
    });
    assert!(right, "the server holds {open} clients, {clients} are there");
}
