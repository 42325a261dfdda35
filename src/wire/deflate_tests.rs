//! What is agreed for which offer, and that every message comes back, or is refused within its bound.

use super::*;
use proptest::prelude::*;

fn answer(offers: &str) -> Option<String> {
    negotiate(offers.as_bytes()).map(Agreed::answer)
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn offers_that_are_accepted() {
    for offers in [
        "permessage-deflate",
        "PERMESSAGE-DEFLATE",
        " permessage-deflate ; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=15; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; unknown, permessage-deflate",
        "permessage-deflate; server_max_window_bits=7, permessage-deflate; client_max_window_bits=8",
    ] {
        assert_eq!(answer(offers).as_deref(), Some(PLAIN), "{offers}");
    }
    for (offers, bits) in [
        ("permessage-deflate; server_max_window_bits=8", 8),
        ("permessage-deflate; server_max_window_bits=\"10\"", 10),
        (
            "permessage-deflate; server_max_window_bits = 15, permessage-deflate",
            15,
        ),
    ] {
        assert_eq!(
            answer(offers),
            Some(format!("{PLAIN}; server_max_window_bits={bits}")),
            "{offers}"
        );
    }
}

#[test]
fn offers_that_are_declined() {
    for offers in [
        "",
        "permessage-bzip2",
        "permessage-deflate-2",
        "permessage-deflate; unknown",
        "permessage-deflate;",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=100",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"\"",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
    ] {
        assert_eq!(answer(offers), None, "{offers}");
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws::push_frame(&mut out, Opcode::Text, payload);
    out
}

fn unpack(packed: &[u8], max: usize) -> Result<Vec<u8>, Error> {
    Codec::default().unpack(packed, Kind::Binary, max).map(<[u8]>::to_vec)
}

/// RFC 7692 §7.2.3.
#[test]
fn examples_of_the_rfc() {
    let fixed = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let final_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    for packed in [&fixed[..], &stored, &final_block, &two_blocks] {
        assert_eq!(unpack(packed, 5).as_deref(), Ok(&b"Hello"[..]), "{packed:02x?}");
        assert_eq!(unpack(packed, 4), Err(Error::TooBig));
    }
    assert_eq!(unpack(&[0], 0).as_deref(), Ok(&b""[..]));
    assert_eq!(unpack(&[], 0).as_deref(), Ok(&b""[..]));
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(unpack(&[0xff; 20], 100), Err(Error::BadCompression));
    assert_eq!(unpack(&[0x07], 100), Err(Error::BadCompression));
    assert_eq!(
        unpack(&[3, 0].repeat(1000), 100),
        Err(Error::BadCompression),
        "final blocks without end"
    );
    let text = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
    assert_eq!(Codec::default().unpack(&text, Kind::Text, 9), Err(Error::InvalidUtf8));
}

#[test]
fn a_bomb_is_given_up_at_the_maximum() {
    let mut codec = Codec::default();
    assert!(codec.deflate(&vec![0; PACK_BYTES_MAX]));
    let bomb = codec.packed.clone();
    assert!(bomb.len() < 50_000, "{}", bomb.len());
    assert_eq!(codec.unpack(&bomb, Kind::Binary, 100_000), Err(Error::TooBig));
    assert!(codec.unpacked.capacity() < 400_000, "{}", codec.unpacked.capacity());
    assert_eq!(
        codec.unpack(&bomb, Kind::Binary, PACK_BYTES_MAX).map(<[u8]>::len),
        Ok(PACK_BYTES_MAX)
    );
}

/// Bytes no compressor makes shorter.
fn noise() -> impl FnMut() -> u8 {
    let mut state = 1u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    }
}

#[test]
fn only_what_becomes_shorter_is_compressed() {
    let mut codec = Codec::default();
    let noise: Vec<u8> = std::iter::repeat_with(noise()).take(600).collect();
    for frames in [
        frame(&[b'a'; 511]),
        frame(&noise),
        frame(&vec![b'a'; PACK_BYTES_MAX + 1]),
    ] {
        let packed = codec.pack(&frames, 512);
        assert!(packed.frames == frames && packed.longest == 0);
    }
    let (mut ping, mut pong) = (Vec::new(), Vec::new());
    ws::push_frame(&mut ping, Opcode::Ping, &[b'a'; 125]);
    ws::push_frame(&mut pong, Opcode::Pong, &[b'a'; 125]);
    let packed = codec.pack(&[&ping[..], &frame(&[b'a'; 512]), &pong].concat(), 1);
    assert!(packed.frames.starts_with(&ping) && packed.frames.ends_with(&pong));
    assert_eq!((packed.frames[ping.len()], packed.longest), (0xc1, 512));
    let agreed = |bits| negotiate(format!("permessage-deflate; server_max_window_bits={bits}").as_bytes()).unwrap();
    assert!(agreed(15).fits(PACK_BYTES_MAX) && !agreed(14).fits(20_000));
    assert!(agreed(9).fits(packed.longest) && !agreed(8).fits(packed.longest));
}

/// A message that does not get shorter leaves nothing behind that could spoil the next ones.
#[test]
fn noise_between_messages_does_no_harm() {
    let (mut codec, mut random) = (Codec::default(), noise());
    for len in (1..60).map(|n| n * 2311) {
        let noise: Vec<u8> = std::iter::repeat_with(&mut random).take(len).collect();
        let text: Vec<u8> = noise.iter().map(|byte| b'a' + byte % 16).collect();
        assert_eq!(codec.pack(&frame(&noise), 100).longest, 0);
        assert_eq!(codec.pack(&frame(&text), 100).longest, len);
        let packed = codec.packed.clone();
        assert_eq!(codec.unpack(&packed, Kind::Binary, len), Ok(&text[..]));
    }
}

proptest! {
    #[test]
    fn frames_come_back(messages in prop::collection::vec((any::<u8>(), 0..3000usize, 1..40u8), 0..6)) {
        let mut codec = Codec::default();
        let payloads: Vec<Vec<u8>> = messages
            .iter()
            .map(|&(start, len, step)| (0..len).map(|i| start.wrapping_add((i / usize::from(step)) as u8)).collect())
            .collect();
        let mut frames = Vec::new();
        payloads.iter().for_each(|payload| ws::push_frame(&mut frames, Opcode::Binary, payload));
        let packed = codec.pack(&frames, 100);
        prop_assert!(packed.frames.len() <= frames.len());
        let mut rest = packed.frames;
        let limits = ws::Limits { message_max: 1 << 20, accept_unmasked: true, rsv1: true };
        let mut decoder = ws::Decoder::new();
        for payload in &payloads {
            let (step, used) = decoder.next(&mut rest, &limits).unwrap();
            let ws::Step::Message { kind, compressed, payload: got } = step else { panic!("{step:?}") };
            let got = if compressed { codec.unpack(&got, kind, 4000).unwrap().to_vec() } else { got.into_owned() };
            prop_assert_eq!(&got, payload);
            rest.drain(..used);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_stay_within_the_maximum(packed in prop::collection::vec(any::<u8>(), 0..300), max in 0..2000usize) {
        if let Ok(payload) = unpack(&packed, max) {
            prop_assert!(payload.len() <= max);
        }
    }
}
