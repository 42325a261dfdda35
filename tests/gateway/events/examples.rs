//! The examples of docs/gateway.md, run: a chat room in Python, Node and PHP.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::common::client::Open;
use crate::common::{eventually, not_run, ports};

/// A backend of its own process.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Plays the chat against a backend; `start` makes its command for a port.
fn chat(program: &str, start: impl Fn(&mut Command, u16)) {
    let port = ports::claim();
    let mut command = Command::new(program);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway"));
    start(&mut command, port.number);
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = started else {
        return not_run(&format!("there is no {program}"));
    };
    let _backend = Example(child);
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port.number)).is_ok();
    assert!(
        eventually(Duration::from_secs(20), listens),
        "{program} does not listen"
    );
    let url = format!("http://127.0.0.1:{}/", port.number);
    let told = |secret| {
        Builder::gateway()
            .of_gateway("url", &url)
            .of_gateway("secret", secret)
            .start()
    };
    let server = told(SECRET);
    let comes = |server: &Server, target: &str| {
        let open = Open {
            target: target.into(),
            ..anybody()
        };
        Client::start(server.gateway_port(), open).expect("connects")
    };
    let nobody = comes(&server, "/").answer(SOON).expect("an answer");
    assert_eq!(
        (nobody.status, nobody.text().as_str()),
        (403, "say who you are: ?name=…")
    );
    let ann = comes(&server, "/?name=Ann").let_in();
    ann.expect(Op::Text, b"welcome, Ann");
    let bob = comes(&server, "/?name=Bob").let_in();
    bob.expect(Op::Text, b"welcome, Bob");
    ann.frame(Op::Text, "grüß dich".as_bytes());
    for client in [&ann, &bob] {
        client.expect(Op::Text, "Ann: grüß dich".as_bytes());
    }
    bob.frame(Op::Close, b"");
    ann.expect(Op::Text, b"Bob left");
    let stranger = told("another secret");
    assert_eq!(
        comes(&stranger, "/?name=Eve").answer(SOON).expect("an answer").status,
        401
    );
}

#[test]
fn in_python() {
    chat("python3", |command, port| {
        command.args(["events.py", &port.to_string(), SECRET]);
    });
}

#[test]
fn in_node() {
    chat("node", |command, port| {
        command.args(["events.mjs", &port.to_string(), SECRET]);
    });
}

#[test]
fn in_php() {
    chat("php", |command, port| {
        command.args(["-S", &format!("127.0.0.1:{port}"), "events.php"]);
        command.env("RAINBOW_SECRET", SECRET);
    });
}
