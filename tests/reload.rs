//! A reload: what takes effect when (the class of a setting), what the log says about it, and that a file with an error
//! changes nothing.
#![cfg(feature = "runtime")]

#[path = "common/mod.rs"]
mod common;

use common::business::{Business, Reply};
use common::client::{Client, Open};
use common::http::{self, Request};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, eventually};

/// Adds lines to the file of the server, asks it to read that, and waits for what the log says.
fn reload(server: &Server, lines: &str, word: &str) -> String {
    let text = std::fs::read_to_string(&server.ini).expect("ini file");
    std::fs::write(&server.ini, format!("{text}{lines}\n")).expect("ini file");
    let count = || server.log_tail().matches(word).count();
    let before = count();
    server.signal("HUP");
    assert!(
        eventually(SOON, || count() > before),
        "{word:?} is not in: {}",
        server.log_tail()
    );
    let log = server.log_tail();
    log.lines()
        .rfind(|line| line.contains(word))
        .expect("the line")
        .to_owned()
}

const DONE: &str = "configuration read again";
const REFUSED: &str = "reload refused";

/// A value of `/metrics`.
fn metric(server: &Server, name: &str) -> f64 {
    let page = http::call(server.port(), &Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}

const SUCCESSFUL: &str = "rainbow_reload_successful ";
const READ_AT: &str = "rainbow_reload_timestamp_seconds ";

fn send_signed_with(server: &Server, token: &str) -> serde_json::Value {
    let send = Request::post("/send/", "x").query("channel", "nobody").signed(token);
    let answer = http::call(server.port(), &send, SOON).expect("an answer");
    answer.json().unwrap_or_default()
}

fn upgrade(server: &Server, origin: &str) -> u16 {
    let mut open = Open::default();
    open.headers.push(("Origin".into(), origin.into()));
    let client = Client::start(server.port(), open).expect("connect");
    client.answer(SOON).expect("an answer").status
}

#[test]
fn hot_settings_are_in_force_at_once() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    assert_ne!(send_signed_with(&server, "otherthere")["status"], 0);
    let log = reload(&server, "security_token = otherthere", DONE);
    assert!(log.contains("hot=\"security_token\""), "{log}");
    assert!(
        log.contains("new_connections=\"\"") && log.contains("needs_restart=\"\""),
        "{log}"
    );
    assert!(!log.contains("otherthere"), "{log}");
    assert_eq!(send_signed_with(&server, "otherthere")["status"], 0);
    assert_ne!(send_signed_with(&server, TOKEN)["status"], 0);
}

#[test]
fn settings_of_new_connections_leave_the_others_alone() {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).start();
    let before = Client::open(server.port());
    assert_eq!(upgrade(&server, "http://elsewhere"), 101);
    let log = reload(&server, "origins = http://here", DONE);
    assert!(log.contains("new_connections=\"origins\""), "{log}");
    assert!(log.contains("hot=\"\"") && log.contains("needs_restart=\"\""), "{log}");
    assert_eq!(upgrade(&server, "http://elsewhere"), 403);
    assert_eq!(upgrade(&server, "http://here"), 101);
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    before.expect_send(SOON);
}

#[test]
fn settings_that_need_a_restart_are_named_and_kept() {
    let business = Business::start();
    let port = std::sync::Arc::new(common::ports::claim());
    let builder = Builder::new(&business).on(&port).set("workers", 2);
    let server = builder.start();
    let workers = || {
        let page = http::call(server.port(), &Request::get("/metrics"), SOON)
            .expect("metrics")
            .text();
        page.lines()
            .filter(|line| line.starts_with("rainbow_accepted_total{core="))
            .count()
    };
    let before = workers();
    let log = reload(&server, "workers = 1\ncluster_name = other", DONE);
    assert!(log.contains("needs_restart=\"cluster_name workers\""), "{log}");
    assert!(
        log.contains("hot=\"\"") && log.contains("new_connections=\"\""),
        "{log}"
    );
    assert_eq!(workers(), before);
    let again = reload(&server, "", DONE);
    assert!(
        again.contains("needs_restart=\"cluster_name workers\""),
        "until it has been: {again}"
    );
}

