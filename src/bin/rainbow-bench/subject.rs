//! A server under load: started on its own core, with its own ini file, killed when dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::wire::TOKEN;
use crate::{Failure, proc};

const START_WITHIN: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The server of this project, on so many shards.
    Own(PathBuf, usize),
    /// The raw loop of this program.
    Floor,
    /// Another server: its name in tables, and a command that takes `-f INI -p PORT`.
    Other(String, String),
}

impl Subject {
    /// From `floor`, a command, or `NAME=COMMAND`.
    pub fn parse(text: &str) -> Self {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric());
        match text.split_once('=') {
            _ if text == "floor" => Self::Floor,
            Some((name, command)) if is_name(name) => Self::Other(name.into(), command.into()),
            _ => Self::Other("other".into(), text.into()),
        }
    }

    /// Its name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Own(..) => "rainbow".into(),
            Self::Floor => "floor".into(),
            Self::Other(name, _) => name.clone(),
        }
    }

    /// Starts it with callbacks to `business_port` and waits until it serves.
    pub fn start(&self, options: &Options, business_port: u16) -> Result<Running, Failure> {
        let dir = std::env::temp_dir().join(format!("rainbow-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (ini, log) = (dir.join("server.ini"), dir.join("server.log"));
        std::fs::write(&ini, ini_text(options, business_port, self))?;
        let mut words: Vec<String> = match self {
            Self::Own(path, _) => vec![path.display().to_string()],
            Self::Floor => vec![std::env::current_exe()?.display().to_string(), "floor".into()],
            Self::Other(_, command) => command.split_whitespace().map(str::to_owned).collect(),
        };
        if let Some(cores) = &options.server_cores {
            words.splice(0..0, ["taskset".to_owned(), "-c".to_owned(), cores.clone()]);
        }
        let (program, arguments) = words.split_first().ok_or("an empty command cannot be started")?;
        let file = File::create(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .arg("-f")
            .arg(&ini)
            .args(["-p", &port.to_string()])
            .envs(options.driver_env())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let mut running = Running { child, port, dir, log };
        running.wait()?;
        Ok(running)
    }
}

fn ini_text(options: &Options, business_port: u16, subject: &Subject) -> String {
    let base = format!("http://127.0.0.1:{business_port}");
    let mut text = format!(
        "[main]\nconnect_url = {base}/connect/\nforward_url = {base}/message/{{message_type}}/\nclose_url = {base}/close/\n\
         security_token = {TOKEN}\n"
    );
    if let Subject::Own(_, workers) = subject {
        text += &format!(
            "cluster_udp = no\npin = no\nlog_level = warn\nworkers = {workers}\ndriver = {}\nbind = 127.0.0.1\n",
            options.driver
        );
        for (key, value) in &options.set {
            text += &format!("{key} = {value}\n");
        }
    }
    text
}

/// A started server.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub port: u16,
    dir: PathBuf,
    log: PathBuf,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> proc::Cpu {
        proc::Cpu::of(self.pid())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(1500)..]).into_owned()
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + START_WITHIN;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended at once ({status}):\n{}", self.log()).into());
            }
            if greets(self.port) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the server does not answer on port {}:\n{}", self.port, self.log()).into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn greets(port: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = socket.write_all(b"GET /hello/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).is_ok() && &answer[9..] == b"200"
}
