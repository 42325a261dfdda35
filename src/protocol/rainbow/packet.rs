//! The binary packets of rainbow: one websocket message is one packet. Decoding is as lenient as the original (reserved
//! bit, option bits of answers and bytes after a REL or COM id are ignored); what it cannot read is dropped by the
//! session while the connection stays open. Encoding writes small headers into arrays, so that the payload of a fan-out
//! is shared and never copied.
//!
//! ```text
//!   byte 0: command (4 bits) | DUP (1) | QoS (2) | reserved (1)
//!   SEND     byte 0, type u16, [id u16 unless the QoS bits are 0], payload to the end
//!   ACK REC  byte 0, id u16, data to the end
//!   REL COM  byte 0, id u16
//! ```
//! Integers are big-endian. Source: spec section 6. Called by the session and by the fan-out of the shard.

use crate::engine::command::Qos;

/// Largest message id of a QoS 1/2 SEND of ours; after it comes 1 (spec: section 6).
pub const MESSAGE_ID_MAX: u16 = 65_534;

/// Kind of the websocket message a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Opcode 2.
    Binary,
    /// Opcode 1: the header bytes must be ASCII, since the original read them as characters.
    Text,
}

/// One packet, its payload borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A message of the application.
    Send {
        /// Set on a repetition.
        dup: bool,
        /// The QoS bits as they are, 0..=3; see [`Packet::qos`]. 3 carries an id and is never answered.
        raw_qos: u8,
        /// Type chosen by the application.
        msgtype: u16,
        /// Message id; 0 when `raw_qos` is 0, which has none.
        id: u16,
        /// Bytes for the application, may be empty.
        payload: &'a [u8],
    },
    /// Answer to a SEND of QoS 1.
    Ack {
        /// Id of the SEND.
        id: u16,
        /// Answer of the application, may be empty.
        data: &'a [u8],
    },
    /// First answer to a SEND of QoS 2.
    Rec {
        /// Id of the SEND.
        id: u16,
        /// Answer of the application, may be empty.
        data: &'a [u8],
    },
    /// Answer to a REC.
    Rel {
        /// Id of the SEND.
        id: u16,
    },
    /// Answer to a REL, the last of a QoS 2 exchange.
    Com {
        /// Id of the SEND.
        id: u16,
    },
}

/// Why a message is not a packet. It is dropped, the connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No bytes at all.
    Empty,
    /// Command 0 or 6..=15.
    Reserved,
    /// Ends inside its header.
    TooShort,
    /// A text message with a header byte above 0x7F.
    NotAscii,
}

/// The answers rainbow itself writes; their option bits are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a SEND of QoS 1; data may follow.
    Ack = 2,
    /// To a SEND of QoS 2; data may follow.
    Rec = 3,
    /// To a REC.
    Rel = 4,
    /// To a REL.
    Com = 5,
}

const SEND: u8 = 1;
const ACK: u8 = 2;
const REC: u8 = 3;
const REL: u8 = 4;
const COM: u8 = 5;

/// Bytes of the longest header, that of a SEND with an id.
pub const HEADER_MAX: usize = 5;

impl<'a> Packet<'a> {
    /// Reads one websocket message. Never fails on anything after the header.
    pub fn decode(message: &'a [u8], form: Form) -> Result<Self, Malformed> {
        let &first = message.first().ok_or(Malformed::Empty)?;
        if form == Form::Text && !first.is_ascii() {
            return Err(Malformed::NotAscii);
        }
        match first >> 4 {
            SEND => decode_send(message, form),
            command @ ACK..=COM => decode_answer(command, message, form),
            _ => Err(Malformed::Reserved),
        }
    }

    /// The guarantee asked for; `None` for anything but a SEND and for QoS bits 3.
    pub fn qos(&self) -> Option<Qos> {
        match self {
            Packet::Send { raw_qos: 0, .. } => Some(Qos::AtMostOnce),
            Packet::Send { raw_qos: 1, .. } => Some(Qos::AtLeastOnce),
            Packet::Send { raw_qos: 2, .. } => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }

    /// Appends the packet to `out`; for peers, tests and benches. The server itself writes [`send_header`] and
    /// [`answer`] next to a shared payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Packet::Send {
                dup,
                raw_qos,
                msgtype,
                id,
                payload,
            } => {
                let (header, len) = raw_send_header(msgtype, raw_qos & 3, id, dup);
                out.extend_from_slice(&header[..len]);
                out.extend_from_slice(payload);
            }
            Packet::Ack { id, data } => {
                out.extend_from_slice(&answer(Answer::Ack, id));
                out.extend_from_slice(data);
            }
            Packet::Rec { id, data } => {
                out.extend_from_slice(&answer(Answer::Rec, id));
                out.extend_from_slice(data);
            }
            Packet::Rel { id } => out.extend_from_slice(&answer(Answer::Rel, id)),
            Packet::Com { id } => out.extend_from_slice(&answer(Answer::Com, id)),
        }
    }
}

fn decode_send(message: &[u8], form: Form) -> Result<Packet<'_>, Malformed> {
    let ([first, t0, t1], mut payload) = header::<3>(message, form)?;
    let raw_qos = first >> 1 & 3;
    let mut id = 0;
    if raw_qos != 0 {
        let (i, rest) = header::<2>(payload, form)?;
        id = u16::from_be_bytes(i);
        payload = rest;
    }
    let msgtype = u16::from_be_bytes([t0, t1]);
    Ok(Packet::Send {
        dup: first & 8 != 0,
        raw_qos,
        msgtype,
        id,
        payload,
    })
}

