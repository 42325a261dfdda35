//! `/metrics` of the real binary: no number stands on the page that nothing moves, and the books of the callbacks balance at
//! every moment.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Mode, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::{Builder, Server};
use common::{SOON, eventually, ms, packet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Series that tests with other configurations move: the series, the file that tests it, and a word found there.
const MOVED_ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "rainbow_reload_successful",
        "tests/reload.rs",
        "rainbow_reload_successful",
    ),
    (
        "rainbow_reload_timestamp_seconds",
        "tests/reload.rs",
        "rainbow_reload_timestamp_seconds",
    ),
    (
        "rainbow_mailbox_overflows_total",
        "tests/limits/overload.rs",
        "mailbox_overflows_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"clock\"}",
        "tests/hostile/callers.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"scheme\"}",
        "tests/hostile/callers.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"missing\"}",
        "tests/hostile/callers.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"wrong\"}",
        "tests/hostile/callers.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_refused_total{reason=\"api_address\"}",
        "tests/hostile/callers.rs",
        "api_address",
    ),
    (
        "rainbow_refused_total{reason=\"api_body_rate\"}",
        "tests/hostile/callers.rs",
        "api_body_rate",
    ),
    (
        "rainbow_refused_total{reason=\"api_body_gave_way\"}",
        "tests/hostile/callers.rs",
        "api_body_gave_way",
    ),
    (
        "rainbow_api_gave_way_total",
        "tests/hostile/callers.rs",
        "api_gave_way_total",
    ),
    ("rainbow_log_lines_dropped_total", "src/log.rs", "dropped_lines"),
    (
        "rainbow_cluster_peers",
        "tests/cluster/main.rs",
        "rainbow_cluster_peers",
    ),
    ("rainbow_panics_total", "tests/sim/rig.rs", "panics"),
    ("rainbow_draining", "tests/causality/stop.rs", "rainbow_draining"),
    (
        "rainbow_signatures_refused_total{reason=\"replayed\"}",
        "tests/signature/calls.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"astray\"}",
        "tests/cluster/strangers.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_refused_total{reason=\"no_room\"}",
        "tests/signature/calls.rs",
        "signatures_refused_total",
    ),
    (
        "rainbow_signatures_remembered",
        "src/control/surface/rainbow/signature.rs",
        "replays",
    ),
    (
        "rainbow_ack_data_left_out_total{reason=\"too_long\"}",
        "tests/limits/acks.rs",
        "too_long",
    ),
    (
        "rainbow_ack_data_left_out_total{reason=\"memory\"}",
        "tests/limits/memory.rs",
        "ack_data_left_out_total",
    ),
    (
        "rainbow_tls_handshakes_open",
        "tests/tls/limits.rs",
        "tls_handshakes_open",
    ),
    (
        "rainbow_tls_handshakes_total{result=\"done\"}",
        "tests/tls/clients.rs",
        "tls_handshakes_total",
    ),
    (
        "rainbow_tls_handshakes_total{result=\"failed\"}",
        "tests/tls/hostile.rs",
        "tls_handshakes_total",
    ),
    (
        "rainbow_outbox_expired_total",
        "tests/limits/slow.rs",
        "outbox_expired_total",
    ),
    (
        "rainbow_outbox_drops_total",
        "tests/limits/slow.rs",
        "outbox_drops_total",
    ),
    (
        "rainbow_outbox_dropped_bytes_total",
        "tests/limits/slow.rs",
        "outbox_dropped_bytes_total",
    ),
    (
        "rainbow_callback_connections_idle",
        "tests/limits/admission.rs",
        "rainbow_callback_connections_idle",
    ),
    (
        "rainbow_callback_connections_reused_total",
        "tests/backends/main.rs",
        "rainbow_callback_connections_reused_total",
    ),
    (
        "rainbow_rate_pauses_total",
        "tests/limits/rates.rs",
        "rate_pauses_total",
    ),
    (
        "rainbow_pings_sent_total",
        "tests/limits/silence.rs",
        "pings_sent_total",
    ),
    (
        "rainbow_channels_refused_total",
        "tests/limits/admission.rs",
        "channels_refused_total",
    ),
    (
        "rainbow_refused_total{reason=\"connections\"}",
        "tests/limits/admission.rs",
        "connections",
    ),
    (
        "rainbow_refused_total{reason=\"address\"}",
        "tests/limits/admission.rs",
        "address",
    ),
    (
        "rainbow_refused_total{reason=\"handshakes\"}",
        "tests/limits/admission.rs",
        "handshakes",
    ),
    (
        "rainbow_refused_total{reason=\"memory\"}",
        "tests/limits/admission.rs",
        "memory",
    ),
    (
        "rainbow_refused_total{reason=\"descriptors\"}",
        "tests/limits/admission.rs",
        "descriptors",
    ),
    (
        "rainbow_refused_total{reason=\"origin\"}",
        "tests/limits/admission.rs",
        "origin",
    ),
    (
        "rainbow_refused_total{reason=\"no_device_id\"}",
        "tests/passing.rs",
        "no_device_id",
    ),
    (
        "rainbow_refused_total{reason=\"head_too_long\"}",
        "tests/passing.rs",
        "head_too_long",
    ),
    (
        "rainbow_callbacks_total{event=\"checked\"}",
        "tests/poison/main.rs",
        "checked",
    ),
    (
        "rainbow_query_headers_withheld_total",
        "tests/passing.rs",
        "withheld_total",
    ),
    ("rainbow_uids_refused_total", "tests/users.rs", "uids_refused_total"),
    (
        "rainbow_refused_total{reason=\"auth_queue\"}",
        "tests/limits/admission.rs",
        "auth_queue",
    ),
    (
        "rainbow_refused_total{reason=\"api_connections\"}",
        "tests/limits/interface.rs",
        "api_connections",
    ),
    (
        "rainbow_refused_total{reason=\"api_bodies\"}",
        "tests/limits/interface.rs",
        "api_bodies",
    ),
    (
        "rainbow_refused_total{reason=\"proxy_header\"}",
        "tests/limits/proxies.rs",
        "proxy_header",
    ),
    (
        "rainbow_gave_way_total{what=\"begun\"}",
        "tests/limits/memory.rs",
        "what=\\\"begun",
    ),
    (
        "rainbow_gave_way_total{what=\"forwards\"}",
        "tests/limits/memory.rs",
        "what=\\\"forwards",
    ),
    (
        "rainbow_gave_way_total{what=\"lagging\"}",
        "tests/limits/memory.rs",
        "what=\\\"lagging",
    ),
    (
        "rainbow_memory_held_bytes",
        "tests/limits/memory.rs",
        "memory_held_bytes",
    ),
    (
        "rainbow_memory_held_limit_bytes",
        "tests/limits/memory.rs",
        "memory_held_limit_bytes",
    ),
];
/// What never changes while a server runs.
const CONSTANT: [&str; 2] = ["rainbow_driver_info", "rainbow_build_info"];
/// Labels whose values share one meaning: it is enough that one of them moves.
const SPREAD: [&str; 7] = ["core", "kind", "cause", "route", "status", "le", "use"];

