use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    message_max: 1 << 20,
    accept_unmasked: false,
    rsv1: false,
};
const LENIENT: Limits = Limits {
    accept_unmasked: true,
    ..LIMITS
};
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client_frame(&mut out, fin, opcode, KEY, payload);
    out
}

/// Decodes one frame with a fresh decoder.
fn first(bytes: &[u8], limits: &Limits) -> Result<(String, usize), Error> {
    let mut buf = bytes.to_vec();
    Decoder::new()
        .next(&mut buf, limits)
        .map(|(step, used)| (format!("{step:?}"), used))
}

fn error(bytes: &[u8]) -> Error {
    first(bytes, &LIMITS).expect_err("an error")
}

fn text(payload: &[u8]) -> Step<'_> {
    Step::Message {
        kind: Kind::Text,
        compressed: false,
        payload: Cow::Borrowed(payload),
    }
}

/// RFC 6455 §5.7, every example that fits a test.
#[test]
fn rfc_examples() {
    let mut decoder = Decoder::new();
    let mut single = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(decoder.next(&mut single, &LENIENT), Ok((text(b"Hello"), 7)));
    let mut masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decoder.next(&mut masked, &LIMITS), Ok((text(b"Hello"), 11)));
    let mut parts = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(decoder.next(&mut parts, &LENIENT), Ok((Step::Fragment, 5)));
    assert_eq!(decoder.pending(), 3);
    assert_eq!(decoder.next(&mut parts[5..], &LENIENT), Ok((text(b"Hello"), 4)));
    assert_eq!(decoder.pending(), 0);
    let mut ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(decoder.next(&mut ping, &LENIENT), Ok((Step::Ping(b"Hello"), 7)));
    let mut pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decoder.next(&mut pong, &LIMITS), Ok((Step::Pong(b"Hello"), 11)));
    assert_eq!(header(Opcode::Binary, 256), ([0x82, 126, 1, 0, 0, 0, 0, 0, 0, 0], 4));
    assert_eq!(header(Opcode::Binary, 65536), ([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 10));
    assert_eq!(
        &accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
        b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
}

#[test]
fn an_idle_decoder_is_one_pointer() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

#[test]
fn every_length_form_at_its_edges() {
    for len in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
        let payload = vec![b'x'; len];
        let mut frame = masked(true, Opcode::Binary, &payload);
        let total = frame.len();
        let (step, used) = Decoder::new().next(&mut frame, &LIMITS).unwrap();
        assert_eq!(used, total);
        assert!(matches!(step, Step::Message { payload: got, .. } if got == payload));
    }
}

#[test]
fn an_unfinished_frame_is_not_touched_and_says_what_it_needs() {
    let frame = masked(true, Opcode::Text, &[b'a'; 300]);
    for len in 0..frame.len() {
        let mut part = frame[..len].to_vec();
        let (step, used) = Decoder::new().next(&mut part, &LIMITS).unwrap();
        let Step::Need(total) = step else {
            panic!("{len} bytes gave {step:?}")
        };
        assert!(used == 0 && total > len && total <= frame.len());
        assert!(len < 4 || total == frame.len(), "the length is known from byte 4 on");
        assert_eq!(part, frame[..len]);
    }
}

#[test]
fn control_frames_inside_a_fragmented_message() {
    let mut stream = masked(false, Opcode::Text, "gr\u{fc}".as_bytes().split_at(3).0);
    stream.extend(masked(true, Opcode::Ping, b"?"));
    stream.extend(masked(false, Opcode::Continuation, b""));
    stream.extend(masked(true, Opcode::Continuation, b"\xbcn"));
    let (mut decoder, mut at, mut seen) = (Decoder::new(), 0, Vec::new());
    loop {
        let (step, used) = decoder.next(&mut stream[at..], &LIMITS).unwrap();
        if let Step::Need(_) = step {
            break;
        }
        seen.push(format!("{step:?}"));
        at += used;
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0], "Fragment");
    assert_eq!(seen[1], "Ping([63])");
    assert_eq!(
        seen[3],
        format!("{:?}", text("grün".as_bytes())),
        "a character cut by fragments is whole again"
    );
    assert_eq!(at, stream.len());
}

