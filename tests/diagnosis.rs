//! Nothing fails silently: whatever goes wrong between this server and the backend is counted by reason and mentioned once,
//! with what to do, while clients see what they always saw.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Mode, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::packet;
use common::server::{Builder, Server};
use common::{SOON, eventually};
use std::collections::{BTreeMap, BTreeSet};

/// How often each thing went wrong with calls of this kind.
fn troubles(server: &Server, kind: &str) -> BTreeMap<String, u64> {
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    let start = format!("rainbow_callback_troubles_total{{kind=\"{kind}\",reason=\"");
    let pairs = page
        .lines()
        .filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "));
    pairs
        .map(|(reason, count)| (reason.to_owned(), count.parse().expect("number")))
        .collect()
}

fn count(server: &Server, kind: &str, reason: &str) -> u64 {
    *troubles(server, kind)
        .get(reason)
        .unwrap_or_else(|| panic!("no {reason} on the page"))
}

/// Lines of the log about `reason` of `kind`.
fn lines(server: &Server, kind: &str, reason: &str) -> Vec<String> {
    let (kind, reason) = (format!("kind=\"{kind}\""), format!("reason=\"{reason}\""));
    let log = server.log_tail();
    let about = log
        .lines()
        .filter(|line| line.contains(&kind) && line.contains(&reason));
    about.map(str::to_owned).collect()
}

/// It was counted so often, and mentioned in one line that has these words.
fn expect(server: &Server, kind: &str, reason: &str, times: u64, words: &[&str]) {
    assert!(
        eventually(SOON, || count(server, kind, reason) == times),
        "{kind} {reason}: {:?}",
        troubles(server, kind)
    );
    assert!(
        eventually(SOON, || !lines(server, kind, reason).is_empty()),
        "{kind} {reason}: {}",
        server.log_tail()
    );
    let lines = lines(server, kind, reason);
    assert!(lines.len() == 1 && lines[0].contains(" WARN "), "{lines:?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in {}", lines[0]);
    }
}

fn knock(server: &Server) -> http::Response {
    let client = Client::start(server.port(), Open::default()).expect("connect");
    client.answer(SOON).expect("answer")
}

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";

