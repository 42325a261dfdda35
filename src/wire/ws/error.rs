//! Why a frame stream ends, and the close code each reason has.

/// Why the byte stream cannot be followed any further. The connection must end; do not call the decoder again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A reserved bit is set that no extension gave a meaning.
    ReservedBits,
    /// An opcode without a meaning.
    UnknownOpcode,
    /// A frame without a mask although masks are required.
    NotMasked,
    /// A control frame that is not final.
    FragmentedControl,
    /// A control frame with more than 125 bytes.
    LongControl,
    /// A continuation although no message is open.
    StrayContinuation,
    /// A new data message inside a fragmented one.
    InterruptedMessage,
    /// A length written in more bytes than it needs.
    OverlongLength,
    /// A 64-bit length with its top bit set.
    LengthTopBit,
    /// A message longer than [`super::Limits::message_max`].
    TooBig,
    /// A text message or a close reason that is not UTF-8.
    InvalidUtf8,
    /// A compressed message that is no deflate stream (RFC 7692 §7.2.2).
    BadCompression,
    /// A close frame with a payload of one byte.
    TruncatedClose,
    /// A close code that must not be sent ([`super::is_valid_close_code`]).
    InvalidCloseCode,
}

impl Error {
    /// The close code RFC 6455 §7.4.1 has for this error. Rainbow's door sends a close frame for `TooBig` only.
    pub fn close_code(self) -> u16 {
        match self {
            Error::TooBig => 1009,
            Error::InvalidUtf8 | Error::BadCompression => 1007,
            _ => 1002,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::ReservedBits => "reserved bit set",
            Error::UnknownOpcode => "unknown opcode",
            Error::NotMasked => "frame without mask",
            Error::FragmentedControl => "fragmented control frame",
            Error::LongControl => "control frame over 125 bytes",
            Error::StrayContinuation => "continuation without a start",
            Error::InterruptedMessage => "new message inside a fragmented one",
            Error::OverlongLength => "length not in its shortest form",
            Error::LengthTopBit => "length with its top bit set",
            Error::TooBig => "message too big",
            Error::InvalidUtf8 => "text is not utf-8",
            Error::BadCompression => "compressed message is damaged",
            Error::TruncatedClose => "close frame of one byte",
            Error::InvalidCloseCode => "invalid close code",
        })
    }
}

impl std::error::Error for Error {}
