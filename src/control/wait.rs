//! Questions of the control core that wait for their answer: one ticket, one waiting task, one value. All on one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::engine::ids::Ticket;
use crate::engine::receipt::Tickets;

/// Everybody who waits for a `T`.
pub struct Waits<T>(Rc<Inner<T>>);

struct Inner<T> {
    open: RefCell<HashMap<Ticket, Rc<Slot<T>>, RandomState>>,
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

/// One waiting task. Dropping it forgets the question; an answer that comes later is dropped.
pub struct Wait<T> {
    /// What to ask with.
    pub ticket: Ticket,
    slot: Rc<Slot<T>>,
    inner: Rc<Inner<T>>,
}

impl<T> Default for Waits<T> {
    fn default() -> Self {
        Self(Rc::new(Inner {
            open: RefCell::default(),
        }))
    }
}

impl<T> Waits<T> {
    /// Starts to wait under a fresh ticket.
    pub fn open(&self, tickets: &RefCell<Tickets>) -> Wait<T> {
        let ticket = tickets.borrow_mut().issue();
        let slot = Rc::new(Slot {
            value: Cell::new(None),
            waker: Cell::new(None),
        });
        self.0.open.borrow_mut().insert(ticket, slot.clone());
        Wait {
            ticket,
            slot,
            inner: self.0.clone(),
        }
    }

    /// Gives the waiting task its value; nothing happens if nobody waits (any more).
    pub fn complete(&self, ticket: Ticket, value: T) {
        if let Some(slot) = self.0.open.borrow_mut().remove(&ticket) {
            slot.value.set(Some(value));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.open.borrow().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.slot.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        self.inner.open.borrow_mut().remove(&self.ticket);
    }
}

/// One task at a time, in the order of asking.
#[derive(Default)]
pub struct Turns {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// A turn; it ends when this is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn.
    pub async fn take(&self) -> Turn<'_> {
        std::future::poll_fn(|context| {
            if !self.taken.replace(true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push_back(context.waker().clone());
            Poll::Pending
        })
        .await;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        let next = self.0.waiting.borrow_mut().pop_front();
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

/// Waits until a number of tasks have ended.
#[derive(Clone)]
pub struct Countdown(Rc<CountdownInner>);

struct CountdownInner {
    left: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Countdown {
    /// `left` tasks are to end.
    pub fn new(left: usize) -> Self {
        Self(Rc::new(CountdownInner {
            left: Cell::new(left),
            waker: Cell::new(None),
        }))
    }

    /// One has ended.
    pub fn count(&self) {
        self.0.left.set(self.0.left.get().saturating_sub(1));
        if self.0.left.get() == 0
            && let Some(waker) = self.0.waker.take()
        {
            waker.wake();
        }
    }

    /// Waits for the last one.
    pub async fn zero(&self) {
        std::future::poll_fn(|context| {
            if self.0.left.get() == 0 {
                return Poll::Ready(());
            }
            self.0.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
