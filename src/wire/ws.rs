//! RFC 6455 frames, server side. Hand-rolled: frames are decoded and unmasked in place, many per receive buffer, and an
//! unfragmented message is handed out as a slice of that buffer, so that the common case allocates nothing.
//!
//! ```text
//! received bytes ── Decoder::next ──┬─ Need(total)   the first frame is not whole: nothing was touched, keep the tail
//!        ▲                          ├─ Message       whole; borrowed, or owned if it came in fragments
//!        └── advance by `used` ─────┼─ Ping · Pong · Close
//!                                   └─ Fragment      stored, the message goes on
//! ```
//!
//! Invariants: a frame is unmasked exactly once, when it is whole, and then always consumed; a call looks at one header
//! and at the payload of a whole frame only, so a large frame arriving in small reads costs a header parse per read; at
//! most `message_max` bytes are assembled, and they grow with what arrived, never with what was announced; a fragmented
//! text is checked fragment by fragment. With the caller's tail (at most one frame) a connection can make us hold twice
//! `message_max`.
//!
//! Strictness is the original's (spec §14) where it was strict, plus what RFC 6455 calls MUST for a receiver. What the
//! peer sees of an [`Error`] is the door's business: rainbow drops the connection, except for `TooBig` (close code 1009).
//! Encoders and the handshake key are in `ws/encode.rs`.

mod close;
mod encode;
mod error;
#[cfg(test)]
mod tests;
pub mod upgrade;

pub use close::{CloseFrame, is_valid_close_code};
pub use encode::{HEADER_MAX, accept_key, client_frame, header, push_close, push_frame};
pub use error::Error;

use super::mask;
use std::borrow::Cow;

use crate::budget::Input;

/// Control frames carry at most this many payload bytes (RFC 6455 §5.5).
pub const CONTROL_MAX: usize = 125;
/// From this length on simdutf8 beats the standard library's UTF-8 check (ASCII, measured: 8.3 against 5.9 ns at 125 B, but
/// 6 against 18 ns at 1 KiB).
const SIMD_UTF8_FROM: usize = 128;

/// The frame types of RFC 6455 §5.2, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a fragmented message.
    Continuation = 0,
    /// A message of UTF-8 text, or its first part.
    Text = 1,
    /// A message of bytes, or its first part.
    Binary = 2,
    /// The end of the conversation.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// The opcode of a message from its number: text, and binary for every other.
    pub fn of_message(number: u16) -> Opcode {
        if number == Opcode::Text as u16 {
            Opcode::Text
        } else {
            Opcode::Binary
        }
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// What a data message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, already checked (unless compressed).
    Text,
    /// Any bytes.
    Binary,
}

/// What a connection accepts. Shared by all connections of a door; a decoder does not store it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message in bytes, assembled from its fragments. A longer one is [`Error::TooBig`].
    pub message_max: usize,
    /// Accept client frames without a mask, as the original does (spec §14). RFC 6455 §5.1 wants them refused.
    pub accept_unmasked: bool,
    /// A compression extension was negotiated: bit RSV1 is allowed on the first frame of a data message.
    pub rsv1: bool,
}