/// Series with their values, as the page shows them.
fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let answer = http::call(server.port(), &Request::get("/metrics"), SOON).expect("/metrics answers");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect("name and value"));
    pairs
        .map(|(name, value)| (name.to_owned(), value.parse().expect("number")))
        .collect()
}

/// The name without labels of [`SPREAD`].
fn family(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let labels = labels.trim_end_matches('}').split(',');
    let kept: Vec<_> = labels
        .filter(|label| !SPREAD.iter().any(|spread| label.starts_with(&format!("{spread}="))))
        .collect();
    if kept.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", kept.join(","))
    }
}

/// Which families have been seen to change.
struct Watch<'a> {
    server: &'a Server,
    first: BTreeMap<String, f64>,
    moved: BTreeSet<String>,
}

impl Watch<'_> {
    fn look(&mut self) -> BTreeMap<String, f64> {
        let now = scrape(self.server);
        for (series, value) in &now {
            if self.first.get(series).is_some_and(|first| first != value) {
                self.moved.insert(family(series));
            }
        }
        balance(&now);
        now
    }

    /// Looks until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&BTreeMap<String, f64>) -> bool) {
        assert!(eventually(SOON, || done(&self.look())), "{what}: {:?}", self.look());
    }
}

/// The equation of the callbacks.
fn balance(page: &BTreeMap<String, f64>) {
    for kind in ["connect", "message", "close"] {
        let event = |event: &str| page[&format!("rainbow_callbacks_total{{kind=\"{kind}\",event=\"{event}\"}}")];
        let gauge = |name: &str| page[&format!("rainbow_callbacks_{name}{{kind=\"{kind}\"}}")];
        let ended = event("success") + event("failed") + event("expired");
        let open = gauge("in_flight") + gauge("queued");
        assert_eq!(event("submitted"), ended + open, "{kind}: {page:?}");
        assert!(event("refused") <= event("failed"));
    }
}

fn message(client: &Client, kind: u16) {
    client.send(&packet::send(0, kind, 0, "m"));
}

fn open_silent(server: &Server) -> Client {
    Client::open_with(server.port(), Open::lazy())
}

