//! Publishes on their way to those of this shard they are for.
//!
//! Publishes of one turn are collected per channel and written to each member together: one walk over the members, one
//! write per client, however many publishes came. What is more than [`crate::limits::FANOUT_SLICE_MEMBERS`] writes or
//! [`crate::limits::FANOUT_SLICE_BYTES`] is served in slices (`slicing.rs`).
//!
//! Every subscriber sees one order:
//! - What comes for a client while a slicing has not come to it yet takes along what that one has for it
//!   (`Shard::catch_up`). So nothing overtakes a large fan-out.
//! - Publishes to a channel that is being sliced wait for their turn; of publishes to several channels or to clients one large
//!   one is sliced at a time, and none overtakes what waits, nor is it overtaken by what comes after it.

use std::sync::Arc;

use foldhash::fast::SeedableRandomState;

use super::client::Client;
use super::collected::{Batch, Collected, Entry, Special};
use super::copies::{Copies, Kind, OUTBOXES, Shared};
use super::frames::{Frames, Outgoing};
use super::recipients::{Recipient, SlotSet};
use super::slicing::{Load, Slices};
use super::sockets::Sockets;
use super::{Shard, context};
use crate::budget;
use crate::engine::command::{ClientSet, Publish, Qos, Report};
use crate::engine::ids::ClientId;
use crate::engine::registry::Presence;
use crate::metrics::Metric;
use crate::time::Instant;

/// Publishes not yet delivered.
#[derive(Debug)]
pub struct Fanout {
    /// Collected in this turn.
    collected: Collected,
    /// Served in slices, or waiting for that.
    pub(super) slices: Slices,
    /// Reused list of members.
    members: Vec<Recipient>,
    /// Empty, and reused.
    pub(super) seen: SlotSet,
}

impl Fanout {
    /// Nothing. `hash`: random per process, since names come from outside.
    pub fn new(hash: SeedableRandomState) -> Self {
        Self {
            collected: Collected::new(hash),
            slices: Slices::default(),
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
        !self.slices.is_empty()
    }

    /// Whether so much waits behind large channels that no more should be taken.
    pub fn is_full(&self) -> bool {
        self.slices.is_full()
    }

    /// Adds a publish to this turn.
    pub fn collect(&mut self, publish: Arc<Publish>, shards: u32) {
        self.collected.push(publish, shards);
    }
}

impl Shard {
    /// Delivers what was collected; large channels only begin.
    pub(super) fn run_collected(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        while let Some(batch) = self.fanout.collected.pop() {
            if self.has_to_wait(&batch) {
                self.fanout.slices.wait(batch);
            } else {
                self.start(batch, now, sockets);
            }
        }
    }

    pub(super) fn start(&mut self, mut batch: Batch, now: Instant, sockets: &mut dyn Sockets) {
        let mut members = std::mem::take(&mut self.fanout.members);
        members.clear();
        self.pick(&batch.to, &mut members);
        self.open_batch(&mut batch, &members, now);
        let mut shared = self.shared_frames(&batch, &members);
        if members.len() > batch.slice_members() {
            return self.fanout.slices.begin(Load {
                batch,
                shared,
                members,
                next: 0,
            });
        }
        let mut copies = Copies::new(&batch, shared.as_mut(), std::mem::take(&mut self.scratch));
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
        let mut is_special = false;
        for entry in &mut batch.publishes {
            let Entry { publish, shards, .. } = entry;
            if publish.tells_online {
                let platforms = self.platforms(members, &publish.except);
                self.reports.push(Report::Online {
                    ticket: publish.ticket,
                    shards: *shards,
                    platforms,
                });
            }
            let is_counted = publish.is_counted();
            is_special |= is_counted || !publish.except.is_empty();
            if publish.qos != Qos::AtMostOnce || is_counted {
                entry.delivery = Some(self.open_delivery(publish, *shards, members.len(), now));
            }
        }
        if is_special {
            batch.special = Some(Special::of(&batch.publishes, self.id));
        }
    }

