//! One blocking HTTP/1.1 connection of the demonstration's business server, in either direction. Heads and bodies are read
//! by `wire::http1`, with its strictness. Bounds: [`HEAD_MAX`], [`BODY_MAX`], and a time limit on every read and write.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use http::{Method, StatusCode};

use crate::wire::http1::{self, BodyDecoder, Framing, RequestHead};

/// Longest head in bytes: the gateway passes a client's whole head on, and adds to it.
const HEAD_MAX: usize = 256 * 1024;
/// Longest body in bytes; beyond it the connection ends. Plenty for a chat.
const BODY_MAX: u64 = 1 << 20;
/// Time a peer has for taking what is written, and for the TCP handshake.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is answered.
pub struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Answer {
    /// Without headers.
    pub fn new(status: StatusCode, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// A connection, and what was received beyond the last message.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// An accepted connection, which may be silent for so long.
    pub fn new(stream: TcpStream, silence_max: Duration) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Wire {
            stream,
            input: Vec::new(),
        })
    }

    /// A new connection to this machine.
    pub fn connect(port: u16, silence_max: Duration) -> io::Result<Wire> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Wire::new(TcpStream::connect_timeout(&address, WRITE_TIMEOUT)?, silence_max)
    }

    /// The next request with its body; `None` when the peer has ended the connection between two requests.
    pub fn request(&mut self) -> io::Result<Option<(RequestHead, Vec<u8>)>> {
        let head = loop {
            if let Some(head) = http1::parse_request(&self.input, HEAD_MAX).map_err(invalid)? {
                break head;
            }
            if !self.read()? {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        self.input.drain(..head.head_len);
        if head.expect_continue {
            self.stream.write_all(http1::CONTINUE)?;
        }
        let body = self.body(head.framing)?;
        Ok(Some((head, body)))
    }

    /// Answers the request read last.
    pub fn answer(&mut self, answer: &Answer, keep: bool) -> io::Result<()> {
        let close: Option<(&str, &[u8])> = (!keep).then_some(("Connection", b"close"));
        let headers = answer
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .chain(close);
        let mut out = Vec::with_capacity(256 + answer.body.len());
        http1::write_response(&mut out, answer.status, headers, &answer.body);
        self.stream.write_all(&out)
    }

    /// Posts and returns the body of the answer. The connection is of no more use then.
    pub fn post(mut self, target: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
        let host = self.stream.peer_addr()?.to_string();
        let headers: [(&str, &[u8]); 2] = [("Host", host.as_bytes()), ("Connection", b"close")];
        let mut out = Vec::with_capacity(256 + body.len());
        if !http1::write_request_head(&mut out, &Method::POST, target, headers, Some(body.len() as u64)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        out.extend_from_slice(body);
        self.stream.write_all(&out)?;
        let head = loop {
            if let Some(head) = http1::parse_response(&self.input, &Method::POST, HEAD_MAX).map_err(invalid)? {
                self.input.drain(..head.head_len);
                if !head.is_interim() {
                    break head;
                }
            } else if !self.read()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        self.body(head.framing)
    }

    fn body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        let mut decoder = BodyDecoder::new(framing, BODY_MAX).map_err(invalid)?;
        let mut body = Vec::new();
        loop {
            let progress = decoder.feed(&self.input, &mut body).map_err(invalid)?;
            self.input.drain(..progress.consumed);
            if progress.done {
                return Ok(body);
            }
            if !self.read()? {
                return decoder.finish().map(|()| body).map_err(invalid);
            }
        }
    }

    /// Receives; false at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        let mut scratch = [0; 8192];
        let count = loop {
            match self.stream.read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.input.extend_from_slice(&scratch[..count]);
        Ok(count > 0)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
