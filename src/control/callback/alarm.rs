//! The one timer of all callbacks that wait. While nothing waits there is none: an idle process does not tick.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::io::clock;
use monoio::time::Sleep;

/// The alarm never rings twice within this time: how late an expiry or a retry may be.
const PACE: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Alarm {
    /// When to ring next.
    target: Cell<Option<Instant>>,
    rang: Cell<Option<Instant>>,
    task: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Alarm {
    /// Something has to be looked at by `at`.
    pub(super) fn note(&self, at: Instant) {
        let at = self.rang.get().map_or(at, |rang| at.max(rang + PACE));
        if self.target.get().is_none_or(|target| at < target) {
            self.target.set(Some(at));
            self.wake();
        }
    }

    /// Rings for the last time.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    /// Sleeps until the time noted. One task only.
    pub(super) async fn ring(&self) {
        // Boxed: the runtime's timer is large.
        let mut timer: Option<(Instant, Pin<Box<Sleep>>)> = None;
        poll_fn(|context| {
            *self.task.borrow_mut() = Some(context.waker().clone());
            if self.closed.get() {
                return Poll::Ready(());
            }
            let Some(target) = self.target.get() else {
                return Poll::Pending;
            };
            let fresh = || (target, Box::pin(monoio::time::sleep_until(target.into())));
            if timer.as_ref().is_none_or(|(at, _)| *at != target) {
                timer = Some(fresh());
            }
            match &mut timer {
                Some((_, timer)) => timer.as_mut().poll(context),
                None => Poll::Pending,
            }
        })
        .await;
        self.target.set(None);
        self.rang.set(Some(clock::instant()));
    }

    fn wake(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }
}
