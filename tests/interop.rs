//! An independent websocket implementation, the Python library `websockets`, against the binary.
//!
//! Needs python3. The package is taken from the system when it is there, else installed into `target/` by `interop/setup.sh`.
//! Without them the test says so and passes, except under `CI=true`, where it fails.
#![cfg(feature = "runtime")]

mod common;

use common::business::{Business, Reply};
use common::server::{Builder, TOKEN};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const CHECKS: usize = 13;
const WITHIN: Duration = Duration::from_secs(90);

/// A Python interpreter that can import `websockets`, or why there is none.
fn python() -> &'static Result<String, String> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let import = Command::new("python3")
            .args(["-c", "import websockets.sync.client"])
            .stderr(Stdio::null())
            .status();
        match import {
            Err(e) => return Err(format!("python3 does not start: {e}")),
            Ok(status) if status.success() => return Ok("python3".into()),
            Ok(_) => {}
        }
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/setup.sh");
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-venv");
        let output = Command::new("sh")
            .arg(setup)
            .arg(venv)
            .output()
            .map_err(|e| format!("sh does not start: {e}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(format!(
            "the package websockets is missing: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    })
}

fn drive(configure: impl FnOnce(Builder) -> Builder) {
    let python = match python() {
        Ok(python) => python,
        Err(why) if std::env::var("CI").is_ok_and(|v| v == "true") => panic!("interop cannot run: {why}"),
        Err(why) => {
            // Not eprintln: the test harness would hide the line of a test that passes.
            let line = format!("interop DID NOT RUN: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        }
    };
    let business = Business::start();
    business.reply("/connect/", Reply::channels("interop"));
    let server = configure(Builder::new(&business)).start();
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/websockets_client.py"))
        .args([&server.port().to_string(), TOKEN])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("start python");
    let finished = common::eventually(WITHIN, || child.try_wait().expect("wait for python").is_some());
    if !finished {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("output of python");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(finished, "not finished after {WITHIN:?}:\n{text}");
    assert!(output.status.success(), "{text}");
    assert_eq!(
        text.lines().filter(|l| l.starts_with("ok ")).count(),
        CHECKS,
        "checks that ran:\n{text}"
    );
    server.expect_no_channels();
}

#[test]
fn python_websockets_on_the_default_driver() {
    drive(|b| b.set("workers", 2));
}

#[test]
fn python_websockets_on_epoll() {
    drive(Builder::legacy_driver);
}
