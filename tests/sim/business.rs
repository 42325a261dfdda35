//! The business of the simulator: it admits and denies, answers out of order, delays, fails in every way a call can fail,
//! is down as a whole for a while, calls the API from inside its handlers, and changes channels by the headers of its
//! replies, some of which are garbage.

use bytes::Bytes;
use rainbow_server::engine::command::{CallbackFailure, CallbackOutcome, CallbackReply, CallbackRequest, Command};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::time::Duration;

use crate::byzantine;
use crate::rig::{self, ADMITTED};
use crate::world::{self, World};

/// All ways a call can fail without an answer.
const FAILURES: [CallbackFailure; 10] = [
    CallbackFailure::Overloaded,
    CallbackFailure::MemoryShort,
    CallbackFailure::Unresolved,
    CallbackFailure::Refused,
    CallbackFailure::Unreachable,
    CallbackFailure::Handshake,
    CallbackFailure::Dropped,
    CallbackFailure::Garbage,
    CallbackFailure::Redirects,
    CallbackFailure::TimedOut,
];

impl World {
    /// A shard asks; it allows `window` messages of one client under way.
    pub fn on_callback(&mut self, request: CallbackRequest, window: usize) {
        let session = self.records.sessions.entry(request.client).or_default();
        match request.hook.event {
            Event::Connect => {}
            Event::Message => {
                session.under_way += 1;
                if session.close_callbacks > 0 {
                    self.blame(format!("a message of {:?} after its close callback", request.client));
                }
                self.on_forward(&request, window);
            }
            Event::Close => {
                session.close_callbacks += 1;
                if session.under_way > 0 {
                    self.blame(format!(
                        "close callback of {:?} before its messages ended",
                        request.client
                    ));
                }
            }
        }
        self.control.serial += 1;
        let serial = self.control.serial;
        let nests = request.hook.event == Event::Message && !self.draining && self.rng.chance(8);
        self.control.callbacks.insert(serial, request);
        if nests {
            let channel = self.rng.index(self.plan.channels);
            self.publish_in_handler(channel, serial);
            return;
        }
        let delay = match self.rng.index(100) {
            _ if self.is_down() => self.rng.within(1, 5_000),
            0..60 => self.rng.within(1, 20_000),
            60..97 => self.rng.within(20_000, 2_500_000),
            _ => 15_000_000,
        };
        self.plan_in(delay, world::Event::Business(serial));
    }

    /// No call reaches the business now.
    fn is_down(&self) -> bool {
        let now = self.now.as_micros();
        self.plan
            .outages
            .iter()
            .any(|(from, until)| (*from..*until).contains(&now))
    }

    fn on_forward(&mut self, request: &CallbackRequest, window: usize) {
        let number = self.by_client[&request.client];
        let session = self.records.sessions.entry(request.client).or_default();
        session.forwards += 1;
        let (under_way, forwards, since) = (session.under_way as usize, session.forwards, session.admitted_at);
        if under_way > window {
            return self.blame(format!("{under_way} messages of client {number} under way"));
        }
        let open_for = since.map_or(Duration::ZERO, |since| self.now.since(since)) + Duration::from_millis(1500);
        let rates = self.plan.settings.iter().map(|(_, all)| all.frames_per_second);
        let (slowest, fastest) = rates.fold((usize::MAX, 0), |(min, max), rate| (rate.min(min), rate.max(max)));
        if slowest > 0 && forwards as f64 > fastest as f64 * open_for.as_secs_f64() + 2.0 {
            return self.blame(format!("{forwards} messages of client {number} within {open_for:?}"));
        }
        if self.conns[number].habits.byzantine {
            if request.body == byzantine::TOO_LATE {
                self.blame(format!("client {number} was heard after its close frame"));
            }
            return;
        }
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let words: Vec<usize> = text.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
        let text: String = text.chars().take(20).collect();
        let &[conn, at] = &words[..] else {
            return self.blame(format!("forwarded what nobody sent: {text:?}"));
        };
        let newest = self.control.newest.get(&number).map_or(0, |newest| newest + 1);
        let Some(message) = self.conns[number].sent.get_mut(at).filter(|_| conn == number) else {
            return self.blame(format!("client {number} never sent {text:?}"));
        };
        message.forwards += 1;
        let first = message.forwards == 1;
        let repeated = message.succeeded || message.under_way > 0 || message.forwards > 1 + message.failures;
        message.under_way += 1;
        if message.id != request.msgtype {
            self.blame(format!("{text:?} has the wrong type"));
        } else if repeated {
            self.blame(format!("{text:?} was forwarded again"));
        } else if first && at != newest {
            self.blame(format!("{text:?} was forwarded when message {newest} was next"));
        }
        if first {
            self.control.newest.insert(number, at);
        }
    }

