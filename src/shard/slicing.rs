//! Large fan-outs, served in slices from a snapshot of their members: one slice between two looks at clients and mailbox, so
//! that a large channel does not stall a small one. Members that left before their turn are skipped. Caller: `fanout.rs`,
//! which is told there what order comes of it.
//!
//! ```text
//!   batch ──▶ waiting ──▶ sliced ⟲ one slice in turn ──▶ over
//! ```
//! Bounds: one batch is sliced per channel, and one that is for several channels or for clients; what `waiting` holds is
//! bounded by the shard taking no mail ([`FANOUT_WAITING_BYTES_MAX`]).

use std::collections::VecDeque;

use super::Shard;
use super::collected::Batch;
use super::copies::{Copies, Shared};
use super::frames::Frames;
use super::recipients::{Recipient, SlotSet};
use super::sockets::Sockets;
use crate::engine::command::Target;
use crate::engine::ids::DeliveryKey;
use crate::engine::registry::Place;
use crate::limits::{FANOUT_SLICE_BYTES, FANOUT_SLICE_MEMBERS, FANOUT_WAITING_BYTES_MAX};
use crate::time::Instant;

/// Members looked at in one slice, per member it may serve: those who had their turn early cost nearly nothing.
const LOOKS_PER_MEMBER: usize = 64;

/// Large fan-outs of a shard.
#[derive(Debug, Default)]
pub struct Slices {
    /// In turn.
    sliced: VecDeque<Slicing>,
    /// How many there have been.
    begun: u64,
    /// Waiting for one to end.
    waiting: VecDeque<Batch>,
    /// How many of them are for several channels or for clients.
    waiting_any: usize,
    /// What `waiting` holds; see [`Batch::cost`].
    waiting_bytes: usize,
}

/// A batch that is served in slices.
#[derive(Debug)]
struct Slicing {
    /// In order of beginning.
    number: u64,
    /// Slots of the members that have not had their turn, from the first time on that one is to have it early. Whoever
    /// leaves the shard is taken out, so a slot is that of the snapshot.
    pending: Option<SlotSet>,
    /// Absent while it is at work.
    load: Option<Box<Load>>,
}

/// What is served.
#[derive(Debug)]
pub struct Load {
    /// The publishes.
    pub batch: Batch,
    /// Their bytes, if they are the same for all.
    pub shared: Option<Shared>,
    /// The snapshot.
    pub members: Vec<Recipient>,
    /// Whose turn it is.
    pub next: usize,
}

impl Slices {
    /// Whether nothing is being sliced.
    pub fn is_empty(&self) -> bool {
        self.sliced.is_empty()
    }

    /// Whether so much waits that no more should be taken.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes > FANOUT_WAITING_BYTES_MAX
    }

    /// Begins another one; its first slice has its turn after those of the others.
    pub fn begin(&mut self, load: Load) {
        self.begun += 1;
        self.sliced.push_back(Slicing {
            number: self.begun,
            pending: None,
            load: Some(Box::new(load)),
        });
    }

    /// Keeps a batch until those it would overtake are over.
    pub fn wait(&mut self, batch: Batch) {
        self.waiting_bytes += batch.cost();
        self.waiting_any += usize::from(is_any(&batch.to));
        self.waiting.push_back(batch);
    }

    /// The client of this slot leaves the shard: nobody has anything for it any more. Returns the records of what it does not
    /// get.
    pub fn forget(&mut self, slot: u32) -> Vec<DeliveryKey> {
        let mut keys = Vec::new();
        for slicing in &mut self.sliced {
            if slicing.pending.as_mut().is_some_and(|pending| pending.remove(slot))
                && let Some(load) = &slicing.load
            {
                keys.extend(load.batch.keys());
            }
        }
        keys
    }

    fn take_waiting(&mut self, at: usize) -> Option<Batch> {
        let batch = self.waiting.remove(at)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(batch.cost());
        self.waiting_any -= usize::from(is_any(&batch.to));
        Some(batch)
    }

    fn is_slicing(&self, to: &Target) -> bool {
        let mut loads = self.sliced.iter().filter_map(|slicing| slicing.load.as_ref());
        loads.any(|load| match to {
            Target::Set(_) => load.batch.to == *to,
            Target::Any(_) => is_any(&load.batch.to),
        })
    }

    /// The first one from number `from` to before `before` that is not at work: its place and number.
    fn next(&self, from: u64, before: u64) -> Option<(usize, u64)> {
        let is_one = |slicing: &Slicing| (from..before).contains(&slicing.number) && slicing.load.is_some();
        let slicings = self.sliced.iter().enumerate().filter(|(_, slicing)| is_one(slicing));
        let first = slicings.min_by_key(|(_, slicing)| slicing.number);
        first.map(|(at, slicing)| (at, slicing.number))
    }

    /// Whether the client of a slot has not had its turn in the one at that place; now it has.
    fn take_turn(&mut self, at: usize, slot: u32) -> bool {
        let pending = self.sliced.get_mut(at).and_then(|slicing| slicing.pending.as_mut());
        pending.is_some_and(|pending| pending.remove(slot))
    }

    /// The one whose turn it is: its load, its number, and whether some of its members had their turn early.
    fn front(&mut self) -> Option<(Box<Load>, u64, bool)> {
        let slicing = self.sliced.front_mut()?;
        let load = slicing.load.take()?;
        Some((load, slicing.number, slicing.pending.is_some()))
    }
}

