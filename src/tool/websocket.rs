//! A client's websocket: handshake, packets in and out, pings. Blocking, every wait has an end.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};

use super::call::read_head;
use super::line::Line;
use super::place::{Place, SOON};
use super::{End, Failure};
use crate::cli::given::Given;
use crate::io::clock;
use crate::protocol::rainbow::packet::Form;
use crate::wire::http1::{is_field_value, is_token, write_request_head};
use crate::wire::ws::{Decoder, Kind, Limits, Opcode, Step, accept_key, client_frame};

/// Silence after which the server is asked whether it is there, and again before it is given up (docs/client.md, "Silence").
const SILENCE: Duration = Duration::from_secs(30);

/// What is taken from a server: any message it can send.
const LIMITS: Limits = Limits {
    message_max: 1 << 30,
    accept_unmasked: true,
    rsv1: false,
};

/// Who connects.
#[derive(Debug)]
pub struct Visitor<'a> {
    pub device: &'a str,
    pub os: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Visitor<'a> {
    /// As the options say.
    pub fn of(given: &'a Given, device: &'a str) -> Result<Self, Failure> {
        let mut headers = Vec::new();
        for line in given.all("header") {
            let parts = line.split_once(':').map(|(name, value)| (name, value.trim()));
            let is_header =
                |(name, value): &(&str, &str)| is_token(name.as_bytes()) && is_field_value(value.as_bytes());
            let parts = parts.filter(is_header);
            headers.push(parts.ok_or_else(|| given.refusal("--header: write 'Name: value'"))?);
        }
        let os = given.text("os").unwrap_or("cli");
        if !is_field_value(device.as_bytes()) || !is_field_value(os.as_bytes()) {
            return Err(given
                .refusal("device and platform must not have control characters")
                .into());
        }
        Ok(Self { device, os, headers })
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoEntry {
    /// The server cannot be talked to.
    Unreachable(io::Error),
    /// It has no room, or the backend cannot be asked; come again after so long, if it says.
    Later(Option<Duration>),
    /// It says no.
    Refused(StatusCode),
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message(Vec<u8>, Form),
    /// The server closes.
    Closed(Option<(u16, String)>),
    /// Nothing until the time asked for.
    Quiet,
}

/// An open connection.
pub struct Socket {
    line: Line,
    decoder: Decoder,
    buffer: Vec<u8>,
    heard: Instant,
    pinged: bool,
}

impl Socket {
    /// Connects at the path of `--url`, or at `/connect/`.
    pub fn open(place: &Place, visitor: &Visitor<'_>) -> Result<Self, NoEntry> {
        let until = clock::instant() + 2 * SOON;
        let mut line = Line::open(&place.url, place.trust(), SOON).map_err(NoEntry::Unreachable)?;
        let key = STANDARD.encode(random::<16>().map_err(NoEntry::Unreachable)?);
        let request = request(place, visitor, &key).map_err(NoEntry::Unreachable)?;
        line.send(&request).map_err(NoEntry::Unreachable)?;
        let mut buffer = Vec::new();
        let head = read_head(&mut line, &Method::GET, &mut buffer, until).map_err(NoEntry::Unreachable)?;
        let accept = head.headers.first("sec-websocket-accept");
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if accept == Some(&accept_key(key.as_bytes())[..]) => Ok(Self {
                line,
                decoder: Decoder::new(),
                buffer,
                heard: clock::instant(),
                pinged: false,
            }),
            StatusCode::SERVICE_UNAVAILABLE => {
                let after = head.headers.first("retry-after");
                let after = after.and_then(|value| str::from_utf8(value).ok()?.trim().parse().ok());
                Err(NoEntry::Later(after.map(Duration::from_secs)))
            }
            status => Err(NoEntry::Refused(status)),
        }
    }

    /// The next message or the end, waiting until `until` at most.
    pub fn next(&mut self, until: Instant) -> io::Result<Event> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(event);
            }
            let asks = self.heard + if self.pinged { 2 * SILENCE } else { SILENCE };
            match self.line.receive(&mut self.buffer, until.min(asks)) {
                Ok(0) => return Ok(Event::Closed(None)),
                Ok(_) => (self.heard, self.pinged) = (clock::instant(), false),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let now = clock::instant();
                    if now >= until {
                        return Ok(Event::Quiet);
                    }
                    if now >= asks && self.pinged {
                        return Err(io::Error::new(ErrorKind::TimedOut, "the server is silent"));
                    }
                    if now >= asks {
                        self.frame(Opcode::Ping, b"")?;
                        self.pinged = true;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.frame(Opcode::Binary, packet)
    }

    /// Says goodbye; whether it arrives does not matter.
    pub fn close(mut self) {
        let _ = self.frame(Opcode::Close, &1000u16.to_be_bytes());
    }

    /// What the buffer holds.
    fn take(&mut self) -> io::Result<Option<Event>> {
        loop {
            let step = self.decoder.next(&mut self.buffer, &LIMITS);
            let broken = |error| {
                io::Error::new(
                    ErrorKind::InvalidData,
                    format!("the server sends no websocket: {error}"),
                )
            };
            let (step, used) = step.map_err(broken)?;
            let mut pong = None;
            let event = match step {
                Step::Need(_) => return Ok(None),
                Step::Fragment | Step::Pong(_) => None,
                Step::Ping(payload) => {
                    pong = Some(payload.to_vec());
                    None
                }
                Step::Message { kind, payload, .. } => Some(message(kind, payload)),
                Step::Close(frame) => Some(Event::Closed(frame.map(|frame| (frame.code, frame.reason.to_owned())))),
            };
            self.buffer.drain(..used);
            if let Some(payload) = pong {
                self.frame(Opcode::Pong, &payload)?;
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        client_frame(&mut bytes, true, opcode, random()?, payload);
        self.line.send(&bytes)
    }
}

fn message(kind: Kind, payload: Cow<'_, [u8]>) -> Event {
    let form = match kind {
        Kind::Text => Form::Text,
        Kind::Binary => Form::Binary,
    };
    Event::Message(payload.into_owned(), form)
}

fn request(place: &Place, visitor: &Visitor<'_>, key: &str) -> io::Result<Vec<u8>> {
    let target = match &*place.url.target {
        "/" => "/connect/",
        target => target,
    };
    let fixed = [
        ("Host", &*place.url.authority),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        ("X-DEVICEID", visitor.device),
        ("X-CLIENT-OS", visitor.os),
    ];
    let authorization = place.url.basic_auth.as_ref().map(|value| ("Authorization", &**value));
    let headers = fixed
        .into_iter()
        .chain(authorization)
        .chain(visitor.headers.iter().copied());
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    let mut bytes = Vec::new();
    if !write_request_head(&mut bytes, &Method::GET, target.as_bytes(), headers, None) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the URL cannot be asked for"));
    }
    Ok(bytes)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// The failure of a command that does not try again.
pub fn failure(place: &Place, no: NoEntry) -> Failure {
    match no {
        NoEntry::Unreachable(error) => place.unreachable(&error),
        NoEntry::Later(_) => Failure::new(
            End::Refused,
            format!(
                "{}: 503: there is no room, or the backend cannot be asked (the log of the server says why)",
                place.url.authority
            ),
        ),
        NoEntry::Refused(status) => {
            let advice = match status.as_u16() {
                101 => " with a wrong key: is something in between that is no websocket?",
                401 => ": the backend does not let this client in",
                403 => ": the origin or the address is not allowed",
                404 => ": is that a rainbow-server?",
                _ => "",
            };
            Failure::new(
                End::Refused,
                format!("{}: {}{advice}", place.url.authority, status.as_u16()),
            )
        }
    }
}