    /// The business comes to an end with a callback.
    pub fn business_answers(&mut self, serial: u64) {
        if self.control.callbacks.get(&serial).map(|request| request.hook.event) == Some(Event::Close)
            && (self.is_down() || self.rng.chance(10))
        {
            // A close callback is repeated until it is accepted.
            self.records.closes_repeated += 1;
            let delay = self.rng.within(250_000, 2_000_000);
            return self.plan_in(delay, world::Event::Business(serial));
        }
        let Some(request) = self.control.callbacks.remove(&serial) else {
            return;
        };
        let late = self.rng.chance(3) && request.hook.event != Event::Connect;
        let (outcome, changes) = match request.hook.event {
            Event::Connect => self.connect_outcome(&request),
            Event::Message => self.message_outcome(&request),
            Event::Close => (
                rig::reply(200, &[("rainbowclientchannel", "channel 0")], ""),
                Vec::new(),
            ),
        };
        let (client, token) = (request.client, request.token);
        if request.hook.event == Event::Message
            && let Some(session) = self.records.sessions.get_mut(&client)
        {
            session.under_way -= 1;
        }
        self.post(client.shard, Command::CallbackDone { client, token, outcome }, changes);
        if late {
            // For the one before in this slot, or one that never was: not to be mixed up with the one in the slot now.
            let by = if self.rng.chance(50) { u32::MAX } else { 1000 };
            let client = ClientId {
                generation: client.generation.wrapping_add(by),
                ..client
            };
            let outcome = rig::reply(200, &[("rainbowclientchannel", "channel 0")], ADMITTED);
            self.post(
                client.shard,
                Command::CallbackDone { client, token, outcome },
                Vec::new(),
            );
        }
    }

    /// No answer, or one that says no.
    fn failure(&mut self) -> CallbackOutcome {
        if self.is_down() {
            return CallbackOutcome::Failed(CallbackFailure::Unreachable);
        }
        if self.rng.chance(50) {
            return CallbackOutcome::Failed(*self.rng.pick(&FAILURES));
        }
        let status = *self.rng.pick(&[302, 400, 404, 500, 502, 503]);
        rig::reply(status, &[("rainbowclientchannel", "channel 0")], ADMITTED)
    }

    fn connect_outcome(&mut self, request: &CallbackRequest) -> (CallbackOutcome, Vec<usize>) {
        let number = self.by_client[&request.client];
        if self.is_down() || !self.plan.crowd && self.rng.chance(10) {
            let body = *self
                .rng
                .pick(&["", "{\"status\":\"denied\"}", "{\"status\":", "[[[[", "\u{feff}{}"]);
            let refusal = rig::reply(200, &[("rainbowclientchannel", "channel 0")], body);
            let denies = !self.is_down() && self.rng.chance(50);
            return (if denies { refusal } else { self.failure() }, Vec::new());
        }
        let (now, upgrades) = (self.now, self.conns[number].upgrades);
        let session = self.records.sessions.entry(request.client).or_default();
        (session.admitted, session.refused) = (upgrades, !upgrades);
        session.admitted_at = Some(now);
        let (headers, mut changes) = self.channel_headers(number, true);
        let mut body = ADMITTED.to_owned();
        if !self.plan.crowd && self.rng.chance(50) {
            let user = self.rng.index(self.plan.users);
            let (operation, set) = (self.control.operations, self.plan.channels + user);
            changes.push(self.change(operation, Some(number), set, true));
            body = format!("{{\"status\": \"success\", \"uid\": \"{}\"}}", self.channel_name(user));
        }
        self.conns[number].changes.clone_from(&changes);
        (answer(headers, body), changes)
    }

