//! Runs of the simulator: many seeds, one seed again, and the check of the check.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bugs::Bug;
use crate::coverage::Coverage;
use crate::world::World;

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

fn fail(seed: u64, error: &str) -> ! {
    let mut again = World::new(seed, None, true);
    let repeated = run(&mut again).err();
    let trace: Vec<_> = again.trace().cloned().collect();
    panic!(
        "seed {seed}: {error}\n(once more: {repeated:?})\n{} shards, {} clients, settings {:?}\n{}\nrepeat with SIM_SEED={seed}",
        again.plan.shards,
        again.plan.clients,
        again.plan.settings,
        trace.join("\n"),
    );
}

#[test]
fn seeds() {
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(300),
    };
    let mut sum = Coverage::default();
    let many = seeds.end - seeds.start >= 100;
    for seed in seeds {
        let mut world = World::new(seed, None, false);
        if let Err(error) = run(&mut world) {
            fail(seed, &error);
        }
        world.cover(&mut sum);
    }
    println!("{sum:#?}");
    assert!(!many || sum.is_full(), "something never happened: {sum:#?}");
}

#[test]
fn one_seed_one_run() {
    let trace = |seed| {
        let mut world = World::new(seed, None, true);
        let _ = run(&mut world);
        (world.seq, world.trace().cloned().collect::<Vec<_>>())
    };
    for seed in 0..3 {
        assert_eq!(trace(seed), trace(seed));
    }
}

#[test]
fn the_oracle_notices_planted_bugs() {
    // `seeds` finds nothing without the bug: what is found here is the bug.
    let mut unnoticed = Vec::new();
    for bug in Bug::ALL {
        match (0..60).find_map(|seed| {
            run(&mut World::new(seed, Some(bug), false))
                .err()
                .map(|error| (seed, error))
        }) {
            Some((seed, error)) => println!("{bug:?}: seed {seed}: {}", error.lines().next().unwrap_or_default()),
            None => unnoticed.push(bug),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
