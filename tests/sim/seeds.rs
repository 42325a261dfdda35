//! Runs of the simulator: many seeds, one seed again, and the check of the check.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::bugs::Bug;
use crate::coverage::Coverage;
use crate::world::World;

/// Seeds of a run that nobody asked for more.
const SEEDS: u64 = 3000;
/// Seeds within which every planted bug is found.
const BUG_SEEDS: u64 = 500;
/// Events told of a seed that failed; `SIM_TRACE` asks for more.
const TRACE_LINES: usize = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs one seed; panics count as failures.
fn run(world: &mut World) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default())
    })
}

/// Runs seeds on all processors; the lowest one that `fails` of those that were tried.
fn first_failure(seeds: Range<u64>, fails: impl Fn(u64) -> Option<String> + Sync) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(None::<(u64, String)>));
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(error) = fails(seed) {
                        // Others finish what they have begun.
                        next.store(seeds.end, Ordering::Relaxed);
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(before, _)| seed < *before) {
                            *found = Some((seed, error));
                        }
                        return;
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

fn fail(seed: u64, error: &str) -> ! {
    let lines = number("SIM_TRACE").map_or(TRACE_LINES, |lines| lines as usize);
    let mut again = World::new(seed, None, lines);
    let repeated = run(&mut again).err();
    panic!(
        "seed {seed}: {error}\n(once more: {repeated:?}, hash {:016x})\n{} shards, {} clients, mailboxes of {}, settings {:#?}\n{}\n\
         repeat with: SIM_SEED={seed} cargo test --features fuzzing --test sim seeds::seeds",
        again.trace_hash(),
        again.plan.shards,
        again.plan.clients,
        again.plan.mailbox,
        again.plan.settings,
        again.last_events().join("\n"),
    );
}

#[test]
fn seeds() {
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => {
            let first = number("SIM_FIRST").unwrap_or(0);
            first..first + count.unwrap_or(SEEDS)
        }
    };
    let (many, sum) = (seeds.end - seeds.start >= 1000, Mutex::new(Coverage::default()));
    let failure = first_failure(seeds, |seed| {
        let mut world = World::new(seed, None, 0);
        let error = run(&mut world).err();
        if error.is_none() {
            let seen = world.coverage();
            sum.lock().unwrap().add(seen);
        }
        error
    });
    if let Some((seed, error)) = failure {
        fail(seed, &error);
    }
    let sum = sum.into_inner().unwrap();
    println!("{sum:#?}");
    assert!(!many || sum.is_full(), "something never happened: {sum:#?}");
}

#[test]
fn the_documents_say_how_much_is_tried() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let bugs = Bug::ALL.len();
    for (document, sentence) in [
        ("docs/reliability.md", format!("`sim/seeds.rs::seeds`, {SEEDS} worlds")),
        ("docs/reliability.md", format!("each of {bugs} bugs planted")),
        ("CONTRIBUTING.md", format!("The simulator plays {SEEDS} seeds")),
    ] {
        let text = std::fs::read_to_string(folder.join(document)).expect(document);
        assert!(text.contains(&sentence), "{document} does not say: {sentence}");
    }
}

#[test]
fn one_seed_one_run() {
    let trace = |seed| {
        let mut world = World::new(seed, None, TRACE_LINES);
        let outcome = run(&mut world);
        (outcome, world.trace_hash(), world.seq, world.last_events())
    };
    // A crowd, and some of every other kind.
    for seed in 0..12 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(0).1, trace(1).1);
}

#[test]
fn the_oracle_notices_planted_bugs() {
    // `seeds` finds nothing without the bug: what is found here is the bug.
    let mut unnoticed = Vec::new();
    let wanted = std::env::var("SIM_BUG").ok();
    for bug in Bug::ALL {
        if wanted.as_ref().is_some_and(|wanted| *wanted != format!("{bug:?}")) {
            continue;
        }
        match first_failure(0..BUG_SEEDS, |seed| run(&mut World::new(seed, Some(bug), 0)).err()) {
            Some((seed, error)) => println!("{bug:?}: seed {seed}: {}", error.lines().next().unwrap_or_default()),
            None => unnoticed.push(bug),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
