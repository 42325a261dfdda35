//! Results as JSON and as one self-contained page: machine, tables, plots as inline SVG.

use std::collections::BTreeMap;
use std::fmt::Write;

use plotters::prelude::*;

use crate::results::{CaseResult, Outcome};
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
const COLORS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(127, 127, 127),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
];
const SIZE: (u32, u32) = (760, 360);

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

fn machine() -> Vec<(String, String)> {
    let mut lines = proc::machine();
    let words: Vec<String> = std::env::args().skip(1).collect();
    lines.push((
        "command".into(),
        format!("rainbow-bench {}", words.join(" ").replace('"', "'")),
    ));
    lines.push(("version".into(), env!("CARGO_PKG_VERSION").into()));
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let date = rainbow_server::wire::date::http_date(unix.as_secs());
    lines.push(("date".into(), String::from_utf8_lossy(&date).into_owned()));
    lines
}

/// The page.
pub fn html(results: &[CaseResult]) -> Result<String, Failure> {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>rainbow-server: measured</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}\
         table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5em 0 1.5em}\
         td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}\
         .bar{height:.8em;display:inline-block;vertical-align:middle}svg{max-width:100%;height:auto}</style>\
         <h1>rainbow-server: measured</h1><table>",
    );
    for (key, value) in machine() {
        let _ = write!(
            page,
            "<tr><td>{}<td style=\"text-align:left\">{}",
            escape(&key),
            escape(&value)
        );
    }
    page += "</table><p>CPU is the server's, user and system, per unit of work: the median of the rounds. Servers took turns \
             in each round; the floor is a raw loop that does only the system calls the work cannot do without.</p>";
    page += "<h2>CPU per unit of work</h2>";
    page += &costs(results);
    page += "<h2>Latency</h2>";
    for (workload, cases) in by_workload(results) {
        page += &plot(
            &format!("{workload}: latency, µs (log) over percentile"),
            &latency_curves(&cases),
            Axes::Percentiles,
        )?;
    }
    let curves = growth(results);
    if !curves.is_empty() {
        page += "<h2>Cost as members and connections grow</h2>";
    }
    for (title, curves) in curves {
        page += &plot(&format!("{title}, over clients (log)"), &curves, Axes::Clients)?;
    }
    page += "<h2>Everything</h2>";
    for result in results {
        let _ = write!(page, "<pre>{}</pre>", escape(&result.table()));
    }
    Ok(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// One table with bars, the longest of a case being the whole width.
fn costs(results: &[CaseResult]) -> String {
    let mut table =
        String::from("<table><tr><th>case<th>server<th>µs<th>user<th style=\"text-align:left\">&nbsp;<th>ratio");
    for result in results.iter().filter(|result| result.point.is_none()) {
        let mut rows: Vec<(&str, f64, String)> = result
            .outcomes
            .iter()
            .map(|outcome| {
                (
                    outcome.subject,
                    outcome.cpu_us(),
                    outcome
                        .user_share()
                        .map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
                )
            })
            .collect();
        if let Some((_, us)) = ORIGINAL_US.iter().find(|(name, _)| *name == result.name) {
            rows.push(("original (recorded)", *us, String::new()));
        }
        let (own, longest) = (rows[0].1, rows.iter().map(|row| row.1).fold(1e-9, f64::max));
        for (at, (subject, us, user)) in rows.iter().enumerate() {
            let name = if at == 0 {
                escape(&format!("{} (per {})", result.name, result.unit))
            } else {
                String::new()
            };
            let ratio = if at == 0 {
                String::new()
            } else {
                format!("{:.2}", own / us.max(1e-9))
            };
            let (width, RGBColor(r, g, b)) = ((us / longest * 240.0).max(1.0), COLORS[at % COLORS.len()]);
            let _ = write!(
                table,
                "<tr><td>{name}<td>{subject}<td>{us:.3}<td>{user}<td style=\"text-align:left\">\
                 <span class=\"bar\" style=\"width:{width:.0}px;background:rgb({r},{g},{b})\"></span><td>{ratio}"
            );
        }
    }
    table + "</table>"
}

/// A named line.
type Curve = (String, Vec<(f64, f64)>);

fn by_workload(results: &[CaseResult]) -> BTreeMap<&str, Vec<&CaseResult>> {
    let mut workloads: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    let timed = |result: &&CaseResult| result.point.is_none() && result.outcomes[0].latency_us().is_some();
    for result in results.iter().filter(timed) {
        workloads
            .entry(result.name.split([' ', ':']).next().unwrap_or_default())
            .or_default()
            .push(result);
    }
    workloads
}

/// Latency over percentile, x as decades of what is above it: 1 is p90, 2 is p99.
fn latency_curves(cases: &[&CaseResult]) -> Vec<Curve> {
    let curve = |outcome: &Outcome| {
        let all = outcome.latencies();
        let steps = (0..=60).map(|step| f64::from(step) / 20.0);
        steps
            .map(|x| (x, all.value_at_quantile(1.0 - 10f64.powf(-x)) as f64 / 1e3))
            .collect()
    };
    let lines = cases
        .iter()
        .flat_map(|case| case.outcomes.iter().map(move |outcome| (case, outcome)));
    lines
        .map(|(case, outcome)| (format!("{}, {}", case.name, outcome.subject), curve(outcome)))
        .collect()
}

fn growth(results: &[CaseResult]) -> BTreeMap<&'static str, Vec<Curve>> {
    let mut plots: BTreeMap<&'static str, Vec<Curve>> = BTreeMap::new();
    for result in results {
        let Some((title, clients)) = result.point else { continue };
        let curves = plots.entry(title).or_default();
        for outcome in &result.outcomes {
            let point = ((clients as f64).log10(), outcome.cpu_us());
            match curves.iter_mut().find(|(name, _)| *name == outcome.subject) {
                Some((_, points)) => points.push(point),
                None => curves.push((outcome.subject.into(), vec![point])),
            }
        }
    }
    plots
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// x in decades above, y logarithmic.
    Percentiles,
    /// x in decades of clients, y from zero.
    Clients,
}

