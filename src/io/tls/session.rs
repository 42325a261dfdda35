//! One TLS connection over a non-blocking socket: ciphertext in, plaintext out, and back.
//!
//! Built on rustls' unbuffered interface, which works on the caller's buffers: ciphertext is received into, and sealed in, a
//! [`Scratch`] that all connections of a core share. A connection owns memory besides the session itself only while a record
//! is unfinished (`input`, at most one record) or while the socket takes nothing (`output`, at most one batch).
//!
//! Invariants:
//! * What the session has sealed is sent, in order, before anything else is sealed.
//! * Every complete record is opened at once: `input` never holds one, so an empty socket means that nothing waits here.
//! * Until its first byte has come a connection costs nothing but its entry ([`Stage::Silent`]).
//! * After a failure nothing is opened or sealed any more; the alert that names it is sent if the socket takes it.
//!
//! Callers: `io::sockets` for shards, `io::stream` for the control core. A session may move between cores.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};

use super::Identity;
use super::parts::{Parts, RECORD_BYTES};
use crate::io::kernel::Socket;
use crate::limits::RECEIVE_SCRATCH_BYTES;

/// A sealed record: header, nonce, content type, tag and padding of every suite fit.
const SEALED_BYTES_MAX: usize = RECORD_BYTES + 512;
/// Ciphertext received or sealed with one system call.
const SCRATCH_BYTES: usize = 4 * SEALED_BYTES_MAX;
/// Ciphertext kept for a record or handshake message that is not finished. A record has up to 18 KiB, a client's handshake
/// message a few; beyond it the connection fails.
const INPUT_BYTES_MAX: usize = 32 * 1024;
const _: () = assert!(INPUT_BYTES_MAX < RECEIVE_SCRATCH_BYTES);
/// A sealed alert.
const ALERT_BYTES_MAX: usize = 256;

/// For people who open a `http://` or `ws://` address at the TLS port.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https or wss.\r\n";

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;
type Sealed = Result<usize, EncryptError>;

/// Working memory of one core, allocated with its first TLS connection.
#[derive(Default)]
pub struct Scratch {
    cipher: Vec<u8>,
    plain: Vec<u8>,
}

/// What one receive call gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Plaintext bytes.
    pub bytes: usize,
    /// The socket may hold more.
    pub more: bool,
    /// The first byte of the connection has come: a handshake has begun, or waits until it may.
    pub began: bool,
    /// The handshake was completed by this call.
    pub established: bool,
    /// Nothing comes after these bytes.
    pub end: Option<End>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer ended the connection.
    Closed,
    /// The peer broke the protocol, or does not speak it.
    Failed,
}

/// What there is of a connection.
enum Stage {
    /// No byte has come; what it will be made of.
    Silent(Identity),
    /// rustls' part, large enough to be apart.
    Begun(Box<UnbufferedServerConnection>),
}

/// Whether a handshake has one of the places that its core has for handshakes ([`super::places`]); kept by the table of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It does not need one: no byte has come yet, or the handshake is over.
    None,
    /// The first byte has come, and there was no place.
    Awaited,
    /// It has one.
    Held,
}

/// How far our own end of the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not begun.
    Open,
    /// The closing alert is sealed; TCP ends when the socket has taken it.
    Sealed,
    /// Nothing is sent any more.
    Done,
}

/// One connection's TLS state.
pub struct Session {
    stage: Stage,
    /// See [`Place`].
    pub place: Place,
    /// Received, not a whole record or handshake message yet.
    input: Vec<u8>,
    /// Sealed, not taken by the socket yet.
    output: Vec<u8>,
    ending: Ending,
    /// The peer has said that nothing more comes.
    peer_ended: bool,
    failed: bool,
}

impl Session {
    /// A connection that was just accepted.
    pub fn new(identity: Identity) -> Self {
        Self {
            stage: Stage::Silent(identity),
            place: Place::None,
            input: Vec::new(),
            output: Vec::new(),
            ending: Ending::Open,
            peer_ended: false,
            failed: false,
        }
    }

