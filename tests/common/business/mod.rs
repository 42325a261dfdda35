//! A scripted business server: records every request with its time and answers by rule.
//!
//! One thread per connection; connections are kept alive, since the server under test pools them. The rule with the longest
//! matching path prefix wins, a hook may override it (it runs on the connection's thread and may block or call the server).

mod wire;

use super::ms;
use std::collections::HashMap;
use std::io::{self, BufReader};
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
    /// Half of the body announced, then nothing more.
    HalfThenHang,
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
        Self::start_on(0)
    }

    /// Listens on a port that another one has left.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("free port");
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
    while let Some(request) = wire::read_request(&mut reader, connection)? {
        lock(&state.requests).push(request.clone());
        state.arrived.notify_all();
        let hook = lock(&state.hook).clone();
        let reply = hook.and_then(|h| h(&request)).or_else(|| rule(state, &request.path));
        let reply = reply.unwrap_or_else(|| Reply::ok("nope").status(404));
        std::thread::sleep(reply.delay);
        if !wire::write_reply(stream, &reply, &state.stop)?
            || request.header("connection").is_some_and(|v| v == "close")
        {
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
