//! permessage-deflate (RFC 7692), server side, without context takeover in either direction: every message stands alone, so
//! one [`Codec`] serves all clients of a core, a client costs two bytes, and a broadcast is compressed once.
//!
//! ```text
//! Sec-WebSocket-Extensions ── negotiate ──▶ Agreed ── answer ──▶ 101
//! compressed message ── Codec::unpack ──▶ payload          frames ── Codec::pack ──▶ frames, some of them compressed
//! ```
//! Windows: the compressor always uses 32 KiB. A client that asked for a smaller one gets a message compressed only if the
//! whole message fits into its window, because then nothing can refer further back; longer ones go out as they are, which
//! the extension allows for every message (§6.1). `client_max_window_bits` is never answered: we can always read 32 KiB.
//!
//! Invariants: unpacking stops at the byte beyond the caller's maximum, whatever the input claims; packing never makes a
//! frame longer. zlib-rs does the work, in safe Rust, so that nothing here depends on a C library.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::ws::{self, Error, Kind, Opcode};

/// What every message ends with before it is cut off (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Base-2 logarithm of the window our compressor uses, the largest there is.
const WINDOW_BITS: u8 = 15;
/// Longest message that is compressed: at some 200 MB/s it holds up its core for 5 ms.
const PACK_BYTES_MAX: usize = 1 << 20;
/// Room for unpacked bytes grows by this at least.
const UNPACK_STEP: usize = 16 * 1024;
/// A buffer that grew beyond this is not kept.
const BUFFER_KEPT_MAX: usize = 256 * 1024;
/// Final blocks in one message (§7.2.3.5 allows them); each costs a reset of the decompressor.
const FINAL_BLOCKS_MAX: usize = 16;
/// Offers looked at in one request.
const OFFERS_MAX: usize = 16;

/// What was agreed with one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Base-2 logarithm of its window, 8..=15.
    window_bits: u8,
    /// Its offer said so, hence the answer has to.
    bits_offered: bool,
}

/// The first acceptable offer of a `Sec-WebSocket-Extensions` value, repeated headers joined by commas. An offer with a
/// parameter that is unknown, repeated or malformed is declined (§7.1), which leaves the connection uncompressed.
pub fn negotiate(value: &[u8]) -> Option<Agreed> {
    value.split(|&byte| byte == b',').take(OFFERS_MAX).find_map(offer)
}

fn offer(text: &[u8]) -> Option<Agreed> {
    let mut parts = text.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let (mut seen, mut bits) = ([false; 4], None);
    for part in parts {
        let (name, value) = match part.iter().position(|&byte| byte == b'=') {
            Some(at) => (part[..at].trim_ascii(), Some(unquoted(part[at + 1..].trim_ascii()))),
            None => (part, None),
        };
        let at = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"client_max_window_bits", None) => 2,
            (b"client_max_window_bits", Some(value)) => window_bits(value).map(|_| 2)?,
            (b"server_max_window_bits", Some(value)) => {
                bits = Some(window_bits(value)?);
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[at], true) {
            return None;
        }
    }
    Some(Agreed {
        window_bits: bits.unwrap_or(WINDOW_BITS),
        bits_offered: bits.is_some(),
    })
}

/// `"10"` is the same as `10` (§5).
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// 8 to 15, without leading zeroes.
fn window_bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

impl Agreed {
    /// The value of our `Sec-WebSocket-Extensions`.
    pub fn answer(self) -> String {
        let fixed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        if self.bits_offered {
            format!("{fixed}; server_max_window_bits={}", self.window_bits)
        } else {
            fixed.to_owned()
        }
    }

    /// Whether this client can read compressed messages of up to `longest` bytes.
    pub fn fits(self, longest: usize) -> bool {
        self.window_bits == WINDOW_BITS || longest <= 1 << self.window_bits
    }
}

/// Compressor and decompressor of one core. Empty until first used; then some 300 KiB. Both are taken out for a message and
/// put back when it went well, so that nothing a failed one left behind meets the next.
#[derive(Debug, Default)]
pub struct Codec {
    engines: Option<Box<Engines>>,
    unpacked: Vec<u8>,
    packed: Vec<u8>,
}

#[derive(Debug)]
struct Engines {
    compress: Compress,
    decompress: Decompress,
}

/// What [`Codec::pack`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The frames.
    pub frames: Vec<u8>,
    /// Length of the longest message that is compressed in them, before compression; 0 if none is. See [`Agreed::fits`].
    pub longest: usize,
}

