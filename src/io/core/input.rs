//! Reading: the core's epoll names the clients that have input; each is read a few times and its bytes go to the shard.

use std::os::fd::AsRawFd;
use std::rc::Rc;

use monoio::net::TcpStream;

use super::Core;
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::io::mail::{ControlMail, Handover};
use crate::io::sockets::Ready;
use crate::io::sys;
use crate::io::tls::End;
use crate::limits::RECEIVES_PER_TURN_MAX;
use crate::shard::Input;

/// Reads all clients, those that have input in turn.
pub(super) async fn read(core: Rc<Core>, ready: TcpStream) {
    let mut clients = Vec::new();
    loop {
        if let Err(error) = ready.readable(false).await {
            panic!("the core's epoll cannot be waited for: {error}");
        }
        core.decongested().await;
        let taken = core.sockets.borrow_mut().take_ready(&mut clients);
        if let Err(error) = taken {
            panic!("the core's epoll failed: {error}");
        }
        for ready in clients.drain(..) {
            core.read(ready);
        }
    }
}

/// What a receive call left.
pub(super) enum Received {
    /// The socket is empty.
    All,
    /// There may be more.
    More,
    /// Do not read this connection any more.
    Stop,
}

impl Core {
    /// From now on the client's input is reported. Clients that are gone are left alone.
    pub(super) fn begin_to_read(self: &Rc<Self>, client: ClientId) {
        let watched = self.sockets.borrow_mut().watch(client);
        if watched.is_err_and(|error| error.kind() != std::io::ErrorKind::NotConnected) {
            self.turn(|shard, sockets, now| shard.on_end(client, CloseCause::SocketError, now, sockets));
        }
    }

    /// Reads one client until its socket is empty or others should have their turn.
    pub(super) fn read(self: &Rc<Self>, ready: Ready) {
        let client = ClientId {
            shard: self.id,
            slot: ready.slot,
            generation: ready.generation,
        };
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
            let input = self.turn(|shard, sockets, now| shard.on_bytes(client, bytes, now, sockets));
            if let Received::Stop = self.follow(input, client) {
                return Received::Stop;
            }
        } else if self.sockets.borrow().has_requests() {
            self.serve_requests();
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

    /// Does what the shard said about the socket.
    pub(super) fn follow(&self, input: Input, client: ClientId) -> Received {
        match input {
            Input::Continue => Received::More,
            Input::Gone => Received::Stop,
            Input::Pause => {
                self.sockets.borrow_mut().unwatch(client);
                Received::Stop
            }
            Input::HandOver(bytes) => {
                let stream = self.sockets.borrow().stream(client);
                // A descriptor whose duplicate lives on would stay watched when it is closed.
                self.sockets.borrow_mut().unwatch(client);
                let (tls, told) = self.sockets.borrow_mut().remove(client);
                let Some(stream) = stream else {
                    return Received::Stop;
                };
                // The runtime keeps its own reference to the descriptor, so the control core gets a second one.
                match sys::duplicate(stream.as_raw_fd()) {
                    Ok(socket) => {
                        let mut outlets = self.outlets.borrow_mut();
                        outlets.post_control(ControlMail::Handover(Handover {
                            socket,
                            bytes,
                            tls,
                            told,
                        }));
                        outlets.kick();
                    }
                    Err(error) => tracing::warn!(%error, "an API connection could not be handed over"),
                }
                Received::Stop
            }
        }
    }
}
