//! The control core of the simulator: the real desk (`engine::desk`), and in the place of HTTP callers that call at random.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rainbow_server::engine::command::{CallbackRequest, Command, Publish, Qos, Report, Target, Tell};
use rainbow_server::engine::desk::{Caller, Change, Desk, Elsewhere, Output, Told};
use rainbow_server::engine::ids::{ClientId, DeskId, NodeEpoch, Ticket};
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::engine::query::{Items, Page, Query};
use rainbow_server::engine::receipt::{Answer, PeerPart};
use rainbow_server::engine::registry::HomeHash;
use rainbow_server::engine::remote::{Inbound, Outbound, Verb};
use rainbow_server::time::Duration;

use crate::bugs::Bug;
use crate::cores::{self, CONGESTION_PAUSE};
use crate::questions::Keeper;
use crate::records::{self, Census, Published, Via};
use crate::rig;
use crate::rng::Rng;
use crate::world::{Event, World};

pub struct Control {
    pub desk: Desk,
    /// When its deadlines are looked at next.
    deadline_planned: Option<u64>,
    /// What each caller asked: callers are counted, each asks once.
    asked: Vec<Asked>,
    /// Publishes by ticket, also answered ones: late parts are recorded.
    publishes: BTreeMap<Ticket, usize>,
    /// Shards by the ticket of the page they were asked for.
    pages: BTreeMap<Ticket, usize>,
    pub callbacks: BTreeMap<u64, CallbackRequest>,
    /// Callbacks that are answered once this publish is: the handler called `/send/`.
    nested: BTreeMap<usize, u64>,
    pub serial: u64,
    /// Of the other nodes alone: a world is the same with and without them.
    rng: Rng,
    pub operations: usize,
    /// The last callback for a message of each client, for [`Bug::ForwardAfterClose`].
    pub last_forward: BTreeMap<ClientId, CallbackRequest>,
    /// First forward of each message, to check order: client → highest number seen.
    pub newest: BTreeMap<usize, usize>,
    pub keepers: Vec<Keeper>,
    /// Tickets of what was reported.
    pub reported: BTreeSet<Ticket>,
}

/// What a caller asked.
#[derive(Clone)]
pub enum Asked {
    /// To publish; its number.
    Publish(usize),
    /// About clients and sets; its number.
    About(usize),
    /// Something else: number of the question and the changes it makes.
    Question(usize, Vec<usize>),
}

impl Control {
    pub fn new(seed: u64, shards: usize) -> Self {
        let home = HomeHash::new(seed, shards);
        Self {
            desk: Desk::new(NodeEpoch(7), DeskId(0), home, shards),
            deadline_planned: None,
            asked: Vec::new(),
            publishes: BTreeMap::new(),
            pages: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            nested: BTreeMap::new(),
            serial: 0,
            rng: Rng::new(!seed),
            operations: 0,
            last_forward: BTreeMap::new(),
            newest: BTreeMap::new(),
            keepers: Vec::new(),
            reported: BTreeSet::new(),
        }
    }

    /// The publish of a ticket.
    pub fn number_of(&self, ticket: Ticket) -> Option<usize> {
        self.publishes.get(&ticket).copied()
    }

    /// Publishes that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.desk.publishes()
    }
}

impl World {
    pub fn channel_name(&self, channel: usize) -> String {
        format!("channel {channel}")
    }

    /// Channels come first, then users. Each user is called as a channel is.
    pub fn name_of(&self, set: usize) -> Name {
        match set.checked_sub(self.plan.channels) {
            None => rig::channel(&self.channel_name(set)),
            Some(user) => Name::user(self.channel_name(user).as_bytes()),
        }
    }

