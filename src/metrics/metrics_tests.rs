//! The page, read back by a small strict reader.

use super::*;
use std::collections::{HashMap, HashSet};

const LABELS: Labels = Labels {
    close_causes: &["client_gone", "slow"],
    api_routes: &["send", "sub"],
};

fn core(name: &str) -> CoreMetrics {
    CoreMetrics::new(name, LABELS)
}

/// series → value; panics where the page breaks the rules of the format.
fn read(page: &str) -> HashMap<String, f64> {
    let (mut series, mut names, mut current) = (HashMap::new(), HashSet::new(), String::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().expect("name").to_owned();
            assert!(
                current.starts_with("rainbow_") && names.insert(current.clone()),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("two words");
            assert_eq!(name, current);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            let bare = name.split('{').next().expect("name");
            let rest = bare
                .strip_prefix(current.as_str())
                .unwrap_or_else(|| panic!("{line} is under {current}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&rest), "{line}");
            assert!(
                series.insert(name.to_owned(), value.parse().expect("number")).is_none(),
                "twice: {line}"
            );
        }
    }
    series
}

#[test]
fn every_number_lands_in_its_own_series() {
    let metrics = core("0");
    for (n, metric) in Metric::ALL.iter().enumerate() {
        metrics.add(*metric, n as u64 + 1);
    }
    let series = read(&render(&[&metrics], Extra::default()));
    for (n, row) in METRICS.iter().enumerate() {
        let labels = if row.per_core { r#"core="0""# } else { row.label };
        let name = if labels.is_empty() {
            row.name.to_owned()
        } else {
            format!("{}{{{labels}}}", row.name)
        };
        assert_eq!(series.get(&name), Some(&(n as f64 + 1.0)), "{name}");
        assert!(!row.per_core || row.label.is_empty(), "{}: one of both", row.name);
    }
}

#[test]
fn cores_add_up_and_gauges_may_cross_them() {
    let (a, b) = (core("0"), core("control"));
    a.add(Metric::FramesIn, 3);
    b.add(Metric::FramesIn, 4);
    b.add(Metric::ReadsPaused, 1);
    a.sub(Metric::ReadsPaused, 1);
    a.set(Metric::ConnectionsOpen, 9);
    a.count_close(1);
    b.count_close(1);
    b.count_close(2);
    b.count_api(1, 404);
    b.count_api(1, 99);
    b.count_api(1, 600);
    b.count_api(7, 200);
    b.set_driver("epoll");
    let series = read(&render(
        &[&a, &b],
        Extra {
            uptime: Duration::from_millis(1500),
            ..Extra::default()
        },
    ));
    let expected = [
        ("rainbow_frames_in_total", 7.0),
        ("rainbow_reads_paused", 0.0),
        ("rainbow_connections_open{core=\"0\"}", 9.0),
        ("rainbow_closes_total{cause=\"client_gone\"}", 0.0),
        ("rainbow_closes_total{cause=\"slow\"}", 2.0),
        ("rainbow_api_requests_total{route=\"sub\",status=\"4xx\"}", 1.0),
        ("rainbow_api_requests_total{route=\"send\",status=\"2xx\"}", 0.0),
        ("rainbow_driver_info{core=\"0\",driver=\"unknown\"}", 1.0),
        ("rainbow_driver_info{core=\"control\",driver=\"epoll\"}", 1.0),
        ("rainbow_uptime_seconds", 1.5),
    ];
    for (name, value) in expected {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    assert_eq!(a.value(Metric::FramesIn), 3);
}

/// 1, 2, 3 … in the order of the fields.
fn facts<'a>(kind: &'static str, latency: &'a Histogram) -> CallbackFacts<'a> {
    CallbackFacts {
        kind,
        submitted: 1,
        success: 2,
        failed: 3,
        expired: 4,
        refused: 5,
        retried: 6,
        checked: 0,
        troubles: (&["dropped"], &[3]),
        in_flight: 7,
        queued: 8,
        limit: 9,
        breaker: 10,
        opened: 11,
        latency,
    }
}

#[test]
fn every_fact_about_callbacks_lands_in_its_own_series() {
    let latency = Histogram::default();
    let page = render(
        &[],
        Extra {
            callbacks: &[facts("connect", &latency), facts("close", &latency)],
            ..Extra::default()
        },
    );
    let series = read(&page);
    let events = ["submitted", "success", "failed", "expired", "refused", "retried"];
    for (number, event) in events.into_iter().enumerate() {
        let name = format!("rainbow_callbacks_total{{kind=\"close\",event=\"{event}\"}}");
        assert_eq!(series[&name], number as f64 + 1.0, "{name}");
    }
    let families = [
        "callbacks_in_flight",
        "callbacks_queued",
        "callback_limit",
        "callback_breaker_state",
        "callback_breaker_opens_total",
    ];
    for (number, family) in families.into_iter().enumerate() {
        let name = format!("rainbow_{family}{{kind=\"connect\"}}");
        assert_eq!(series[&name], number as f64 + 7.0, "{name}");
    }
}

#[test]
fn histograms_cumulate_and_count() {
    let (metrics, latency) = (core("control"), Histogram::default());
    for micros in [10, 100, 1_000, 60_000_000] {
        latency.observe(Duration::from_micros(micros));
    }
    metrics.observe_publish(Duration::from_secs(1));
    let page = render(
        &[&metrics],
        Extra {
            callbacks: &[facts("connect", &latency)],
            ..Extra::default()
        },
    );
    let series = read(&page);
    let connect = |suffix: &str| series[&format!("rainbow_callback_seconds{suffix}")];
    assert_eq!(connect("_bucket{kind=\"connect\",le=\"0.000064\"}"), 1.0);
    assert_eq!(connect("_bucket{kind=\"connect\",le=\"0.000128\"}"), 2.0);
    assert_eq!(connect("_bucket{kind=\"connect\",le=\"33.554432\"}"), 3.0);
    assert_eq!(connect("_bucket{kind=\"connect\",le=\"+Inf\"}"), 4.0);
    assert_eq!(
        (connect("_count{kind=\"connect\"}"), connect("_sum{kind=\"connect\"}")),
        (4.0, 60.00111)
    );
    assert_eq!(
        (
            series["rainbow_publish_seconds_count"],
            series["rainbow_publish_seconds_sum"]
        ),
        (1.0, 1.0)
    );
}

#[test]
fn further_gauges_are_escaped_and_share_a_head() {
    let gauge = |text| [("peer", text)];
    let (odd, plain) = (gauge("a\"b\\c\nd"), gauge("x"));
    let (name, help) = ("rainbow_peer_up", "Peers.\nTwo lines.");
    let gauges = [
        Gauge {
            name,
            help,
            labels: &odd,
            value: 1.0,
        },
        Gauge {
            name,
            help,
            labels: &plain,
            value: 0.0,
        },
    ];
    let page = render(
        &[],
        Extra {
            gauges: &gauges,
            ..Extra::default()
        },
    );
    let expected = "# HELP rainbow_peer_up Peers.\\nTwo lines.\n# TYPE rainbow_peer_up gauge\n\
                    rainbow_peer_up{peer=\"a\\\"b\\\\c\\nd\"} 1\nrainbow_peer_up{peer=\"x\"} 0\n";
    assert!(page.ends_with(expected), "{page}");
    read(&page);
}

#[test]
fn one_writer_and_a_reader_on_another_thread() {
    let metrics = core("0");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100_000).for_each(|_| metrics.add(Metric::BytesIn, 1)));
        let mut last = 0;
        while last < 100_000 {
            let now = metrics.value(Metric::BytesIn);
            assert!(now >= last);
            last = now;
        }
    });
}
