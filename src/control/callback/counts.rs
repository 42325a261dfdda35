//! The books: every callback is in exactly one column at any time.

use std::cell::Cell;

use crate::engine::hook::{Hook, HookTable};

/// What became of the callbacks of one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken so far.
    pub submitted: u64,
    /// Ended with a 2xx; a close callback, with any answer below 502.
    pub success: u64,
    /// Ended with another answer or none, refused ones included.
    pub failed: u64,
    /// Ended while they waited: deadline passed in the queue, not accepted within `close_retry`, gave way to younger ones.
    pub expired: u64,
    /// Being asked at this moment.
    pub in_flight: u64,
    /// Waiting at this moment: for a place, or for the next attempt.
    pub queued: u64,
    /// Of the failed ones, those refused because the queue was full or the breaker open.
    pub overloaded: u64,
    /// Attempts repeated.
    pub retried: u64,
    /// Times a breaker opened.
    pub opened: u64,
    /// Neutral requests sent to tell a server that fails from requests that make it fail.
    pub checked: u64,
}

impl Counts {
    /// The equation that must hold after every step.
    pub fn is_balanced(&self) -> bool {
        self.submitted == self.success + self.failed + self.expired + self.in_flight + self.queued
    }
}

/// The books of all hooks.
pub(super) struct Ledger(HookTable<Cell<Counts>>);

impl Ledger {
    /// Of this many doors.
    pub(super) fn new(doors: usize) -> Ledger {
        Ledger(HookTable::new(doors))
    }

    pub(super) fn counts(&self, hook: Hook) -> Counts {
        self.0.get(hook).map(Cell::get).unwrap_or_default()
    }

    /// Callbacks not completed yet.
    pub(super) fn pending(&self) -> u64 {
        let pending = |page: &Cell<Counts>| page.get().in_flight + page.get().queued;
        self.0.iter().map(|(_, page)| pending(page)).sum()
    }

    pub(super) fn submitted(&self, hook: Hook) {
        self.change(hook, |counts| counts.submitted += 1);
    }

    pub(super) fn success(&self, hook: Hook) {
        self.change(hook, |counts| counts.success += 1);
    }

    pub(super) fn failed(&self, hook: Hook) {
        self.change(hook, |counts| counts.failed += 1);
    }

    pub(super) fn overloaded(&self, hook: Hook) {
        self.change(hook, |counts| counts.overloaded += 1);
    }

    pub(super) fn expired(&self, hook: Hook) {
        self.change(hook, |counts| counts.expired += 1);
    }

    pub(super) fn retried(&self, hook: Hook) {
        self.change(hook, |counts| counts.retried += 1);
    }

    pub(super) fn opened(&self, hook: Hook) {
        self.change(hook, |counts| counts.opened += 1);
    }

    pub(super) fn checked(&self, hook: Hook) {
        self.change(hook, |counts| counts.checked += 1);
    }

    pub(super) fn started(&self, hook: Hook) {
        self.change(hook, |counts| counts.in_flight += 1);
    }

    pub(super) fn stopped(&self, hook: Hook) {
        self.change(hook, |counts| counts.in_flight -= 1);
    }

    pub(super) fn queued(&self, hook: Hook) {
        self.change(hook, |counts| counts.queued += 1);
    }

    pub(super) fn dequeued(&self, hook: Hook) {
        self.change(hook, |counts| counts.queued -= 1);
    }

    fn change(&self, hook: Hook, change: impl FnOnce(&mut Counts)) {
        if let Some(page) = self.0.get(hook) {
            let mut counts = page.get();
            change(&mut counts);
            page.set(counts);
        }
    }
}
