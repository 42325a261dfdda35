//! What a business server may answer, byte for byte, and that no answer is taken for another request's: every row is
//! followed by a second client whose own answer is a refusal.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::common::client::{Client, Op, Open};
use super::common::server::{Builder, Server};
use super::common::{SOON, packet};

const YES: &str = r#"{"status": "success"}"#;
const NO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"status\": \"fail\"}";
/// Short, because some answers never end.
const TIMEOUT_S: f32 = 0.5;

/// What the business does with one connect call.
#[derive(Clone)]
struct Script {
    bytes: Vec<u8>,
    /// End the connection behind the bytes.
    close: bool,
}

type Shared = Arc<Mutex<Option<Script>>>;

/// A business server that takes the next script for a connect call, or refuses the client, and lets everything else pass.
fn business() -> (u16, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
    let port = listener.local_addr().expect("address").port();
    let script = Shared::default();
    let shared = Arc::clone(&script);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = Arc::clone(&shared);
            std::thread::spawn(move || serve(stream, &script));
        }
    });
    (port, script)
}

fn serve(mut stream: TcpStream, script: &Shared) {
    let mut received = Vec::new();
    loop {
        while !received.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(count @ 1..) => received.extend_from_slice(&bytes[..count]),
                _ => return,
            }
        }
        let is_connect = received.starts_with(b"GET /connect/");
        received.clear();
        let next = is_connect.then(|| script.lock().expect("script").take()).flatten();
        let Script { bytes, close } = next.unwrap_or(Script {
            bytes: NO.to_vec(),
            close: false,
        });
        if stream.write_all(&bytes).is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn start() -> (Server, Shared) {
    let (port, script) = business();
    let base = format!("http://127.0.0.1:{port}");
    let server = Builder::bare()
        .set("connect_url", format!("{base}/connect/"))
        .set("forward_url", format!("{base}/message/"))
        .set("close_url", format!("{base}/close/"))
        .set("security_token", "t")
        .set("callback_timeout", TIMEOUT_S)
        .set("cluster_udp", "no")
        .start();
    (server, script)
}

/// The status a client gets when its connect call is answered by `script`.
fn status(server: &Server, script: &Shared, play: Script, what: &str) -> u16 {
    *script.lock().expect("script") = Some(play);
    ask(server, what)
}

fn ask(server: &Server, what: &str) -> u16 {
    let client = Client::start(server.port(), Open::default()).expect("connect");
    client.answer(SOON).unwrap_or_else(|e| panic!("{what}: {e}")).status
}

/// Plays a row twice, with the connection closed behind it and kept; then somebody who is to be refused.
fn expect(server: &Server, script: &Shared, what: &str, bytes: &[u8], [closed, kept]: [u16; 2]) {
    for (close, expected) in [(true, closed), (false, kept)] {
        let play = Script {
            bytes: bytes.to_vec(),
            close,
        };
        let what = format!("{what}, {}", if close { "closed" } else { "kept" });
        assert_eq!(status(server, script, play, &what), expected, "{what}");
        assert_eq!(
            ask(server, &what),
            401,
            "{what}: the next client got somebody else's answer"
        );
    }
}

fn run_table(rows: &[(&str, String, [u16; 2])]) {
    let (server, script) = start();
    for (what, bytes, expected) in rows {
        expect(&server, &script, what, bytes.as_bytes(), *expected);
    }
}

/// In: whether the connection is closed or kept behind the answer.
const IN: [u16; 2] = [101, 101];
/// Not understood.
const OUT: [u16; 2] = [503, 503];
/// The end of the connection is the end of the answer; without it there is none.
const AT_CLOSE: [u16; 2] = [101, 503];

/// An answer with these header lines and the usual body.
fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{YES}")
}

