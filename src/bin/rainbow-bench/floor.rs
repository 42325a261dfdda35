//! The floor: a raw loop that does only the system calls the work cannot do without, in place of a server. It answers
//! `/connect/` with 101 and no questions, puts everybody into one channel, sends each publish as a pre-encoded frame, answers
//! each REL with a COM. What it costs is what this kernel charges on this machine at this moment.
//!
//! Publishes that were received together leave in one send per member. It checks nothing: never use it for anything else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rainbow_server::io::sys::Epoll;
use rainbow_server::wire::ws;
use slab::Slab;

use crate::wire;

const LISTENER: u64 = u64::MAX;
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"status\": 0}";
/// Bytes of a masked REL frame and of a COM frame.
const REL: usize = 9;
const COM: [u8; 5] = [0x82, 3, 0x50, 0, 1];

enum Role {
    New,
    Client,
    /// A caller: bytes of each of its requests, and of the one that has not arrived completely.
    Caller(usize, usize),
}

/// Serves until the process is killed.
pub fn run(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // The backlog of the standard library is 128; the load keeps fewer connections waiting.
    listener.set_nonblocking(true)?;
    let mut floor = Floor {
        epoll: Epoll::new(1024)?,
        conns: Slab::new(),
        members: Vec::new(),
        frame: Vec::new(),
        frames: Vec::new(),
        publishes: 0,
        callers: Vec::new(),
        coms: COM.repeat(1024),
    };
    floor.epoll.add(listener.as_fd(), LISTENER, false)?;
    let (mut ready, mut scratch) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        floor.epoll.wait(-1, &mut ready)?;
        for (token, _) in ready.drain(..) {
            if token == LISTENER {
                floor.accept(&listener)?;
            } else if !floor.receive(token as usize, &mut scratch) {
                floor.conns.try_remove(token as usize);
            }
        }
        floor.deliver();
    }
}

struct Floor {
    epoll: Epoll,
    conns: Slab<(TcpStream, Role)>,
    /// Keys of the clients, in the order they came.
    members: Vec<usize>,
    /// The frame of one publish.
    frame: Vec<u8>,
    /// The same frame as often as was needed so far.
    frames: Vec<u8>,
    /// Publishes received in this turn, and how many of whom.
    publishes: usize,
    callers: Vec<(usize, usize)>,
    coms: Vec<u8>,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let entry = self.conns.vacant_entry();
            self.epoll.add(socket.as_fd(), entry.key() as u64, false)?;
            entry.insert((socket, Role::New));
        }
        Ok(())
    }

    /// One receive; false when the connection is over. The load's messages arrive whole: they are smaller than a segment.
    fn receive(&mut self, key: usize, scratch: &mut [u8]) -> bool {
        let Some((socket, role)) = self.conns.get_mut(key) else {
            return true;
        };
        let count = match (&*socket).read(scratch) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        let bytes = &scratch[..count];
        match role {
            Role::New if bytes.starts_with(b"GET /connect/") => {
                *role = Role::Client;
                self.members.push(key);
                return (&*socket).write(UPGRADED).is_ok();
            }
            Role::New if bytes.starts_with(b"GET") => return (&*socket).write(DONE).is_ok(),
            Role::New => {
                let Some(request) = wire::message(bytes) else {
                    return false;
                };
                self.frame.clear();
                let mut packet = vec![0x10, 0, 1];
                packet.extend_from_slice(request.body);
                ws::push_frame(&mut self.frame, ws::Opcode::Binary, &packet);
                self.frames.clear();
                let len = request.head + request.body.len();
                *role = Role::Caller(len, count % len);
                self.publish(key, count / len);
            }
            Role::Caller(len, pending) => {
                let publishes = (*pending + count) / *len;
                *pending = (*pending + count) % *len;
                self.publish(key, publishes);
            }
            Role::Client => return (&*socket).write(&self.coms[..count / REL * COM.len()]).is_ok(),
        }
        true
    }

    fn publish(&mut self, key: usize, publishes: usize) {
        self.publishes += publishes;
        self.callers.push((key, publishes));
    }

    /// Delivers the publishes of this turn, then answers their callers.
    fn deliver(&mut self) {
        if self.publishes == 0 {
            return;
        }
        while self.frames.len() < self.publishes * self.frame.len() {
            self.frames.extend_from_slice(&self.frame);
        }
        let bytes = &self.frames[..self.publishes * self.frame.len()];
        for member in &self.members {
            if let Some((socket, _)) = self.conns.get(*member) {
                let _ = (&*socket).write(bytes);
            }
        }
        for (key, publishes) in self.callers.drain(..) {
            if let Some((socket, _)) = self.conns.get(key) {
                let _ = (&*socket).write(&DONE.repeat(publishes));
            }
        }
        self.publishes = 0;
    }
}
