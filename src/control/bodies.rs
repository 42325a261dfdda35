//! The memory that request bodies take while they are received, all connections together. A body is held before its signature
//! can be checked, which covers it, so this bounds what callers without a secret can make the server hold. Caller: `http.rs`.

use std::cell::Cell;

use crate::budget::{CHUNK, Claim, Rank, Use, is_short};

/// Bytes of all bodies being received.
#[derive(Debug, Default)]
pub struct Bodies(Cell<usize>);

/// What one of them takes; given back when dropped.
#[derive(Debug)]
pub struct Share<'a> {
    all: &'a Bodies,
    own: usize,
    claim: Claim,
}

impl Bodies {
    /// A body begins.
    pub fn begin(&self) -> Share<'_> {
        Share {
            all: self,
            own: 0,
            claim: Claim::new(Use::Bodies),
        }
    }
}

impl Share<'_> {
    /// The body has `bytes` by now. False: with it all are beyond `most`, which it may be if it is the only one; or memory is
    /// short.
    #[must_use]
    pub fn grow(&mut self, bytes: usize, most: usize) -> bool {
        let others = self.all.0.get().saturating_sub(self.own);
        self.own = bytes;
        self.all.0.set(others + bytes);
        self.claim.set(bytes);
        (others == 0 || others + bytes <= most) && (bytes < CHUNK || !is_short(Rank::Stranger))
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get().saturating_sub(self.own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_bounded_and_one_alone_is_not() {
        let all = Bodies::default();
        let (mut one, mut other) = (all.begin(), all.begin());
        assert!(one.grow(1000, 100), "alone");
        assert!(other.grow(0, 1000));
        assert!(!other.grow(1, 1000));
        drop(one);
        assert!(other.grow(500, 100), "alone now");
        let mut third = all.begin();
        assert!(third.grow(500, 1000));
        assert!(!third.grow(501, 1000));
        drop((other, third));
        assert_eq!(all.0.get(), 0);
    }
}