/// What the first frame of a buffer was.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The frame is not whole. It needs at least this many bytes from its start: always more than the buffer has, never more
    /// than a header and the larger of `message_max` and 125, so a caller may reserve in steps towards it. Nothing was
    /// consumed or changed.
    Need(usize),
    /// A part of a message was stored.
    Fragment,
    /// A whole message.
    Message {
        /// Text or bytes.
        kind: Kind,
        /// RSV1 was set: the payload is compressed, and a text is not yet checked.
        compressed: bool,
        /// Borrowed from the buffer, or owned if the message came in fragments.
        payload: Cow<'a, [u8]>,
    },
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping, or unsolicited.
    Pong(&'a [u8]),
    /// The peer closes; `None` if it gave no code.
    Close(Option<CloseFrame<'a>>),
}

/// The state of one connection's incoming stream: nothing but an unfinished fragmented message. Eight bytes when idle.
#[derive(Debug, Default)]
pub struct Decoder {
    open: Option<Box<OpenMessage>>,
}

/// A message whose last fragment has not come yet.
#[derive(Debug)]
struct OpenMessage {
    kind: Kind,
    compressed: bool,
    data: Input,
    /// So many bytes are known to be whole characters; text only.
    checked: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Decoder {
        Decoder { open: None }
    }

    /// Bytes held for an unfinished fragmented message.
    pub fn pending(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.data.len())
    }

    /// Bytes of memory for that.
    pub fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.data.capacity())
    }

    /// Decodes the first frame of `buf`; returns it with the number of bytes it used (0 only for [`Step::Need`]).
    ///
    /// Call it in a loop, each time with what is left after `used`, until `Need`; then keep the rest for the next read.
    ///
    /// ```
    /// # use rainbow_server::wire::ws::{Decoder, Error, Limits, Step};
    /// fn on_bytes(decoder: &mut Decoder, buf: &mut [u8], limits: &Limits) -> Result<usize, Error> {
    ///     let mut at = 0;
    ///     loop {
    ///         let (step, used) = decoder.next(&mut buf[at..], limits)?;
    ///         match step {
    ///             Step::Need(_total) => return Ok(at), // keep buf[at..]
    ///             Step::Message { payload, .. } => drop(payload),
    ///             Step::Fragment | Step::Ping(_) | Step::Pong(_) | Step::Close(_) => {}
    ///         }
    ///         at += used;
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn next<'a>(&mut self, buf: &'a mut [u8], limits: &Limits) -> Result<(Step<'a>, usize), Error> {
        let head = match self.head(buf, limits)? {
            Parsed::Whole(head) => head,
            Parsed::Need(total) => return Ok((Step::Need(total), 0)),
        };
        let end = head.start.saturating_add(head.len);
        let Some(payload) = buf.get_mut(head.start..end) else {
            return Ok((Step::Need(end), 0));
        };
        if let Some(key) = head.key {
            mask::apply(payload, key);
        }
        let payload = &*payload;
        let step = match head.opcode {
            Opcode::Text if head.fin => message(Kind::Text, head.rsv1, Cow::Borrowed(payload))?,
            Opcode::Binary if head.fin => message(Kind::Binary, head.rsv1, Cow::Borrowed(payload))?,
            Opcode::Text => self.start(Kind::Text, head.rsv1, payload)?,
            Opcode::Binary => self.start(Kind::Binary, head.rsv1, payload)?,
            Opcode::Continuation => self.go_on(head.fin, payload)?,
            Opcode::Ping => Step::Ping(payload),
            Opcode::Pong => Step::Pong(payload),
            Opcode::Close => Step::Close(CloseFrame::parse(payload)?),
        };
        Ok((step, end))
    }

    fn start<'a>(&mut self, kind: Kind, compressed: bool, payload: &[u8]) -> Result<Step<'a>, Error> {
        let mut open = Box::new(OpenMessage {
            kind,
            compressed,
            data: Input::from(payload.to_vec()),
            checked: 0,
        });
        open.check(false)?;
        self.open = Some(open);
        Ok(Step::Fragment)
    }

    fn go_on<'a>(&mut self, fin: bool, payload: &[u8]) -> Result<Step<'a>, Error> {
        let mut open = self.open.take().ok_or(Error::StrayContinuation)?;
        open.data.extend_from_slice(payload);
        open.check(fin)?;
        if fin {
            return Ok(Step::Message {
                kind: open.kind,
                compressed: open.compressed,
                payload: Cow::Owned(open.data.into_vec()),
            });
        }
        self.open = Some(open);
        Ok(Step::Fragment)
    }

    /// Reads and judges a header. Each check needs only the bytes before it, so an error does not depend on how the stream
    /// was cut.
    #[inline]
    fn head(&self, buf: &[u8], limits: &Limits) -> Result<Parsed, Error> {
        let &[first, second, ref rest @ ..] = buf else {
            return Ok(Parsed::Need(2));
        };
        let opcode = self.check(first, second, limits)?;
        let masked = second & 0x80 != 0;
        let after_length = if masked { 4 } else { 0 };
        let (len, wide) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (extended(u64::from(u16::from_be_bytes(*bytes)), 126)?, 2),
                None => return Ok(Parsed::Need(4 + after_length)),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (extended(u64::from_be_bytes(*bytes), 1 << 16)?, 8),
                None => return Ok(Parsed::Need(10 + after_length)),
            },
            short => (u64::from(short), 0),
        };
        let room = limits.message_max.saturating_sub(self.pending());
        if !opcode.is_control() && len > room as u64 {
            return Err(Error::TooBig);
        }
        let start = 2 + wide + after_length;
        let key = match (masked, rest.get(wide..).and_then(<[u8]>::first_chunk::<4>)) {
            (false, _) => None,
            (true, Some(key)) => Some(*key),
            (true, None) => return Ok(Parsed::Need(start.saturating_add(len as usize))),
        };
        Ok(Parsed::Whole(Head {
            fin: first & 0x80 != 0,
            rsv1: first & 0x40 != 0,
            opcode,
            key,
            start,
            len: len as usize,
        }))
    }

    /// Everything that can be said about a frame's first two bytes.
    #[inline]
    fn check(&self, first: u8, second: u8, limits: &Limits) -> Result<Opcode, Error> {
        let (fin, rsv1, masked) = (first & 0x80 != 0, first & 0x40 != 0, second & 0x80 != 0);
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Error::UnknownOpcode)?;
        let starts_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & 0x30 != 0 || rsv1 && !(limits.rsv1 && starts_message) {
            return Err(Error::ReservedBits);
        }
        if !masked && !limits.accept_unmasked {
            return Err(Error::NotMasked);
        }
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => Err(Error::FragmentedControl),
            Opcode::Close | Opcode::Ping | Opcode::Pong if usize::from(second & 0x7f) > CONTROL_MAX => {
                Err(Error::LongControl)
            }
            Opcode::Continuation if self.open.is_none() => Err(Error::StrayContinuation),
            Opcode::Text | Opcode::Binary if self.open.is_some() => Err(Error::InterruptedMessage),
            _ => Ok(opcode),
        }
    }
}

