//! Clients behind proxies: X-Forwarded-For and the PROXY protocol.

use super::common::client::{Client, Open};
use super::common::http::{Connection, Request};
use super::common::{SOON, eventually, ms};
use super::{connect_from, metric, refused, setup, start_from};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PROXY: &str = "127.0.0.9";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n";

/// A version 2 header for an address of 192.0.2.0/24.
fn v2(last: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend([192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x34, 0, 80]);
    header.extend([4, 0, 0]);
    header
}

fn open_on(mut stream: TcpStream, port: u16, header: &[&[u8]]) -> Client {
    for piece in header {
        stream.write_all(piece).expect("write");
        std::thread::sleep(ms(30));
    }
    Client::start_on(stream, port, Open::default()).expect("write")
}

fn is_closed_without_answer(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    match stream.read(&mut [0; 100]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let (business, server) = setup(|b| {
        b.set("connections_per_address", 1)
            .set("trusted_proxies", "127.0.0.8/31 ::1")
    });
    let forwarded = |value| start_from(PROXY, &server, &[("X-Forwarded-For", value)]);
    let _first = forwarded("192.0.2.1").let_in();
    let sent = business.requests_to("/connect/");
    assert_eq!(
        sent[0].header("x-forwarded-for").as_deref(),
        Some("192.0.2.1"),
        "passed on unchanged"
    );
    refused(&forwarded("192.0.2.1"));
    refused(&forwarded("192.0.2.99, 192.0.2.1"));
    refused(&forwarded("192.0.2.99, 192.0.2.1, 127.0.0.8"));
    let second = forwarded("192.0.2.2").let_in();
    let _unknown = [forwarded("unknown").let_in(), forwarded("").let_in()];
    let _stranger = start_from("127.0.0.5", &server, &[("X-Forwarded-For", "192.0.2.50")]).let_in();
    refused(&start_from("127.0.0.5", &server, &[("X-Forwarded-For", "192.0.2.51")]));
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"address\"}"), 4);
    drop(second);
    assert!(eventually(SOON, || forwarded("192.0.2.2")
        .answer(SOON)
        .is_ok_and(|a| a.status == 101)));
}

#[test]
fn proxy_headers_tell_the_address() {
    let (_business, server) = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", PROXY)
            .set("connections_per_address", 1)
            .set("workers", 2)
    });
    let port = server.port();
    let proxied = |header: &[&[u8]]| open_on(connect_from(PROXY, port), port, header);
    let _first = proxied(&[V1]).let_in();
    refused(&proxied(&[&v2(1)]));
    let _second = proxied(&[&v2(2)]).let_in();
    let whole = v2(3);
    let _pieces = proxied(&[&whole[..5], &whole[5..20], &whole[20..]]).let_in();
    let _local = proxied(&[b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"]).let_in();
    let _unknown = proxied(&[b"PROXY UNKNOWN\r", b"\n"]).let_in();
    // Others begin as usual, and a header is no request.
    let _direct = start_from("127.0.0.5", &server, &[]).let_in();
    let liar = open_on(connect_from("127.0.0.6", port), port, &[V1]);
    assert!(liar.answer(SOON).expect("answer").status >= 400);
}

#[test]
fn the_told_address_survives_an_api_call() {
    let (_business, server) = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", PROXY)
            .set("connections_per_address", 1)
    });
    let port = server.port();
    let after_call = || {
        let mut stream = connect_from(PROXY, port);
        stream.write_all(V1).expect("write");
        let mut connection = Connection::on(stream);
        let answer = connection
            .exchange(port, &Request::get("/hello/"), SOON)
            .expect("answer");
        assert_eq!(answer.status, 200);
        Client::start_on(connection.into_stream(), port, Open::default()).expect("write")
    };
    let _first = after_call().let_in();
    refused(&after_call());
}

#[test]
fn bad_and_missing_proxy_headers_end_the_connection() {
    let (_business, server) = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", PROXY)
            .set("handshake_timeout", 1)
    });
    let port = server.port();
    let bad: [&[u8]; 5] = [
        b"GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711\r\nGET /hello/ HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.01 127.0.0.1 4711 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        &[b'P'; 300],
    ];
    for bytes in bad {
        let mut stream = connect_from(PROXY, port);
        stream.write_all(bytes).expect("write");
        assert!(is_closed_without_answer(stream), "{}", bytes.escape_ascii());
    }
    let silent = connect_from(PROXY, port);
    let mut half = connect_from(PROXY, port);
    half.write_all(&V1[..20]).expect("write");
    assert!(is_closed_without_answer(silent) && is_closed_without_answer(half));
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"proxy_header\"}"), 7);
}

#[test]
fn without_trusted_proxies_everybody_needs_a_header() {
    let business = super::Business::start();
    let server = super::Builder::new(&business).set("proxy_protocol", "on").spawn();
    let port = server.port();
    let open = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(&v2(1)).ok()?;
        let answer = Connection::on(stream)
            .exchange(port, &Request::get("/hello/"), SOON)
            .ok()?;
        Some(answer.status)
    };
    assert!(eventually(Duration::from_secs(15), || open() == Some(200)));
    let mut bare = Connection::open(port).expect("connect");
    assert!(bare.exchange(port, &Request::get("/hello/"), SOON).is_err());
}
