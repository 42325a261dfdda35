//! Instructions of the parts, counted by valgrind: exact enough for a gate on any machine, blind to caches and system calls.
//!
//! ```text
//! cargo bench --bench instructions              count, compare with benches/baseline.json; fails above 5 % more
//! cargo bench --bench instructions -- --bless   count and write the baseline
//! ```
//! One valgrind run counts all: collection is on only inside [`measured`], and callgrind writes one file after each call
//! of it. Without valgrind it says so and succeeds. Numbers depend on the compiler: bless after changing `rust-version`.

mod bodies;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Units per body.
const UNITS: u32 = 100;
/// More than this many per cent above the baseline fails.
const PERCENT_MAX: f64 = 5.0;
const SIZES: bodies::Sizes = bodies::Sizes {
    timers: 100_000,
    channels: 10_000,
    members: 1000,
};

type Counts = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|word| word == "--child") {
        child();
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only wants to know that it runs.
    if arguments.iter().any(|word| word == "--test") {
        return ExitCode::SUCCESS;
    }
    if !Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("instructions: skipped, valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let result = count().and_then(|counts| {
        if arguments.iter().any(|word| word == "--bless") {
            return bless(&counts).map(|()| true);
        }
        compare(&counts)
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every body under valgrind.
fn child() {
    for mut body in bodies::all(SIZES) {
        // The first units fill caches of the body's own; they are not what is asked.
        (0..3).for_each(|_| (body.run)());
        measured(&mut body.run);
    }
}

#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    (0..UNITS).for_each(|_| run());
}

/// Instructions per unit by body.
fn count() -> Result<Counts, String> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{}", std::process::id()));
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args([
            // Two patterns: callgrind forgets one of two options that have the same.
            "--toggle-collect=*instructions*measured*",
            "--dump-after=instructions::measured*",
        ])
        .arg(format!("--callgrind-out-file={}/out", dir.display()))
        .arg(program)
        .arg("--child")
        .output()
        .map_err(|error| error.to_string())?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned());
    }
    // No body is prepared twice: names come from an empty set.
    let names: Vec<_> = bodies::all(bodies::Sizes {
        timers: 1,
        channels: 1,
        members: 1,
    })
    .into_iter()
    .map(|body| body.name)
    .collect();
    let counts = names.iter().enumerate().map(|(at, name)| {
        let total = total(&dir.join(format!("out.{}", at + 1)))?;
        Ok(((*name).to_owned(), total as f64 / f64::from(UNITS)))
    });
    let counts = counts.collect::<Result<Counts, String>>()?;
    let _ = fs::remove_dir_all(&dir);
    Ok(counts)
}

fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    line.and_then(|number| number.trim().parse().ok())
        .ok_or(format!("{}: no summary", file.display()))
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline.json")
}

fn bless(counts: &Counts) -> Result<(), String> {
    let lines: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("  \"{name}\": {count:.1}"))
        .collect();
    fs::write(baseline(), format!("{{\n{}\n}}\n", lines.join(",\n"))).map_err(|error| error.to_string())?;
    println!("instructions: baseline written, {} bodies", counts.len());
    Ok(())
}

/// Prints the differences; false if one is too large.
fn compare(counts: &Counts) -> Result<bool, String> {
    let text = fs::read_to_string(baseline()).map_err(|error| format!("{}: {error}", baseline().display()))?;
    let known: Counts = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut good = true;
    println!(
        "{:<34} {:>14} {:>14} {:>8}",
        "instructions per unit", "baseline", "now", "change"
    );
    for (name, now) in counts {
        let Some(before) = known.get(name) else {
            println!("{name:<34} {:>14} {now:>14.1}      new", "-");
            continue;
        };
        let percent = (now / before - 1.0) * 100.0;
        let verdict = if percent > PERCENT_MAX { "  TOO MUCH" } else { "" };
        good &= percent <= PERCENT_MAX;
        println!("{name:<34} {before:>14.1} {now:>14.1} {percent:>+7.1}%{verdict}");
    }
    if !good {
        println!(
            "instructions: more than {PERCENT_MAX} % above benches/baseline.json; if that is meant, run with --bless and say why"
        );
    }
    Ok(good)
}