    /// A caller calls.
    pub fn api_acts(&mut self) {
        if self.cores.control.outlets.overflow() > 0 {
            self.cores.control.outlets.kick();
            return self.plan_in(CONGESTION_PAUSE, Event::Api);
        }
        let gap = self.plan.api_gap_ms * 1000;
        let delay = self.rng.within(1, gap * 2);
        if !self.calm {
            self.plan_in(delay, Event::Api);
        } else if !self.draining {
            return;
        }
        let channel = self.rng.index(self.plan.channels);
        for _ in 0..self.rng.within(1, 3) {
            match self.rng.index(100) {
                0..36 => drop(self.publish(channel)),
                36..50 => self.publish_to_some(),
                50..60 => {
                    let user = self.plan.channels + self.rng.index(self.plan.users);
                    self.publish(user);
                }
                60..75 => self.ask_membership(channel, true),
                75..85 => self.ask_membership(channel, false),
                85..90 => self.occupy(channel),
                90..92 => self.kick(),
                92..94 => self.list(),
                // One message at a time is slow enough without more of them.
                94..98 if self.plan.mailbox > 2 || self.rng.chance(30) => self.ask_something(),
                _ => {}
            }
        }
    }

    /// Publishes something to a channel or a user; its number.
    pub fn publish(&mut self, channel: usize) -> usize {
        self.publish_to(vec![channel], Vec::new())
    }

    /// Publishes to several channels and users, and to clients; each of them may be the only one.
    fn publish_to_some(&mut self) {
        let most = self.plan.channels + self.plan.users;
        let sets: Vec<_> = (0..self.rng.within(0, 3)).map(|_| self.rng.index(most)).collect();
        let clients: Vec<_> = (0..self.rng.within(0, 2)).filter_map(|_| self.some_client()).collect();
        if !sets.is_empty() || !clients.is_empty() {
            self.publish_to(sets, clients);
        }
    }

    fn publish_to(&mut self, sets: Vec<usize>, clients: Vec<ClientId>) -> usize {
        let qos = *self.rng.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
        let timeout = self.rng.within(1, 12);
        let (retries, at_deadline) = rig::retries_of(timeout);
        let number = self.records.publishes.len();
        let padding = if self.rng.chance(self.plan.large_percent) {
            self.rng.within(0, self.plan.large_bytes) as usize
        } else {
            0
        };
        // The same set twice is one set.
        let is_plain = clients.is_empty() && sets.iter().all(|set| *set == sets[0]);
        let tells_online = is_plain && sets.len() == 1 && sets[0] >= self.plan.channels;
        let tell = match qos {
            _ if tells_online => qos.tell(),
            Qos::AtMostOnce => *self
                .rng
                .pick(&[Tell::Nobody, Tell::Published, Tell::Published, Tell::Counted]),
            _ => *self.rng.pick(&[
                Tell::Published,
                Tell::Acknowledged,
                Tell::Acknowledged,
                Tell::Acknowledged,
            ]),
        };
        let nodes = if tells_online || tell == Tell::Nobody {
            0
        } else {
            self.plan.nodes
        };
        let excepted = if self.rng.chance(30) { self.rng.within(1, 3) } else { 0 };
        let except: Vec<_> = (0..excepted).filter_map(|_| self.some_client()).collect();
        let payload = Bytes::from(format!("p {number} {}", ".".repeat(padding)));
        let deadline = self.now + Duration::from_secs(timeout);
        let issued = self.next_seq();
        let addressed = clients.iter().map(|client| {
            let conn = self.by_client[client];
            (conn, self.conns[conn].status == Some(101))
        });
        self.records.publishes.push(Published {
            addressed: addressed.collect(),
            except: except.iter().map(|client| self.by_client[client]).collect(),
            via: self.via(&sets, &clients),
            sets: sets.clone(),
            is_plain,
            tells_online,
            qos,
            tell,
            issued,
            issued_at: self.now,
            deadline,
            at_deadline,
            retries,
            shards: Vec::new(),
            parts: Vec::new(),
            onlines: 0,
            answers: Vec::new(),
            answered: None,
            nodes,
            heard: Vec::new(),
            heard_then: 0,
            acks: BTreeMap::new(),
        });
        let mut names: Vec<_> = sets.iter().map(|set| self.name_of(*set)).collect();
        if tells_online && self.strikes(Bug::MixSpaces, 20) {
            names = vec![Name::channel(names[0].text())];
        }
        self.trace(|| {
            format!("publish {number} {qos:?} to {sets:?} {clients:?}, not {except:?}, tells {tell:?}, T = {timeout}")
        });
        let publish = |ticket| Publish {
            ticket,
            to: Target::any(names, clients),
            except: except.into(),
            tag: 1,
            qos,
            tell,
            payload,
            retries,
            retry_interval: Duration::from_secs(3),
            deadline,
            at_deadline,
            tells_online,
        };
        let caller = self.caller(Asked::Publish(number));
        let ticket = self.control.desk.publish(caller, elsewhere(nodes), publish);
        self.control
            .publishes
            .insert(ticket.expect("there is room at the desk"), number);
        self.carry(Vec::new());
        number
    }