    /// No byte has come yet.
    pub fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Silent(_))
    }

    /// The handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        match &self.stage {
            Stage::Silent(_) => true,
            Stage::Begun(rustls) => rustls.is_handshaking(),
        }
    }

    /// Ciphertext waits for the socket: call [`Session::flush`] once it is writable.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Receives once, at most as much as `plain` has room for, and puts the plaintext there; `plain` must be larger than
    /// [`INPUT_BYTES_MAX`]. Sends what the handshake has to say. `WouldBlock` if the socket is empty.
    pub fn receive(&mut self, socket: &impl Socket, plain: &mut [u8], scratch: &mut Scratch) -> io::Result<Received> {
        if let Some(end) = self.end() {
            return Ok(Received {
                end: Some(end),
                ..Received::default()
            });
        }
        let (cipher, _) = scratch.both();
        // Plaintext is shorter than its ciphertext, so this much of it fits.
        let whole = cipher.len().min(plain.len());
        let kept = self.input.len();
        let count = socket.recv(cipher.get_mut(kept..whole).unwrap_or_default())?;
        if let Some(before) = cipher.get_mut(..kept) {
            before.copy_from_slice(&self.input);
        }
        let began = self.begin(count > 0);
        let handshaking = self.is_handshaking();
        let bytes = match cipher.get_mut(..kept + count).unwrap_or_default() {
            _ if count == 0 => {
                self.peer_ended = true;
                0
            }
            [first, ..] if handshaking && kept == 0 && first.is_ascii_uppercase() => {
                self.output.extend_from_slice(NOT_TLS);
                self.failed = true;
                0
            }
            cipher => self.open(cipher, plain),
        };
        // A socket that is gone shows at the next receive.
        let _ = self.flush(socket);
        Ok(Received {
            bytes,
            more: kept + count == whole,
            began,
            established: handshaking && !self.is_handshaking(),
            end: self.end(),
        })
    }

    /// Seals and sends `parts`; returns how many bytes of them are sealed. What the socket does not take is kept here, at most
    /// one batch; until it is taken nothing more is accepted: `WouldBlock`.
    pub fn send(&mut self, socket: &impl Socket, parts: &[IoSlice<'_>], scratch: &mut Scratch) -> io::Result<usize> {
        if self.failed || self.ending != Ending::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !self.flush(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut parts = Parts::new(parts);
        let mut accepted = 0;
        while !parts.is_empty() && self.output.is_empty() {
            let (cipher, plain) = scratch.both();
            let mut sealed = 0;
            while let Some(room) = cipher.get_mut(sealed..).filter(|room| room.len() >= SEALED_BYTES_MAX) {
                let record = parts.next_record(plain);
                if record.is_empty() {
                    break;
                }
                sealed += self.seal(room, |traffic, room| traffic.encrypt(record, room))?;
                accepted += record.len();
            }
            self.put(socket, cipher.get(..sealed).unwrap_or_default())?;
        }
        Ok(accepted)
    }

    /// Sends what waits; true if nothing waits any more. Errors: the socket is broken.
    pub fn flush(&mut self, socket: &impl Socket) -> io::Result<bool> {
        if !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            self.put(socket, &output)?;
        }
        if self.output.is_empty() && self.ending == Ending::Sealed {
            self.ending = Ending::Done;
            socket.finish();
        }
        Ok(self.output.is_empty())
    }

    /// Tells the peer that nothing more comes (RFC 8446 §6.1), then ends the sending direction, as soon as the socket has
    /// taken what waits.
    pub fn finish(&mut self, socket: &impl Socket) {
        if self.ending != Ending::Open {
            return;
        }
        self.ending = Ending::Sealed;
        if !self.failed && !self.is_handshaking() {
            let mut alert = [0; ALERT_BYTES_MAX];
            if let Ok(count) = self.seal(&mut alert, |traffic, alert| traffic.queue_close_notify(alert)) {
                self.output.extend_from_slice(alert.get(..count).unwrap_or_default());
            }
        }
        let _ = self.flush(socket);
    }

    /// The first byte has come, if `has_input`.
    fn begin(&mut self, has_input: bool) -> bool {
        let Stage::Silent(identity) = &self.stage else {
            return false;
        };
        if has_input {
            match UnbufferedServerConnection::new(identity.clone()) {
                Ok(rustls) => self.stage = Stage::Begun(Box::new(rustls)),
                // Not expected of an identity that was built.
                Err(error) => {
                    tracing::warn!(%error, "a TLS connection cannot be begun");
                    self.failed = true;
                }
            }
        }
        has_input
    }

    fn end(&self) -> Option<End> {
        match (self.failed, self.peer_ended) {
            (true, _) => Some(End::Failed),
            (_, true) => Some(End::Closed),
            _ => None,
        }
    }

    /// Opens every record of `cipher`, keeps the rest; returns the bytes put into `plain`.
    fn open(&mut self, cipher: &mut [u8], plain: &mut [u8]) -> usize {
        let (mut used, mut filled) = (0, 0);
        let Stage::Begun(rustls) = &mut self.stage else {
            return 0;
        };
        loop {
            let rest = cipher.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = rustls.process_tls_records(rest);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        // There is room for all of it: plaintext is shorter than its ciphertext.
                        if let Some(target) = plain.get_mut(filled..filled + record.payload.len()) {
                            target.copy_from_slice(record.payload);
                            filled += record.payload.len();
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(&mut data, &mut self.output),
                // What is in `output` is sent in order, whatever happens next.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_ended = true,
                Ok(_) => is_done = true,
                Err(error) => {
                    tracing::debug!(%error, "TLS failed");
                    self.fail();
                    return filled;
                }
            }
            used += discard;
            if is_done {
                break;
            }
        }
        self.keep(cipher.get(used..).unwrap_or_default());
        filled
    }

    /// Keeps an unfinished record, if it may be one.
    fn keep(&mut self, rest: &[u8]) {
        let is_over = self.peer_ended || rest.is_empty();
        self.input = if is_over { Vec::new() } else { rest.to_vec() };
        if self.input.len() > INPUT_BYTES_MAX {
            self.input = Vec::new();
            self.failed = true;
        }
    }

    /// Nothing more can be done but to tell the peer why.
    fn fail(&mut self) {
        self.failed = true;
        self.input = Vec::new();
        let Stage::Begun(rustls) = &mut self.stage else {
            return;
        };
        // A failed session may be asked for what it still has to say, and for nothing else.
        while rustls.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) = rustls.process_tls_records(&mut []).state
        {
            append(&mut data, &mut self.output);
        }
    }

    /// Writes into `out` what `seal` makes of the open session; behind what the session itself has to say first.
    fn seal(&mut self, out: &mut [u8], seal: impl Fn(&mut Traffic<'_>, &mut [u8]) -> Sealed) -> io::Result<usize> {
        let mut filled = 0;
        let Stage::Begun(rustls) = &mut self.stage else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        loop {
            // With `input`: the session remembers how much of it belongs to a handshake message.
            let UnbufferedStatus { discard, state } = rustls.process_tls_records(&mut self.input);
            let out = out.get_mut(filled..).unwrap_or_default();
            let result = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(seal(&mut traffic, out).ok()),
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    filled += data.encode(out).unwrap_or(0);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_ended = true;
                    None
                }
                _ => Some(None),
            };
            self.input.drain(..discard.min(self.input.len()));
            match result {
                None => {}
                Some(Some(count)) => return Ok(filled + count),
                Some(None) => {
                    self.failed = true;
                    return Err(ErrorKind::BrokenPipe.into());
                }
            }
        }
    }

    /// Sends `sealed`, keeps what the socket does not take.
    fn put(&mut self, socket: &impl Socket, sealed: &[u8]) -> io::Result<()> {
        let mut rest = sealed;
        while !rest.is_empty() {
            match socket.send(&[IoSlice::new(rest)]) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.output = rest.to_vec();
                    return Ok(());
                }
                Err(error) => {
                    // What the peer sent before may still be read.
                    self.ending = Ending::Done;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut session = f.debug_struct("Session");
        session.field("silent", &self.is_silent()).field("place", &self.place);
        session
            .field("input", &self.input.len())
            .field("output", &self.output.len());
        session.field("ending", &self.ending).field("end", &self.end()).finish()
    }
}

impl Scratch {
    /// Room for ciphertext, and for the plaintext of one record.
    fn both(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.cipher.is_empty() {
            self.cipher.resize(SCRATCH_BYTES, 0);
            self.plain.resize(RECORD_BYTES, 0);
        }
        (&mut self.cipher, &mut self.plain)
    }
}

/// Appends what the session has to say.
fn append(data: &mut EncodeTlsData<'_, ServerConnectionData>, output: &mut Vec<u8>) {
    let filled = output.len();
    if let Err(EncodeError::InsufficientSize(missing)) = data.encode(&mut []) {
        output.resize(filled + missing.required_size, 0);
        let count = data.encode(output.get_mut(filled..).unwrap_or_default()).unwrap_or(0);
        output.truncate(filled + count);
    }
}
