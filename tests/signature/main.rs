//! Signatures seen from outside: the vectors of docs/signature.md, the Python example, and every direction on the wire.
//!
//! What is signed is written down here once more, from the document. The Python parts need python3; without it they say so
//! and pass, except under `CI=true`, where they fail.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod callbacks;
mod calls;
mod cluster;
mod vectors;

use common::business::Business;
use common::hmac::{raw, signature, signed_at};
use common::http::{self, Request};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::process::{Command, Stdio};

/// A request signed now.
fn signed(secret: &str, method: &str, target: &str, body: &[u8]) -> Request {
    let target = signed_at(secret, method, target, body, http::unix_seconds(), &http::nonce());
    raw(method, &target, body)
}

/// Status and, of a 200, what it says.
fn answer(server: &Server, request: &Request) -> (u16, Value) {
    let answer = http::call(server.port(), request, SOON).expect("an answer");
    let value = answer.json().unwrap_or(Value::Null);
    (answer.status, if answer.status == 200 { value } else { Value::Null })
}

fn fine() -> (u16, Value) {
    (200, json!({"status": 0}))
}

fn failed(msg: &str) -> (u16, Value) {
    (200, json!({"status": 1, "msg": msg}))
}

/// A server that wants hmac-sha256.
fn strict(business: &Business) -> Builder {
    Builder::new(business).set("signature", "hmac-sha256")
}

const SEND: &str = "/send/?channel=room&qos=0";

/// Whether the business server was sent what the document says.
fn is_signed(request: &common::business::Request, secret: &str) -> bool {
    let (target, claimed) = request.target.rsplit_once("&signature=").expect("a signature");
    claimed == signature(secret, &request.method, target, &request.body)
}

/// Calls functions of `examples/verify_signature.py`, each given as name, arguments, and the body in hex; `None` without
/// Python.
fn python(calls: &[Value]) -> Option<Vec<Value>> {
    const DRIVER: &str = "import json, sys\nsys.path.insert(0, sys.argv[1])\nimport verify_signature\n\
                          for line in sys.stdin:\n    name, *rest, body = json.loads(line)\n    \
                          print(json.dumps(getattr(verify_signature, name)(*rest, bytes.fromhex(body))))\n";
    let started = Command::new("python3")
        .args(["-B", "-c", DRIVER, concat!(env!("CARGO_MANIFEST_DIR"), "/examples")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(why) if std::env::var("CI").is_ok_and(|v| v == "true") => panic!("python3 does not start: {why}"),
        Err(why) => {
            // Not eprintln: the test harness would hide the line of a test that passes.
            let line = format!("examples/verify_signature.py WAS NOT TESTED: python3 does not start: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
    };
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    let mut input = child.stdin.take().expect("stdin");
    input.write_all(lines.as_bytes()).expect("python reads");
    drop(input);
    let output = child.wait_with_output().expect("output of python");
    assert!(output.status.success(), "the example failed");
    let text = String::from_utf8(output.stdout).expect("text");
    let results: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(results.len(), calls.len());
    Some(results)
}
