//! Bytes in and out: frames, packets, HTTP heads, signatures.

use std::hint::black_box;

use http::{Method, StatusCode};
use rainbow_server::engine::command::Qos;
use rainbow_server::protocol::rainbow::packet::{Form, Packet, send_header};
use rainbow_server::protocol::rainbow::{api, sign};
use rainbow_server::wire::http1::answer::{HttpAnswer, Manner};
use rainbow_server::wire::http1::{BodyDecoder, parse_request, parse_response, write_response};
use rainbow_server::wire::ws::{self, Opcode};
use rainbow_server::wire::{date, mask};

use super::Body;

const TOKEN: &[u8] = b"a shared secret";
const TIMESTAMP: &[u8] = b"1700000000";
const NOW_MICROS: u64 = 1_700_000_000_500_000;
const LIMITS: ws::Limits = ws::Limits {
    message_max: 1 << 20,
    accept_unmasked: false,
    rsv1: false,
};

/// A signed `/send/` of 64 bytes, as the load generator sends it.
fn send_request() -> Vec<u8> {
    let signature = sign::signature(TOKEN, TIMESTAMP, b"4711");
    let mut request = format!(
        "POST /send/?channel=news&qos=1&msgtype=1&timeout=10&timestamp=1700000000&nonce=4711&signature={} HTTP/1.1\r\n\
         Host: 127.0.0.1\r\nContent-Length: 64\r\n\r\n",
        String::from_utf8_lossy(&signature)
    )
    .into_bytes();
    request.extend_from_slice(&[b'x'; 64]);
    request
}

pub fn bodies() -> Vec<Body> {
    let mut bodies = frames();
    bodies.extend(packets());
    bodies.extend(http());
    bodies
}

fn frames() -> Vec<Body> {
    let mut large = vec![7; 16 * 1024];
    let (mut masked, mut decoder) = (Vec::new(), ws::Decoder::default());
    ws::client_frame(&mut masked, true, Opcode::Binary, [1, 2, 3, 4], &[b'x'; 64]);
    let (mut buffer, mut out) = (masked.clone(), Vec::new());
    let (mut text, mut text_decoder) = (Vec::new(), ws::Decoder::default());
    ws::client_frame(
        &mut text,
        true,
        Opcode::Text,
        [1, 2, 3, 4],
        &"déjà vu, ".repeat(373).as_bytes()[..4096],
    );
    let mut text_buffer = text.clone();
    vec![
        Body::new("ws mask 16 KiB", move || {
            mask::apply(black_box(&mut large), [1, 2, 3, 4])
        }),
        Body::new("ws decode 64 B", move || {
            buffer.copy_from_slice(&masked);
            decode(&mut decoder, &mut buffer);
        }),
        Body::new("ws decode 4 KiB of text", move || {
            text_buffer.copy_from_slice(&text);
            decode(&mut text_decoder, &mut text_buffer);
        }),
        Body::new("ws encode 64 B", move || {
            out.clear();
            ws::push_frame(black_box(&mut out), Opcode::Binary, black_box(&[b'x'; 64]));
        }),
        Body::new("ws accept key", || {
            black_box(ws::accept_key(black_box(b"dGhlIHNhbXBsZSBub25jZQ==")));
        }),
    ]
}

/// One whole message. The only caller of the decoder, as in the server, so that the compiler treats it alike.
#[inline(never)]
fn decode(decoder: &mut ws::Decoder, buffer: &mut [u8]) {
    let len = buffer.len();
    let step = decoder.next(black_box(buffer), &LIMITS);
    assert!(matches!(step, Ok((ws::Step::Message { .. }, used)) if used == len));
}

fn packets() -> Vec<Body> {
    let mut encoded = Vec::new();
    vec![
        Body::new("packet decode", || {
            let packet = Packet::decode(black_box(b"\x12\0\x07\0\x05payload"), Form::Binary);
            assert!(matches!(black_box(packet), Ok(Packet::Send { id: 5, .. })));
        }),
        Body::new("packet encode", move || {
            encoded.clear();
            let packet = Packet::Send {
                dup: false,
                raw_qos: 1,
                msgtype: 7,
                id: 5,
                payload: black_box(&[b'x'; 64]),
            };
            black_box(packet).encode(black_box(&mut encoded));
        }),
        Body::new("packet header", || {
            black_box(send_header(
                black_box(7),
                black_box(Qos::AtLeastOnce),
                black_box(5),
                false,
            ));
        }),
    ]
}

fn http() -> Vec<Body> {
    let (request, response) = (
        send_request(),
        b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\n\
        RAINBOWCLIENTCHANNEL: news\r\nContent-Length: 21\r\n\r\n",
    );
    let config = super::config();
    let (whole, asked, checked) = (request.clone(), request.clone(), request);
    let (mut body, mut out, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let manner = parse_request(&whole, 65_536)
        .ok()
        .flatten()
        .map_or(Manner::LAST, |head| Manner::of(&head));
    vec![
        Body::new("http request with body", move || {
            let Ok(Some(head)) = parse_request(black_box(&whole), 65_536) else {
                panic!("the request is whole");
            };
            body.clear();
            let decoder = BodyDecoder::new(head.framing, 1 << 20);
            let fed = decoder.and_then(|mut decoder| decoder.feed(&whole[head.head_len..], &mut body));
            assert!(fed.is_ok_and(|progress| progress.done));
        }),
        Body::new("http response head", || {
            black_box(parse_response(black_box(response), &Method::GET, 65_536)).ok();
        }),
        Body::new("http write response", move || {
            out.clear();
            let headers = [("Content-Type", &b"text/html; charset=UTF-8"[..])];
            write_response(black_box(&mut out), StatusCode::OK, headers, b"{\"status\": 0}");
        }),
        Body::new("api answer", move || {
            answer.clear();
            HttpAnswer::done().write(
                black_box(&mut answer),
                manner,
                &date::http_date(black_box(1_700_000_000)),
            );
        }),
        Body::new("api parse send", move || {
            let Ok(Some(head)) = parse_request(&asked, 65_536) else {
                panic!("the request is whole");
            };
            let request = api::Request {
                method: &head.method,
                path: head.path(),
                query: head.query(),
                body: &asked[head.head_len..],
            };
            assert!(matches!(
                api::parse(black_box(&request), |_| Ok(())),
                Ok(api::Ask::Send(_))
            ));
        }),
        Body::new("signature", || {
            black_box(sign::signature(black_box(TOKEN), TIMESTAMP, b"4711"));
        }),
        Body::new("signature check", move || {
            let Ok(Some(head)) = parse_request(&checked, 65_536) else {
                panic!("the request is whole");
            };
            let request = api::Request {
                method: &head.method,
                path: head.path(),
                query: head.query(),
                body: &checked[head.head_len..],
            };
            assert!(
                sign::Rules::of(&config)
                    .check(black_box(&request.signed()), NOW_MICROS)
                    .is_ok()
            );
        }),
    ]
}
