//! The simulated process: shards, mailboxes, sockets and time, all driven from one seed.
//!
//! Everything that happens is an event at a virtual microsecond; delays are random and bounded, so runs of one seed are
//! equal and runs of two seeds interleave differently. `plan.rs` says what a run is like, `cores.rs` has the cores with their
//! mailboxes, `control.rs` the callers, `business.rs` what is called back, `conn.rs`, `far.rs` and `byzantine.rs` the clients.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rainbow_server::config::Config;
use rainbow_server::engine::command::Command;
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::metrics::CoreMetrics;
use rainbow_server::shard::{Counts, Shard};
use rainbow_server::time::Instant;

use crate::bugs::Bug;
use crate::conn::{Conn, End};
use crate::control::Control;
use crate::cores::Cores;
use crate::net::Net;
use crate::plan::{BUSY, CATCH_UP, Plan, QUIET, STOP};
use crate::records::{Records, Seq};
use crate::rig;
use crate::rng::Rng;

/// Mail that may wait in the outlets of one core: what one turn may leave, many times.
const OVERFLOW_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    Run(usize),
    Tick(usize),
    Control,
    Accept(usize),
    Readable(usize),
    Writable(usize),
    Read(usize),
    Act(usize),
    Say(usize, u64),
    Leave(usize, bool),
    Business(u64),
    Api,
    Deadline,
    Node(Ticket, u64),
    Reload(usize),
    Stall(usize, u64),
    Census,
    Calm,
    CatchUp,
    Drain,
    End,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: Instant,
    pub seq: Seq,
    pub records: Records,
    pub conns: Vec<Conn>,
    pub by_client: BTreeMap<ClientId, usize>,
    pub calm: bool,
    pub draining: bool,
    pub control: Control,
    pub shards: Vec<Shard>,
    pub cores: Cores,
    pub configs: Vec<Arc<Config>>,
    pub metrics: Vec<Arc<CoreMetrics>>,
    pub bug: Option<Bug>,
    pub bug_struck: u32,
    pub fault: Option<String>,
    trace: VecDeque<String>,
    trace_lines: usize,
    /// Of everything that happened, and of every byte a client got.
    hash: DefaultHasher,
    agenda: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub planned: u64,
    pub nets: Vec<Net>,
    pub tick_planned: Vec<Option<u64>>,
    pub said: BTreeMap<u64, Vec<u8>>,
    outbox_bytes: usize,
    forward_queue: usize,
}

