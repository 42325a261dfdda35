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
//! | `report.rs` | the page with plots |

mod business;
mod floor;
mod net;
mod options;
mod proc;
mod report;
mod results;
mod rig;
mod subject;
mod wire;
mod work;

use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use options::Options;
use results::{CaseResult, Outcome};
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
    let mut results = Vec::new();
    for case in &cases {
        let result = measure(case, &options)?;
        eprint!("{}", result.table());
        results.push(result);
    }
    if let Some(file) = &options.json {
        let json = report::json(&results);
        if file == "-" {
            println!("{json}");
        } else {
            std::fs::write(file, json)?;
        }
    }
    if options.workloads.iter().any(|name| name == "report") {
        std::fs::write(&options.html, report::html(&results)?)?;
        eprintln!("\nreport: {}", options.html.display());
    }
    Ok(())
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
    let mut subjects = vec![Subject::Own(options.server.clone())];
    for other in &options.against {
        match other.as_str() {
            "floor" if case.work.has_floor() => subjects.push(Subject::Floor),
            "floor" => {}
            command => subjects.push(Subject::Other(command.into())),
        }
    }
    let bar = progress(&case.name, options.rounds * subjects.len());
    let mut outcomes: Vec<Outcome> = subjects
        .iter()
        .map(|subject| Outcome {
            subject: subject.name(),
            rounds: Vec::new(),
        })
        .collect();
    for _ in 0..case.rounds.unwrap_or(options.rounds) {
        for (subject, outcome) in subjects.iter().zip(&mut outcomes) {
            let round = rig::Rig::start(subject, options)
                .and_then(|mut rig| case.work.round(&mut rig).map_err(|error| rig.explain(error)));
            let round = round.map_err(|error| format!("{}, {}: {error}", case.name, subject.name()))?;
            outcome.rounds.push(round);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(CaseResult {
        name: case.name.clone(),
        unit: case.work.unit(),
        target: case.target,
        point: case.point,
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
