//! Close callbacks between two attempts. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use super::lane::Job;
use crate::engine::hook::{Hook, HookDoor};

/// By door and order of submission, and by the end of their pause. An entry of `due` whose job has been taken otherwise is skipped
/// when its time comes.
#[derive(Default)]
pub(super) struct Waiting {
    jobs: BTreeMap<(HookDoor, u64), Job>,
    due: BinaryHeap<Reverse<(Instant, HookDoor, u64)>>,
}

impl Waiting {
    pub(super) fn park(&mut self, due: Instant, job: Job) {
        let (door, serial) = (job.request.hook.door, job.serial);
        self.due.push(Reverse((due, door, serial)));
        self.jobs.insert((door, serial), job);
    }

    /// One whose pause is over, in the order in which the pauses end.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Job> {
        while let Some(&Reverse((due, door, serial))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            if let Some(job) = self.jobs.remove(&(door, serial)) {
                return Some(job);
            }
        }
        None
    }

    /// When to call [`Waiting::take_due`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// Of those of this hook's door the one submitted first.
    pub(super) fn take_oldest(&mut self, hook: Hook) -> Option<Job> {
        let of_door = (hook.door, 0)..=(hook.door, u64::MAX);
        let oldest = *self.jobs.range(of_door).next()?.0;
        self.jobs.remove(&oldest)
    }
}
