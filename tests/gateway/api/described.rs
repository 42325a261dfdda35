//! The description at `/v1/openapi.json` against the implementation: schemathesis makes requests from it, good and bad ones,
//! and looks at the answers. It is installed into `target/` by `schemathesis.sh`; where that is not possible the test says NOT
//! RUN, and fails with `CI=true`.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use rainbow_server::protocol::gateway::api::FUNCTIONS;

use super::*;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
    negative_data_rejection,unsupported_method,ignored_auth";

/// Lists that are too long are refused with 413.
const SETTINGS: &str = "[checks]\nnegative_data_rejection.expected-statuses = [400, 404, 405, 413]\n";

fn program() -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/api/schemathesis.sh");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis-venv");
    let output = Command::new("sh")
        .arg(script)
        .arg(venv)
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[test]
fn what_is_described_is_what_is_there() {
    let program = match program() {
        Ok(program) => program,
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "schemathesis cannot be installed: {why}");
            let _ =
                std::io::stderr().write_all(format!("NOT RUN: schemathesis cannot be installed: {why}\n").as_bytes());
            return;
        }
    };
    let gateway = Gateway::start(Builder::gateway().set("workers", 2));
    let (client, id) = gateway.connect();
    gateway.call("bindUid", json!([id, "u"]));
    gateway.call("joinGroup", json!([id, "g"]));
    let place = std::env::temp_dir().join(format!("schemathesis-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a folder");
    std::fs::write(place.join("schemathesis.toml"), SETTINGS).expect("the settings");
    let output = Command::new(program)
        .arg("run")
        .arg(format!("http://127.0.0.1:{}/v1/openapi.json", gateway.server.port()))
        .args([
            "--header",
            &format!("Authorization: Bearer {TOKEN}"),
            "--checks",
            CHECKS,
            "--seed",
            "1",
        ])
        .args([
            "--max-examples",
            "20",
            "--workers",
            "1",
            "--no-color",
            "--request-timeout",
            "10",
        ])
        .env("NO_PROXY", "*")
        .current_dir(&place)
        .output()
        .expect("schemathesis starts");
    let _ = std::fs::remove_dir_all(&place);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // Every route, and `/v1/call/`.
    let routes = FUNCTIONS.iter().filter(|function| function.route.is_some()).count() + 1;
    assert!(text.contains(&format!("Tested: {routes}\n")), "{text}");
    gateway.get("/v1/clients:count");
    drop(client);
}
