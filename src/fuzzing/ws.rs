//! Websocket frames: any bytes, and streams built from operations.

use super::pieces;
use crate::wire::ws::{CloseFrame, Decoder, Error, Kind, Limits, Opcode, Step, client_frame};

/// A [`Step`] that owns its bytes.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Fragment,
    Message(Kind, bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Any bytes: the same events however they are cut, within the limits, and the same again when encoded anew.
///
/// Input: one byte of limits, one of cuts, the stream.
pub fn ws_frames(data: &[u8]) {
    let &[knobs, cuts, ref stream @ ..] = data else { return };
    let message_max = [5, 125, 1000, 1 << 20][usize::from(knobs & 3)];
    let limits = Limits {
        message_max,
        accept_unmasked: knobs & 4 != 0,
        rsv1: knobs & 8 != 0,
    };
    let (events, end) = decode(stream, 1, &limits);
    assert_eq!(decode(stream, cuts, &limits), (events, end), "cuts must not matter");
    let (events, _) = decode(stream, 1, &limits);
    for event in &events {
        if let Event::Message(kind, compressed, payload) = event {
            assert!(payload.len() <= message_max);
            assert!(*kind == Kind::Binary || *compressed || str::from_utf8(payload).is_ok());
        }
    }
    let whole: Vec<Event> = events.into_iter().filter(|event| *event != Event::Fragment).collect();
    let mut again = Vec::new();
    whole.iter().for_each(|event| encode(&mut again, event));
    assert_eq!(decode(&again, cuts, &limits), (whole, None));
}

/// Operations: a list of messages, each in some fragments with pings between them, comes back as it was sent.
///
/// Input: one byte of cuts, then per operation a byte (bit 0 text, bits 1-2 further fragments, bit 3 ping between them), a
/// length byte and that many payload bytes.
pub fn ws_messages(data: &[u8]) {
    let &[cuts, ref operations @ ..] = data else { return };
    let limits = Limits {
        message_max: 255,
        accept_unmasked: false,
        rsv1: false,
    };
    let (mut rest, mut stream, mut expected) = (operations, Vec::new(), Vec::new());
    while let &[operation, len, ref tail @ ..] = rest {
        let (payload, after) = tail.split_at(usize::from(len).min(tail.len()));
        rest = after;
        let text = operation & 1 != 0 && str::from_utf8(payload).is_ok();
        let kind = if text { Kind::Text } else { Kind::Binary };
        let parts = fragments(payload, usize::from(operation >> 1 & 3));
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let opcode = match (i, kind) {
                (0, Kind::Text) => Opcode::Text,
                (0, Kind::Binary) => Opcode::Binary,
                _ => Opcode::Continuation,
            };
            client_frame(&mut stream, last, opcode, [operation, len, cuts, 7], part);
            if last {
                expected.push(Event::Message(kind, false, payload.to_vec()));
            } else {
                expected.push(Event::Fragment);
            }
            if operation & 8 != 0 {
                client_frame(&mut stream, true, Opcode::Ping, [0; 4], &[len]);
                expected.push(Event::Ping(vec![len]));
            }
        }
    }
    assert_eq!(decode(&stream, cuts, &limits), (expected, None));
}

/// Payload in `further + 1` parts, some of them empty.
fn fragments(payload: &[u8], further: usize) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = payload;
    for left in (1..=further).rev() {
        let (part, tail) = rest.split_at(rest.len() / (left + 1));
        parts.push(part);
        rest = tail;
    }
    parts.push(rest);
    parts
}

/// What a connection does: keep an unfinished frame, decode all whole ones. Returns the events and the error at the end.
fn decode(stream: &[u8], cuts: u8, limits: &Limits) -> (Vec<Event>, Option<Error>) {
    let (mut decoder, mut tail, mut events, mut received) = (Decoder::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces(stream, cuts) {
        tail.extend_from_slice(piece);
        received += piece.len();
        let mut at = 0;
        loop {
            let left = tail.len() - at;
            let (step, used) = match decoder.next(&mut tail[at..], limits) {
                Ok(step) => step,
                Err(error) => return (events, Some(error)),
            };
            assert!(used <= left && decoder.pending() <= limits.message_max);
            if let Step::Need(total) = step {
                assert!(used == 0 && total > left && total <= limits.message_max.max(125) + 14);
                break;
            }
            assert!(used > 0);
            events.push(own(step));
            at += used;
        }
        tail.drain(..at);
        assert_eq!(
            tail,
            stream[received - tail.len()..received],
            "an unfinished frame is left alone"
        );
    }
    (events, None)
}

fn own(step: Step<'_>) -> Event {
    match step {
        Step::Need(_) | Step::Fragment => Event::Fragment,
        Step::Message {
            kind,
            compressed,
            payload,
        } => Event::Message(kind, compressed, payload.into_owned()),
        Step::Ping(payload) => Event::Ping(payload.to_vec()),
        Step::Pong(payload) => Event::Pong(payload.to_vec()),
        Step::Close(frame) => Event::Close(frame.map(|CloseFrame { code, reason }| (code, reason.to_owned()))),
    }
}

/// Writes an event as one client frame.
fn encode(out: &mut Vec<u8>, event: &Event) {
    let key = [1, 2, 3, 4];
    match event {
        Event::Fragment => {}
        Event::Message(kind, compressed, payload) => {
            let opcode = if *kind == Kind::Text {
                Opcode::Text
            } else {
                Opcode::Binary
            };
            let start = out.len();
            client_frame(out, true, opcode, key, payload);
            out[start] |= if *compressed { 0x40 } else { 0 };
        }
        Event::Ping(payload) => client_frame(out, true, Opcode::Ping, key, payload),
        Event::Pong(payload) => client_frame(out, true, Opcode::Pong, key, payload),
        Event::Close(None) => client_frame(out, true, Opcode::Close, key, &[]),
        Event::Close(Some((code, reason))) => {
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            client_frame(out, true, Opcode::Close, key, &payload);
        }
    }
}
