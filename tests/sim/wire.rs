//! What a client puts on the wire and how it reads what comes: websocket frames and rainbow packets, written a second time
//! and as plainly as possible, so that a mistake in the server's codec cannot hide behind itself.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Packet(Packet),
    Ping,
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// A rainbow packet, either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Send {
        dup: bool,
        qos: u8,
        msgtype: u16,
        id: u16,
        payload: Vec<u8>,
    },
    Ack {
        id: u16,
        data: Vec<u8>,
    },
    Rec {
        id: u16,
        data: Vec<u8>,
    },
    Rel {
        id: u16,
    },
    Com {
        id: u16,
    },
}

/// A SEND of a client.
pub fn send(dup: bool, qos: u8, msgtype: u16, id: u16, payload: &[u8]) -> Vec<u8> {
    Packet::Send {
        dup,
        qos,
        msgtype,
        id,
        payload: payload.to_vec(),
    }
    .framed()
}

pub fn ack(id: u16, data: &[u8]) -> Vec<u8> {
    Packet::Ack {
        id,
        data: data.to_vec(),
    }
    .framed()
}

pub fn rec(id: u16, data: &[u8]) -> Vec<u8> {
    Packet::Rec {
        id,
        data: data.to_vec(),
    }
    .framed()
}

pub fn rel(id: u16) -> Vec<u8> {
    Packet::Rel { id }.framed()
}

pub fn pong() -> Vec<u8> {
    frame(10, &[])
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    frame(9, payload)
}

pub fn close(code: Option<u16>) -> Vec<u8> {
    frame(8, &code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default())
}

/// A final masked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(0x80 | opcode, payload)
}

/// A binary message in `count` fragments and a last one, with a ping after the first.
pub fn fragments(message: &[u8], count: usize) -> Vec<u8> {
    let size = message.len() / (count + 1);
    let mut out = masked(2, &message[..size]);
    out.extend(ping(b"between"));
    for number in 1..count {
        out.extend(masked(0, &message[size * number..size * (number + 1)]));
    }
    out.extend(masked(0x80, &message[size * count..]));
    out
}

/// A compressed binary message (RFC 7692 §7.2.1).
pub fn packed_frame(message: &[u8]) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::fast(), false);
    let mut packed = Vec::with_capacity(message.len() + 64);
    deflate
        .compress_vec(message, &mut packed, FlushCompress::Sync)
        .expect("there is room");
    packed.truncate(packed.len() - 4);
    masked(0xc2, &packed)
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
    let packed = [packed, &[0, 0, 0xff, 0xff]].concat();
    let mut message = Vec::with_capacity(1 << 17);
    let done = Decompress::new(false).decompress_vec(&packed, &mut message, FlushDecompress::Sync);
    done.map_err(|error| format!("what the server compressed: {error}"))?;
    Ok(message)
}