fn decode_answer(command: u8, message: &[u8], form: Form) -> Result<Packet<'_>, Malformed> {
    let ([_, i0, i1], data) = header::<3>(message, form)?;
    let id = u16::from_be_bytes([i0, i1]);
    Ok(match command {
        ACK => Packet::Ack { id, data },
        REC => Packet::Rec { id, data },
        REL => Packet::Rel { id },
        _ => Packet::Com { id },
    })
}

/// The next `N` header bytes and what follows them.
fn header<const N: usize>(message: &[u8], form: Form) -> Result<([u8; N], &[u8]), Malformed> {
    let (head, rest) = message.split_first_chunk::<N>().ok_or(Malformed::TooShort)?;
    if form == Form::Text && !head.is_ascii() {
        return Err(Malformed::NotAscii);
    }
    Ok((*head, rest))
}

/// Header of a SEND and its length: 3 bytes for QoS 0 (`id` is not sent), else 5. A retry is the same with `dup`.
pub const fn send_header(msgtype: u16, qos: Qos, id: u16, dup: bool) -> ([u8; HEADER_MAX], usize) {
    raw_send_header(msgtype, qos as u8, id, dup)
}

const fn raw_send_header(msgtype: u16, raw_qos: u8, id: u16, dup: bool) -> ([u8; HEADER_MAX], usize) {
    let [t0, t1] = msgtype.to_be_bytes();
    let [i0, i1] = id.to_be_bytes();
    let first = SEND << 4 | (dup as u8) << 3 | raw_qos << 1;
    ([first, t0, t1, i0, i1], if raw_qos == 0 { 3 } else { HEADER_MAX })
}

/// An answer without data; the data of an ACK or REC follows it in the same message.
pub const fn answer(command: Answer, id: u16) -> [u8; 3] {
    let [i0, i1] = id.to_be_bytes();
    [(command as u8) << 4, i0, i1]
}

/// The message id after `last` on one connection: 1, 2 … [`MESSAGE_ID_MAX`], 1 …; start with 0.
pub const fn next_id(last: u16) -> u16 {
    if last >= MESSAGE_ID_MAX { 1 } else { last + 1 }
}

/// Body of a fuzz target: whatever decodes, encodes to a packet that decodes to the same, no longer than the message;
/// and a text message never decodes to anything else than the binary one.
///
/// # Panics
/// When that does not hold.
pub fn roundtrip(message: &[u8]) {
    let binary = Packet::decode(message, Form::Binary);
    if let Ok(packet) = binary {
        let mut bytes = Vec::with_capacity(message.len());
        packet.encode(&mut bytes);
        assert!(bytes.len() <= message.len());
        assert_eq!(Packet::decode(&bytes, Form::Binary), Ok(packet));
    }
    match Packet::decode(message, Form::Text) {
        Err(Malformed::NotAscii) => assert!(!message.iter().take(HEADER_MAX).all(u8::is_ascii)),
        text => assert_eq!(text, binary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_needs_an_ascii_header_only() {
        let umlaut = "\u{10}\0\u{1}ä";
        assert!(matches!(
            Packet::decode(umlaut.as_bytes(), Form::Text),
            Ok(Packet::Send {
                msgtype: 1,
                payload: [0xc3, 0xa4],
                ..
            })
        ));
        assert_eq!(Packet::decode(b"\x10\0\xc3\xa9x", Form::Text), Err(Malformed::NotAscii));
        assert_eq!(
            Packet::decode(b"\x12\0\x01\0\xc3\xa9", Form::Text),
            Err(Malformed::NotAscii)
        );
        assert_eq!(Packet::decode(b"hello", Form::Text), Err(Malformed::Reserved));
    }

    #[test]
    fn qos_bits_three_have_an_id_and_no_guarantee() {
        let packet = Packet::decode(b"\x16\0\x07\0\x06h", Form::Binary).unwrap();
        assert!(matches!(
            packet,
            Packet::Send {
                raw_qos: 3,
                id: 6,
                payload: b"h",
                ..
            }
        ));
        assert_eq!(packet.qos(), None);
    }

    #[test]
    fn headers_leave_out_the_id_of_qos_0() {
        assert_eq!(send_header(258, Qos::AtMostOnce, 9, true), ([0x18, 1, 2, 0, 9], 3));
        assert_eq!(send_header(1, Qos::AtLeastOnce, 9, false), ([0x12, 0, 1, 0, 9], 5));
        assert_eq!(answer(Answer::Com, 0x1234), [0x50, 0x12, 0x34]);
    }

    #[test]
    fn ids_skip_0_and_65535() {
        assert_eq!(next_id(0), 1);
        assert_eq!(next_id(65_533), 65_534);
        assert_eq!(next_id(65_534), 1);
        assert_eq!(next_id(65_535), 1);
    }

    proptest! {
        #[test]
        fn whatever_decodes_round_trips(message in proptest::collection::vec(any::<u8>(), 0..12)) {
            roundtrip(&message);
        }
    }
}
