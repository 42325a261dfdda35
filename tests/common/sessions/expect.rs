//! Comparisons of the session player: placeholders, HTTP answers, moments.

use super::super::http::{self, Response};
use super::super::{excerpt, ms};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Ok, or what was expected and what came instead.
pub type Check = Result<(), String>;

/// A measured span may fall this much short of a recorded one (timers round down).
const EARLY_GRACE: Duration = Duration::from_millis(50);
const MIN_GRACE: Duration = Duration::from_millis(20);

/// What placeholders refer to.
#[derive(Default)]
pub struct Bindings {
    pub identities: HashMap<String, String>,
    pub marks: HashMap<String, Instant>,
    pub token: String,
}

impl Bindings {
    /// Replaces `<identity:NAME>` by the bound value in every string.
    pub fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let named = self.identities.iter();
                let filled = named.fold(text.clone(), |t, (name, id)| {
                    t.replace(&format!("<identity:{name}>"), id)
                });
                Value::String(filled)
            }
            Value::Array(items) => items.iter().map(|v| self.fill(v)).collect(),
            Value::Object(items) => Value::Object(items.iter().map(|(k, v)| (k.clone(), self.fill(v))).collect()),
            other => other.clone(),
        }
    }

    /// Compares one text with an expected text or placeholder; `query` holds what a signature covers.
    pub fn text(&mut self, expected: &str, got: &str, what: &str, query: &[(String, String)]) -> Check {
        let number = got.parse::<i64>().ok();
        // Between servers nonces are longer than the original's (docs/compatibility.md): theirs have to be known again.
        let is_relay = query.iter().any(|(key, _)| key == "cluster") && got.parse::<u64>().is_ok();
        let right = match expected {
            "<any>" => true,
            "<ts>" => number.is_some_and(|n| (n - http::unix_seconds()).abs() <= 10),
            "<nonce>" => is_relay || number.is_some_and(|n| (1000..=99999).contains(&n)),
            "<sig>" => {
                let of = |key: &str| query.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v);
                got == http::sign(&self.token, of("timestamp"), of("nonce"))
            }
            _ => match expected.strip_prefix("<identity:").and_then(|e| e.strip_suffix('>')) {
                Some(name) => return self.identity(name, got),
                None => expected == got,
            },
        };
        if right {
            Ok(())
        } else {
            Err(format!("{what}: expected {expected:?}, got {got:?}"))
        }
    }

    fn identity(&mut self, name: &str, got: &str) -> Check {
        if got.len() != 64 || !got.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(format!(
                "identity {name}: expected 64 lower-case hex digits, got {got:?}"
            ));
        }
        match self.identities.get(name) {
            Some(bound) if bound == got => Ok(()),
            Some(bound) => Err(format!("identity {name}: expected {bound}, got {got}")),
            None if self.identities.values().any(|other| other == got) => {
                Err(format!("identity {name}: {got} belongs to another connection"))
            }
            None => {
                self.identities.insert(name.to_owned(), got.to_owned());
                Ok(())
            }
        }
    }

    /// Checks `since` + `at_ms` of a step against the moment something happened.
    pub fn moment(&self, step: &Value, at: Instant) -> Check {
        let (Some(mark), Some(wanted)) = (step["since"].as_str(), step["at_ms"].as_u64()) else {
            return Ok(());
        };
        let mark = self.marks.get(mark).ok_or_else(|| format!("no mark {mark}"))?;
        let (got, tolerance) = (
            at.saturating_duration_since(*mark),
            step["tol_ms"].as_u64().unwrap_or(500),
        );
        if got + EARLY_GRACE >= ms(wanted) && got <= ms(wanted + tolerance) {
            return Ok(());
        }
        Err(format!(
            "expected {wanted} ms (+{tolerance}) after the mark, got {} ms",
            got.as_millis()
        ))
    }

    /// Compares an HTTP answer (None: the connection ended without one) with `expect`.
    pub fn answer(&self, expect: &Value, got: Option<&Response>) -> Check {
        if let Some(alternatives) = expect["one_of"].as_array() {
            let errors: Vec<String> = alternatives.iter().map_while(|e| self.answer(e, got).err()).collect();
            return if errors.len() < alternatives.len() {
                Ok(())
            } else {
                Err(errors.join(" / "))
            };
        }
        if expect["dropped"] == true {
            return got.map_or(Ok(()), |r| {
                Err(format!("expected a dropped connection, got {}", describe(r)))
            });
        }
        let got = got.ok_or("expected an answer, the connection ended without one")?;
        let unless = |right: bool, wanted: String| {
            if right {
                Ok(())
            } else {
                Err(format!("expected {wanted}, got {}", describe(got)))
            }
        };
        unless(expect["status"] == got.status, format!("status {}", expect["status"]))?;
        let json = got.json();
        if let Some(wanted) = expect.get("json") {
            let wanted = self.fill(wanted);
            unless(json.as_ref() == Some(&wanted), format!("json {wanted}"))?;
        }
        for (key, wanted) in expect["json_subset"].as_object().into_iter().flatten() {
            let wanted = self.fill(wanted);
            unless(
                json.as_ref().and_then(|j| j.get(key)) == Some(&wanted),
                format!("{key} = {wanted}"),
            )?;
        }
        if let Some(wanted) = expect["body"].as_str() {
            unless(got.text() == wanted, format!("body {wanted:?}"))?;
        }
        if let Some(wanted) = expect["body_contains"].as_str() {
            unless(got.text().contains(wanted), format!("a body with {wanted:?}"))?;
        }
        if let Some(least) = expect["min_ms"].as_u64() {
            unless(
                got.elapsed + MIN_GRACE >= ms(least),
                format!("an answer after {least} ms"),
            )?;
        }
        if let Some(most) = expect["max_ms"].as_u64() {
            unless(got.elapsed <= ms(most), format!("an answer within {most} ms"))?;
        }
        Ok(())
    }
}

