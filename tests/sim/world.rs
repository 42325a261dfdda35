//! The simulated process: shards, mailboxes, sockets and time, all driven from one seed.
//!
//! Everything that happens is an event at a virtual microsecond; delays are random and bounded, so runs of one seed are
//! equal and runs of two seeds interleave differently. Mailboxes keep what crossbeam promises: one order of all pushes per
//! receiver. `control.rs` is the control core with its callers, `business.rs` what they call back,
//! `conn.rs` and `far.rs` are the clients.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use rainbow_server::engine::command::{Command, Report};
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::engine::registry::HomeHash;
use rainbow_server::metrics::CoreMetrics;
use rainbow_server::shard::Shard;
use rainbow_server::time::Instant;

use crate::bugs::Bug;
use crate::conn::{Conn, End};
use crate::control::Control;
use crate::net::Net;
use crate::records::{Records, Seq};
use crate::rig;
use crate::rng::Rng;

/// Clients arrive, callers call and business servers fail for so long.
const BUSY: u64 = 40_000_000;
/// Then everything that was begun comes to its end.
const QUIET: u64 = 240_000_000;
/// Then the server stops.
const END: u64 = 330_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    Deadline(Ticket),
    Calm,
    Drain,
    End,
}

/// What differs between runs, besides chance.
pub struct Plan {
    pub shards: usize,
    pub clients: usize,
    pub channels: usize,
    pub api_gap_ms: u64,
    pub settings: String,
    /// Publishes with kilobytes of payload, in percent.
    pub large_percent: u64,
    /// A crowd on one shard, all in channel 0.
    pub crowd: bool,
}

/// A command on its way, and the changes it will have made (indices into [`Records::changes`]).
pub struct Mail {
    pub command: Command,
    pub changes: Vec<usize>,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: Instant,
    pub seq: Seq,
    pub records: Records,
    pub conns: Vec<Conn>,
    pub by_client: BTreeMap<ClientId, usize>,
    pub home: HomeHash,
    pub calm: bool,
    pub draining: bool,
    pub control: Control,
    pub shards: Vec<Shard>,
    pub metrics: Vec<Arc<CoreMetrics>>,
    pub bug: Option<Bug>,
    pub bug_struck: u32,
    pub fault: Option<String>,
    trace: Option<VecDeque<String>>,
    agenda: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub planned: u64,
    pub nets: Vec<Net>,
    mail: Vec<VecDeque<Mail>>,
    run_planned: Vec<bool>,
    tick_planned: Vec<Option<u64>>,
    inbox: VecDeque<Report>,
    control_planned: bool,
    pub said: BTreeMap<u64, Vec<u8>>,
    /// Mail held back by [`Bug::Overtake`]: from, to, what.
    held: Vec<(usize, ShardId, Command)>,
    outbox_bytes: usize,
}

