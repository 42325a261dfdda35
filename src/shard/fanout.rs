//! Publishes on their way to those of this shard they are for.
//!
//! Publishes of one turn are collected per channel and written to each member together: one walk over the members, one
//! write per client, however many publishes came. What is more than [`FANOUT_SLICE_MEMBERS`] writes or
//! [`FANOUT_SLICE_BYTES`] is served in slices from a snapshot of the members, one slice between two looks at clients and
//! mailbox, so that a large channel does not stall a small one; members that left before their turn are skipped.
//!
//! Every subscriber sees one order:
//! - What comes for a client while a slicing has not come to it yet takes along what that one has for it
//!   (`Shard::catch_up`). So nothing overtakes a large fan-out.
//! - Publishes to a channel that is being sliced wait for their turn; of publishes to several channels or to clients one large
//!   one is sliced at a time, and none overtakes what waits, nor is it overtaken by what comes after it.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;

use super::client::Client;
use super::collected::{Batch, Collected, Entry};
use super::copies::{Copies, OUTBOXES, Shared};
use super::frames::{Frames, Outgoing};
use super::recipients::{Recipient, SlotSet};
use super::sockets::Sockets;
use super::{Shard, context};
use crate::budget;
use crate::engine::command::{ClientSet, Publish, Qos, Report, Target};
use crate::engine::ids::{ClientId, DeliveryKey};
use crate::engine::registry::Place;
use crate::limits::{FANOUT_SLICE_BYTES, FANOUT_SLICE_MEMBERS, FANOUT_WAITING_BYTES_MAX};
use crate::metrics::Metric;
use crate::time::Instant;

/// Members looked at in one slice, per member it may serve: those who were served before cost nearly nothing.
const LOOKS_PER_MEMBER: usize = 64;

/// Publishes not yet delivered.
#[derive(Debug)]
pub struct Fanout {
    /// Collected in this turn.
    collected: Collected,
    /// Being sliced, in turn: one per channel, and one that is for several channels or for clients.
    sliced: VecDeque<Slicing>,
    /// How many have been sliced.
    slicings: u64,
    /// Waiting for a slicing to end.
    waiting: VecDeque<Batch>,
    /// How many of them are for several channels or for clients.
    waiting_any: usize,
    /// What `waiting` holds; see [`Batch::cost`].
    waiting_bytes: usize,
    /// Reused list of members.
    members: Vec<Recipient>,
    /// Empty, and reused.
    pub(super) seen: SlotSet,
}

/// A batch that is served in slices.
#[derive(Debug)]
struct Slicing {
    /// In order of beginning.
    number: u64,
    /// Slots of the members that have not had their turn. Whoever leaves the shard is taken out, so a slot is that of the
    /// snapshot.
    pending: SlotSet,
    /// Absent while it is at work.
    load: Option<Load>,
}

/// What is served.
#[derive(Debug)]
struct Load {
    batch: Batch,
    shared: Option<Shared>,
    members: Vec<Recipient>,
    next: usize,
}

