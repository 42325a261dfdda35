//! The workloads and the cases they consist of.

mod calls;
mod connect;
mod echo;
mod fanout;
mod idle;
mod interference;
mod mixed;
mod pipelined;
mod upstream;

use crate::Failure;
use crate::options::Options;
use crate::results::{Part, Round};
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
    /// Where its result is shown.
    pub part: Part,
    /// Whether servers other than floor take part.
    pub others: bool,
}

impl Case {
    fn new(name: String, target: Option<&'static str>, work: impl Work + 'static) -> Self {
        Self {
            name,
            work: Box::new(work),
            target,
            rounds: None,
            part: Part::Work,
            others: true,
        }
    }
}

/// Workloads in the order of the report.
const ALL: [&str; 11] = [
    "fanout",
    "echo",
    "send0",
    "pipelined",
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
            "report" => {
                ALL.iter()
                    .chain(&["scale", "shards"])
                    .try_for_each(|name| push(&mut cases, name, options))?;
                cases
                    .iter_mut()
                    .for_each(|case| case.others = case.part == Part::Work && is_for_others(&case.name));
            }
            name => push(&mut cases, name, options)?,
        }
    }
    Ok(cases)
}

/// The cases of the report in which other servers take part: closed loops of sizes that take a slow one seconds.
fn is_for_others(name: &str) -> bool {
    let closed = ["send0", "acked", "roundtrip", "upstream", "connect"];
    name == "fanout 1000 x 64 B"
        || closed.contains(&name.split(' ').next().unwrap_or_default()) && !name.contains("open loop")
}

/// The same work on one shard and on two. One operation needs the shards only a little or not at all to talk to each other,
/// but for what crosses the home shard of a channel.
fn shards(options: &Options) -> Vec<Case> {
    let members = if options.quick { 100 } else { 1000 };
    let mut cases = vec![
        fanout::case(members),
        fanout::burst(members, 10),
        echo::case(100, 1, ""),
    ];
    cases.extend(calls::cases("acked", options));
    cases.push(pipelined::case(options));
    cases.extend(upstream::cases(options).pop());
    cases.extend(connect::cases(options));
    cases
        .into_iter()
        .map(|case| Case {
            name: format!("{}, shards", case.name),
            target: Some("1.8 x throughput"),
            part: Part::Shards,
            ..case
        })
        .collect()
}

/// The same work for more and more members, and for more and more connections.
fn scale(options: &Options) -> Vec<Case> {
    let sizes: &[usize] = if options.quick {
        &[10, 100]
    } else {
        &[10, 100, 1000, 10_000]
    };
    let fanout = sizes.iter().map(|members| Case {
        part: Part::Growth("fan-out, µs per delivery", *members),
        ..fanout::case(*members)
    });
    let echo = sizes.iter().map(|clients| Case {
        part: Part::Growth("echo, µs per COM", *clients),
        ..echo::case(*clients, 1, "1.10 x floor")
    });
    fanout.chain(echo).collect()
}

fn push(cases: &mut Vec<Case>, name: &str, options: &Options) -> Result<(), Failure> {
    let made = match name {
        "fanout" => fanout::cases(options),
        "echo" => echo::cases(options),
        "send0" | "acked" | "roundtrip" => calls::cases(name, options),
        "pipelined" => vec![pipelined::case(options)],
        "upstream" => upstream::cases(options),
        "connect" => connect::cases(options),
        "idle" => idle::cases(options),
        "scale" => scale(options),
        "shards" => shards(options),
        "mixed" => mixed::cases(options),
        "interference" => interference::cases(options),
        other => return Err(format!("there is no workload {other:?}; see --help").into()),
    };
    cases.extend(made);
    Ok(())
}
