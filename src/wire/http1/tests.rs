use super::*;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, StatusCode, Version};
use proptest::prelude::*;

const MAX: usize = 64 * 1024;

fn request(text: &str) -> RequestHead {
    parse_request(text.as_bytes(), MAX)
        .expect("no error")
        .expect("a whole head")
}

/// What a head with these header lines (each ending in CRLF) gives.
fn with(lines: &str) -> Result<Option<RequestHead>, HeadError> {
    parse_request(format!("POST / HTTP/1.1\r\n{lines}\r\n").as_bytes(), MAX)
}

fn framing(lines: &str) -> Result<Framing, HeadError> {
    with(lines).map(|head| head.expect("a whole head").framing)
}

fn refused(text: &[u8]) -> HeadError {
    parse_request(text, MAX).expect_err("an error")
}

fn response(text: &str, method: Method) -> ResponseHead {
    parse_response(text.as_bytes(), &method, MAX)
        .expect("no error")
        .expect("a whole head")
}

#[test]
fn a_websocket_request() {
    let text = "GET /connect/?X-DEVICEID=d&a=b?c HTTP/1.1\r\nHost: h:1984\r\nupgrade: websocket\r\n\
                Connection: keep-alive, Upgrade\r\nX-Empty:\r\nX-A: 1 \r\nx-a:\t2\r\n\r\nrest";
    let head = request(text);
    assert_eq!((head.method.as_str(), head.version), ("GET", Version::HTTP_11));
    assert_eq!(
        (head.path(), head.query()),
        (&b"/connect/"[..], &b"X-DEVICEID=d&a=b?c"[..])
    );
    assert_eq!((head.len(), head.headers.len()), (text.len() - 4, 6));
    assert_eq!(
        (head.keep_alive, head.framing, head.expect_continue),
        (true, Framing::None, false)
    );
    assert_eq!(head.headers.first(HOST), Some(&b"h:1984"[..]));
    assert_eq!(head.headers.first("X-EMPTY"), Some(&b""[..]));
    assert_eq!(head.headers.joined("X-a").as_deref(), Some(&b"1,2"[..]));
    assert_eq!(head.headers.joined("x-b"), None);
    assert!(head.headers.has_token(CONNECTION, "upgrade") && head.headers.has_token(UPGRADE, "WebSocket"));
    assert_eq!(head.headers.iter().nth(1), Some(("upgrade", &b"websocket"[..])));
}

#[test]
fn every_prefix_is_unfinished_and_what_follows_does_not_matter() {
    let text = b"\r\n\r\nPOST /send/?x HTTP/1.1\r\nA: b\r\nContent-Length: 3\r\n\r\n";
    for len in 0..text.len() {
        assert!(parse_request(&text[..len], MAX).unwrap().is_none(), "{len}");
        assert_eq!(
            head_end(text, len, MAX),
            Ok(Some(text.len())),
            "a scan may start again at {len}"
        );
    }
    let head = parse_request(&[&text[..], b"\r\n\n\0"].concat(), MAX).unwrap().unwrap();
    assert_eq!((head.len(), head.framing), (text.len(), Framing::Length(3)));
}

