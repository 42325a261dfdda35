//! What a shard tells the operator about requests at its doors that went wrong: one line a minute of each kind, with what to
//! do. Clients see what they always saw; every one of them is counted in `/metrics`. Called by `handshake.rs`.

use super::Shard;
use crate::engine::ack_data;
use crate::metrics::Metric;
use crate::protocol::rainbow::connect::Refusal;
use crate::time::{Instant, Seldom};

/// When each kind was mentioned last.
#[derive(Debug, Default)]
pub(super) struct Notes {
    anonymous: Seldom,
    too_long: Seldom,
    withheld: Seldom,
    pub(super) ack_data: ack_data::Notes,
}

impl Shard {
    /// A request was refused before anybody was asked about it.
    pub(super) fn note_refusal(&mut self, refusal: Refusal, now: Instant) {
        match refusal {
            Refusal::Anonymous => {
                self.metrics.add(Metric::RefusedAnonymous, 1);
                if let Some(more) = self.notes.anonymous.happened(now) {
                    tracing::warn!(
                        status = 401,
                        more,
                        "a client names no device id or platform: it must send X-DEVICEID and X-CLIENT-OS, as headers or, \
                         spelled exactly so, as query parameters"
                    );
                }
            }
            Refusal::TooLong => {
                self.metrics.add(Metric::RefusedHead, 1);
                if let Some(more) = self.notes.too_long.happened(now) {
                    tracing::warn!(
                        status = 431,
                        more,
                        connect_head_max = self.config.connect_head_max,
                        "a client's query and headers are too long to ask connect_url about it: if the backend takes more, \
                         raise connect_head_max"
                    );
                }
            }
            _ => {}
        }
    }

    /// A client used a name for a query parameter that it may not claim as a header.
    pub(super) fn note_withheld(&mut self, parameter: &str, now: Instant) {
        self.metrics.add(Metric::ParametersWithheld, 1);
        if let Some(more) = self.notes.withheld.happened(now) {
            tracing::warn!(
                parameter,
                more,
                "a query parameter was not made a header for connect_url, only passed in the query: if clients may set this \
                 header, list it in query_headers"
            );
        }
    }
}
