//! The business of the simulator: it admits and denies, answers, delays, fails or never answers, calls the API from inside
//! its handlers, and changes channels by the headers of its replies.

use rainbow_server::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest, Command, Endpoint};
use rainbow_server::engine::ids::ClientId;

use crate::rig::{self, ADMITTED};
use crate::world::{Event, World};

impl World {
    pub fn on_callback(&mut self, request: CallbackRequest) {
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
