//! The demonstration (`--demo`), and the Python business server of `examples/`, seen from outside.
#![cfg(feature = "runtime")]

mod common;

use common::client::{Client, Open};
use common::packet::{self, Packet};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, eventually, http, ms, ports};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

const CHAT: u16 = 1;
const NOTE: u16 = 2;

/// Connects like a browser, which cannot set headers.
fn join(server: &Server, name: &str) -> Client {
    let target = format!("/connect/?X-DEVICEID={}&X-CLIENT-OS=web", http::escape(name));
    Client::open_with(
        server.port(),
        Open {
            target,
            headers: Vec::new(),
            ..Open::default()
        },
    )
}

/// Takes the next message as a correct client does, answering with `data`.
fn take(client: &Client, data: &str) -> (u8, u16, Value) {
    let Packet::Send {
        qos, kind, id, payload, ..
    } = client.packet(SOON)
    else {
        panic!("not a SEND")
    };
    match (qos, id) {
        (1, Some(id)) => client.send(&packet::ack(id, data)),
        (2, Some(id)) => {
            client.send(&packet::rec(id, data));
            assert_eq!(client.packet(SOON), Packet::Rel { id });
            client.send(&packet::com(id));
        }
        _ => {}
    }
    (qos, kind, serde_json::from_slice(&payload).expect("JSON"))
}

fn said(name: &str, text: &str) -> Value {
    json!({"from": name, "text": text})
}

#[test]
fn the_page_and_its_scripts_are_served() {
    let server = Builder::demo().start();
    let get = |path| http::call(server.port(), &http::Request::get(path), SOON).expect("an answer");
    for (path, kind, part) in [
        ("/demo/", "text/html; charset=utf-8", "/demo/page.js"),
        ("/demo/page.js", "text/javascript; charset=utf-8", "./client.js"),
        (
            "/demo/client.js",
            "text/javascript; charset=utf-8",
            "class RainbowClient",
        ),
    ] {
        let answer = get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        assert!(answer.text().contains(part), "{path}");
    }
    for path in ["/", "/demo"] {
        assert_eq!(get(path).text(), get("/demo/").text(), "{path}");
    }
    assert_eq!(get("/demo/other").status, 404);
}

#[test]
fn the_page_is_served_by_the_demonstration_only() {
    let business = common::business::Business::start();
    let server = Builder::new(&business).start();
    let answer = http::call(server.port(), &http::Request::get("/demo/"), SOON).expect("an answer");
    assert_eq!(answer.status, 404);
}

#[test]
fn clients_chat_with_every_quality_of_service() {
    let server = Builder::demo().start();
    let ada = join(&server, "Ada");
    let bob = join(&server, "Bob \u{e9}\"<");
    assert_eq!(take(&ada, ""), (0, NOTE, said("Bob \u{e9}\"<", "joined")));

    ada.send(&packet::send(0, CHAT, 0, "nobody confirms this"));
    for client in [&ada, &bob] {
        assert_eq!(take(client, ""), (1, CHAT, said("Ada", "nobody confirms this")));
    }
    bob.send(&packet::send(1, CHAT, 7, "<b>\u{1f600}</b>"));
    for client in [&ada, &bob] {
        assert_eq!(take(client, ""), (1, CHAT, said("Bob \u{e9}\"<", "<b>\u{1f600}</b>")));
    }
    let expected = |id, data: &str| (id, data.as_bytes().to_vec());
    let Packet::Ack { id, data } = bob.packet(SOON) else {
        panic!("not an ACK")
    };
    assert_eq!((id, data), expected(7, "{\"delivered\": 2}"));

    ada.send(&packet::send(2, 9, 1, "once"));
    for client in [&ada, &bob] {
        assert_eq!(take(client, ""), (1, 9, said("Ada", "once")), "the type is passed on");
    }
    let Packet::Rec { id, data } = ada.packet(SOON) else {
        panic!("not a REC")
    };
    assert_eq!((id, data), expected(1, "{\"delivered\": 2}"));
    ada.send(&packet::rel(1));
    assert_eq!(ada.packet(SOON), Packet::Com { id: 1 });
}

#[test]
fn who_leaves_is_missed_once() {
    let server = Builder::demo().start();
    let ada = join(&server, "Ada");
    let bob = join(&server, "Bob");
    assert_eq!(take(&ada, ""), (0, NOTE, said("Bob", "joined")));
    bob.drop_now();
    assert_eq!(take(&ada, ""), (2, NOTE, said("Bob", "left")));
    ada.expect_silence(ms(300));
}

