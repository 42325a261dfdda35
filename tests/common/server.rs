//! Starts the binary under test with a temporary ini file on a port of its own, and kills it when dropped.
//!
//! Ready means: the child process owns a listening socket on the wanted port (read from /proc, whatever the log says) and
//! answers `/hello/` (or `/healthz`, without rainbow's door). When the port is taken meanwhile, or the server listens elsewhere
//! (its port search), the start is repeated on another port.

use super::business::Business;
use super::{SOON, http, ms, ports};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The shared secret of every test server unless a test sets another.
pub const TOKEN: &str = "testtoken";

const START_WITHIN: Duration = Duration::from_secs(15);
/// A server that listens only on other ports for this long has searched for one.
const ELSEWHERE_FOR: Duration = Duration::from_secs(2);
const LOG_TAIL_BYTES: usize = 6_000;

static NEXT_DIR: AtomicU32 = AtomicU32::new(0);

/// What to start. Discovery over UDP is off unless the test turns it on, so parallel tests do not become one cluster.
#[derive(Clone)]
pub struct Builder {
    config: Vec<(String, String)>,
    /// Lines of the section that switches the gateway on, if it is to be.
    gateway: Option<Vec<(String, String)>>,
    gateway_port: Option<Arc<ports::Port>>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// Without a file, with the built-in business server.
    demo: bool,
    port: Option<Arc<ports::Port>>,
    /// The port is on the command line.
    names_port: bool,
    /// A program that starts the server: itself and its arguments.
    through: Vec<String>,
}

impl Builder {
    /// The usual configuration: all callbacks go to `business`.
    pub fn new(business: &Business) -> Self {
        let base = format!("http://127.0.0.1:{}", business.port());
        Self::bare()
            .set("connect_url", format!("{base}/connect/"))
            .set("security_token", TOKEN)
            .set("forward_url", format!("{base}/message/{{message_type}}/"))
            .set("close_url", format!("{base}/close/"))
            .set("cluster_udp", "no")
    }

    /// A `[main]` section with nothing but a place for sockets that is not the machine's.
    pub fn bare() -> Self {
        let sockets = Path::new(env!("CARGO_TARGET_TMPDIR")).join("takeover");
        Self {
            config: vec![("takeover_dir".into(), sockets.display().to_string())],
            gateway: None,
            gateway_port: None,
            args: Vec::new(),
            env: Vec::new(),
            demo: false,
            port: None,
            names_port: true,
            through: Vec::new(),
        }
    }

    /// The gateway alone, for this machine only, on a port of its own; every event goes nowhere.
    pub fn gateway() -> Self {
        Self::bare().set("bind", "127.0.0.1").with_gateway()
    }

    /// Switches the gateway on, on a port of its own. Servers started from one builder have the same.
    pub fn with_gateway(mut self) -> Self {
        let port = Arc::new(ports::claim());
        let number = port.number;
        self.gateway = Some(Vec::new());
        self.gateway_port = Some(port);
        self.of_gateway("port", number)
    }

    /// Sets or replaces a key of the gateway.
    pub fn of_gateway(mut self, key: &str, value: impl ToString) -> Self {
        let lines = self.gateway.get_or_insert_default();
        lines.retain(|(k, _)| k != key);
        lines.push((key.into(), value.to_string()));
        self
    }

    /// `--demo` instead of a configuration file.
    pub fn demo() -> Self {
        Self {
            args: vec!["--demo".into()],
            demo: true,
            ..Self::bare()
        }
    }

