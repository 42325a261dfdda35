//! Three hosts as network namespaces: the clients, the server, the business server, joined by two lines (`wire.py`).
//!
//! A scenario that needs them runs in a process of its own on the host of the server, so that the server, `/proc` and
//! loopback are where the helpers expect them. Needs root, `ip`, `/dev/net/tun` and python3; nothing is changed outside the
//! namespaces.

use crate::Outcome;
use crate::roles::{Place, Stage};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// First argument of a process that plays a scenario on the host of the server.
pub const INSIDE: &str = "--inside";

const HOSTS: [&str; 3] = ["server", "clients", "business"];
/// One to the clients, one to the business server.
const LINES: [&str; 2] = ["clients", "business"];

/// Makes the hosts and plays the scenario of that name there.
pub fn play(scenario: &str) -> Outcome {
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(why) => return Outcome::NotRun("namespaces", why),
    };
    let exe = std::env::current_exe().expect("own path");
    let status = Command::new("ip")
        .args(["netns", "exec", &hosts.name("server")])
        .arg(exe)
        .args([INSIDE, scenario, &hosts.prefix])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{scenario} failed");
    Outcome::Passed
}

/// The namespaces; gone when dropped.
struct Hosts {
    prefix: String,
}

impl Hosts {
    fn new() -> Result<Self, String> {
        if !Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".into());
        }
        run("python3", &["-c", "import fcntl, select"])?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hosts = Self {
            prefix: format!("chaos-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)),
        };
        for host in HOSTS {
            run("ip", &["netns", "add", &hosts.name(host)])?;
            run("ip", &["-n", &hosts.name(host), "link", "set", "lo", "up"])?;
        }
        Ok(hosts)
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in HOSTS {
            let _ = run("ip", &["netns", "del", &self.name(host)]);
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let told = |said: &[u8]| String::from_utf8_lossy(said).trim().to_owned();
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {}: {}", args.join(" "), told(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The two lines. Dropping them cuts both.
pub struct Lines {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Lines {
    /// Lays the lines between the hosts and tells who is where. To be called on the host of the server.
    pub fn lay(prefix: &str) -> (Self, Stage) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/wire.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(LINES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let (input, output) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let mut lines = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        lines.answer("ready");
        for (number, line) in (1..).zip(LINES) {
            let (near, far) = (format!("{line}-a"), format!("{line}-b"));
            let host = format!("{prefix}-{line}");
            let ip = |args: &[&str]| run("ip", args).expect("a line");
            ip(&["link", "set", &far, "netns", &host]);
            ip(&["address", "add", &format!("10.98.{number}.1/24"), "dev", &near]);
            ip(&["link", "set", &near, "up"]);
            ip(&[
                "-n",
                &host,
                "address",
                "add",
                &format!("10.98.{number}.2/24"),
                "dev",
                &far,
            ]);
            ip(&["-n", &host, "link", "set", &far, "up"]);
        }
        let stage = Stage::at(Place {
            business: SocketAddr::from(([10, 98, 2, 2], 8000)),
            server: [10, 98, 1, 1].into(),
            business_namespace: Some(format!("{prefix}-business")),
            load_namespace: Some(format!("{prefix}-clients")),
        });
        (lines, stage)
    }

    /// Nothing passes, and nobody is told.
    pub fn cut(&mut self, line: &str) {
        self.set(line, 100, 0, 0);
    }

    /// Everything passes at once.
    pub fn mend(&mut self, line: &str) {
        self.set(line, 0, 0, 0);
    }

    /// Loss, and delay give or take `jitter`, in both directions.
    pub fn set(&mut self, line: &str, loss_percent: u32, delay_ms: u32, jitter_ms: u32) {
        writeln!(self.input, "{line} {loss_percent} {delay_ms} {jitter_ms}").expect("the line lives");
        self.answer("done");
    }

    fn answer(&mut self, wanted: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the line answers");
        assert_eq!(line.trim(), wanted);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