    /// What decides the order of a publish: the first set, or the shard of the first client.
    fn via(&self, sets: &[usize], clients: &[ClientId]) -> Via {
        let first = clients.iter().min().map(|client| Via::Shard(client.shard));
        sets.first()
            .map(|set| Via::Set(*set))
            .or(first)
            .expect("it is for somebody")
    }

    /// The handler of a callback publishes, and answers once it has been answered.
    pub fn publish_in_handler(&mut self, channel: usize, serial: u64) {
        let number = self.publish(channel);
        if self.records.publishes[number].answers.is_empty() {
            self.control.nested.insert(number, serial);
        } else {
            self.plan_in(1, Event::Business(serial));
        }
    }

    pub fn caller(&mut self, asked: Asked) -> Caller {
        self.control.asked.push(asked);
        Caller(self.control.asked.len() as u64 - 1)
    }

    /// Carries out what the desk wants done, as `control/mod.rs` does. The first command makes these changes.
    pub fn carry(&mut self, mut changes: Vec<usize>) {
        while let Some(output) = self.control.desk.poll_output() {
            match output {
                Output::Post(shard, command) => {
                    if let Command::Query { ticket, .. } = &command {
                        self.control.pages.insert(*ticket, shard.index());
                    }
                    self.post(shard, command, std::mem::take(&mut changes));
                }
                Output::Answer(caller, told) => self.on_answer(caller, told),
                Output::Ask(ticket, _) => self.ask_nodes(ticket),
            }
        }
        self.plan_deadline();
    }

    /// Each node answers, some of them too late.
    fn ask_nodes(&mut self, ticket: Ticket) {
        for _ in 0..self.plan.nodes {
            let (delay, counted) = (self.control.rng.within(1, 30), self.control.rng.within(0, 3));
            let delay = if delay == 30 { 14_000_000 } else { delay * 10_000 };
            self.plan_in(delay, Event::Node(ticket, counted));
        }
    }

    pub fn on_node(&mut self, ticket: Ticket, counted: u64) {
        let number = self.control.publishes[&ticket];
        self.records.publishes[number].heard.push(counted);
        let twice = self.strikes(Bug::CountNodeTwice, 20);
        let part = PeerPart {
            connections: if twice { counted * 2 } else { counted },
            ..PeerPart::default()
        };
        self.control.desk.on_remote(ticket, Inbound::Part(part));
        self.carry(Vec::new());
    }

    fn plan_deadline(&mut self) {
        let Some(deadline) = self.control.desk.next_deadline() else {
            return;
        };
        let at = deadline.max(self.now).as_micros();
        if self.control.deadline_planned.is_none_or(|planned| at < planned) {
            self.control.deadline_planned = Some(at);
            self.plan_at(at, Event::Deadline);
        }
    }

