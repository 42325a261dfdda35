//! The page of the demonstration in a real browser: Chromium, driven by `page.mjs` over its DevTools protocol.
//!
//! Needs chromium and node. Without them the test says so and passes, except under `CI=true`, where it fails.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

use std::process::{Command, Stdio};

use common::server::Builder;

fn runs(program: &str) -> bool {
    let mut version = Command::new(program);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| runs(name))
    else {
        return common::not_run("there is no chromium");
    };
    if !runs("node") {
        return common::not_run("there is no node");
    }
    let server = Builder::demo().start();
    let profile = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{}", std::process::id()));
    std::fs::create_dir_all(&profile).expect("directory");
    let output = Command::new("node")
        .args(["--experimental-websocket", "--no-warnings", "tests/browser/page.mjs"])
        .arg(chromium)
        .arg(&profile)
        .arg(format!("http://127.0.0.1:{}/demo/", server.port()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("node runs");
    let _ = std::fs::remove_dir_all(&profile);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("ok: 5 checks"), "{said}");
}