    fn message_outcome(&mut self, request: &CallbackRequest) -> (CallbackOutcome, Vec<usize>) {
        let number = self.by_client[&request.client];
        let fails = self.is_down() || self.rng.chance(12);
        let text = String::from_utf8_lossy(&request.body);
        let at: Option<usize> = text.split(' ').nth(2).and_then(|at| at.parse().ok());
        let sent = &mut self.conns[number];
        let known = at
            .filter(|_| !sent.habits.byzantine)
            .and_then(|at| sent.sent.get_mut(at));
        if let Some(message) = known {
            message.under_way -= 1;
            message.failures += u32::from(fails);
            message.succeeded |= !fails;
            message.answers_due += u32::from(!fails && matches!(message.qos, 1 | 2));
            if fails {
                message.failed_at = Some(self.now);
            }
        }
        if fails {
            return (self.failure(), Vec::new());
        }
        let some = self.rng.chance(30);
        let (headers, changes) = if some {
            self.channel_headers(number, false)
        } else {
            Default::default()
        };
        if let Some(message) = at.and_then(|at| self.conns[number].sent.get_mut(at)) {
            message.changes.clone_from(&changes);
        }
        (answer(headers, "answer"), changes)
    }

    /// Random channels to leave and to join, and sometimes nonsense.
    fn channel_headers(&mut self, number: usize, connecting: bool) -> (Headers, Vec<usize>) {
        self.control.operations += 1;
        let (operation, mut headers, mut changes) = (self.control.operations, Vec::new(), Vec::new());
        let doubtful = self.plan.any(|settings| settings.channels_max < 1000);
        for (name, join, percent) in [
            ("rainbowclientchannelunsub", false, 20),
            ("rainbowclientchannel", true, if connecting { 60 } else { 30 }),
        ] {
            let mut names = Vec::new();
            for channel in 0..self.plan.channels {
                if self.rng.chance(percent) || (connecting && join && self.plan.crowd && channel == 0) {
                    names.push(self.channel_name(channel));
                    let change = self.change(operation, Some(number), channel, join);
                    self.records.changes[change].doubtful = join && doubtful;
                    changes.push(change);
                }
            }
            headers.push((name, names.join(";;").into_bytes()));
        }
        if !self.plan.crowd && self.rng.chance(10) {
            headers.push(self.garbage());
        }
        (headers, changes)
    }

    fn garbage(&mut self) -> (&'static str, Vec<u8>) {
        let name = *self.rng.pick(&[
            "rainbowclientchannel",
            "rainbowclientchannelunsub",
            "rainbowclientcookie",
            "rainbowrequestinvalid",
            "content-length",
        ]);
        let value = match self.rng.index(3) {
            0 => (0..self.rng.within(1, 200))
                .flat_map(|n| format!("no channel {n};;;").into_bytes())
                .collect(),
            1 => b";;;;;;;\xff\x00;;\xfe".to_vec(),
            _ => (0..self.rng.within(0, 40))
                .map(|_| self.rng.within(0, 255) as u8)
                .collect(),
        };
        (name, value)
    }
}

type Headers = Vec<(&'static str, Vec<u8>)>;

fn answer(headers: Headers, body: impl Into<Bytes>) -> CallbackOutcome {
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name.as_bytes().into(), value.into()));
    CallbackOutcome::Answered(CallbackReply {
        status: 200,
        headers: headers.collect(),
        body: body.into(),
    })
}
