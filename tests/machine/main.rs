//! The machine under the server: what it may use of processors, descriptors and io_uring, the addresses and ports it finds, its
//! standard output and error, and signals that come early. Limits for clients are in `limits/`, a wrong clock in `chaos/`.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod descriptors;
mod output;
mod processors;
mod ring;
mod signals;
mod wall_clock;

use common::server::Server;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The binary under test.
const SERVER: &str = env!("CARGO_BIN_EXE_rainbow-server");

/// Runs a shell script, in which `$0` is the server.
fn shell(script: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, SERVER])
        .args(arguments)
        .stdin(Stdio::null());
    command.output().expect("sh")
}

/// A tool this machine lacks: says so, and fails where everything has to run.
fn not_run(what: &str, why: &str) {
    assert!(std::env::var("CI").map_or(true, |v| v != "true"), "{what}: {why}");
    // Not eprintln: the test harness would hide the line of a test that passes.
    let _ = std::io::stderr().write_all(format!("NOT RUN: {what}: {why}\n").as_bytes());
}

/// Whether a command can be run here with these arguments.
fn can_run(command: &str, arguments: &[&str]) -> bool {
    let output = Command::new(command).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// The value after `key:` in `/proc/PID/status`, of the process or of one of its threads.
fn status_of(task: &str, key: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

/// Name and processors of each thread of a server.
fn threads(server: &Server) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
    let of = |task: String| Some((status_of(&task, "Name")?, status_of(&task, "Cpus_allowed_list")?));
    let tasks = tasks.map(|task| task.expect("task").file_name().into_string().expect("number"));
    tasks
        .filter_map(|task| of(format!("{}/task/{task}", server.pid())))
        .collect()
}
