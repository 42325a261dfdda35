//! RFC 6455 and RFC 7692 against the binary, with a client that knows only sockets and a deflate library. The Autobahn suite
//! (`tests/autobahn/run.sh`) covers the cases in full; here is what it does not look at: that close codes are the door's
//! business, what is agreed for which offer, bounds of inflation, and the forms of a broadcast.
#![cfg(feature = "runtime")]

mod common;

use common::business::{Business, Reply};
use common::client::{Client, Op, Open, encode};
use common::http::{self, Request};
use common::server::{Builder, Server};
use common::{SOON, ms};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const FIXED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Deflated as RFC 7692 §7.2.1 says.
fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(payload.len() + 1024);
    let mut compress = Compress::new(Compression::best(), false);
    compress
        .compress_vec(payload, &mut packed, FlushCompress::Sync)
        .expect("deflate");
    packed.strip_suffix(&TAIL).expect("a flushed stream").to_vec()
}

/// Inflated with a window of `1 << bits` bytes.
fn inflate(packed: &[u8], bits: u8) -> Vec<u8> {
    let (mut payload, mut decompress) = (
        Vec::with_capacity(1 << 21),
        Decompress::new_with_window_bits(false, bits),
    );
    let input = [packed, &TAIL].concat();
    decompress
        .decompress_vec(&input, &mut payload, FlushDecompress::Sync)
        .expect("inflate");
    assert_eq!(decompress.total_in() as usize, input.len());
    payload
}

/// A websocket client that sees the first byte of every frame.
struct Peer {
    stream: BufReader<TcpStream>,
    agreed: Option<String>,
}

impl Peer {
    fn open(port: u16, path: &str, offers: Option<&str>) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        let offers = offers.map_or(String::new(), |offers| {
            format!("Sec-WebSocket-Extensions: {offers}\r\n")
        });
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offers}\r\n"
        );
        (&stream).write_all(head.as_bytes()).expect("write");
        let mut stream = BufReader::new(stream);
        let (mut status, mut agreed) = (String::new(), None);
        stream.read_line(&mut status).expect("an answer");
        assert!(status.starts_with("HTTP/1.1 101 "), "{status}");
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(": ") {
                None => return Peer { stream, agreed },
                Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-extensions") => {
                    agreed = Some(value.into())
                }
                Some(_) => {}
            }
        }
    }

    /// A masked frame with any first byte.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = encode(Op::Binary, payload, true, true);
        frame[0] = first;
        let _ = self.stream.get_mut().write_all(&frame);
    }

    /// First byte and payload of the next frame; `None` at the end of the stream.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut read = |len: usize| {
            let mut bytes = vec![0; len];
            match self.stream.read_exact(&mut bytes) {
                Ok(()) => Some(bytes),
                Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => None,
                Err(e) => panic!("no frame: {e}"),
            }
        };
        let head = read(2)?;
        let length = match head[1] {
            126 => read(2)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            127 => read(8)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            short => usize::from(short),
        };
        Some((head[0], read(length)?))
    }

    /// The code of the close frame that comes next, answered, and then the end; `None` if there is only the end.
    fn close_code(&mut self) -> Option<u16> {
        let (first, payload) = self.frame()?;
        assert_eq!(first, 0x88, "{payload:?}");
        self.send(0x88, &payload);
        assert_eq!(self.frame(), None, "TCP ends behind the close frame");
        payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

fn start(configure: impl FnOnce(Builder) -> Builder) -> (Business, Server) {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = configure(Builder::new(&business).set("echo", "on")).start();
    (business, server)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i * i / 7 % 26) as u8).collect()
}

#[test]
fn echo_is_off_by_default() {
    let business = Business::start();
    let server = Builder::new(&business).start();
    let open = Open {
        target: "/echo/".into(),
        ..Open::default()
    };
    let client = Client::start(server.port(), open).expect("connect");
    assert_eq!(client.answer(SOON).expect("answer").status, 404);
}

