//! Close callbacks between two attempts. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use super::lane::Job;

/// By order of submission, and by the end of their pause. An entry of `due` whose job has been taken otherwise is skipped
/// when its time comes.
#[derive(Default)]
pub(super) struct Waiting {
    jobs: BTreeMap<u64, Job>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Waiting {
    pub(super) fn park(&mut self, due: Instant, job: Job) {
        self.due.push(Reverse((due, job.serial)));
        self.jobs.insert(job.serial, job);
    }

    /// One whose pause is over, in the order in which the pauses end.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Job> {
        while let Some(&Reverse((due, serial))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            if let Some(job) = self.jobs.remove(&serial) {
                return Some(job);
            }
        }
        None
    }

    /// When to call [`Waiting::take_due`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// The one submitted first.
    pub(super) fn take_oldest(&mut self) -> Option<Job> {
        self.jobs.pop_first().map(|(_, job)| job)
    }
}
