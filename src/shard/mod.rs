//! One core's world, without sockets and clock: its clients, its part of the channels, its timers.
//!
//! The shell (or the simulator) calls in with what happened and the time it happened at; the shard writes through
//! [`Sockets`] and leaves messages for other cores ([`Shard::mail`]). Nothing blocks, nothing is shared.
//!
//! A group of calls is a turn ([`turn`]): its mail is posted, collected publishes are delivered, corked replies are written.
//!
//! | file | what |
//! | --- | --- |
//! | `turn.rs` | the order of things in a turn, for everybody who drives a shard |
//! | `input.rs` | bytes in: heads, frames, pause and resume |
//! | `handshake.rs` | request head → refuse, hand over, ask the business; the answer → open |
//! | `members.rs` | join, leave, occupy, users |
//! | `queries.rs` | what callers ask about clients and sets, page by page |
//! | `steps.rs`, `timers.rs` | what sessions want done; their timers |
//! | `collected.rs`, `fanout.rs`, `slicing.rs`, `delivery.rs` | publishes of a turn; publish → members; to many in slices; acknowledgements, retries, counts |
//! | `recipients.rs`, `copies.rs` | whom of this shard a publish is for; its bytes, encoded once for all alike |
//! | `output.rs`, `frames.rs` | bytes out, corking, slow consumers; frames that share their payload |
//! | `closing.rs`, `drain.rs`, `contain.rs` | how a client ends; how all do when the server stops; what a panic costs |
//! | `gate.rs` | who is turned away at once |
//! | `rate.rs`, `slow.rs`, `liveness.rs` | clients that send too much, take too little, say nothing |
//! | `inflate.rs` | how much of what comes compressed is inflated in one turn, and who waits for the next |
//! | `memory.rs` | what clients do while memory is short, and begun messages that never end |

mod client;
mod closing;
mod collected;
mod contain;
mod copies;
mod delivery;
mod drain;
mod fanout;
mod frames;
mod gate;
mod handshake;
mod inflate;
mod input;
mod liveness;
mod members;
mod memory;
mod notes;
mod output;
mod queries;
mod rate;
mod recipients;
mod slicing;
mod slow;
mod sockets;
mod steps;
mod timers;
pub mod turn;

use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::{CallbackOutcome, Command, Done, Report};
use crate::engine::ids::{ClientId, IdentityKey, ShardId};
use crate::engine::outbox::Pool;
use crate::engine::registry::{HomeHash, Interest, Members, Online};
use crate::engine::slots::Slots;
use crate::engine::wheel::Wheel;
use crate::metrics::{CoreMetrics, Metric};
use crate::protocol::{Actions, Door, DoorPolicy, ListenerId, Session};
use crate::time::Instant;
use crate::wire::deflate::Codec;

use client::{Client, Phase, Timer};
use delivery::Delivery;
use drain::Drain;
use fanout::Fanout;
use frames::Frames;
use inflate::Inflating;
pub use input::Input;
pub use sockets::{Sent, Sockets, Verdict};

/// Timers fired per turn.
const TIMERS_PER_TURN: usize = 1024;
/// Clients closed per turn while draining.
const CLOSES_PER_TURN: usize = 256;

/// What a session sees of its shard; a macro because it borrows fields, not the whole shard.
macro_rules! context {
    ($shard:expr, $id:expr, $now:expr) => {
        $crate::protocol::Context {
            client: $id,
            identities: &$shard.identities,
            config: &$shard.config,
            now: $now,
            names: $crate::protocol::Names::of(&$shard.members, $id.slot),
        }
    };
}
use context;

/// What a shard is made of.
#[derive(Clone)]
pub struct Setup {
    /// Its number.
    pub id: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Where channels are at home; the same on every core.
    pub home: HomeHash,
    /// Makes identities; the same on every core.
    pub identities: IdentityKey,
    /// Wall-clock time of `Instant::ZERO`, in microseconds since 1970, until [`Shard::set_wall_clock`]; for `Date` headers only.
    pub started_unix_micros: u64,
    /// Seeds the hash maps; random per process.
    pub seed: u64,
    /// Settings.
    pub config: Arc<Config>,
    /// This core's counters.
    pub metrics: Arc<CoreMetrics>,
}

