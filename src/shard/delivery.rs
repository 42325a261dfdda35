//! Deliveries that wait for acknowledgements: one record per publish and shard, so that retries need one timer per publish
//! and not one per member (spec: section 8). One whose members are only counted ([`crate::engine::command::Tell::Counted`])
//! has such a record for as long as its fan-out takes.
//!
//! A delivery counts its members as done or failed, repeats to the others every `retry_interval`, tells the control core once — when
//! the last member is counted, or at the deadline — and lives on until the last member is counted.
//!
//! Repeating is for clients that could have read the message. To one whose socket has not taken it yet nothing is repeated,
//! and as long as the client reads, no repetition is used up: its clock starts when the last byte has left the outbox, at
//! the next beat. That costs an ordinary delivery nothing: what left at once is never looked at, and of the rest the outbox
//! knows since when its oldest byte has been waiting. A client that takes nothing at all loses one repetition a beat, so it
//! is given up when it always was.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use super::client::Timer;
use super::frames::Outgoing;
use super::sockets::Sockets;
use crate::engine::command::{Part, Publish, Qos, Report};
use crate::engine::ids::{ClientId, DeliveryKey};
use crate::engine::wheel::TimerId;
use crate::limits::RETRY_SLICE_MEMBERS;
use crate::metrics::Metric;
use crate::time::Instant;

/// One publish with acknowledgement on its way through this shard.
#[derive(Debug)]
pub struct Delivery {
    publish: Arc<Publish>,
    /// Shards this publish went to.
    shards: u32,
    /// Members and their message ids, in order of transmission; settled ones are removed in the next round of retries.
    waiting: Vec<Waiting>,
    /// Members this publish is for.
    members: u32,
    done: u32,
    failed: u32,
    data: Option<(Instant, Bytes)>,
    /// When the fan-out began.
    opened: Instant,
    /// A round of retries that is under way.
    round: Option<Round>,
    /// The fan-out is over: `members` is final.
    sent: bool,
    /// The control core has been told.
    told: bool,
    retry: Option<TimerId>,
    deadline: Option<TimerId>,
}

/// One round over the members that have not answered, in slices of [`RETRY_SLICE_MEMBERS`].
#[derive(Clone, Copy, Debug)]
struct Round {
    started: Instant,
    /// Position in `waiting` where the next slice begins.
    next: usize,
    /// Entries in front of it that still wait; the gap behind them is closed at the end of the round.
    kept: usize,
}

/// One member that has been sent the message.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    slot: u32,
    generation: u32,
    id: u16,
    /// Repetitions used up.
    tries: u16,
    /// When it was sent last.
    queued: Since,
    /// Present while its socket may not have taken all of that.
    held: Held,
}

/// Time since a delivery was opened, in units of 1024 µs, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Since(u32);

/// Whether a message waits in an outbox, and how often that had got shorter when it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    No,
    Yes(u16),
}

/// What is done about a member that has not answered.
enum Due {
    /// Nothing.
    Wait(Waiting),
    /// It is sent the message again.
    Repeat(Waiting),
    GiveUp,
}

impl Since {
    const UNIT_BITS: u32 = 10;

    fn new(opened: Instant, now: Instant) -> Self {
        let micros = now.as_micros().saturating_sub(opened.as_micros());
        Self(u32::try_from(micros.div_ceil(1 << Self::UNIT_BITS)).unwrap_or(u32::MAX))
    }

    fn after(self, opened: Instant) -> Instant {
        Instant::from_micros(opened.as_micros() + (u64::from(self.0) << Self::UNIT_BITS))
    }
}

impl Shard {
    /// Opens the record of `publish` for `members` members; its timers start now. One that is only counted repeats nothing.
    pub(super) fn open_delivery(
        &mut self,
        publish: &Arc<Publish>,
        shards: u32,
        members: usize,
        now: Instant,
    ) -> DeliveryKey {
        let (slot, generation) = self.deliveries.insert(Delivery {
            publish: publish.clone(),
            shards,
            waiting: Vec::with_capacity(if publish.is_counted() { 0 } else { members }),
            members: members as u32,
            done: 0,
            failed: 0,
            data: None,
            opened: now,
            round: None,
            sent: false,
            told: !publish.tell.has_parts(),
            retry: None,
            deadline: None,
        });
        let key = DeliveryKey { slot, generation };
        if let Some(delivery) = self.deliveries.get_mut(slot, generation) {
            let mut arm = |at, timer| Some(self.wheel.insert(at, timer));
            if publish.qos != Qos::AtMostOnce {
                delivery.retry = arm(now + publish.retry_interval, Timer::Retry(key));
            }
            if !delivery.told {
                delivery.deadline = arm(publish.deadline, Timer::Deadline(key));
            }
        }
        key
    }