#[test]
fn a_file_with_an_error_changes_nothing() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    for (mistake, key) in [
        ("drain_timeout = soon", "drain_timeout"),
        (
            "tls_port = 1\ntls_cert = /nonexistent\ntls_key = /nonexistent",
            "tls_cert",
        ),
        (
            "callback_cert = /nonexistent\ncallback_key = /nonexistent",
            "callback_cert",
        ),
        ("ca_file = /nonexistent", "ca_file"),
        ("origins = http://a\n[main", ""),
    ] {
        let good = std::fs::read_to_string(&server.ini).expect("ini file");
        let log = reload(
            &server,
            &format!("security_token = otherthere\norigins = http://here\n{mistake}"),
            REFUSED,
        );
        assert!(log.contains(key), "{mistake}: {log}");
        assert_eq!(
            send_signed_with(&server, TOKEN)["status"],
            0,
            "security_token after {mistake}"
        );
        assert_eq!(upgrade(&server, "http://elsewhere"), 101, "origins after {mistake}");
        std::fs::write(&server.ini, good).expect("ini file");
    }
    std::fs::remove_file(&server.ini).expect("ini file");
    let before = server.log_tail().matches(REFUSED).count();
    let update = http::call(server.port(), &Request::get("/updateconfig/"), SOON).expect("an answer");
    assert_eq!(update.status, 200, "it says nothing about success");
    assert!(eventually(SOON, || server.log_tail().matches(REFUSED).count() > before));
    assert_eq!(send_signed_with(&server, TOKEN)["status"], 0);
}

#[test]
fn the_result_of_the_last_reload_is_a_metric() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let started = metric(&server, READ_AT);
    assert!(started > 1.7e9 && metric(&server, SUCCESSFUL) == 1.0);
    let good = std::fs::read_to_string(&server.ini).expect("ini file");
    reload(&server, "drain_timeout = soon", REFUSED);
    assert_eq!(metric(&server, SUCCESSFUL), 0.0);
    let refused = metric(&server, READ_AT);
    assert!(refused >= started);
    std::fs::write(&server.ini, good).expect("ini file");
    reload(&server, "", DONE);
    assert_eq!(metric(&server, SUCCESSFUL), 1.0);
    assert!(
        metric(&server, READ_AT) > refused,
        "another second: at most one reload in each"
    );
}

/// Half a file must not switch protections off.
#[test]
fn a_setting_that_protects_does_not_vanish_in_silence() {
    let business = Business::start();
    let server = Builder::new(&business)
        .set("signature", "hmac-sha256")
        .set("origins", "http://here")
        .start();
    let whole = std::fs::read_to_string(&server.ini).expect("ini file");
    let without = |key: &str| -> String {
        let kept = whole.lines().filter(|line| !line.starts_with(&format!("{key} =")));
        kept.map(|line| format!("{line}\n")).collect()
    };
    for (key, words) in [
        ("signature", "signature was hmac-sha256 and is not in the file any more"),
        ("origins", "origins was http://here and is not in the file any more"),
    ] {
        std::fs::write(&server.ini, without(key)).expect("ini file");
        let log = reload(&server, "", REFUSED);
        assert!(log.contains(words) && log.contains(&format!("Write `{key} =")), "{log}");
        assert_ne!(send_signed_with(&server, TOKEN)["status"], 0, "signed with SHA-1");
        assert_eq!(upgrade(&server, "http://elsewhere"), 403);
    }
    // A file that is cut in the middle of its last line.
    std::fs::write(&server.ini, &whole[..whole.len() - 3]).expect("ini file");
    server.signal("HUP");
    let cut = "ends in the middle of a line";
    assert!(
        eventually(SOON, || server.log_tail().contains(cut)),
        "{}",
        server.log_tail()
    );
    // What is meant is written.
    std::fs::write(&server.ini, without("signature")).expect("ini file");
    reload(&server, "signature = sha1", DONE);
    assert_eq!(send_signed_with(&server, TOKEN)["status"], 0);
}

