//! The sockets of the load: websocket clients, API callers and the business server, all in one loop on one thread.
//!
//! Cheaper than what it measures: one edge-triggered epoll per [`Lane`], one receive per readable socket, frames and answers
//! looked at where they were received, replies of one receive written together. Nothing is allocated per message; buffers
//! keep their capacity. The caller decides whether to spin or to sleep between polls.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rainbow_server::io::sys::Epoll;
use slab::Slab;

use crate::business::Business;
use crate::wire;

/// Bytes received at once.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Sockets handled per poll of the fast lane.
const FAST_BATCH: usize = 256;
/// Sockets of the bulk lane handled before the fast lane has its turn again: bounds what a flood adds to latencies.
const BULK_BATCH: usize = 8;
/// The listening socket of the business server.
const LISTENER: u64 = u64::MAX;

/// Which sockets wait for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Handled first.
    Fast,
    /// Handled in small portions, for floods beside a measurement.
    Bulk,
}

/// What a workload does with what arrives. `reply` is sent on the same connection.
pub trait Load {
    /// A client is connected (101 was read).
    fn on_open(&mut self, client: usize, reply: &mut Vec<u8>) {
        let _ = (client, reply);
    }
    /// A client received a packet: the payload of one websocket frame.
    fn on_packet(&mut self, client: usize, packet: &[u8], reply: &mut Vec<u8>) {
        let _ = (client, packet, reply);
    }
    /// A call of the API was answered.
    fn on_answer(&mut self, caller: usize, status: u16, body: &[u8], reply: &mut Vec<u8>) {
        let _ = (caller, status, body, reply);
    }
    /// A connection ended or was refused.
    fn on_end(&mut self, number: usize) {
        let _ = number;
    }
}

/// A load that does nothing.
pub struct Silent;
impl Load for Silent {}

/// Names a connection.
pub type Key = usize;

/// All connections.
pub struct Net {
    epolls: [Epoll; 2],
    conns: Slab<Conn>,
    listener: TcpListener,
    scratch: Box<[u8]>,
    ready: Vec<(u64, bool)>,
    has_bulk: bool,
    /// The business server's books.
    pub business: Business,
    /// Connections that ended without being asked to.
    pub ended: u64,
}

struct Conn {
    socket: TcpStream,
    role: Role,
    number: usize,
    /// The beginning of a message that has not arrived completely.
    tail: Vec<u8>,
    /// Not sent yet.
    out: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A client that waits for its 101.
    Handshaking,
    Client,
    Caller,
    /// A connection to the business server.
    Called,
}

