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

const LOCAL: u8 = 0x20;
const PROXIED: u8 = 0x21;

/// A version 2 header: command, family with protocol, addresses and fields.
fn v2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("what fits").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &len, body].concat()
}

/// An address of 192.0.2.0/24 as version 2 tells it.
fn v4(last: u8) -> Vec<u8> {
    vec![192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x34, 0, 80]
}

/// A field (TLV) of version 2.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("what fits").to_be_bytes();
    [&[kind][..], &len, value].concat()
}

/// A version 2 header for an address of 192.0.2.0/24.
fn v2(last: u8) -> Vec<u8> {
    v2_of(PROXIED, 0x11, &[v4(last), field(4, b"")].concat())
}

/// One of so many bytes.
fn long_v2(last: u8, len: usize) -> Vec<u8> {
    let padding = vec![b'.'; len - v2(last).len()];
    let header = v2_of(PROXIED, 0x11, &[v4(last), field(4, &padding)].concat());
    assert_eq!(header.len(), len);
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
fn datagrams_have_addresses_too() {
    let (_business, server) = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", PROXY)
            .set("connections_per_address", 1)
    });
    let port = server.port();
    let proxied =
        |family, address: &[u8]| open_on(connect_from(PROXY, port), port, &[&v2_of(PROXIED, family, address)]);
    let _stream = proxied(0x11, &v4(1)).let_in();
    refused(&proxied(0x12, &v4(1)));
    let _other = proxied(0x12, &v4(2)).let_in();
    let v6 = |last| [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, last][..], &[0; 28]].concat();
    let _stream = proxied(0x21, &v6(1)).let_in();
    refused(&proxied(0x22, &v6(1)));
    let _other = proxied(0x22, &v6(2)).let_in();
}

/// A connection whose header names no address counts as what it is: one of the socket's own.
#[test]
fn without_a_told_address_the_sockets_own_counts() {
    let business = super::Business::start();
    let server = super::Builder::new(&business)
        .set("proxy_protocol", "on")
        .set("connections_per_address", 1)
        .spawn();
    let port = server.port();
    let open = |from: &str, header: &[u8]| open_on(connect_from(from, port), port, &[header]);
    assert!(eventually(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()));
    let unix = [b'/'; 216];
    let unknown = [
        ("127.0.0.21", v2_of(LOCAL, 0, b"")),
        ("127.0.0.22", v2_of(LOCAL, 0x11, &v4(9))),
        ("127.0.0.23", v2_of(PROXIED, 0x00, &field(4, b"more"))),
        ("127.0.0.24", v2_of(PROXIED, 0x00, &v4(9))),
        ("127.0.0.25", v2_of(PROXIED, 0x31, &unix)),
        (
            "127.0.0.26",
            v2_of(PROXIED, 0x32, &[&unix[..], &field(4, b"more")].concat()),
        ),
        ("127.0.0.27", v2_of(LOCAL, 0x31, b"not even an address")),
        ("127.0.0.28", b"PROXY UNKNOWN\r\n".to_vec()),
    ];
    let _all: Vec<_> = unknown
        .iter()
        .map(|(from, header)| open(from, header).let_in())
        .collect();
    for (from, header) in &unknown {
        refused(&open(from, header));
    }
    let _told = open("127.0.0.21", &v2(9)).let_in();
}

#[test]
fn fields_of_proxies_are_skipped_up_to_the_bound() {
    let (_business, server) = setup(|b| b.set("proxy_protocol", "on").set("trusted_proxies", PROXY));
    let port = server.port();
    let proxied = |header: &[&[u8]]| open_on(connect_from(PROXY, port), port, header);
    // What HAProxy says of TLS, a checksum and a name; the endpoint of AWS; the link of Azure.
    let haproxy = [
        field(0x02, b"a.example"),
        field(0x03, &[1, 2, 3, 4]),
        field(
            0x20,
            &[&[7, 0, 0, 0, 0][..], &field(0x21, b"TLSv1.3"), &field(0x28, &[9; 2000])].concat(),
        ),
    ];
    for fields in [
        haproxy.concat(),
        field(0xea, b"\x01vpce-08d2bf15fac5001c9"),
        field(0xee, &[1, 4, 3, 2, 1]),
    ] {
        let _in = proxied(&[&v2_of(PROXIED, 0x11, &[v4(1), fields].concat())]).let_in();
    }
    let longest = long_v2(2, 16 * 1024);
    let (half, rest) = longest.split_at(9000);
    let _longest = proxied(&[half, rest]).let_in();
    let mut longer = connect_from(PROXY, port);
    longer.write_all(&long_v2(2, 16 * 1024 + 1)).expect("write");
    assert!(is_closed_without_answer(longer));
    let said = "a PROXY header was too long: let the proxy send fewer fields, or raise proxy_header_max";
    server.expect_said(said);
    server.expect_said("bytes=16385 proxy_header_max=16384");
}

#[test]
fn the_longest_header_of_the_standard_passes_where_it_is_allowed() {
    let (_business, server) = setup(|b| {
        b.set("proxy_protocol", "on")
            .set("trusted_proxies", PROXY)
            .set("connections_per_address", 1)
            .set("proxy_header_max", 65_551)
    });
    let port = server.port();
    let header = long_v2(1, 65_551);
    let proxied = || open_on(connect_from(PROXY, port), port, &[&header]);
    let _first = proxied().let_in();
    refused(&proxied());
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
            .set("workers", 1)
    });
    let port = server.port();
    let bad: [&[u8]; 6] = [
        b"GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\x0c............",
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
    // One that looks whether the port is open is no fault of anybody.
    drop(connect_from(PROXY, port));
    assert_eq!(metric(&server, "rainbow_refused_total{reason=\"proxy_header\"}"), 8);
    for (what, advice) in [
        (
            "the PROXY header did not come, or not all of it, within handshake_timeout",
            "let it send one",
        ),
        (
            "a connection began without a PROXY header",
            "list only your proxies in trusted_proxies",
        ),
        ("a PROXY header was malformed", "let it send version 2"),
        ("a PROXY header was of an unknown kind", "let it send version 2"),
        ("a PROXY header was too long", "raise proxy_header_max"),
    ] {
        server.expect_said(what);
        let log = server.log_tail();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
        assert_eq!(lines.len(), 1, "each kind once, however often it comes: {log}");
        assert!(lines[0].contains("WARN") && lines[0].contains(advice), "{}", lines[0]);
    }
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