#[test]
fn connect_answers_that_let_nobody_in_are_explained() {
    let page = || Reply::ok("<html>Sign in</html>");
    let cases: [(Reply, &str, &[&str]); 11] = [
        (
            Reply::ok("").status(403),
            "forbidden",
            &["status=403", "security_token"],
        ),
        (Reply::ok("").status(404), "not_found", &["status=404", "connect_url"]),
        (Reply::ok("").status(418), "client_error", &["status=418", "its log"]),
        (Reply::ok("").status(304), "redirect", &["status=304"]),
        (Reply::ok("").status(500), "server_error", &["status=500", "its log"]),
        (Reply::ok("").status(502), "unavailable", &["status=502", "proxy"]),
        (page(), "not_json", &["status=200", "{\"status\": \"success\"}"]),
        (
            Reply::success().header("RAINBOWREQUESTINVALID", "60001").status(201),
            "called_invalid",
            &["60001", "security_token"],
        ),
        (page().mode(Mode::Drop), "dropped", &["buffer-size"]),
        (
            page().mode(Mode::Raw(b"SSH-2.0-nonsense\r\n\r\n".to_vec())),
            "not_http",
            &["http or https"],
        ),
        (
            page().status(302).header("Location", "/connect/"),
            "redirects",
            &["five times"],
        ),
    ];
    for (reply, reason, words) in cases {
        let business = Business::start();
        let server = Builder::new(&business).start();
        business.reply("/connect/", reply);
        let status = if reason == "called_invalid" { 101 } else { 503 };
        for _ in 0..5 {
            let answer = knock(&server);
            assert_eq!(answer.status, status, "{reason}");
            assert!(status == 101 || answer.body == UNAVAILABLE, "{reason}");
        }
        expect(&server, "connect", reason, 5, words);
    }
    let business = Business::start();
    let server = Builder::new(&business).start();
    business.reply("/connect/", Reply::ok(r#"{"status": "fail"}"#));
    assert_eq!(knock(&server).status, 401);
    assert!(
        troubles(&server, "connect").values().all(|count| *count == 0),
        "a no is no trouble"
    );
}

#[test]
fn messages_and_closes_that_fail_are_explained() {
    let business = Business::start();
    let server = Builder::new(&business).set("callback_timeout", 1).start();
    let client = Client::open(server.port());
    let cases: [(Reply, &str, &[&str]); 4] = [
        (Reply::ok("").status(403), "forbidden", &["status=403", "CSRF"]),
        (Reply::ok("").status(404), "not_found", &["forward_url", "POST"]),
        (Reply::ok("").status(500), "server_error", &["no ACK"]),
        (Reply::ok("").mode(Mode::Hang), "timeout", &["too slow"]),
    ];
    for (reply, reason, words) in cases {
        business.reply("/message/", reply);
        (0..5).for_each(|_| client.send(&packet::send(0, 7, 0, "m")));
        expect(&server, "message", reason, 5, words);
    }
    business.reply("/close/", Reply::ok("").status(404));
    for n in 0..3 {
        drop(Client::open_with(server.port(), Open::device(&format!("c{n}"))));
    }
    expect(&server, "close", "not_found", 3, &["close_url", "counted as told"]);
}

#[test]
fn a_backend_that_cannot_be_reached_is_explained() {
    let business = Business::start();
    let unused = common::ports::claim();
    // Speaks HTTP, not TLS.
    let plain = Builder::new(&business).start();
    let cases: [(String, &str, &[&str]); 3] = [
        (
            format!("http://127.0.0.1:{}/", unused.number),
            "refused",
            &["whether it runs"],
        ),
        ("http://no-such-name.invalid/".into(), "unresolved", &["name servers"]),
        (format!("https://127.0.0.1:{}/", plain.port()), "tls", &["ca_file"]),
    ];
    for (url, reason, words) in cases {
        let server = Builder::new(&business).set("connect_url", url).start();
        for _ in 0..3 {
            assert_eq!(knock(&server).status, 503, "{reason}");
        }
        expect(&server, "connect", reason, 3, words);
    }
}

#[test]
fn queues_that_are_full_or_too_slow_are_explained() {
    let business = Business::start();
    let server = Builder::new(&business)
        .set("callback_timeout", 1)
        .set("callback_concurrency", 1)
        .set("callback_queue", 2)
        .start();
    business.reply("/message/", Reply::ok("").mode(Mode::Hang));
    let client = Client::open(server.port());
    (0..6).for_each(|_| client.send(&packet::send(0, 7, 0, "m")));
    expect(&server, "message", "queue_full", 3, &["callback_concurrency"]);
    assert!(eventually(SOON, || count(&server, "message", "expired") > 0));
    assert!(eventually(SOON, || !lines(&server, "message", "expired").is_empty()));
    assert_eq!(lines(&server, "message", "expired").len(), 1);
}

/// The tests of this file look at every reason there is, but those of the files below, and one that needs a network without a
/// route.
#[test]
fn no_reason_is_forgotten() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let texts = [
        include_str!("diagnosis.rs"),
        include_str!("gateway/events/actions.rs"),
        include_str!("limits/memory.rs"),
    ];
    let quoted = |reason: &String| [format!("\"{reason}\""), format!("reason=\\\"{reason}\\\"")];
    let is_tried = |reason: &String| {
        quoted(reason)
            .iter()
            .any(|quoted| texts.iter().any(|text| text.contains(quoted)))
    };
    let untried: BTreeSet<_> = troubles(&server, "connect")
        .into_keys()
        .filter(|reason| !is_tried(reason))
        .collect();
    assert_eq!(
        untried.into_iter().collect::<Vec<_>>().join(" "),
        ["un", "reachable"].concat()
    );
}
