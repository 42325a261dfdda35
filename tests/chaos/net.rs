//! The sockets of a role: one edge-triggered epoll, one thread, buffers per connection. Commands come as lines on standard
//! input; its end is the end of the process, so that no role outlives the test.

use rainbow_server::io::sys::Epoll;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

const SCRATCH_BYTES: usize = 64 * 1024;
/// Received from one connection before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// Unread bytes of one connection; nobody here sends messages that long.
const INPUT_BYTES_MAX: usize = 4 << 20;
const LISTENER: u64 = u64::MAX;
const COMMANDS: u64 = u64::MAX - 1;

/// What a poll found.
#[derive(Debug)]
pub enum Ready {
    /// Bytes were added to the input of this connection.
    Input(usize),
    /// The connection is over and forgotten; what had arrived before.
    Ended(usize, Vec<u8>),
    /// A command.
    Line(String),
}

/// One connection.
pub struct Conn {
    socket: TcpStream,
    /// Received and not used yet.
    pub input: Vec<u8>,
    /// To be sent with the next [`Net::flush`].
    pub output: Vec<u8>,
    /// False: nothing is read, so that the peer has to wait.
    pub reads: bool,
    /// Close when everything is sent.
    pub closing: bool,
    dirty: bool,
}

/// All connections of a role.
pub struct Net {
    epoll: Epoll,
    /// By a number that is never given again, so that whatever comes late for one that is gone finds nobody.
    conns: HashMap<usize, Conn>,
    next: usize,
    listener: Option<TcpListener>,
    scratch: Vec<u8>,
    commands: Vec<u8>,
    tokens: Vec<(u64, bool)>,
    dirty: Vec<usize>,
    /// Connections that may have more to read.
    again: Vec<usize>,
}

impl Net {
    /// No connections; commands are read from standard input.
    pub fn new(listen: Option<SocketAddr>) -> io::Result<Self> {
        let epoll = Epoll::new(1024)?;
        epoll.add(io::stdin().as_fd(), COMMANDS, false)?;
        let listener = listen.map(listening).transpose()?;
        if let Some(listener) = &listener {
            epoll.add(listener.as_fd(), LISTENER, false)?;
        }
        Ok(Self {
            epoll,
            conns: HashMap::new(),
            next: 0,
            listener,
            scratch: vec![0; SCRATCH_BYTES],
            commands: Vec::new(),
            tokens: Vec::new(),
            dirty: Vec::new(),
            again: Vec::new(),
        })
    }

    /// Begins to connect; a failure shows as the end of the connection.
    pub fn connect(&mut self, to: SocketAddr, receive_buffer: Option<usize>) -> io::Result<usize> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => self.add(socket.into()),
        }
    }

    fn add(&mut self, socket: TcpStream) -> io::Result<usize> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let token = self.next;
        self.next += 1;
        self.epoll.add(socket.as_fd(), token as u64, true)?;
        let conn = Conn {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            reads: true,
            closing: false,
            dirty: false,
        };
        self.conns.insert(token, conn);
        Ok(token)
    }

    /// The connection, if it is not over.
    pub fn get(&mut self, token: usize) -> Option<&mut Conn> {
        self.conns.get_mut(&token)
    }

    /// Bytes for the next [`Net::flush`]; nothing if the connection is over.
    pub fn send(&mut self, token: usize, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.output.extend_from_slice(bytes);
            self.touch(token);
        }
    }

    /// Closes behind what is to be sent. Reported by nobody.
    pub fn close(&mut self, token: usize) {
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.closing = true;
            self.touch(token);
        }
    }

    /// Closes at once with a reset. Reported by nobody.
    pub fn reset(&mut self, token: usize) {
        if let Some(conn) = self.conns.remove(&token) {
            let _ = SockRef::from(&conn.socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads again, or not.
    pub fn set_reads(&mut self, token: usize, reads: bool) {
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.reads = reads;
        }
    }

    fn touch(&mut self, token: usize) {
        if let Some(conn) = self.conns.get_mut(&token).filter(|conn| !conn.dirty) {
            conn.dirty = true;
            self.dirty.push(token);
        }
    }

    /// Sends what was given to [`Net::send`].
    pub fn flush(&mut self) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(conn) = self.conns.get_mut(&token) else {
                continue;
            };
            conn.dirty = false;
            // A broken connection is reported when it is read.
            let open = conn.flush();
            if conn.closing && (!open || conn.output.is_empty()) {
                self.conns.remove(&token);
            }
        }
    }

    /// Waits at most `wait` and tells what happened.
    pub fn poll(&mut self, wait: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let wait = if self.again.is_empty() { wait } else { Duration::ZERO };
        for token in std::mem::take(&mut self.again) {
            self.receive(token, ready);
        }
        let mut tokens = std::mem::take(&mut self.tokens);
        self.epoll.wait(wait.as_millis().min(1000) as i32, &mut tokens)?;
        for (token, _) in tokens.drain(..) {
            match token {
                LISTENER => self.accept(),
                COMMANDS => self.command(ready),
                token => self.receive(token as usize, ready),
            }
        }
        self.tokens = tokens;
        Ok(())
    }

    /// Reads a connection that was not read for a while.
    pub fn receive(&mut self, token: usize, ready: &mut Vec<Ready>) {
        let Some(conn) = self.conns.get_mut(&token) else {
            return;
        };
        let mut open = conn.flush();
        if conn.closing && (!open || conn.output.is_empty()) {
            self.conns.remove(&token);
            return;
        }
        if !conn.reads && open {
            return;
        }
        let before = conn.input.len();
        while open {
            match (&conn.socket).read(&mut self.scratch) {
                Ok(0) => open = false,
                Ok(count) => conn.input.extend_from_slice(&self.scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => open = false,
            }
            assert!(conn.input.len() < INPUT_BYTES_MAX, "a message too long");
            if conn.input.len() - before > TURN_BYTES {
                self.again.push(token);
                break;
            }
        }
        if !open {
            let input = self.conns.remove(&token).map(|conn| conn.input);
            ready.push(Ready::Ended(token, input.unwrap_or_default()));
        } else if conn.input.len() > before {
            ready.push(Ready::Input(token));
        }
    }

    fn accept(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        while let Ok((socket, _)) = listener.accept() {
            self.add(socket).expect("accept");
        }
        self.listener = Some(listener);
    }

    /// One read: standard input may block after it, and edge-triggered it is reported again for what comes later.
    fn command(&mut self, ready: &mut Vec<Ready>) {
        let count = io::stdin().read(&mut self.scratch).unwrap_or(0);
        if count == 0 {
            std::process::exit(0);
        }
        self.commands.extend_from_slice(&self.scratch[..count]);
        while let Some(end) = self.commands.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.commands.drain(..=end).collect();
            ready.push(Ready::Line(String::from_utf8_lossy(&line).trim().to_owned()));
        }
    }
}

impl Conn {
    /// False when the connection is broken.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match (&self.socket).write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A whole HTTP message at the beginning of some bytes; bodies have a `Content-Length`.
pub struct Message {
    head: String,
    pub body: Vec<u8>,
}

impl Message {
    /// Takes the first message out of `bytes`; None while it is not complete.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Message> {
        let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let mut message = Message { head, body: Vec::new() };
        let length = message
            .field("content-length")
            .map_or(0, |v| v.parse().expect("length"));
        if bytes.len() < head_end + length {
            return None;
        }
        message.body = bytes[head_end..head_end + length].to_vec();
        bytes.drain(..head_end + length);
        Some(message)
    }

    /// Value of a field; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }

    /// Path and query of a request; status of an answer.
    pub fn second_word(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}