    pub fn on_deadline(&mut self) {
        let now = self.now.as_micros();
        if self.control.deadline_planned.is_none_or(|planned| planned > now) {
            return; // an earlier one was set meanwhile
        }
        self.control.deadline_planned = None;
        self.control.desk.on_deadline(self.now);
        self.carry(Vec::new());
    }

    fn on_answer(&mut self, caller: Caller, told: Told) {
        match (self.control.asked[caller.0 as usize].clone(), told) {
            (Asked::Publish(number), Told::Published(answer)) => {
                if self.strikes(Bug::AnswerTwice, 5) {
                    self.answer_publish(number, answer.clone());
                }
                self.answer_publish(number, answer);
            }
            (Asked::Question(question, changes), Told::Done { done, .. }) => {
                self.on_done(question, changes, done.is_so())
            }
            (Asked::Question(question, changes), Told::Page { items, .. }) => {
                if let Items::Names(names) = items
                    && names.iter().any(|(_, members)| *members == 0)
                {
                    self.blame("an empty channel in a list".into());
                }
                self.on_done(question, changes, true);
            }
            (Asked::About(number), told) => self.on_told(number, told),
            (_, told) => self.blame(format!("a caller is told {told:?}")),
        }
    }

    fn answer_publish(&mut self, number: usize, answer: Answer) {
        let (now, seq) = (self.now, self.next_seq());
        let record = &mut self.records.publishes[number];
        record.answered.get_or_insert(seq);
        let parts = record.parts.len();
        let of = record.shards.first().copied();
        record.answers.push((now, answer, parts, of));
        record.heard_then = record.heard.len();
        if let Some(serial) = self.control.nested.remove(&number) {
            self.plan_in(1, Event::Business(serial));
        }
    }

    /// Somebody the business has heard of, perhaps long gone.
    pub fn some_client(&mut self) -> Option<ClientId> {
        let known: Vec<_> = self.records.sessions.keys().copied().collect();
        (!known.is_empty()).then(|| *self.rng.pick(&known))
    }

    pub fn change(&mut self, operation: usize, conn: Option<usize>, channel: usize, join: bool) -> usize {
        let (issued, issued_at) = (self.next_seq(), self.now);
        let change = records::Change {
            operation,
            conn,
            channel,
            join,
            issued,
            issued_at,
            answered: None,
            void: false,
            doubtful: false,
        };
        self.records.changes.push(change);
        let number = self.records.changes.len() - 1;
        self.trace(|| format!("change {number}: {conn:?} in {channel}: {join}"));
        number
    }

    /// Somebody asks what is no publish.
    pub fn question(&mut self, what: String, changes: Vec<usize>) -> Caller {
        self.trace(|| what.clone());
        let question = self.records.questions.len();
        self.records.questions.push((what, 0));
        self.caller(Asked::Question(question, changes))
    }

    fn ask_membership(&mut self, channel: usize, join: bool) {
        let Some(client) = self.some_client() else { return };
        self.control.operations += 1;
        let conn = self.by_client[&client];
        let change = self.change(self.control.operations, Some(conn), channel, join);
        let caller = self.question(format!("join {join} {conn} {channel}"), vec![change]);
        if self.strikes(Bug::EarlyAnswer, 50) {
            self.records.changes[change].answered = Some(self.seq);
        }
        let (name, kind) = (self.name_of(channel), if join { Change::Join } else { Change::Leave });
        self.control.desk.change(caller, kind, Some(client), name, None);
        self.carry(Vec::new());
    }

    fn occupy(&mut self, channel: usize) {
        let client = self.some_client().filter(|_| self.rng.chance(90));
        self.control.operations += 1;
        let operation = self.control.operations;
        let mut changes = vec![self.change(operation, None, channel, false)];
        if let Some(client) = client {
            changes.push(self.change(operation, Some(self.by_client[&client]), channel, true));
        }
        let caller = self.question(format!("occupy {channel} {client:?}"), changes);
        let name = self.name_of(channel);
        self.control.desk.change(caller, Change::Occupy, client, name, None);
        self.carry(Vec::new());
    }