/// What a shard holds at a moment.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections in any phase.
    pub clients: usize,
    /// Publishes with members that neither acknowledged nor failed.
    pub deliveries: usize,
    /// Timers on the wheel.
    pub timers: usize,
    /// Pairs of client and channel.
    pub memberships: usize,
    /// Clients of whom it is known where they are online.
    pub users: usize,
    /// Channels at home here that have members anywhere.
    pub interests: usize,
    /// Bytes in the fullest outbox.
    pub outbox_bytes_max: usize,
    /// Messages of one client that wait for the business, under way and queued, where most do.
    pub forwards_max: usize,
}

/// One core's clients and channels.
pub struct Shard {
    id: ShardId,
    shards: usize,
    home: HomeHash,
    identities: IdentityKey,
    started_unix_micros: u64,
    /// Where this shard's series of reconnect delays begins.
    seed: u64,
    config: Arc<Config>,
    /// Of each door, by its number.
    policies: [DoorPolicy; Door::ALL.len()],
    metrics: Arc<CoreMetrics>,
    clients: Slots<Client>,
    /// Clients in [`Phase::Handshaking`].
    handshaking: usize,
    members: Members,
    online: Online,
    interest: Interest,
    wheel: Wheel<Timer>,
    deliveries: Slots<Delivery>,
    fanout: Fanout,
    pool: Pool,
    /// Compresses for all clients that agreed to it.
    codec: Codec,
    inflating: Inflating,
    dirty: Vec<ClientId>,
    /// Replies have to wait: mail they rely on has not left. So it is all through a turn, until its mail is posted.
    corked: bool,
    commands: Vec<(ShardId, Command)>,
    reports: Vec<Report>,
    /// Reused: what a session wants done, frames being built, timers that fired.
    actions: Actions,
    scratch: Frames,
    fired: Vec<Timer>,
    drain: Option<Drain>,
    /// Clients that were told when to come back.
    restarts_told: u64,
    notes: notes::Notes,
    queries: queries::Queries,
}

impl Shard {
    /// An empty shard.
    pub fn new(setup: Setup) -> Self {
        Self {
            id: setup.id,
            shards: setup.shards,
            home: setup.home,
            identities: setup.identities,
            started_unix_micros: setup.started_unix_micros,
            seed: setup.seed.rotate_left(u32::from(setup.id.0)),
            policies: policies(&setup.config),
            config: setup.config,
            metrics: setup.metrics,
            clients: Slots::new(),
            handshaking: 0,
            members: Members::new(setup.seed),
            online: Online::default(),
            interest: Interest::new(setup.seed),
            wheel: Wheel::new(),
            deliveries: Slots::new(),
            fanout: Fanout::new(SeedableRandomState::with_seed(setup.seed, SharedSeed::global_random())),
            pool: Pool::new(),
            codec: Codec::default(),
            inflating: Inflating::default(),
            dirty: Vec::new(),
            corked: true,
            commands: Vec::new(),
            reports: Vec::new(),
            actions: Actions::default(),
            scratch: Frames::default(),
            fired: Vec::new(),
            drain: None,
            restarts_told: 0,
            notes: notes::Notes::default(),
            queries: queries::Queries::default(),
        }
    }

    /// It is `unix_micros` since 1970 at `now`; for `Date` headers only. Call it once a second: the wall clock may be set, and
    /// the monotonic one stands still while the machine sleeps.
    pub fn set_wall_clock(&mut self, unix_micros: u64, now: Instant) {
        self.started_unix_micros = unix_micros.saturating_sub(now.as_micros());
    }

    /// Settings changed; what is under way keeps its old deadlines.
    pub fn reload(&mut self, config: Arc<Config>) {
        self.policies = policies(&config);
        self.config = config;
    }

    /// A connection was accepted by this listener. `None`: refuse it, the server is full or stopping.
    pub fn on_accept(&mut self, listener: ListenerId, now: Instant) -> Option<ClientId> {
        if !self.has_room() {
            self.count_close(CloseCause::Overloaded);
            return None;
        }
        self.metrics.add(Metric::Accepted, 1);
        self.metrics.add(Metric::ConnectionsOpen, 1);
        self.count_handshaking(true);
        let (shard, wheel) = (self.id, &mut self.wheel);
        let deadline = now + self.config.handshake_timeout;
        let (slot, generation) = self.clients.insert_with(|slot, generation| {
            let id = ClientId {
                shard,
                slot,
                generation,
            };
            Client::new(listener, wheel.insert(deadline, Timer::Handshake(id)))
        });
        Some(self.client_id(slot, generation))
    }

