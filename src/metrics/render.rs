//! Text exposition, Prometheus format 0.0.4 (content type `text/plain; version=0.0.4`).
//!
//! Each name appears once with its HELP and TYPE, its series together. Caller: `control`, on a scrape.

use super::histogram::Snapshot;
use super::{CallbackFacts, Cell, CoreMetrics, METRICS, Row, STATUS_CLASSES, Shape};
use std::fmt::{Display, Write};
use std::time::Duration;

/// What only the process as a whole knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extra<'a> {
    /// Since the start of the process.
    pub uptime: Duration,
    /// One for each kind of callback.
    pub callbacks: &'a [CallbackFacts<'a>],
    /// Further gauges; those of one name next to each other.
    pub gauges: &'a [Gauge<'a>],
}

/// One further gauge.
#[derive(Debug, Clone, Copy)]
pub struct Gauge<'a> {
    /// Whole name, starting with `rainbow_`; `_total` at its end makes it a counter.
    pub name: &'a str,
    /// Text of the HELP line.
    pub help: &'a str,
    /// Label names and values.
    pub labels: &'a [(&'a str, &'a str)],
    /// The value.
    pub value: f64,
}

/// The page.
pub fn render(cores: &[&CoreMetrics], extra: Extra<'_>) -> String {
    let mut page = Page::default();
    for (index, row) in METRICS.iter().enumerate() {
        page.row(
            row,
            cores
                .iter()
                .filter_map(|core| Some((core.core.as_str(), core.values.get(index)?.value()))),
        );
    }
    closes(&mut page, cores);
    super::callbacks::callbacks(&mut page, extra.callbacks);
    api(&mut page, cores);
    histograms(&mut page, cores);
    process(&mut page, cores, extra);
    page.out
}

fn closes(page: &mut Page, cores: &[&CoreMetrics]) {
    page.head("rainbow_closes_total", Shape::Counter, "Closed connections by cause.");
    let Some(first) = cores.first() else { return };
    for (index, cause) in first.labels.close_causes.iter().enumerate() {
        page.series("", &[("cause", cause)], sum(cores, |core| core.closes.get(index)));
    }
}

fn api(page: &mut Page, cores: &[&CoreMetrics]) {
    page.head(
        "rainbow_api_requests_total",
        Shape::Counter,
        "Answered HTTP requests by route and status class.",
    );
    let Some(first) = cores.first() else { return };
    for (r, route) in first.labels.api_routes.iter().enumerate() {
        for (c, class) in STATUS_CLASSES.iter().enumerate() {
            page.series(
                "",
                &[("route", route), ("status", class)],
                sum(cores, |core| core.api.get(r)?.get(c)),
            );
        }
    }
}

fn histograms(page: &mut Page, cores: &[&CoreMetrics]) {
    page.begin(
        "rainbow_publish_seconds",
        "histogram",
        "Time from a publish to its answer, QoS 1 and 2.",
    );
    let mut snapshot = Snapshot::default();
    cores.iter().for_each(|core| core.publish_latency.add_to(&mut snapshot));
    page.histogram(&[], &snapshot);
}

fn process(page: &mut Page, cores: &[&CoreMetrics], extra: Extra<'_>) {
    page.head(
        "rainbow_driver_info",
        Shape::Gauge,
        "Kernel interface each core runs on.",
    );
    for core in cores {
        let driver = core.driver.get().copied().unwrap_or("unknown");
        page.series("", &[("core", &core.core), ("driver", driver)], 1);
    }
    page.head("rainbow_build_info", Shape::Gauge, "Version of the server.");
    page.series("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.head("rainbow_uptime_seconds", Shape::Gauge, "Time since the start.");
    page.series("", &[], extra.uptime.as_secs_f64());
    for gauge in extra.gauges {
        let shape = if gauge.name.ends_with("_total") {
            Shape::Counter
        } else {
            Shape::Gauge
        };
        page.head(gauge.name, shape, gauge.help);
        page.series("", gauge.labels, gauge.value);
    }
}

fn sum<'a>(cores: &[&'a CoreMetrics], cell: impl Fn(&'a CoreMetrics) -> Option<&'a Cell>) -> u64 {
    cores
        .iter()
        .filter_map(|core| cell(core))
        .fold(0, |sum, cell| sum.wrapping_add(cell.value()))
}

/// The text so far and the name its last HELP line announced. Writing to a String cannot fail.
#[derive(Default)]
pub(super) struct Page {
    out: String,
    name: String,
}

impl Page {
    /// A row of the table: for each core, or the sum. Gauges are signed, see [`Cell`].
    fn row<'a>(&mut self, row: &Row, values: impl Iterator<Item = (&'a str, u64)>) {
        self.head(row.name, row.shape, row.help);
        if row.per_core {
            for (core, value) in values {
                self.series("", &[("core", core)], value as i64);
            }
        } else {
            let sum = values.fold(0u64, |sum, (_, value)| sum.wrapping_add(value));
            let labels = if row.label.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", row.label)
            };
            let _ = match row.shape {
                Shape::Counter => writeln!(self.out, "{}{labels} {sum}", row.name),
                Shape::Gauge => writeln!(self.out, "{}{labels} {}", row.name, sum as i64),
            };
        }
    }

    pub(super) fn head(&mut self, name: &str, shape: Shape, help: &str) {
        let word = match shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
        };
        self.begin(name, word, help);
    }

    /// HELP and TYPE, once per name.
    pub(super) fn begin(&mut self, name: &str, word: &str, help: &str) {
        if self.name != name {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {word}\n");
            name.clone_into(&mut self.name);
        }
    }

    /// One line of the current name.
    pub(super) fn series(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{close} {value}");
    }

    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], snapshot: &Snapshot) {
        for (bound, count) in snapshot.cumulated() {
            self.series("_bucket", &[labels, &[("le", &bound.to_string())]].concat(), count);
        }
        self.series("_bucket", &[labels, &[("le", "+Inf")]].concat(), snapshot.count());
        self.series("_sum", labels, snapshot.sum_seconds());
        self.series("_count", labels, snapshot.count());
    }
}