impl Fanout {
    /// Nothing. `hash`: random per process, since names come from outside.
    pub fn new(hash: SeedableRandomState) -> Self {
        Self {
            collected: Collected::new(hash),
            sliced: VecDeque::new(),
            slicings: 0,
            waiting: VecDeque::new(),
            waiting_any: 0,
            waiting_bytes: 0,
            members: Vec::new(),
            seen: SlotSet::default(),
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

    /// The client of this slot leaves the shard: no slicing has anything for it any more. Returns the records of what it does
    /// not get.
    pub fn forget(&mut self, slot: u32) -> Vec<DeliveryKey> {
        let mut keys = Vec::new();
        for slicing in &mut self.sliced {
            if slicing.pending.remove(slot)
                && let Some(load) = &slicing.load
            {
                keys.extend(load.batch.keys());
            }
        }
        keys
    }

    fn is_slicing(&self, to: &Target) -> bool {
        let mut loads = self.sliced.iter().filter_map(|slicing| slicing.load.as_ref());
        loads.any(|load| match to {
            Target::Set(_) => load.batch.to == *to,
            Target::Any(_) => matches!(load.batch.to, Target::Any(_)),
        })
    }

    /// The first slicing from `from` to before `before` that has something for the client of a slot: its place and number.
    fn next_pending(&self, slot: u32, from: u64, before: u64) -> Option<(usize, u64)> {
        let has = |slicing: &&(usize, &Slicing)| {
            let (_, slicing) = slicing;
            (from..before).contains(&slicing.number) && slicing.load.is_some() && slicing.pending.contains(slot)
        };
        let slicings = self.sliced.iter().enumerate();
        let first = slicings
            .filter(|slicing| has(&slicing))
            .min_by_key(|(_, slicing)| slicing.number)?;
        Some((first.0, first.1.number))
    }

    fn wait(&mut self, batch: Batch) {
        self.waiting_bytes += batch.cost();
        self.waiting_any += usize::from(matches!(batch.to, Target::Any(_)));
        self.waiting.push_back(batch);
    }

    fn take_waiting(&mut self, at: usize) -> Option<Batch> {
        let batch = self.waiting.remove(at)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(batch.cost());
        self.waiting_any -= usize::from(matches!(batch.to, Target::Any(_)));
        Some(batch)
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
            if self.has_to_wait(&batch) {
                self.fanout.wait(batch);
            } else {
                self.start(batch, now, sockets);
            }
        }
    }

    fn has_to_wait(&self, batch: &Batch) -> bool {
        let fanout = &self.fanout;
        if fanout.sliced.is_empty() {
            return false;
        }
        match &batch.to {
            Target::Set(_) => fanout.waiting_any > 0 || fanout.is_slicing(&batch.to),
            Target::Any(_) => !fanout.waiting.is_empty() || self.is_too_large(batch),
        }
    }

    /// Another one that is for several channels or for clients would have to be sliced beside it.
    fn is_too_large(&self, batch: &Batch) -> bool {
        self.recipients_max(&batch.to) > batch.slice_members() && self.fanout.is_slicing(&batch.to)
    }

    /// Where the first batch is that waits no longer.
    fn first_to_start(&self) -> Option<usize> {
        for (at, batch) in self.fanout.waiting.iter().enumerate() {
            match &batch.to {
                Target::Set(_) if !self.fanout.is_slicing(&batch.to) => return Some(at),
                Target::Set(_) => {}
                Target::Any(_) => return (at == 0 && !self.is_too_large(batch)).then_some(0),
            }
        }
        None
    }

    /// Delivers one slice of the large channel whose turn it is.
    pub(super) fn run_slice(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        let Some(slicing) = self.fanout.sliced.front_mut() else {
            return;
        };
        let number = slicing.number;
        let Some(mut load) = slicing.load.take() else { return };
        let (mut place, mut served) = (Place::default(), 0);
        let most = load.batch.slice_members();
        let end = load.members.len().min(load.next + most * LOOKS_PER_MEMBER);
        let mut copies = Copies {
            shared: load.shared.as_mut(),
            frames: std::mem::take(&mut self.scratch),
        };
        let has_earlier = self.fanout.sliced.iter().any(|slicing| slicing.number < number);
        while load.next < end && served < most {
            let target = load.members[load.next];
            load.next += 1;
            // In front all through the slice.
            let front = self.fanout.sliced.front_mut();
            if !front.is_some_and(|slicing| slicing.pending.remove(target.slot)) {
                continue;
            }
            if has_earlier {
                served += self.catch_up(target, number, now, sockets);
            }
            let id = self.client_id(target.slot, target.generation);
            let is_member = self.is_recipient(id, &load.batch.to, &mut place);
            self.deliver(target, &load.batch, &mut copies, is_member, now, sockets);
            served += 1;
        }
        self.scratch = copies.frames;
        if let Some(mut slicing) = self.fanout.sliced.pop_front()
            && load.next < load.members.len()
        {
            slicing.load = Some(load);
            return self.fanout.sliced.push_back(slicing);
        }
        self.end(&load.batch);
        self.start_waiting(&load.batch.to, now, sockets);
    }

    /// A slicing is over: starts what waited for it.
    fn start_waiting(&mut self, ended: &Target, now: Instant, sockets: &mut dyn Sockets) {
        let is_plain = self.fanout.waiting_any == 0 && matches!(ended, Target::Set(_));
        loop {
            // Batches of one channel wait in order; the first may start now, and may have to be sliced again.
            let at = match is_plain {
                true if self.fanout.is_slicing(ended) => None,
                true => self.fanout.waiting.iter().position(|batch| batch.to == *ended),
                false => self.first_to_start(),
            };
            let Some(batch) = at.and_then(|at| self.fanout.take_waiting(at)) else {
                break;
            };
            self.start(batch, now, sockets);
        }
    }

    /// Before a client gets something, it gets what slicings that began earlier than number `before` still have for it; says
    /// how many did.
    #[cold]
    fn catch_up(&mut self, target: Recipient, before: u64, now: Instant, sockets: &mut dyn Sockets) -> usize {
        let (mut from, mut caught_up) = (0, 0);
        while let Some((at, number)) = self.fanout.next_pending(target.slot, from, before) {
            from = number + 1;
            caught_up += 1;
            let slicing = &mut self.fanout.sliced[at];
            slicing.pending.remove(target.slot);
            let Some(mut load) = slicing.load.take() else { continue };
            let id = self.client_id(target.slot, target.generation);
            let is_member = self.is_recipient(id, &load.batch.to, &mut Place::default());
            let mut copies = Copies {
                shared: load.shared.as_mut(),
                frames: Frames::default(),
            };
            self.deliver(target, &load.batch, &mut copies, is_member, now, sockets);
            self.fanout.sliced[at].load = Some(load);
        }
        caught_up
    }

    fn start(&mut self, mut batch: Batch, now: Instant, sockets: &mut dyn Sockets) {
        let mut members = std::mem::take(&mut self.fanout.members);
        members.clear();
        self.pick(&batch.to, &mut members);
        self.open_batch(&mut batch, &members, now);
        let mut shared = self.shared_frames(&batch, &members);
        if members.len() > batch.slice_members() {
            self.fanout.slicings += 1;
            return self.fanout.sliced.push_back(Slicing {
                number: self.fanout.slicings,
                pending: SlotSet::of(&members),
                load: Some(Load {
                    batch,
                    shared,
                    members,
                    next: 0,
                }),
            });
        }
        let mut copies = Copies {
            shared: shared.as_mut(),
            frames: std::mem::take(&mut self.scratch),
        };
        let has_earlier = self.fanout.has_slices();
        for target in &members {
            if has_earlier {
                self.catch_up(*target, u64::MAX, now, sockets);
            }
            self.deliver(*target, &batch, &mut copies, true, now, sockets);
        }
        self.scratch = copies.frames;
        self.end(&batch);
        self.fanout.members = members;
    }

    /// Opens the records of a batch for these members, and tells where they are online.
    fn open_batch(&mut self, batch: &mut Batch, members: &[Recipient], now: Instant) {
        let mut exceptions = Vec::new();
        for entry in &mut batch.publishes {
            let Entry { publish, shards, .. } = entry;
            exceptions.extend_from_slice(publish.except.of_shard(self.id));
            if publish.tells_online {
                let (id, except) = (self.id, &publish.except);
                let gets_it = |target: &&Recipient| {
                    except.is_empty()
                        || !except.contains(ClientId {
                            shard: id,
                            slot: target.slot,
                            generation: target.generation,
                        })
                };
                let slots = members.iter().filter(gets_it).map(|target| target.slot);
                let platforms = self.online.platforms(slots);
                self.reports.push(Report::Online {
                    ticket: publish.ticket,
                    shards: *shards,
                    platforms,
                });
            }
            batch.is_counted |= publish.is_counted();
            if publish.qos != Qos::AtMostOnce || publish.is_counted() {
                entry.delivery = Some(self.open_delivery(publish, *shards, members.len(), now));
            }
        }
        if !exceptions.is_empty() {
            batch.exceptions = ClientSet::from(exceptions);
        }
    }

    fn end(&mut self, batch: &Batch) {
        for key in batch.keys() {
            self.delivery_sent(key);
        }
    }

    /// One member's share of a batch; nothing for one that has left meanwhile.
    fn deliver(
        &mut self,
        target: Recipient,
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
        target: Recipient,
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
            .map(|open| (open.session.form(), open.deflate))
            .filter(|_| is_member);
        let Some(form) = open else {
            return batch.keys().for_each(|key| self.member_skipped(key));
        };
        if batch.is_exception(id) {
            return self.deliver_some(target, batch, copies, now, sockets);
        }
        self.metrics.add(Metric::Deliveries, batch.publishes.len() as u64);
        self.metrics.add(Metric::FramesOut, batch.publishes.len() as u64);
        if let Some(shared) = &mut copies.shared {
            if let Some(frames) = self.copy_for(target, form, batch, shared) {
                self.write(id, &Outgoing::Shared(frames), now, sockets);
            }
            return self.count(id, batch);
        }
        // Cleared here, since a panic may have left something of another member's.
        let frames = &mut copies.frames;
        frames.clear();
        for entry in &batch.publishes {
            self.frame_for(target, entry, now, frames);
        }
        if self.write(id, &Outgoing::Frames(frames), now, sockets) {
            self.note_held(id, batch);
        }
        frames.clear();
        self.count(id, batch);
        self.after_delivery(id, now, sockets);
    }

    /// The share of a member that does not get all of a batch.
    #[cold]
    fn deliver_some(
        &mut self,
        target: Recipient,
        batch: &Batch,
        copies: &mut Copies<'_>,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        let frames = &mut copies.frames;
        frames.clear();
        let mut count = 0;
        for entry in &batch.publishes {
            if entry.publish.except.contains(id) {
                entry.delivery.into_iter().for_each(|key| self.member_skipped(key));
            } else {
                self.frame_for(target, entry, now, frames);
                count += 1;
            }
        }
        self.metrics.add(Metric::Deliveries, count);
        self.metrics.add(Metric::FramesOut, count);
        if copies.shared.is_some() {
            // Others may share it as little as it may be taken out of an outbox in parts.
            let bytes = budget::hold::<OUTBOXES>(frames.to_vec());
            self.write(id, &Outgoing::Shared(&bytes), now, sockets);
        } else if self.write(id, &Outgoing::Frames(frames), now, sockets) {
            self.note_held(id, batch);
        }
        frames.clear();
        self.count(id, batch);
        if copies.shared.is_none() {
            self.after_delivery(id, now, sockets);
        }
    }

    /// Counts a member that was just written to, for publishes that are only counted.
    fn count(&mut self, id: ClientId, batch: &Batch) {
        if batch.is_counted {
            self.count_each(id, batch);
        }
    }

    fn count_each(&mut self, id: ClientId, batch: &Batch) {
        let is_done = self.clients.get(id.slot, id.generation).is_some_and(Client::is_open);
        for entry in &batch.publishes {
            if let Some(key) = entry.counted()
                && !entry.publish.except.contains(id)
            {
                self.member_counted(key, is_done);
            }
        }
    }

    /// The deliveries of a batch just written learn that the socket did not take all of it.
    #[cold]
    fn note_held(&mut self, id: ClientId, batch: &Batch) {
        let Some(client) = self.clients.get(id.slot, id.generation) else {
            return;
        };
        let advances = client.advances;
        for key in batch.keys() {
            self.member_held(key, id, advances);
        }
    }

    /// Appends the frame of one publish for one member.
    fn frame_for(&mut self, target: Recipient, entry: &Entry, now: Instant, frames: &mut Frames) {
        let publish = &entry.publish;
        let client = self.client_id(target.slot, target.generation);
        let context = context!(self, client, now);
        let Some(open) = self
            .clients
            .get_mut(target.slot, target.generation)
            .and_then(|client| client.open())
        else {
            return;
        };
        let Some(key) = entry.delivery.filter(|_| publish.qos != Qos::AtMostOnce) else {
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
