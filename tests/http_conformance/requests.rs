//! Request heads and bodies, each with what it must be answered with.

use super::common::business::{Business, Reply};
use super::common::client::Client;
use super::common::http::{Connection, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, ms};

/// What must happen.
enum Then {
    /// These statuses, one answer per request, and the connection serves a further request.
    Stays(&'static [u16]),
    /// These statuses, then the end of the connection. Nothing behind the last one may be executed.
    Ends(&'static [u16]),
}
use Then::{Ends, Stays};

const POST: &str = "POST /nothing/ HTTP/1.1\r\nHost: x\r\n";
const GET: &str = "GET /hello/ HTTP/1.1\r\nHost: x\r\n";

/// A POST to a path without a handler (404 if it is understood) with these header lines and a body of five bytes.
fn post(lines: &str) -> String {
    format!("{POST}{lines}\r\n\r\n12345")
}

/// A POST with these header lines and a chunked body of five bytes.
fn chunked(lines: &str) -> String {
    format!("{POST}{lines}\r\n\r\n5\r\n12345\r\n0\r\n\r\n")
}

/// A chunked POST with this body.
fn chunks(body: &str) -> String {
    format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}")
}

/// A GET of `/hello/` with these header lines.
fn get(lines: &str) -> String {
    format!("{GET}{lines}\r\n\r\n")
}

/// A GET of `/hello/` with this first line.
fn first_line(line: &str) -> String {
    format!("{line}\r\nHost: x\r\n\r\n")
}

type Row = (&'static str, String, Then);

fn lengths() -> Vec<Row> {
    vec![
        ("one length", post("Content-Length: 5"), Stays(&[404])),
        (
            "length with white space around it",
            post("Content-Length: \t 5 \t"),
            Stays(&[404]),
        ),
        (
            "length with leading zeroes",
            post("Content-Length: 0005"),
            Stays(&[404]),
        ),
        (
            "the same length twice (RFC 9110 8.6 allows it)",
            post("Content-Length: 5\r\ncontent-length: 5"),
            Stays(&[404]),
        ),
        (
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 0"),
            Ends(&[400]),
        ),
        (
            "two lengths, other case",
            post("Content-Length: 0\r\nCONTENT-LENGTH: 5"),
            Ends(&[400]),
        ),
        ("a list of equal lengths", post("Content-Length: 5, 5"), Ends(&[400])),
        ("a list of lengths", post("Content-Length: 5, 6"), Ends(&[400])),
        ("empty length", post("Content-Length:"), Ends(&[400])),
        ("plus sign", post("Content-Length: +5"), Ends(&[400])),
        ("minus sign", post("Content-Length: -5"), Ends(&[400])),
        ("inner space", post("Content-Length: 5 5"), Ends(&[400])),
        ("hexadecimal", post("Content-Length: 0x5"), Ends(&[400])),
        ("exponent", post("Content-Length: 5e0"), Ends(&[400])),
        ("fraction", post("Content-Length: 5.0"), Ends(&[400])),
        ("quoted", post("Content-Length: \"5\""), Ends(&[400])),
        ("not a digit of ASCII", post("Content-Length: \u{665}"), Ends(&[400])),
        ("vertical tab behind it", post("Content-Length: 5\x0b"), Ends(&[400])),
        ("2^64", post("Content-Length: 18446744073709551616"), Ends(&[400])),
        ("2^64 + 5", post("Content-Length: 18446744073709551621"), Ends(&[400])),
        ("2^64 - 1", post("Content-Length: 18446744073709551615"), Ends(&[404])),
        ("space before the colon", post("Content-Length : 5"), Ends(&[400])),
        ("tab before the colon", post("Content-Length\t: 5"), Ends(&[400])),
        (
            "length and chunked",
            chunked("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            Ends(&[400]),
        ),
        (
            "chunked and length",
            chunked("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            Ends(&[400]),
        ),
        (
            "length and an unknown coding",
            post("Content-Length: 5\r\nTransfer-Encoding: x"),
            Ends(&[400]),
        ),
        (
            "length beside a name that only looks alike",
            post("Content-Length: 5\r\nTransfer_Encoding: chunked"),
            Stays(&[404]),
        ),
        (
            "no length: no body",
            format!("{POST}\r\n{}", get("Connection: close")),
            Ends(&[404, 200]),
        ),
    ]
}

fn codings() -> Vec<Row> {
    let row = |value: &str| chunked(&format!("Transfer-Encoding: {value}"));
    vec![
        ("chunked", row("chunked"), Stays(&[404])),
        ("chunked in capitals", row("CHUNKED"), Stays(&[404])),
        (
            "chunked with white space around it",
            row(" \tchunked\t "),
            Stays(&[404]),
        ),
        ("xchunked", row("xchunked"), Ends(&[501])),
        ("chunkedx", row("chunkedx"), Ends(&[501])),
        ("quoted", row("\"chunked\""), Ends(&[501])),
        ("parameter", row("chunked;q=1"), Ends(&[501])),
        ("identity", row("identity"), Ends(&[501])),
        ("chunked, identity", row("chunked, identity"), Ends(&[501])),
        ("identity, chunked", row("identity, chunked"), Ends(&[501])),
        ("gzip, chunked", row("gzip, chunked"), Ends(&[501])),
        ("chunked twice in one line", row("chunked, chunked"), Ends(&[501])),
        (
            "chunked twice",
            row("chunked\r\nTransfer-Encoding: chunked"),
            Ends(&[501]),
        ),
        (
            "chunked and identity in two lines",
            row("chunked\r\nTransfer-Encoding: identity"),
            Ends(&[501]),
        ),
        ("comma behind it", row("chunked,"), Ends(&[501])),
        ("comma before it", row(",chunked"), Ends(&[501])),
        ("empty", row(""), Ends(&[501])),
        ("vertical tab before it", row("\x0bchunked"), Ends(&[400])),
        ("nul behind it", row("chunked\0"), Ends(&[400])),
        (
            "space before the colon",
            chunked("Transfer-Encoding : chunked"),
            Ends(&[400]),
        ),
        ("folded", chunked("Transfer-Encoding:\r\n chunked"), Ends(&[400])),
        (
            "in HTTP/1.0",
            chunked("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0"),
            Ends(&[400]),
        ),
    ]
}

fn chunk_framing() -> Vec<Row> {
    let long = "x".repeat(17 * 1024);
    vec![
        (
            "upper and lower case digits",
            chunks("A\r\n1234567890\r\na\r\n1234567890\r\n0\r\n\r\n"),
            Stays(&[404]),
        ),
        ("leading zeroes", chunks("0005\r\n12345\r\n000\r\n\r\n"), Stays(&[404])),
        ("extension", chunks("5;a\r\n12345\r\n0;b=\"c\"\r\n\r\n"), Stays(&[404])),
        (
            "trailers",
            chunks("5\r\n12345\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
            Stays(&[404]),
        ),
        (
            "a trailer that would frame",
            chunks("5\r\n12345\r\n0\r\nContent-Length: 900\r\n\r\n"),
            Stays(&[404]),
        ),
        (
            "space behind the size",
            chunks("5 \r\n12345\r\n0\r\n\r\n"),
            Stays(&[404]),
        ),
        (
            "space before the size",
            chunks(" 5\r\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        ("no size", chunks("\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        (
            "extension without a size",
            chunks(";a\r\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        ("minus sign", chunks("-5\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        ("plus sign", chunks("+5\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        ("0x", chunks("0x5\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        ("underscore", chunks("0_5\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        ("not a digit", chunks("g\r\n12345\r\n0\r\n\r\n"), Ends(&[400])),
        (
            "17 digits",
            chunks("00000000000000005\r\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        ("beyond the maximum", chunks("ffffffffffffffff\r\n12345"), Ends(&[404])),
        (
            "bare newline behind the size",
            chunks("5\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "bare newline in an extension",
            chunks("5;a\nb\r\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "bare return behind the size",
            chunks("5\r12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "bare return in an extension",
            chunks("5;a\rb\r\n12345\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "data longer than its size",
            chunks("5\r\n123456\r\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "bare newline behind the data",
            chunks("5\r\n12345\n0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "bare newline behind the last chunk",
            chunks("5\r\n12345\r\n0\n\n"),
            Ends(&[400]),
        ),
        (
            "bare newline in the trailers",
            chunks("5\r\n12345\r\n0\r\nA: b\n\r\n"),
            Ends(&[400]),
        ),
        (
            "nul in the trailers",
            chunks("5\r\n12345\r\n0\r\nA: \0\r\n\r\n"),
            Ends(&[400]),
        ),
        (
            "extension without end",
            chunks(&format!("5;{long}\r\n12345\r\n0\r\n\r\n")),
            Ends(&[400]),
        ),
        (
            "trailers without end",
            chunks(&format!("5\r\n12345\r\n0\r\nA: {long}\r\n\r\n")),
            Ends(&[400]),
        ),
    ]
}

fn lines() -> Vec<Row> {
    let many = |count: usize| get(&vec!["A: b"; count - 1].join("\r\n"));
    vec![
        ("only newlines", get("A: b").replace("\r\n", "\n"), Ends(&[400])),
        (
            "bare newline behind the first line",
            get("A: b").replacen("\r\n", "\n", 1),
            Ends(&[400]),
        ),
        ("bare newline between headers", get("A: b\nC: d"), Ends(&[400])),
        ("bare newline at the end", format!("{GET}A: b\n\n"), Ends(&[400])),
        ("bare return in a value", get("A: b\rC: d"), Ends(&[400])),
        ("bare return in a name", get("A\rB: c"), Ends(&[400])),
        ("return return newline", get("A: b\r"), Ends(&[400])),
        ("folded with a space", get("A: b\r\n c"), Ends(&[400])),
        ("folded with a tab", get("A: b\r\n\tc"), Ends(&[400])),
        (
            "folded first header",
            "GET /hello/ HTTP/1.1\r\n Host: x\r\n\r\n".to_string(),
            Ends(&[400]),
        ),
        ("no colon", get("nonsense"), Ends(&[400])),
        ("empty name", get(": b"), Ends(&[400])),
        ("space in a name", get("A B: c"), Ends(&[400])),
        ("space behind a name", get("A : b"), Ends(&[400])),
        ("delimiter in a name", get("A(B): c"), Ends(&[400])),
        ("not ASCII in a name", get("\u{e4}: b"), Ends(&[400])),
        ("nul in a name", get("A\0: b"), Ends(&[400])),
        ("nul in a value", get("A: b\0c"), Ends(&[400])),
        ("delete in a value", get("A: b\x7f"), Ends(&[400])),
        ("escape in a value", get("A: \x1b[31m"), Ends(&[400])),
        (
            "not ASCII in a value (the original takes it)",
            get("A: \u{e4}\u{20ac}"),
            Stays(&[200]),
        ),
        ("tab in a value", get("A: b\tc"), Stays(&[200])),
        ("empty value", get("A:"), Stays(&[200])),
        ("colon in a value", get("A::b:"), Stays(&[200])),
        (
            "empty lines before the request",
            format!("\r\n\r\n{}", get("A: b")),
            Stays(&[200]),
        ),
        ("128 headers", many(128), Stays(&[200])),
        ("129 headers", many(129), Ends(&[431])),
        ("10000 headers", many(10_000), Ends(&[431])),
        (
            "header of 60 KiB",
            get(&format!("A: {}", "b".repeat(60 * 1024))),
            Stays(&[200]),
        ),
        (
            "header of 70 KiB",
            get(&format!("A: {}", "b".repeat(70 * 1024))),
            Ends(&[431]),
        ),
        (
            "name of 70 KiB",
            get(&format!("{}: b", "A".repeat(70 * 1024))),
            Ends(&[431]),
        ),
    ]
}

fn hosts() -> Vec<Row> {
    let with = |lines: &str| format!("GET /hello/ HTTP/1.1\r\n{lines}\r\n");
    vec![
        ("no host (the original takes it)", with(""), Stays(&[200])),
        ("empty host", with("Host:\r\n"), Stays(&[200])),
        ("two hosts", with("Host: a\r\nHost: b\r\n"), Ends(&[400])),
        ("the same host twice", with("Host: a\r\nhost: a\r\n"), Ends(&[400])),
        ("a space before the colon", with("Host : a\r\n"), Ends(&[400])),
        (
            "two hosts beside a full target",
            "GET http://a/hello/ HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n".into(),
            Ends(&[400]),
        ),
    ]
}

fn first_lines() -> Vec<Row> {
    vec![
        ("full target", first_line("GET http://x/hello/ HTTP/1.1"), Stays(&[200])),
        (
            "full target with user and port",
            first_line("GET http://u:p@x:1/hello/?a HTTP/1.1"),
            Stays(&[200]),
        ),
        (
            "full target without a path",
            first_line("GET http://x HTTP/1.1"),
            Stays(&[404]),
        ),
        (
            "full target of another scheme",
            first_line("GET ftp://x/hello/ HTTP/1.1"),
            Ends(&[400]),
        ),
        ("asterisk", first_line("OPTIONS * HTTP/1.1"), Stays(&[404])),
        ("CONNECT", first_line("CONNECT x:443 HTTP/1.1"), Ends(&[400])),
        (
            "CONNECT to a path",
            first_line("CONNECT /hello/ HTTP/1.1"),
            Stays(&[405]),
        ),
        ("TRACE", first_line("TRACE /hello/ HTTP/1.1"), Stays(&[405])),
        ("unknown method", first_line("BREW /hello/ HTTP/1.1"), Stays(&[405])),
        ("lower-case method", first_line("get /hello/ HTTP/1.1"), Stays(&[405])),
        (
            "method that is no token",
            first_line("G(T /hello/ HTTP/1.1"),
            Ends(&[400]),
        ),
        ("method with a nul", first_line("GET\0 /hello/ HTTP/1.1"), Ends(&[400])),
        ("no method", first_line("/hello/ HTTP/1.1"), Ends(&[400])),
        ("only a method", first_line("GET"), Ends(&[400])),
        ("HTTP/0.9 with headers", first_line("GET /hello/"), Ends(&[400])),
        ("HTTP/0.9", "GET /hello/\r\n\r\n".into(), Ends(&[400])),
        (
            "HTTP/1.2 counts as 1.1",
            first_line("GET /hello/ HTTP/1.2"),
            Stays(&[200]),
        ),
        ("HTTP/1.10", first_line("GET /hello/ HTTP/1.10"), Ends(&[505])),
        ("HTTP/2.0", first_line("GET /hello/ HTTP/2.0"), Ends(&[505])),
        ("HTTP/3", first_line("GET /hello/ HTTP/3"), Ends(&[505])),
        (
            "preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            Ends(&[505]),
        ),
        ("lower-case protocol", first_line("GET /hello/ http/1.1"), Ends(&[505])),
        ("another protocol", first_line("GET /hello/ ICY/1.1"), Ends(&[505])),
        (
            "space behind the version",
            first_line("GET /hello/ HTTP/1.1 "),
            Ends(&[505]),
        ),
        (
            "two spaces before the target",
            first_line("GET  /hello/ HTTP/1.1"),
            Ends(&[505]),
        ),
        (
            "two spaces before the version",
            first_line("GET /hello/  HTTP/1.1"),
            Ends(&[505]),
        ),
        (
            "tab instead of a space",
            first_line("GET\t/hello/\tHTTP/1.1"),
            Ends(&[400]),
        ),
        (
            "space before the method",
            first_line(" GET /hello/ HTTP/1.1"),
            Ends(&[400]),
        ),
        ("space in the target", first_line("GET /hel lo/ HTTP/1.1"), Ends(&[505])),
        ("relative target", first_line("GET hello/ HTTP/1.1"), Ends(&[400])),
        ("nul in the target", first_line("GET /hello/\0 HTTP/1.1"), Ends(&[400])),
        (
            "return in the target",
            first_line("GET /hello/\r HTTP/1.1"),
            Ends(&[400]),
        ),
        (
            "not ASCII in the target",
            first_line("GET /h\u{e4}llo/ HTTP/1.1"),
            Stays(&[404]),
        ),
        (
            "fragment in the target",
            first_line("GET /hello/#a HTTP/1.1"),
            Stays(&[404]),
        ),
        (
            "escapes are not decoded in a path",
            first_line("GET /%68ello/ HTTP/1.1"),
            Stays(&[404]),
        ),
        (
            "target of 70 KiB",
            first_line(&format!("GET /{} HTTP/1.1", "a".repeat(70 * 1024))),
            Ends(&[431]),
        ),
        (
            "TLS on a plain port",
            "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\n\n".into(),
            Ends(&[400]),
        ),
    ]
}

fn persistence() -> Vec<Row> {
    let old = |lines: &str| get(lines).replace("HTTP/1.1", "HTTP/1.0");
    let behind = |lines: &str| format!("{}{}", get(lines), get("A: b"));
    vec![
        ("close", behind("Connection: close"), Ends(&[200])),
        ("close in a list", behind("Connection: a, Close ,b"), Ends(&[200])),
        (
            "close and keep-alive",
            behind("Connection: keep-alive\r\nConnection: close"),
            Ends(&[200]),
        ),
        ("a token that contains close", get("Connection: closed"), Stays(&[200])),
        ("HTTP/1.0", format!("{}{}", old("A: b"), get("A: b")), Ends(&[200])),
        ("HTTP/1.0 that stays", old("Connection: Keep-Alive"), Stays(&[200])),
        (
            "HTTP/1.0 with close and keep-alive",
            old("Connection: keep-alive, close"),
            Ends(&[200]),
        ),
        (
            "unknown upgrade",
            get("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA"),
            Stays(&[200]),
        ),
        ("pipelined", behind("A: b"), Stays(&[200, 200])),
        (
            "garbage behind a request",
            format!("{}\x01\x02garbage\r\n\r\n", get("A: b")),
            Ends(&[200, 400]),
        ),
        (
            "a bad request behind a good one",
            format!("{}{}", get("A: b"), post("Content-Length: +5")),
            Ends(&[200, 400]),
        ),
        (
            "a body of a GET is read over",
            format!("{GET}Content-Length: 5\r\n\r\n12345{}", get("A: b")),
            Stays(&[200, 200]),
        ),
        (
            "a chunked body of a GET is read over",
            format!("{GET}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Stays(&[200]),
        ),
        (
            "a GET of a client with a body",
            "GET /connect/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345".into(),
            Ends(&[400]),
        ),
        (
            "expectation met by sending at once",
            post("Content-Length: 5\r\nExpect: 100-continue"),
            Stays(&[404]),
        ),
        (
            "expectation of HTTP/1.0 is ignored",
            post("Content-Length: 5\r\nConnection: keep-alive\r\nExpect: 100-continue").replace("/1.1", "/1.0"),
            Stays(&[404]),
        ),
        (
            "unknown expectation is ignored",
            post("Content-Length: 5\r\nExpect: 200-maybe"),
            Stays(&[404]),
        ),
    ]
}

/// Statuses of the answers in a stream; panics if it is not a sequence of whole answers. Interim ones are left out.
fn statuses(what: &str, stream: &[u8]) -> Vec<u16> {
    let (mut rest, mut found) = (stream, Vec::new());
    while !rest.is_empty() {
        let text = String::from_utf8_lossy(rest).into_owned();
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("{what}: {text}"));
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 "), "{what}: {text}");
        let status: u16 = head[9..12].parse().expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        rest = rest
            .get(end + 4 + length..)
            .unwrap_or_else(|| panic!("{what}: cut short: {text}"));
        found.extend((status >= 200).then_some(status));
    }
    found
}

fn run(port: u16, later: bool, (what, bytes, then): &Row, smuggled: &[u8]) {
    let what = format!("{what} ({})", if later { "later" } else { "first" });
    let mut connection = Connection::open(port).expect("connect");
    if later {
        assert_eq!(
            connection
                .exchange(port, &Request::get("/hello/"), SOON)
                .expect(&what)
                .status,
            200
        );
    }
    match then {
        Stays(expected) => {
            connection.write(bytes.as_bytes()).expect("write");
            for status in *expected {
                let answer = connection
                    .response("GET", SOON)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(answer.status, *status, "{what}");
            }
            let again = connection.exchange(port, &Request::get("/hello/"), SOON);
            assert_eq!(
                again.unwrap_or_else(|e| panic!("{what}, then: {e}")).text(),
                "ok",
                "{what}"
            );
        }
        Ends(expected) => {
            // The server may end the connection before it has read everything.
            let _ = connection.write(&[bytes.as_bytes(), smuggled].concat());
            let answers = match connection.read_to_end(SOON) {
                Ok(answers) => answers,
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(e) => panic!("{what}: the connection stays open: {e}"),
            };
            assert_eq!(
                statuses(&what, &answers),
                *expected,
                "{what}: {}",
                String::from_utf8_lossy(&answers)
            );
        }
    }
}

fn run_table(rows: &[Row]) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business).start();
    let client = Client::open(server.port());
    let smuggled = Request::post("/send/", "smuggled")
        .query("channel", "room")
        .query("qos", 0)
        .signed(TOKEN);
    let smuggled = smuggled.bytes(server.port(), false);
    for row in rows {
        run(server.port(), false, row, &smuggled);
        run(server.port(), true, row, &smuggled);
    }
    client.expect_silence(ms(300));
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    assert_eq!(
        client.expect_send(SOON).1,
        b"x",
        "what the smuggled request would have caused can be seen"
    );
    assert_eq!(business.requests().len(), 1, "only the one client was asked for");
}

#[test]
fn content_length() {
    run_table(&lengths());
}

#[test]
fn transfer_codings() {
    run_table(&codings());
}

#[test]
fn chunks_extensions_and_trailers() {
    run_table(&chunk_framing());
}

#[test]
fn header_lines() {
    run_table(&lines());
}

#[test]
fn host() {
    run_table(&hosts());
}

#[test]
fn request_lines() {
    run_table(&first_lines());
}

#[test]
fn staying_open() {
    run_table(&persistence());
}
