//! The workloads and the cases they consist of.

mod calls;
mod connect;
mod echo;
mod fanout;
mod idle;
mod interference;
mod mixed;
mod upstream;

use crate::Failure;
use crate::options::Options;
use crate::results::Round;
use crate::rig::Rig;

/// A workload with its parameters.
pub trait Work {
    /// What one operation is.
    fn unit(&self) -> &'static str;
    /// Whether the raw loop can do this.
    fn has_floor(&self) -> bool {
        false
    }
    /// One round on a server just started.
    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure>;
}

/// One line of the results.
pub struct Case {
    /// Workload and parameters.
    pub name: String,
    /// What runs.
    pub work: Box<dyn Work>,
    /// The project's goal in words.
    pub target: Option<&'static str>,
    /// Rounds, if it needs fewer than the others.
    pub rounds: Option<usize>,
    /// The curve it is a point of, and where on it.
    pub point: Option<(&'static str, usize)>,
}

impl Case {
    fn new(name: String, target: Option<&'static str>, work: impl Work + 'static) -> Self {
        Self {
            name,
            work: Box::new(work),
            target,
            rounds: None,
            point: None,
        }
    }
}

/// Workloads in the order of the report.
const ALL: [&str; 10] = [
    "fanout",
    "echo",
    "send0",
    "acked",
    "roundtrip",
    "upstream",
    "connect",
    "idle",
    "mixed",
    "interference",
];

/// The cases of what was asked for.
pub fn cases(options: &Options) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    for name in &options.workloads {
        match name.as_str() {
            "all" => ALL.iter().try_for_each(|name| push(&mut cases, name, options))?,
            "report" => ALL
                .iter()
                .chain(&["scale"])
                .try_for_each(|name| push(&mut cases, name, options))?,
            name => push(&mut cases, name, options)?,
        }
    }
    Ok(cases)
}

/// The same work for more and more members, and for more and more connections.
fn scale(options: &Options) -> Vec<Case> {
    let sizes: &[usize] = if options.quick {
        &[10, 100]
    } else {
        &[10, 100, 1000, 10_000]
    };
    let fanout = sizes.iter().map(|members| Case {
        point: Some(("fan-out, µs per delivery", *members)),
        ..fanout::case(*members)
    });
    let echo = sizes.iter().map(|clients| Case {
        point: Some(("echo, µs per COM", *clients)),
        ..echo::case(*clients, 1, "1.10 x floor")
    });
    fanout.chain(echo).collect()
}

fn push(cases: &mut Vec<Case>, name: &str, options: &Options) -> Result<(), Failure> {
    let made = match name {
        "fanout" => fanout::cases(options),
        "echo" => echo::cases(options),
        "send0" | "acked" | "roundtrip" => calls::cases(name, options),
        "upstream" => upstream::cases(options),
        "connect" => connect::cases(options),
        "idle" => idle::cases(options),
        "scale" => scale(options),
        "mixed" => mixed::cases(options),
        "interference" => interference::cases(options),
        other => return Err(format!("there is no workload {other:?}; see --help").into()),
    };
    cases.extend(made);
    Ok(())
}
