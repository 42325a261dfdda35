//! `doctor`.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::common::business::{Business, Reply};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, eventually, ports};
use super::{PROGRAM, read, run};

/// Findings of a check by level and text.
fn findings(out: &str, check: &str) -> Vec<(String, String)> {
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let word = |line: &Value, name: &str| line[name].as_str().expect(name).to_owned();
    let own = lines.filter(|line| line["check"] == check);
    own.map(|line| (word(&line, "level"), word(&line, "text"))).collect()
}

fn doctor(file: &Path, more: &[&str]) -> (i32, String, String) {
    run(&[&["doctor", "--json", "-f", file.to_str().expect("UTF-8")][..], more].concat())
}

#[test]
fn the_doctor_finds_a_server_that_works() {
    let business = Business::start();
    let port = Arc::new(ports::claim());
    let builder = Builder::new(&business)
        .set("http_port", port.number)
        .set("bind", "127.0.0.1");
    let server = builder.set("port_search", "no").on(&port).start();
    let (code, out, said) = doctor(&server.ini, &["--connect"]);
    assert_eq!(code, 0, "{out}{said}");
    for (check, text) in [
        ("settings", "is valid"),
        ("open files", "room for"),
        ("port", "a rainbow-server runs there"),
        ("signature", "takes signatures made with this secret"),
        ("connect_url", "to a signed OPTIONS"),
        ("forward_url", "to a signed OPTIONS"),
        ("close_url", "to a signed OPTIONS"),
        ("connect", "lets a client in"),
        ("close", "told that it has gone"),
    ] {
        let found = findings(&out, check);
        assert!(
            found.iter().any(|(level, found)| level == "ok" && found.contains(text)),
            "{check}: {out}"
        );
    }
    assert_eq!(findings(&out, "io_uring").len(), 1, "{out}");
    let requests = business.requests();
    let of = |method: &str| requests.iter().filter(|request| request.method == method).count();
    assert_eq!((of("OPTIONS"), of("GET"), of("POST")), (3, 2, 0));
    assert_eq!(
        requests[3].identity(),
        requests[4].identity(),
        "the client that came is the one that went"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.query.iter().any(|(name, _)| name == "signature"))
    );
}

#[test]
fn the_doctor_names_what_is_wrong() {
    let business = Business::start();
    let port = Arc::new(ports::claim());
    let builder = Builder::new(&business)
        .set("http_port", port.number)
        .set("bind", "127.0.0.1")
        .on(&port);
    let server = builder.start();
    let problem = |out: &str, check: &str, text: &str| {
        let found = findings(out, check);
        assert!(
            found
                .iter()
                .any(|(level, found)| level == "problem" && found.contains(text)),
            "{check} {text}: {out}"
        );
    };
    // The file has changed since the server has read it; the backend is another one that has other secrets or is not there.
    let text = std::fs::read_to_string(&server.ini).expect("settings");
    let other = text.replace(&format!("security_token = {TOKEN}"), "security_token = another-one");
    std::fs::write(&server.ini, other).expect("write");
    business.reply("/connect/", Reply::ok("").header("RAINBOWREQUESTINVALID", "60001"));
    let (code, out, said) = doctor(&server.ini, &["--connect"]);
    assert_eq!(code, 1, "{out}{said}");
    problem(
        &out,
        "signature",
        "refuses signatures made with the secret of this file",
    );
    problem(&out, "connect_url", "refuses the signature");
    problem(&out, "connect", "refuses the signature");

    business.reply(
        "/connect/",
        Reply::ok("welcome").header("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    );
    business.reply("/message/", Reply::ok("").status(502));
    let (code, out, _) = doctor(&server.ini, &["--connect"]);
    assert_eq!(code, 1);
    problem(&out, "connect_url", "the clock of the backend is -");
    problem(&out, "connect", "no JSON object with a status");
    problem(&out, "forward_url", "502 to OPTIONS");

    drop(business);
    let (code, out, _) = doctor(&server.ini, &[]);
    assert_eq!(code, 1);
    problem(&out, "connect_url", "refused");

    std::fs::write(&server.ini, "[main]\n").expect("write");
    let (code, out, _) = doctor(&server.ini, &[]);
    assert_eq!(code, 2);
    assert_eq!(findings(&out, "settings").len(), 4, "{out}");
}

#[test]
fn the_doctor_sees_that_files_and_ports_are_short() {
    let business = Business::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = taken.local_addr().expect("address").port();
    let builder = Builder::new(&business)
        .set("http_port", port)
        .set("bind", "127.0.0.1")
        .set("port_search", "no");
    let server = builder.unset("takeover_dir").arg("--check-config").spawn();
    assert!(eventually(SOON, || server.log_tail().contains("Served on port")));
    let script = format!("ulimit -n 20; exec {PROGRAM} doctor --json -f {}", server.ini.display());
    let (code, out, said) = read(Command::new("sh").args(["-c", &script]).output().expect("sh"));
    assert_eq!(code, 1, "{out}{said}");
    assert_eq!(findings(&out, "open files")[0].0, "problem", "{out}");
    assert!(findings(&out, "port")[0].1.contains("is taken"), "{out}");
}

/// A file for the gateway alone: its port and its URL, and nothing of rainbow's.
#[test]
fn the_doctor_looks_at_the_gateway() {
    let business = Business::start();
    business.reply("/event/", Reply::ok(""));
    let free = ports::claim();
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let taken = taken.local_addr().expect("address").port();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("doctor-gateway-{}.ini", std::process::id()));
    let text = |port: u16| {
        let url = format!("http://127.0.0.1:{}/event/", business.port());
        format!(
            "[main]\nbind = 127.0.0.1\nhttp_port = {}\n[gateway]\nport = {port}\nurl = {url}\nsecret = s\n",
            free.number
        )
    };
    for (port, level, exit) in [(ports::claim().number, "ok", 0), (taken, "problem", 1)] {
        std::fs::write(&file, text(port)).expect("settings");
        let (code, out, said) = doctor(&file, &["--connect"]);
        assert_eq!(code, exit, "{out}{said}");
        let found = findings(&out, "port");
        assert!(found[0].0 == level && found[0].1.contains(&port.to_string()), "{out}");
        assert!(findings(&out, "gateway url")[0].1.contains("200 to OPTIONS"), "{out}");
        assert!(
            findings(&out, "connect_url").is_empty() && findings(&out, "connect").is_empty(),
            "{out}"
        );
    }
    let _ = std::fs::remove_file(&file);
    assert_eq!(business.requests().len(), 2);
}