#[test]
fn every_number_moves() {
    let business = Business::start();
    let server = Builder::new(&business)
        .set("callback_timeout", 1)
        .set("callback_concurrency", 1)
        .set("callback_queue", 2)
        .set("forward_order", "client")
        .set("forward_window", 1)
        .set("forward_queue", 1)
        .set("auth_concurrency", 16)
        .set("breaker_failures", 30)
        .set("breaker_pause", 30)
        .set("outbox_bytes", 1 << 18)
        .start();
    let mut watch = Watch {
        first: scrape(&server),
        server: &server,
        moved: BTreeSet::new(),
    };
    business.reply("/connect/", Reply::channels("room"));
    let client = Client::open(server.port());
    admissions(&business, &server);
    watch.look();
    publishes(&server, &client, &mut watch);

    // One message hangs at the business, two wait, one is refused; then its client is not read any more.
    business.reply("/message/9/", Reply::ok("").mode(Mode::Hang));
    let others: Vec<_> = (0..3).map(|_| Client::open(server.port())).collect();
    for _ in 0..4 {
        message(&client, 9);
    }
    others.iter().for_each(|other| message(other, 9));
    watch.until("paused", |page| page["rainbow_reads_paused"] == 1.0);
    watch.until("read on", |page| page["rainbow_reads_paused"] == 0.0);
    watch.until("expired", |page| {
        page["rainbow_callbacks_total{kind=\"message\",event=\"expired\"}"] > 0.0
    });

    business.reply("/close/", Reply::ok("").status(503));
    let lazy = open_silent(&server);
    let body = vec![b'f'; 1 << 16];
    (0..200).for_each(|_| drop(server.send("room", 0, &body)));
    watch.until("a slow consumer", |page| page["rainbow_outbox_overflows_total"] > 0.0);
    watch.until("close repeated", |page| {
        page["rainbow_callbacks_total{kind=\"close\",event=\"retried\"}"] > 0.0
    });
    drop(lazy);

    outage(&business, &server, &mut watch);
    let families: BTreeSet<_> = watch.first.keys().map(|series| family(series)).collect();
    let excused = |name: &str| {
        // Each reason: tests/diagnosis.rs, which looks that none is forgotten.
        name.starts_with("rainbow_callback_troubles_total")
            || MOVED_ELSEWHERE.iter().any(|(moved, ..)| *moved == name)
            || CONSTANT.iter().any(|fixed| name.starts_with(fixed))
    };
    let still: Vec<_> = families
        .iter()
        .filter(|name| !watch.moved.contains(*name) && !excused(name))
        .collect();
    assert!(still.is_empty(), "nothing moved {still:?}");
    for (series, file, word) in MOVED_ELSEWHERE {
        assert!(families.contains(*series), "{series} is not on the page");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).expect(file);
        assert!(text.contains(word), "{series} is not tested in {file}");
    }
}

/// Clients of all fates, and a call with a wrong signature.
fn admissions(business: &Business, server: &Server) {
    let refused = |reply: Reply, status| {
        business.reply("/connect/", reply);
        let client = Client::start(server.port(), Open::device("refused")).expect("connect");
        assert_eq!(client.answer(SOON).expect("answer").status, status);
    };
    refused(Reply::ok(r#"{"status": "no"}"#), 401);
    refused(Reply::ok("").status(500), 503);
    business.reply("/connect/", Reply::success().delay(ms(300)));
    let gone = Client::start(server.port(), Open::device("gone")).expect("connect");
    business.wait_for("/connect/", 4, SOON);
    gone.drop_now();
    business.wait_for("/close/", 1, SOON);
    business.reply("/connect/", Reply::channels("room"));
    let wrong = Request::post("/send/", "x").query("channel", "room").signed("wrong");
    http::call(server.port(), &wrong, SOON).expect("an answer");
}

/// One acknowledged, one repeated and given up.
fn publishes(server: &Server, client: &Client, watch: &mut Watch<'_>) {
    std::thread::scope(|scope| {
        let acknowledged = scope.spawn(|| server.send("room", 1, "a"));
        let (id, _) = client.expect_send(SOON);
        client.send(&packet::ack(id.expect("QoS 1 has an id"), "data"));
        assert_eq!(acknowledged.join().unwrap()["status"], 0);
        let ignored = Request::post("/send/", "b").query("channel", "room").query("qos", 1);
        let ignored = scope.spawn(move || server.api(&ignored.query("timeout", 4)));
        watch.until("waits", |page| page["rainbow_publishes_open"] == 1.0);
        let told = ignored.join().unwrap();
        assert_ne!(told["status"], 0, "{told}");
        watch.look();
    });
}

/// Enough refused clients for the bound to shrink and the breaker to open.
fn outage(business: &Business, server: &Server, watch: &mut Watch<'_>) {
    business.reply("/connect/", Reply::ok("").status(503));
    for _ in 0..30 {
        let client = Client::start(server.port(), Open::default()).expect("connect");
        let answer = client.answer(SOON).expect("answer");
        assert_eq!((answer.status, answer.header("Retry-After")), (503, None));
    }
    let asked = business.requests_to("/connect/").len();
    let client = Client::start(server.port(), Open::default()).expect("connect");
    let answer = client.answer(SOON).expect("answer");
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("5")));
    assert_eq!(business.requests_to("/connect/").len(), asked, "nobody was asked");
    let page = watch.look();
    assert_eq!(page["rainbow_callback_breaker_opens_total{kind=\"connect\"}"], 1.0);
    assert_eq!(page["rainbow_callback_breaker_state{kind=\"connect\"}"], 2.0);
    server.expect_said("only probes are sent");
}

