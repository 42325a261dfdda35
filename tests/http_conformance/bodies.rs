//! Requests whose outcome is more than a status: what was executed, what came before the answer, what a cut request does.

use super::common::business::{Business, Reply};
use super::common::client::Client;
use super::common::http::{Connection, Request};
use super::common::server::{Builder, Server, TOKEN};
use super::common::{SOON, ms};

fn setup() -> (Business, Server, Client) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).start();
    let client = Client::open(server.port());
    (business, server, client)
}

/// Head of a signed `/send/` up to and without its empty line.
fn send_head() -> String {
    let send = Request::get("/send/")
        .query("channel", "room")
        .query("qos", 0)
        .signed(TOKEN);
    let text = String::from_utf8(send.bytes(1, false)).expect("ascii");
    text.replacen("GET", "POST", 1).trim_end_matches("\r\n").to_owned()
}

/// A connection that has had one request, if `later`.
fn connect(port: u16, later: bool) -> Connection {
    let mut connection = Connection::open(port).expect("connect");
    if later {
        connection
            .exchange(port, &Request::get("/hello/"), SOON)
            .expect("answer");
    }
    connection
}

#[test]
fn continue_is_said_to_those_who_wait() {
    let (_business, server, client) = setup();
    for (later, body) in [
        (false, "Content-Length: 5\r\n"),
        (true, "Content-Length: 5\r\n"),
        (false, "Transfer-Encoding: chunked\r\n"),
    ] {
        let mut connection = connect(server.port(), later);
        let head = format!("{}\r\n{body}Expect: 100-Continue\r\n\r\n", send_head());
        connection.write(head.as_bytes()).expect("write");
        let mut stream = connection.into_stream();
        let mut interim = [0; 25];
        std::io::Read::read_exact(&mut stream, &mut interim).expect("an interim answer");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        let rest = if body.starts_with('C') {
            &b"hello"[..]
        } else {
            b"5\r\nhello\r\n0\r\n\r\n"
        };
        std::io::Write::write_all(&mut stream, rest).expect("write");
        assert_eq!(client.expect_send(SOON).1, b"hello");
    }
}

#[test]
fn head_has_no_body_and_keeps_the_stream_in_step() {
    let (_business, server, _client) = setup();
    for later in [false, true] {
        let mut connection = connect(server.port(), later);
        connection
            .write(
                b"HEAD /hello/ HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .expect("write");
        let answers = String::from_utf8(connection.read_to_end(SOON).expect("answers")).expect("ascii");
        let (first, second) = answers.split_once("\r\n\r\n").expect("two heads");
        assert!(first.starts_with("HTTP/1.1 200 "), "{answers}");
        assert!(
            second.starts_with("HTTP/1.1 200 ") && second.ends_with("\r\n\r\nok"),
            "{answers}"
        );
    }
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let (_business, server, client) = setup();
    let inner = format!("{}\r\nContent-Length: 8\r\n\r\nsmuggled", send_head());
    for later in [false, true] {
        for path in ["GET /hello/", "POST /nothing/", "DELETE /send/"] {
            let mut connection = connect(server.port(), later);
            let length = inner.len();
            let request = format!("{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{inner}");
            connection.write(request.as_bytes()).expect("write");
            connection.response("GET", SOON).expect("answer");
            assert_eq!(
                connection
                    .exchange(1, &Request::get("/hello/"), SOON)
                    .expect("answer")
                    .text(),
                "ok"
            );
        }
    }
    client.expect_silence(ms(300));
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    client.expect_send(SOON);
}

/// Ends our direction after each number of bytes: nothing but the whole request may be executed, and the server ends the
/// connection each time.
#[test]
fn a_request_cut_anywhere_is_not_executed() {
    let (business, server, client) = setup();
    let bodies = [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n",
    ];
    for body in bodies {
        let request = format!("{}\r\n{body}", send_head());
        for (later, step) in [(false, 1), (true, 3)] {
            for end in (1..request.len()).step_by(step) {
                let mut connection = connect(server.port(), later);
                connection.write(&request.as_bytes()[..end]).expect("write");
                connection
                    .stopper()
                    .expect("socket")
                    .shutdown(std::net::Shutdown::Write)
                    .expect("half-close");
                let answer = connection
                    .read_to_end(SOON)
                    .unwrap_or_else(|e| panic!("cut at {end}: {e}"));
                let answer = String::from_utf8_lossy(&answer);
                assert!(!answer.starts_with("HTTP/1.1 2"), "cut at {end}: {answer}");
            }
        }
        client.expect_silence(ms(100));
        let mut connection = connect(server.port(), false);
        connection.write(request.as_bytes()).expect("write");
        assert_eq!(connection.response("POST", SOON).expect("answer").status, 200);
        assert_eq!(client.expect_send(SOON).1, b"abc");
    }
    assert_eq!(business.requests().len(), 1);
}

/// The same bytes in single-byte writes and in one: the outcome does not depend on how a request was cut into reads.
#[test]
fn a_request_in_single_bytes_is_understood() {
    let (_business, server, client) = setup();
    let mut connection = connect(server.port(), false);
    let request = format!(
        "{}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        send_head()
    );
    for byte in request.bytes() {
        connection.write(&[byte]).expect("write");
    }
    assert_eq!(connection.response("POST", SOON).expect("answer").status, 200);
    assert_eq!(client.expect_send(SOON).1, b"abcde");
}
