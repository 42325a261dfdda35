//! A scripted business server: records every request with its time and answers by rule.
//!
//! One thread per connection; connections are kept alive, since the server under test pools them. The rule with the longest
//! matching path prefix wins, a hook may override it (it runs on the connection's thread and may block or call the server).

use super::ms;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One recorded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its last byte had arrived.
    pub at: Instant,
    /// Number of the connection it came on.
    pub connection: usize,
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    pub path: String,
    /// Decoded, in order, repeated keys included.
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// All headers of that name joined with a comma.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The identity header; empty when it is missing.
    pub fn identity(&self) -> String {
        self.header("rainbowclientidentity").unwrap_or_default()
    }

    /// Body as text, bad bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How an answer is written.
#[derive(Clone, Debug, Default)]
pub enum Mode {
    /// Head with `Content-Length`, then the body.
    #[default]
    Whole,
    /// As `Whole`, then close without having said so.
    ThenClose,
    /// The body in chunks of three bytes.
    Chunked,
    /// One byte at a time with this pause in between.
    Trickle(Duration),
    /// These bytes instead of an answer, then close.
    Raw(Vec<u8>),
    /// Close without an answer.
    Drop,
    /// Half of the body announced, then close.
    CutShort,
    /// Never answer.
    Hang,
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
    pub mode: Mode,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.as_ref().to_vec(),
            delay: Duration::ZERO,
            mode: Mode::Whole,
        }
    }

    /// What lets a client in.
    pub fn success() -> Self {
        Self::ok(r#"{"status": "success"}"#)
    }

    /// Lets a client in and puts it into channels (separated by `;;`).
    pub fn channels(names: &str) -> Self {
        Self::success().header("RAINBOWCLIENTCHANNEL", names)
    }

    /// Adds a header.
    pub fn header(mut self, key: &str, value: &str) -> Self {
        self.headers.push((key.into(), value.into()));
        self
    }

    /// Sets the status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Waits before answering.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how it is written.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
}

type Hook = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    taken: AtomicUsize,
    rules: Mutex<HashMap<String, Reply>>,
    hook: Mutex<Option<Hook>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

/// A running business server; dropping it closes everything.
pub struct Business {
    port: u16,
    state: Arc<State>,
}

impl Business {
    /// Starts on a free port with the usual answers: every client is let in, forwards are answered `ok`, anything else 404.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = listener.local_addr().expect("local address").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(&listener, &shared));
        let business = Self { port, state };
        business.reply("/connect/", Reply::success());
        business.reply("/message/", Reply::ok("ok"));
        business.reply("/close/", Reply::success());
        business
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, requests whose path starts with `prefix` get this answer.
    pub fn reply(&self, prefix: &str, reply: Reply) {
        lock(&self.state.rules).insert(prefix.into(), reply);
    }

    /// Asked before the rules; None falls through to them.
    pub fn hook(&self, hook: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *lock(&self.state.hook) = Some(Arc::new(hook));
    }