/// A whole answer with this first line.
fn line(line: &str) -> String {
    format!("{line}\r\nContent-Length: 21\r\n\r\n{YES}")
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn lengths_and_codings() {
    run_table(&[
        ("one length", with("Content-Length: 21"), IN),
        (
            "the same length twice",
            with("Content-Length: 21\r\ncontent-length: 21"),
            IN,
        ),
        ("no length", with("A: b"), AT_CLOSE),
        ("no length in HTTP/1.0", with("A: b").replace("1.1", "1.0"), AT_CLOSE),
        ("two lengths", with("Content-Length: 21\r\nContent-Length: 20"), OUT),
        ("a list of lengths", with("Content-Length: 21, 21"), OUT),
        ("plus sign", with("Content-Length: +21"), OUT),
        ("minus sign", with("Content-Length: -1"), OUT),
        ("hexadecimal", with("Content-Length: 0x15"), OUT),
        ("2^64 + 21", with("Content-Length: 18446744073709551637"), OUT),
        ("length too small", with("Content-Length: 2"), OUT),
        ("length too large", with("Content-Length: 22"), OUT),
        (
            "length and chunked",
            with("Content-Length: 21\r\nTransfer-Encoding: chunked"),
            OUT,
        ),
        (
            "chunked and length",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 21\r\n\r\n15\r\n{YES}\r\n0\r\n\r\n"
            ),
            OUT,
        ),
        ("identity", with("Transfer-Encoding: identity"), OUT),
        ("gzip, chunked", with("Transfer-Encoding: gzip, chunked"), OUT),
        ("xchunked", with("Transfer-Encoding: xchunked"), OUT),
        (
            "chunked in HTTP/1.0",
            chunked(&format!("15\r\n{YES}\r\n0\r\n\r\n")).replace("HTTP/1.1", "HTTP/1.0"),
            OUT,
        ),
        ("chunked", chunked(&format!("15\r\n{YES}\r\n0\r\n\r\n")), IN),
        (
            "chunk extensions and trailers",
            chunked(&format!("15;a=\"b\"\r\n{YES}\r\n0;c\r\nD: e\r\n\r\n")),
            IN,
        ),
        ("a chunk beyond memory", chunked("ffffffffffffffff\r\nx"), OUT),
        ("a negative chunk", chunked(&format!("-15\r\n{YES}\r\n0\r\n\r\n")), OUT),
        ("a chunk without end", chunked(&format!("15\r\n{YES}")), OUT),
        ("no last chunk", chunked(&format!("15\r\n{YES}\r\n")), OUT),
        (
            "bare newlines between chunks",
            chunked(&format!("15\n{YES}\n0\n\n")),
            OUT,
        ),
        (
            "204 with a body behind it",
            with("Content-Length: 21").replace("200 OK", "204 X"),
            OUT,
        ),
        (
            "304 with a body behind it",
            with("Content-Length: 21").replace("200 OK", "304 X"),
            OUT,
        ),
    ]);
}

#[test]
fn heads() {
    let interim = |count: usize| "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(count);
    let fine = line("HTTP/1.1 200 OK");
    run_table(&[
        ("no reason", line("HTTP/1.1 200"), IN),
        ("reason that is not ASCII", line("HTTP/1.1 200 \u{e4}"), IN),
        ("an unknown 2xx", line("HTTP/1.1 299 X"), IN),
        (
            "HTTP/1.0 that stays",
            with("Content-Length: 21\r\nConnection: keep-alive").replace("1.1", "1.0"),
            IN,
        ),
        ("close", with("Content-Length: 21\r\nConnection: close"), IN),
        ("100 first", format!("HTTP/1.1 100 Continue\r\n\r\n{fine}"), IN),
        ("103 several times", format!("{}{fine}", interim(8)), IN),
        ("103 without end", format!("{}{fine}", interim(9)), OUT),
        (
            "100 with a body",
            format!("HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nxx{fine}"),
            OUT,
        ),
        ("100 and nothing", "HTTP/1.1 100 Continue\r\n\r\n".into(), OUT),
        (
            "101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(),
            OUT,
        ),
        ("HTTP/2", line("HTTP/2 200 OK"), OUT),
        ("ICY", line("ICY 200 OK"), OUT),
        ("lower-case protocol", line("http/1.1 200 OK"), OUT),
        ("no status", line("HTTP/1.1"), OUT),
        ("status of two digits", line("HTTP/1.1 20 OK"), OUT),
        ("status of four digits", line("HTTP/1.1 2000 OK"), OUT),
        ("status that is no number", line("HTTP/1.1 2OO OK"), OUT),
        ("status below 100", line("HTTP/1.1 099 OK"), OUT),
        ("two spaces", line("HTTP/1.1  200 OK"), OUT),
        ("nul in the reason", line("HTTP/1.1 200 O\0K"), OUT),
        ("return in the reason", line("HTTP/1.1 200 O\rK"), OUT),
        ("HTTP/0.9", YES.into(), OUT),
        ("only newlines", with("Content-Length: 21").replace("\r\n", "\n"), OUT),
        ("one bare newline", with("A: b\nContent-Length: 21"), OUT),
        (
            "bare return",
            with("A: b\rContent-Length: 21\r\nContent-Length: 21"),
            OUT,
        ),
        ("folded", with("A: b\r\n c\r\nContent-Length: 21"), OUT),
        ("folded first header", with(" A: b\r\nContent-Length: 21"), OUT),
        ("no colon", with("nonsense\r\nContent-Length: 21"), OUT),
        ("empty name", with(": b\r\nContent-Length: 21"), OUT),
        ("space before the colon", with("Content-Length : 21"), OUT),
        ("nul in a value", with("A: \0\r\nContent-Length: 21"), OUT),
        (
            "129 headers",
            with(&format!("{}Content-Length: 21", "A: b\r\n".repeat(128))),
            OUT,
        ),
        (
            "head of 70 KiB",
            with(&format!("A: {}\r\nContent-Length: 21", "b".repeat(70 * 1024))),
            OUT,
        ),
        ("garbage before the head", format!("\0{fine}"), OUT),
    ]);
}