/// Anybody may ask for a reload; that costs neither kept connections nor more than one reading in a second.
#[test]
fn many_requests_are_one_reload_a_second_and_keep_what_has_not_changed() {
    const REQUESTS: usize = 600;
    let business = Business::start();
    let server = Builder::new(&business).set("cluster_udp", "no").start();
    let began = std::time::Instant::now();
    let opened = |server: &Server| metric(server, "rainbow_callback_connections_opened_total ");
    let client = Client::open(server.port());
    let say = |id| {
        client.send(&common::packet::send(1, 7, id, "x"));
        client.expect(common::client::Op::Binary, &common::packet::ack(id, "ok"));
    };
    // Until the backend is known to keep connections.
    let mut id = 0;
    let is_kept = eventually(SOON, || {
        let before = opened(&server);
        id += 1;
        say(id);
        opened(&server) == before
    });
    assert!(is_kept, "no connection is kept");
    let before = opened(&server);
    let storm = std::thread::scope(|scope| {
        let ask = || {
            let answers = (0..REQUESTS / 4).map(|_| http::call(server.port(), &Request::get("/updateconfig/"), SOON));
            answers
                .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200))
                .count()
        };
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        (0..36).for_each(|at| say(id + 1 + at));
        callers
            .into_iter()
            .map(|caller| caller.join().expect("a caller"))
            .sum::<usize>()
    });
    assert_eq!(storm, REQUESTS, "each is answered as before");
    // The last request is heard, though it came while another was waiting.
    reload(&server, "security_token = otherthere", DONE);
    let reloads = server.log_tail().matches(DONE).count();
    let seconds = began.elapsed().as_secs() as usize;
    assert!(reloads <= seconds + 2, "{reloads} reloads in {seconds} s");
    assert!(
        opened(&server) <= before + 2.0,
        "{} connections opened",
        opened(&server) - before
    );
    assert_eq!(send_signed_with(&server, "otherthere")["status"], 0);
}

/// A file that is written slowly is read when it is done, however early the reload was asked for. On a machine that stands still
/// between two pieces the file is old enough to be read, so one of several rounds has to show it.
#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let business = Business::start();
    let is_waited_for = |_| {
        // A server of its own: it has no earlier reload to keep a distance from.
        let server = Builder::new(&business).start();
        let whole = std::fs::read_to_string(&server.ini).expect("ini file");
        std::fs::write(&server.ini, "[main]\n").expect("ini file");
        server.signal("HUP");
        for piece in 0..60 {
            std::fs::write(&server.ini, format!("[main]\n# {piece}\n")).expect("ini file");
            std::thread::sleep(common::ms(5));
        }
        std::fs::write(&server.ini, format!("{whole}security_token = otherthere\n")).expect("ini file");
        let is_said = |word| server.log_tail().contains(word);
        assert!(
            eventually(SOON, || is_said(DONE) || is_said(REFUSED)),
            "{}",
            server.log_tail()
        );
        !is_said(REFUSED) && send_signed_with(&server, "otherthere")["status"] == 0
    };
    assert!((0..6).any(is_waited_for), "read while it was being written");
}

/// `systemctl reload` fails on a file that cannot work, and nothing is signalled.
/// Opening a pipe waits for somebody who writes into it; nobody does here.
#[test]
fn a_name_that_leads_to_a_pipe_holds_nobody_up() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let text = std::fs::read_to_string(&server.ini).expect("ini file");
    let pipe = server.ini.with_extension("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());

    let named = reload(&server, &format!("ca_file = {}", pipe.display()), REFUSED);
    assert!(named.contains("it is a pipe"), "{named}");
    std::fs::rename(&pipe, &server.ini).expect("the pipe in place of the file");
    server.signal("HUP");
    assert!(
        eventually(SOON, || server.log_tail().matches(REFUSED).count() == 2),
        "{}",
        server.log_tail()
    );
    assert_eq!(upgrade(&server, "https://a.example"), 101);

    std::fs::remove_file(&server.ini).expect("remove");
    std::fs::write(&server.ini, text).expect("ini file");
    reload(&server, "client_messages_per_second = 9", DONE);
}

#[test]
fn the_unit_checks_before_it_signals() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(root.join("packaging/rainbow-server.service")).expect("the unit");
    let steps: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecReload="))
        .collect();
    let [check, signal] = steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!(signal, "/bin/kill -HUP $MAINPID");
    let ini = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("unit-{}.ini", std::process::id()));
    let script = check
        .strip_prefix("/bin/sh -c '")
        .and_then(|rest| rest.strip_suffix('\''))
        .expect("a shell line");
    let script = script
        .replace("/usr/bin/rainbow-server", env!("CARGO_BIN_EXE_rainbow-server"))
        .replace("/etc/rainbow-server/server.ini", &ini.display().to_string());
    let run = |text: &str| {
        std::fs::write(&ini, text).expect("ini file");
        std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .output()
            .expect("sh")
    };
    let good = "[main]\nconnect_url=http://a/\nforward_url=http://a/\nclose_url=http://a/\nsecurity_token=t\n";
    let passed = run(good);
    assert!(passed.status.success() && passed.stdout.is_empty(), "{passed:?}");
    let failed = run(&format!("{good}ca_file = /etc/hostname\n"));
    assert_eq!(failed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("ca_file: /etc/hostname: holds no certificate"), "{said}");
    std::fs::remove_file(&ini).expect("ini file");
}
