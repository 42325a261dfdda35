//! The gateway door: requests of backends to its HTTP interface.

use http::Method;
use serde_json::{Value, json};

use crate::protocol::gateway::api::{
    ApiError, Call, Context, HttpRequest, LIST_MAX, Request, Targets, answer, item, methods, read_json,
};

/// A first line with method and target, then a body.
pub fn gateway_calls(data: &[u8]) {
    let (line, body) = cut(data, b'\n');
    let (method, target) = cut(line, b' ');
    let (path, query) = cut(target, b'?');
    let Ok(method) = Method::from_bytes(method) else { return };
    let request = HttpRequest {
        method: &method,
        path,
        query,
        body,
    };
    let read = Request::from_http(&request);
    assert_eq!(read, Request::from_http(&request), "read twice");
    match &read {
        Ok(request) => {
            check(request, data.len());
            assert!(
                methods(path).is_some() || path.starts_with(b"/v1/call/"),
                "somebody's path"
            );
        }
        Err(error) => refusal(error),
    }
    if let (Some(name), Ok(value), b"") = (path.strip_prefix(b"/v1/call/"), read_json(body), query)
        && let Ok(name) = str::from_utf8(name)
        && !name.contains('%')
        && method == Method::POST
    {
        in_a_batch(name, value, &read);
    }
}

/// Before and after the first `at`.
fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, b""),
    }
}

/// What was read is no longer than what was written.
fn check(request: &Request, bytes: usize) {
    match &request.call {
        Call::Send(send) => {
            let payload = &send.message.payload;
            // Numbers may be written out: 1e9 is 1000000000.0.
            assert!(payload.len() <= 64 + 8 * bytes, "{bytes}");
            assert!(send.message.binary || str::from_utf8(payload).is_ok(), "text is UTF-8");
            assert!(send.exclude.len() <= LIST_MAX);
            if let Targets::Any { names, clients } = &send.to {
                assert!(names.iter().all(|name| (1..=255).contains(&name.text().len())));
                assert!(names.len() <= 2 * LIST_MAX && clients.len() <= LIST_MAX);
            }
        }
        Call::Batch(calls) => calls.iter().for_each(|call| {
            assert!(!matches!(call.call, Call::Batch(_)), "one level");
            check(call, bytes);
        }),
        Call::SetSession { session, .. } => {
            assert!(read_json(session).is_ok_and(|value| value.is_object()), "an object");
        }
        Call::Close { farewell, .. } => assert!(farewell.reason.len() <= 123),
        _ => {}
    }
    match request.call.of_nobody() {
        Ok(outcome) => {
            let (status, body) = answer(&Ok(outcome));
            assert!(status.is_success() && read_json(&body).is_ok());
        }
        Err(error) => refusal(&error),
    }
}

/// A refusal is the caller's fault, short, and JSON whatever was sent.
fn refusal(error: &ApiError) {
    let (status, body) = answer(&Err(error.clone()));
    assert!(status.is_client_error() && body.len() < 4096, "{error}");
    let value = read_json(&body).expect("JSON");
    assert_eq!(value["error"]["code"], error.code.word());
}

/// A call means the same in a batch.
fn in_a_batch(name: &str, arguments: Value, alone: &Result<Request, ApiError>) {
    let context = Context::default();
    let call = item(json!({"fn": name, "args": arguments}), &context);
    assert_eq!(call.is_ok(), alone.is_ok(), "{name}");
    if let (Ok(call), Ok(alone)) = (&call, alone) {
        assert_eq!(call, alone, "{name}");
    }
}
