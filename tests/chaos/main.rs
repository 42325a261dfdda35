//! Chaos on the real binary: its business server and itself are killed, stopped and cut off, descriptors run out, clocks
//! jump, thousands of clients come at once. All sides write down what they saw (`events.rs`); an auditor reads it afterwards
//! and looks for broken promises (`audit.rs`).
//!
//! `cargo test --test chaos [NAME]` plays every scenario for some seconds; `make chaos` takes the time of docs/reliability.md.
//! `CHAOS_SECONDS` is the length of the mixed load, `CHAOS_CLIENTS` the size of the storm. This is a program of its own instead
//! of a list of `#[test]`s, since it is also the business server and the load when it is started with `--role`.
//!
//! A scenario that cannot run here is told as NOT RUN. With `CI=true` or `CHAOS_STRICT=true` (`make chaos`) that is a failure
//! unless `CHAOS_WITHOUT` names what is missing: `namespaces`, `faketime`.

// Its own tests run in the other targets.
#[allow(unused_imports)]
#[path = "../common/mod.rs"]
mod common;
#[path = "../sim/rng.rs"]
#[allow(dead_code)]
mod rng;

mod audit;
mod audit_checks;
mod business;
mod clocks;
mod crashes;
mod events;
mod load;
mod measure;
mod mixed;
mod namespaces;
mod net;
mod network;
mod play;
mod roles;
mod storm;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How a scenario ended, if it did not panic.
pub enum Outcome {
    /// It ran, and nothing was wrong.
    Passed,
    /// What is missing, as `CHAOS_WITHOUT` names it, and why.
    NotRun(&'static str, String),
}

/// Scenarios that run side by side in the short version; they mostly wait.
const AT_ONCE: usize = 4;
/// With more of mixed load than this they run alone.
const LONG: Duration = Duration::from_secs(60);

type Scenario = (&'static str, fn() -> Outcome);

const SCENARIOS: [Scenario; 13] = [
    ("audit::clean_runs_are_clean", || {
        passed(audit_checks::clean_runs_are_clean)
    }),
    ("audit::planted_violations_are_found", || {
        passed(audit_checks::planted_violations_are_found)
    }),
    ("mixed_load", || passed(mixed::mixed_load)),
    ("business_killed", || passed(crashes::business_killed)),
    ("server_killed", || passed(crashes::server_killed)),
    ("both_stopped_for_a_while", || passed(crashes::both_stopped_for_a_while)),
    ("descriptors_run_out", || passed(storm::descriptors_run_out)),
    ("reconnect_storm", || passed(storm::reconnect_storm)),
    ("the_clock_of_the_server_jumps", clocks::the_clock_of_the_server_jumps),
    ("line_with_loss_and_delay", || {
        namespaces::play("line_with_loss_and_delay")
    }),
    ("clients_cut_off", || namespaces::play("clients_cut_off")),
    ("business_cut_off", || namespaces::play("business_cut_off")),
    ("half_open_connections", || namespaces::play("half_open_connections")),
];

fn passed(scenario: fn()) -> Outcome {
    scenario();
    Outcome::Passed
}

/// A number from the environment.
pub fn size(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
    })
}

/// Seconds of mixed load.
pub fn seconds() -> Duration {
    Duration::from_secs(size("CHAOS_SECONDS", 15))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(roles::ROLE) => return roles::live(&args[1..]),
        Some(namespaces::INSIDE) => return network::inside(&args[1], &args[2]),
        _ => {}
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|(name, _)| name.contains(filter)).collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    println!("\nrunning {} scenarios", chosen.len());
    let at_once = if seconds() > LONG { 1 } else { AT_ONCE };
    let (next, failed, not_run) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((name, scenario)) = chosen.get(next.fetch_add(1, Relaxed)) {
                    run(name, *scenario, &failed, &not_run);
                }
            });
        }
    });
    let (total, failed, not_run) = (chosen.len(), failed.into_inner(), not_run.into_inner());
    println!("\nchaos: {total} scenarios, {failed} failed, {not_run} NOT RUN\n");
    std::process::exit(i32::from(failed > 0) * 101);
}

fn run(name: &str, scenario: fn() -> Outcome, failed: &AtomicUsize, not_run: &AtomicUsize) {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(scenario);
    let took = start.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Passed) => println!("test {name} ... ok ({took:.1} s)"),
        Ok(Outcome::NotRun(what, why)) => {
            println!("test {name} ... NOT RUN, {what}: {why}");
            not_run.fetch_add(1, Relaxed);
            failed.fetch_add(usize::from(is_wanted(what)), Relaxed);
        }
        Err(_) => {
            println!("test {name} ... FAILED ({took:.1} s)");
            failed.fetch_add(1, Relaxed);
        }
    }
}

/// Whether everything has to run.
fn is_strict() -> bool {
    let says_so = |name| std::env::var(name).is_ok_and(|value| value == "true");
    says_so("CI") || says_so("CHAOS_STRICT")
}

/// Whether a scenario that did not run for want of `what` is a failure.
fn is_wanted(what: &str) -> bool {
    let without = std::env::var("CHAOS_WITHOUT").unwrap_or_default();
    is_strict() && !without.split([' ', ',']).any(|word| word == what)
}
