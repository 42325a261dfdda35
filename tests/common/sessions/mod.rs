//! Plays scripted sessions (`golden/rainbow_sessions*.json`) against a fresh server.
//!
//! A session is a list of steps that run strictly in order; `steps.rs` has one function per kind of step, `expect.rs` compares.
//! The files name fixed ports (business 8000, discovery 2014); they are replaced by free ones before a session runs, so sessions
//! run in parallel. Every session recorded from rainbow-server 0.05 has one `Rule`: play it as recorded, play its replacement
//! (`fix`: the original's behaviour was a bug), or accept either of the two.

mod expect;
mod steps;

use super::business::{Business, Mode, Reply};
use super::server::Builder;
use super::{ms, ports, unhex};
use serde_json::Value;
use std::sync::OnceLock;

const RECORDED: &str = include_str!("../../golden/rainbow_sessions.json");
const REPLACEMENTS: &str = include_str!("../../golden/rainbow_sessions_fixed.json");

const BUSINESS_PORT: u64 = 8000;
const DISCOVERY_PORT: u64 = 2014;

/// The kernel interface the server is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The server's own choice, io_uring where it is allowed.
    Default,
    Epoll,
}

/// The file recorded from the original.
pub fn recorded() -> &'static Value {
    static FILE: OnceLock<Value> = OnceLock::new();
    FILE.get_or_init(|| serde_json::from_str(RECORDED).expect("golden sessions"))
}

/// Replacements, each with `name`, `mode` (`fix` or `either`), `why` and `steps`.
pub fn replacements() -> &'static Value {
    static FILE: OnceLock<Value> = OnceLock::new();
    FILE.get_or_init(|| serde_json::from_str(REPLACEMENTS).expect("replacement sessions"))
}

/// Names of the sessions of one file, in order.
pub fn names(file: &'static Value) -> Vec<&'static str> {
    let sessions = file["sessions"].as_array().expect("sessions");
    sessions
        .iter()
        .map(|s| s["name"].as_str().expect("session name"))
        .collect()
}

fn find(file: &'static Value, name: &str) -> Option<&'static Value> {
    file["sessions"]
        .as_array()
        .expect("sessions")
        .iter()
        .find(|s| s["name"] == name)
}

/// Plays the session of that name the way its rule says; panics with the failing step.
pub fn run(name: &str, driver: Driver) {
    let session = find(recorded(), name).unwrap_or_else(|| panic!("no session {name}"));
    let replacement = find(replacements(), name);
    let fixed = |r: &Value| play(session, r, driver);
    let outcome = match replacement.map(|r| (r["mode"].as_str().expect("mode"), r)) {
        None => play(session, session, driver),
        Some(("fix", r)) => fixed(r),
        Some(("either", r)) => play(session, session, driver)
            .or_else(|a| fixed(r).map_err(|b| format!("neither outcome:\n as recorded: {a}\n the other: {b}"))),
        Some((mode, _)) => panic!("unknown mode {mode} of {name}"),
    };
    if let Err(error) = outcome {
        panic!("session {name} on {driver:?}: {error}");
    }
}

/// Plays the steps of `outcome` (the session itself, or its replacement) on a fresh server and business server, with the
/// settings of both.
fn play(session: &Value, outcome: &Value, driver: Driver) -> Result<(), String> {
    let (business, discovery) = (Business::start(), ports::claim());
    let remap = Ports {
        business: business.port(),
        discovery: discovery.number,
    };
    let defaults = remap.apply(&recorded()["defaults"]);
    for (path, reply) in defaults["business_replies"].as_object().expect("business_replies") {
        business.reply(path, scripted_reply(reply));
    }
    let steps = remap.apply(&outcome["steps"]);
    let steps = steps.as_array().expect("steps");
    let mut builder = Builder::bare().set("cluster_udp", "no");
    if steps.iter().any(|s| s["do"] == "udp_send") {
        let range = format!("{0}-{0}", discovery.number);
        builder = builder.set("cluster_udp", "yes").set("cluster_udp_ports", range);
    }
    for config in [
        &defaults["config"],
        &remap.apply(&session["config"]),
        &remap.apply(&outcome["config"]),
    ] {
        for (key, value) in config.as_object().into_iter().flatten() {
            builder = match value.as_str() {
                Some(text) => builder.set(key, text),
                None => builder.unset(key),
            };
        }
    }
    if driver == Driver::Epoll {
        builder = builder.legacy_driver();
    }
    let mut player = steps::Player::new(builder.start(), business);
    for (number, step) in steps.iter().enumerate() {
        player.step(step).map_err(|e| {
            let step: String = step.to_string().chars().take(500).collect();
            format!(
                "step {number} {step}: {e}\n--- end of the server's log:\n{}---",
                player.server.log_tail()
            )
        })?;
    }
    Ok(())
}

/// Replaces the fixed ports of the files.
struct Ports {
    business: u16,
    discovery: u16,
}

impl Ports {
    fn apply(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let address = |port: u64| format!("127.0.0.1:{port}");
                text.replace(&address(BUSINESS_PORT), &address(self.business.into()))
                    .into()
            }
            Value::Array(items) => items.iter().map(|v| self.apply(v)).collect(),
            Value::Object(items) => {
                let renumber = |key: &str, v: &Value| match (key, v.as_u64()) {
                    ("port", Some(BUSINESS_PORT)) => self.business.into(),
                    ("port", Some(DISCOVERY_PORT)) => self.discovery.into(),
                    _ => self.apply(v),
                };
                Value::Object(items.iter().map(|(k, v)| (k.clone(), renumber(k, v))).collect())
            }
            other => other.clone(),
        }
    }
}

/// `biz_reply` (or a default) as a rule of the business server.
fn scripted_reply(step: &Value) -> Reply {
    let mut reply = Reply::ok(payload(step)).status(step["status"].as_u64().unwrap_or(200) as u16);
    reply.headers = pairs(&step["headers"]);
    reply.delay = ms(step["delay_ms"].as_u64().unwrap_or(0));
    reply.mode = match step["mode"].as_str() {
        None => Mode::Whole,
        Some("hang") => Mode::Hang,
        Some("drop") => Mode::Drop,
        Some(mode) => panic!("unknown mode {mode}"),
    };
    reply
}

/// `body` or `body_hex`.
fn payload(step: &Value) -> Vec<u8> {
    match step["body_hex"].as_str() {
        Some(hex) => unhex(hex),
        None => step["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

/// A list of [name, value] pairs; null means none.
fn pairs(list: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text in a pair").to_owned();
    list.as_array()
        .into_iter()
        .flatten()
        .map(|p| (text(&p[0]), text(&p[1])))
        .collect()
}
