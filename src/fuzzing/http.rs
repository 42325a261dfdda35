//! HTTP heads and bodies.

use super::pieces;
use crate::wire::http1::{
    BodyDecoder, BodyError, Framing, HeadError, Headers, head_end, parse_request, parse_response, write_request_head,
    write_response_head,
};
use http::Method;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

const BODY_MAX: u64 = 1000;

/// Any bytes as a request: prefixes agree with the whole, the head can be written and read again, then the body.
///
/// Input: one byte for the limit, one of cuts, the stream.
pub fn http_request(data: &[u8]) {
    let &[knobs, cuts, ref stream @ ..] = data else { return };
    let head_max = head_max(knobs);
    let whole = parse_request(stream, head_max);
    prefixes_agree(
        stream,
        cuts,
        head_max,
        &whole,
        |buf| parse_request(buf, head_max),
        |head| head.head_len,
    );
    let Ok(Some(head)) = whole else { return };
    assert!(head.head_len <= head_max && head.framing != Framing::UntilClose);
    nobody_can_read_the_length_differently(&head.headers, head.framing);

    let target = if head.query().is_empty() {
        head.path().to_vec()
    } else {
        [head.path(), b"?", head.query()].concat()
    };
    let mut written = Vec::new();
    let length = declared(head.framing);
    assert!(write_request_head(
        &mut written,
        &head.method,
        &target,
        head.headers.iter(),
        length
    ));
    let again = parse_request(&written, usize::MAX).expect("readable").expect("whole");
    assert_eq!(again.head_len, written.len());
    assert_eq!(
        (&again.method, again.path(), again.query()),
        (&head.method, head.path(), head.query())
    );
    assert_eq!(unframed(&again.headers), unframed(&head.headers));
    assert_eq!(declared(again.framing), length);
    body(head.framing, cuts, &stream[head.head_len..]);
}

/// Any bytes as a response; the limit byte also says whether the request was HEAD.
pub fn http_response(data: &[u8]) {
    let &[knobs, cuts, ref stream @ ..] = data else { return };
    let head_max = head_max(knobs);
    let method = if knobs & 4 != 0 { Method::HEAD } else { Method::GET };
    let whole = parse_response(stream, &method, head_max);
    prefixes_agree(
        stream,
        cuts,
        head_max,
        &whole,
        |buf| parse_response(buf, &method, head_max),
        |head| head.head_len,
    );
    let Ok(Some(head)) = whole else { return };
    assert!(head.head_len <= head_max);
    assert!(
        !head.keep_alive || head.framing != Framing::UntilClose,
        "an endless body ends the connection"
    );

    let mut written = Vec::new();
    let length = declared(head.framing);
    write_response_head(&mut written, head.status, head.headers.iter(), length);
    let again = parse_response(&written, &method, usize::MAX)
        .expect("readable")
        .expect("whole");
    assert_eq!((again.head_len, again.status), (written.len(), head.status));
    assert_eq!(unframed(&again.headers), unframed(&head.headers));
    assert_eq!(declared(again.framing), length);
    body(head.framing, cuts, &stream[head.head_len..]);
}

