//! What the load reads and writes: HTTP messages, server frames, packets. Encoded once, before the measurement, wherever
//! the bytes do not change.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rainbow_server::protocol::rainbow::packet::Packet;
use rainbow_server::protocol::rainbow::sign;
use rainbow_server::wire::ws::{Opcode, client_frame};

/// The shared secret of every server under load.
pub const TOKEN: &str = "rainbow-bench";
/// Any key but zero, which would cost a server less.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A signature is good for 10 s.
const SIGN_AGAIN: Duration = Duration::from_secs(4);

/// One HTTP message with its complete body.
pub struct Message<'a> {
    /// First line and fields.
    pub text: &'a [u8],
    /// Bytes of the head.
    pub head: usize,
    /// The body.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Status of an answer; 0 if it is none.
    pub fn status(&self) -> u16 {
        let digits = self.text.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Value of a field; `name` in lower case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        field(self.text, name)
    }
}

fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    let mut named = lines.filter(|line| line.len() > name.len() && line[name.len()] == b':');
    let line = named.find(|line| line[..name.len()].eq_ignore_ascii_case(name))?;
    Some(line[name.len() + 1..].trim_ascii())
}

/// The first HTTP message of `bytes`, if it is complete. Bodies have a `Content-Length`.
pub fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = &bytes[..head];
    let length = field(text, b"content-length").map_or(0, number);
    Some(Message {
        text,
        head,
        body: bytes.get(head..head + length)?,
    })
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

/// One frame of a server.
pub struct Frame<'a> {
    /// Its payload.
    pub payload: &'a [u8],
    /// Its bytes, header included.
    pub len: usize,
}

/// The first frame of `bytes`, if it is complete.
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (head, length) = match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        length => (2, usize::from(length)),
    };
    let len = head + length;
    Some(Frame {
        payload: bytes.get(head..len)?,
        len,
    })
}

/// Appends one packet in a masked frame.
pub fn push_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let mut bytes = [0; 5];
    let small = match *packet {
        Packet::Ack { id, data: [] } => Some((2, id)),
        Packet::Rec { id, data: [] } => Some((3, id)),
        Packet::Rel { id } => Some((4, id)),
        _ => None,
    };
    if let Some((command, id)) = small {
        bytes[0] = command << 4;
        bytes[1..3].copy_from_slice(&u16::to_be_bytes(id));
        return client_frame(out, true, Opcode::Binary, MASK, &bytes[..3]);
    }
    let mut long = Vec::new();
    packet.encode(&mut long);
    client_frame(out, true, Opcode::Binary, MASK, &long);
}

/// The request of a client that wants to be in `channel`; the business server answers with what it asks for.
pub fn connect_head(port: u16, client: usize, channel: &str) -> Vec<u8> {
    format!(
        "GET /connect/?ch={channel} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         X-DEVICEID: device-{client:08}\r\nX-CLIENT-OS: bench\r\n\r\n"
    )
    .into_bytes()
}

/// A signed `/send/`, signed again when its signature is about to expire.
pub struct Send {
    channel: String,
    qos: u8,
    body: Vec<u8>,
    bytes: Vec<u8>,
    signed: Instant,
}

impl Send {
    /// For one channel and payload size.
    pub fn new(channel: &str, qos: u8, payload: usize) -> Self {
        let mut send = Self {
            channel: channel.into(),
            qos,
            body: vec![b'x'; payload],
            bytes: Vec::new(),
            signed: Instant::now(),
        };
        send.sign();
        send
    }

    /// The request; its length never changes.
    pub fn bytes(&mut self, now: Instant) -> &[u8] {
        if now.duration_since(self.signed) > SIGN_AGAIN {
            self.sign();
            self.signed = now;
        }
        &self.bytes
    }

    fn sign(&mut self) {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let timestamp = unix.to_string();
        let signature = sign::signature(TOKEN.as_bytes(), timestamp.as_bytes(), b"4711");
        self.bytes = format!(
            "POST /send/?channel={}&qos={}&msgtype=1&timeout=10&timestamp={timestamp}&nonce=4711&signature={} HTTP/1.1\r\n\
             Host: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
            self.channel,
            self.qos,
            String::from_utf8_lossy(&signature),
            self.body.len()
        )
        .into_bytes();
        self.bytes.extend_from_slice(&self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_frames_are_found_when_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-length: 3\r\n\r\nabcHTTP";
        let answer = message(bytes).unwrap();
        assert_eq!((answer.status(), answer.body, answer.head), (200, &b"abc"[..], 38));
        assert!(message(&bytes[..40]).is_none());
        assert_eq!(frame(b"\x82\x02ab\x82").unwrap().payload, b"ab");
        assert!(frame(b"\x82\x02a").is_none() && frame(b"\x82\x7e\0").is_none() && frame(b"").is_none());
    }
}
