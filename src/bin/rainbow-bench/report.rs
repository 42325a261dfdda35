//! Results as JSON and as one self-contained page: machine, tables, plots as inline SVG. Nothing is loaded from elsewhere.

use std::fmt::Write;

use crate::plot::{COLORS, Line, Plot, color, escape, micros, short};
use crate::results::{CaseResult, Outcome, Part};
use crate::{Failure, proc};

/// Server CPU per operation of rainbow-server 0.05 (Python), recorded once on the same type of machine, in microseconds.
/// Shown where the original was not measured in this run.
const ORIGINAL_US: [(&str, f64); 6] = [
    ("fanout 1000 x 64 B", 23.2),
    ("send0 1 caller", 450.0),
    ("acked 1000 members", 237.0),
    ("roundtrip 1 caller", 665.0),
    ("upstream 1 clients", 604.0),
    ("connect 5000 clients, 32 at a time", 1805.0),
];
/// Of the many fan-outs, those whose latency is drawn.
const FANOUTS_DRAWN: [&str; 3] = [
    "fanout 1000 x 64 B",
    "fanout 10000 x 64 B",
    "fanout 1000 x 64 B, bursts of 10 pipelined",
];
const STYLE: &str = "
:root{color-scheme:light}
body{font:15px/1.55 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;max-width:76rem;margin:2.5rem auto;padding:0 1.5rem;color:#1d232b;background:#fff}
h1{font-size:1.9rem;margin:0 0 .2rem}h2{margin:2.6rem 0 .4rem;font-size:1.3rem}p{max-width:62rem;margin:.4rem 0 .9rem}
.note{color:#57606a}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.6rem 1.5rem;margin:1.2rem 0;padding:1rem 1.2rem;background:#f5f7f9;border-radius:8px}
dl.wide{grid-template-columns:1fr;margin-top:-.8rem}dt{font-size:.8rem;color:#57606a}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.6rem 0 1rem}
th{font-weight:600;font-size:.85rem;color:#57606a;border-bottom:2px solid #d5dae0;vertical-align:bottom}
td,th{padding:.32rem .45rem;text-align:right;white-space:nowrap}td{border-bottom:1px solid #e7eaee}
td:first-child,th:first-child,.left{text-align:left}td small{color:#57606a;display:block;line-height:1.2}
.bars{width:6rem}.bars i{display:block;height:6px;margin:2px 0;border-radius:2px;min-width:1px}
.key i{display:inline-block;width:1.4rem;height:8px;border-radius:2px;margin:0 .35rem 0 1rem}.key i:first-child{margin-left:0}
td.goal{white-space:normal;min-width:5.5rem}.good{color:#1a7f37}.bad{color:#b3261e}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(30rem,1fr));gap:1.4rem 2rem}
svg{width:100%;height:auto;font:12px system-ui,'DejaVu Sans',sans-serif;fill:#3a424c}svg .title{font-size:15px;font-weight:600;fill:#1d232b}
svg .grid{stroke:#e3e7ec}svg .axis{fill:#57606a}
pre{font-size:12px;overflow-x:auto;background:#f5f7f9;padding:1rem;border-radius:8px}summary{cursor:pointer;margin-top:2rem}";

/// All results with the machine they come from.
pub fn json(results: &[CaseResult]) -> String {
    let machine: Vec<String> = machine()
        .iter()
        .map(|(key, value)| format!("\"{key}\": \"{value}\""))
        .collect();
    let cases: Vec<String> = results.iter().map(CaseResult::json).collect();
    format!(
        "{{\"machine\": {{{}}},\n \"cases\": [\n  {}\n]}}",
        machine.join(", "),
        cases.join(",\n  ")
    )
}

/// What was measured where, when and how.
pub fn machine() -> Vec<(String, String)> {
    let mut lines = proc::machine();
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let date = rainbow_server::wire::date::http_date(unix.as_secs());
    lines.push(("date".into(), String::from_utf8_lossy(&date).into_owned()));
    lines.push(("version".into(), env!("CARGO_PKG_VERSION").into()));
    let words: Vec<String> = std::env::args().skip(1).collect();
    lines.push((
        "command".into(),
        format!("rainbow-bench {}", words.join(" ").replace('"', "'")),
    ));
    lines
}

/// The page.
pub fn html(results: &[CaseResult]) -> Result<String, Failure> {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>rainbow-server: measured</title><style>{STYLE}</style><h1>rainbow-server, measured</h1>\
         <p class=\"note\">One single-threaded load on one core, the server on another, loopback only. CPU is the server's, \
         user and system, per unit of work: the median of the rounds. Servers took turns in each round.</p>"
    );
    let (wide, facts): (Vec<_>, Vec<_>) = machine().into_iter().partition(|(key, _)| key == "command");
    for (class, facts) in [("", facts), ("wide", wide)] {
        let _ = write!(page, "<dl class=\"{class}\">");
        for (key, value) in facts {
            let _ = write!(page, "<div><dt>{}<dd>{}</div>", escape(&key), escape(&value));
        }
        page += "</dl>";
    }
    page += &costs(results);
    page += &growth(results);
    page += &latencies(results);
    page += &interference(results);
    page += &idle(results);
    page += &shards(results);
    page += "<details><summary>All numbers</summary>";
    for result in results {
        let _ = write!(page, "<pre>{}</pre>", escape(result.table().trim_start()));
    }
    Ok(page + "</details></html>\n")
}

fn of_part(results: &[CaseResult], part: Part) -> Vec<&CaseResult> {
    results.iter().filter(|result| result.part == part).collect()
}

/// CPU of floor and original for a case: measured, or recorded earlier (true).
fn original(result: &CaseResult) -> Option<(f64, bool)> {
    let recorded = || ORIGINAL_US.iter().find(|(name, _)| *name == result.name);
    match result
        .outcomes
        .iter()
        .skip(1)
        .find(|outcome| outcome.subject != "floor")
    {
        Some(other) => Some((other.cpu_us(), false)),
        None => recorded().map(|(_, us)| (*us, true)),
    }
}

/// One row per case; bars show the servers in proportion, the longest of a row being the whole width.
fn costs(results: &[CaseResult]) -> String {
    let cases = of_part(results, Part::Work);
    if cases.is_empty() {
        return String::new();
    }
    let mut table = format!(
        "<h2>CPU per unit of work</h2><p>The <em>floor</em> is a raw loop that does only the system calls the work cannot do \
         without, and so what this kernel charges at this moment. The <em>original</em> is rainbow-server 0.05 on Python 2; \
         <em>*</em> recorded earlier on the same type of machine.</p>\
         <p class=\"key note\"><i style=\"background:{}\"></i>rainbow<i style=\"background:{}\"></i>floor\
         <i style=\"background:{}\"></i>original</p>\
         <table><tr><th>work<th class=\"left\">in proportion<th>CPU µs<th>user<th>floor µs<th>× floor\
         <th>original µs<th>original /<br>rainbow<th>per second<th class=\"left\">goal",
        COLORS[0], COLORS[1], COLORS[2]
    );
    for result in cases {
        let own = &result.outcomes[0];
        let (us, (low, high)) = (own.cpu_us(), own.cpu_us_range());
        let floor = result.outcome("floor").map(Outcome::cpu_us);
        let original = original(result);
        let longest = [Some(us), floor, original.map(|it| it.0)]
            .into_iter()
            .flatten()
            .fold(1e-9, f64::max);
        let bar = |us: Option<f64>, color: &str| {
            us.map_or(String::new(), |us| {
                format!(
                    "<i style=\"width:{:.1}%;background:{color}\"></i>",
                    us / longest * 100.0
                )
            })
        };
        let number = |value: Option<f64>| value.map_or(String::new(), short);
        let _ = write!(
            table,
            "<tr><td>{}<small>per {}</small><td class=\"left bars\">{}{}{}<td><b>{}</b><small>{}..{}</small><td>{}<td>{}<td>{}<td>{}{}<td>{}\
             <td>{:.0}<small>core {:.0} % busy</small><td class=\"left goal\">{}",
            escape(&result.name),
            result.unit,
            bar(Some(us), COLORS[0]),
            bar(floor, COLORS[1]),
            bar(original.map(|it| it.0), COLORS[2]),
            short(us),
            short(low),
            short(high),
            own.user_share()
                .map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
            number(floor),
            floor.map_or(String::new(), |floor| format!("{:.2}", us / floor.max(1e-9))),
            number(original.map(|it| it.0)),
            if original.is_some_and(|it| it.1) { " *" } else { "" },
            original.map_or(String::new(), |it| format!("{:.0} ×", it.0 / us.max(1e-9))),
            own.per_second(),
            own.busy() * 100.0,
            result
                .target
                .unwrap_or_default()
                .replace("<=", "≤")
                .replace(" x ", " × "),
        );
    }
    table + "</table>"
}

/// The same work for more and more clients.
fn growth(results: &[CaseResult]) -> String {
    let points: Vec<_> = results
        .iter()
        .filter_map(|result| match result.part {
            Part::Growth(title, clients) => Some((title, clients as f64, result)),
            _ => None,
        })
        .collect();
    let mut titles: Vec<&str> = points.iter().map(|point| point.0).collect();
    titles.dedup();
    if titles.is_empty() {
        return String::new();
    }
    let mut page = String::from(
        "<h2>As members and connections grow</h2><p>What one delivery or one answer costs among so many clients. The floor \
         grows too: more sockets than fit into the caches.</p><div class=\"plots\">",
    );
    for title in titles {
        let here: Vec<_> = points.iter().filter(|point| point.0 == title).collect();
        let mut lines: Vec<Line> = Vec::new();
        for (_, clients, result) in &here {
            for (at, outcome) in result.outcomes.iter().enumerate() {
                let point = (clients.log10(), outcome.cpu_us());
                match lines.iter_mut().find(|line| line.name == outcome.subject) {
                    Some(line) => line.points.push(point),
                    None => lines.push(Line {
                        name: outcome.subject.clone(),
                        points: vec![point],
                        color: COLORS[at % COLORS.len()],
                        dashed: at > 0,
                    }),
                }
            }
        }
        let plot = Plot {
            title,
            x_ticks: here
                .iter()
                .map(|point| (point.1.log10(), point.1.to_string()))
                .collect(),
            x_name: "clients",
            log: false,
            lines,
        };
        page += &format!("<div>{}</div>", plot.svg());
    }
    page + "</div>"
}

/// Latency over percentile, a plot per workload; x in decades of what is above it: 1 is p90, 2 is p99.
fn latencies(results: &[CaseResult]) -> String {
    let timed: Vec<_> = of_part(results, Part::Work)
        .into_iter()
        .filter(|result| result.outcomes[0].latency_us().is_some())
        .filter(|result| !result.name.starts_with("fanout") || FANOUTS_DRAWN.contains(&result.name.as_str()))
        .collect();
    let workload = |result: &CaseResult| result.name.split([' ', ':']).next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = timed.iter().map(|result| workload(result)).collect();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let mut page = String::from(
        "<h2>Latency</h2><p>From when an operation began, or was due in an open loop, to its end; all rounds together. Closed \
         loops saturate the server, so their latency is that of a queue. Fan-out: from the publish to each member's receipt.</p>\
         <div class=\"plots\">",
    );
    for name in names {
        let cases = timed.iter().filter(|result| workload(result) == name).enumerate();
        let lines = cases.flat_map(|(number, result)| {
            let servers = result.outcomes.iter().enumerate();
            servers.map(move |(at, outcome)| Line {
                name: format!("{}, {}", result.name, outcome.subject),
                points: percentiles(outcome),
                color: if at < 2 {
                    color(number)
                } else {
                    COLORS[at % COLORS.len()]
                },
                dashed: at > 0,
            })
        });
        let plot = Plot {
            title: &name,
            x_ticks: [(0.0, "p0"), (0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9")]
                .map(|(x, label)| (x, label.to_owned()))
                .to_vec(),
            x_name: "percentile",
            log: true,
            lines: lines.collect(),
        };
        page += &format!("<div>{}</div>", plot.svg());
    }
    page + "</div>"
}

fn percentiles(outcome: &Outcome) -> Vec<(f64, f64)> {
    let all = outcome.latencies();
    let steps = (0..=60).map(|step| f64::from(step) / 20.0);
    steps
        .map(|x| (x, all.value_at_quantile(1.0 - 10f64.powf(-x)) as f64 / 1e3))
        .collect()
}

fn interference(results: &[CaseResult]) -> String {
    let cases = of_part(results, Part::Interference);
    if cases.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Interference</h2><p>QoS 1 round trips of a small channel, 1 000 per second from a timetable, while something large \
         happens on the same server; beside it the same server undisturbed. CPU of others on the machine shows in both. Goal: p99.9 at most three times the undisturbed one, \
         the ratio being the median of the rounds.</p>\
         <table><tr><th>beside it<th>p50<th>p99<th>p99.9<th>undisturbed p50<th>p99<th>p99.9<th>p99.9, ratio",
    );
    for result in cases {
        let own = &result.outcomes[0];
        let [p50, _, p99, p999, _] = own.latency_us().unwrap_or_default();
        let quiet = |name: &str| micros(own.extra_named(name).unwrap_or_default());
        let ratio = own.extra_named("p99.9 disturbed / undisturbed").unwrap_or_default();
        let _ = write!(
            table,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{}\"><b>{ratio:.1} ×</b>",
            escape(result.name.trim_start_matches("interference: ")),
            micros(p50),
            micros(p99),
            micros(p999),
            quiet("undisturbed p50, µs"),
            quiet("undisturbed p99, µs"),
            quiet("undisturbed p99.9, µs"),
            if ratio <= 3.0 { "good" } else { "bad" },
        );
    }
    table + "</table>"
}

fn idle(results: &[CaseResult]) -> String {
    let cases = of_part(results, Part::Idle);
    if cases.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Idle clients</h2><p>Memory the server allocated for each client, kernel slab for both ends of its connection, and \
         what doing nothing costs. Goals: 500 bytes, 300 bytes more than the floor, 50 µs.</p>\
         <table><tr><th>case<th class=\"left\">server<th>bytes per client<th>slab per client<th>CPU µs per second",
    );
    for result in cases {
        for outcome in &result.outcomes {
            let _ = write!(
                table,
                "<tr><td>{}<td class=\"left\">{}<td>{:.0}<td>{:.0}<td>{}",
                escape(&result.name),
                outcome.subject,
                outcome
                    .extra_named("bytes of the server per client")
                    .unwrap_or_default(),
                outcome
                    .extra_named("bytes of kernel slab per client, both ends")
                    .unwrap_or_default(),
                short(outcome.cpu_us()),
            );
        }
    }
    table + "</table>"
}

fn shards(results: &[CaseResult]) -> String {
    let cases = of_part(results, Part::Shards);
    if cases.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>One shard, two shards</h2><p>The same work on one shard and on two, all on one core here. The factor is computed: \
         two cores have twice the time, so throughput is 2 × CPU with one shard / CPU with two. The busier shard alone says less where \
         few connections are spread unevenly. Goal: 1.8.</p>\
         <table><tr><th>work<th>1 shard, µs<th>2 shards, µs<th>factor<th>by the busier shard",
    );
    for result in cases {
        let us = |at: usize| result.outcomes.get(at).map_or(0.0, Outcome::cpu_us);
        let factor = result.shards_factor().unwrap_or_default();
        let _ = write!(
            table,
            "<tr><td>{}<td>{}<td>{}<td class=\"{}\"><b>{factor:.2}</b><td>{:.2}",
            escape(result.name.trim_end_matches(", shards")),
            short(us(0)),
            short(us(1)),
            if factor >= 1.8 { "good" } else { "bad" },
            result.busier_shard_factor().unwrap_or_default(),
        );
    }
    table + "</table>"
}