    /// The socket takes bytes again; it is written to at the end of the turn.
    pub fn on_writable(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.write_armed = false;
        if !std::mem::replace(&mut client.dirty, true) {
            self.dirty.push(id);
        }
    }

    /// The peer has ended the connection, or it broke.
    pub fn on_end(&mut self, id: ClientId, cause: CloseCause, now: Instant, sockets: &mut dyn Sockets) {
        self.drop_client(id, cause, now, sockets);
    }

    /// A message from another core.
    pub fn on_command(&mut self, command: Command, now: Instant, sockets: &mut dyn Sockets) {
        // Collected publishes come before everything that could change who receives them, or that answers their effects.
        if self.fanout.has_collected()
            && !matches!(
                command,
                Command::Publish(_) | Command::Deliver(..) | Command::Interest { .. }
            )
        {
            self.run_collected(now, sockets);
        }
        match command {
            Command::Publish(publish) => self.distribute(publish),
            Command::Deliver(publish, shards) => self.fanout.collect(publish, shards),
            Command::Interest { channel, shard, joined } => self.interest.note(&channel, shard, joined),
            Command::Join {
                client,
                channel,
                ticket,
            } => {
                let done = self.join(client, channel, now);
                self.report(Report::Done { ticket, done });
            }
            Command::Leave {
                client,
                channel,
                ticket,
            } => {
                let done = self.leave(client, &channel);
                self.report(Report::Done { ticket, done });
            }
            Command::Occupy {
                channel,
                client,
                ticket,
            } => self.occupy(channel, client, ticket, now),
            Command::Vacate { channel } => self.vacate(&channel),
            Command::CallbackDone { client, token, outcome } => {
                let step = |shard: &mut Self, sockets: &mut dyn Sockets| {
                    shard.on_callback(client, token, outcome, now, sockets)
                };
                if self.contained(client, now, sockets, step).is_none() {
                    self.forget_unanswered(client);
                }
            }
            Command::Query {
                query,
                cursor,
                max,
                ticket,
            } => self.queries.push(query, cursor, max, ticket),
            Command::Unbind { client, space, ticket } => {
                let done = self.unbind(client, space);
                self.report(Report::Done { ticket, done });
            }
            Command::Edit { client, edit, ticket } => {
                let step = |shard: &mut Self, _: &mut dyn Sockets| shard.edit(client, &edit, now);
                let done = self.contained(client, now, sockets, step).unwrap_or(Done::NoClient);
                self.report(Report::Done { ticket, done });
            }
            Command::Close { client, order, ticket } => {
                let step =
                    |shard: &mut Self, sockets: &mut dyn Sockets| shard.close_by_order(client, &order, now, sockets);
                let done = self.contained(client, now, sockets, step).unwrap_or(Done::Changed);
                self.report(Report::Done { ticket, done });
            }
            Command::Drain => self.begin_drain(now),
        }
    }

    /// Whether a large fan-out is not over.
    pub fn is_slicing(&self) -> bool {
        self.fanout.has_slices()
    }

    /// Whether mail should wait until large fan-outs have gone on: they hold all they may.
    pub fn is_full(&self) -> bool {
        self.fanout.is_full()
    }

    /// Fires the timers that are due. True if more are due at once.
    pub fn on_tick(&mut self, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let mut fired = std::mem::take(&mut self.fired);
        let more = self.wheel.advance(now, TIMERS_PER_TURN, &mut fired);
        for timer in fired.drain(..) {
            self.on_timer(timer, now, sockets);
        }
        self.fired = fired;
        more
    }

    /// When [`Shard::on_tick`] should be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Connections this shard holds, whatever their phase.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Panics contained so far, for the simulator.
    #[doc(hidden)]
    pub fn debug_panics(&self) -> u64 {
        self.metrics.value(Metric::Panics)
    }

