//! Signatures this server has made for others. One that comes back was made for a peer, which plays it back as if it were a
//! caller: it is refused. Nothing has to be remembered for that, since the nonce of a relayed request says whose it is:
//! 32 random bits, and a check of them with the timestamp that only this process can make.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// Makes nonces and knows them again.
#[derive(Default)]
pub(super) struct OwnNonces(RandomState);

impl OwnNonces {
    /// A nonce for a request signed at `unix_seconds`.
    pub(super) fn make(&self, unix_seconds: u64, random: u64) -> u64 {
        let random = random >> 32;
        random << 32 | self.check(unix_seconds, random)
    }

    /// Whether [`OwnNonces::make`] made it. Of foreign ones, one in 2³² is taken for ours.
    pub(super) fn knows(&self, unix_seconds: u64, nonce: u64) -> bool {
        nonce & u64::from(u32::MAX) == self.check(unix_seconds, nonce >> 32)
    }

    fn check(&self, unix_seconds: u64, random: u64) -> u64 {
        self.0.hash_one((unix_seconds, random)) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_again_and_others_are_not() {
        let (ours, theirs) = (OwnNonces::default(), OwnNonces::default());
        for random in (0..1000).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let nonce = ours.make(1_420_000_000, random);
            assert!(ours.knows(1_420_000_000, nonce));
            assert!(
                !ours.knows(1_420_000_001, nonce),
                "with another timestamp it is no signature of ours"
            );
            assert!(!ours.knows(1_420_000_000, theirs.make(1_420_000_000, random)));
        }
        assert!((1000..=99_999).all(|nonce| !ours.knows(1_420_000_000, nonce) || nonce >> 32 > 0));
    }
}
