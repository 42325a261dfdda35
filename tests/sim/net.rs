//! Sockets in memory. The far end is a byte buffer with room that the script or the simulator controls: no room is
//! "would block", little room is a short write. Calls the shard must not make (anything after `close`, writing after
//! `finish`) panic at once.

use std::collections::HashMap;
use std::io::IoSlice;

use rainbow_server::engine::ids::ClientId;
use rainbow_server::shard::{Sent, Sockets};

/// One connection as its far end sees it.
#[derive(Debug)]
pub struct Socket {
    /// Bytes written and not yet read by the far end.
    pub out: Vec<u8>,
    /// Bytes the socket still takes.
    pub room: usize,
    /// Most bytes one call takes.
    pub write_max: usize,
    /// The next write fails.
    pub broken: bool,
    /// The next write panics.
    pub explosive: bool,
    /// The shard waits for room.
    pub want_write: bool,
    /// The shard has asked for more input.
    pub resumed: bool,
    /// The shard has ended its direction.
    pub finished: bool,
    /// The shard has closed the socket.
    pub closed: bool,
    /// Calls of `send`.
    pub writes: usize,
}

/// The sockets of one shard.
#[derive(Debug, Default)]
pub struct Net {
    pub sockets: HashMap<ClientId, Socket>,
    /// Whose socket was used, for the simulator.
    pub touched: Vec<ClientId>,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            out: Vec::new(),
            room: usize::MAX,
            write_max: usize::MAX,
            broken: false,
            explosive: false,
            want_write: false,
            resumed: false,
            finished: false,
            closed: false,
            writes: 0,
        }
    }
}

impl Net {
    fn usable(&mut self, client: ClientId, what: &str) -> &mut Socket {
        let found = self.sockets.get_mut(&client);
        let socket = found.unwrap_or_else(|| panic!("{what} on a socket of nobody: {client:?}"));
        assert!(!socket.closed, "{what} on a closed socket: {client:?}");
        self.touched.push(client);
        socket
    }
}

impl Sockets for Net {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let socket = self.usable(client, "send");
        assert!(!socket.finished, "send after finish: {client:?}");
        socket.writes += 1;
        assert!(!std::mem::take(&mut socket.explosive), "planted");
        if socket.broken {
            return Sent::Broken;
        }
        let mut left = socket.room.min(socket.write_max);
        let before = socket.out.len();
        for part in parts {
            let taken = part.len().min(left);
            socket.out.extend_from_slice(&part[..taken]);
            left -= taken;
        }
        let taken = socket.out.len() - before;
        socket.room -= taken;
        Sent::Taken(taken)
    }

    fn want_write(&mut self, client: ClientId) {
        let socket = self.usable(client, "want_write");
        assert!(!socket.want_write, "two waits for one socket: {client:?}");
        socket.want_write = true;
    }

    fn resume(&mut self, client: ClientId) {
        let socket = self.usable(client, "resume");
        assert!(!socket.resumed, "two readers for one socket: {client:?}");
        socket.resumed = true;
    }

    fn finish(&mut self, client: ClientId) {
        let socket = self.usable(client, "finish");
        assert!(!socket.finished, "finish twice: {client:?}");
        socket.finished = true;
    }

    fn close(&mut self, client: ClientId) {
        self.usable(client, "close").closed = true;
    }
}