impl World {
    /// The world of a seed, which keeps the last `lines` events.
    pub fn new(seed: u64, bug: Option<Bug>, lines: usize) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(seed, &mut rng);
        let configs: Vec<_> = plan.settings.iter().map(|(_, all)| Arc::new(all.config(bug))).collect();
        let count = plan.shards;
        let metrics = rig::metrics(count);
        let most = |of: fn(&crate::plan::Settings) -> usize| plan.settings.iter().map(|(_, all)| of(all)).max();
        let mut world = Self {
            shards: rig::shards(&metrics, seed, &configs[0]),
            cores: Cores::new(&plan, &metrics),
            metrics,
            control: Control::new(seed, count),
            outbox_bytes: most(|all| all.outbox_bytes).unwrap_or(0),
            forward_queue: most(|all| all.forward_queue).unwrap_or(0),
            configs,
            plan,
            rng,
            now: Instant::from_micros(1_000),
            seq: 0,
            records: Records::default(),
            conns: Vec::new(),
            by_client: BTreeMap::new(),
            calm: false,
            draining: false,
            bug,
            bug_struck: 0,
            fault: None,
            trace: VecDeque::new(),
            trace_lines: lines,
            hash: DefaultHasher::new(),
            agenda: BinaryHeap::new(),
            planned: 0,
            nets: (0..count).map(|_| Net::default()).collect(),
            tick_planned: vec![None; count],
            said: BTreeMap::new(),
        };
        world.records.drained = vec![0; count];
        world.plan_clients();
        world.plan_the_rest();
        world.start_cores();
        world.enter_keepers();
        world
    }

    fn plan_clients(&mut self) {
        for number in 0..self.plan.clients {
            let shard = if self.plan.crowd {
                0
            } else {
                self.rng.index(self.plan.shards)
            };
            let mut conn = Conn::new(number, shard, &mut self.rng);
            if self.plan.crowd {
                (conn.habits.messages, conn.habits.reconnects) = (0, 0);
            }
            self.conns.push(conn);
            let last = if self.plan.crowd { BUSY / 8 } else { BUSY * 3 / 4 };
            let mut at = self.rng.within(0, last);
            if self.rng.chance(8) {
                // In the middle of its handshake when the server stops, or too late.
                at = self.plan.drain - 3_000_000 + self.rng.within(0, 4_000_000);
            }
            self.plan_at(at, Event::Accept(number));
        }
    }

    fn plan_the_rest(&mut self) {
        for _ in 0..10 {
            let at = self.plan.drain + self.rng.within(0, 8_000_000);
            self.plan_at(at, Event::Api);
        }
        for number in 1..self.plan.settings.len() {
            self.plan_at(self.plan.settings[number].0, Event::Reload(number));
        }
        for (from, until, core) in self.plan.stalls.clone() {
            self.plan_at(from, Event::Stall(core, until));
        }
        self.plan_at(5_000, Event::Api);
        self.plan_at(BUSY, Event::Calm);
        if !self.plan.drains_busy {
            self.plan_at(CATCH_UP, Event::CatchUp);
            self.plan_at(QUIET - 5_000_000, Event::Census);
        }
        self.plan_at(self.plan.drain, Event::Drain);
        self.plan_at(self.plan.drain + STOP, Event::End);
    }

    /// Runs to the end; the first thing that is wrong.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            self.now = self.now.max(Instant::from_micros(at));
            (self.now.as_micros(), event).hash(&mut self.hash);
            if !matches!(event, Event::Run(_) | Event::Tick(_) | Event::Control) {
                self.trace(|| format!("{event:?}"));
            }
            match event {
                Event::Drain => {
                    if !self.plan.drains_busy {
                        self.check_quiet()?;
                        self.hurry(false);
                    }
                    self.drain();
                }
                Event::End => return self.check_end(),
                event => self.on_event(event),
            }
            self.answer_bells();
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
        }
        Err("the agenda ended early".into())
    }

    /// The last events, oldest first.
    pub fn last_events(&self) -> Vec<String> {
        self.trace.iter().cloned().collect()
    }

    /// Equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    pub fn hash(&mut self, bytes: &[u8]) {
        bytes.hash(&mut self.hash);
    }

    pub fn trace(&mut self, what: impl FnOnce() -> String) {
        if self.trace_lines > 0 {
            if self.trace.len() == self.trace_lines {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:>12} {}", self.now.as_micros(), what()));
        }
    }

    /// The first fault is the one that is told.
    pub fn blame(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    pub fn next_seq(&mut self) -> Seq {
        self.seq += 1;
        self.seq
    }

    pub fn plan_at(&mut self, micros: u64, event: Event) {
        self.planned += 1;
        self.agenda.push(Reverse((micros, self.planned, event)));
    }

    pub fn plan_in(&mut self, micros: u64, event: Event) {
        self.plan_at(self.now.as_micros() + micros, event);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Run(shard) => self.run_shard(shard),
            Event::Tick(shard) => self.tick(shard),
            Event::Control => self.run_control(),
            Event::Accept(number) => self.accept(number),
            Event::Readable(number) => self.readable(number),
            Event::Writable(number) => self.writable(number),
            Event::Read(number) => self.client_reads(number),
            Event::Act(number) => self.client_acts(number),
            Event::Say(number, what) => {
                let bytes = self.said.remove(&what).unwrap_or_default();
                self.write_up(number, &bytes);
            }
            Event::Leave(number, reset) => self.leave(number, if reset { End::Reset } else { End::Fin }),
            Event::Business(serial) => self.business_answers(serial),
            Event::Api => self.api_acts(),
            Event::Deadline => self.on_deadline(),
            Event::Node(ticket, counted) => self.on_node(ticket, counted),
            Event::Reload(settings) => self.reload(settings),
            Event::Stall(core, until) => self.stall(core, until),
            Event::Census => self.take_census(),
            Event::Calm => self.calm = true,
            Event::CatchUp => self.hurry(true),
            Event::Drain | Event::End => unreachable!("handled by the caller"),
        }
    }

    /// What holds at any time.
    pub fn check_bounds(&mut self, counts: Counts) {
        let outbox = counts.outbox_bytes_max;
        if outbox > self.outbox_bytes + 300 * 1024 {
            self.blame(format!("{outbox} bytes in an outbox"));
        }
        // Four times the bound while a client owes acknowledgements, and it may have been read just before a reload.
        let forwards = counts.forwards_max;
        if forwards > self.forward_queue * 4 {
            self.blame(format!("{forwards} messages of one client wait for the business"));
        }
        let overflow = self.cores.overflow_max;
        if overflow > OVERFLOW_MAX {
            self.blame(format!("{overflow} messages wait in the outlets of one core"));
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        for conn in &mut self.conns {
            conn.stayed = conn.is_well();
            conn.stopped = true;
        }
        for shard in 0..self.plan.shards {
            self.post(ShardId(shard as u16), Command::Drain, Vec::new());
        }
    }
}
