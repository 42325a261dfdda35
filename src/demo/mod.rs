//! `--demo`: a small business server inside the process, and a page that talks to it. Nothing here is needed in production.
//!
//! ```text
//!   browser ── websocket ──▶ gateway ── signed callbacks ──▶ Backend
//!      ▲                        │  ▲                            │
//!      └──── lobby ─────────────┘  └──── signed /send/ ─────────┘
//! ```
//! The backend is a business server like any other: it knows the gateway only through its callbacks and its public HTTP
//! interface, so `business.rs` can be read as an example. It uses plain blocking threads and never touches a core.
//!
//! Callers: the assembly starts [`Backend`] and prints [`banner`]; the control core serves [`asset`].

mod business;
mod wire;

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, OriginRule, Overrides, Secret};

/// The shared secret of the demonstration, another one at each start: pages of other servers that a browser has open could
/// use one that everybody knows. Printed for the shell commands of [`banner`].
pub fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| format!("{:016x}", getrandom::u64().unwrap_or_default()))
}

/// The settings of the demonstration: [`Config::demo`] with that secret, and only for pages of this machine.
pub fn settings(backend: &Backend, overrides: &Overrides) -> Config {
    let mut config = Config::demo(backend.port(), overrides);
    config.security_token = Secret::new(token());
    config.origins = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .filter_map(|host| OriginRule::parse(&format!("http://{host}:*")).ok())
        .collect();
    config
}

/// The page at `/demo/`.
pub const PAGE: &str = include_str!("page.html");
/// The client of the binary protocol at `/demo/client.js`: the SDK's.
pub const SCRIPT: &str = include_str!("../../sdk/js/rainbow.js");
/// What the page does with it, at `/demo/page.js`.
pub const PAGE_SCRIPT: &str = include_str!("page.js");

/// Threads, each with one connection. Further connections wait in the kernel's queue.
const WORKERS: usize = 32;
/// Connections in use beyond which none is kept open after its answer, so that idle ones never take all workers.
const KEPT_MAX: usize = WORKERS / 2;
/// How long a connection may be silent: longer than the gateway keeps it in its pool (`callback_idle`), so that it is never
/// closed under a request that is on its way.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is served at a path: content type and body.
pub fn asset(path: &[u8]) -> Option<(&'static str, Bytes)> {
    let (content_type, text) = match path {
        b"/" | b"/demo" | b"/demo/" => ("text/html; charset=utf-8", PAGE),
        b"/demo/client.js" => ("text/javascript; charset=utf-8", SCRIPT),
        b"/demo/page.js" => ("text/javascript; charset=utf-8", PAGE_SCRIPT),
        _ => return None,
    };
    Some((content_type, Bytes::from_static(text.as_bytes())))
}

/// What `--demo` prints: where to look, and what to try.
pub fn banner(port: u16) -> String {
    format!(
        "
rainbow-server demo

  Open       http://127.0.0.1:{port}/demo/  (in two windows: everybody meets in the channel \"lobby\")

  Send to the lobby as a business server would, from another terminal:

{}

  Next       rainbow-server --print-config > server.ini, then rainbow-server -f server.ini
             The built-in business server is src/demo/business.rs; README.md has one in Python.
  Stop       Ctrl-C
",
        send_command(port)
    )
}

/// Shell commands that sign and send a message to the lobby. POSIX sh, coreutils and curl.
pub fn send_command(port: u16) -> String {
    format!(
        r#"T=$(date +%s) N=$$
S=$(printf '%s\n' {} $T $N | LC_ALL=C sort | tr -d '\n' | sha1sum | cut -c1-40)
curl "http://127.0.0.1:{port}/send/?channel=lobby&qos=1&timestamp=$T&nonce=$N&signature=$S" \
     -d '{{"from": "curl", "text": "Hello, lobby!"}}'"#,
        token()
    )
}

/// The business server. Its threads live as long as the process.
#[derive(Debug)]
pub struct Backend {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Where the gateway's HTTP interface listens; 0 until known.
    api_port: AtomicU16,
    /// Connections in use.
    busy: AtomicUsize,
}

impl Backend {
    /// Listens on a free port of this machine's loopback address and serves at once.
    ///
    /// # Errors
    /// No free port, or no thread to be had.
    pub fn start() -> io::Result<Backend> {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let backend = Backend {
            port: listener.local_addr()?.port(),
            shared: Arc::default(),
        };
        for _ in 0..WORKERS {
            let (listener, shared) = (listener.clone(), backend.shared.clone());
            let worker = thread::Builder::new()
                .name("demo-backend".into())
                .stack_size(256 * 1024);
            worker.spawn(move || work(&listener, &shared))?;
        }
        Ok(backend)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tells where the gateway listens. Before this, nothing said in the lobby goes anywhere.
    pub fn serve_api(&self, port: u16) {
        self.shared.api_port.store(port, Relaxed);
    }
}

/// One connection after the other.
fn work(listener: &TcpListener, shared: &Shared) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                shared.busy.fetch_add(1, Relaxed);
                if let Err(error) = serve(stream, shared) {
                    tracing::debug!(%error, "demo: a connection ended early");
                }
                shared.busy.fetch_sub(1, Relaxed);
            }
            // Out of descriptors, most likely: come back when there may be some.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut wire = wire::Wire::new(stream, SILENCE_MAX)?;
    while let Some((head, body)) = wire.request()? {
        let answer = business::answer(&head, &body, shared.api_port.load(Relaxed));
        let keep = head.keep_alive && shared.busy.load(Relaxed) <= KEPT_MAX;
        wire.answer(&answer, keep)?;
        if !keep {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "demo_tests.rs"]
mod tests;
