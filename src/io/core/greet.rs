//! A connection between accept and its slot: its PROXY header (`header.rs`), its address's place, refusals.
//!
//! Who is refused here has not said anything yet, so the answer is the same for all: [`BUSY`], and a moment to read it (closing
//! with unread input would reset the connection under the answer).
//!
//! Descriptors: accept fails with EMFILE while the queue stays full, so a loop would spin and clients would hang. Every core keeps
//! one descriptor in [`Reserve`]: it is closed, one connection is accepted in its place, answered and closed, and the reserve
//! opened again.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::{Core, Via, header};
use crate::io::mail::ControlMail;
use crate::io::sys;
use crate::limits::LINGERING_MAX;
use crate::metrics::Metric;

/// What a refused connection is told.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Time a refused connection has for reading that.
const LINGER: Duration = Duration::from_millis(500);

/// What a core needs before its connections have slots.
#[derive(Default)]
pub struct Greeting {
    /// Connections whose PROXY header is awaited.
    pub(super) waiting: Cell<usize>,
    pub(super) notes: header::Notes,
    lingering: Cell<usize>,
    reserve: Reserve,
}

/// A descriptor to give away when there is no other.
pub struct Reserve(RefCell<Option<File>>);

impl Default for Reserve {
    fn default() -> Self {
        Self(RefCell::new(open()))
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether an accept failed for lack of descriptors, of the process or of the machine.
pub fn is_descriptor_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Core {
    /// A connection was accepted.
    pub(super) fn greet(self: &Rc<Self>, stream: std::net::TcpStream, peer: IpAddr, via: Via) -> io::Result<()> {
        let (config, expects_header) = {
            let sockets = self.sockets.borrow();
            (
                sockets.doorman().config().clone(),
                sockets.doorman().expects_header(peer),
            )
        };
        limit_silence(&stream, config.tcp_user_timeout);
        let _ = stream.set_nodelay(true);
        if !expects_header {
            self.let_in(stream.into(), peer, None, via)?;
        } else if self.greeting.waiting.get() >= config.handshakes_max.div_ceil(config.workers.max(1)) {
            self.sockets.borrow().doorman().count(Metric::RefusedHandshakes);
            self.refuse(stream.into(), via.secure);
        } else {
            let stream = TcpStream::from_std(stream)?;
            self.greeting.waiting.set(self.greeting.waiting.get() + 1);
            let core = self.clone();
            monoio::spawn(async move { header::await_header(core, stream, peer, via, &config).await });
        }
        Ok(())
    }

    /// The connection may get a slot, if its address has a place left.
    pub(super) fn let_in(
        self: &Rc<Self>,
        socket: OwnedFd,
        peer: IpAddr,
        told: Option<IpAddr>,
        via: Via,
    ) -> io::Result<()> {
        let arrival = self.sockets.borrow().doorman().arrive(peer, told);
        match arrival {
            Some(arrival) => {
                let tls = if via.secure { Some(self.session()?) } else { None };
                if let Some((socket, secure)) = self.adopt(socket, Vec::new(), tls, (via.listener, arrival)) {
                    self.refuse(socket, secure);
                }
            }
            None => self.refuse(socket, via.secure),
        }
        Ok(())
    }

    /// Tells a connection to come back later; one that expects TLS could not read it and is just closed.
    pub(super) fn refuse(self: &Rc<Self>, socket: OwnedFd, secure: bool) {
        if secure {
            return;
        }
        let _ = sys::send(socket.as_fd(), &[IoSlice::new(BUSY)]);
        sys::finish(socket.as_fd());
        let lingering = self.greeting.lingering.get();
        if lingering < LINGERING_MAX {
            self.greeting.lingering.set(lingering + 1);
            let core = self.clone();
            monoio::spawn(async move {
                monoio::time::sleep(LINGER).await;
                discard_input(socket.as_fd());
                core.greeting.lingering.set(core.greeting.lingering.get() - 1);
            });
        }
    }

    /// There is no descriptor for the next connection: refuses it with the one kept for that. False if none waits, an
    /// error if that does not help. The control core gives up the descriptors it does not need at the moment, for those
    /// that come after.
    pub(super) fn refuse_with_reserve(&self, listener: &std::net::TcpListener, secure: bool) -> io::Result<bool> {
        let mut outlets = self.outlets.borrow_mut();
        outlets.post_control(ControlMail::DescriptorsShort);
        outlets.kick();
        drop(outlets);
        let reserve = &self.greeting.reserve.0;
        // Without a reserve the next accept fails again, and says so.
        drop(reserve.borrow_mut().take());
        let accepted = listener.accept();
        if let Ok((stream, _)) = &accepted {
            if !secure {
                let _ = sys::send(stream.as_fd(), &[IoSlice::new(BUSY)]);
                sys::finish(stream.as_fd());
                discard_input(stream.as_fd());
            }
            self.sockets.borrow().doorman().count(Metric::RefusedDescriptors);
        }
        // Closes the connection, whose descriptor becomes the reserve again.
        let result = match accepted.map(drop) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        };
        *reserve.borrow_mut() = open();
        result
    }
}

/// Sets how long sent bytes may stay unacknowledged; zero leaves it to the system.
fn limit_silence(stream: &std::net::TcpStream, limit: Duration) {
    if !limit.is_zero() {
        // Without it the connection only lives longer.
        let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit));
    }
}

/// Throws away what has arrived, up to a bound.
fn discard_input(socket: BorrowedFd<'_>) {
    let mut scratch = [0; 4096];
    for _ in 0..16 {
        if !matches!(sys::recv(socket, &mut scratch), Ok(1..)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_is_told_when_to_come_again() {
        let busy = String::from_utf8_lossy(BUSY);
        assert!(busy.contains(&format!("\r\nRetry-After: {}\r\n", crate::limits::RETRY_AFTER)));
    }
    use std::net::{TcpListener, TcpStream as StdStream};

    fn pair() -> (StdStream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn accepted_sockets_give_up_on_silence() {
        let (_client, server) = pair();
        let socket = socket2::SockRef::from(&server);
        limit_silence(&server, Duration::ZERO);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        limit_silence(&server, Duration::from_secs(30));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }
}