    /// The oldest request not yet taken; None when there is none within the time.
    pub fn next(&self, within: Duration) -> Option<Request> {
        let index = self.state.taken.load(Ordering::SeqCst);
        let request = self.wait(within, |all| all.get(index).cloned())?;
        self.state.taken.store(index + 1, Ordering::SeqCst);
        Some(request)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// All requests so far whose path starts with `prefix`.
    pub fn requests_to(&self, prefix: &str) -> Vec<Request> {
        lock(&self.state.requests)
            .iter()
            .filter(|r| r.path.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Waits until `n` requests to `prefix` have arrived; panics with what came when they do not.
    pub fn wait_for(&self, prefix: &str, n: usize, within: Duration) -> Vec<Request> {
        let found = self.wait(within, |all| {
            let hits: Vec<Request> = all.iter().filter(|r| r.path.starts_with(prefix)).cloned().collect();
            (hits.len() >= n).then_some(hits)
        });
        found.unwrap_or_else(|| {
            let targets: Vec<String> = self
                .requests()
                .iter()
                .map(|r| format!("{} {}", r.method, r.path))
                .collect();
            panic!("expected {n} business requests to {prefix} within {within:?}, got {targets:?}")
        })
    }

    fn wait<T>(&self, within: Duration, mut take: impl FnMut(&[Request]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + within;
        let mut all = lock(&self.state.requests);
        loop {
            if let Some(found) = take(&all) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            all = self.state.arrived.wait_timeout(all, left).expect("business lock").0;
        }
    }
}

impl Drop for Business {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in lock(&self.state.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(clone) = stream.try_clone() else { continue };
        lock(&state.streams).push(clone);
        let (state, number) = (Arc::clone(state), state.connections.fetch_add(1, Ordering::SeqCst));
        std::thread::spawn(move || {
            let _ = serve(&stream, number, &state);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn serve(stream: &TcpStream, connection: usize, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, connection)? {
        lock(&state.requests).push(request.clone());
        state.arrived.notify_all();
        let hook = lock(&state.hook).clone();
        let reply = hook.and_then(|h| h(&request)).or_else(|| rule(state, &request.path));
        let reply = reply.unwrap_or_else(|| Reply::ok("nope").status(404));
        std::thread::sleep(reply.delay);
        if !write_reply(stream, &reply, state)? || request.header("connection").is_some_and(|v| v == "close") {
            return Ok(());
        }
    }
    Ok(())
}

fn rule(state: &State, path: &str) -> Option<Reply> {
    let rules = lock(&state.rules);
    let longest = rules
        .iter()
        .filter(|(prefix, _)| path.starts_with(prefix.as_str()))
        .max_by_key(|(p, _)| p.len())?;
    Some(longest.1.clone())
}

/// None when the peer closed between requests.
fn read_request(reader: &mut BufReader<&TcpStream>, connection: usize) -> io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    while let Some(line) = read_line(reader)?.filter(|l| !l.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((key.to_owned(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")));
    let mut request = Request {
        at: Instant::now(),
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        path: path.to_owned(),
        query: pairs.map(|(k, v)| (unescape(k), unescape(v))).collect(),
        headers,
        body: Vec::new(),
    };
    read_body(reader, &mut request)?;
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(
        String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

fn read_body(reader: &mut BufReader<&TcpStream>, request: &mut Request) -> io::Result<()> {
    if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().map_err(io::Error::other)?];
        return reader.read_exact(&mut request.body);
    }
    while request.header("transfer-encoding").is_some() {
        let size = read_line(reader)?.unwrap_or_default();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        request.body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            break;
        }
    }
    Ok(())
}

/// Decodes percent signs and plus signs of a query part.
fn unescape(text: &str) -> String {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::new(), 0);
    while i < bytes.len() {
        let code = text.get(i + 1..i + 3).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (bytes[i], code) {
            (b'%', Some(code)) => {
                out.push(code);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// False when the connection must be closed now.
fn write_reply(mut stream: &TcpStream, reply: &Reply, state: &State) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (key, value) in &reply.headers {
        head += &format!("{key}: {value}\r\n");
    }
    let whole = [
        format!("{head}Content-Length: {}\r\n\r\n", reply.body.len()).as_bytes(),
        &reply.body,
    ]
    .concat();
    match &reply.mode {
        Mode::Whole | Mode::ThenClose => stream.write_all(&whole)?,
        Mode::Chunked => {
            let chunks = reply
                .body
                .chunks(3)
                .flat_map(|c| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat());
            let chunks: Vec<u8> = chunks.collect();
            let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &chunks, b"0\r\n\r\n"].concat())?;
        }
        Mode::Trickle(pause) => {
            for byte in whole {
                stream.write_all(&[byte])?;
                std::thread::sleep(*pause);
            }
        }
        Mode::Raw(bytes) => stream.write_all(bytes)?,
        Mode::CutShort => {
            stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", reply.body.len() * 2 + 2).as_bytes())?;
            stream.write_all(&reply.body)?;
        }
        Mode::Drop => {}
        Mode::Hang => hang(stream, state),
    }
    Ok(matches!(reply.mode, Mode::Whole | Mode::Chunked | Mode::Trickle(_)))
}

/// Returns when the peer closes or the business server is dropped.
fn hang(mut stream: &TcpStream, state: &State) {
    let _ = stream.set_read_timeout(Some(ms(200)));
    while !state.stop.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 512]) {
            Ok(0) => return,
            Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

#[test]
fn business_answers_by_longest_prefix_and_records() {
    use super::http;
    let business = Business::start();
    business.reply("/message/9/", Reply::ok("nine").mode(Mode::Chunked));
    let ask = |request: http::Request| http::call(business.port(), &request, super::SOON).unwrap();
    assert_eq!(ask(http::Request::post("/message/7/", "x")).text(), "ok");
    assert_eq!(
        ask(http::Request::post("/message/9/", "y").query("a b", "c&d")).text(),
        "nine"
    );
    assert_eq!(ask(http::Request::get("/other/")).status, 404);
    assert_eq!(business.next(super::SOON).unwrap().body, b"x");
    assert_eq!(
        business.next(super::SOON).unwrap().query,
        [("a b".to_owned(), "c&d".to_owned())]
    );
    assert_eq!(business.wait_for("/other/", 1, super::SOON).len(), 1);
    assert!(business.next(super::SOON).is_some() && business.next(ms(20)).is_none());
}
