//! The document, the example, and the server say the same.

use super::*;
use common::unhex;
use rainbow_server::protocol::rainbow::sign::{self, Rules, Scheme, Secrets, Signed};
use std::collections::HashMap;
use std::time::Duration;

/// One `vector` block of the document.
type Vector = HashMap<String, String>;

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/signature.md");
    let text = std::fs::read_to_string(path).expect("docs/signature.md");
    let blocks = text.split("```vector\n").skip(1);
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.trim().to_owned())
    };
    blocks
        .map(|block| {
            block
                .split("```")
                .next()
                .unwrap_or_default()
                .lines()
                .map(pair)
                .collect()
        })
        .collect()
}

#[test]
fn the_vectors_of_the_document() {
    let vectors = vectors();
    let of = |scheme: &str| vectors.iter().filter(|v| v["scheme"] == scheme).count();
    assert!(of("hmac-sha256") >= 6 && of("sha1") >= 3);
    for v in &vectors {
        let secret = v["secret"].as_bytes();
        if v["scheme"] == "sha1" {
            let ours = sign::signature(secret, v["timestamp"].as_bytes(), v["nonce"].as_bytes());
            assert_eq!(String::from_utf8_lossy(&ours), v["signature"], "{v:?}");
            assert_eq!(http::sign(&v["secret"], &v["timestamp"], &v["nonce"]), v["signature"]);
            continue;
        }
        let body = unhex(&v["body-hex"]);
        let target = v["target"].as_bytes();
        assert_eq!(hex(&Sha256::digest(&body)), v["body-sha"], "{v:?}");
        let ours = sign::hmac::digest(secret, &v["method"], &[target], &sign::Body::new(&body).digest());
        assert_eq!(hex(&ours), v["signature"], "{v:?}");
        assert_eq!(
            signature(&v["secret"], &v["method"], &v["target"], &body),
            v["signature"]
        );
        let (path, query) = v["target"].split_once('?').expect("a query");
        let query = format!("{query}&signature={}", v["signature"]);
        let request = Signed {
            method: &v["method"],
            path: path.as_bytes(),
            query: query.as_bytes(),
            body: &body,
        };
        let rules = Rules {
            secrets: Secrets::one(secret),
            accept: &[Scheme::HmacSha256],
            window: Duration::from_secs(10),
        };
        assert!(rules.check(&request, 1_420_000_000_000_000).is_ok(), "{v:?}");
    }
}

#[test]
fn the_python_example_computes_the_vectors() {
    let vectors: Vec<_> = vectors().into_iter().filter(|v| v["scheme"] == "hmac-sha256").collect();
    let calls: Vec<Value> = vectors
        .iter()
        .map(|v| json!(["signature", v["secret"], v["method"], v["target"], v["body-hex"]]))
        .collect();
    let Some(results) = python(&calls) else { return };
    for (v, result) in vectors.iter().zip(results) {
        assert_eq!(result, v["signature"], "{v:?}");
    }
}

#[test]
fn the_python_example_signs_what_the_server_accepts() {
    let business = Business::start();
    let server = strict(&business).start();
    let target = "/send/?channel=gr%C3%BCn&qos=0";
    let calls = [
        json!(["sign", TOKEN, "POST", target, "00ff"]),
        json!(["sign", TOKEN, "GET", "/send/", ""]),
    ];
    let Some(results) = python(&calls) else { return };
    let post = raw("POST", results[0].as_str().expect("a target"), &[0, 255]);
    assert_eq!(answer(&server, &post), fine());
    let get = raw("GET", results[1].as_str().expect("a target"), b"");
    assert_eq!(http::call(server.port(), &get, SOON).expect("an answer").text(), "ok");
}

#[test]
fn the_python_example_refuses_what_it_should() {
    let target = |timestamp| signed_at("new", "POST", "/m/7/", b"x", timestamp, "1");
    let now = http::unix_seconds();
    let (good, other) = (target(now), target(now - 1));
    let verify = |target: &str, method: &str, body: &str| json!(["verify", ["old", "new"], method, target, body]);
    let unknown = json!(["verify", ["old"], "POST", good, "78"]);
    let calls = [
        unknown,
        verify(&good, "GET", "78"),
        verify(&good, "POST", "79"),
        verify(&good.replace("/7/", "/8/"), "POST", "78"),
        verify(&target(now - 30), "POST", "78"),
        verify(&target(now + 30), "POST", "78"),
        verify("/m/7/", "POST", "78"),
        verify("/m/7/?timestamp=1&nonce=1&signature=\u{e9}", "POST", "78"),
        verify(&good, "POST", "78"),
        verify(&other, "POST", "78"),
        verify(&good, "POST", "78"),
    ];
    let Some(results) = python(&calls) else { return };
    let expected: Vec<Value> = (0..11).map(|at| Value::Bool(at == 8 || at == 9)).collect();
    assert_eq!(results, expected);
}