fn plot(title: &str, curves: &[Curve], axes: Axes) -> Result<String, Failure> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (left, right) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    let top = points().map(|point| point.1).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root);
        chart
            .caption(title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60);
        let x_label = |x: &f64| match axes {
            Axes::Percentiles if *x == 0.0 => "p0".into(),
            Axes::Percentiles => format!("p{}", ((1.0 - 10f64.powf(-x)) * 1e5).round() / 1e3),
            Axes::Clients => format!("{:.0}", 10f64.powf(*x)),
        };
        if axes == Axes::Percentiles {
            let bottom = points().map(|point| point.1).fold(f64::MAX, f64::min).max(0.1);
            let mut chart = chart.build_cartesian_2d(left..right, (bottom..top * 1.2).log_scale())?;
            chart.configure_mesh().x_labels(4).x_label_formatter(&x_label).draw()?;
            for (at, (name, points)) in curves.iter().enumerate() {
                let color = COLORS[at % COLORS.len()];
                let line = chart.draw_series(LineSeries::new(
                    points.iter().map(|(x, y)| (*x, y.max(bottom))),
                    color.stroke_width(2),
                ))?;
                line.label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .border_style(BLACK.mix(0.2))
                .draw()?;
        } else {
            let mut chart = chart.build_cartesian_2d(left..right, 0.0..top * 1.2)?;
            chart.configure_mesh().x_labels(4).x_label_formatter(&x_label).draw()?;
            for (at, (name, points)) in curves.iter().enumerate() {
                let color = COLORS[at % COLORS.len()];
                let line = chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
                line.label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .border_style(BLACK.mix(0.2))
                .draw()?;
        }
        root.present()?;
    }
    Ok(svg)
}
