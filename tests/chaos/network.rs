//! Lines that lose and delay, lines that are cut, peers that vanish without a word.

use crate::audit::audit;
use crate::common::eventually;
use crate::common::server::Server;
use crate::events::Event;
use crate::measure::{cores, expect_settled_books, scrape};
use crate::namespaces::Lines;
use crate::play::{LONG, begin, end, everybody_is_in, go_on, server};
use crate::roles::{Stage, wait_until};
use std::collections::BTreeSet;
use std::time::Duration;

const CLIENTS: u64 = 32;
/// Seconds.
const CALLBACK_TIMEOUT: u64 = 8;
const A_WHILE: Duration = Duration::from_secs(2);

/// Plays a scenario on the host of the server.
pub fn inside(scenario: &str, prefix: &str) {
    let (lines, stage) = Lines::lay(prefix);
    match scenario {
        "line_with_loss_and_delay" => line_with_loss_and_delay(lines, stage),
        "clients_cut_off" => clients_cut_off(lines, stage),
        "business_cut_off" => business_cut_off(lines, stage),
        "half_open_connections" => half_open_connections(lines, stage),
        _ => panic!("there is no scenario {scenario}"),
    }
}

/// Both lines lose 5 % of all packets in either direction and delay the others by 50 to 150 ms, out of order.
fn line_with_loss_and_delay(mut lines: Lines, mut stage: Stage) {
    for line in ["clients", "business"] {
        lines.set(line, 5, 100, 50);
    }
    // Longer than any number of retransmissions takes, so that no answer of the business server is lost.
    let server = server(&stage).set("callback_timeout", 120).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    // Calls of one client follow each other, and each takes the time of a round trip.
    load.say("say 2000");
    go_on((crate::seconds() / 2).min(Duration::from_secs(60)));
    end("line_with_loss_and_delay", &mut stage, &server, &mut load, CLIENTS);
}

/// The line of the clients is cut for a moment: nobody is lost. It is cut for longer than the server waits for a sign of life:
/// it gives them up and says so to the business server; they come back when the line does.
fn clients_cut_off(mut lines: Lines, mut stage: Stage) {
    let server = server(&stage).set("ping_interval", 3).set("ping_timeout", 10).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    go_on(A_WHILE);
    lines.cut("clients");
    go_on(A_WHILE);
    lines.mend("clients");
    go_on(A_WHILE);
    assert_eq!(load.ask("status")["cut"], 0, "a short cut costs nobody");
    lines.cut("clients");
    expect_gone(&server);
    lines.mend("clients");
    everybody_is_in(&mut load, CLIENTS);
    let cut = load.ask("status")["cut"];
    assert!(
        cut > 0 && cut <= CLIENTS,
        "{cut} clients noticed that they were given up"
    );
    go_on(A_WHILE);
    end("clients_cut_off", &mut stage, &server, &mut load, CLIENTS);
}

/// The line to the business server is cut for less than `callback_timeout`: nothing fails. It is cut for longer: messages and
/// close callbacks fail and are repeated, since nobody knows which answers were lost. Clients stay.
fn business_cut_off(mut lines: Lines, mut stage: Stage) {
    let server = server(&stage).set("callback_timeout", CALLBACK_TIMEOUT).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    go_on(A_WHILE);
    lines.cut("business");
    // A connection that is being opened tries again after a second and gives up after three.
    go_on(Duration::from_millis(500));
    lines.mend("business");
    wait_until(&mut load, LONG, "messages go on", |now| now["waiting"] < CLIENTS);
    let failed = |server: &Server| scrape(server)["rainbow_callbacks_total{kind=\"message\",event=\"failed\"}"];
    assert_eq!(failed(&server), 0.0, "a short cut costs no message");
    lines.cut("business");
    go_on(Duration::from_secs(CALLBACK_TIMEOUT + 2));
    assert!(failed(&server) > 0.0, "no message has failed");
    stage.business.say("doubt 0");
    lines.mend("business");
    everybody_is_in(&mut load, CLIENTS);
    assert_eq!(load.ask("status")["cut"], 0, "nobody is closed over it");
    go_on(A_WHILE);
    end("business_cut_off", &mut stage, &server, &mut load, CLIENTS);
}

/// Clients are killed behind a cut line, so that the server never hears of it: it finds them by `ping_interval`, by
/// `idle_timeout`, or by `tcp_user_timeout` when it has something to tell them.
fn half_open_connections(mut lines: Lines, mut stage: Stage) {
    for (found_by, cause, settings) in [
        (
            "ping_timeout",
            "ping_timeout",
            [("ping_interval", 2), ("ping_timeout", 2), ("tcp_user_timeout", 0)],
        ),
        (
            "idle_timeout",
            "idle_timeout",
            [("ping_interval", 0), ("idle_timeout", 3), ("tcp_user_timeout", 0)],
        ),
        (
            "tcp_user_timeout",
            "socket_error",
            [("ping_interval", 0), ("idle_timeout", 0), ("tcp_user_timeout", 4)],
        ),
    ] {
        let with = |builder: crate::common::server::Builder, (key, value): (&str, u32)| builder.set(key, value);
        let server = settings.into_iter().fold(server(&stage), with).start();
        let mut load = stage.load();
        load.say(format!("clients {CLIENTS}"));
        wait_until(&mut load, LONG, "everybody is in", |now| {
            now["open"] == CLIENTS && now["waiting"] == 0
        });
        lines.cut("clients");
        load.kill();
        if found_by == "tcp_user_timeout" {
            for channel in 0..=crate::load::CHANNELS {
                server.send(&channel.to_string(), 0, "0 are you there?");
            }
        }
        expect_gone(&server);
        expect_settled_books(&server);
        let page = scrape(&server);
        let series = format!("rainbow_closes_total{{cause=\"{cause}\"}}");
        assert_eq!(page[&series], CLIENTS as f64, "{series}");
        lines.mend("clients");
        println!("    half_open_connections: {CLIENTS} clients found by {found_by}");
    }
    // Nobody was left to write down that they had gone.
    let (mut said, heard) = stage.events();
    let opened: BTreeSet<u64> = said
        .iter()
        .filter_map(|event| match event {
            Event::Open { key } => Some(*key),
            _ => None,
        })
        .collect();
    assert!(opened.len() as u64 >= 3 * CLIENTS, "{} connections", opened.len());
    said.extend(opened.into_iter().map(|key| Event::Ended { key }));
    audit(&said, &heard).expect_clean("half_open_connections");
}

/// The server gives up every client.
fn expect_gone(server: &Server) {
    let mut open = 0.0;
    let gone = eventually(LONG, || {
        open = cores(&scrape(server), "rainbow_sessions_open");
        open == 0.0
    });
    assert!(gone, "the server still holds {open} clients");
}
