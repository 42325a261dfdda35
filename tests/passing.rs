//! What of a client's request reaches the backend, seen at the backend: whose words headers are, and how long a head may be.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Reply, Request};
use common::client::{Client, Open};
use common::http;
use common::server::{Builder, Server};
use common::{SOON, eventually};

fn asked(server: &Server, business: &Business, target: &str, headers: &[(&str, &str)]) -> Request {
    let before = business.requests_to("/connect/").len();
    let mut open = Open {
        target: target.into(),
        ..Open::default()
    };
    open.headers
        .extend(headers.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    drop(Client::open_with(server.port(), open));
    business.wait_for("/connect/", before + 1, SOON).pop().expect("request")
}

/// All lines whose name is this one, `-` and `_` counted as equal, as WSGI and PHP do.
fn lines(request: &Request, name: &str) -> Vec<String> {
    let fold = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let named = request.headers.iter().filter(|(is, _)| fold(is) == fold(name));
    named.map(|(_, value)| value.clone()).collect()
}

fn metric(server: &Server, name: &str) -> String {
    let page = http::call(server.port(), &http::Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().to_owned()
}

/// A client without a device id sees what it always saw; the operator is told, once.
#[test]
fn a_missing_device_id_is_told_once() {
    let business = Business::start();
    let server = Builder::new(&business).set("workers", 1).start();
    for _ in 0..20 {
        let mut open = Open::default();
        open.headers.remove(0);
        let refused = Client::start(server.port(), open)
            .expect("connect")
            .answer(SOON)
            .expect("answer");
        assert_eq!((refused.status, refused.body.len()), (401, 46));
    }
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"no_device_id\"}"), "20");
    server.expect_said("names no device id");
    assert_eq!(server.log_tail().matches("names no device id").count(), 1);
}

#[test]
fn a_url_with_credentials_is_called_with_those_alone() {
    let business = Business::start();
    let url = format!("http://gateway:secret@127.0.0.1:{}/connect/", business.port());
    let server = Builder::new(&business)
        .set("connect_url", url)
        .set("query_headers", "any, Authorization")
        .start();
    let ours = ["Basic Z2F0ZXdheTpzZWNyZXQ="];
    for (target, headers) in [
        ("/connect/", &[][..]),
        ("/connect/", &[("Authorization", "Basic evil")]),
        (
            "/connect/",
            &[("AUTHORIZATION", "Basic evil"), ("authorization", "Basic worse")],
        ),
        ("/connect/?authorization=evil", &[]),
    ] {
        let request = asked(&server, &business, target, headers);
        assert_eq!(lines(&request, "authorization"), ours, "{target} {headers:?}");
    }
}

/// The same where a redirect brings the credentials.
#[test]
fn credentials_of_a_redirect_stand_alone_too() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let to = format!("http://gateway:secret@127.0.0.1:{}/second/", business.port());
    business.reply("/connect/", Reply::ok("").status(302).header("Location", &to));
    business.reply("/second/", Reply::success());
    let mut open = Open::default();
    open.headers.push(("Authorization".into(), "Basic evil".into()));
    drop(Client::open_with(server.port(), open));
    let second = business.wait_for("/second/", 1, SOON).pop().expect("request");
    assert_eq!(lines(&second, "authorization"), ["Basic Z2F0ZXdheTpzZWNyZXQ="]);
}

#[test]
fn without_credentials_the_clients_own_arrive_once() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let headers = [("Authorization", "Bearer a"), ("Cookie", "a=1"), ("Cookie", "b=2")];
    let request = asked(
        &server,
        &business,
        "/connect/?Authorization=evil&Cookie=evil&token=t",
        &headers,
    );
    assert_eq!(lines(&request, "authorization"), ["Bearer a"]);
    assert_eq!(lines(&request, "cookie"), ["a=1; b=2"]);
    assert_eq!(lines(&request, "token"), ["t"]);
}

#[test]
fn a_query_does_not_speak_for_the_edge() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let edge = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("Origin", "https://evil.example"),
    ];
    let target = "/connect/?X-Forwarded-For=evil&X_Forwarded_For=evil&X-Real-IP=evil&x_real_ip=evil&X-Forwarded-Proto=evil\
                  &Origin=evil&Sec-Fetch-Site=evil&Referer=evil&X-Authenticated-User=evil&X-Remote-User=evil&Cookie=evil";
    let request = asked(
        &server,
        &business,
        target,
        &[&edge[..], &[("X_Forwarded_For", "evil")]].concat(),
    );
    let evil: Vec<_> = request.headers.iter().filter(|(_, value)| value == "evil").collect();
    assert!(evil.is_empty(), "{evil:?}");
    assert_eq!(lines(&request, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(
        request.query.iter().filter(|(_, value)| value == "evil").count(),
        11,
        "the query is the client's own"
    );
    assert!(
        eventually(SOON, || server.log_tail().contains("list it in query_headers")),
        "{}",
        server.log_tail()
    );
    assert_eq!(metric(&server, "rainbow_query_headers_withheld_total"), "1");
    assert!(
        server.log_tail().contains("Sec-Fetch-Site") || server.log_tail().contains("X_Forwarded"),
        "{}",
        server.log_tail()
    );
}

#[test]
fn a_head_the_backend_would_not_take_is_answered_without_asking() {
    let business = Business::start();
    let server = Builder::new(&business).set("connect_head_max", "4k").start();
    let mut open = Open::default();
    open.headers.push(("X-Long".into(), "a".repeat(5000)));
    let refused = Client::start(server.port(), open)
        .expect("connect")
        .answer(SOON)
        .expect("answer");
    assert_eq!(refused.status, 431);
    assert!(business.requests().is_empty());
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"head_too_long\"}"), "1");
    assert!(
        eventually(SOON, || server.log_tail().contains("raise connect_head_max")),
        "{}",
        server.log_tail()
    );
    drop(Client::open(server.port()));
}