    /// `client` is about to be sent the message under `id`.
    pub(super) fn member_sent(&mut self, key: DeliveryKey, client: ClientId, id: u16, now: Instant) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            delivery.waiting.push(Waiting {
                slot: client.slot,
                generation: client.generation,
                id,
                tries: 0,
                queued: Since::new(delivery.opened, now),
                held: Held::No,
            });
        }
    }

    /// The socket of the member sent to last did not take all of it.
    pub(super) fn member_held(&mut self, key: DeliveryKey, client: ClientId, advances: u16) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation)
            && let Some(last) = delivery.waiting.last_mut()
            && (last.slot, last.generation) == (client.slot, client.generation)
        {
            last.held = Held::Yes(advances);
        }
    }

    /// The message of a publish that is only counted was written to a member or queued for it, or it was not.
    pub(super) fn member_counted(&mut self, key: DeliveryKey, is_done: bool) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            match is_done {
                true => delivery.done += 1,
                false => delivery.failed += 1,
            }
        }
    }

    /// A member of the snapshot left the channel before its turn came, or it is not to get this one.
    pub(super) fn member_skipped(&mut self, key: DeliveryKey) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            delivery.members = delivery.members.saturating_sub(1);
        }
    }

    /// The fan-out of this publish is over.
    pub(super) fn delivery_sent(&mut self, key: DeliveryKey) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            delivery.sent = true;
            if delivery.publish.qos == Qos::AtMostOnce {
                // Whoever is not counted now was lost in a panic, and nobody else will tell.
                delivery.failed = delivery.members.saturating_sub(delivery.done);
            }
        }
        self.settle_delivery(key);
    }

    /// A member acknowledged, with data that may be empty.
    pub(super) fn member_done(&mut self, key: DeliveryKey, data: Bytes, now: Instant) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            delivery.done += 1;
            // Nobody waits for data that comes after the answer.
            if !data.is_empty() && !delivery.told {
                delivery.data = Some((now, data));
            }
            self.metrics.add(Metric::Acks, 1);
            self.settle_delivery(key);
        }
    }

    /// A member cannot acknowledge any more.
    pub(super) fn member_failed(&mut self, key: DeliveryKey) {
        if let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) {
            delivery.failed += 1;
            self.settle_delivery(key);
        }
    }

    /// The deadline of the caller passed: tell what is known.
    pub(super) fn on_delivery_deadline(&mut self, key: DeliveryKey) {
        let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) else {
            return;
        };
        delivery.deadline = None;
        if !delivery.told {
            delivery.told = true;
            let part = delivery.part();
            self.report(Report::Part(part));
        }
    }

    /// An interval after the last transmission: repeat to the members that have not answered, or give them up.
    pub(super) fn on_delivery_retry(&mut self, key: DeliveryKey, now: Instant, sockets: &mut dyn Sockets) {
        let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) else {
            return;
        };
        delivery.retry = None;
        if !delivery.sent {
            // A fan-out that takes longer than a retry interval: its members have not had their turn.
            let timer = self
                .wheel
                .insert(now + delivery.publish.retry_interval, Timer::Retry(key));
            delivery.retry = Some(timer);
            return;
        }
        let (retries, opened) = (delivery.publish.retries, delivery.opened);
        let mut round = delivery.round.take().unwrap_or(Round {
            started: now,
            next: 0,
            kept: 0,
        });
        let mut waiting = std::mem::take(&mut delivery.waiting);
        let publish = delivery.publish.clone();
        let end = waiting.len().min(round.next + RETRY_SLICE_MEMBERS);
        for at in round.next..end {
            let member = waiting[at];
            let id = self.client_id(member.slot, member.generation);
            match self.due(member, key, retries, opened) {
                None => {}
                Some(Due::Wait(member)) => round.keep(&mut waiting, member),
                Some(Due::Repeat(mut member)) => {
                    self.contained(id, now, sockets, |shard, sockets| {
                        member.held = shard.repeat_to(member, &publish, now, sockets);
                    });
                    member.queued = Since::new(opened, now);
                    round.keep(&mut waiting, member);
                }
                Some(Due::GiveUp) => {
                    self.contained(id, now, sockets, |shard, sockets| {
                        shard.give_up(member, key, now, sockets);
                    });
                }
            }
        }
        round.next = end;
        // Settled meanwhile: the last member was given up, or its connection broke just now.
        let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) else {
            return;
        };
        if end < waiting.len() {
            delivery.retry = Some(self.wheel.insert(now, Timer::Retry(key)));
            delivery.round = Some(round);
        } else if round.kept > 0 {
            waiting.truncate(round.kept);
            delivery.retry = Some(
                self.wheel
                    .insert(round.started + publish.retry_interval, Timer::Retry(key)),
            );
        } else {
            // Whoever is not counted now was lost in a panic.
            delivery.failed = delivery.members.saturating_sub(delivery.done);
            return self.settle_delivery(key);
        }
        delivery.waiting = waiting;
    }

    /// What is to be done about a member now; `None` if it waits no longer.
    fn due(&mut self, mut member: Waiting, key: DeliveryKey, retries: u32, opened: Instant) -> Option<Due> {
        let client = self.clients.get_mut(member.slot, member.generation)?;
        if !client.open()?.session.is_waiting(member.id, key) {
            return None;
        }
        let queued = member.queued.after(opened);
        let is_held = client.write_armed && client.outbox.waiting_since().is_some_and(|since| since <= queued);
        match member.held {
            Held::Yes(_) if !is_held => {
                // All of it left since the last beat: the clock starts here.
                member.held = Held::No;
                return Some(Due::Wait(member));
            }
            Held::Yes(before) if before != client.advances => {
                member.held = Held::Yes(client.advances);
                return Some(Due::Wait(member));
            }
            Held::No if is_held => member.held = Held::Yes(client.advances),
            _ => {}
        }
        if u32::from(member.tries) >= retries {
            return Some(Due::GiveUp);
        }
        member.tries += 1;
        Some(if is_held {
            Due::Wait(member)
        } else {
            Due::Repeat(member)
        })
    }

    /// Sends the message again; returns whether the socket took less than all of it.
    fn repeat_to(&mut self, member: Waiting, publish: &Publish, now: Instant, sockets: &mut dyn Sockets) -> Held {
        let id = self.client_id(member.slot, member.generation);
        let mut frame = std::mem::take(&mut self.scratch);
        if let Some(open) = self
            .clients
            .get_mut(member.slot, member.generation)
            .and_then(|client| client.open())
        {
            open.session.repeat(publish, member.id, frame.head());
            frame.push_payload(&publish.payload);
        }
        self.metrics.add(Metric::Redeliveries, 1);
        self.metrics.add(Metric::FramesOut, 1);
        let is_held = self.write(id, &Outgoing::Frames(&frame), now, sockets);
        frame.clear();
        self.scratch = frame;
        match self.clients.get(member.slot, member.generation) {
            Some(client) if is_held => Held::Yes(client.advances),
            _ => Held::No,
        }
    }

    fn give_up(&mut self, member: Waiting, key: DeliveryKey, now: Instant, sockets: &mut dyn Sockets) {
        let id = self.client_id(member.slot, member.generation);
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(open) = self
            .clients
            .get_mut(member.slot, member.generation)
            .and_then(|client| client.open())
        {
            open.session.on_exhausted(member.id, &mut actions);
        }
        self.perform(id, &mut actions, now, sockets);
        self.actions = actions;
        self.member_failed(key);
    }

    /// Tells the control core and forgets the delivery, if all members are counted.
    fn settle_delivery(&mut self, key: DeliveryKey) {
        let Some(delivery) = self.deliveries.get_mut(key.slot, key.generation) else {
            return;
        };
        if !delivery.sent || delivery.done + delivery.failed < delivery.members {
            return;
        }
        let Some(mut delivery) = self.deliveries.remove(key.slot, key.generation) else {
            return;
        };
        for timer in [delivery.retry, delivery.deadline].into_iter().flatten() {
            self.wheel.cancel(timer);
        }
        if !delivery.told {
            self.report(Report::Part(delivery.part()));
        }
    }
}

impl Round {
    fn keep(&mut self, waiting: &mut [Waiting], member: Waiting) {
        if let Some(place) = waiting.get_mut(self.kept) {
            *place = member;
            self.kept += 1;
        }
    }
}

impl Delivery {
    /// What is told; its data is not kept any longer.
    fn part(&mut self) -> Part {
        Part {
            ticket: self.publish.ticket,
            shards: self.shards,
            done: self.done,
            failed: self.failed,
            silent: self.members.saturating_sub(self.done + self.failed),
            data: self.data.take(),
        }
    }
}