/// A business that answers, refuses, drops and hangs at random while messages pour in: the books balance at every look, and
/// in the end agree with those of the business.
#[test]
fn the_books_balance_under_load() {
    const CLIENTS: usize = 8;
    const MESSAGES: usize = 150;
    let business = Business::start();
    let (count, good) = (AtomicUsize::new(0), std::sync::Arc::new(AtomicUsize::new(0)));
    let answered = good.clone();
    business.hook(move |request| {
        if !request.path.starts_with("/message/") {
            return None;
        }
        let failing = |mode| Some(Reply::ok("").mode(mode));
        match count.fetch_add(1, Ordering::SeqCst) % 40 {
            7 => failing(Mode::Hang),
            11 => failing(Mode::Drop),
            13 => failing(Mode::Raw(b"nonsense\r\n\r\n".to_vec())),
            17 => Some(Reply::ok("").status(502)),
            19 => Some(Reply::ok("").status(500)),
            n => {
                answered.fetch_add(1, Ordering::SeqCst);
                Some(Reply::ok("ok").delay(ms(n as u64 % 5)))
            }
        }
    });
    let server = Builder::new(&business)
        .set("callback_timeout", 2)
        .set("callback_concurrency", 20)
        .set("callback_queue", 400)
        .start();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(server.port())).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                balance(&scrape(&server));
            }
        });
        for client in &clients {
            scope.spawn(move || (0..MESSAGES).for_each(|_| message(client, 1)));
        }
        let ended = |page: &BTreeMap<String, f64>| {
            let event = |event: &str| page[&format!("rainbow_callbacks_total{{kind=\"message\",event=\"{event}\"}}")];
            event("success") + event("failed") + event("expired")
        };
        let all = (CLIENTS * MESSAGES) as f64;
        let ended_all = eventually(Duration::from_secs(20), || ended(&scrape(&server)) == all);
        done.store(true, Ordering::SeqCst);
        assert!(ended_all, "{:?}", scrape(&server));
    });
    let page = scrape(&server);
    assert_eq!(
        page["rainbow_callbacks_total{kind=\"message\",event=\"success\"}"] as usize,
        good.load(Ordering::SeqCst)
    );
    assert_eq!(page["rainbow_callbacks_in_flight{kind=\"message\"}"], 0.0);
    let sessions = |page: &BTreeMap<String, f64>, name: &str| -> f64 {
        let of_all_cores = page.iter().filter(|(series, _)| series.starts_with(name));
        of_all_cores.map(|(_, value)| value).sum()
    };
    assert_eq!(sessions(&page, "rainbow_sessions_open"), CLIENTS as f64);
    assert_eq!(sessions(&page, "rainbow_connections_open"), CLIENTS as f64);
    drop(clients);
    let closed = eventually(SOON, || {
        let page = scrape(&server);
        balance(&page);
        sessions(&page, "rainbow_sessions_open") + sessions(&page, "rainbow_connections_open") == 0.0
            && page["rainbow_callbacks_total{kind=\"close\",event=\"success\"}"] == CLIENTS as f64
    });
    assert!(closed, "{:?}", scrape(&server));
    assert_eq!(page["rainbow_reads_paused"], 0.0);
}

/// A process that nobody talks to does nothing.
#[test]
fn an_idle_server_sleeps() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let client = Client::open(server.port());
    message(&client, 1);
    business.wait_for("/message/", 1, SOON);
    std::thread::sleep(ms(1500));
    let switches = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("/proc");
        let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let count = |text: String| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with("voluntary_ctxt_switches"));
            lines
                .filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
                .sum()
        };
        tasks.map(|task| count(status(task.expect("task")))).sum()
    };
    let before = switches();
    std::thread::sleep(ms(2000));
    let woken = switches() - before;
    assert!(woken <= 8, "woke up {woken} times in 2 s");
}
