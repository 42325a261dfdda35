//! The control core of the simulator: its callers, which call at random, and the business, which answers, delays, fails or
//! never answers. Receipts are merged by the real `engine::receipt`, so that it is checked too.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{
    CallbackFailure, CallbackOutcome, CallbackRequest, Command, Endpoint, Publish, Qos, Report,
};
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::engine::receipt::{Answer, Deadline, Question, Receipts, Tickets};
use rainbow_server::time::Duration;

use crate::bugs::Bug;
use crate::records::{Change, Published};
use crate::rig::{self, ADMITTED};
use crate::world::{Event, World};

#[derive(Default)]
pub struct Control {
    tickets: Tickets,
    receipts: Receipts,
    /// Publishes by ticket, also answered ones: late parts are recorded.
    publishes: BTreeMap<Ticket, usize>,
    /// Other questions: number of the question and the changes it makes.
    questions: BTreeMap<Ticket, (usize, Vec<usize>)>,
    callbacks: BTreeMap<u64, CallbackRequest>,
    /// Callbacks that are answered once this publish is: the handler called `/send/`.
    nested: BTreeMap<Ticket, u64>,
    serial: u64,
    operations: usize,
    /// First forward of each message, to check order: client → highest number seen.
    newest: BTreeMap<usize, usize>,
}

impl World {
    pub fn channel_name(&self, channel: usize) -> String {
        format!("channel {channel}")
    }

    fn home_of(&self, channel: usize) -> ShardId {
        self.home.home_of(self.channel_name(channel).as_bytes())
    }

