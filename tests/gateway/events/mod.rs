//! Events of clients as a backend sees them over HTTP, and what its answers do.

mod actions;
mod closing;
mod connect;
mod examples;
mod faults;
mod messages;

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::business::{Business, Reply, Request};
use crate::common::client::{Client, Op};
use crate::common::hmac;
use crate::common::server::{Builder, Server};
use crate::common::{SOON, ms};
use crate::{anybody, metric, on_both_drivers};

/// The key of the signatures.
const SECRET: &str = "shared secret";

/// A backend that is content with every event.
fn backend() -> Business {
    let backend = Business::start();
    backend.reply("/events/", Reply::ok(""));
    backend
}

/// A server that tells this backend of every event.
fn telling(backend: &Business) -> Builder {
    let url = format!("http://127.0.0.1:{}/events/", backend.port());
    Builder::gateway().of_gateway("url", url).of_gateway("secret", SECRET)
}

/// The name of an event, by its header.
fn event(request: &Request) -> String {
    request.header("x-rainbow-event").unwrap_or_default()
}

/// The body of an event, after a look at what all of them have.
fn body(request: &Request) -> Value {
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/events/"));
    assert_eq!(request.header("content-type").as_deref(), Some("application/json"));
    let timestamp = request.header("x-rainbow-timestamp").expect("a timestamp");
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let signature = format!("sha256={}", hmac::of(SECRET, &signed));
    assert_eq!(request.header("x-rainbow-signature"), Some(signature));
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["event"], event(request));
    body
}

/// The next event, which has to be this one.
fn next(backend: &Business, name: &str) -> Value {
    let request = backend.next(SOON).unwrap_or_else(|| panic!("no {name} event"));
    assert_eq!(event(&request), name);
    body(&request)
}

/// Bodies of all events of this name so far.
fn all(backend: &Business, name: &str) -> Vec<Value> {
    let requests = backend.requests();
    requests
        .iter()
        .filter(|request| event(request) == name)
        .map(body)
        .collect()
}

/// Answers events of one name by rule, the others with nothing.
fn answer(backend: &Business, name: &'static str, reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
    backend.hook(move |request| (event(request) == name).then(|| reply(&body(request))));
}

fn ok(answer: Value) -> Reply {
    Reply::ok(answer.to_string())
}
