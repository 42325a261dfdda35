//! The golden packets of rainbow-server 0.05 against the running server: one server, one connection per packet.
//!
//! Two differences from the recording are allowed for in `expected`: a SEND without payload is forwarded and answered (spec §7, a
//! fix), and QoS bits 3 may be dropped instead of forwarded (§6), but are never answered.
#![cfg(feature = "runtime")]

mod common;

use common::business::{Business, Request};
use common::client::{Client, Frame, Op, Open};
use common::server::Builder;
use common::{SOON, hex, unhex};
use serde_json::Value;
use std::sync::Mutex;
use std::time::Duration;

const GOLDENS: &str = include_str!("golden/rainbow_packets.json");

/// Cases that run at once; each sleeps through `QUIET`.
const PARALLEL: usize = 16;

/// How long a case waits for what must not come.
const QUIET: Duration = Duration::from_millis(300);

/// What one packet causes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    /// Path, and body in hex.
    forwarded: Vec<(String, String)>,
    /// Binary frames sent back, in hex.
    replies: Vec<String>,
}

#[test]
fn packets_on_the_default_driver() {
    run_all(|builder| builder);
}

#[test]
fn packets_on_epoll() {
    run_all(Builder::legacy_driver);
}

fn run_all(driver: impl Fn(Builder) -> Builder) {
    let goldens: Value = serde_json::from_str(GOLDENS).expect("golden packets");
    let cases = goldens["decode"].as_array().expect("decode cases");
    assert_eq!(cases.len(), 75);
    let business = Business::start();
    let server = driver(Builder::new(&business)).start();
    let (queue, failures) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().expect("queue").next() } {
                    if let Err(error) = run_case(server.port(), &business, case) {
                        failures
                            .lock()
                            .expect("failures")
                            .push(format!("{} {}: {error}", case["id"], case["note"]));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("failures");
    assert!(
        failures.is_empty(),
        "{} of {} packets failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Sends one packet on a fresh connection; the device id of the connection tells its forwards from those of other cases.
fn run_case(port: u16, business: &Business, case: &Value) -> Result<(), String> {
    let (device, packet) = (
        case["id"].as_str().expect("id"),
        unhex(case["hex"].as_str().expect("hex")),
    );
    let headers = [("X-DEVICEID", device), ("X-CLIENT-OS", "ios7")].map(|(k, v)| (k.into(), v.into()));
    let open = Open {
        headers: headers.to_vec(),
        ..Open::default()
    };
    let client = Client::start(port, open).map_err(|e| e.to_string())?;
    let status = client.answer(SOON).map_err(|e| e.to_string())?.status;
    if status != 101 {
        return Err(format!("upgrade refused with {status}"));
    }
    client.send(&packet);
    let expected = expected(case);
    let mut got = Outcome::default();
    // What is wanted may be slow to come, what is not wanted gets a short time.
    for _ in 0..expected[0].replies.len() {
        got.replies
            .push(reply(client.next(SOON).ok_or("the reply is missing")?)?);
    }
    while let Some(frame) = client.next(QUIET) {
        got.replies.push(reply(frame)?);
    }
    got.forwarded = forwards_of(business, device);
    client.frame(Op::Ping, b"alive?");
    let pong = client
        .next(SOON)
        .ok_or("the connection does not answer pings any more")?;
    if (pong.op, &pong.payload[..]) != (Op::Pong, b"alive?") {
        return Err(format!("expected a pong, got {:?} {}", pong.op, hex(&pong.payload)));
    }
    if expected.contains(&got) {
        Ok(())
    } else {
        Err(format!("expected one of {expected:?}, got {got:?}"))
    }
}

fn reply(frame: Frame) -> Result<String, String> {
    match frame.op {
        Op::Binary => Ok(hex(&frame.payload)),
        op => Err(format!("unexpected {op:?} frame {}", hex(&frame.payload))),
    }
}

fn forwards_of(business: &Business, device: &str) -> Vec<(String, String)> {
    let all = business.requests();
    let connect = all
        .iter()
        .find(|r| r.path == "/connect/" && r.header("x-deviceid").as_deref() == Some(device));
    let identity = connect.map(Request::identity).unwrap_or_default();
    let own = all
        .iter()
        .filter(|r| r.path.starts_with("/message/") && r.identity() == identity);
    own.map(|r| (r.path.clone(), hex(&r.body))).collect()
}

/// Every acceptable outcome of one case.
fn expected(case: &Value) -> Vec<Outcome> {
    let (server, fields) = (&case["server"], &case["fields"]);
    assert_eq!(server["connection"], "open");
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    let path = |kind: &Value| format!("/message/{kind}/");
    let forwarded = server["forwarded"].as_array().expect("forwarded").iter();
    let recorded = Outcome {
        forwarded: forwarded.map(|f| (path(&f["msgtype"]), text(&f["body_hex"]))).collect(),
        replies: server["reply_frames_hex"]
            .as_array()
            .expect("reply frames")
            .iter()
            .map(text)
            .collect(),
    };
    if fields["name"] != "SEND" {
        return vec![recorded];
    }
    let qos = fields["qos"].as_u64().expect("qos");
    if qos == 3 {
        return vec![recorded, Outcome::default()];
    }
    if !fields["data_hex"].is_null() {
        return vec![recorded];
    }
    let command = ["", "20", "30"][qos as usize];
    let replies = fields["message_id"]
        .as_u64()
        .map(|id| format!("{command}{id:04x}{}", hex(b"ok")));
    vec![Outcome {
        forwarded: vec![(path(&fields["msgtype"]), String::new())],
        replies: replies.into_iter().collect(),
    }]
}

/// The cases that differ from the recording are the ones listed in the header.
#[test]
fn differences_from_the_recording() {
    let goldens: Value = serde_json::from_str(GOLDENS).expect("golden packets");
    let cases = goldens["decode"].as_array().expect("decode cases").iter();
    let differing: Vec<&str> = cases
        .filter(|case| {
            let recorded = case["server"]["forwarded"].as_array().expect("forwarded").len();
            expected(case).iter().any(|outcome| outcome.forwarded.len() != recorded)
        })
        .map(|case| case["id"].as_str().expect("id"))
        .collect();
    assert_eq!(differing, ["d02", "d09", "d11", "d16", "d17", "d20"]);
}