    /// Sets or replaces one configuration key.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.config.retain(|(k, _)| k != key);
        self.config.push((key.into(), value.to_string()));
        self
    }

    /// Removes a configuration key.
    pub fn unset(mut self, key: &str) -> Self {
        self.config.retain(|(k, _)| k != key);
        self
    }

    /// Adds a command line argument after `-f FILE -p PORT`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Listens on this port instead of one claimed at the start.
    pub fn on(mut self, port: &Arc<ports::Port>) -> Self {
        self.port = Some(Arc::clone(port));
        self
    }

    /// Leaves the port to the file.
    pub fn without_port_option(mut self) -> Self {
        self.names_port = false;
        self
    }

    /// Sets an environment variable of the server.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Lets the server open only so many files.
    pub fn descriptors(self, most: usize) -> Self {
        let script = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        self.through(&["sh", "-c", &script])
    }

    /// Is started by another program, which is given the server and its arguments behind its own.
    pub fn through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Runs on epoll instead of io_uring.
    pub fn legacy_driver(self) -> Self {
        self.env("MONOIO_FORCE_LEGACY_DRIVER", "1")
    }

    /// Starts the server and waits until it serves; panics with the log when it does not.
    pub fn start(self) -> Server {
        for _ in 0..5 {
            if let Some(server) = self.spawn().ready() {
                return server;
            }
        }
        panic!("the free port the server was given was taken before it listened, five times");
    }

    /// Starts the server without waiting for anything (for configurations it must refuse).
    pub fn spawn(&self) -> Server {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let (ini, log) = (dir.join("server.ini"), dir.join("server.log"));
        std::fs::write(&ini, self.text()).expect("ini file");
        let file = File::create(&log).expect("log file");
        let port = self.port.clone().unwrap_or_else(|| Arc::new(ports::claim()));
        let exe = env!("CARGO_BIN_EXE_rainbow-server");
        let mut words = self.through.iter().map(String::as_str).chain([exe]);
        let child = Command::new(words.next().unwrap_or(exe))
            .args(words)
            .args(
                (!self.demo)
                    .then_some(["-f".as_ref(), ini.as_os_str()])
                    .into_iter()
                    .flatten(),
            )
            .args(
                self.names_port
                    .then(|| ["-p".to_owned(), port.number.to_string()])
                    .into_iter()
                    .flatten(),
            )
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("log file"))
            .stderr(file)
            .spawn()
            .expect("start rainbow-server");
        Server {
            child,
            port,
            gateway_port: self.gateway_port.clone(),
            has_rainbow: self.demo || self.config.iter().any(|(key, _)| key.ends_with("_url")),
            dir,
            ini,
            log,
        }
    }

    /// The configuration file.
    pub fn text(&self) -> String {
        let lines =
            |lines: &[(String, String)]| -> String { lines.iter().map(|(k, v)| format!("{k} = {v}\n")).collect() };
        let gateway = self.gateway.as_deref();
        let gateway = gateway.map(|section| format!("[gateway]\n{}", lines(section)));
        format!("[main]\n{}{}", lines(&self.config), gateway.unwrap_or_default())
    }
}

/// A running server. Dropping it kills the process; a panicking test prints the end of the log first.
pub struct Server {
    child: Child,
    port: Arc<ports::Port>,
    gateway_port: Option<Arc<ports::Port>>,
    has_rainbow: bool,
    dir: PathBuf,
    pub ini: PathBuf,
    log: PathBuf,
}

impl Server {
    /// The port it was told to listen on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The port of the gateway's clients; panics where there is no gateway.
    pub fn gateway_port(&self) -> u16 {
        self.gateway_port.as_ref().expect("the gateway is on").number
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`TERM`, `INT`, `HUP`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .expect("run kill");
        assert!(
            status.success(),
            "kill -{name} {} failed: the server is gone",
            self.pid()
        );
    }

