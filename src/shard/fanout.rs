//! Publishes on their way to the local members of their channels.
//!
//! Publishes of one turn are collected per channel and written to each member together: one walk over the members, one
//! write per client, however many publishes came. What is more than [`FANOUT_SLICE_MEMBERS`] writes or
//! [`FANOUT_SLICE_BYTES`] is served in slices from a snapshot of the members, one slice between two looks at clients and
//! mailbox, so that a large channel does not stall a small one; members that left before their turn are skipped. Publishes
//! to a channel that is being sliced wait for their turn: every subscriber sees one order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::SeedableRandomState;

use super::Shard;
use super::collected::{Batch, Collected, Entry};
use super::frames::{Frames, Outgoing};
use super::sockets::Sockets;
use crate::budget::{self, Use};
use crate::engine::command::{Publish, Qos, Report};
use crate::engine::ids::{ClientId, DeliveryKey};
use crate::engine::name::Name;
use crate::engine::registry::Place;
use crate::limits::{FANOUT_SLICE_BYTES, FANOUT_SLICE_MEMBERS, FANOUT_WAITING_BYTES_MAX};
use crate::metrics::Metric;
use crate::time::Instant;
use crate::wire::deflate::Agreed;

/// What frames are charged as that many outboxes share.
const OUTBOXES: usize = Use::Outboxes as usize;
/// Publishes not yet delivered.
#[derive(Debug)]
pub struct Fanout {
    /// Collected in this turn.
    collected: Collected,
    /// Being sliced, one per channel, in turn.
    sliced: VecDeque<Slicing>,
    /// Waiting for the slicing of their channel to end.
    waiting: VecDeque<Batch>,
    /// What `waiting` holds; see [`Batch::cost`].
    waiting_bytes: usize,
    /// Reused list of members.
    members: Vec<Target>,
}

/// A batch to a large channel.
#[derive(Debug)]
struct Slicing {
    batch: Batch,
    shared: Option<Shared>,
    members: Vec<Target>,
    next: usize,
}

/// The bytes every member gets.
#[derive(Debug)]
struct Shared {
    plain: Bytes,
    /// The same for members that agreed to compression, and the longest message compressed in it; made when the first
    /// such member has its turn.
    packed: Option<(Bytes, usize)>,
}

/// What members are written: the same bytes for all, or frames that differ from one to the next.
struct Copies<'a> {
    shared: Option<&'a mut Shared>,
    /// Reused from member to member.
    frames: Frames,
}

/// One member of a snapshot.
#[derive(Clone, Copy, Debug)]
struct Target {
    slot: u32,
    generation: u32,
}

impl Fanout {
    /// Nothing. `hash`: random per process, since names come from outside.
    pub fn new(hash: SeedableRandomState) -> Self {
        Self {
            collected: Collected::new(hash),
            sliced: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            members: Vec::new(),
        }
    }

    /// Whether something was collected in this turn.
    pub fn has_collected(&self) -> bool {
        !self.collected.is_empty()
    }

    /// Whether a large channel waits for its next slice.
    pub fn has_slices(&self) -> bool {
        !self.sliced.is_empty()
    }

    /// Whether so much waits behind large channels that no more should be taken.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes > FANOUT_WAITING_BYTES_MAX
    }

    /// Adds a publish to this turn.
    pub fn collect(&mut self, publish: Arc<Publish>, shards: u32) {
        self.collected.push(publish, shards);
    }

    fn is_slicing(&self, channel: &Name) -> bool {
        self.sliced.iter().any(|slicing| slicing.batch.channel == *channel)
    }
}

impl Batch {
    /// Members that get it in one slice.
    fn slice_members(&self) -> usize {
        (FANOUT_SLICE_BYTES / self.bytes.max(1)).clamp(1, FANOUT_SLICE_MEMBERS)
    }
}

impl Shard {
    /// Delivers what was collected; large channels only begin.
    pub(super) fn run_collected(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        while let Some(batch) = self.fanout.collected.pop() {
            if self.fanout.is_slicing(&batch.channel) {
                self.fanout.waiting_bytes += batch.cost();
                self.fanout.waiting.push_back(batch);
            } else {
                self.start(batch, now, sockets);
            }
        }
    }

    /// Delivers one slice of the large channel whose turn it is.
    pub(super) fn run_slice(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        let Some(mut slicing) = self.fanout.sliced.pop_front() else {
            return;
        };
        let end = slicing.members.len().min(slicing.next + slicing.batch.slice_members());
        let mut place = Place::default();
        let mut copies = Copies {
            shared: slicing.shared.as_mut(),
            frames: std::mem::take(&mut self.scratch),
        };
        for target in &slicing.members[slicing.next..end] {
            let is_member = self.members.is_at(target.slot, &slicing.batch.channel, &mut place);
            self.deliver(*target, &slicing.batch, &mut copies, is_member, now, sockets);
        }
        self.scratch = copies.frames;
        slicing.next = end;
        if end < slicing.members.len() {
            return self.fanout.sliced.push_back(slicing);
        }
        self.end(&slicing.batch);
        // Batches of one channel wait in order; the first may start now, and may have to be sliced again.
        let channel = slicing.batch.channel;
        while !self.fanout.is_slicing(&channel) {
            let Some(at) = self.fanout.waiting.iter().position(|batch| batch.channel == channel) else {
                break;
            };
            let Some(batch) = self.fanout.waiting.remove(at) else {
                break;
            };
            self.fanout.waiting_bytes = self.fanout.waiting_bytes.saturating_sub(batch.cost());
            self.start(batch, now, sockets);
        }
    }