impl OpenMessage {
    /// Checks what came since the last call, so that a text ends with the fragment that spoils it (RFC 6455 §8.1). A
    /// character may be cut by the end of a fragment, unless it is the last one.
    fn check(&mut self, last: bool) -> Result<(), Error> {
        if self.kind == Kind::Binary || self.compressed {
            return Ok(());
        }
        let fresh = self.data.get(self.checked..).unwrap_or_default();
        if is_utf8(fresh) {
            self.checked = self.data.len();
            return Ok(());
        }
        match str::from_utf8(fresh) {
            Err(error) if !last && error.error_len().is_none() => {
                self.checked += error.valid_up_to();
                Ok(())
            }
            _ => Err(Error::InvalidUtf8),
        }
    }
}

/// A header that passed all checks: `len` is within the limits.
struct Head {
    fin: bool,
    rsv1: bool,
    opcode: Opcode,
    key: Option<[u8; 4]>,
    start: usize,
    len: usize,
}

enum Parsed {
    Whole(Head),
    Need(usize),
}

/// A 16- or 64-bit length, which must not be smaller than `least` (RFC 6455 §5.2: the shortest form is a MUST).
fn extended(len: u64, least: u64) -> Result<u64, Error> {
    match len {
        len if len >> 63 != 0 => Err(Error::LengthTopBit),
        len if len < least => Err(Error::OverlongLength),
        len => Ok(len),
    }
}

#[inline]
fn message(kind: Kind, compressed: bool, payload: Cow<'_, [u8]>) -> Result<Step<'_>, Error> {
    if kind == Kind::Text && !compressed && !is_utf8(&payload) {
        return Err(Error::InvalidUtf8);
    }
    Ok(Step::Message {
        kind,
        compressed,
        payload,
    })
}

#[inline]
fn is_utf8(bytes: &[u8]) -> bool {
    if bytes.len() < SIMD_UTF8_FROM {
        str::from_utf8(bytes).is_ok()
    } else {
        simdutf8::basic::from_utf8(bytes).is_ok()
    }
}