impl Batch {
    /// Members that get it in one slice.
    pub fn slice_members(&self) -> usize {
        (FANOUT_SLICE_BYTES / self.bytes.max(1)).clamp(1, FANOUT_SLICE_MEMBERS)
    }
}

fn is_any(to: &Target) -> bool {
    matches!(to, Target::Any(_))
}

impl Shard {
    /// Whether a batch would overtake another one that is for the same clients.
    pub(super) fn has_to_wait(&self, batch: &Batch) -> bool {
        let slices = &self.fanout.slices;
        if slices.is_empty() {
            return false;
        }
        match &batch.to {
            Target::Set(_) => slices.waiting_any > 0 || slices.is_slicing(&batch.to),
            Target::Any(_) => !slices.waiting.is_empty() || self.is_too_large(batch),
        }
    }

    /// Another one that is for several channels or for clients would have to be sliced beside it.
    fn is_too_large(&self, batch: &Batch) -> bool {
        self.recipients_max(&batch.to) > batch.slice_members() && self.fanout.slices.is_slicing(&batch.to)
    }

    /// Where the first batch is that waits no longer.
    fn first_to_start(&self) -> Option<usize> {
        for (at, batch) in self.fanout.slices.waiting.iter().enumerate() {
            match &batch.to {
                Target::Set(_) if !self.fanout.slices.is_slicing(&batch.to) => return Some(at),
                Target::Set(_) => {}
                Target::Any(_) => return (at == 0 && !self.is_too_large(batch)).then_some(0),
            }
        }
        None
    }

    /// Delivers one slice of the large fan-out whose turn it is.
    pub(super) fn run_slice(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        let Some((mut load, number, is_ahead)) = self.fanout.slices.front() else {
            return;
        };
        let has_earlier = self.fanout.slices.sliced.len() > 1 && self.fanout.slices.next(0, number).is_some();
        if is_ahead || has_earlier {
            self.serve_some(&mut load, number, now, sockets);
        } else {
            self.serve(&mut load, now, sockets);
        }
        let slices = &mut self.fanout.slices;
        if let Some(mut slicing) = slices.sliced.pop_front()
            && load.next < load.members.len()
        {
            slicing.load = Some(load);
            return slices.sliced.push_back(slicing);
        }
        self.end(&load.batch);
        self.start_waiting(&load.batch.to, now, sockets);
    }

    /// Serves the members of one slice.
    fn serve(&mut self, load: &mut Load, now: Instant, sockets: &mut dyn Sockets) {
        let end = load.members.len().min(load.next + load.batch.slice_members());
        let (members, mut place) = (load.members.get(load.next..end).unwrap_or_default(), Place::default());
        let mut copies = Copies::new(&load.batch, load.shared.as_mut(), std::mem::take(&mut self.scratch));
        match &load.batch.to {
            Target::Set(name) => {
                for target in members {
                    let is_member = self.members.is_at(target.slot, name, &mut place);
                    self.deliver(*target, &load.batch, &mut copies, is_member, now, sockets);
                }
            }
            Target::Any(any) => {
                for target in members {
                    let is_member = self.is_any(self.client_id(target.slot, target.generation), any);
                    self.deliver(*target, &load.batch, &mut copies, is_member, now, sockets);
                }
            }
        }
        load.next = end;
        self.scratch = copies.frames;
    }

