//! What a client reads: HTTP, then whole frames of the server.

use std::collections::HashMap;

use crate::protocol::rainbow::packet::{Form, Packet};

/// What a client read after its upgrade.
pub(super) struct Frames<'a> {
    /// The beginning of a frame.
    pub(super) rest: &'a [u8],
    /// The server has said goodbye.
    pub(super) closed: bool,
    /// ACK and REC packets by id.
    pub(super) answered: HashMap<u16, usize>,
}

/// The frames in what a client read; `None` before its upgrade. Panics if that is not HTTP and then frames.
pub(super) fn frames(read: &[u8]) -> Option<Frames<'_>> {
    assert!(
        read.is_empty() || read.starts_with(b"HTTP/1.1 "),
        "{}",
        read.escape_ascii()
    );
    let upgraded = read.windows(13).position(|bytes| bytes == b"HTTP/1.1 101 ")?;
    let end = read[upgraded..].windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let mut found = Frames {
        rest: &read[upgraded + end + 4..],
        closed: false,
        answered: HashMap::new(),
    };
    while let Some((opcode, payload, rest)) = frame(found.rest) {
        assert!(!found.closed, "a frame behind the close frame");
        found.closed = opcode == 8;
        if let Ok(Packet::Ack { id, .. } | Packet::Rec { id, .. }) = Packet::decode(payload, Form::Binary)
            && opcode == 2
        {
            *found.answered.entry(id).or_default() += 1;
        }
        found.rest = rest;
    }
    Some(found)
}

/// The first frame: opcode, payload, what follows; `None` if it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert!(
        first & 0x30 == 0 && matches!(first & 15, 0..=2 | 8..=10),
        "no frame: {bytes:?}"
    );
    assert!(second & 0x80 == 0, "a masked frame of the server");
    let (len, rest) = match second & 127 {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), &rest[8..]),
        len => (u64::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((first & 15, payload, rest))
}
