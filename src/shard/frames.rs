//! What is written to one client in one go, before it is known whether the socket takes it: so that bytes that have to wait
//! are copied only if they are few. Frames of messages with acknowledgement differ from member to member in their ids, but not
//! in their payload, which is shared. Callers: `fanout.rs`, `delivery.rs`, `input.rs` fill, `output.rs` writes.

use std::io::IoSlice;

use bytes::Bytes;

use super::sockets::{Sent, Sockets};
use crate::engine::ids::ClientId;
use crate::engine::outbox::{Full, Outbox, Pool};
use crate::limits::OUTBOX_COPY_BYTES_MAX;

/// Pieces handed to one write.
const SLICES_MAX: usize = 64;

/// Frames being built; reused.
#[derive(Debug, Default)]
pub struct Frames {
    /// Heads and small payloads, behind each other.
    copied: Vec<u8>,
    /// Large payloads, in order.
    shared: Vec<Shared>,
    /// Bytes in `shared`.
    shared_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    /// So many copied bytes come before it.
    at: usize,
    body: Bytes,
}

impl Frames {
    /// Where the head of the next frame is appended.
    pub fn head(&mut self) -> &mut Vec<u8> {
        &mut self.copied
    }

    /// Ends a frame with its payload.
    #[inline]
    pub fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() <= OUTBOX_COPY_BYTES_MAX {
            self.copied.extend_from_slice(payload);
        } else {
            let (at, body) = (self.copied.len(), payload.clone());
            self.shared_bytes += body.len();
            self.shared.push(Shared { at, body });
        }
    }

    /// Forgets everything, so that no payload is kept alive.
    pub fn clear(&mut self) {
        self.copied.clear();
        if self.shared_bytes > 0 {
            self.shared.clear();
            self.shared_bytes = 0;
        }
    }

    /// All of it in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        for (copied, body) in self.pieces() {
            whole.extend_from_slice(copied);
            whole.extend_from_slice(body.map_or(&[][..], |body| body));
        }
        whole
    }

    fn len(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    /// Copied bytes and the payload behind them, in order; behind the last bytes there is none.
    fn pieces(&self) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        let starts = std::iter::once(0).chain(self.shared.iter().map(|shared| shared.at));
        let ends = self.shared.iter().map(|shared| (shared.at, Some(&shared.body)));
        let ends = ends.chain(std::iter::once((self.copied.len(), None)));
        let span = |(start, (end, body))| (self.copied.get(start..end).unwrap_or_default(), body);
        starts.zip(ends).map(span)
    }
}

/// Bytes for one client.
pub enum Outgoing<'a> {
    /// Copied if they have to wait.
    Copied(&'a [u8]),
    /// Whole messages without acknowledgement, the same for many clients.
    Shared(&'a Bytes),
    /// Frames for this client, with payloads that are the same for many.
    Frames(&'a Frames),
}

impl Outgoing<'_> {
    /// Bytes in all.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Outgoing::Copied(bytes) => bytes.len(),
            Outgoing::Shared(bytes) => bytes.len(),
            Outgoing::Frames(frames) => frames.len(),
        }
    }

    /// Whether the policy for slow consumers may take them out again.
    pub fn is_droppable(&self) -> bool {
        matches!(self, Outgoing::Shared(_))
    }

    /// Writes what the socket takes at once; of very many pieces only the first ones.
    #[inline]
    pub fn send(&self, client: ClientId, sockets: &mut dyn Sockets) -> Sent {
        let bytes: &[u8] = match self {
            Outgoing::Copied(bytes) => bytes,
            Outgoing::Shared(bytes) => bytes,
            Outgoing::Frames(frames) if frames.shared.is_empty() => &frames.copied,
            Outgoing::Frames(frames) => return send_pieces(frames, client, sockets),
        };
        sockets.send(client, &[IoSlice::new(bytes)])
    }

    /// Queues all but the first `taken` bytes, or nothing.
    ///
    /// # Errors
    /// [`Full`] as for [`Outbox::push_copy`].
    pub fn queue(&self, taken: usize, outbox: &mut Outbox, bytes_max: usize, pool: &mut Pool) -> Result<(), Full> {
        match self {
            Outgoing::Copied(bytes) => outbox.push_copy(bytes.get(taken..).unwrap_or_default(), bytes_max, pool),
            Outgoing::Shared(bytes) => outbox.push_shared(&[], &bytes.slice(taken..), bytes_max, pool),
            Outgoing::Frames(frames) => queue_pieces(frames, taken, outbox, bytes_max, pool),
        }
    }
}

#[cold]
fn send_pieces(frames: &Frames, client: ClientId, sockets: &mut dyn Sockets) -> Sent {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let bodies = frames.pieces();
    let pieces = bodies.flat_map(|(copied, body)| [copied, body.map_or(&[][..], |body| body)]);
    let mut used = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
        *slice = IoSlice::new(piece);
        used += 1;
    }
    sockets.send(client, slices.get(..used).unwrap_or_default())
}

fn queue_pieces(
    frames: &Frames,
    taken: usize,
    outbox: &mut Outbox,
    bytes_max: usize,
    pool: &mut Pool,
) -> Result<(), Full> {
    let (mut skip, mut bytes_max) = (taken, bytes_max);
    for (copied, body) in frames.pieces() {
        let head = copied.get(skip.min(copied.len())..).unwrap_or_default();
        skip -= copied.len() - head.len();
        let none = Bytes::new();
        let body = body.unwrap_or(&none);
        let out = skip.min(body.len());
        skip -= out;
        if head.is_empty() && out == body.len() {
            continue;
        }
        outbox.push_shared(head, &body.slice(out..), bytes_max, pool)?;
        // What was begun is queued whole.
        bytes_max = usize::MAX;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(payloads: &[Bytes]) -> Frames {
        let mut frames = Frames::default();
        for payload in payloads {
            frames.head().extend_from_slice(b"head");
            frames.push_payload(payload);
        }
        frames
    }

    fn out(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = outbox.slices(&mut slices);
        slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn wherever_the_socket_stopped_the_rest_waits() {
        let large = Bytes::from(vec![b'l'; OUTBOX_COPY_BYTES_MAX + 1]);
        let payloads = [large.clone(), Bytes::from_static(b"small"), large];
        let frames = frames(&payloads);
        let whole: Vec<u8> = payloads
            .iter()
            .flat_map(|payload| [b"head", &payload[..]].concat())
            .collect();
        assert_eq!(Outgoing::Frames(&frames).len(), whole.len());
        for taken in 0..whole.len() {
            let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
            let queued = Outgoing::Frames(&frames).queue(taken, &mut outbox, 1, &mut pool);
            assert_eq!((queued, out(&outbox)), (Ok(()), whole[taken..].to_vec()), "{taken}");
            let again = Outgoing::Frames(&frames).queue(0, &mut outbox, 1, &mut pool);
            assert_eq!(
                (again, outbox.len_bytes()),
                (Err(Full), whole.len() - taken),
                "nothing was queued"
            );
        }
    }

    #[test]
    fn a_large_payload_is_the_same_memory_in_every_outbox() {
        let payload = Bytes::from(vec![b'l'; 1 << 20]);
        let (one, mut pool) = (frames(std::slice::from_ref(&payload)), Pool::new());
        for _ in 0..3 {
            let mut outbox = Outbox::new();
            Outgoing::Frames(&one).queue(0, &mut outbox, 1, &mut pool).unwrap();
            let mut slices = [IoSlice::new(&[]); 2];
            assert_eq!(outbox.slices(&mut slices), 2);
            assert_eq!(slices[1].as_ptr(), payload.as_ptr());
        }
    }
}
