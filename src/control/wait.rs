//! Callers of the [`Desk`](crate::engine::desk::Desk) that wait for their answer: one number, one waiting task, one value. All
//! on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::engine::desk::{Caller, Told};

/// Everybody who waits.
#[derive(Clone, Default)]
pub struct Callers(Rc<Inner>);

#[derive(Default)]
struct Inner {
    open: RefCell<HashMap<Caller, Rc<Slot>, RandomState>>,
    last: Cell<u64>,
}

#[derive(Default)]
struct Slot {
    value: Cell<Option<Told>>,
    waker: Cell<Option<Waker>>,
}

/// One waiting task. An answer that comes after it was dropped is dropped too.
pub struct Wait {
    /// Whom to answer.
    pub caller: Caller,
    slot: Rc<Slot>,
    callers: Callers,
}

impl Callers {
    /// Starts to wait.
    pub fn open(&self) -> Wait {
        let caller = Caller(self.0.last.get() + 1);
        self.0.last.set(caller.0);
        let slot = Rc::new(Slot::default());
        self.0.open.borrow_mut().insert(caller, slot.clone());
        Wait {
            caller,
            slot,
            callers: self.clone(),
        }
    }

    /// Gives a waiting task its answer; nothing happens if it waits no more.
    pub fn answer(&self, caller: Caller, told: Told) {
        if let Some(slot) = self.0.open.borrow_mut().remove(&caller) {
            slot.value.set(Some(told));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Future for Wait {
    type Output = Told;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Told> {
        match self.slot.value.take() {
            Some(told) => Poll::Ready(told),
            None => {
                self.slot.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.callers.0.open.borrow_mut().remove(&self.caller);
    }
}