impl Codec {
    /// The payload of a compressed message; a text is checked. Valid until the next call. Errors: more than `message_max`
    /// bytes, no deflate stream, text that is not UTF-8.
    pub fn unpack(&mut self, packed: &[u8], kind: Kind, message_max: usize) -> Result<&[u8], Error> {
        self.unpacked.clear();
        if self.unpacked.capacity() > BUFFER_KEPT_MAX {
            self.unpacked = Vec::new();
        }
        let mut engines = self.engines.take().unwrap_or_default();
        engines.decompress.reset(false);
        if !packed.is_empty() {
            let (decompress, mut resets) = (&mut engines.decompress, 0);
            inflate(decompress, packed, message_max, &mut resets, &mut self.unpacked)?;
            inflate(decompress, &TAIL, message_max, &mut resets, &mut self.unpacked)?;
        }
        self.engines = Some(engines);
        if kind == Kind::Text && simdutf8::basic::from_utf8(&self.unpacked).is_err() {
            return Err(Error::InvalidUtf8);
        }
        Ok(&self.unpacked)
    }

    /// Compresses those of `frames` — whole frames of ours — that are data of `least` bytes or more and become shorter.
    pub fn pack(&mut self, frames: &[u8], least: usize) -> Packed {
        let mut packed = Packed {
            frames: Vec::with_capacity(frames.len()),
            longest: 0,
        };
        let mut rest = frames;
        while let Some((frame, after)) = split_frame(rest) {
            let Frame {
                opcode,
                header,
                payload,
            } = frame;
            let is_data = matches!(opcode, Opcode::Text | Opcode::Binary);
            if is_data && payload.len() >= least && self.deflate(payload) {
                let (mut head, used) = ws::header(opcode, self.packed.len());
                head[0] |= 0x40;
                packed.frames.extend_from_slice(&head[..used]);
                packed.frames.extend_from_slice(&self.packed);
                packed.longest = packed.longest.max(payload.len());
            } else {
                packed.frames.extend_from_slice(header);
                packed.frames.extend_from_slice(payload);
            }
            rest = after;
        }
        packed.frames.extend_from_slice(rest);
        packed
    }

    /// Puts `payload` compressed into `self.packed`; false if it is too long for that, or would not become shorter.
    fn deflate(&mut self, payload: &[u8]) -> bool {
        if payload.len() > PACK_BYTES_MAX {
            return false;
        }
        let mut engines = self.engines.take().unwrap_or_default();
        let compress = &mut engines.compress;
        compress.reset();
        self.packed.clear();
        self.packed.shrink_to(BUFFER_KEPT_MAX);
        self.packed.resize(payload.len() + TAIL.len(), 0);
        let status = compress.compress(payload, &mut self.packed, FlushCompress::Sync);
        let made = compress.total_out() as usize;
        // A full buffer means that the flush is not complete. What is left over then survives a reset (zlib-rs 0.6 panics
        // later), so this compressor is not used again.
        if status.is_err() || compress.total_in() as usize != payload.len() || made >= self.packed.len() {
            return false;
        }
        self.engines = Some(engines);
        self.packed.truncate(made);
        let Some(body) = self.packed.strip_suffix(&TAIL).map(<[u8]>::len) else {
            return false;
        };
        self.packed.truncate(body);
        true
    }
}

impl Default for Engines {
    fn default() -> Self {
        Self {
            // A light level: what it misses costs less than what a core does not deliver meanwhile.
            compress: Compress::new(Compression::new(2), false),
            decompress: Decompress::new(false),
        }
    }
}

/// Feeds all of `input`, appending to `out`.
fn inflate(
    decompress: &mut Decompress,
    mut input: &[u8],
    message_max: usize,
    resets: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        if out.len() == out.capacity() {
            out.reserve(UNPACK_STEP);
        }
        let (read, written) = (decompress.total_in(), out.len());
        let status = decompress
            .decompress_vec(input, out, FlushDecompress::Sync)
            .map_err(|_| Error::BadCompression)?;
        if out.len() > message_max {
            return Err(Error::TooBig);
        }
        let taken = (decompress.total_in() - read) as usize;
        input = input.get(taken..).unwrap_or_default();
        let more_output = out.len() == out.capacity();
        match status {
            Status::StreamEnd => {
                *resets += 1;
                if *resets > FINAL_BLOCKS_MAX {
                    return Err(Error::BadCompression);
                }
                decompress.reset(false);
                if input.is_empty() {
                    return Ok(());
                }
            }
            Status::Ok | Status::BufError if input.is_empty() && !more_output => return Ok(()),
            Status::Ok | Status::BufError if taken == 0 && out.len() == written => return Err(Error::BadCompression),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// A whole frame of ours.
struct Frame<'a> {
    opcode: Opcode,
    header: &'a [u8],
    payload: &'a [u8],
}

/// The first of our own frames and what follows it.
fn split_frame(frames: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let &[first, second, ref rest @ ..] = frames else {
        return None;
    };
    let opcode = match first {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        _ => return None,
    };
    let (len, wide) = match second {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        short => (u64::from(short), 0),
    };
    let (header, body) = frames.split_at_checked(2 + wide)?;
    let (payload, after) = body.split_at_checked(usize::try_from(len).ok()?)?;
    let frame = Frame {
        opcode,
        header,
        payload,
    };
    Some((frame, after))
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