    fn list(&mut self) {
        let caller = self.question("list".into(), Vec::new());
        self.control.desk.list(caller, None);
        self.carry(Vec::new());
    }

    /// Who is in which channel.
    pub fn take_census(&mut self) {
        let there = self.conns.iter().filter(|conn| conn.id.is_some() && !conn.over);
        self.records.census = Some(Census {
            there: there.map(|conn| conn.number).collect(),
            asked: self.next_seq(),
            asked_at: self.now,
            pages: vec![BTreeMap::new(); self.plan.shards],
            interests: self.shards.iter().map(|shard| shard.debug_counts().interests).sum(),
        });
        self.list();
        let caller = self.question("list of users".into(), Vec::new());
        let space = Space::USER;
        self.control
            .desk
            .query(caller, Query::Names { space }, None, usize::MAX);
        self.carry(Vec::new());
    }

    /// Something from a shard.
    pub fn on_report(&mut self, told: cores::Told) {
        let mut report = told.report;
        self.note_report(&report);
        match &mut report {
            Report::Published { ticket, shards } => {
                self.records.publishes[self.control.publishes[ticket]]
                    .shards
                    .push(*shards);
            }
            Report::Part(part) => {
                let record = &mut self.records.publishes[self.control.publishes[&part.ticket]];
                if record.shards.is_empty() {
                    record.shards.push(part.shards);
                }
                record.parts.push(part.clone());
                if let Some(other) = self.mistaken(part.ticket) {
                    part.ticket = other;
                }
            }
            Report::Online { ticket, .. } => {
                self.records.publishes[self.control.publishes[ticket]].onlines += 1;
            }
            Report::Told { ticket, page, .. } => {
                let shard = self.control.pages.remove(ticket);
                if let (Some(shard), Some(census), Page::Names(names)) = (shard, &mut self.records.census, page) {
                    census.pages[shard].extend(names.iter().map(|(name, members)| (name.clone(), *members)));
                }
            }
            Report::Drained { shard } => self.records.drained[shard.index()] += 1,
            Report::Done { .. } | Report::Callback(_) => {}
        }
        match report {
            Report::Callback(request) => self.on_callback(request, told.window),
            report => {
                self.control.desk.on_report(report);
                self.carry(Vec::new());
            }
        }
    }

    /// For [`Bug::MistakePart`]: another publish that waits.
    fn mistaken(&mut self, ticket: Ticket) -> Option<Ticket> {
        if self.bug != Some(Bug::MistakePart) {
            return None;
        }
        let waits = |number: &usize| self.records.publishes[*number].answers.is_empty();
        let mut others = self
            .control
            .publishes
            .iter()
            .rev()
            .filter(|(other, _)| **other != ticket);
        let other = *others.find(|(_, number)| waits(number))?.0;
        self.strikes(Bug::MistakePart, 10).then_some(other)
    }

    fn on_done(&mut self, question: usize, changes: Vec<usize>, found: bool) {
        self.records.questions[question].1 += 1;
        let seq = self.next_seq();
        let mut channel = None;
        for change in changes {
            let change = &mut self.records.changes[change];
            change.answered.get_or_insert(seq);
            change.void = !found && change.conn.is_some();
            channel = Some(change.channel);
        }
        // A caller that has waited for its answer, and relies on it.
        if let Some(channel) = channel.filter(|_| !self.calm && self.rng.chance(50)) {
            self.publish(channel);
        }
    }
}

/// The question itself does not matter: the nodes of the simulator only count.
fn elsewhere(nodes: u32) -> Option<Elsewhere> {
    (nodes > 0).then(|| Elsewhere {
        ask: Outbound {
            verb: Verb::List,
            body: Bytes::new(),
            sha256: None,
            is_vouched: true,
        },
        nodes,
    })
}
