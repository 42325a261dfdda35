//! Upgrade requests and websocket frames (RFC 6455) as the client writes and reads them.

use super::super::http::Response;
use super::Open;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::Instant;

/// Opcodes of RFC 6455 §5.2, and `Eof` for the end of the TCP stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    Other(u8),
    Eof,
}

impl Op {
    fn code(self) -> u8 {
        match self {
            Op::Continuation => 0,
            Op::Text => 1,
            Op::Binary => 2,
            Op::Close => 8,
            Op::Ping => 9,
            Op::Pong => 10,
            Op::Other(code) => code,
            Op::Eof => unreachable!("the end of the stream is not sent"),
        }
    }

    fn of(code: u8) -> Self {
        let known = [Op::Continuation, Op::Text, Op::Binary, Op::Close, Op::Ping, Op::Pong];
        known
            .into_iter()
            .find(|op| op.code() == code)
            .unwrap_or(Op::Other(code))
    }
}

/// A received frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub op: Op,
    pub payload: Vec<u8>,
    /// When its last byte had arrived.
    pub at: Instant,
}

/// Wire form of one frame. The mask key is fixed: only its use is under test.
pub fn encode(op: Op, payload: &[u8], fin: bool, masked: bool) -> Vec<u8> {
    let (bit, mut frame) = (if masked { 0x80 } else { 0 }, vec![(u8::from(fin) << 7) | op.code()]);
    match payload.len() {
        n @ ..126 => frame.push(bit | n as u8),
        n @ ..65536 => {
            frame.push(bit | 126);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            frame.push(bit | 127);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    if masked {
        frame.extend_from_slice(&key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, k)| byte ^ k));
    } else {
        frame.extend_from_slice(payload);
    }
    frame
}

/// The request and the accept value it must be answered with.
pub fn upgrade_head(port: u16, open: &Open) -> (Vec<u8>, String) {
    let key = STANDARD.encode(format!("key {:>12}", super::super::http::nonce()));
    let mut head = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n", open.target);
    if open.upgrade {
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        head += &format!("Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n");
    }
    for (name, value) in &open.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    ((head + "\r\n").into_bytes(), STANDARD.encode(digest))
}

/// The answer to an upgrade request.
pub fn read_answer(source: &mut BufReader<TcpStream>) -> io::Result<Response> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if source.read_until(b'\n', &mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed instead of an answer to the upgrade",
            ));
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let status = lines
        .first()
        .and_then(|l| l.split(' ').nth(1)?.parse().ok())
        .unwrap_or(0);
    let pairs = lines.iter().skip(1).filter_map(|l| l.split_once(':'));
    let headers = pairs.map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect();
    let mut answer = Response {
        status,
        headers,
        ..Response::default()
    };
    if let Some(length) = answer
        .header("content-length")
        .and_then(|v| v.parse().ok())
        .filter(|_| status != 101)
    {
        answer.body = vec![0; length];
        source.read_exact(&mut answer.body)?;
    }
    Ok(answer)
}

/// One frame as the server must send it: final, unmasked, no reserved bits (spec §6, §14).
pub fn read_frame(source: &mut BufReader<TcpStream>) -> io::Result<Frame> {
    let mut head = [0; 2];
    source.read_exact(&mut head)?;
    assert!(
        head[0] & 0xf0 == 0x80 && head[1] & 0x80 == 0,
        "the server sent a frame with head {head:02x?}"
    );
    let length = match head[1] {
        126 => {
            let mut bytes = [0; 2];
            source.read_exact(&mut bytes)?;
            u64::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            u64::from_be_bytes(bytes)
        }
        n => u64::from(n),
    };
    let mut payload = vec![0; length as usize];
    source.read_exact(&mut payload)?;
    Ok(Frame {
        op: Op::of(head[0] & 15),
        payload,
        at: Instant::now(),
    })
}

#[test]
fn frames_of_the_rfc() {
    assert_eq!(encode(Op::Text, b"Hello", true, false), b"\x81\x05Hello");
    assert_eq!(
        encode(Op::Text, b"Hello", true, true),
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    );
    assert_eq!(encode(Op::Binary, &[0; 256], true, false)[..4], [0x82, 0x7e, 1, 0]);
}