#[test]
fn echo_sends_messages_back_and_asks_nobody() {
    let (business, server) = start(|b| b);
    let mut peer = Peer::open(server.port(), "/echo/", None);
    peer.send(0x81, "t\u{e4}xt".as_bytes());
    assert_eq!(peer.frame(), Some((0x81, "t\u{e4}xt".into())));
    peer.send(0x02, b"in ");
    peer.send(0x89, b"ping");
    peer.send(0x80, b"two");
    assert_eq!(peer.frame(), Some((0x8a, b"ping".to_vec())));
    assert_eq!(peer.frame(), Some((0x82, b"in two".to_vec())));
    peer.send(0x88, b"\x0f\xa1bye");
    assert_eq!(peer.close_code(), Some(4001));
    let call = |request| http::call(server.port(), &request, SOON).expect("answer").status;
    assert_eq!(call(Request::get("/echo/")), 400, "not a websocket");
    assert_eq!(call(Request::post("/echo/", "")), 405);
    std::thread::sleep(ms(100));
    assert!(
        business.requests().is_empty(),
        "an echo client is no business of the business"
    );
    server.expect_no_channels();
}

/// What it is, frames as first byte and payload, and RFC 6455's close code for it.
type Violation<'a, P> = (&'a str, &'a [(u8, P)], u16);

/// The same violation at both doors: RFC 6455's close codes at one, the original's silence (spec: section 14) at the other.
#[test]
fn the_door_decides_what_a_violation_is_answered_with() {
    let (business, server) = start(|b| b.set("message_max", 1024));
    let cases: &[Violation<&[u8]>] = &[
        ("reserved bit 1", &[(0xc1, b"x")], 1002),
        ("reserved bit 3", &[(0x92, b"x")], 1002),
        ("reserved bit of a control frame", &[(0xc9, b"x")], 1002),
        ("reserved opcode", &[(0x83, b"x")], 1002),
        ("reserved control opcode", &[(0x8b, b"x")], 1002),
        ("stray continuation", &[(0x80, b"x")], 1002),
        ("message inside a message", &[(0x01, b"x"), (0x81, b"y")], 1002),
        ("fragmented ping", &[(0x09, b"x")], 1002),
        ("ping of 126 bytes", &[(0x89, &[0; 126])], 1002),
        ("close of one byte", &[(0x88, b"\x03")], 1002),
        ("close code 1005", &[(0x88, b"\x03\xed")], 1002),
        ("reason that is not UTF-8", &[(0x88, b"\x03\xe8\xff")], 1007),
        ("text that is not UTF-8", &[(0x81, b"a\xff")], 1007),
        ("text that ends inside a character", &[(0x81, b"\xce")], 1007),
        (
            "fragmented text that ends inside a character",
            &[(0x01, b"a"), (0x80, b"\xce")],
            1007,
        ),
        ("surrogate", &[(0x81, b"\xed\xa0\x80")], 1007),
        ("message too big", &[(0x82, &[0; 1025])], 1009),
        (
            "fragments too big together",
            &[(0x02, &[0; 1000]), (0x80, &[0; 25])],
            1009,
        ),
    ];
    for (what, frames, code) in cases {
        for (path, expected) in [
            ("/echo/", Some(*code)),
            ("/connect/", Some(1009).filter(|big| big == code)),
        ] {
            let mut peer = Peer::open(server.port(), path, None);
            frames.iter().for_each(|(first, payload)| peer.send(*first, payload));
            assert_eq!(peer.close_code(), expected, "{what} at {path}");
        }
    }
    business.wait_for("/close/", cases.len(), SOON);
    server.expect_no_channels();
}

#[test]
fn a_fragment_that_spoils_a_text_ends_it_at_once() {
    let (_business, server) = start(|b| b);
    let mut peer = Peer::open(server.port(), "/echo/", None);
    peer.send(0x01, b"\xce\xba\xf4");
    peer.send(0x00, b"\x8f\xbf");
    peer.send(0x00, b"\xbf fine");
    peer.send(0x89, b"still open");
    assert_eq!(peer.frame(), Some((0x8a, b"still open".to_vec())));
    peer.send(0x00, b"\xed\xa0");
    assert_eq!(peer.close_code(), Some(1007), "without the rest of the message");
}

#[test]
fn compression_is_off_by_default() {
    let (_business, server) = start(|b| b);
    let mut peer = Peer::open(server.port(), "/echo/", Some("permessage-deflate"));
    assert_eq!(peer.agreed, None);
    peer.send(0xc1, &deflate(b"hello"));
    assert_eq!(peer.close_code(), Some(1002));
}

