//! Random numbers for nonces and jitter. Not for secrets: a nonce only has to differ.

use std::cell::Cell;

/// SplitMix64 (Steele, Lea, Flood 2014), seeded by the system.
pub(super) struct Random(Cell<u64>);

impl Default for Random {
    fn default() -> Random {
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_err() {
            tracing::warn!("no random seed from the system: nonces are predictable");
        }
        Random(Cell::new(u64::from_le_bytes(seed)))
    }
}

impl Random {
    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0.0..1.0
    pub(super) fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
