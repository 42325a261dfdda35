//! Starts the business server and the load as processes of this same program, and talks to them. Dropping one kills it.

use crate::common::{SOON, eventually, ports};
use crate::events::{self, Event};
use crate::{business, load};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// First argument of a process that is a role.
pub const ROLE: &str = "--role";

/// Lives a role until standard input ends. `args` are what [`Role::start`] passed.
pub fn live(args: &[String]) {
    let [role, address, log, first] = args else {
        panic!("a role has four arguments")
    };
    let (address, log) = (address.parse().expect("address"), Path::new(log));
    rainbow_server::io::sys::raise_descriptor_limit();
    match role.as_str() {
        "business" => business::run(address, log),
        "load" => load::run(address, log, first.parse().expect("number")),
        _ => panic!("there is no role {role}"),
    }
}

/// A process in a role.
pub struct Role {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Role {
    /// Starts it, in a network namespace if one is given, and waits until it is ready.
    pub fn start(role: &str, address: SocketAddr, log: &Path, first: u64, namespace: Option<&str>) -> Self {
        let exe = std::env::current_exe().expect("own path");
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(exe);
                command
            }
            None => Command::new(exe),
        };
        let (address, first) = (address.to_string(), first.to_string());
        command.args([ROLE, role, &address]).arg(log).arg(&first);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a role");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("stdout"));
        let mut role = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        assert_eq!(role.line(), "ready");
        role
    }

    pub fn say(&mut self, line: impl AsRef<str>) {
        let input = self.input.as_mut().expect("stdin");
        writeln!(input, "{}", line.as_ref()).expect("the role lives");
    }

    /// Asks, and reads the counters of the answer.
    pub fn ask(&mut self, line: &str) -> HashMap<String, u64> {
        self.say(line);
        let answer = self.line();
        let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, number)| (name.to_owned(), number.parse().expect("number")))
            .collect()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the role answers");
        assert!(!line.is_empty(), "a role has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the processes of a scenario are: addresses and namespaces.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the server reaches the business server.
    pub business: SocketAddr,
    /// Where the load reaches the server's port.
    pub server: std::net::IpAddr,
    pub business_namespace: Option<String>,
    pub load_namespace: Option<String>,
}

/// A business server, later a load, and their logs.
pub struct Stage {
    pub place: Place,
    dir: PathBuf,
    /// Held as long as the number is used.
    business_port: Option<ports::Port>,
    pub server_port: Arc<ports::Port>,
    pub business: Role,
    loads: u64,
}

impl Stage {
    /// Everything on loopback.
    pub fn local() -> Self {
        let port = ports::claim();
        let place = Place {
            business: SocketAddr::from(([127, 0, 0, 1], port.number)),
            server: [127, 0, 0, 1].into(),
            business_namespace: None,
            load_namespace: None,
        };
        let mut stage = Self::at(place);
        stage.business_port = Some(port);
        stage
    }

    /// Starts the business server.
    pub fn at(place: Place) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let business = start_business(&place, &dir);
        Self {
            place,
            dir,
            business_port: None,
            server_port: Arc::new(ports::claim()),
            business,
            loads: 0,
        }
    }

    /// Starts the load; it does nothing before it is told to.
    pub fn load(&mut self) -> Role {
        self.loads += 1;
        let server = SocketAddr::new(self.place.server, self.server_port.number);
        let namespace = self.place.load_namespace.as_deref();
        Role::start(
            "load",
            server,
            &self.dir.join("load.log"),
            self.loads * 1_000_000_000,
            namespace,
        )
    }

    /// Starts the business server once more, after it was killed.
    pub fn restart_business(&mut self) {
        self.business = start_business(&self.place, &self.dir);
    }

    /// The events of the load and of the business server.
    pub fn events(&self) -> (Vec<Event>, Vec<Event>) {
        let read = |name| events::read(&self.dir.join(name));
        (read("load.log"), read("business.log"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the event logs are in {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn start_business(place: &Place, dir: &Path) -> Role {
    let log = dir.join("business.log");
    Role::start("business", place.business, &log, 0, place.business_namespace.as_deref())
}

/// Waits until the counters of the load satisfy `done`; panics with them otherwise.
pub fn wait_until(load: &mut Role, within: Duration, what: &str, done: impl Fn(&HashMap<String, u64>) -> bool) {
    let mut last = HashMap::new();
    let reached = eventually(within.max(SOON), || {
        last = load.ask("status");
        done(&last) || {
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    });
    assert!(reached, "{what}: not within {within:?}; {last:?}");
}
