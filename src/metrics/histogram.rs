//! Distribution of a latency in fixed buckets that double: 64 µs, 128 µs … 33.6 s, and everything above.
//!
//! Powers of two because the bucket of a value is then one instruction, and a factor of two is what an operator can act on.
//! One writer, like every number of a core.

use super::Cell;
use std::time::Duration;

/// Exponent of the smallest bound in microseconds: 2^6 = 64 µs, below what a loopback call takes.
const FIRST_EXPONENT: u32 = 6;
/// Number of bounds; the last is 2^25 µs = 33.6 s, above every deadline of the defaults.
const BOUNDS: usize = 20;

/// Counts of observed durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One per bound, not cumulated; the last one is "above every bound".
    buckets: [Cell; BOUNDS + 1],
    sum_micros: Cell,
}

/// A copy to add up over cores and to print.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    buckets: [u64; BOUNDS + 1],
    sum_micros: u64,
}

impl Histogram {
    /// Counts one duration, in microseconds rounded down.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.add(1);
        }
        self.sum_micros.add(micros);
    }

    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        for (sum, cell) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(cell.value());
        }
        snapshot.sum_micros = snapshot.sum_micros.wrapping_add(self.sum_micros.value());
    }
}

impl Snapshot {
    /// `(bound in seconds, how many were at or below it)`; without the last bucket, which is [`Snapshot::count`].
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = (FIRST_EXPONENT..).map(|exponent| 2f64.powi(exponent as i32) / 1e6);
        let sums = self.buckets.iter().scan(0u64, |sum, count| {
            *sum = sum.wrapping_add(*count);
            Some(*sum)
        });
        bounds.zip(sums).take(BOUNDS)
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }
}

/// Index of the smallest bound that is not below `micros`; bounds are inclusive, as `le` says.
fn bucket(micros: u64) -> usize {
    let exponent = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (exponent.saturating_sub(FIRST_EXPONENT) as usize).min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_agree_with_a_plain_search() {
        let slow = |micros: u64| (0..BOUNDS).find(|i| micros <= 64u64 << i).unwrap_or(BOUNDS);
        let edges = (0..63).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for micros in edges.chain([u64::MAX]) {
            assert_eq!(bucket(micros), slow(micros), "{micros}");
        }
    }

    #[test]
    fn sums_and_cumulates() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.observe(Duration::from_micros(64));
        a.observe(Duration::from_micros(65));
        b.observe(Duration::from_secs(100));
        let mut snapshot = Snapshot::default();
        a.add_to(&mut snapshot);
        b.add_to(&mut snapshot);
        let rows: Vec<_> = snapshot.cumulated().collect();
        assert_eq!(
            (rows[0], rows[1], rows[19]),
            ((0.000064, 1), (0.000128, 2), (33.554432, 2))
        );
        assert_eq!(
            (rows.len(), snapshot.count(), snapshot.sum_seconds()),
            (20, 3, 100.000129)
        );
        a.observe(Duration::MAX);
    }
}
