//! Writing frames: unmasked ones as a server, masked ones as a client, and the handshake's key.
//!
//! A server frame is the same bytes for every receiver, so a broadcast encodes [`header`] once and shares it.

use super::{CONTROL_MAX, Opcode};
use crate::wire::mask;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Longest header of a server frame in bytes.
pub const HEADER_MAX: usize = 10;
/// Longest reason beside a two-byte code in a control frame.
const REASON_MAX: usize = CONTROL_MAX - 2;
/// The constant of RFC 6455 §1.3.
const HANDSHAKE_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The header of a final, unmasked frame with `len` payload bytes: the bytes, and how many of them count (2, 4 or 10).
#[inline]
pub fn header(opcode: Opcode, len: usize) -> ([u8; HEADER_MAX], usize) {
    let mut bytes = [0; HEADER_MAX];
    bytes[0] = 0x80 | opcode as u8;
    if len < 126 {
        bytes[1] = len as u8;
        (bytes, 2)
    } else if let Ok(len) = u16::try_from(len) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        (bytes, 4)
    } else {
        bytes[1] = 127;
        bytes[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        (bytes, 10)
    }
}

/// Appends one whole unmasked frame.
#[inline]
pub fn push_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (bytes, used) = header(opcode, payload.len());
    out.reserve(used + payload.len());
    out.extend_from_slice(&bytes[..used]);
    out.extend_from_slice(payload);
}

/// Appends an unmasked close frame. Without a code it is empty and `reason` is not sent; a reason over 123 bytes is cut at
/// a character.
pub fn push_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else {
        return push_frame(out, Opcode::Close, &[]);
    };
    let mut end = reason.len().min(REASON_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let (bytes, used) = header(Opcode::Close, 2 + end);
    out.extend_from_slice(&bytes[..used]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Appends one masked frame, as a client sends it: for tests, benches and demo clients. The server never masks.
pub fn client_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, key: [u8; 4], payload: &[u8]) {
    let (mut bytes, used) = header(opcode, payload.len());
    bytes[0] &= if fin { 0xff } else { 0x7f };
    bytes[1] |= 0x80;
    out.extend_from_slice(&bytes[..used]);
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], key);
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2). The key's form is not checked, as in the original.
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(HANDSHAKE_GUID).finalize();
    let mut text = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28), "20 bytes are 28 characters");
    text
}
