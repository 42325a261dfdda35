//! What the server says about itself, and what the system says about it.

use crate::common::http::{self, Request};
use crate::common::server::Server;
use crate::common::{SOON, eventually};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// `/metrics` as series and values.
pub fn scrape(server: &Server) -> HashMap<String, f64> {
    let answer = http::call(server.port(), &Request::get("/metrics"), SOON).expect("/metrics answers");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs
        .map(|(name, value)| (name.to_owned(), value.parse().expect("number")))
        .collect()
}

/// Sum over the cores of a series that is shown for each.
pub fn cores(page: &HashMap<String, f64>, name: &str) -> f64 {
    let own = |series: &&String| series.split('{').next() == Some(name);
    page.iter()
        .filter(|(series, _)| own(series))
        .map(|(_, value)| value)
        .sum()
}

/// What became of callbacks: `event` of `kind`.
pub fn callbacks(page: &HashMap<String, f64>, kind: &str, event: &str) -> f64 {
    let name = format!("rainbow_callbacks_total{{kind=\"{kind}\",event=\"{event}\"}}");
    *page.get(&name).unwrap_or_else(|| panic!("{name} is not on the page"))
}

/// The books of the callbacks balance, and nothing is under way any more.
pub fn expect_settled_books(server: &Server) {
    let mut page = HashMap::new();
    let settled = eventually(4 * SOON, || {
        page = scrape(server);
        let busy = |name: &str, kind: &str| page[&format!("{name}{{kind=\"{kind}\"}}")] != 0.0;
        // Between the end of a client's last message and its close callback nothing is under way: everybody who was let in and is
        // not there any more must have one.
        let gone = page["rainbow_handshakes_total"] - cores(&page, "rainbow_sessions_open");
        callbacks(&page, "close", "submitted") >= gone
            && !["connect", "message", "close"]
                .iter()
                .any(|kind| busy("rainbow_callbacks_in_flight", kind) || busy("rainbow_callbacks_queued", kind))
    });
    page.retain(|name, value| settled || (name.starts_with("rainbow_callback") && *value != 0.0));
    assert!(settled, "callbacks are still under way, or a client has none: {page:?}");
    for kind in ["connect", "message", "close"] {
        let count = |event| callbacks(&page, kind, event);
        let (submitted, ended) = (
            count("submitted"),
            count("success") + count("failed") + count("expired"),
        );
        assert_eq!(submitted, ended, "{kind}: submitted = success + failed + expired");
    }
    assert_eq!(page["rainbow_panics_total"], 0.0);
    assert_eq!(page["rainbow_publishes_open"], 0.0, "every caller was answered");
}

/// Open descriptors of the server.
pub fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count)
}

/// Processor time of the server so far, in clock ticks.
pub fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let times = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"));
    times.sum()
}

/// Memory and descriptors over time.
#[derive(Default)]
pub struct Samples {
    kib: Vec<u64>,
    descriptors: Vec<usize>,
}

impl Samples {
    pub fn take(&mut self, server: &Server) {
        self.kib.push(server.resident_kib());
        self.descriptors.push(descriptors(server));
    }

    /// Medians of the first and of the last third: memory in KiB, descriptors.
    pub fn ends(&self) -> ((u64, usize), (u64, usize)) {
        let third = (self.kib.len() / 3).max(1);
        let of = |range: std::ops::Range<usize>| {
            (
                median(self.kib[range.clone()].to_vec()),
                median(self.descriptors[range].to_vec()),
            )
        };
        (of(0..third), of(self.kib.len() - third..self.kib.len()))
    }

    pub fn peak_kib(&self) -> u64 {
        self.kib.iter().copied().max().unwrap_or(0)
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Calls the interface until `end`; every call has to be answered. How many there were, and the longest.
pub fn interface_answers(server: &Server, end: Instant) -> (u64, Duration) {
    let (mut calls, mut longest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let start = Instant::now();
        assert_eq!(server.send("nobody", 0, "x")["status"], 0);
        longest = longest.max(start.elapsed());
        calls += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    (calls, longest)
}