/// Any bytes as a body in each framing, and the same bytes sent as chunks.
///
/// Input: one byte of cuts, the length byte of the counted framing, the stream.
pub fn http_body(data: &[u8]) {
    let &[cuts, length, ref stream @ ..] = data else { return };
    for framing in [
        Framing::Chunked,
        Framing::Length(u64::from(length)),
        Framing::UntilClose,
        Framing::None,
    ] {
        body(framing, cuts, stream);
    }
    let mut wire = Vec::new();
    for (i, chunk) in pieces(stream, cuts).into_iter().enumerate() {
        wire.extend(format!("{:x}{}\r\n", chunk.len(), [";a=b", " ", ""][i % 3]).bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
    }
    wire.extend(b"0\r\nA: b\r\n\r\n");
    let len = wire.len();
    wire.extend(stream);
    let sent = match stream.len() as u64 {
        ..=BODY_MAX => Ok((stream.to_vec(), len, true)),
        _ => Err(BodyError::TooLarge),
    };
    // Extensions have a bound of their own, far from that of the body.
    assert_eq!(read(Framing::Chunked, cuts, &wire), sent);
}

fn head_max(knobs: u8) -> usize {
    [40, 200, 4096, 64 * 1024][usize::from(knobs & 3)]
}

/// A prefix is unfinished, or says what the whole says; and a scan may be resumed where a prefix was unfinished.
fn prefixes_agree<T>(
    stream: &[u8],
    cuts: u8,
    head_max: usize,
    whole: &Result<Option<T>, HeadError>,
    parse: impl Fn(&[u8]) -> Result<Option<T>, HeadError>,
    len: impl Fn(&T) -> usize,
) {
    let mut seen = 0;
    for piece in pieces(stream, cuts.max(8)) {
        seen += piece.len();
        match (parse(&stream[..seen]), whole) {
            (Ok(None), Ok(Some(head))) => assert!(seen < len(head)),
            (Ok(None), _) => {}
            (Ok(Some(part)), Ok(Some(head))) => assert_eq!(len(&part), len(head)),
            (Err(part), Err(whole)) => assert_eq!(part, *whole),
            (part, _) => panic!(
                "a prefix of {seen} bytes differs: {:?}",
                part.map(|head| head.map(|head| len(&head)))
            ),
        }
        if head_end(&stream[..seen], 0, head_max) == Ok(None) {
            assert_eq!(head_end(stream, seen, head_max), head_end(stream, 0, head_max));
        }
    }
}

fn declared(framing: Framing) -> Option<u64> {
    if let Framing::Length(length) = framing {
        Some(length)
    } else {
        None
    }
}

/// Request smuggling: whichever header or value another reader picks, it finds the same end of the body.
fn nobody_can_read_the_length_differently(headers: &Headers, framing: Framing) {
    let lengths: Vec<_> = headers
        .all(CONTENT_LENGTH)
        .map(|value| str::from_utf8(value).unwrap().parse())
        .collect();
    let codings: Vec<_> = headers.all(TRANSFER_ENCODING).map(<[u8]>::to_ascii_lowercase).collect();
    match framing {
        Framing::Chunked => assert!(lengths.is_empty() && codings == [b"chunked"]),
        Framing::Length(length) => assert!(codings.is_empty() && lengths.iter().all(|other| *other == Ok(length))),
        Framing::None | Framing::UntilClose => assert!(lengths.is_empty() && codings.is_empty()),
    }
}

/// The headers that are not the encoder's own.
fn unframed(headers: &Headers) -> Vec<(&str, &[u8])> {
    let frames = |name: &str| {
        [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|is| name.eq_ignore_ascii_case(is.as_str()))
    };
    headers.iter().filter(|(name, _)| !frames(name)).collect()
}

/// A body is the same in one read and in many, within its limit, and made of what was received.
fn body(framing: Framing, cuts: u8, stream: &[u8]) {
    let whole = read(framing, 1, stream);
    if let Ok((out, consumed, _)) = &whole {
        assert!(out.len() as u64 <= BODY_MAX && out.len() <= *consumed && *consumed <= stream.len());
    }
    assert_eq!(read(framing, cuts, stream), whole, "cuts must not matter");
}

/// Body, bytes consumed, whether it is whole.
fn read(framing: Framing, cuts: u8, stream: &[u8]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let (mut decoder, mut out, mut consumed) = (BodyDecoder::new(framing, BODY_MAX)?, Vec::new(), 0);
    for piece in pieces(stream, cuts) {
        let progress = decoder.feed(piece, &mut out)?;
        assert!(progress.consumed == piece.len() || progress.done && progress.consumed < piece.len());
        assert_eq!(progress.done, decoder.is_done());
        consumed += progress.consumed;
    }
    Ok((out, consumed, decoder.is_done()))
}