    /// Exit code once the process ends: None while it runs longer than `within`, -1 when a signal ended it.
    pub fn wait_exit(&mut self, within: Duration) -> Option<i32> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                return Some(status.code().unwrap_or(-1));
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(ms(5));
        }
    }

    /// True while the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait for the server").is_none()
    }

    /// The end of everything it wrote to stdout and stderr.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// `/serverinfo/?cluster=1` as JSON; panics when it does not answer.
    pub fn info(&self) -> serde_json::Value {
        let request = http::Request::get("/serverinfo/").query("cluster", "1");
        let answer = http::call(self.port(), &request, super::SOON).expect("/serverinfo/ answers");
        answer
            .json()
            .unwrap_or_else(|| panic!("/serverinfo/ is not JSON: {}", answer.text()))
    }

    /// A signed `/send/` with a body; panics when it is not answered.
    pub fn send(&self, channel: &str, qos: u8, body: impl AsRef<[u8]>) -> serde_json::Value {
        self.api(
            &http::Request::post("/send/", body)
                .query("channel", channel)
                .query("qos", qos),
        )
    }

    /// A signed `/sub/`; panics when it is not answered.
    pub fn sub(&self, identity: &str, channel: &str) -> serde_json::Value {
        let body = serde_json::json!({"identity": identity, "channel": channel}).to_string();
        self.api(&http::Request::post("/sub/", body))
    }

    /// Signs and sends a request whose answer is JSON with status 200; panics on anything else.
    pub fn api(&self, request: &http::Request) -> serde_json::Value {
        let answer = http::call(
            self.port(),
            &request.clone().signed(TOKEN),
            std::time::Duration::from_secs(40),
        );
        let answer = answer.unwrap_or_else(|e| panic!("{} {}: {e}", request.method, request.path));
        let json = answer.json().filter(|_| answer.status == 200);
        json.unwrap_or_else(|| {
            panic!(
                "{} {}: {} {}",
                request.method,
                request.path,
                answer.status,
                answer.text()
            )
        })
    }

    /// Members per channel, as `/serverinfo/` tells.
    pub fn channels(&self) -> Vec<(String, u64)> {
        let info = self.info();
        let list = info["channels"].as_array().expect("channels");
        list.iter()
            .map(|c| (c[0].as_str().unwrap_or_default().to_owned(), c[1].as_u64().unwrap_or(0)))
            .collect()
    }

    /// Waits until no channel has members (what a closed client leaves behind); panics with the channels otherwise.
    pub fn expect_no_channels(&self) {
        let empty = super::eventually(super::SOON, || self.info()["channels_cnt"] == 0);
        assert!(
            empty,
            "channels are left: {}",
            super::excerpt(self.info().to_string().as_bytes(), 300)
        );
    }

    /// Waits until the log has `words`; panics with the log otherwise. The log is written by a thread of its own, so what a
    /// server has done can be seen from outside before it is in there.
    pub fn expect_said(&self, words: &str) {
        let said = super::eventually(super::SOON, || self.log_tail().contains(words));
        assert!(said, "{words:?} is not in the log:\n{}", self.log_tail());
    }

    /// Waits until it serves. None when it listens on another port.
    fn ready(mut self) -> Option<Server> {
        let (end, mut seen_elsewhere) = (Instant::now() + START_WITHIN, None);
        loop {
            if let Some(code) = self.wait_exit(Duration::ZERO) {
                // Somebody else was quicker.
                if self.log_tail().contains("is taken (at") {
                    return None;
                }
                panic!("the server ended with {code} at start; its log:\n{}", self.log_tail());
            }
            let listening = listening_ports(self.pid());
            if listening.contains(&self.port()) && self.says_hello() {
                return Some(self);
            }
            let elsewhere = !listening.is_empty() && !listening.contains(&self.port());
            if elsewhere && *seen_elsewhere.get_or_insert_with(Instant::now) + ELSEWHERE_FOR < Instant::now() {
                return None;
            }
            assert!(
                Instant::now() < end,
                "the server does not serve port {}; log:\n{}",
                self.port(),
                self.log_tail()
            );
            std::thread::sleep(ms(10));
        }
    }

    fn says_hello(&self) -> bool {
        let path = if self.has_rainbow { "/hello/" } else { "/healthz" };
        http::call(self.port(), &http::Request::get(path), ms(2_000)).is_ok_and(|r| r.status == 200)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- end of the server's log ({}):\n{}---",
                self.log.display(),
                self.log_tail()
            );
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The sum of all series of `/metrics` that start with `name`.
pub fn metric(server: &Server, name: &str) -> u64 {
    let page = http::call(server.port(), &http::Request::get("/metrics"), SOON).expect("/metrics answers");
    let text = page.text();
    let values = text.lines().filter(|line| line.starts_with(name));
    let values: Vec<u64> = values
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(!values.is_empty(), "no {name} in {text}");
    values.iter().sum()
}

/// TCP ports on which process `pid` listens.
fn listening_ports(pid: u32) -> Vec<u16> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let sockets: Vec<String> = entries
        .filter_map(|e| std::fs::read_link(e.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|f| std::fs::read_to_string(f).unwrap_or_default());
    tables
        .iter()
        .flat_map(|t| t.lines().skip(1))
        .filter_map(|line| listening_line(line, &sockets))
        .collect()
}

/// The port of one line of /proc/net/tcp when it is a listening socket (state 0A) with one of these inodes.
fn listening_line(line: &str, sockets: &[String]) -> Option<u16> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
    if state != "0A" || !sockets.iter().any(|s| s == inode) {
        return None;
    }
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
}

#[test]
fn own_listeners_are_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(listening_ports(std::process::id()).contains(&port));
}
