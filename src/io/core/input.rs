//! Reading: the core's epoll names the clients that have input; each is read a few times and its bytes go to the shard.

use std::rc::Rc;

use super::Core;
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::io::kernel::Kernel;
use crate::io::mail::{ControlMail, Handover};
use crate::io::sockets::{Ready, Removed};
use crate::io::tls::End;
use crate::limits::{FANOUT_SLICE_MEMBERS, RECEIVES_PER_TURN_MAX};
use crate::shard::Input;

/// What a receive call left.
pub(super) enum Received {
    /// The socket is empty.
    All,
    /// There may be more.
    More,
    /// Do not read this connection any more.
    Stop,
}

impl<K: Kernel> Core<K> {
    /// Reads the clients that have input now, each a few times; `clients` is a reused list. Large fan-outs go on between them.
    pub fn read_ready(self: &Rc<Self>, clients: &mut Vec<Ready>) {
        let taken = self.sockets.borrow_mut().take_ready(clients);
        if let Err(error) = taken {
            panic!("the core's epoll failed: {error}");
        }
        for (number, ready) in (1..).zip(clients.drain(..)) {
            self.read(ready);
            if number % FANOUT_SLICE_MEMBERS == 0 && self.is_slicing() {
                self.long_turn(|_, _, _| ());
            }
        }
    }

    /// Tells the shard which of the sockets it waits for take bytes now; `clients` is a reused list.
    pub fn write_ready(self: &Rc<Self>, clients: &mut Vec<ClientId>) {
        let taken = self.sockets.borrow_mut().take_writable(clients);
        if let Err(error) = taken {
            panic!("the core's epoll for writers failed: {error}");
        }
        for client in clients.drain(..) {
            self.turn(|shard, _, _| shard.on_writable(client));
        }
    }

    /// Reads one client until its socket is empty or others should have their turn.
    pub(super) fn read(self: &Rc<Self>, ready: Ready) {
        let client = ready.client;
        for _ in 0..RECEIVES_PER_TURN_MAX {
            match self.receive(client) {
                Received::Stop => return,
                Received::All if !ready.ended => return,
                Received::All | Received::More => {}
            }
        }
        self.sockets.borrow_mut().rewatch(client);
    }

    /// One receive call and its turn.
    pub(super) fn receive(self: &Rc<Self>, client: ClientId) -> Received {
        let mut scratch = self.scratch.borrow_mut();
        let result = self.sockets.borrow_mut().receive(client, &mut scratch);
        let received = match result {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Received::All,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Received::More,
            // Closed since it was reported.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return Received::Stop,
            Err(_) => {
                self.turn(|shard, sockets, now| shard.on_end(client, CloseCause::SocketError, now, sockets));
                return Received::Stop;
            }
        };
        if received.bytes > 0 {
            let bytes = scratch.get_mut(..received.bytes).unwrap_or_default();
            if let Received::Stop = self.give(client, bytes) {
                return Received::Stop;
            }
        } else {
            if received.began {
                self.turn(|shard, _, _| shard.on_first_byte(client));
            }
            self.end_failed();
        }
        if let Some(end) = received.end {
            self.end(client, end);
            return Received::Stop;
        }
        if received.more { Received::More } else { Received::All }
    }

    /// A connection ended while it was read.
    pub(super) fn end(self: &Rc<Self>, client: ClientId, end: End) {
        let cause = match end {
            End::Closed => CloseCause::ClientGone,
            End::Failed => CloseCause::TlsFailed,
        };
        self.turn(|shard, sockets, now| shard.on_end(client, cause, now, sockets));
    }

    /// Gives received bytes to the shard and does what it says about the socket.
    pub(super) fn give(self: &Rc<Self>, client: ClientId, bytes: &mut [u8]) -> Received {
        let input = self.turn(|shard, sockets, now| {
            let input = shard.on_bytes(client, bytes, now, sockets);
            // Before the turn ends, which may already resume it.
            if matches!(input, Input::Pause) {
                sockets.unwatch(client);
            }
            input
        });
        match input {
            Input::Continue => return Received::More,
            Input::Gone | Input::Pause => {}
            Input::HandOver(bytes, listener) => {
                let removed = self.sockets.borrow_mut().remove(client);
                if let Some(Removed { socket, tls, told }) = removed {
                    let mut outlets = self.outlets.borrow_mut();
                    outlets.post_control(ControlMail::Handover(Handover {
                        socket,
                        bytes,
                        tls,
                        told,
                        listener,
                    }));
                    outlets.kick();
                }
            }
        }
        Received::Stop
    }
}
