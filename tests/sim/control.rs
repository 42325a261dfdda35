//! The control core of the simulator and its callers, which call at random. Receipts are merged by the real
//! `engine::receipt`, so that it is checked too.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{CallbackRequest, Command, Publish, Qos, Report};
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::engine::name::Name;
use rainbow_server::engine::receipt::{Answer, Deadline, Question, Receipts, Tickets};
use rainbow_server::time::Duration;

use crate::bugs::Bug;
use crate::cores::{CONGESTION_PAUSE, Told};
use crate::records::{Census, Change, Published};
use crate::rig;
use crate::world::{Event, World};

#[derive(Default)]
pub struct Control {
    pub tickets: Tickets,
    pub receipts: Receipts,
    /// Publishes by ticket, also answered ones: late parts are recorded.
    pub publishes: BTreeMap<Ticket, usize>,
    /// Other questions: number of the question and the changes it makes.
    pub questions: BTreeMap<Ticket, (usize, Vec<usize>)>,
    pub callbacks: BTreeMap<u64, CallbackRequest>,
    /// Callbacks that are answered once this publish is: the handler called `/send/`.
    pub nested: BTreeMap<Ticket, u64>,
    pub serial: u64,
    pub operations: usize,
    /// The last callback for a message of each client, for [`Bug::ForwardAfterClose`].
    pub last_forward: BTreeMap<ClientId, CallbackRequest>,
    /// Pages of the last census that are to come: ticket and shard.
    pub censuses: BTreeMap<Ticket, usize>,
    /// First forward of each message, to check order: client → highest number seen.
    pub newest: BTreeMap<usize, usize>,
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
                0..50 => drop(self.publish(channel)),
                50..60 => {
                    let user = self.plan.channels + self.rng.index(self.plan.users);
                    self.publish(user);
                }
                60..75 => self.ask_membership(channel, true),
                75..85 => self.ask_membership(channel, false),
                85..90 => self.occupy(channel),
                90..92 => self.kick(),
                92..95 => self.census(),
                _ => {}
            }
        }
    }

    pub fn publish(&mut self, channel: usize) -> Ticket {
        let qos = *self.rng.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
        let timeout = self.rng.within(1, 12);
        let (retries, at_deadline) = rig::retries_of(timeout);
        let (ticket, number) = (self.control.tickets.issue(), self.records.publishes.len());
        let padding = if self.rng.chance(self.plan.large_percent) {
            self.rng.within(0, self.plan.large_bytes) as usize
        } else {
            0
        };
        let tells_online = channel >= self.plan.channels;
        let payload = Bytes::from(format!("p {number} {}", ".".repeat(padding)));
        let deadline = self.now + Duration::from_secs(timeout);
        let issued = self.next_seq();
        self.records.publishes.push(Published {
            channel,
            qos,
            issued,
            issued_at: self.now,
            deadline,
            at_deadline,
            retries,
            shards: Vec::new(),
            parts: Vec::new(),
            onlines: 0,
            answers: Vec::new(),
            acks: BTreeMap::new(),
        });
        self.control.publishes.insert(ticket, number);
        self.control.receipts.open(
            ticket,
            Question {
                qos,
                at_deadline,
                deadline,
                peers: 0,
                tells_online,
            },
        );
        self.plan_at(deadline.as_micros(), Event::Deadline(ticket));
        let mut name = self.name_of(channel);
        if tells_online && self.strikes(Bug::MixSpaces, 20) {
            name = Name::channel(name.text());
        }
        let home = self.home.home_of(&name);
        let publish = Publish {
            ticket,
            channel: name,
            msgtype: 1,
            qos,
            payload,
            retries,
            deadline,
            at_deadline,
            tells_online,
        };
        self.trace(|| format!("publish {number} {qos:?} to {channel}, {ticket:?}, T = {timeout}"));
        self.post(home, Command::Publish(Arc::new(publish)), Vec::new());
        ticket
    }

    pub fn on_deadline(&mut self, ticket: Ticket) {
        match self.control.receipts.on_deadline(ticket, self.now) {
            Deadline::Answered(answer) => self.answer_publish(ticket, answer),
            Deadline::Again(at) => self.plan_at(at.as_micros(), Event::Deadline(ticket)),
            Deadline::Closed => {}
        }
    }

    fn answer_publish(&mut self, ticket: Ticket, answer: Answer) {
        let (now, number) = (self.now, self.control.publishes[&ticket]);
        let record = &mut self.records.publishes[number];
        let parts = record.parts.len();
        let of = record.shards.first().copied();
        record.answers.push((now, answer, parts, of));
        if let Some(serial) = self.control.nested.remove(&ticket) {
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
        let change = Change {
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

    fn question(&mut self, what: String, changes: Vec<usize>) -> Ticket {
        let ticket = self.control.tickets.issue();
        self.trace(|| format!("{what} {ticket:?}"));
        self.control
            .questions
            .insert(ticket, (self.records.questions.len(), changes));
        self.records.questions.push((what, 0));
        ticket
    }

    fn ask_membership(&mut self, channel: usize, join: bool) {
        let Some(client) = self.some_client() else { return };
        self.control.operations += 1;
        let conn = self.by_client[&client];
        let change = self.change(self.control.operations, Some(conn), channel, join);
        let ticket = self.question(format!("join {join} {conn} {channel}"), vec![change]);
        let name = self.name_of(channel);
        let command = match join {
            true => Command::Join {
                client,
                channel: name,
                ticket,
            },
            false => Command::Leave {
                client,
                channel: name,
                ticket,
            },
        };
        if self.strikes(Bug::EarlyAnswer, 50) {
            self.records.changes[change].answered = Some(self.seq);
        }
        self.post(client.shard, command, Vec::new());
    }

    fn occupy(&mut self, channel: usize) {
        let client = self.some_client().filter(|_| self.rng.chance(90));
        self.control.operations += 1;
        let operation = self.control.operations;
        let mut changes = vec![self.change(operation, None, channel, false)];
        if let Some(client) = client {
            changes.push(self.change(operation, Some(self.by_client[&client]), channel, true));
        }
        let ticket = self.question(format!("occupy {channel} {client:?}"), changes);
        let name = self.name_of(channel);
        self.post(
            self.home.home_of(&name),
            Command::Occupy {
                channel: name,
                client,
                ticket,
            },
            Vec::new(),
        );
    }

    fn kick(&mut self) {
        let Some(client) = self.some_client() else { return };
        let ticket = self.question(format!("kick {client:?}"), Vec::new());
        self.conns[self.by_client[&client]].leaving = true;
        self.post(
            client.shard,
            Command::Close {
                client,
                cause: CloseCause::Kicked,
                ticket,
            },
            Vec::new(),
        );
    }

    fn census(&mut self) {
        let ticket = self.question("census".into(), Vec::new());
        let shard = ShardId(self.rng.index(self.plan.shards) as u16);
        self.post(shard, Command::Census { cursor: 0, ticket }, Vec::new());
    }

    /// Who is in which channel, asked of every shard.
    pub fn take_census(&mut self) {
        let there = self.conns.iter().filter(|conn| conn.id.is_some() && !conn.over);
        self.records.census = Some(Census {
            there: there.map(|conn| conn.number).collect(),
            asked: self.next_seq(),
            asked_at: self.now,
            pages: vec![BTreeMap::new(); self.plan.shards],
            interests: self.shards.iter().map(|shard| shard.debug_counts().interests).sum(),
        });
        (0..self.plan.shards).for_each(|shard| self.ask_census(shard, 0));
    }

    fn ask_census(&mut self, shard: usize, cursor: u32) {
        let ticket = self.question("census of all".into(), Vec::new());
        self.control.censuses.insert(ticket, shard);
        self.post(ShardId(shard as u16), Command::Census { cursor, ticket }, Vec::new());
    }

    /// Something from a shard.
    pub fn on_report(&mut self, told: Told) {
        match told.report {
            Report::Published { ticket, shards } => {
                self.records.publishes[self.control.publishes[&ticket]]
                    .shards
                    .push(shards);
                if let Some(answer) = self.control.receipts.on_published(ticket, shards) {
                    self.answer_publish(ticket, answer);
                }
            }
            Report::Part(part) => {
                let ticket = part.ticket;
                let record = &mut self.records.publishes[self.control.publishes[&ticket]];
                if record.shards.is_empty() {
                    record.shards.push(part.shards);
                }
                record.parts.push(part.clone());
                if let Some(answer) = self.control.receipts.on_part(part) {
                    self.answer_publish(ticket, answer);
                }
            }
            Report::Online {
                ticket,
                shards,
                platforms,
            } => {
                self.records.publishes[self.control.publishes[&ticket]].onlines += 1;
                if let Some(answer) = self.control.receipts.on_online(ticket, shards, &platforms) {
                    self.answer_publish(ticket, answer);
                }
            }
            Report::Done { ticket, found } => self.on_done(ticket, found),
            Report::Census { ticket, channels, next } => {
                if channels.iter().any(|(_, members)| *members == 0) {
                    self.blame("an empty channel in a census".into());
                }
                let shard = self.control.censuses.remove(&ticket);
                if let (Some(shard), Some(census)) = (shard, &mut self.records.census) {
                    census.pages[shard].extend(channels.iter().map(|(name, members)| (name.clone(), *members)));
                    if let Some(next) = next {
                        self.ask_census(shard, next);
                    }
                }
                self.on_done(ticket, true);
            }
            Report::Drained { shard } => self.records.drained[shard.index()] += 1,
            Report::Callback(request) => self.on_callback(request, told.window),
        }
    }

    fn on_done(&mut self, ticket: Ticket, found: bool) {
        // Of a bug.
        let Some((question, changes)) = self.control.questions.get(&ticket).cloned() else {
            return;
        };
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