#[test]
fn offers_and_what_is_agreed() {
    let (_business, server) = start(|b| b.set("compression", "on"));
    let agreed = |offers| Peer::open(server.port(), "/connect/", Some(offers)).agreed;
    for offers in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=9; server_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; nonsense, permessage-deflate",
        "permessage-deflate; server_max_window_bits=20\r\nSec-WebSocket-Extensions: permessage-deflate",
    ] {
        assert_eq!(agreed(offers).as_deref(), Some(FIXED), "{offers}");
    }
    assert_eq!(
        agreed("permessage-deflate; server_max_window_bits=10"),
        Some(format!("{FIXED}; server_max_window_bits=10"))
    );
    for offers in [
        "x-webkit-deflate-frame",
        "permessage-deflate; nonsense",
        "permessage-deflate; server_max_window_bits",
    ] {
        assert_eq!(agreed(offers), None, "{offers}");
    }
}

#[test]
fn compressed_messages_go_both_ways() {
    let (_business, server) = start(|b| b.set("compression", "on"));
    let mut peer = Peer::open(server.port(), "/echo/", Some("permessage-deflate"));
    let long = text(100_000);
    let packed = deflate(&long);
    for _ in 0..3 {
        peer.send(0xc1, &packed);
        let (first, payload) = peer.frame().expect("an echo");
        assert!(first == 0xc1 && payload.len() < 90_000, "{first:x} {}", payload.len());
        assert_eq!(inflate(&payload, 15), long, "no context is carried over");
    }
    let (start, end) = packed.split_at(packed.len() / 2);
    peer.send(0x42, start);
    peer.send(0x89, b"in between");
    peer.send(0x80, end);
    assert_eq!(peer.frame(), Some((0x8a, b"in between".to_vec())));
    assert_eq!(
        peer.frame().map(|(first, payload)| (first, inflate(&payload, 15))),
        Some((0xc2, long.clone()))
    );
    peer.send(0xc1, &deflate(b"short"));
    assert_eq!(
        peer.frame(),
        Some((0x81, b"short".to_vec())),
        "short messages are not compressed"
    );
    peer.send(0xc2, &[0]);
    assert_eq!(peer.frame(), Some((0x82, Vec::new())), "an empty message");
    peer.send(0x81, &long);
    assert_eq!(
        peer.frame().map(|(first, _)| first),
        Some(0xc1),
        "uncompressed messages are accepted too"
    );
}

/// More than is inflated at a time waits, and comes all the same.
#[test]
fn many_large_messages_sent_at_once_come_back_in_order() {
    let (_business, server) = start(|b| b.set("compression", "on"));
    let offer = Some("permessage-deflate");
    let mut peers = [(); 3].map(|()| Peer::open(server.port(), "/echo/", offer));
    let large = |number: u8| vec![number; 900_000];
    let all: Vec<u8> = (0..12)
        .flat_map(|number| {
            let mut frame = encode(Op::Binary, &deflate(&large(number)), true, true);
            frame[0] = 0xc2;
            frame
        })
        .collect();
    for peer in &mut peers {
        peer.stream.get_mut().write_all(&all).expect("write");
    }
    for number in 0..12 {
        for peer in &mut peers {
            let (first, payload) = peer.frame().expect("an echo");
            assert!(first == 0xc2 && inflate(&payload, 15) == large(number), "{number}");
        }
    }
    for peer in &mut peers {
        peer.send(0xc1, &deflate(b"later"));
        assert_eq!(peer.frame(), Some((0x81, b"later".to_vec())), "it is read as before");
    }
}