/// A masked frame with this first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x83, payload.len() as u8];
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        middle @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend((middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(key);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    out
}

impl Packet {
    pub fn framed(&self) -> Vec<u8> {
        frame(2, &self.bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Packet::Send {
                dup,
                qos,
                msgtype,
                id,
                payload,
            } => {
                let mut out = vec![0x10 | u8::from(*dup) << 3 | qos << 1];
                out.extend(msgtype.to_be_bytes());
                if *qos != 0 {
                    out.extend(id.to_be_bytes());
                }
                out.extend(payload);
                out
            }
            Packet::Ack { id, data } => [&[0x20], &id.to_be_bytes()[..], data].concat(),
            Packet::Rec { id, data } => [&[0x30], &id.to_be_bytes()[..], data].concat(),
            Packet::Rel { id } => [&[0x40], &id.to_be_bytes()[..]].concat(),
            Packet::Com { id } => [&[0x50], &id.to_be_bytes()[..]].concat(),
        }
    }

    /// Strict: what the server sends has no leniency to rely on.
    fn read(bytes: &[u8]) -> Result<Packet, String> {
        let fail = || format!("not a packet of the server: {bytes:02x?}");
        let (&first, rest) = bytes.split_first().ok_or_else(fail)?;
        let u16_at = |at: usize| {
            rest.get(at..at + 2)
                .map(|two| u16::from_be_bytes([two[0], two[1]]))
                .ok_or_else(fail)
        };
        let after = |at: usize| rest.get(at..).map(<[u8]>::to_vec).ok_or_else(fail);
        if first & 1 != 0 || first >> 4 != 1 && first & 15 != 0 {
            return Err(fail());
        }
        match first >> 4 {
            1 => {
                let (dup, qos, msgtype) = (first & 8 != 0, first >> 1 & 3, u16_at(0)?);
                let (id, payload) = if qos == 0 {
                    (0, after(2)?)
                } else {
                    (u16_at(2)?, after(4)?)
                };
                if qos == 3 || qos == 0 && dup || qos != 0 && (id == 0 || id == 65535) {
                    return Err(fail());
                }
                Ok(Packet::Send {
                    dup,
                    qos,
                    msgtype,
                    id,
                    payload,
                })
            }
            2 => Ok(Packet::Ack {
                id: u16_at(0)?,
                data: after(2)?,
            }),
            3 => Ok(Packet::Rec {
                id: u16_at(0)?,
                data: after(2)?,
            }),
            4 if rest.len() == 2 => Ok(Packet::Rel { id: u16_at(0)? }),
            5 if rest.len() == 2 => Ok(Packet::Com { id: u16_at(0)? }),
            _ => Err(fail()),
        }
    }
}

/// Takes the whole frames at the start of `bytes`.
pub fn take_frames(bytes: &mut Vec<u8>) -> Result<Vec<Frame>, String> {
    take_frames_of(bytes, false)
}

/// The same; with `deflate` messages may be compressed.
pub fn take_frames_of(bytes: &mut Vec<u8>, deflate: bool) -> Result<Vec<Frame>, String> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((frame, used)) = first_frame(&bytes[at..], deflate)? {
        frames.push(frame);
        at += used;
    }
    bytes.drain(..at);
    Ok(frames)
}

fn first_frame(bytes: &[u8], deflate: bool) -> Result<Option<(Frame, usize)>, String> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let packed = deflate && first == 0xc2;
    if first & 0x70 != 0 && !packed || first & 0x80 == 0 || second & 0x80 != 0 {
        return Err(format!(
            "the server sends final, unmasked frames without extensions, not {first:02x} {second:02x}"
        ));
    }
    let (wide, len) = match second {
        126 if rest.len() < 2 => return Ok(None),
        126 => (2, u64::from(u16::from_be_bytes([rest[0], rest[1]]))),
        127 if rest.len() < 8 => return Ok(None),
        127 => (8, u64::from_be_bytes(rest[..8].try_into().unwrap())),
        short => (0, u64::from(short)),
    };
    if len > 1 << 24 {
        return Err(format!("a frame of {len} bytes"));
    }
    let Some(payload) = rest.get(wide..wide + len as usize) else {
        return Ok(None);
    };
    let frame = match first & 15 {
        2 if packed => Frame::Packet(Packet::read(&unpacked(payload)?)?),
        2 => Frame::Packet(Packet::read(payload)?),
        8 => Frame::Close(payload.to_vec()),
        9 if payload.is_empty() => Frame::Ping,
        10 => Frame::Pong(payload.to_vec()),
        other => return Err(format!("the server never sends opcode {other}")),
    };
    Ok(Some((frame, 2 + wide + len as usize)))
}

/// Takes an HTTP answer from the start of `bytes`: its status and body. `None` while it is not whole.
pub fn take_answer(bytes: &mut Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("heads are ASCII");
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest[..3].parse().ok())
        .expect("a status line");
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or(0);
    if bytes.len() < end + length {
        return None;
    }
    let body = bytes[end..end + length].to_vec();
    bytes.drain(..end + length);
    Some((status, body))
}

/// What the client called `device` runs on.
pub fn platform(device: &str) -> String {
    format!("os {}", device.parse::<usize>().unwrap_or(0) % 3)
}

/// The request a client connects with; `device` tells clients apart.
pub fn connect_request(device: &str) -> Vec<u8> {
    format!(
        "GET /connect/?device={device} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-DEVICEID: {device}\r\n\
         X-CLIENT-OS: {}\r\n\r\n",
        platform(device)
    )
    .into_bytes()
}