impl Plan {
    fn new(seed: u64, rng: &mut Rng) -> Self {
        let crowd = seed % 25 == 7;
        let order = rng.pick(&["none", "client\nforward_window=1", "client\nforward_window=3"]);
        let queue = rng.pick(&["2", "128"]);
        let bytes = rng.pick(&["4k", "1m"]);
        let inflight = rng.pick(&["4096", "4096", "3"]);
        Self {
            shards: if crowd { 2 } else { rng.within(1, 4) as usize },
            clients: if crowd { 700 } else { rng.within(3, 30) as usize },
            channels: rng.within(1, 5) as usize,
            api_gap_ms: if crowd { 4000 } else { *rng.pick(&[100, 400, 1000]) },
            settings: format!(
                "outbox_bytes=64k\nforward_order={order}\nforward_queue={queue}\nforward_queue_bytes={bytes}\n\
                 inflight_max={inflight}\n\
                 handshake_timeout=10"
            ),
            large_percent: if crowd { 0 } else { *rng.pick(&[4, 4, 4, 40]) },
            crowd,
        }
    }
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(seed, &mut rng);
        let config = rig::config(&plan.settings);
        let count = plan.shards;
        let metrics = rig::metrics(count);
        let mut world = Self {
            shards: rig::shards(&metrics, seed, &config),
            metrics,
            home: HomeHash::new(seed, count),
            control: Control::default(),
            outbox_bytes: config.outbox_bytes,
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
            trace: traced.then(VecDeque::new),
            agenda: BinaryHeap::new(),
            planned: 0,
            nets: (0..count).map(|_| Net::default()).collect(),
            mail: (0..count).map(|_| VecDeque::new()).collect(),
            run_planned: vec![false; count],
            tick_planned: vec![None; count],
            inbox: VecDeque::new(),
            control_planned: false,
            said: BTreeMap::new(),
            held: Vec::new(),
        };
        world.records.drained = vec![0; count];
        for number in 0..world.plan.clients {
            let shard = if world.plan.crowd { 0 } else { world.rng.index(count) };
            let mut conn = Conn::new(number, shard, &mut world.rng);
            if world.plan.crowd {
                conn.habits.messages = 0;
            }
            world.conns.push(conn);
            let last = if world.plan.crowd { BUSY / 8 } else { BUSY * 3 / 4 };
            let mut at = world.rng.within(0, last);
            if world.rng.chance(8) {
                // In the middle of its handshake when the server stops, or too late.
                at = QUIET - 3_000_000 + world.rng.within(0, 4_000_000);
            }
            world.plan_at(at, Event::Accept(number));
        }
        for _ in 0..10 {
            let at = QUIET + world.rng.within(0, 8_000_000);
            world.plan_at(at, Event::Api);
        }
        world.plan_at(5_000, Event::Api);
        world.plan_at(BUSY, Event::Calm);
        world.plan_at(QUIET, Event::Drain);
        world.plan_at(END, Event::End);
        world
    }

    /// Runs to the end; the first thing that is wrong.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            self.now = self.now.max(Instant::from_micros(at));
            if self.trace.is_some() && !matches!(event, Event::Run(_) | Event::Tick(_) | Event::Control) {
                self.note(format!("{event:?}"));
            }
            match event {
                Event::Drain => {
                    self.check_quiet()?;
                    self.drain();
                }
                Event::End => return self.check_end(),
                event => self.on_event(event),
            }
            if let Some(fault) = self
                .fault
                .take()
                .or_else(|| self.conns.iter_mut().find_map(|conn| conn.fault.take()))
            {
                return Err(fault);
            }
        }
        Err("the agenda ended early".into())
    }

    /// The last events, oldest first.
    pub fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().flatten()
    }

    pub fn note(&mut self, what: String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == 150 {
                trace.pop_front();
            }
            trace.push_back(format!("{:>12} {what}", self.now.as_micros()));
        }
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

    /// Pushes a command into a mailbox.
    pub fn post(&mut self, target: ShardId, command: Command, changes: Vec<usize>) {
        let shard = target.index();
        let mails = Bug::tamper_command(self, Mail { command, changes });
        for mail in mails {
            self.mail[shard].push_back(mail);
        }
        if self.strikes(Bug::Reorder, 5) && self.mail[shard].len() > 1 {
            let len = self.mail[shard].len();
            self.mail[shard].swap(len - 1, len - 2);
        }
        self.plan_run(shard);
    }

    fn plan_run(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.run_planned[shard], true) {
            let delay = if self.rng.chance(3) {
                self.rng.within(0, 150_000)
            } else {
                self.rng.within(1, 1500)
            };
            self.plan_in(delay, Event::Run(shard));
        }
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
            Event::Deadline(ticket) => self.on_deadline(ticket),
            Event::Calm => self.calm = true,
            Event::Drain | Event::End => unreachable!("handled by the caller"),
        }
    }

    // Shards.

    /// One turn, as the shell does it: call, post, end the turn, post.
    pub fn turn<R>(&mut self, shard: usize, call: impl FnOnce(&mut Shard, &mut Net, Instant) -> R) -> R {
        let now = self.now;
        let result = call(&mut self.shards[shard], &mut self.nets[shard], now);
        self.collect(shard);
        let more = self.shards[shard].end_turn(now, &mut self.nets[shard]);
        assert_eq!(self.shards[shard].debug_panics(), 0, "a panic was contained, see above");
        self.collect(shard);
        if more {
            self.plan_run(shard);
        }
        self.plan_tick(shard);
        self.look_at_sockets(shard);
        result
    }

    fn collect(&mut self, shard: usize) {
        let (mut commands, mut reports) = (Vec::new(), Vec::new());
        self.shards[shard].take_commands(&mut commands);
        self.shards[shard].take_reports(&mut reports);
        for (target, command) in commands {
            if self.strikes(Bug::Overtake, 20) || self.held.iter().any(|held| held.0 == shard && held.1 == target) {
                self.held.push((shard, target, command));
                self.plan_run(shard);
            } else {
                self.post(target, command, Vec::new());
            }
        }
        for report in reports {
            let reports = Bug::tamper_report(self, report);
            self.inbox.extend(reports);
        }
        if !self.inbox.is_empty() && !std::mem::replace(&mut self.control_planned, true) {
            let delay = self.rng.within(1, 2000);
            self.plan_in(delay, Event::Control);
        }
    }

    fn run_shard(&mut self, shard: usize) {
        self.run_planned[shard] = false;
        if !self.held.is_empty() && self.rng.chance(30) {
            let held: Vec<_> = self.held.extract_if(.., |held| held.0 == shard).collect();
            for (_, target, command) in held {
                self.post(target, command, Vec::new());
            }
        } else if !self.held.is_empty() {
            self.plan_run(shard);
        }
        let batch = self.rng.within(1, 64) as usize;
        let count = batch.min(self.mail[shard].len());
        let mails: Vec<_> = self.mail[shard].drain(..count).collect();
        if self.trace.is_some() {
            let names: Vec<_> = mails.iter().map(|mail| describe(&mail.command)).collect();
            self.note(format!("Run({shard}) {names:?}"));
        }
        let (commands, changes): (Vec<_>, Vec<_>) = mails.into_iter().map(|mail| (mail.command, mail.changes)).unzip();
        self.turn(shard, |shard, net, now| {
            commands
                .into_iter()
                .for_each(|command| shard.on_command(command, now, net))
        });
        let seq = self.next_seq();
        for change in changes.into_iter().flatten() {
            self.records.changes[change].answered = Some(seq);
        }
        if !self.mail[shard].is_empty() {
            self.plan_run(shard);
        }
        let fullest = self.shards[shard].debug_counts().outbox_bytes_max;
        if fullest > self.outbox_bytes + 300 * 1024 {
            self.fault = Some(format!("{fullest} bytes in an outbox"));
        }
    }

    pub fn plan_tick(&mut self, shard: usize) {
        let Some(deadline) = self.shards[shard].next_deadline() else {
            return;
        };
        let at = deadline.max(self.now).as_micros() + self.rng.within(0, 5_000);
        if self.tick_planned[shard].is_none_or(|planned| at < planned) {
            self.tick_planned[shard] = Some(at);
            self.plan_at(at, Event::Tick(shard));
        }
    }

    fn tick(&mut self, shard: usize) {
        self.tick_planned[shard] = None;
        while self.turn(shard, |shard, net, now| shard.on_tick(now, net)) {}
    }

    fn drain(&mut self) {
        self.draining = true;
        for conn in &mut self.conns {
            conn.stayed = conn.is_well();
            conn.leaving = true;
        }
        for shard in 0..self.plan.shards {
            self.post(ShardId(shard as u16), Command::Drain, Vec::new());
        }
    }

    fn run_control(&mut self) {
        self.control_planned = false;
        while let Some(report) = self.inbox.pop_front() {
            if self.trace.is_some() {
                self.note(format!("control <- {report:?}").chars().take(200).collect());
            }
            self.on_report(report);
        }
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Publish(publish) => format!("Publish {:?}", publish.ticket),
        Command::Deliver(publish, _) => format!("Deliver {:?}", publish.ticket),
        other => format!("{other:?}").chars().take(120).collect(),
    }
}
