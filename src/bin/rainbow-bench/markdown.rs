//! Results as the tables of docs/performance.md.

use std::fmt::Write;

use crate::plot::short;
use crate::report;
use crate::results::{CaseResult, Outcome, Part};

/// Everything that was measured, a table for each kind of result.
pub fn tables(results: &[CaseResult]) -> String {
    let mut text = String::new();
    for (key, value) in report::machine() {
        let _ = writeln!(text, "- {key}: {value}");
    }
    let is_work = |result: &&CaseResult| matches!(result.part, Part::Work | Part::Growth(..));
    let rows = |wanted: &dyn Fn(&&CaseResult) -> bool, row: &dyn Fn(&CaseResult) -> String| {
        let rows = results.iter().filter(wanted).map(row);
        rows.collect::<String>()
    };
    let mut table = |title: &str, head: &str, rows: String| {
        if !rows.is_empty() {
            let _ = write!(text, "\n### {title}\n\n{head}\n{rows}");
        }
    };
    table(
        "Work",
        "| work (per) | CPU µs | low..high | user | floor µs | × floor | per second | busy | p50 µs | p99 µs | p99.9 µs |\n\
         | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        rows(&is_work, &work),
    );
    let others = |result: &&CaseResult| is_work(result) && other(result).is_some();
    table(
        "Beside another server",
        "| work (per) | rainbow µs | other | its µs | its / rainbow | rainbow p50 µs | its p50 µs |\n\
         | --- | ---: | --- | ---: | ---: | ---: | ---: |",
        rows(&others, &beside),
    );
    table(
        "Idle clients",
        "| case | server | bytes per client | slab per client, both ends | CPU µs per second |\n\
         | --- | --- | ---: | ---: | ---: |",
        rows(&|result| result.part == Part::Idle, &idle),
    );
    table(
        "Interference",
        "| beside it | p50 µs | p99 µs | p99.9 µs | undisturbed p50 / p99 / p99.9 µs | × |\n\
         | --- | ---: | ---: | ---: | --- | ---: |",
        rows(&|result| result.part == Part::Interference, &interference),
    );
    table(
        "Shards",
        "| work (per) | 1 shard, µs | 2 shards, µs | throughput, computed | by the busier shard |\n\
         | --- | ---: | ---: | ---: | ---: |",
        rows(&|result| result.part == Part::Shards, &shards),
    );
    text
}

fn name(result: &CaseResult) -> String {
    format!("{} ({})", result.name.trim_end_matches(", shards"), result.unit)
}

fn latency(outcome: &Outcome) -> [String; 3] {
    let [p50, _, p99, p999, _] = match outcome.latency_us() {
        Some(all) => all.map(short),
        None => Default::default(),
    };
    [p50, p99, p999]
}

fn work(result: &CaseResult) -> String {
    let own = &result.outcomes[0];
    let (us, (low, high)) = (own.cpu_us(), own.cpu_us_range());
    let floor = result.outcome("floor").map(Outcome::cpu_us);
    let [p50, p99, p999] = latency(own);
    format!(
        "| {} | {} | {}..{} | {} | {} | {} | {:.0} | {:.0} % | {p50} | {p99} | {p999} |\n",
        name(result),
        short(us),
        short(low),
        short(high),
        own.user_share()
            .map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
        floor.map_or(String::new(), short),
        floor.map_or(String::new(), |floor| format!("{:.2}", us / floor.max(1e-9))),
        own.per_second(),
        own.busy() * 100.0,
    )
}

fn other(result: &CaseResult) -> Option<&Outcome> {
    result
        .outcomes
        .iter()
        .skip(1)
        .find(|outcome| outcome.subject != "floor")
}

fn beside(result: &CaseResult) -> String {
    let own = &result.outcomes[0];
    other(result).map_or(String::new(), |other| {
        format!(
            "| {} | {} | {} | {} | {:.0} × | {} | {} |\n",
            name(result),
            short(own.cpu_us()),
            other.subject,
            short(other.cpu_us()),
            other.cpu_us() / own.cpu_us().max(1e-9),
            latency(own)[0],
            latency(other)[0],
        )
    })
}

fn idle(result: &CaseResult) -> String {
    let row = |outcome: &Outcome| {
        let extra = |name: &str| outcome.extra_named(name).unwrap_or_default();
        format!(
            "| {} | {} | {:.0} | {:.0} | {} |\n",
            result.name,
            outcome.subject,
            extra("bytes of the server per client"),
            extra("bytes of kernel slab per client, both ends"),
            short(outcome.cpu_us()),
        )
    };
    result.outcomes.iter().map(row).collect()
}

fn interference(result: &CaseResult) -> String {
    let own = &result.outcomes[0];
    let [p50, p99, p999] = latency(own);
    let quiet = |name: &str| own.extra_named(name).map_or(String::new(), short);
    format!(
        "| {} | {p50} | {p99} | {p999} | {} / {} / {} | {:.1} |\n",
        result.name.trim_start_matches("interference: "),
        quiet("undisturbed p50, µs"),
        quiet("undisturbed p99, µs"),
        quiet("undisturbed p99.9, µs"),
        own.extra_named("p99.9 disturbed / undisturbed").unwrap_or_default(),
    )
}

fn shards(result: &CaseResult) -> String {
    let us = |at: usize| {
        result
            .outcomes
            .get(at)
            .map_or(String::new(), |outcome| short(outcome.cpu_us()))
    };
    let factor = |factor: Option<f64>| factor.map_or(String::new(), |factor| format!("{factor:.2}"));
    format!(
        "| {} | {} | {} | {} | {} |\n",
        name(result),
        us(0),
        us(1),
        factor(result.shards_factor()),
        factor(result.busier_shard_factor()),
    )
}
