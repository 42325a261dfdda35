//! How a core sleeps and is woken: by its bell. Other threads raise the core's eventfd, which a task of the core waits for
//! on the ring (or epoll) to ring the bell; a core on the same thread rings it without a system call.
//!
//! The runtime's run queue starves timers and sockets while it is not empty, and has no yield that gets past that. Raising
//! the own eventfd and waiting for it does: it is the yield of long jobs ([`Sleeper::yield_now`]).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};

use monoio::net::TcpStream;

use super::sys;
use crate::engine::mailbox::Wake;

thread_local! {
    /// The cores of this thread: eventfd and bell. One, or two where the control core has no thread of its own.
    static BELLS: RefCell<Vec<(RawFd, Rc<Bell>)>> = const { RefCell::new(Vec::new()) };
}

/// Wakes one core, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A waker and, for the core's own thread, the descriptor its [`Sleeper`] is made of.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(sys::eventfd()?)))
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        let fd = self.0.as_raw_fd();
        let bell = BELLS.with_borrow(|bells| bells.iter().find(|(of, _)| *of == fd).map(|(_, bell)| bell.clone()));
        match bell {
            Some(bell) => bell.ring(),
            None => sys::raise(self.as_fd()),
        }
    }
}

/// What the mailbox loop of a core waits for.
#[derive(Default)]
struct Bell {
    rung: Cell<bool>,
    asleep: Cell<Option<task::Waker>>,
}

impl Bell {
    fn ring(&self) {
        self.rung.set(true);
        if let Some(asleep) = self.asleep.take() {
            asleep.wake();
        }
    }

    async fn rung(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            self.asleep.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// The sleeping side; lives on the core's thread.
pub struct Sleeper {
    waker: Waker,
    bell: Rc<Bell>,
}

impl Sleeper {
    /// Must be called inside the core's runtime.
    pub fn new(waker: Waker) -> io::Result<Self> {
        // The eventfd in the only runtime type that offers readiness on any descriptor; nothing else of it is used.
        let event = TcpStream::from_std(StdTcpStream::from(waker.0.try_clone()?))?;
        let bell = Rc::new(Bell::default());
        BELLS.with_borrow_mut(|bells| bells.push((waker.0.as_raw_fd(), bell.clone())));
        monoio::spawn(listen(event, bell.clone()));
        Ok(Self { waker, bell })
    }

    /// No other core has started on this thread.
    pub fn is_alone(&self) -> bool {
        BELLS.with_borrow(|bells| bells.len() == 1)
    }

    /// Another core of this thread was woken and has not had its turn yet.
    pub fn neighbour_waits(&self) -> bool {
        let waits = |(_, bell): &(RawFd, Rc<Bell>)| bell.rung.get() && !Rc::ptr_eq(bell, &self.bell);
        BELLS.with_borrow(|bells| bells.iter().any(waits))
    }

    /// Waits until the core is woken; a wake-up before the call counts.
    pub async fn sleep(&self) {
        self.bell.rung().await;
    }

    /// Lets timers, sockets and other cores have their turn. Costs about 1 µs.
    pub async fn yield_now(&self) {
        self.bell.rung.set(false);
        sys::raise(self.waker.as_fd());
        self.sleep().await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        BELLS.with_borrow_mut(|bells| bells.retain(|(_, bell)| !Rc::ptr_eq(bell, &self.bell)));
    }
}

/// Rings the bell for other threads.
async fn listen(event: TcpStream, bell: Rc<Bell>) {
    loop {
        // An error here would mean that the ring itself is broken; the next operation will say so.
        let _ = event.readable(false).await;
        sys::lower(sys::descriptor(&event));
        bell.ring();
    }
}
