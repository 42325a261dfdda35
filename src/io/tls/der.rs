//! Elements of DER (X.690), as far as a certificate's end and the kind of a key need them. Reads only; lengths are checked
//! against what is there. Callers: `expiry.rs`, `keys.rs`.

/// Tag of a sequence.
pub(super) const SEQUENCE: u8 = 0x30;

/// What is left of a list of elements.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The first element, if it has this tag: what follows it, and its content.
    pub(super) fn of(&self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        if self.0.first() == Some(&tag) { self.any() } else { None }
    }

    /// The first element: what follows it, and its content. Lengths of up to four bytes.
    pub(super) fn any(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (_tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(first) {
            short @ ..=0x7f => (short, rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                (
                    bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
                    rest,
                )
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((rest, content))
    }
}