#[test]
fn targets() {
    let target = |text: &[u8]| {
        let head = parse_request(&[b"GET ", text, b" HTTP/1.1\r\n\r\n"].concat(), MAX)?.expect("whole");
        Ok::<_, HeadError>((head.path().to_vec(), head.query().to_vec()))
    };
    let is = |path: &[u8], query: &[u8]| Ok((path.to_vec(), query.to_vec()));
    assert_eq!(target(b"/a%20b"), is(b"/a%20b", b""));
    assert_eq!(target(b"/?"), is(b"/", b""));
    assert_eq!(target(b"/p?\xff\xe4=\xc3\xa4"), is(b"/p", b"\xff\xe4=\xc3\xa4"));
    assert_eq!(target(b"*"), is(b"*", b""));
    assert_eq!(target(b"http://h:80/p?q"), is(b"/p", b"q"));
    assert_eq!(target(b"HTTPS://h"), is(b"/", b""));
    assert_eq!(target(b"http://h?q=/"), is(b"/", b"q=/"));
    assert_eq!(target(b"/http://h/p"), is(b"/http://h/p", b""));
    for bad in [
        &b"h:80"[..],
        b"p",
        b"ftp://h/p",
        b"http:/p",
        b"?q",
        b"/a\x7f",
        b"/a\x01",
        b"/a\tb",
    ] {
        assert_eq!(target(bad), Err(HeadError::Target), "{bad:?}");
    }
    assert_eq!(target(b"/a b"), Err(HeadError::Version));
    assert_eq!(target(b""), Err(HeadError::Target));
}

#[test]
fn request_lines() {
    assert_eq!(request("PURGE / HTTP/1.7\r\n\r\n").version, Version::HTTP_11);
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n").version, Version::HTTP_10);
    assert_eq!(refused(b"GET /\r\n\r\n"), HeadError::RequestLine);
    assert_eq!(refused(b"G@T / HTTP/1.1\r\n\r\n"), HeadError::RequestLine);
    assert_eq!(refused(b" GET / HTTP/1.1\r\n\r\n"), HeadError::RequestLine);
    assert_eq!(refused(b"GET  / HTTP/1.1\r\n\r\n"), HeadError::Version);
    for version in ["HTTP/2.0", "HTTP/1.", "HTTP/1.10", "http/1.1", "HTTP/1.1 ", "HTTP/1.x"] {
        assert_eq!(
            refused(format!("GET / {version}\r\n\r\n").as_bytes()),
            HeadError::Version
        );
    }
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HeadError::Version);
    assert_eq!(
        refused(b"\x16\x03\x01\x02\r\n\r\n"),
        HeadError::RequestLine,
        "a TLS hello"
    );
}

#[test]
fn only_crlf_ends_a_line() {
    assert_eq!(
        refused(b"GET / HTTP/1.1\n"),
        HeadError::BareNewline,
        "told before the head is whole"
    );
    assert_eq!(refused(b"\nGET / HTTP/1.1\r\n\r\n"), HeadError::BareNewline);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\n\r\n"), HeadError::BareNewline);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\r\n\n"), HeadError::BareNewline);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n"), HeadError::HeaderValue);
}

