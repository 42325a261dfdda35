//! What a shard tells the operator about requests at its doors that went wrong: one line a minute of each kind, with what to
//! do. Clients see what they always saw; every one of them is counted in `/metrics`. The doors say what is to be noted.

use super::Shard;
use crate::engine::ack_data;
use crate::metrics::Metric;
use crate::protocol::Note;
use crate::time::{Instant, Seldom};

/// When each kind was mentioned last: a handful.
#[derive(Debug, Default)]
pub(super) struct Notes {
    kinds: Vec<(Metric, Seldom)>,
    pub(super) ack_data: ack_data::Notes,
}

impl Shard {
    /// Counts a case, and mentions it if none of its kind was mentioned lately.
    pub(super) fn note(&mut self, note: &Note, now: Instant) {
        self.metrics.add(note.metric, 1);
        if let Some(more) = self.notes.seldom(note.metric).happened(now) {
            (note.say)(&note.detail, more, &self.config);
        }
    }
}

impl Notes {
    fn seldom(&mut self, kind: Metric) -> &mut Seldom {
        let at = self.kinds.iter().position(|(known, _)| *known == kind);
        let at = at.unwrap_or_else(|| {
            self.kinds.push((kind, Seldom::default()));
            self.kinds.len() - 1
        });
        &mut self.kinds[at].1
    }
}
