//! The PHP class against a server: every method, from a process of PHP. Without php it says NOT RUN, and fails with `CI=true`.

use std::io::Write;
use std::process::Command;

use super::*;

#[test]
fn every_method_of_the_php_class() {
    let gateway = Gateway::start(Builder::gateway().set("workers", 2));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/php/tests/run.php");
    let ports = [gateway.server.port(), gateway.server.gateway_port()].map(|port| port.to_string());
    let output = match Command::new("php").arg(script).args(&ports).arg(TOKEN).output() {
        Ok(output) => output,
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "php does not start: {why}");
            let _ = std::io::stderr().write_all(format!("NOT RUN: php does not start: {why}\n").as_bytes());
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("44 methods, all as expected"), "{text}");
}