/// A second answer nobody asked for is never used: the connection it came on is not.
#[test]
fn answers_behind_the_answer_are_dropped() {
    let fine = line("HTTP/1.1 200 OK");
    let refused = String::from_utf8(NO.to_vec()).expect("ascii");
    run_table(&[
        ("a second answer", format!("{fine}{fine}"), IN),
        ("a refusal and an admission", format!("{refused}{fine}"), [401, 401]),
        (
            "an answer behind chunks",
            format!("{}{fine}", chunked(&format!("15\r\n{YES}\r\n0\r\n\r\n"))),
            IN,
        ),
        ("garbage", format!("{fine}\0\0\0"), IN),
        ("an empty line", format!("{fine}\r\n"), IN),
        (
            "an answer behind a 500",
            format!("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n{fine}"),
            OUT,
        ),
    ]);
}

#[test]
fn an_answer_cut_anywhere_is_none() {
    let (server, script) = start();
    for answer in [line("HTTP/1.1 200 OK"), chunked(&format!("15\r\n{YES}\r\n0\r\n\r\n"))] {
        for end in 0..answer.len() {
            let what = format!("cut at {end}");
            let play = Script {
                bytes: answer.as_bytes()[..end].to_vec(),
                close: true,
            };
            assert_eq!(status(&server, &script, play, &what), 503, "{what}");
            assert_eq!(ask(&server, &what), 401, "{what}");
        }
        let whole = Script {
            bytes: answer.into_bytes(),
            close: true,
        };
        assert_eq!(status(&server, &script, whole, "whole"), 101);
    }
}

/// The business answers a message before it has read it. If it reads on, the answer counts; if it ends the connection, the
/// call may have failed, and the next one has a connection of its own.
#[test]
fn an_answer_before_the_body_is_read() {
    for reads_on in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let base = format!("http://127.0.0.1:{}", listener.local_addr().expect("address").port());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer_early(stream, reads_on));
            }
        });
        let server = Builder::bare()
            .set("connect_url", format!("{base}/connect/"))
            .set("forward_url", format!("{base}/message/"))
            .set("close_url", format!("{base}/close/"))
            .set("security_token", "t")
            .set("cluster_udp", "no")
            .start();
        let client = Client::open(server.port());
        client.send(&packet::send(1, 7, 1, vec![b'x'; 4 << 20]));
        if reads_on {
            client.expect(Op::Binary, &packet::ack(1, "early"));
        }
        client.send(&packet::send(1, 7, 2, "small"));
        let mut answers = Vec::new();
        while !answers.contains(&packet::ack(2, "early")) {
            answers.push(client.next(SOON).expect("the small message is answered").payload);
        }
    }
}

/// Lets clients in; answers a message as soon as its head is there.
fn answer_early(mut stream: TcpStream, reads_on: bool) {
    let mut received = Vec::new();
    while !received.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut bytes = [0; 512];
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => received.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    let body = if received.starts_with(b"POST") { "early" } else { YES };
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
    let _ = stream.shutdown(Shutdown::Write);
    while reads_on && matches!(stream.read(&mut [0; 65536]), Ok(1..)) {}
}