#[test]
fn broken_compression_ends_the_connection() {
    let (_business, server) = start(|b| b.set("compression", "on").set("message_max", "1m"));
    let cases: &[Violation<Vec<u8>>] = &[
        ("no deflate stream", &[(0xc2, vec![0xff; 50])], 1007),
        ("text that is not UTF-8", &[(0xc1, deflate(&[b'a', 0xff]))], 1007),
        ("a bomb", &[(0xc2, deflate(&vec![0; (1 << 20) + 1]))], 1009),
        (
            "a bomb in fragments",
            &[(0x42, deflate(&vec![0; 1 << 24])), (0x80, vec![0])],
            1009,
        ),
        (
            "reserved bit on a continuation",
            &[(0x42, vec![0]), (0xc0, vec![0])],
            1002,
        ),
        ("reserved bit on a ping", &[(0xc9, vec![0])], 1002),
        ("reserved bit 2", &[(0xa2, vec![0])], 1002),
    ];
    for (what, frames, code) in cases {
        let mut peer = Peer::open(server.port(), "/echo/", Some("permessage-deflate"));
        frames.iter().for_each(|(first, payload)| peer.send(*first, payload));
        assert_eq!(peer.close_code(), Some(*code), "{what}");
    }
}

#[test]
fn bombs_cost_no_more_memory_than_messages() {
    let (_business, server) = start(|b| b.set("compression", "on").set("message_max", "1m"));
    let before = server.resident_kib();
    let bomb = deflate(&vec![0; 256 << 20]);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    for _ in 0..5 {
        let mut peer = Peer::open(server.port(), "/echo/", Some("permessage-deflate"));
        peer.send(0xc2, &bomb);
        assert_eq!(peer.close_code(), Some(1009));
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
}

/// QoS 0 to members with and without compression, with a small window, below and above the threshold.
#[test]
fn a_broadcast_reaches_everybody_in_a_form_they_can_read() {
    let (_business, server) = start(|b| b.set("compression", "on").set("workers", 1));
    let offers = [
        None,
        Some("permessage-deflate"),
        Some("permessage-deflate; server_max_window_bits=10"),
    ];
    let mut peers: Vec<(Peer, u8)> = offers
        .map(|offer| (Peer::open(server.port(), "/connect/", offer), 15))
        .into();
    peers[2].1 = 10;
    for (len, firsts) in [(100, [0x82; 3]), (700, [0x82, 0xc2, 0xc2]), (5000, [0x82, 0xc2, 0x82])] {
        let body = text(len);
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        for ((peer, bits), expected) in peers.iter_mut().zip(firsts) {
            let (first, payload) = peer.frame().expect("a push");
            assert_eq!(first, expected, "{len} bytes, window of {bits} bits");
            let payload = if first == 0xc2 {
                inflate(&payload, *bits)
            } else {
                payload
            };
            assert!(payload.ends_with(&body), "{len} bytes, window of {bits} bits");
        }
    }
}

#[test]
fn messages_with_ids_are_not_compressed() {
    let (_business, server) = start(|b| b.set("compression", "on"));
    let mut peer = Peer::open(server.port(), "/connect/", Some("permessage-deflate"));
    let push = Request::post("/send/", text(5000))
        .query("channel", "room")
        .query("qos", 1)
        .query("timeout", 1);
    assert_eq!(server.api(&push)["status"], 1, "nobody acknowledges");
    assert_eq!(peer.frame().map(|(first, _)| first), Some(0x82));
}

/// Messages that shrink and messages that do not, in turn: the compressor must not keep anything of the latter.
#[test]
fn noise_between_messages_does_no_harm() {
    let (_business, server) = start(|b| b.set("compression", "on"));
    let mut peer = Peer::open(server.port(), "/echo/", Some("permessage-deflate"));
    let mut state = 1u32;
    for len in (1..40).map(|n| n * 3301) {
        let noise: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        peer.send(0x82, &noise);
        assert_eq!(peer.frame(), Some((0x82, noise)));
        peer.send(0x82, &text(len));
        assert_eq!(
            peer.frame().map(|(first, payload)| (first, inflate(&payload, 15))),
            Some((0xc2, text(len)))
        );
    }
}

/// All cases of the Autobahn suite; docs/websocket.md says what it needs and which exceptions there are.
#[test]
#[ignore = "needs Python 2.7 and some minutes: cargo test --test websocket_conformance -- --ignored"]
fn autobahn() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/autobahn/run.sh");
    let status = Command::new(script)
        .env("SERVER", env!("CARGO_BIN_EXE_rainbow-server"))
        .status()
        .expect("run the script");
    assert!(status.success(), "{status}");
}
