//! Real uWSGI: a head that does not fit its buffer (4096 bytes by default) is closed without an answer.

use super::common::business::Business;
use super::common::server::Builder;
use super::common::{SOON, eventually, ms, ports};
use super::{ATTACK, Attack, knock, metric, opens};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const APP: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"status": "success"}']
"#;

/// A running uWSGI, with its default buffer or another one; ended when dropped.
struct Uwsgi {
    child: Child,
    port: ports::Port,
}

impl Uwsgi {
    /// `None`: there is none here, which is said, and a failure with `CI=true`.
    fn start(options: &[&str]) -> Option<Uwsgi> {
        let found = Command::new("uwsgi").arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "uwsgi is missing");
            let _ = std::io::stderr().write_all(b"poison::uwsgi ... NOT RUN: uwsgi is missing\n");
            return None;
        }
        let port = ports::claim();
        let app = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("poison-{}.py", port.number));
        std::fs::write(&app, APP).expect("the application");
        let child = Command::new("uwsgi")
            .args([
                "--plugins",
                "python3",
                "--http-socket",
                &format!("127.0.0.1:{}", port.number),
            ])
            .args([
                "--processes",
                "2",
                "--master",
                "--die-on-term",
                "--disable-logging",
                "--listen",
                "100",
            ])
            .arg("--wsgi-file")
            .arg(&app)
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start uwsgi");
        let uwsgi = Uwsgi { child, port };
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, uwsgi.port.number)).is_ok();
        assert!(eventually(SOON, up), "uwsgi does not listen");
        Some(uwsgi)
    }

    fn server(&self) -> Builder {
        let base = format!("http://127.0.0.1:{}", self.port.number);
        let unused = Business::start();
        ["connect_url", "forward_url", "close_url"]
            .into_iter()
            .fold(Builder::new(&unused), |builder, key| builder.set(key, &base))
    }
}

impl Drop for Uwsgi {
    fn drop(&mut self) {
        // The master takes its workers along.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// Heads of 5 KB that get as far as uWSGI, 500 a second: 150 of 150 ordinary clients get in.
#[test]
fn long_heads_close_no_door() {
    let Some(uwsgi) = Uwsgi::start(&[]) else { return };
    let server = uwsgi.server().set("connect_head_max", "64k").start();
    let port = server.port();
    let attack = Attack::start(500, move |_| {
        knock(Ipv4Addr::LOCALHOST, port, "/connect/", &[("X-Long", &"a".repeat(5000))]);
    });
    attack.warm(100);
    let (start, mut asked) = (Instant::now(), 0);
    while asked < 150 || start.elapsed() < ATTACK {
        asked += 1;
        assert_eq!(
            knock(Ipv4Addr::LOCALHOST, port, "/connect/", &[]),
            101,
            "number {asked}"
        );
        std::thread::sleep(ms(20));
    }
    let attempts = attack.end();
    println!("uwsgi: {attempts} long heads, {asked} ordinary clients, all in");
    assert_eq!(opens(&server, "connect"), 0);
}

/// What `connect_head_max = 4k` lets through is a head uWSGI takes, whatever it is made of; what it refuses is never sent.
#[test]
fn a_head_that_may_be_sent_fits_the_buffer() {
    let Some(uwsgi) = Uwsgi::start(&[]) else { return };
    expect_no_head_too_long(uwsgi.server().set("connect_head_max", "4k"), 4096);
}

/// As the documentation tells users of uWSGI.
#[test]
fn with_our_default_it_fits_a_buffer_of_as_much() {
    let Some(uwsgi) = Uwsgi::start(&["--buffer-size", "8192"]) else {
        return;
    };
    expect_no_head_too_long(uwsgi.server(), 8192);
}

/// Heads of all sizes up to `most`: each is answered by the backend, or refused by the server.
fn expect_no_head_too_long(server: Builder, most: usize) {
    let server = server.start();
    let ask = |header: usize, lines: usize, query: usize| {
        let target = format!("/connect/?token={}", "q".repeat(query));
        let names: Vec<String> = (0..lines).map(|n| format!("X-{n}")).collect();
        let value = "a".repeat(header);
        let headers: Vec<_> = names.iter().map(|name| (&name[..], &value[..])).collect();
        knock(Ipv4Addr::LOCALHOST, server.port(), &target, &headers)
    };
    let kinds: [(&str, &dyn Fn(usize) -> u16); 3] = [
        ("one header", &|size| ask(size, 1, 1)),
        ("many headers", &|size| ask(1, size / 12, 1)),
        ("query", &|size| ask(1, 1, size)),
    ];
    for (kind, ask) in kinds {
        let mut longest = 0;
        for size in (0..most + 100).step_by(100) {
            match ask(size) {
                101 => longest = size,
                431 => {}
                other => panic!("{kind} of {size} bytes: {other}"),
            }
        }
        println!("{kind}: up to {longest} bytes");
        assert!((500..most).contains(&longest), "{kind}: {longest}");
    }
    assert_eq!(
        metric(&server, "rainbow_callbacks_total{kind=\"connect\",event=\"failed\"}"),
        0
    );
}
