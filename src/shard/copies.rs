//! The bytes of a batch as its recipients get them: encoded once for each form of session and once more for those that agreed
//! to compression, since all of them take the same bytes. Where the sessions are all alike, as a door's are, that is one
//! frame for everybody. Caller: `fanout.rs`.

use bytes::Bytes;

use super::Shard;
use super::collected::{Batch, Entry};
use super::frames::Frames;
use super::recipients::Recipient;
use crate::budget::{self, Use};
use crate::wire::deflate::Agreed;

/// What frames are charged as that many outboxes share.
pub const OUTBOXES: usize = Use::Outboxes as usize;

/// The bytes every recipient gets, in one form after the other.
#[derive(Debug)]
pub struct Shared {
    /// That of the first recipient, and nearly always of all.
    first: Encoded,
    /// Those that turned out to be needed too: as many as there are doors at most.
    others: Vec<Encoded>,
}

/// A batch for sessions of one form.
#[derive(Debug)]
struct Encoded {
    /// Who takes it as it is.
    plain_for: Kind,
    plain: Bytes,
    /// The same for recipients that agreed to compression, and the longest message compressed in it; made when the first such
    /// recipient has its turn.
    packed: Option<(Bytes, usize)>,
}

/// Which copy of shared bytes a client takes: that of its session's form ([`crate::protocol::Session::form`]), compressed or
/// not. Known with its admission, so that it costs one comparison at each delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(u8);

/// What recipients are written: the same bytes for all of a kind, or frames that differ from one to the next.
pub struct Copies<'a> {
    /// Present if every recipient gets the same, and nothing more has to be done about it.
    pub shared: Option<&'a mut Shared>,
    /// The same if there are exceptions, or members are counted.
    pub special: Option<&'a mut Shared>,
    /// Reused from recipient to recipient.
    pub frames: Frames,
}

impl Kind {
    /// Of a client whose session has this form; below 128.
    pub fn new(form: u8, deflate: Option<Agreed>) -> Self {
        Self(form << 1 | u8::from(deflate.is_some()))
    }

    /// The same without compression.
    const fn plain(self) -> Self {
        Self(self.0 & !1)
    }
}

impl<'a> Copies<'a> {
    /// Of a batch, whose `shared` bytes these are.
    pub fn new(batch: &Batch, shared: Option<&'a mut Shared>, frames: Frames) -> Self {
        let (shared, special) = match batch.special {
            None => (shared, None),
            Some(_) => (None, shared),
        };
        Self {
            shared,
            special,
            frames,
        }
    }
}

impl Shared {
    /// The bytes of nearly everybody.
    #[inline]
    pub fn plain_for(&self, kind: Kind) -> Option<&Bytes> {
        (self.first.plain_for == kind).then_some(&self.first.plain)
    }
}

impl Shard {
    /// The bytes every recipient gets, if they are the same for all.
    pub(super) fn shared_frames(&mut self, batch: &Batch, recipients: &[Recipient]) -> Option<Shared> {
        if !batch.is_shared() {
            return None;
        }
        let first = self.encoded(batch, *recipients.first()?)?;
        Some(Shared {
            first,
            others: Vec::new(),
        })
    }

    /// The batch as sessions like this recipient's take it.
    fn encoded(&mut self, batch: &Batch, like: Recipient) -> Option<Encoded> {
        let open = self.clients.get_mut(like.slot, like.generation)?.open()?;
        let mut frames = Vec::with_capacity(batch.bytes + batch.publishes.len() * 16);
        for Entry { publish, .. } in &batch.publishes {
            open.session.shared_head(publish, &mut frames);
            frames.extend_from_slice(&publish.payload);
        }
        Some(Encoded {
            plain_for: open.kind.plain(),
            plain: budget::hold::<OUTBOXES>(frames),
            packed: None,
        })
    }

    /// The bytes for a recipient of another kind than most.
    #[inline(never)]
    pub(super) fn other_copy<'a>(
        &mut self,
        recipient: Recipient,
        batch: &Batch,
        shared: &'a mut Shared,
    ) -> Option<&'a Bytes> {
        let open = self.clients.get_mut(recipient.slot, recipient.generation)?.open()?;
        let (kind, deflate) = (open.kind.plain(), open.deflate);
        let Shared { first, others } = shared;
        if first.plain_for == kind {
            return Some(self.packed_for(deflate, first));
        }
        let at = match others.iter().position(|encoded| encoded.plain_for == kind) {
            Some(at) => at,
            None => {
                others.push(self.encoded(batch, recipient)?);
                others.len() - 1
            }
        };
        Some(self.packed_for(deflate, others.get_mut(at)?))
    }

    fn packed_for<'a>(&mut self, deflate: Option<Agreed>, encoded: &'a mut Encoded) -> &'a Bytes {
        let Some(deflate) = deflate else {
            return &encoded.plain;
        };
        let plain = &encoded.plain;
        let (frames, longest) = encoded.packed.get_or_insert_with(|| {
            let packed = self.codec.pack(plain, self.config.compression_min);
            (budget::hold::<OUTBOXES>(packed.frames), packed.longest)
        });
        if deflate.fits(*longest) { frames } else { plain }
    }
}