#[test]
fn header_lines_that_hide_something() {
    assert_eq!(with("A : b\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with(" A: b\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("A: b\r\n folded\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("A: b\r\n\tfolded\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("A: b\r\n \r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with(": b\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("no colon\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("\u{e4}: b\r\n").unwrap_err(), HeadError::HeaderName);
    assert_eq!(with("A: b\0c\r\n").unwrap_err(), HeadError::HeaderValue);
    assert_eq!(with("A: b\x1b[m\r\n").unwrap_err(), HeadError::HeaderValue);
    assert_eq!(with("A: b\x7f\r\n").unwrap_err(), HeadError::HeaderValue);
    let raw = parse_request(b"GET / HTTP/1.1\r\nA: \xe4\t\xff\r\n\r\n", MAX)
        .unwrap()
        .unwrap();
    assert_eq!(raw.headers.first("a"), Some(&b"\xe4\t\xff"[..]), "bytes pass unchanged");
}

#[test]
fn limits_of_a_head() {
    let line = "GET / HTTP/1.1\r\n\r\n";
    assert!(parse_request(line.as_bytes(), line.len()).unwrap().is_some());
    assert_eq!(
        parse_request(line.as_bytes(), line.len() - 1).unwrap_err(),
        HeadError::TooLarge
    );
    assert!(parse_request(&[b'G'; 99], 100).unwrap().is_none());
    assert_eq!(parse_request(&[b'G'; 100], 100).unwrap_err(), HeadError::TooLarge);
    assert_eq!(
        parse_request(&b"\r\n".repeat(50), 100).unwrap_err(),
        HeadError::TooLarge
    );
    assert_eq!(
        with(&"A: b\r\n".repeat(HEADERS_MAX)).unwrap().unwrap().headers.len(),
        HEADERS_MAX
    );
    assert_eq!(
        with(&"A: b\r\n".repeat(HEADERS_MAX + 1)).unwrap_err(),
        HeadError::TooManyHeaders
    );
    assert_eq!(HeadError::TooManyHeaders.status().as_u16(), 431);
}

#[test]
fn persistence() {
    let keeps = |version: &str, lines: &str| request(&format!("GET / HTTP/{version}\r\n{lines}\r\n")).keep_alive;
    assert!(keeps("1.1", "") && !keeps("1.0", ""));
    assert!(!keeps("1.1", "Connection: Close\r\n") && keeps("1.0", "connection: x, Keep-Alive\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive\r\nConnection: x,close\r\n"));
    assert!(keeps("1.1", "Connection: closed\r\n"));
}

#[test]
fn framing_of_requests() {
    assert_eq!(framing(""), Ok(Framing::None));
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
    assert_eq!(framing("content-length: 007\r\n"), Ok(Framing::Length(7)));
    assert_eq!(
        framing("Content-Length: 18446744073709551615\r\n"),
        Ok(Framing::Length(u64::MAX))
    );
    assert_eq!(
        framing("Content-Length: 5\r\nContent-Length: 5\r\n"),
        Ok(Framing::Length(5))
    );
    assert_eq!(
        framing("Content-Length: 5\r\nContent-Length: 6\r\n"),
        Err(HeadError::ContentLength)
    );
    for bad in [
        "",
        "+5",
        "-1",
        "5 5",
        "5, 5",
        "0x5",
        "5.0",
        "18446744073709551616",
        "\u{0665}",
    ] {
        assert_eq!(
            framing(&format!("Content-Length: {bad}\r\n")),
            Err(HeadError::ContentLength),
            "{bad}"
        );
    }
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    for bad in [
        "",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        "identity",
        "xchunked",
        "chunked;q=1",
    ] {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {bad}\r\n")),
            Err(HeadError::TransferCoding),
            "{bad}"
        );
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(framing(twice), Err(HeadError::TransferCoding));
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    assert_eq!(framing(both), Err(HeadError::ConflictingLength));
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), HeadError::ConflictingLength);
    assert!(with("Expect: 100-Continue\r\n").unwrap().unwrap().expect_continue);
    assert!(!request("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect_continue);
}

#[test]
fn responses() {
    let head = response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Method::GET);
    assert_eq!(
        (head.status.as_u16(), head.framing, head.keep_alive),
        (200, Framing::Length(2), true)
    );
    assert_eq!(head.head_len, 38);
    let framing = |text: &str, method| response(&format!("HTTP/1.1 {text}\r\n\r\n"), method).framing;
    assert_eq!(
        framing("200 OK\r\nTransfer-Encoding: chunked", Method::POST),
        Framing::Chunked
    );
    assert_eq!(framing("200 OK\r\nContent-Length: 5", Method::HEAD), Framing::None);
    assert_eq!(
        framing("304 Not Modified\r\nContent-Length: 5", Method::GET),
        Framing::None
    );
    assert_eq!(framing("204", Method::GET), Framing::None);
    assert_eq!(framing("500 ", Method::GET), Framing::UntilClose);
    assert!(!response("HTTP/1.1 200 ok\r\nConnection: keep-alive\r\n\r\n", Method::GET).keep_alive);
    assert!(response("HTTP/1.1 100 Continue\r\n\r\n", Method::POST).is_interim());
    assert!(!response("HTTP/1.1 101 Switching Protocols\r\n\r\n", Method::GET).is_interim());
    for bad in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200",
        "HTTP/1.1 099 x",
        "HTTP/1.1 200 a\x01",
        "HTTP/1.1",
    ] {
        let parsed = parse_response(format!("{bad}\r\n\r\n").as_bytes(), &Method::GET, MAX);
        assert_eq!(parsed.unwrap_err(), HeadError::StatusLine, "{bad}");
    }
    assert!(parse_response(b"SSH-2.0-x\r\n\r\n", &Method::GET, MAX).is_err());
}

/// Feeds a body in pieces of `step` bytes; returns the body and the bytes consumed.
fn read(framing: Framing, max: u64, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let (mut decoder, mut out, mut consumed) = (BodyDecoder::new(framing, max)?, Vec::new(), 0);
    for piece in input.chunks(step) {
        let progress = decoder.feed(piece, &mut out)?;
        consumed += progress.consumed;
        if progress.done {
            break;
        }
        assert_eq!(progress.consumed, piece.len(), "all of the input, unless done");
    }
    Ok((out, consumed, decoder.is_done()))
}

#[test]
fn bodies_in_every_step() {
    let chunked =
        b"4\r\nWiki\r\n5 ;a=\"b\"\r\npedia\r\n00E;x\r\n in\r\n\r\nchunks.\r\n0\r\nTrailer: x\r\nY:\r\n\r\nNEXT";
    for step in 1..chunked.len() {
        let whole = (b"Wikipedia in\r\n\r\nchunks.".to_vec(), chunked.len() - 4, true);
        assert_eq!(read(Framing::Chunked, 23, chunked, step), Ok(whole));
        assert_eq!(read(Framing::Chunked, 22, chunked, step), Err(BodyError::TooLarge));
        assert_eq!(
            read(Framing::Length(3), 3, b"abcNEXT", step),
            Ok((b"abc".to_vec(), 3, true))
        );
        assert_eq!(
            read(Framing::UntilClose, 3, b"abc", step),
            Ok((b"abc".to_vec(), 3, false))
        );
        assert_eq!(read(Framing::UntilClose, 2, b"abc", step), Err(BodyError::TooLarge));
    }
    assert!(BodyDecoder::new(Framing::None, 0).unwrap().is_done());
    assert!(BodyDecoder::new(Framing::Length(0), 0).unwrap().is_done());
    assert_eq!(
        BodyDecoder::new(Framing::Length(11), 10).unwrap_err(),
        BodyError::TooLarge
    );
}

#[test]
fn broken_chunks() {
    let broken = |text: &str| {
        assert_eq!(
            read(Framing::Chunked, 100, text.as_bytes(), 7),
            Err(BodyError::BadChunk),
            "{text:?}"
        )
    };
    for text in [
        "\r\n", ";a\r\n", "g\r\n", "-1\r\n", "0x1\r\n", " 1\r\n", "1\n", "1\rx", "1;a\nb", "1 2\r\n",
    ] {
        broken(text);
    }
    for text in [
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\r\r",
        "0\r\n\n",
        "0\r\na\n",
        "0\r\na\r\r",
        "0\r\n\r\r",
        "0\r\na\0",
    ] {
        broken(text);
    }
    broken("00000000000000001\r\n");
    assert_eq!(
        read(Framing::Chunked, 100, b"ffffffffffffffff\r\n", 9),
        Err(BodyError::TooLarge)
    );
}

#[test]
fn what_is_skipped_is_bounded() {
    let extensions = b"1;extension=12345\r\na\r\n".repeat(2000);
    assert_eq!(
        read(Framing::Chunked, 1 << 20, &extensions, 1000),
        Err(BodyError::TooMuchSkipped)
    );
    let trailers = [&b"0\r\n"[..], &b"a: b\r\n".repeat(20_000)].concat();
    assert_eq!(
        read(Framing::Chunked, 1 << 20, &trailers, 1000),
        Err(BodyError::TooMuchSkipped)
    );
    let tiny = [&b"1\r\na\r\n".repeat(50_000)[..], b"0\r\n\r\n"].concat();
    assert_eq!(
        read(Framing::Chunked, 50_000, &tiny, 1000).map(|read| read.0.len()),
        Ok(50_000)
    );
}

#[test]
fn an_early_end() {
    let ends = |framing, input: &[u8]| {
        let mut decoder = BodyDecoder::new(framing, 100).unwrap();
        decoder.feed(input, &mut Vec::new()).unwrap();
        decoder.finish()
    };
    assert_eq!(ends(Framing::Length(2), b"a"), Err(BodyError::Truncated));
    assert_eq!(ends(Framing::Chunked, b"0\r\n"), Err(BodyError::Truncated));
    assert_eq!(ends(Framing::Length(2), b"abc"), Ok(()));
    assert_eq!(ends(Framing::UntilClose, b""), Ok(()));
}

#[test]
fn written_responses() {
    let mut out = Vec::new();
    let headers = [
        (CONTENT_TYPE.as_str(), &b"text/html; charset=UTF-8"[..]),
        ("content-LENGTH", b"9"),
        ("X", b"a\r\nb: c"),
    ];
    write_response(&mut out, StatusCode::OK, headers, b"ok");
    let expected = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=UTF-8\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(
        str::from_utf8(&out),
        Ok(expected),
        "framing and broken headers of the caller are left out"
    );
    out.clear();
    write_response(&mut out, StatusCode::NO_CONTENT, [], b"not sent");
    write_response_head(
        &mut out,
        StatusCode::SWITCHING_PROTOCOLS,
        [("Upgrade", &b"websocket"[..])],
        None,
    );
    let expected = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(str::from_utf8(&out), Ok(expected));
    assert!(response(str::from_utf8(CONTINUE).unwrap(), Method::POST).is_interim());
    let mut digits = Vec::new();
    push_decimal(&mut digits, 0);
    push_decimal(&mut digits, u64::MAX);
    assert_eq!(digits, b"018446744073709551615");
}

#[test]
fn written_requests() {
    let mut out = Vec::new();
    assert!(write_request_head(
        &mut out,
        &Method::POST,
        b"/m?\xe4",
        [("Host", &b"h"[..]), ("a b", b"c")],
        Some(7)
    ));
    assert_eq!(out, b"POST /m?\xe4 HTTP/1.1\r\nHost: h\r\ncontent-length: 7\r\n\r\n");
    for target in [&b""[..], b"/ ", b"/\t", b"/\r\nX: y", b"/\x7f"] {
        assert!(
            !write_request_head(&mut Vec::new(), &Method::GET, target, [], None),
            "{target:?}"
        );
    }
}

proptest! {
    #[test]
    fn headers_come_back(lines in prop::collection::vec(("[A-Za-z0-9!_-]{1,12}", "[!-~]([ -~\u{80}-\u{ff}\t]{0,20}[!-~])?"), 0..20)) {
        let framing = |name: &str| ["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase());
        prop_assume!(!lines.iter().any(|(name, _)| framing(name)));
        let pairs: Vec<(&str, &[u8])> = lines.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        let mut out = Vec::new();
        prop_assert!(write_request_head(&mut out, &Method::GET, b"/", pairs.iter().copied(), Some(3)));
        let head = parse_request(&out, MAX).unwrap().unwrap();
        let back: Vec<_> = head.headers.iter().take(pairs.len()).collect();
        prop_assert_eq!(back, pairs);
        prop_assert_eq!((head.framing, head.len()), (Framing::Length(3), out.len()));
    }

    #[test]
    fn chunks_come_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10), step in 1usize..40) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        let body = chunks.concat();
        prop_assert_eq!(read(Framing::Chunked, body.len() as u64, &wire, step), Ok((body, wire.len(), true)));
    }
}