    /// Where members are online, but for some.
    fn platforms(&self, members: &[Recipient], except: &ClientSet) -> Vec<Presence> {
        let is_meant =
            |member: &&Recipient| except.is_empty() || !except.contains(self.client_id(member.slot, member.generation));
        let slots = members.iter().filter(is_meant).map(|member| member.slot);
        self.online.platforms(slots)
    }

    pub(super) fn end(&mut self, batch: &Batch) {
        for key in batch.keys() {
            self.delivery_sent(key);
        }
    }

    /// One member's share of a batch; nothing for one that has left meanwhile.
    pub(super) fn deliver(
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
        let open = self
            .clients
            .get_mut(target.slot, target.generation)
            .and_then(|client| client.open())
            .map(|open| open.kind)
            .filter(|_| is_member);
        let Some(kind) = open else {
            return batch.keys().for_each(|key| self.member_skipped(key));
        };
        if let Some(shared) = &mut copies.shared {
            return self.deliver_shared(target, kind, (batch, shared), now, sockets);
        }
        if let Some(special) = &batch.special {
            return self.deliver_special(target, kind, (batch, special), copies, now, sockets);
        }
        self.write_frames(target, batch, &mut copies.frames, now, sockets);
        self.after_delivery(self.client_id(target.slot, target.generation), now, sockets);
    }

    /// The share of a member of a batch in which not everybody gets everything, or members are counted.
    #[inline(never)]
    fn deliver_special(
        &mut self,
        target: Recipient,
        kind: Kind,
        (batch, special): (&Batch, &Special),
        copies: &mut Copies<'_>,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        if special.exceptions.contains(id) {
            self.write_some(target, batch, copies, now, sockets);
        } else if let Some(shared) = &mut copies.special {
            self.deliver_shared(target, kind, (batch, shared), now, sockets);
        } else {
            self.write_frames(target, batch, &mut copies.frames, now, sockets);
        }
        // What follows may close the client, which has been written to all the same.
        if special.is_counted {
            self.count(id, batch);
        }
        if copies.special.is_none() {
            self.after_delivery(id, now, sockets);
        }
    }

    /// The bytes that are the same for all of a kind.
    #[inline(always)]
    fn deliver_shared(
        &mut self,
        target: Recipient,
        kind: Kind,
        (batch, shared): (&Batch, &mut Shared),
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        self.metrics.add(Metric::Deliveries, batch.publishes.len() as u64);
        self.metrics.add(Metric::FramesOut, batch.publishes.len() as u64);
        let bytes = match shared.plain_for(kind) {
            Some(bytes) => bytes,
            None => match self.other_copy(target, batch, shared) {
                Some(bytes) => bytes,
                None => return,
            },
        };
        self.write(id, &Outgoing::Shared(bytes), now, sockets);
    }

    /// Frames of this member's own: its ids are in them.
    #[inline(always)]
    fn write_frames(
        &mut self,
        target: Recipient,
        batch: &Batch,
        frames: &mut Frames,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let id = self.client_id(target.slot, target.generation);
        self.metrics.add(Metric::Deliveries, batch.publishes.len() as u64);
        self.metrics.add(Metric::FramesOut, batch.publishes.len() as u64);
        // Cleared here, since a panic may have left something of another member's.
        frames.clear();
        for entry in &batch.publishes {
            self.frame_for(target, entry, now, frames);
        }
        if self.write(id, &Outgoing::Frames(frames), now, sockets) {
            self.note_held(id, batch);
        }
        frames.clear();
    }

    /// The share of a member that does not get all of a batch.
    #[cold]
    fn write_some(
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
        if copies.special.is_some() {
            // Others may share it as little as it may be taken out of an outbox in parts.
            let bytes = budget::hold::<OUTBOXES>(frames.to_vec());
            self.write(id, &Outgoing::Shared(&bytes), now, sockets);
        } else if self.write(id, &Outgoing::Frames(frames), now, sockets) {
            self.note_held(id, batch);
        }
        frames.clear();
    }

    /// Counts a member that was just written to, for publishes that are only counted.
    fn count(&mut self, id: ClientId, batch: &Batch) {
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
    #[inline(always)]
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
