//! How a core sleeps and is woken: an eventfd that the core polls on its ring (or epoll).
//!
//! The runtime's run queue starves timers and sockets while it is not empty, and has no yield that gets past that. Raising
//! the own eventfd and waiting for it does: it is the yield of long jobs ([`Sleeper::yield_now`]).

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use monoio::net::TcpStream;

use super::sys;
use crate::engine::mailbox::Wake;

/// Wakes one core, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker and, for the core's own thread, the descriptor its [`Sleeper`] is made of.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(sys::eventfd()?)))
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        sys::raise(&self.0);
    }
}

/// The sleeping side; lives on the core's thread.
pub struct Sleeper {
    waker: Waker,
    /// The eventfd in the only runtime type that offers readiness on any descriptor; nothing else of it is used.
    event: TcpStream,
}

impl Sleeper {
    /// Must be called inside the core's runtime.
    pub fn new(waker: Waker) -> io::Result<Self> {
        let event = TcpStream::from_std(StdTcpStream::from(sys::duplicate(waker.0.as_raw_fd())?))?;
        Ok(Self { waker, event })
    }

    /// Waits until the core is woken; a wake-up before the call counts.
    pub async fn sleep(&self) {
        // An error here would mean that the ring itself is broken; the next operation will say so.
        let _ = self.event.readable(false).await;
        sys::lower(self.event.as_raw_fd());
    }

    /// Lets timers, sockets and other cores have their turn. Costs about 1 µs.
    pub async fn yield_now(&self) {
        self.waker.wake();
        self.sleep().await;
    }
}