    /// What the shard holds, for the simulator.
    #[doc(hidden)]
    pub fn debug_counts(&self) -> Counts {
        let outboxes = self.clients.iter().map(|(_, _, client)| client.outbox.len_bytes());
        let sessions = self.clients.iter().filter_map(|(_, _, client)| match &client.phase {
            Phase::Open(open) => Some(&open.session),
            _ => None,
        });
        let forwards = sessions.map(Session::callbacks_pending);
        Counts {
            clients: self.clients.len(),
            deliveries: self.deliveries.len(),
            timers: self.wheel.len(),
            memberships: self.members.memberships(),
            users: self.online.len(),
            interests: self.interest.len(),
            outbox_bytes_max: outboxes.max().unwrap_or(0),
            forwards_max: forwards.max().unwrap_or(0),
        }
    }

    fn on_timer(&mut self, timer: Timer, now: Instant, sockets: &mut dyn Sockets) {
        match timer {
            Timer::Handshake(id) => {
                self.contained(id, now, sockets, |shard, sockets| {
                    shard.on_handshake_timeout(id, now, sockets)
                });
            }
            Timer::FirstByte(id) => {
                self.contained(id, now, sockets, |shard, sockets| {
                    shard.drop_client(id, CloseCause::TlsSilent, now, sockets)
                });
            }
            Timer::Session(id, kind) => {
                self.contained(id, now, sockets, |shard, sockets| {
                    shard.on_session_timer(id, kind, now, sockets)
                });
            }
            Timer::Liveness(id) => {
                self.contained(id, now, sockets, |shard, sockets| shard.on_liveness(id, now, sockets));
            }
            Timer::Outbox(id) => {
                self.contained(id, now, sockets, |shard, sockets| shard.on_outbox_age(id, now, sockets));
            }
            Timer::Begun(id) => {
                self.contained(id, now, sockets, |shard, sockets| shard.on_begun(id, now, sockets));
            }
            Timer::Rate(id) => {
                self.contained(id, now, sockets, |shard, sockets| shard.on_rate(id, now, sockets));
            }
            Timer::Linger(id) => {
                if let Some(Phase::Closing(closing)) = self.phase_mut(id) {
                    closing.linger = None;
                    self.close_socket(id, now, sockets);
                }
            }
            Timer::Retry(key) => self.on_delivery_retry(key, now, sockets),
            Timer::Deadline(key) => self.on_delivery_deadline(key),
            Timer::Drain => self.on_drain_timer(),
        }
    }

    /// A callback of an admitted or closing client has ended.
    fn on_callback(
        &mut self,
        id: ClientId,
        token: u64,
        outcome: CallbackOutcome,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let context = context!(self, id, now);
        let mut actions = std::mem::take(&mut self.actions);
        match self
            .clients
            .get_mut(id.slot, id.generation)
            .map(|client| &mut client.phase)
        {
            Some(Phase::Authorising { .. }) => self.on_auth(id, &outcome, &mut actions, now, sockets),
            Some(Phase::Open(open)) => open.session.on_callback(context, token, outcome, true, &mut actions),
            Some(Phase::Closing(closing)) => {
                if let Some(session) = &mut closing.session {
                    session.on_callback(context, token, outcome, false, &mut actions);
                }
            }
            Some(Phase::Handshaking { .. }) | None => {}
        }
        self.perform(id, &mut actions, now, sockets);
        self.actions = actions;
        self.settle_closing(id, now);
        self.resume_input(id, now, sockets);
    }

    /// How clients of a door are treated.
    fn policy(&self, door: Door) -> &DoorPolicy {
        &self.policies[door as usize]
    }

    fn client_id(&self, slot: u32, generation: u32) -> ClientId {
        ClientId {
            shard: self.id,
            slot,
            generation,
        }
    }

    fn phase_mut(&mut self, id: ClientId) -> Option<&mut Phase> {
        self.clients
            .get_mut(id.slot, id.generation)
            .map(|client| &mut client.phase)
    }

    fn free(&mut self, id: ClientId) {
        if let Some(mut client) = self.clients.remove(id.slot, id.generation) {
            client.outbox.clear(&mut self.pool);
        }
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }

    fn count_close(&self, cause: CloseCause) {
        self.metrics.count_close(cause.index());
    }
}

fn policies(config: &Config) -> [DoorPolicy; Door::ALL.len()] {
    Door::ALL.map(|door| door.policy(config))
}
