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
    let twin = obvious(stream, &limits);
    assert_eq!((&twin.0, twin.1), (&events, end), "the twin disagrees");
    let cut = decode(stream, cuts, &limits);
    assert_eq!((&cut.0, cut.1), (&events, end), "cuts must not matter");
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

/// The slow twin: RFC 6455 §5.2 read field by field, one byte at a time, from a copy.
fn obvious(stream: &[u8], limits: &Limits) -> (Vec<Event>, Option<Error>) {
    let (mut rest, mut events, mut open) = (stream.iter().copied(), Vec::new(), None);
    let end = loop {
        match obvious_frame(&mut rest, limits, &mut open) {
            Some(Ok(event)) => events.push(event),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    (events, end)
}

/// One frame of the twin; `None` if the stream ends before it does.
fn obvious_frame(
    rest: &mut impl Iterator<Item = u8>,
    limits: &Limits,
    open: &mut Option<(Kind, bool, Vec<u8>)>,
) -> Option<Result<Event, Error>> {
    let (first, second) = (rest.next()?, rest.next()?);
    let (fin, rsv1, opcode) = (first >= 0x80, first & 0x40 != 0, first % 16);
    let (masked, short) = (second >= 0x80, second % 128);
    let problem = match opcode {
        3..=7 | 11..=15 => Some(Error::UnknownOpcode),
        _ if first & 0x30 != 0 => Some(Error::ReservedBits),
        0 | 8..=10 if rsv1 => Some(Error::ReservedBits),
        _ if rsv1 && !limits.rsv1 => Some(Error::ReservedBits),
        _ if !masked && !limits.accept_unmasked => Some(Error::NotMasked),
        8..=10 if !fin => Some(Error::FragmentedControl),
        8..=10 if short > 125 => Some(Error::LongControl),
        0 if open.is_none() => Some(Error::StrayContinuation),
        1 | 2 if open.is_some() => Some(Error::InterruptedMessage),
        _ => None,
    };
    if let Some(error) = problem {
        return Some(Err(error));
    }
    let extended = [0, 2, 8][usize::from(short.saturating_sub(125))];
    let mut len = if extended == 0 { u64::from(short) } else { 0 };
    for _ in 0..extended {
        len = len << 8 | u64::from(rest.next()?);
    }
    let held = open.as_ref().map_or(0, |(_, _, data)| data.len() as u64);
    match extended {
        8 if len >= 1 << 63 => return Some(Err(Error::LengthTopBit)),
        8 if len <= 0xffff => return Some(Err(Error::OverlongLength)),
        2 if len <= 125 => return Some(Err(Error::OverlongLength)),
        _ if opcode < 8 && held + len > limits.message_max as u64 => return Some(Err(Error::TooBig)),
        _ => {}
    }
    let mut key = [0; 4];
    for byte in key.iter_mut().filter(|_| masked) {
        *byte = rest.next()?;
    }
    let mut payload = Vec::new();
    for i in 0..len as usize {
        payload.push(rest.next()? ^ key[i % 4]);
    }
    Some(obvious_event(opcode, fin, rsv1, payload, open))
}

fn obvious_event(
    opcode: u8,
    fin: bool,
    rsv1: bool,
    payload: Vec<u8>,
    open: &mut Option<(Kind, bool, Vec<u8>)>,
) -> Result<Event, Error> {
    let (kind, compressed, data) = match (opcode, open.take()) {
        (0, Some((kind, compressed, data))) => (kind, compressed, [data, payload].concat()),
        (1, _) => (Kind::Text, rsv1, payload),
        (2, _) => (Kind::Binary, rsv1, payload),
        (_, still_open) => {
            *open = still_open;
            return match opcode {
                9 => Ok(Event::Ping(payload)),
                10 => Ok(Event::Pong(payload)),
                _ => CloseFrame::parse(&payload).map(|frame| own(Step::Close(frame))),
            };
        }
    };
    let problem = str::from_utf8(&data)
        .err()
        .filter(|_| kind == Kind::Text && !compressed);
    match problem {
        // The end of a character may still come.
        Some(error) if fin || error.error_len().is_some() => Err(Error::InvalidUtf8),
        _ if fin => Ok(Event::Message(kind, compressed, data)),
        _ => {
            *open = Some((kind, compressed, data));
            Ok(Event::Fragment)
        }
    }
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
