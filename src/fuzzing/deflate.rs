//! Compressed messages: any bytes as a deflate stream, as an offer, and as messages that have to come back.

use crate::wire::deflate::{Codec, negotiate};
use crate::wire::ws::{Decoder, Error, Kind, Limits, Opcode, Step, push_frame};

/// One codec for everything, as in a shard: what went before must not matter.
///
/// Input: one byte of limits and repetition, the rest is stream, offer and messages (separated by zero bytes) at once.
pub fn deflate(data: &[u8]) {
    let &[knobs, ref rest @ ..] = data else { return };
    let mut codec = Codec::default();
    unpack(&mut codec, rest, [0, 5, 1000, 1 << 16][usize::from(knobs & 3)]);
    let repeated = rest.repeat(1 + usize::from(knobs >> 4));
    come_back(
        &mut codec,
        rest.split(|&byte| byte == 0).chain([&repeated[..]]),
        usize::from(knobs >> 2 & 3) * 100,
    );
    if let Some(agreed) = negotiate(rest) {
        let again = negotiate(agreed.answer().as_bytes()).expect("our own words");
        assert_eq!(again.answer(), agreed.answer());
        assert!((0..20).all(|bits| again.fits(1 << bits) == agreed.fits(1 << bits)) && agreed.fits(256));
    }
}

/// The result is within its maximum, is the same at exactly its length, and is too big at one byte less.
fn unpack(codec: &mut Codec, stream: &[u8], max: usize) {
    let payload = match codec.unpack(stream, Kind::Binary, max) {
        Ok(payload) => payload.to_vec(),
        Err(error) => return assert!(matches!(error, Error::TooBig | Error::BadCompression), "{error}"),
    };
    assert!(payload.len() <= max);
    assert_eq!(codec.unpack(stream, Kind::Binary, payload.len()), Ok(&payload[..]));
    if let Some(less) = payload.len().checked_sub(1) {
        assert_eq!(codec.unpack(stream, Kind::Binary, less), Err(Error::TooBig));
    }
    let is_text = str::from_utf8(&payload).is_ok();
    assert_eq!(codec.unpack(stream, Kind::Text, max).is_ok(), is_text);
}

/// Frames are packed, never get longer, and hold the same messages.
fn come_back<'a>(codec: &mut Codec, messages: impl Iterator<Item = &'a [u8]>, least: usize) {
    let limits = Limits {
        message_max: 1 << 20,
        accept_unmasked: true,
        rsv1: true,
    };
    let (mut frames, messages) = (Vec::new(), messages.collect::<Vec<_>>());
    messages
        .iter()
        .for_each(|message| push_frame(&mut frames, Opcode::Binary, message));
    let mut packed = codec.pack(&frames, least);
    assert!(packed.frames.len() <= frames.len());
    let (mut at, mut longest) = (0, 0);
    for message in &messages {
        let frame = packed.frames.get_mut(at..).expect("as many frames as messages");
        let (step, used) = Decoder::new().next(frame, &limits).expect("frames of ours");
        let Step::Message {
            compressed, payload, ..
        } = step
        else {
            panic!("{step:?}");
        };
        if compressed {
            assert!(message.len() >= least && payload.len() < message.len());
            assert_eq!(codec.unpack(&payload, Kind::Binary, message.len()), Ok(*message));
            longest = longest.max(message.len());
        } else {
            assert_eq!(payload, *message);
        }
        at += used;
    }
    assert_eq!((at, longest), (packed.frames.len(), packed.longest));
}
