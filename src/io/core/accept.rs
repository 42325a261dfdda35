//! Listening: connections are taken from the listening sockets a few per turn, plain or TLS.

use std::os::fd::AsFd;
use std::rc::Rc;

use monoio::net::TcpStream;

use super::{Core, greet};
use crate::engine::mailbox::Wake;
use crate::io::kernel::Kernel;
use crate::io::sys;
use crate::io::tls::Session;
use crate::io::wake::Waker;
use crate::limits::{ACCEPT_PAUSE, SOCKET_UNSENT_BYTES_MAX};
use crate::protocol::ListenerId;

/// Connections taken from one listening socket before the others get their turn: each costs a handshake.
const ACCEPTS_PER_TURN: usize = 16;

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// By which listener.
    pub listener: ListenerId,
    /// With TLS.
    pub secure: bool,
}

/// Accepts until the server stops. The listening sockets are not given to the ring: see [`sys::watch`].
pub(super) async fn accept(core: Rc<Core>, listeners: Vec<std::net::TcpListener>, ready: TcpStream, via: Via) {
    while !core.stopped.get() {
        if ready.readable(false).await.is_err() || core.stopped.get() {
            return;
        }
        for listener in &listeners {
            if let Err(error) = core.accept_some(listener, via) {
                tracing::warn!(%error, "accept failed");
                // Trying again at once would spin while descriptors or memory are short.
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Core {
    /// Takes connections that wait, a bounded number per turn.
    pub(super) fn accept_some(self: &Rc<Self>, listener: &std::net::TcpListener, via: Via) -> std::io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.accept() {
                Ok((stream, peer)) => self.greet(stream, peer.ip(), via)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                // The peer gave up while it waited.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if greet::is_descriptor_shortage(&error) => {
                    if !self.refuse_with_reserve(listener, via.secure)? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a new TLS connection begins with.
    pub(super) fn session(&self) -> std::io::Result<Box<Session>> {
        let identity = self.identity.borrow().clone();
        let identity = identity.ok_or(std::io::ErrorKind::Unsupported)?;
        Ok(Box::new(Session::new(identity)))
    }

    /// Begins to accept. Errors end the core: nothing would ever be served.
    pub(super) fn listen(self: &Rc<Self>, listeners: Vec<std::net::TcpListener>, via: Via) {
        if listeners.is_empty() {
            return;
        }
        for listener in &listeners {
            // What is accepted inherits it. Without it a stuck client only costs the kernel more.
            let _ = socket2::SockRef::from(listener).set_tcp_notsent_lowat(SOCKET_UNSENT_BYTES_MAX);
        }
        let watch = || {
            let stop = Waker::new()?;
            let mut fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
            fds.push(stop.as_fd());
            let ready = TcpStream::from_std(std::net::TcpStream::from(sys::watch(&fds)?))?;
            Ok::<_, std::io::Error>((stop, ready))
        };
        match watch() {
            Ok((stop, ready)) => {
                self.accepting.borrow_mut().push(stop);
                monoio::spawn(accept(self.clone(), listeners, ready, via));
            }
            Err(error) => panic!("the listening sockets cannot be used: {error}"),
        }
    }
}

impl<K: Kernel> Core<K> {
    /// Lets go of the listening sockets: the accepting tasks drop them. They are closed then, unless another process has them
    /// too (`io/takeover.rs`); therefore no `shutdown`, which would end them there as well.
    pub(super) fn stop_listening(&self) {
        self.stopped.set(true);
        self.accepting.borrow_mut().drain(..).for_each(|stop| stop.wake());
    }
}