    /// The same where some have had their turn, or have something to come first, which counts as another member.
    #[inline(never)]
    fn serve_some(&mut self, load: &mut Load, number: u64, now: Instant, sockets: &mut dyn Sockets) {
        let (mut place, mut served) = (Place::default(), 0);
        let most = load.batch.slice_members();
        let end = load.members.len().min(load.next + most * LOOKS_PER_MEMBER);
        let mut copies = Copies::new(&load.batch, load.shared.as_mut(), std::mem::take(&mut self.scratch));
        while load.next < end && served < most {
            let target = load.members[load.next];
            load.next += 1;
            let Some(caught_up) = self.before_turn(target, number, now, sockets) else {
                continue;
            };
            let id = self.client_id(target.slot, target.generation);
            let is_member = self.is_recipient(id, &load.batch.to, &mut place);
            self.deliver(target, &load.batch, &mut copies, is_member, now, sockets);
            served += caught_up + 1;
        }
        self.scratch = copies.frames;
    }

    /// A member of the slicing in front is about to have its turn; `None` if it has had it. Else it gets what came earlier.
    fn before_turn(
        &mut self,
        target: Recipient,
        number: u64,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> Option<usize> {
        let slices = &mut self.fanout.slices;
        let is_ahead = slices.sliced.front().is_some_and(|front| front.pending.is_some());
        if is_ahead && !slices.take_turn(0, target.slot) {
            return None;
        }
        Some(self.catch_up(target, number, now, sockets))
    }

    /// A slicing is over: starts what waited for it.
    fn start_waiting(&mut self, ended: &Target, now: Instant, sockets: &mut dyn Sockets) {
        let is_plain = self.fanout.slices.waiting_any == 0 && !is_any(ended);
        loop {
            // Batches of one channel wait in order; the first may start now, and may have to be sliced again.
            let slices = &self.fanout.slices;
            let at = match is_plain {
                true if slices.is_slicing(ended) => None,
                true => slices.waiting.iter().position(|batch| batch.to == *ended),
                false => self.first_to_start(),
            };
            let Some(batch) = at.and_then(|at| self.fanout.slices.take_waiting(at)) else {
                break;
            };
            self.start(batch, now, sockets);
        }
    }

    /// Before a client gets something, it gets what slicings that began earlier than number `before` still have for it; says
    /// how many did.
    #[cold]
    pub(super) fn catch_up(
        &mut self,
        target: Recipient,
        before: u64,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> usize {
        let id = self.client_id(target.slot, target.generation);
        let (mut from, mut caught_up) = (0, 0);
        while let Some((at, number)) = self.fanout.slices.next(from, before) {
            from = number + 1;
            let Some(mut load) = self.fanout.slices.sliced[at].load.take() else {
                continue;
            };
            if self.is_recipient(id, &load.batch.to, &mut Place::default()) && self.has_its_turn(at, &load, target.slot)
            {
                let mut copies = Copies::new(&load.batch, load.shared.as_mut(), Frames::default());
                self.deliver(target, &load.batch, &mut copies, true, now, sockets);
                caught_up += 1;
            }
            self.fanout.slices.sliced[at].load = Some(load);
        }
        caught_up
    }

    /// Takes the turn of a client in a slicing, if it has not had it.
    fn has_its_turn(&mut self, at: usize, load: &Load, slot: u32) -> bool {
        if self.fanout.slices.sliced[at].pending.is_none() {
            let (pending, gone) = self.still_there(load.members.get(load.next..).unwrap_or_default());
            self.fanout.slices.sliced[at].pending = Some(pending);
            for key in load.batch.keys() {
                (0..gone).for_each(|_| self.member_skipped(key));
            }
        }
        self.fanout.slices.take_turn(at, slot)
    }
}
