//! Bodies as they arrive: counted, chunked, or until the connection ends (RFC 9112 §6 and §7).
//!
//! ```text
//! Length ─────────────── left = 0 ──────────────────────────────────────────────┐
//! Size ─ digits ─ [Padding] ─ [Extension] ─ SizeEnd ─┬─ Data ─ DataCr ─ DataLf ─ Size
//!                                                    └─ (0) TrailerStart ─ [TrailerLine ─ TrailerLf] ─ LastLf ─ Done
//! ```
//!
//! Invariants: what is appended to the output was received, so a declared length allocates nothing; the body stays within
//! the maximum given at the start; extensions and trailers are skipped, and together cost at most [`SKIPPED_MAX`] bytes.

use sha2::{Digest, Sha256};

use super::Framing;

/// Bytes of chunk extensions and trailers in one body. Nobody here uses them; without a bound they could carry a stream
/// that never counts as body.
pub const SKIPPED_MAX: usize = 16 * 1024;
/// Hex digits of a chunk size: as many as a 64-bit number has.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a body cannot be read. The connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes than the maximum, or announced so.
    TooLarge,
    /// Chunked framing is broken: bad size, missing CRLF, bare LF, control bytes.
    BadChunk,
    /// Extensions and trailers beyond [`SKIPPED_MAX`].
    TooMuchSkipped,
    /// The connection ended inside the body.
    Truncated,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "body too large",
            BodyError::BadChunk => "bad chunked framing",
            BodyError::TooMuchSkipped => "too many chunk extensions or trailers",
            BodyError::Truncated => "connection ended inside the body",
        })
    }
}

impl std::error::Error for BodyError {}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to this body. All of them unless `done`.
    pub consumed: usize,
    /// The body is whole; what follows in the input is the next message.
    pub done: bool,
}

/// Reads one body.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Body bytes that may still come.
    room: u64,
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size { size: u64, digits: u8 },
    Padding { size: u64 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyDecoder {
    /// Starts a body of at most `body_max` bytes. Errors if its announced length is larger already.
    pub fn new(framing: Framing, body_max: u64) -> Result<BodyDecoder, BodyError> {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > body_max => return Err(BodyError::TooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Ok(BodyDecoder {
            state,
            room: body_max,
            skipped: 0,
        })
    }

    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The connection has ended: fine only if the body is whole or lasts until then.
    pub fn finish(&self) -> Result<(), BodyError> {
        if matches!(self.state, State::Done | State::UntilClose) {
            Ok(())
        } else {
            Err(BodyError::Truncated)
        }
    }

    /// Reads `input`, appending body bytes to `out`. After an error the decoder is of no more use.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, BodyError> {
        let mut rest = input;
        while let [byte, tail @ ..] = rest {
            rest = match self.state {
                State::Done => break,
                State::Length(left) => {
                    let (left, rest) = self.take(left, rest, out)?;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    rest
                }
                State::Data(left) => {
                    let (left, rest) = self.take(left, rest, out)?;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    rest
                }
                State::UntilClose => self.take(u64::MAX, rest, out)?.1,
                state => {
                    self.state = self.line_byte(state, *byte)?;
                    tail
                }
            };
        }
        Ok(Progress {
            consumed: input.len() - rest.len(),
            done: self.is_done(),
        })
    }

    /// Moves up to `left` bytes to `out`; returns how many are still missing, and the rest of the input.
    fn take<'a>(&mut self, left: u64, input: &'a [u8], out: &mut Vec<u8>) -> Result<(u64, &'a [u8]), BodyError> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let (data, rest) = input.split_at(count);
        self.room = self.room.checked_sub(count as u64).ok_or(BodyError::TooLarge)?;
        out.extend_from_slice(data);
        Ok((left - count as u64, rest))
    }

    /// One byte of chunked framing.
    fn line_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match (state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                })
            }
            (State::Size { digits: 0, .. }, _) => Err(BodyError::BadChunk),
            (State::Size { size, .. } | State::Padding { size } | State::Extension { size }, b'\r') => {
                Ok(State::SizeEnd { size })
            }
            (State::Size { size, .. } | State::Padding { size }, b' ' | b'\t') => {
                self.skip(byte, State::Padding { size })
            }
            (State::Size { size, .. } | State::Padding { size }, b';') => self.skip(byte, State::Extension { size }),
            (State::Extension { size }, _) => self.skip(byte, State::Extension { size }),
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeEnd { size }, b'\n') if size > self.room => Err(BodyError::TooLarge),
            (State::SizeEnd { size }, b'\n') => Ok(State::Data(size)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerLine, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::TrailerLine, _) => self.skip(byte, State::TrailerLine),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf, b'\n') => Ok(State::Done),
            _ => Err(BodyError::BadChunk),
        }
    }

    fn skip(&mut self, byte: u8, next: State) -> Result<State, BodyError> {
        self.skipped += 1;
        match () {
            () if !super::is_field_value(&[byte]) => Err(BodyError::BadChunk),
            () if self.skipped > SKIPPED_MAX => Err(BodyError::TooMuchSkipped),
            () => Ok(next),
        }
    }
}

/// The SHA-256 of a body that comes in pieces, for signatures that cover it: no core stands still over a large one.
#[derive(Default)]
pub struct BodyHash(Sha256);

impl BodyHash {
    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Of all of it.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
