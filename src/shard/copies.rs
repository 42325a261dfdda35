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
    /// [`crate::protocol::Session::form`].
    form: u8,
    plain: Bytes,
    /// The same for recipients that agreed to compression, and the longest message compressed in it; made when the first such
    /// recipient has its turn.
    packed: Option<(Bytes, usize)>,
}

/// What recipients are written: the same bytes for all of a form, or frames that differ from one to the next.
pub struct Copies<'a> {
    /// Present if no recipient needs frames of its own.
    pub shared: Option<&'a mut Shared>,
    /// Reused from recipient to recipient.
    pub frames: Frames,
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
            form: open.session.form(),
            plain: budget::hold::<OUTBOXES>(frames),
            packed: None,
        })
    }

    /// The bytes for a recipient of this form, with this agreement.
    pub(super) fn copy_for<'a>(
        &mut self,
        recipient: Recipient,
        (form, deflate): (u8, Option<Agreed>),
        batch: &Batch,
        shared: &'a mut Shared,
    ) -> Option<&'a Bytes> {
        if shared.first.form == form {
            return Some(self.packed_for(deflate, &mut shared.first));
        }
        self.other_copy_for(recipient, (form, deflate), batch, &mut shared.others)
    }

    #[cold]
    fn other_copy_for<'a>(
        &mut self,
        recipient: Recipient,
        (form, deflate): (u8, Option<Agreed>),
        batch: &Batch,
        others: &'a mut Vec<Encoded>,
    ) -> Option<&'a Bytes> {
        let at = match others.iter().position(|encoded| encoded.form == form) {
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