    fn start(&mut self, mut batch: Batch, now: Instant, sockets: &mut dyn Sockets) {
        let mut members = std::mem::take(&mut self.fanout.members);
        members.clear();
        for member in self.members.members(&batch.channel).unwrap_or_default() {
            let generation = self.clients.generation(member.slot());
            members.push(Target {
                slot: member.slot(),
                generation,
            });
        }
        for Entry {
            publish,
            shards,
            delivery,
        } in &mut batch.publishes
        {
            if publish.tells_online {
                let platforms = self.online.platforms(members.iter().map(|target| target.slot));
                self.reports.push(Report::Online {
                    ticket: publish.ticket,
                    shards: *shards,
                    platforms,
                });
            }
            if publish.qos != Qos::AtMostOnce {
                *delivery = Some(self.open_delivery(publish, *shards, members.len(), now));
            }
        }
        let mut shared = self.shared_frames(&batch, &members);
        if members.len() > batch.slice_members() {
            return self.fanout.sliced.push_back(Slicing {
                batch,
                shared,
                members,
                next: 0,
            });
        }
        let mut copies = Copies {
            shared: shared.as_mut(),
            frames: std::mem::take(&mut self.scratch),
        };
        for target in &members {
            self.deliver(*target, &batch, &mut copies, true, now, sockets);
        }
        self.scratch = copies.frames;
        self.end(&batch);
        self.fanout.members = members;
    }

    fn end(&mut self, batch: &Batch) {
        for key in batch.publishes.iter().filter_map(|entry| entry.delivery) {
            self.delivery_sent(key);
        }
    }

    /// The bytes every member gets, if they are the same for all.
    fn shared_frames(&mut self, batch: &Batch, members: &[Target]) -> Option<Shared> {
        if !batch.is_shared() {
            return None;
        }
        let mut frames = Vec::with_capacity(batch.bytes + batch.publishes.len() * 16);
        let target = members.first()?;
        let open = self.clients.get_mut(target.slot, target.generation)?.open()?;
        for Entry { publish, .. } in &batch.publishes {
            open.session.shared_head(publish, &mut frames);
            frames.extend_from_slice(&publish.payload);
        }
        Some(Shared {
            plain: budget::hold::<OUTBOXES>(frames),
            packed: None,
        })
    }

    /// One member's share of a batch; nothing for one that has left meanwhile.
    fn deliver(
        &mut self,
        target: Target,
        batch: &Batch,
        copies: &mut Copies<'_>,
        is_member: bool,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        self.contained(id, now, sockets, |shard, sockets| {
            shard.deliver_to(target, batch, copies, is_member, now, sockets);
        });
    }

    fn deliver_to(
        &mut self,
        target: Target,
        batch: &Batch,
        copies: &mut Copies<'_>,
        is_member: bool,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        let open = self
            .clients
            .get_mut(target.slot, target.generation)
            .and_then(|client| client.open())
            .map(|open| open.deflate)
            .filter(|_| is_member);
        let Some(deflate) = open else {
            let keys = batch.publishes.iter().filter_map(|entry| entry.delivery);
            return keys.for_each(|key| self.member_skipped(key));
        };
        self.metrics.add(Metric::Deliveries, batch.publishes.len() as u64);
        self.metrics.add(Metric::FramesOut, batch.publishes.len() as u64);
        if let Some(shared) = &mut copies.shared {
            let frames = self.form_for(deflate, shared);
            self.write(id, &Outgoing::Shared(frames), now, sockets);
            return;
        }
        // Cleared here, since a panic may have left something of another member's.
        let frames = &mut copies.frames;
        frames.clear();
        for Entry { publish, delivery, .. } in &batch.publishes {
            self.frame_for(target, publish, *delivery, now, frames);
        }
        if self.write(id, &Outgoing::Frames(frames), now, sockets) {
            self.note_held(id, batch);
        }
        frames.clear();
        self.after_delivery(id, now, sockets);
    }

    /// The deliveries of a batch just written learn that the socket did not take all of it.
    #[cold]
    fn note_held(&mut self, id: ClientId, batch: &Batch) {
        let Some(client) = self.clients.get(id.slot, id.generation) else {
            return;
        };
        let advances = client.advances;
        for key in batch.publishes.iter().filter_map(|entry| entry.delivery) {
            self.member_held(key, id, advances);
        }
    }

    /// The form of the shared bytes for a member with this agreement.
    fn form_for<'a>(&mut self, deflate: Option<Agreed>, shared: &'a mut Shared) -> &'a Bytes {
        let Some(deflate) = deflate else {
            return &shared.plain;
        };
        let plain = &shared.plain;
        let (frames, longest) = shared.packed.get_or_insert_with(|| {
            let packed = self.codec.pack(plain, self.config.compression_min);
            (budget::hold::<OUTBOXES>(packed.frames), packed.longest)
        });
        if deflate.fits(*longest) { frames } else { plain }
    }

    /// Appends the frame of one publish for one member.
    fn frame_for(
        &mut self,
        target: Target,
        publish: &Publish,
        delivery: Option<DeliveryKey>,
        now: Instant,
        frames: &mut Frames,
    ) {
        let client = self.client_id(target.slot, target.generation);
        let context = crate::protocol::Context {
            client,
            identities: &self.identities,
            config: &self.config,
        };
        let Some(open) = self
            .clients
            .get_mut(target.slot, target.generation)
            .and_then(|client| client.open())
        else {
            return;
        };
        let Some(key) = delivery else {
            open.session.shared_head(publish, frames.head());
            return frames.push_payload(&publish.payload);
        };
        match open.session.on_delivery(context, publish, key, frames.head()) {
            Ok(id) => {
                frames.push_payload(&publish.payload);
                self.member_sent(key, client, id, now);
            }
            Err(crate::protocol::InflightFull) => self.member_failed(key),
        }
    }
}
