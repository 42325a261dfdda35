//! Cuts the slices of one write into records. Caller: `session.rs`.

use std::io::IoSlice;

/// Plaintext of one record (RFC 8446 §5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// What is left of a list of slices.
pub(super) struct Parts<'a> {
    slices: &'a [IoSlice<'a>],
    /// Used of the first one.
    offset: usize,
}

impl<'a> Parts<'a> {
    /// All of `slices`.
    pub(super) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        let mut parts = Self { slices, offset: 0 };
        parts.skip(0);
        parts
    }

    /// Nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The bytes of the next record: of one slice as they are, of several small ones copied together.
    pub(super) fn next_record<'b>(&mut self, together: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.slices.len() < 2 || self.first().len() >= RECORD_BYTES {
            let first = self.first();
            let record = first.get(..RECORD_BYTES).unwrap_or(first);
            self.skip(record.len());
            return record;
        }
        let mut filled = 0;
        while let (Some(room), false) = (together.get_mut(filled..), self.is_empty()) {
            let count = self.first().len().min(room.len());
            if count == 0 {
                break;
            }
            if let (Some(to), Some(from)) = (room.get_mut(..count), self.first().get(..count)) {
                to.copy_from_slice(from);
            }
            filled += count;
            self.skip(count);
        }
        together.get(..filled).unwrap_or_default()
    }

    fn first(&self) -> &'a [u8] {
        let first = self.slices.first().map(|slice| &**slice);
        first.and_then(|slice| slice.get(self.offset..)).unwrap_or_default()
    }

    /// Uses `count` bytes of the first slice, and leaves no empty one in front.
    fn skip(&mut self, count: usize) {
        self.offset += count;
        while let Some((first, rest)) = self.slices.split_first()
            && self.offset >= first.len()
        {
            (self.slices, self.offset) = (rest, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(lengths: &[usize]) -> Vec<usize> {
        let bytes: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
        let slices: Vec<IoSlice<'_>> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut parts = Parts::new(&slices);
        let (mut together, mut all, mut sizes) = (vec![0; RECORD_BYTES], Vec::new(), Vec::new());
        while !parts.is_empty() {
            let record = parts.next_record(&mut together);
            all.extend_from_slice(record);
            sizes.push(record.len());
        }
        assert_eq!(all, bytes.concat());
        sizes
    }

    #[test]
    fn small_parts_share_a_record_and_large_ones_are_cut() {
        assert!(records(&[]).is_empty());
        assert!(records(&[0, 0]).is_empty());
        assert_eq!(records(&[5]), [5]);
        assert_eq!(records(&[0, 5, 0, 7, 0]), [12]);
        assert_eq!(records(&[RECORD_BYTES + 1]), [RECORD_BYTES, 1]);
        assert_eq!(records(&[10, RECORD_BYTES, 3]), [RECORD_BYTES, 13]);
        assert_eq!(records(&[RECORD_BYTES, 1, 1]), [RECORD_BYTES, 2]);
        assert_eq!(
            records(&[3 * RECORD_BYTES, 1]),
            [RECORD_BYTES, RECORD_BYTES, RECORD_BYTES, 1]
        );
    }
}