/// Compares the answer to an upgrade request.
pub fn upgrade(expect: &Value, got: &Response, accept_is_right: bool) -> Check {
    if expect["status"] != got.status {
        return Err(format!(
            "expected upgrade status {}, got {}",
            expect["status"],
            describe(got)
        ));
    }
    if got.status == 101 && !accept_is_right {
        return Err(format!("wrong Sec-WebSocket-Accept: {:?}", got.headers));
    }
    if let Some(body) = expect["body"].as_str().filter(|b| got.text() != *b) {
        return Err(format!("expected body {body:?}, got {:?}", got.text()));
    }
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        if got.header(name) != value.as_str() {
            return Err(format!("header {name}: expected {value}, got {:?}", got.header(name)));
        }
    }
    for name in expect["headers_absent"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if let Some(value) = got.header(name) {
            return Err(format!("header {name} must be absent, got {value:?}"));
        }
    }
    Ok(())
}

fn describe(response: &Response) -> String {
    format!(
        "status {} body {} after {} ms",
        response.status,
        excerpt(&response.body, 200),
        response.elapsed.as_millis()
    )
}

#[test]
fn placeholders_bind_and_compare() {
    let mut bindings = Bindings {
        token: "testtoken".into(),
        ..Bindings::default()
    };
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    assert!(bindings.text("<identity:x>", &a, "id", &[]).is_ok());
    assert!(
        bindings.text("<identity:x>", &b, "id", &[]).is_err(),
        "bound to another value"
    );
    assert!(bindings.text("<identity:y>", &a, "id", &[]).is_err(), "belongs to x");
    assert!(bindings.text("<identity:y>", "xyz", "id", &[]).is_err());
    assert!(
        bindings
            .text("<ts>", &http::unix_seconds().to_string(), "ts", &[])
            .is_ok()
    );
    assert!(bindings.text("<ts>", "12", "ts", &[]).is_err());
    assert!(bindings.text("<nonce>", "999", "nonce", &[]).is_err());
    let query = http::signature("testtoken");
    assert!(bindings.text("<sig>", &query[2].1, "signature", &query).is_ok());
    assert!(bindings.text("<sig>", "0", "signature", &query).is_err());
    assert_eq!(
        bindings.fill(&serde_json::json!({"identity": "<identity:x>"}))["identity"],
        a
    );
}

#[test]
fn answers_compare_every_key() {
    let bindings = Bindings::default();
    let got = Response {
        status: 200,
        body: br#"{"status": 0, "n": [1]}"#.to_vec(),
        elapsed: ms(100),
        ..Response::default()
    };
    let check = |expect: Value| bindings.answer(&expect, Some(&got)).is_ok();
    assert!(check(
        serde_json::json!({"status": 200, "json": {"n": [1], "status": 0}, "min_ms": 90, "max_ms": 200})
    ));
    assert!(!check(serde_json::json!({"status": 200, "json": {"status": 0}})));
    assert!(check(serde_json::json!({"status": 200, "json_subset": {"status": 0}})));
    assert!(!check(serde_json::json!({"status": 200, "max_ms": 50})));
    assert!(check(serde_json::json!({"one_of": [{"status": 500}, {"status": 200}]})));
    assert!(!check(
        serde_json::json!({"one_of": [{"status": 500}, {"status": 400}]})
    ));
    assert!(bindings.answer(&serde_json::json!({"status": 200}), None).is_err());
}
