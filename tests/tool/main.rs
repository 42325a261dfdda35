//! The subcommands, from outside: the built program beside a running server, a scripted backend and raw clients. Results on
//! standard output, the rest on standard error, and the exit codes of `--help`.
#![cfg(feature = "runtime")]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod doctor;
mod shells;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::business::{Business, Reply};
use common::server::{Builder, Server, TOKEN};

/// What is under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rainbow-server");

/// The program with the secret in its environment.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env("RAINBOW_TOKEN", TOKEN);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
fn read(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

fn run(args: &[&str]) -> (i32, String, String) {
    read(command(args).output().expect("run"))
}

fn run_with_input(args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = command(args).stdin(Stdio::piped()).spawn().expect("run");
    child
        .stdin
        .take()
        .expect("input")
        .write_all(input.as_bytes())
        .expect("write");
    read(child.wait_with_output().expect("wait"))
}

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.port())
}

/// A backend that puts everybody into `lobby`, and a server.
fn lobby() -> (Business, Server) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("lobby"));
    let server = Builder::new(&business).start();
    (business, server)
}

#[test]
fn the_server_still_ignores_words() {
    let output = command(&["--version", "send"]).output().expect("run");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("rainbow-server "));
}
