//! Instructions of the parts, counted by valgrind: exact enough for a gate on any machine, blind to caches and system calls.
//!
//! ```text
//! cargo bench --bench instructions              count, compare with benches/baseline.json; fails above 5 % more
//! cargo bench --bench instructions -- --bless   count and write the baseline
//! ```
//! One valgrind run counts all: collection is on only inside [`measured`], and callgrind writes one file after each call
//! of it.
//!
//! Why the counts hold on other machines: valgrind does not pass the processor through. On every x86-64 with AVX2 the
//! program sees the same Intel Haswell, caches included: AVX2 and BMI2, no SHA extensions, no AVX-512. So glibc, memchr,
//! httparse, simdutf8, sha1 and sha2 choose the same code everywhere, and a processor without AVX2 is refused here. What
//! does matter is the compiler, glibc and valgrind itself; the last line of the baseline names those it was counted with.

mod bodies;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Units per body.
const UNITS: u32 = 100;
/// More than this many per cent above the baseline fails.
const PERCENT_MAX: f64 = 5.0;
/// The line of the baseline that says what it was counted with.
const TOOLS: &str = "~ counted with";

type Counts = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|word| word == "--child") {
        return child();
    }
    // `cargo test --benches` only wants to know that it runs.
    if arguments.iter().any(|word| word == "--test") {
        return ExitCode::SUCCESS;
    }
    let result = tools().and_then(|tools| {
        let counts = count()?;
        if arguments.iter().any(|word| word == "--bless") {
            return bless(&counts, &tools).map(|()| true);
        }
        compare(&counts, &tools)
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

/// What else the counts depend on, by version; an error without valgrind.
fn tools() -> Result<String, String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .next()
            .filter(|_| output.status.success())
            .map(str::to_owned)
    };
    let valgrind = version("valgrind").ok_or("valgrind is not installed; `.ci/packages` does it")?;
    let rustc = version(option_env!("RUSTC").unwrap_or("rustc")).unwrap_or_default();
    // The version of glibc, without asking it (no unsafe code).
    let glibc = version("ldd").unwrap_or_default();
    Ok(format!("{rustc}, {glibc}, {valgrind}"))
}

/// Whether the processor valgrind presents is the one of the baseline.
fn has_the_processor() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && !std::is_x86_feature_detected!("sha");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Runs every body under valgrind.
fn child() -> ExitCode {
    if !has_the_processor() {
        eprintln!("the counts are for x86-64 with AVX2, and valgrind cannot present that on this processor");
        return ExitCode::FAILURE;
    }
    for mut body in bodies::all(bodies::SIZES) {
        // The first units fill caches of the body's own; they are not what is asked.
        (0..3).for_each(|_| (body.run)());
        measured(&mut body.run);
    }
    ExitCode::SUCCESS
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

fn bless(counts: &Counts, tools: &str) -> Result<(), String> {
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("  \"{name}\": {count:.1}"))
        .collect();
    lines.push(format!("  \"{TOOLS}\": \"{tools}\""));
    fs::write(baseline(), format!("{{\n{}\n}}\n", lines.join(",\n"))).map_err(|error| error.to_string())?;
    println!("instructions: baseline written, {} bodies", counts.len());
    Ok(())
}

/// Prints the differences; false if one is too large, or the baseline is of other bodies.
fn compare(counts: &Counts, tools: &str) -> Result<bool, String> {
    let text = fs::read_to_string(baseline()).map_err(|error| format!("{}: {error}", baseline().display()))?;
    let known: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    println!(
        "{:<34} {:>14} {:>14} {:>8}",
        "instructions per unit", "baseline", "now", "change"
    );
    for (name, now) in counts {
        let Some(before) = known.get(name).and_then(serde_json::Value::as_f64) else {
            println!("{name:<34} {:>14} {now:>14.1}      new", "-");
            wrong.push(name.as_str());
            continue;
        };
        let percent = (now / before - 1.0) * 100.0;
        let verdict = if percent > PERCENT_MAX {
            wrong.push(name);
            "  TOO MUCH"
        } else if percent < -PERCENT_MAX {
            "  better: --bless keeps it"
        } else {
            ""
        };
        println!("{name:<34} {before:>14.1} {now:>14.1} {percent:>+7.1}%{verdict}");
    }
    for gone in known
        .keys()
        .filter(|name| !counts.contains_key(*name) && *name != TOOLS)
    {
        println!("{gone:<34} is in the baseline only");
        wrong.push(gone);
    }
    if wrong.is_empty() {
        return Ok(true);
    }
    println!(
        "instructions: {} more than {PERCENT_MAX} % above benches/baseline.json, or not the same bodies; if that is meant, \
         run with --bless and say why",
        wrong.join(", ")
    );
    let counted = known.get(TOOLS).and_then(|value| value.as_str()).unwrap_or_default();
    if counted != tools {
        println!("  the baseline was counted with {counted}\n  this is                       {tools}");
        println!("  to tell them apart, count the commit before the change here too");
    }
    Ok(false)
}