#[test]
fn a_signed_send_reaches_the_lobby_and_an_unsigned_one_does_not() {
    let server = Builder::demo().start();
    let ada = join(&server, "Ada");
    let request = http::Request::post("/send/", r#"{"from": "test", "text": "signed"}"#)
        .query("channel", "lobby")
        .query("qos", 2);
    let refused = http::call(server.port(), &request.clone().signed("wrong"), SOON).expect("an answer");
    assert_eq!(refused.text(), r#"{"status": 1, "msg": "signature error"}"#);
    let known = http::call(server.port(), &request.clone().signed("demo"), SOON).expect("an answer");
    assert_eq!(known.text(), refused.text(), "the token of everybody's demonstration");
    let (port, token) = (server.port(), token(&server));
    let caller = std::thread::spawn(move || http::call(port, &request.signed(&token), SOON).expect("an answer"));
    assert_eq!(take(&ada, "seen by Ada"), (2, 1, said("test", "signed")));
    let answer = caller.join().expect("the caller's thread");
    assert_eq!(
        answer.text(),
        r#"{"status": 0, "connections": 1, "data": "seen by Ada"}"#
    );
}

/// The secret of this start, out of the printed command.
fn token(server: &Server) -> String {
    assert!(eventually(SOON, || server.log_tail().contains("Ctrl-C")), "no banner");
    let log = server.log_tail();
    let (_, rest) = log.split_once("S=$(printf '%s\\n' ").expect("the command");
    rest.split(' ').next().expect("a word").to_owned()
}

#[test]
fn pages_of_other_servers_get_nothing() {
    let server = Builder::demo().start();
    let answer = |origin: &str| {
        let target = "/connect/?X-DEVICEID=Eve&X-CLIENT-OS=web".to_owned();
        let headers = vec![("Origin".to_owned(), origin.to_owned())];
        let open = Open {
            target,
            headers,
            ..Open::default()
        };
        let client = Client::start(server.port(), open).expect("connect");
        client.answer(SOON).expect("an answer").status
    };
    for own in ["http://127.0.0.1", "http://localhost", "http://[::1]"] {
        assert_eq!(answer(&format!("{own}:{}", server.port())), 101, "{own}");
    }
    for other in ["https://a.example", "http://127.0.0.1.a.example:1984", "null"] {
        assert_eq!(answer(other), 403, "{other}");
    }
}

#[test]
fn the_printed_command_works() {
    if !has("curl", "--version") || !has("sha1sum", "--version") {
        return common::not_run("curl or sha1sum is not installed");
    }
    let server = Builder::demo().start();
    assert!(eventually(SOON, || server.log_tail().contains("Ctrl-C")), "no banner");
    let log = server.log_tail();
    let url = format!("http://127.0.0.1:{}/demo/", server.port());
    assert!(log.contains(&url), "{log}");
    let from = log.find("T=$(date").expect("a command is printed");
    let to = from + log[from..].find("\n\n").expect("an empty line behind it");
    let (port, secret) = (format!(":{}/", server.port()), token(&server));
    let in_readme = log[from..to].replace(&port, ":1984/").replace(&secret, "SECRET");
    assert!(include_str!("../README.md").contains(&in_readme), "{in_readme}");
    let ada = join(&server, "Ada");
    let shell = Command::new("sh")
        .args(["-c", &log[from..to]])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run sh");
    assert_eq!(take(&ada, "seen"), (1, 1, said("curl", "Hello, lobby!")));
    let output = shell.wait_with_output().expect("the command's output");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        r#"{"status": 0, "connections": 1, "data": "seen"}"#
    );
}

#[test]
fn the_demonstration_stops_like_every_server() {
    let mut server = Builder::demo().start();
    let ada = join(&server, "Ada");
    server.signal("TERM");
    assert_eq!(server.wait_exit(SOON), Some(0));
    assert!(ada.until_eof(SOON).is_some());
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_python_example_works() {
    if !has("python3", "--version") {
        return common::not_run("python3 is not installed");
    }
    let port = ports::claim();
    let base = format!("http://127.0.0.1:{}", port.number);
    let server = Builder::bare()
        .set("connect_url", format!("{base}/connect/"))
        .set("forward_url", format!("{base}/message/{{message_type}}/"))
        .set("close_url", format!("{base}/close/"))
        .set("security_token", TOKEN)
        .set("cluster_udp", "no")
        .start();
    let gateway = format!("http://127.0.0.1:{}", server.port());
    let python = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/business.py"))
        .args([&port.number.to_string(), TOKEN, &gateway])
        .stderr(Stdio::null())
        .spawn()
        .expect("run python3");
    let _python = Process(python);
    let unsigned = || http::call(port.number, &http::Request::get("/connect/"), SOON);
    assert!(eventually(SOON, || unsigned().is_ok_and(|answer| answer.status == 403)));

    let client = join(&server, "Zo\u{eb}");
    client.send(&packet::send(1, 7, 3, "hello"));
    let (id, payload) = client.expect_send(SOON);
    assert_eq!(payload, b"Zo%C3%AB: hello");
    client.send(&packet::ack(id.expect("QoS 1"), "thanks"));
    let Packet::Ack { id: 3, data } = client.packet(SOON) else {
        panic!("not our ACK")
    };
    let sent: Value = serde_json::from_slice(&data).expect("JSON");
    assert_eq!(sent, json!({"status": 0, "connections": 1, "data": "thanks"}));
}

/// Whether a program can be run.
fn has(program: &str, argument: &str) -> bool {
    let run = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}
