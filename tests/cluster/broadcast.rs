//! The real thing: broadcasts to 255.255.255.255 between servers of two hosts, played by network namespaces. Needs root;
//! elsewhere the test says why it does not run.

use std::path::Path;
use std::process::Command;

/// Exit code of the script where namespaces cannot be made.
const NOT_PERMITTED: i32 = 77;

#[test]
fn servers_of_two_hosts_find_each_other() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster_broadcast.sh");
    let run = Command::new("sh")
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_rainbow-server"))
        .output();
    let run = run.expect("run the script");
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    match run.status.code() {
        Some(0) => {}
        Some(NOT_PERMITTED) => super::common::not_run(said.trim()),
        _ => panic!("{said}"),
    }
}
