//! A small blocking HTTP/1.1 client for the control API, and the signature of its callers (spec §5).

use super::hex;
use serde_json::Value;
use sha1::{Digest, Sha1};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `signature` of a request: SHA-1 over token, timestamp and nonce in sorted order.
pub fn sign(token: &str, timestamp: &str, nonce: &str) -> String {
    let mut parts = [token, timestamp, nonce];
    parts.sort_unstable();
    hex(&Sha1::digest(parts.concat()))
}

/// Seconds since 1970.
pub fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64)
}

/// A nonce that no other call of this process used recently.
pub fn nonce() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (1000 + NEXT.fetch_add(1, Ordering::Relaxed) % 9000).to_string()
}

/// The three signature parameters, valid now.
pub fn signature(token: &str) -> Vec<(String, String)> {
    let (timestamp, nonce) = (unix_seconds().to_string(), nonce());
    let signature = sign(token, &timestamp, &nonce);
    vec![
        ("timestamp".into(), timestamp),
        ("nonce".into(), nonce),
        ("signature".into(), signature),
    ]
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// GET without parameters.
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            ..Self::default()
        }
    }

    /// POST with a body.
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        Self {
            method: "POST".into(),
            path: path.into(),
            body: body.as_ref().to_vec(),
            ..Self::default()
        }
    }

    /// Adds a query parameter.
    pub fn query(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.into(), value.to_string()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, key: &str, value: &str) -> Self {
        self.headers.push((key.into(), value.into()));
        self
    }

    /// Adds a valid signature for `token`.
    pub fn signed(mut self, token: &str) -> Self {
        self.query.extend(signature(token));
        self
    }

    /// Wire form. `Content-Length` is there for every method that usually has a body.
    pub fn bytes(&self, port: u16, close: bool) -> Vec<u8> {
        let query = self
            .query
            .iter()
            .map(|(k, v)| format!("{}={}", escape(k), escape(v)))
            .collect::<Vec<_>>()
            .join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{} {}{mark}{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
            self.method, self.path
        );
        if close {
            head += "Connection: close\r\n";
        }
        for (key, value) in &self.headers {
            head += &format!("{key}: {value}\r\n");
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// Percent-encodes everything but unreserved characters.
pub fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// One response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the moment the request was written.
    pub elapsed: Duration,
}

impl Response {
    /// First header of that name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Body as text, bad bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Body as JSON, None if it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// One request on a connection of its own; an error also when the server closes without an answer or `within` passes.
pub fn call(port: u16, request: &Request, within: Duration) -> io::Result<Response> {
    let mut connection = Connection::open(port)?;
    connection.write(&request.bytes(port, true))?;
    connection.response(&request.method, within)
}

/// A connection that may carry several requests.
pub struct Connection {
    reader: BufReader<TcpStream>,
    sent: Instant,
}

impl Connection {
    /// Connects to the server on loopback.
    pub fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self::on(stream))
    }

    /// On an open connection.
    pub fn on(stream: TcpStream) -> Self {
        Self {
            reader: BufReader::new(stream),
            sent: Instant::now(),
        }
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        self.reader.get_mut().write_all(bytes)
    }

    /// A handle that can shut the connection from another thread.
    pub fn stopper(&self) -> io::Result<TcpStream> {
        self.reader.get_ref().try_clone()
    }

    /// Sends one request and reads its answer; the connection stays open.
    pub fn exchange(&mut self, port: u16, request: &Request, within: Duration) -> io::Result<Response> {
        self.write(&request.bytes(port, false))?;
        self.response(&request.method, within)
    }

    /// Reads one answer to a request of that method.
    pub fn response(&mut self, method: &str, within: Duration) -> io::Result<Response> {
        let end = Instant::now() + within;
        let mut response = self.head(end)?;
        while response.status == 100 {
            response = self.head(end)?;
        }
        if method != "HEAD" && !matches!(response.status, 101 | 204 | 304) {
            self.body(&mut response, end)?;
        }
        response.elapsed = self.sent.elapsed();
        Ok(response)
    }

    /// True when the server closes the connection within the time without sending anything more.
    pub fn is_closed_within(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        self.arm(end).is_ok()
            && match self.reader.fill_buf() {
                Ok(bytes) => bytes.is_empty(),
                Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
            }
    }

    /// Everything until the server closes; an error when it does not within the time.
    pub fn read_to_end(&mut self, within: Duration) -> io::Result<Vec<u8>> {
        let (end, mut bytes) = (Instant::now() + within, Vec::new());
        loop {
            self.arm(end)?;
            let more = self.reader.fill_buf()?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(more);
            let n = more.len();
            self.reader.consume(n);
        }
    }

    /// The bare connection; everything received must have been read.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.reader.buffer().is_empty(), "unread bytes from the server");
        self.reader.into_inner()
    }

    /// Closes both directions.
    pub fn shut(&self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }

    fn arm(&self, end: Instant) -> io::Result<()> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        self.reader.get_ref().set_read_timeout(Some(left))
    }

    fn line(&mut self, end: Instant) -> io::Result<String> {
        self.arm(end)?;
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed instead of an answer",
            ));
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    fn head(&mut self, end: Instant) -> io::Result<Response> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("bad response head: {what:?}"));
        let status_line = self.line(end)?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| bad(&status_line))?;
        let mut response = Response {
            status,
            ..Response::default()
        };
        loop {
            let line = self.line(end)?;
            if line.is_empty() {
                return Ok(response);
            }
            let (key, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            response.headers.push((key.to_owned(), value.trim().to_owned()));
        }
    }

    fn body(&mut self, response: &mut Response, end: Instant) -> io::Result<()> {
        if response
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let line = self.line(end)?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                self.take(size + 2, &mut response.body, end)?;
                response.body.truncate(response.body.len() - 2);
                if size == 0 {
                    return Ok(());
                }
            }
        }
        match response.header("content-length").map(|v| v.parse::<usize>()) {
            Some(length) => self.take(length.map_err(io::Error::other)?, &mut response.body, end),
            None => self
                .read_to_end(end.saturating_duration_since(Instant::now()))
                .map(|bytes| response.body = bytes),
        }
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>, end: Instant) -> io::Result<()> {
        self.arm(end)?;
        let from = into.len();
        into.resize(from + length, 0);
        self.reader.read_exact(&mut into[from..])
    }
}

#[test]
fn signature_of_the_goldens() {
    assert_eq!(
        sign("testtoken", "1420000000", "1234"),
        "3bb158b1b16ea2a6dbdfb5881080954c8c0c75c8"
    );
    assert_eq!(sign("", "1420000000", "5"), "95a4787527d14c53eca38c7ee3045b3a76328f10");
}
