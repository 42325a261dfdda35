//! Callers of the [`Desk`](crate::engine::desk::Desk), and others, that wait for their answer: one number, one waiting task,
//! one value. All on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::engine::desk::{Caller, Told};

/// Everybody who waits for a `T`.
pub struct Callers<T = Told>(Rc<Inner<T>>);

struct Inner<T> {
    open: RefCell<HashMap<Caller, Rc<Slot<T>>, RandomState>>,
    last: Cell<u64>,
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

/// One waiting task. An answer that comes after it was dropped is dropped too.
pub struct Wait<T = Told> {
    /// Whom to answer.
    pub caller: Caller,
    slot: Rc<Slot<T>>,
    callers: Rc<Inner<T>>,
}

impl<T> Default for Callers<T> {
    fn default() -> Self {
        Self(Rc::new(Inner {
            open: RefCell::default(),
            last: Cell::new(0),
        }))
    }
}

impl<T> Callers<T> {
    /// Starts to wait.
    pub fn open(&self) -> Wait<T> {
        let caller = Caller(self.0.last.get() + 1);
        self.0.last.set(caller.0);
        let slot = Rc::new(Slot {
            value: Cell::new(None),
            waker: Cell::new(None),
        });
        self.0.open.borrow_mut().insert(caller, slot.clone());
        Wait {
            caller,
            slot,
            callers: self.0.clone(),
        }
    }

    /// Gives a waiting task its answer; nothing happens if it waits no more.
    pub fn answer(&self, caller: Caller, told: T) {
        if let Some(slot) = self.0.open.borrow_mut().remove(&caller) {
            slot.value.set(Some(told));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl<T> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.slot.value.take() {
            Some(told) => Poll::Ready(told),
            None => {
                self.slot.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        self.callers.open.borrow_mut().remove(&self.caller);
    }
}