    /// A caller calls.
    pub fn api_acts(&mut self) {
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
                0..60 => drop(self.publish(channel)),
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
            self.rng.within(0, 20_000) as usize
        } else {
            0
        };
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
            },
        );
        self.plan_at(deadline.as_micros(), Event::Deadline(ticket));
        let channel_name = rig::channel(&self.channel_name(channel));
        let publish = Publish {
            ticket,
            channel: channel_name,
            msgtype: 1,
            qos,
            payload,
            retries,
            deadline,
            at_deadline,
        };
        self.note(format!(
            "publish {number} {qos:?} to {channel}, {ticket:?}, T = {timeout}"
        ));
        self.post(self.home_of(channel), Command::Publish(Arc::new(publish)), Vec::new());
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
        record.answers.push((now, answer, parts));
        if let Some(serial) = self.control.nested.remove(&ticket) {
            self.plan_in(1, Event::Business(serial));
        }
    }

    /// Somebody the business has heard of, perhaps long gone.
    fn some_client(&mut self) -> Option<ClientId> {
        let known: Vec<_> = self.records.sessions.keys().copied().collect();
        (!known.is_empty()).then(|| *self.rng.pick(&known))
    }

    fn change(&mut self, operation: usize, conn: Option<usize>, channel: usize, join: bool) -> usize {
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
        };
        self.records.changes.push(change);
        self.records.changes.len() - 1
    }

    fn question(&mut self, what: String, changes: Vec<usize>) -> Ticket {
        let ticket = self.control.tickets.issue();
        self.note(format!("{what} {ticket:?}"));
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
        let name = rig::channel(&self.channel_name(channel));
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
        let name = rig::channel(&self.channel_name(channel));
        self.post(
            self.home_of(channel),
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

    /// Something from a shard.
    pub fn on_report(&mut self, report: Report) {
        match report {
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
            Report::Done { ticket, found } => self.on_done(ticket, found),
            Report::Census { ticket, channels, .. } => {
                if channels.iter().any(|(_, members)| *members == 0) {
                    self.fault = Some("an empty channel in a census".into());
                }
                self.on_done(ticket, true);
            }
            Report::Drained { shard } => self.records.drained[shard.index()] += 1,
            Report::Callback(request) => self.on_callback(request),
        }
    }

    fn on_done(&mut self, ticket: Ticket, found: bool) {
        let (question, changes) = self.control.questions[&ticket].clone();
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

    fn on_callback(&mut self, request: CallbackRequest) {
        let session = self.records.sessions.entry(request.client).or_default();
        match request.endpoint {
            Endpoint::Connect => {}
            Endpoint::Message => {
                session.under_way += 1;
                if session.close_callbacks > 0 {
                    self.fault = Some(format!("a message of {:?} after its close callback", request.client));
                }
                self.on_forward(&request);
            }
            Endpoint::Close => {
                session.close_callbacks += 1;
                if session.under_way > 0 {
                    self.fault = Some(format!(
                        "close callback of {:?} before its messages ended",
                        request.client
                    ));
                }
            }
        }
        self.control.serial += 1;
        let serial = self.control.serial;
        let nests = request.endpoint == Endpoint::Message && !self.draining && self.rng.chance(8);
        self.control.callbacks.insert(serial, request);
        if nests {
            let channel = self.rng.index(self.plan.channels);
            let ticket = self.publish(channel);
            self.control.nested.insert(ticket, serial);
            return;
        }
        let delay = match self.rng.index(100) {
            0..60 => self.rng.within(1, 20_000),
            60..97 => self.rng.within(20_000, 2_500_000),
            _ => 15_000_000,
        };
        self.plan_in(delay, Event::Business(serial));
    }

    fn on_forward(&mut self, request: &CallbackRequest) {
        let number = self.by_client[&request.client];
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let words: Vec<usize> = text.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
        let text: String = text.chars().take(20).collect();
        let &[conn, at] = &words[..] else {
            self.fault = Some(format!("forwarded what nobody sent: {text:?}"));
            return;
        };
        let under_way = self.records.sessions[&request.client].under_way as usize;
        let window = match self.plan.settings {
            ref settings if settings.contains("forward_window=1") => 1,
            ref settings if settings.contains("forward_window=3") => 3,
            _ => usize::MAX,
        };
        let newest = self.control.newest.get(&number).map_or(0, |newest| newest + 1);
        let Some(message) = self.conns[number].sent.get_mut(at).filter(|_| conn == number) else {
            self.fault = Some(format!("client {number} never sent {text:?}"));
            return;
        };
        message.forwards += 1;
        let first = message.forwards == 1;
        let repeated = message.succeeded || message.under_way > 0 || message.forwards > 1 + message.failures;
        message.under_way += 1;
        if message.id != request.msgtype {
            self.fault = Some(format!("{text:?} has the wrong type"));
        } else if repeated {
            self.fault = Some(format!("{text:?} was forwarded again"));
        } else if under_way > window {
            self.fault = Some(format!("{under_way} messages of client {number} under way"));
        } else if first && at != newest {
            self.fault = Some(format!("{text:?} was forwarded when message {newest} was next"));
        }
        if first {
            self.control.newest.insert(number, at);
        }
    }

    /// The business comes to an end with a callback.
    pub fn business_answers(&mut self, serial: u64) {
        let Some(request) = self.control.callbacks.remove(&serial) else {
            return;
        };
        let late = self.rng.chance(3) && request.endpoint != Endpoint::Connect;
        let (outcome, changes) = match request.endpoint {
            Endpoint::Connect => self.connect_outcome(&request),
            Endpoint::Message => self.message_outcome(&request),
            Endpoint::Close => (
                rig::reply(200, &[("rainbowclientchannel", "channel 0")], ""),
                Vec::new(),
            ),
        };
        let client = request.client;
        if request.endpoint == Endpoint::Message
            && let Some(session) = self.records.sessions.get_mut(&client)
        {
            session.under_way -= 1;
        }
        let command = Command::CallbackDone {
            client,
            token: request.token,
            outcome,
        };
        self.post(client.shard, command, changes);
        if late {
            // For a generation that never was: a shard must not mix it up with the one in the slot now.
            let client = ClientId {
                generation: client.generation.wrapping_add(1000),
                ..client
            };
            let outcome = rig::reply(200, &[("rainbowclientchannel", "channel 0")], ADMITTED);
            self.post(
                client.shard,
                Command::CallbackDone {
                    client,
                    token: request.token,
                    outcome,
                },
                Vec::new(),
            );
        }
    }

    fn connect_outcome(&mut self, request: &CallbackRequest) -> (CallbackOutcome, Vec<usize>) {
        let number = self.by_client[&request.client];
        if !self.plan.crowd && self.rng.chance(10) {
            let outcomes = [
                rig::reply(200, &[], "{\"status\":\"denied\"}"),
                rig::reply(500, &[], ADMITTED),
                CallbackOutcome::Failed(CallbackFailure::TimedOut),
            ];
            let which = self.rng.index(3);
            return (outcomes.into_iter().nth(which).expect("three"), Vec::new());
        }
        let upgrades = self.conns[number].upgrades;
        let session = self.records.sessions.entry(request.client).or_default();
        (session.admitted, session.refused) = (upgrades, !upgrades);
        let (headers, changes) = self.channel_headers(number, true);
        (headers_reply(&headers, ADMITTED), changes)
    }

    fn message_outcome(&mut self, request: &CallbackRequest) -> (CallbackOutcome, Vec<usize>) {
        let number = self.by_client[&request.client];
        let at = String::from_utf8_lossy(&request.body)
            .split(' ')
            .nth(2)
            .and_then(|at| at.parse().ok());
        let Some(at): Option<usize> = at else {
            return (rig::reply(500, &[], ""), Vec::new());
        };
        let fails = self.rng.chance(12);
        let message = &mut self.conns[number].sent[at];
        message.under_way -= 1;
        if fails {
            message.failures += 1;
            message.failed_at = Some(self.now);
            let server_error = self.rng.chance(50);
            let outcome = match server_error {
                true => rig::reply(500, &[("rainbowclientchannel", "channel 0")], "no"),
                false => CallbackOutcome::Failed(CallbackFailure::Dropped),
            };
            return (outcome, Vec::new());
        }
        message.succeeded = true;
        message.answers_due += u32::from(matches!(message.qos, 1 | 2));
        let some = self.rng.chance(30);
        let (headers, changes) = if some {
            self.channel_headers(number, false)
        } else {
            Default::default()
        };
        (headers_reply(&headers, "answer"), changes)
    }

    /// Random channels to leave and to join.
    fn channel_headers(&mut self, number: usize, connecting: bool) -> (Vec<(&'static str, String)>, Vec<usize>) {
        self.control.operations += 1;
        let (operation, mut headers, mut changes) = (self.control.operations, Vec::new(), Vec::new());
        for (name, join, percent) in [
            ("rainbowclientchannelunsub", false, 20),
            ("rainbowclientchannel", true, if connecting { 60 } else { 30 }),
        ] {
            let mut names = Vec::new();
            for channel in 0..self.plan.channels {
                if self.rng.chance(percent) || (connecting && join && self.plan.crowd && channel == 0) {
                    names.push(self.channel_name(channel));
                    changes.push(self.change(operation, Some(number), channel, join));
                }
            }
            headers.push((name, names.join(";;")));
        }
        (headers, changes)
    }
}

fn headers_reply(headers: &[(&'static str, String)], body: &str) -> CallbackOutcome {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &value[..])).collect();
    rig::reply(200, &headers, body)
}
