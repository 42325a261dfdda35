//! Data that clients send along with an acknowledgement, on its way to the caller of the publish.
//!
//! Clients and peers choose how much that is, and it is kept until the publish is answered: for each publish one piece in every
//! worker with members, and two where they are put together ([`super::receipt`]). So a piece has a bound (`ack_data_max`), and is
//! charged to the budget while it is kept. What goes beyond either is left out, as if the client had sent none: the
//! acknowledgement counts all the same, and data of another member may take the place. The operator is told.
//!
//! Callers: sessions for what clients send, `control` for what peers answer and for the answer itself.

use bytes::Bytes;

use crate::budget::{self, CHUNK, Rank, Use};
use crate::metrics::{CoreMetrics, Metric};
use crate::time::{Instant, Seldom};

const ANSWERS: usize = Use::Answers as usize;

/// Why data is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is longer than `ack_data_max`.
    TooLong,
    /// Memory is short, and it is not small.
    MemoryShort,
}

/// Whether so many bytes may be passed on; at most `max` ever are.
pub fn check(len: usize, max: usize) -> Result<(), LeftOut> {
    if len > max {
        Err(LeftOut::TooLong)
    } else if len >= CHUNK && budget::is_short(Rank::Answer) {
        Err(LeftOut::MemoryShort)
    } else {
        Ok(())
    }
}

/// What is kept of `data`, if it may be passed on.
pub fn keep(data: impl AsRef<[u8]> + Into<Vec<u8>>, max: usize) -> Result<Bytes, LeftOut> {
    check(data.as_ref().len(), max)?;
    Ok(budget::hold::<ANSWERS>(data.into()))
}

/// When each reason was mentioned last.
#[derive(Debug, Default)]
pub struct Notes {
    too_long: Seldom,
    memory_short: Seldom,
}

impl Notes {
    /// Data of `bytes` bytes was left out: counts it, and says so now and then.
    pub fn left_out(&mut self, why: LeftOut, bytes: usize, max: usize, metrics: &CoreMetrics, now: Instant) {
        match why {
            LeftOut::TooLong => {
                metrics.add(Metric::AckDataTooLong, 1);
                if let Some(more) = self.too_long.happened(now) {
                    tracing::warn!(
                        bytes,
                        ack_data_max = max,
                        more,
                        "the data of an acknowledgement was left out of the answer to /send/, because it is longer than \
                         ack_data_max; the acknowledgement counts: if clients have to answer with so much, raise it"
                    );
                }
            }
            LeftOut::MemoryShort => {
                metrics.add(Metric::AckDataMemory, 1);
                if let Some(more) = self.memory_short.happened(now) {
                    tracing::warn!(
                        bytes,
                        more,
                        "the data of an acknowledgement was left out of the answer to /send/, because memory is short \
                         (memory_max); the acknowledgement counts"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small pieces: what is charged belongs to the tests of the budget.
    #[test]
    fn what_is_within_the_bound_is_kept_as_it_is() {
        for len in [1, 100, CHUNK - 1] {
            let data = vec![7; len];
            assert_eq!(keep(&data[..], len).as_deref(), Ok(&data[..]));
            assert_eq!(keep(data, len - 1), Err(LeftOut::TooLong));
        }
        assert_eq!(keep(&[][..], 0).as_deref(), Ok(&[][..]));
        assert_eq!(keep(Bytes::from_static(b"xyz"), 2), Err(LeftOut::TooLong));
    }
}