impl Net {
    /// No connections; the business server listens on a free loopback port.
    pub fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let epolls = [Epoll::new(FAST_BATCH)?, Epoll::new(BULK_BATCH)?];
        epolls[0].add(listener.as_fd(), LISTENER, false)?;
        Ok(Self {
            epolls,
            conns: Slab::new(),
            listener,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            ready: Vec::with_capacity(FAST_BATCH),
            has_bulk: false,
            business: Business::default(),
            ended: 0,
        })
    }

    /// Where the business server listens.
    pub fn business_port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Opens a client; the load hears of it in `on_open`.
    pub fn client(&mut self, number: usize, port: u16, head: &[u8], lane: Lane) -> io::Result<Key> {
        let key = self.connect(number, port, Role::Handshaking, lane)?;
        self.send(key, head);
        Ok(key)
    }

    /// Opens a connection for API calls.
    pub fn caller(&mut self, number: usize, port: u16, lane: Lane) -> io::Result<Key> {
        self.connect(number, port, Role::Caller, lane)
    }

    fn connect(&mut self, number: usize, port: u16, role: Role, lane: Lane) -> io::Result<Key> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        // Leaves no TIME_WAIT behind, so that rounds do not run out of ports.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        self.add(socket, role, number, lane)
    }

    fn add(&mut self, socket: TcpStream, role: Role, number: usize, lane: Lane) -> io::Result<Key> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        self.has_bulk |= lane == Lane::Bulk;
        self.epolls[lane as usize].add(socket.as_fd(), key as u64, true)?;
        entry.insert(Conn {
            socket,
            role,
            number,
            tail: Vec::new(),
            out: Vec::new(),
        });
        Ok(key)
    }

    /// Sends bytes as they are; what the socket does not take now goes when it has room.
    pub fn send(&mut self, key: Key, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.out.extend_from_slice(bytes);
            conn.flush();
        }
    }

    /// Closes a connection with a reset. Allowed for one that has ended.
    pub fn close(&mut self, key: Key) {
        self.conns.try_remove(key);
    }

    /// Handles what is ready: the fast lane completely, then a little of the bulk lane. Waits at most `millis`.
    pub fn poll(&mut self, load: &mut impl Load, millis: i32) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.epolls[0].wait(if self.has_bulk { 0 } else { millis }, &mut ready)?;
        for (token, _) in ready.drain(..) {
            self.handle(token, load)?;
        }
        if self.has_bulk {
            self.epolls[1].wait(0, &mut ready)?;
            for (token, _) in ready.drain(..) {
                self.handle(token, load)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn handle(&mut self, token: u64, load: &mut impl Load) -> io::Result<()> {
        if token == LISTENER {
            return self.accept();
        }
        let Some(conn) = self.conns.get_mut(token as usize) else {
            return Ok(());
        };
        if conn.receive(&mut self.scratch, load, &mut self.business) {
            return Ok(());
        }
        if let Some(conn) = self.conns.try_remove(token as usize)
            && conn.role != Role::Called
        {
            self.ended += 1;
            load.on_end(conn.number);
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => drop(self.add(socket, Role::Called, 0, Lane::Fast)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Conn {
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match (&self.socket).write(&self.out) {
                Ok(count) if count == self.out.len() => self.out.clear(),
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Receives until the socket is empty; false when the connection is over.
    fn receive(&mut self, scratch: &mut [u8], load: &mut impl Load, business: &mut Business) -> bool {
        let mut open = true;
        while open {
            let count = match (&self.socket).read(scratch) {
                Ok(0) => open_end(&mut open),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => open_end(&mut open),
            };
            let more = count == scratch.len();
            open &= self.feed(&scratch[..count], load, business);
            if !more {
                break;
            }
        }
        self.flush() && open
    }

    /// Consumes whole messages, keeps the rest; false when the connection is to be closed.
    fn feed(&mut self, bytes: &[u8], load: &mut impl Load, business: &mut Business) -> bool {
        if self.tail.is_empty() {
            let (used, open) = self.consume(bytes, load, business);
            self.tail.extend_from_slice(&bytes[used..]);
            return open;
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(bytes);
        let (used, open) = self.consume(&tail, load, business);
        tail.drain(..used);
        self.tail = tail;
        open
    }

    fn consume(&mut self, bytes: &[u8], load: &mut impl Load, business: &mut Business) -> (usize, bool) {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            used += match self.role {
                Role::Client => match wire::frame(rest) {
                    Some(frame) => {
                        load.on_packet(self.number, frame.payload, &mut self.out);
                        frame.len
                    }
                    None => return (used, true),
                },
                Role::Handshaking => match wire::message(rest) {
                    Some(answer) if answer.status() == 101 => {
                        self.role = Role::Client;
                        load.on_open(self.number, &mut self.out);
                        answer.head
                    }
                    Some(_) => return (used, false),
                    None => return (used, true),
                },
                Role::Caller => match wire::message(rest) {
                    Some(answer) => {
                        load.on_answer(self.number, answer.status(), answer.body, &mut self.out);
                        answer.head + answer.body.len()
                    }
                    None => return (used, true),
                },
                Role::Called => match wire::message(rest) {
                    Some(request) => {
                        if !business.answer(&request, &mut self.out) {
                            self.flush();
                            return (used, false);
                        }
                        request.head + request.body.len()
                    }
                    None => return (used, true),
                },
            };
        }
    }
}

/// The end of the stream: nothing was received.
fn open_end(open: &mut bool) -> usize {
    *open = false;
    0
}
