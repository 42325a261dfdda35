//! The one timer of a core. It sleeps until the earliest deadline of the core's wheel, and is woken when an earlier one
//! is armed: an idle core has no timer at all.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

use super::clock::Clock;
use crate::time::Instant;

/// Shared by the task that sleeps and everybody who arms timers.
#[derive(Default)]
pub struct Ticker {
    /// What the task sleeps towards; `None` without a deadline, or while it is awake.
    target: Cell<Option<Instant>>,
    asleep: RefCell<Option<Waker>>,
}

impl Ticker {
    /// Sleeps until `deadline`, or until a call of [`Ticker::note`] with an earlier one.
    pub async fn sleep(&self, deadline: Option<Instant>, clock: &Clock) {
        self.target.set(deadline);
        // Boxed: the runtime's timer is large, and there is one per core.
        let mut timer = deadline.map(|at| Box::pin(monoio::time::sleep_until(clock.to_std(at).into())));
        let mut armed = false;
        poll_fn(|context| {
            if let Some(timer) = &mut timer
                && timer.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            if std::mem::replace(&mut armed, true) && self.asleep.borrow().is_none() {
                return Poll::Ready(());
            }
            *self.asleep.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.asleep.borrow_mut().take();
    }

    /// The earliest deadline is now `deadline`: wakes the sleeper if it would sleep past it.
    pub fn note(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.target.get().is_none_or(|target| deadline < target)
            && let Some(waker) = self.asleep.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