#[test]
fn protocol_errors() {
    assert_eq!(error(&[0xc1, 0x80]), Error::ReservedBits);
    assert_eq!(error(&[0xa1, 0x80]), Error::ReservedBits);
    assert_eq!(error(&[0x91, 0x80]), Error::ReservedBits);
    assert_eq!(error(&[0x83, 0x80]), Error::UnknownOpcode);
    assert_eq!(error(&[0x8b, 0x80]), Error::UnknownOpcode);
    assert_eq!(error(&[0x81, 0x00]), Error::NotMasked);
    assert_eq!(error(&[0x80, 0x80]), Error::StrayContinuation);
    assert_eq!(error(&[0x09, 0x80]), Error::FragmentedControl);
    assert_eq!(error(&[0x89, 0xfe]), Error::LongControl);
    assert_eq!(error(&[0x82, 0xfe, 0, 125]), Error::OverlongLength);
    assert_eq!(
        error(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        Error::OverlongLength
    );
    assert_eq!(error(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Error::LengthTopBit);
    assert_eq!(
        error(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Error::TooBig
    );
    assert_eq!(error(&masked(true, Opcode::Text, b"\xff")), Error::InvalidUtf8);
    assert_eq!(error(&masked(true, Opcode::Text, &[0xc0; 200])), Error::InvalidUtf8);
    assert_eq!(error(&masked(true, Opcode::Close, b"x")), Error::TruncatedClose);
    assert_eq!(
        error(&masked(true, Opcode::Close, &1005u16.to_be_bytes())),
        Error::InvalidCloseCode
    );
    assert_eq!(error(&masked(true, Opcode::Close, b"\x03\xe8\xff")), Error::InvalidUtf8);
    let mut open = masked(false, Opcode::Text, b"a");
    let mut decoder = Decoder::new();
    assert_eq!(decoder.next(&mut open, &LIMITS), Ok((Step::Fragment, 7)));
    assert_eq!(decoder.next(&mut [0x81, 0x80], &LIMITS), Err(Error::InterruptedMessage));
}

#[test]
fn the_limit_counts_the_whole_message_and_spares_control_frames() {
    let limits = Limits {
        message_max: 10,
        ..LIMITS
    };
    assert!(first(&masked(true, Opcode::Binary, &[0; 10]), &limits).is_ok());
    assert_eq!(
        first(&masked(true, Opcode::Binary, &[0; 11]), &limits),
        Err(Error::TooBig)
    );
    assert_eq!(Error::TooBig.close_code(), 1009);
    assert!(first(&masked(true, Opcode::Ping, &[0; 125]), &limits).is_ok());
    let mut decoder = Decoder::new();
    assert_eq!(
        decoder.next(&mut masked(false, Opcode::Binary, &[0; 6]), &limits),
        Ok((Step::Fragment, 12))
    );
    assert!(
        decoder
            .next(&mut masked(false, Opcode::Continuation, &[0; 4]), &limits)
            .is_ok()
    );
    assert_eq!(
        decoder.next(&mut masked(true, Opcode::Continuation, &[0; 1]), &limits),
        Err(Error::TooBig)
    );
}

#[test]
fn rsv1_only_where_it_was_negotiated_and_on_first_frames() {
    let limits = Limits {
        rsv1: true,
        accept_unmasked: true,
        ..LIMITS
    };
    let compressed = Step::Message {
        kind: Kind::Text,
        compressed: true,
        payload: Cow::Borrowed(b"\xff"),
    };
    assert_eq!(
        Decoder::new().next(&mut [0xc1, 0x01, 0xff], &limits),
        Ok((compressed, 3))
    );
    assert_eq!(
        Decoder::new().next(&mut [0xc9, 0x00], &limits),
        Err(Error::ReservedBits)
    );
    assert_eq!(
        Decoder::new().next(&mut [0xc0, 0x00], &limits),
        Err(Error::ReservedBits)
    );
}

#[test]
fn close_frames_both_ways() {
    let close = |code, reason| {
        let mut out = Vec::new();
        push_close(&mut out, code, reason);
        out
    };
    assert_eq!(close(None, "not sent"), [0x88, 0]);
    assert_eq!(close(Some(1009), "message too big"), b"\x88\x11\x03\xf1message too big");
    assert_eq!(
        Decoder::new().next(&mut close(None, ""), &LENIENT),
        Ok((Step::Close(None), 2))
    );
    let mut long = close(Some(4999), &"\u{20ac}".repeat(60));
    let (step, used) = Decoder::new().next(&mut long, &LENIENT).unwrap();
    assert_eq!(used, 2 + 2 + 123);
    assert_eq!(
        step,
        Step::Close(Some(CloseFrame {
            code: 4999,
            reason: &"\u{20ac}".repeat(41)
        }))
    );
    let valid = |range: std::ops::RangeInclusive<u16>| range.filter(|&code| is_valid_close_code(code)).count();
    assert_eq!((valid(0..=999), valid(1000..=1015), valid(1016..=2999)), (0, 12, 0));
    assert_eq!((valid(3000..=4999), valid(5000..=65535)), (2000, 0));
}

proptest! {
    #[test]
    fn client_frames_come_back(payload in prop::collection::vec(any::<u8>(), 0..400), key: [u8; 4], cut in 0usize..400) {
        let cut = cut.min(payload.len());
        let mut stream = Vec::new();
        client_frame(&mut stream, false, Opcode::Binary, key, &payload[..cut]);
        client_frame(&mut stream, true, Opcode::Continuation, key, &payload[cut..]);
        let mut decoder = Decoder::new();
        let (step, used) = decoder.next(&mut stream, &LIMITS).unwrap();
        prop_assert_eq!(step, Step::Fragment);
        let (step, rest) = decoder.next(&mut stream[used..], &LIMITS).unwrap();
        prop_assert_eq!(step, Step::Message { kind: Kind::Binary, compressed: false, payload: Cow::Owned(payload) });
        prop_assert_eq!(used + rest, stream.len());
    }

    #[test]
    fn server_frames_are_client_frames_without_the_mask(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut frame = Vec::new();
        push_frame(&mut frame, Opcode::Binary, &payload);
        let total = frame.len();
        let (step, used) = Decoder::new().next(&mut frame, &LENIENT).unwrap();
        prop_assert_eq!(step, Step::Message { kind: Kind::Binary, compressed: false, payload: Cow::Owned(payload) });
        prop_assert_eq!(used, total);
    }
}
