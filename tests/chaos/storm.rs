//! Too many at once: a storm of clients that come back, and more of them than there are descriptors.

use crate::common::eventually;
use crate::measure::{Samples, descriptors, interface_answers, scrape, ticks};
use crate::play::{LONG, begin, end, everybody_is_in, go_on, server};
use crate::roles::{Stage, wait_until};
use crate::size;
use std::time::{Duration, Instant};

/// What the business server takes for each client.
const AUTH_MS: u64 = 200;
const BASE_KIB: u64 = 64 * 1024;
const CLIENT_KIB: u64 = 8;

/// All clients come at once, and all come back at once after a crash, while the business server takes 200 ms for each. Those
/// beyond the queue are told when to come back, and all get in; meanwhile the interface answers and memory is bounded.
pub fn reconnect_storm() {
    let clients = size("CHAOS_CLIENTS", 600);
    let mut stage = Stage::local();
    stage.business.say(format!("auth {AUTH_MS}"));
    let build = server(&stage)
        .set("auth_concurrency", (clients / 8).clamp(16, 256))
        .set("auth_queue", clients / 8);
    let mut running = build.clone().start();
    let mut load = stage.load();
    let mut samples = Samples::default();
    for again in [false, true] {
        let (start, refused) = (Instant::now(), load.ask("status")["refused"]);
        if again {
            drop(running);
            load.say("crash");
            load.ask("status");
            running = build.clone().start();
        } else {
            load.say(format!("clients {clients}"));
        }
        let (mut calls, mut longest) = (0, Duration::ZERO);
        let all_in = eventually(LONG + LONG, || {
            let (more, slowest) = interface_answers(&running, Instant::now() + Duration::from_millis(200));
            (calls, longest) = (calls + more, longest.max(slowest));
            samples.take(&running);
            load.ask("status")["open"] == clients
        });
        let now = load.ask("status");
        assert!(all_in, "{now:?}");
        let refused = now["refused"] - refused;
        assert!(refused > 0, "the queue was never full: {now:?}");
        assert_eq!(
            now["retry_after"], now["refused"],
            "every refusal says when to come back"
        );
        println!(
            "    reconnect_storm: {clients} clients in within {:.1} s, {refused} refusals; meanwhile {calls} publishes \
             answered, the slowest after {longest:?}; {} MiB at most",
            start.elapsed().as_secs_f64(),
            samples.peak_kib() / 1024,
        );
    }
    let bound = BASE_KIB + clients * CLIENT_KIB;
    assert!(
        samples.peak_kib() < bound,
        "{} KiB of at most {bound}",
        samples.peak_kib()
    );
    end("reconnect_storm", &mut stage, &running, &mut load, clients);
}

/// More clients than descriptors: those beyond are refused, nothing spins, and when there is room again all is as before.
pub fn descriptors_run_out() {
    const MOST: usize = 160;
    const FEW: u64 = 48;
    let mut stage = Stage::local();
    let server = server(&stage).descriptors(MOST).set("connections_max", 10_000).start();
    let mut load = stage.load();
    begin(&mut load, FEW);
    load.say("churn 0");
    load.say("clients 300");
    let full = eventually(LONG, || descriptors(&server) + 2 >= MOST);
    assert!(full, "{} descriptors of {MOST} are open", descriptors(&server));
    wait_until(&mut load, LONG, "clients are refused", |now| now["refused"] > 20);
    for command in ["say 0", "publish 0"] {
        load.say(command);
    }
    go_on(Duration::from_secs(2));
    let before = ticks(&server);
    go_on(Duration::from_secs(2));
    let spent = ticks(&server) - before;
    assert!(
        spent < 100,
        "{spent} ticks of processor time in two seconds of refusing"
    );
    load.say(format!("clients {FEW}"));
    everybody_is_in(&mut load, FEW);
    for command in ["say 300", "publish 200"] {
        load.say(command);
    }
    go_on(Duration::from_secs(1));
    assert!(scrape(&server)["rainbow_refused_total{reason=\"descriptors\"}"] > 0.0);
    end("descriptors_run_out", &mut stage, &server, &mut load, FEW);
}
