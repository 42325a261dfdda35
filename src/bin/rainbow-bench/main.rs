//! `rainbow-bench`: what the server costs, measured from outside (docs/performance.md).
//!
//! One single-threaded process is all of the load: clients, callers of the API and the business server. It starts the
//! servers itself, one at a time, each on a core of its own, and reads what they used from /proc. A *case* is one workload
//! with its parameters; it runs in rounds, and in each round the servers compared take turns, so that what the machine does
//! at that moment hits all of them alike. Everything is bounded by count and time, and stays on loopback.
//!
//! | file | what |
//! | --- | --- |
//! | `net.rs`, `wire.rs`, `business.rs` | the sockets of the load |
//! | `subject.rs`, `floor.rs` | servers: own, other, and the raw loop |
//! | `rig.rs` | one started server with its clients: open, settle, measure |
//! | `work/` | the workloads |
//! | `results.rs`, `proc.rs` | numbers and where they come from |
//! | `report.rs`, `plot.rs`, `markdown.rs` | the page with plots, the tables of docs/performance.md |

mod business;
mod floor;
mod markdown;
mod net;
mod options;
mod plot;
mod proc;
mod report;
mod results;
mod rig;
mod subject;
mod wire;
mod work;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use options::Options;
use results::{CaseResult, Outcome, Part};
use subject::Subject;
use work::Case;

/// Whatever ends a run, in words.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rainbow-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let Some(options) = Options::parse()? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    rainbow_server::io::sys::raise_descriptor_limit();
    if options.workloads == ["floor"] {
        return Ok(floor::run(options.port)?);
    }
    let _session = pin(&options);
    let cases = work::cases(&options)?;
    let (mut results, started) = (Vec::new(), Instant::now());
    for (at, case) in cases.iter().enumerate() {
        if started.elapsed() > options.within {
            let left: Vec<&str> = cases[at..].iter().map(|case| case.name.as_str()).collect();
            eprintln!("\nrainbow-bench: --within is over; not measured: {}", left.join("; "));
            break;
        }
        let result = measure(case, &options)?;
        eprint!("{}", result.table());
        results.push(result);
    }
    eprintln!("\n{} cases in {:.0} s", results.len(), started.elapsed().as_secs_f64());
    if let Some(file) = &options.json {
        write(file, &report::json(&results))?;
    }
    if let Some(file) = &options.markdown {
        write(file, &markdown::tables(&results))?;
    }
    if options.workloads.iter().any(|name| name == "report") {
        std::fs::write(&options.html, report::html(&results)?)?;
        eprintln!("\nreport: {}", options.html.display());
    }
    Ok(())
}

/// To a file, or to standard output.
fn write(file: &str, text: &str) -> std::io::Result<()> {
    if file == "-" {
        println!("{text}");
        return Ok(());
    }
    std::fs::write(file, text)
}

/// Keeps the load on its own core, at its priority, which the servers inherit. `taskset` and `renice` know what this process
/// must not (no unsafe code here).
fn pin(options: &Options) -> Option<Session> {
    let pid = std::process::id().to_string();
    let done = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        if !output.is_ok_and(|output| output.status.success()) {
            eprintln!("rainbow-bench: {program} {arguments:?} failed; results will be less steady");
        }
    };
    if let Some(cores) = &options.load_cores {
        done("taskset", &["-cp", cores, &pid]);
    }
    let nice = options.nice?.to_string();
    done("renice", &["-n", &nice, "-p", &pid]);
    Session::raise(&nice)
}

/// The priority of the terminal session. Where the kernel shares cores between sessions (autogroup), priorities of processes
/// count within their session only. Put back when dropped.
struct Session {
    before: String,
}

impl Session {
    const FILE: &str = "/proc/self/autogroup";

    fn raise(nice: &str) -> Option<Self> {
        let line = std::fs::read_to_string(Self::FILE).ok()?;
        let before = line.split_whitespace().last()?.to_owned();
        std::fs::write(Self::FILE, nice).ok()?;
        Some(Self { before })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, &self.before);
    }
}

/// All rounds of one case; the servers take turns.
fn measure(case: &Case, options: &Options) -> Result<CaseResult, Failure> {
    let own = |shards| Subject::Own(options.server.clone(), shards);
    let subjects: Vec<(String, Subject)> = if case.part == Part::Shards {
        vec![("1 shard".into(), own(1)), ("2 shards".into(), own(2))]
    } else {
        let others = options.against.iter().map(|text| Subject::parse(text));
        let wanted = others.filter(|subject| match subject {
            Subject::Floor => case.work.has_floor(),
            _ => case.others,
        });
        let all = std::iter::once(own(options.workers)).chain(wanted);
        all.map(|subject| (subject.name(), subject)).collect()
    };
    let bar = progress(&case.name, case.rounds.unwrap_or(options.rounds) * subjects.len());
    let mut outcomes: Vec<Outcome> = subjects
        .iter()
        .map(|(name, _)| Outcome {
            subject: name.clone(),
            rounds: Vec::new(),
        })
        .collect();
    for _ in 0..case.rounds.unwrap_or(options.rounds) {
        for ((name, subject), outcome) in subjects.iter().zip(&mut outcomes) {
            let round = rig::Rig::start(subject, options)
                .and_then(|mut rig| case.work.round(&mut rig).map_err(|error| rig.explain(error)));
            let round = round.map_err(|error| format!("{}, {name}: {error}", case.name))?;
            outcome.rounds.push(round);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(CaseResult {
        name: case.name.clone(),
        unit: case.work.unit(),
        target: case.target,
        part: case.part,
        outcomes,
    })
}

/// A bar on a terminal, nothing elsewhere.
fn progress(name: &str, rounds: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rounds as u64);
    if let Ok(style) = ProgressStyle::with_template("{prefix:40} {bar:30} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}
