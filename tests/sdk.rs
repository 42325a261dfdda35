//! The SDKs below `sdk/`: each client passes the scripted sessions of `sdk/conformance`, and works with the real server.
//! What needs an interpreter that is not installed says NOT RUN, and fails with `CI=true`.

#![cfg(feature = "runtime")]

use std::process::Command;

/// Debian's own interpreter: the one that sees Debian's Django, Flask and FastAPI.
const PYTHON: &str = "/usr/bin/python3";

/// Runs a script below `sdk/` and returns what it printed. Panics with that when it fails.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = match Command::new(program).args(arguments).current_dir(root).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "NOT RUN: {program}: {error}");
            println!("NOT RUN: {program}: {error}");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}",
        output.status
    );
    Some(text)
}

/// The line `N passed, N failed, N skipped` of the suite must have exactly these figures.
fn conformance(driver: &[&str], without: &[&str], closing: &str) {
    let mut arguments = vec!["sdk/conformance/run.py"];
    without
        .iter()
        .for_each(|ability| arguments.extend(["--without", ability]));
    arguments.push("--");
    arguments.extend(driver);
    if let Some(text) = run(PYTHON, &arguments) {
        assert!(text.trim_end().ends_with(closing), "{text}");
    }
}

/// `docs/client.md` names the session that holds each rule.
#[test]
fn the_text_for_authors_of_clients_names_sessions_that_exist() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    let (text, sessions) = (read("docs/client.md"), read("sdk/conformance/sessions.json"));
    let settings = read("docs/configuration.md");
    let looks_like_one = |word: &&str| {
        let is_plain = word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let is_setting = settings.contains(&format!("\n| `{word}` |"));
        is_plain && word.matches('_').count() >= 2 && !is_setting
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(looks_like_one).collect();
    assert!(named.len() > 25, "{named:?}");
    for name in named {
        assert!(sessions.contains(&format!("{{\"name\": \"{name}\"")), "{name}");
    }
}

#[test]
fn the_python_client_conforms() {
    conformance(
        &[PYTHON, "sdk/python/tests/driver.py"],
        &[],
        "42 passed, 0 failed, 0 skipped",
    );
}

/// Scripts cannot see the status of a refused handshake: the two sessions about it are left out.
#[test]
fn the_javascript_client_conforms() {
    let driver = [
        "node",
        "--no-warnings",
        "--experimental-websocket",
        "sdk/js/tests/driver.mjs",
    ];
    conformance(&driver, &["status"], "40 passed, 0 failed, 2 skipped");
}

#[test]
fn the_javascript_client_leaves_and_comes_back_with_its_page() {
    if let Some(text) = run("node", &["sdk/js/tests/page.mjs"]) {
        assert!(text.contains("page: ok"), "{text}");
    }
}

#[test]
fn the_python_backend_side_answers_in_every_framework() {
    if let Some(text) = run(PYTHON, &["-W", "ignore", "sdk/python/tests/test_backend.py"]) {
        assert!(text.contains("\nOK"), "{text}");
    }
}

#[test]
fn the_python_sides_work_with_the_server() {
    let server = env!("CARGO_BIN_EXE_rainbow-server");
    if let Some(text) = run(PYTHON, &["sdk/python/tests/end_to_end.py", server]) {
        assert!(text.contains("end to end with hmac-sha256: ok"), "{text}");
    }
}
