//! One client: away, connecting, or open.

use super::{CHANNELS, Load, SLOW_CHANNEL, Task, Who};
use crate::common::client::{Op, encode};
use crate::common::packet::{self, Packet};
use crate::events::{Event, Key};
use crate::net::{Message, Ready};
use std::collections::BTreeMap;

/// Pause before the first attempt to come back; doubles with each failure.
const BACK_OFF_MS: u64 = 100;
const BACK_OFF_MAX_MS: u64 = 5_000;
/// After so long without acknowledgement a message is sent again.
const REPEAT_MS: u64 = 3_000;
/// Unacknowledged messages of one client, beyond which it says nothing new.
const WAITING_MAX: usize = 32;
/// One first delivery in so many is not acknowledged, so that the server has something to repeat.
const FORGETS_ONE_IN: u64 = 500;
/// What a slow client's socket holds.
const SLOW_RECEIVE_BUFFER: usize = 16 * 1024;

/// A place for connections that follow each other.
pub struct Client {
    slot: usize,
    /// Attempts that failed in a row.
    failures: u32,
    state: State,
}

enum State {
    Away,
    Connecting { key: Key, token: usize },
    Open(Session),
}

struct Session {
    key: Key,
    token: usize,
    identity: Option<String>,
    seq: u64,
    /// Messages without acknowledgement, by packet id.
    waiting: BTreeMap<u16, (u64, u8)>,
}

impl Client {
    pub fn new(slot: usize) -> Self {
        Self {
            slot,
            failures: 0,
            state: State::Away,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Messages without acknowledgement.
    pub fn waiting(&self) -> usize {
        match &self.state {
            State::Open(session) => session.waiting.len(),
            _ => 0,
        }
    }

    /// Connection and identity, once it knows them.
    pub fn identity(&self) -> Option<(Key, &str)> {
        match &self.state {
            State::Open(session) => Some((session.key, session.identity.as_deref()?)),
            _ => None,
        }
    }

    /// The channel it asks for when it connects.
    pub fn channel(&self) -> u64 {
        if self.is_slow() {
            SLOW_CHANNEL
        } else {
            1 + self.slot as u64 % CHANNELS
        }
    }

    pub fn is_slow(&self) -> bool {
        self.slot % 16 == 7
    }

    fn key(&self) -> Option<Key> {
        match &self.state {
            State::Open(session) => Some(session.key),
            _ => None,
        }
    }

    pub fn plan_say(&self, load: &mut Load) {
        if let Some(key) = self.key().filter(|_| load.say > 0) {
            let pause = load.some(load.say);
            load.after(pause, Task::Say(self.slot, key));
        }
    }

    pub fn plan_leave(&self, load: &mut Load) {
        if let Some(key) = self.key().filter(|_| load.churns && self.slot % 4 == 1) {
            let life = load.rng.within(1_000, 15_000);
            load.after(life, Task::Leave(self.slot, key));
        }
    }

    pub fn plan_pause(&self, load: &mut Load) {
        if let Some(key) = self.key().filter(|_| load.slows && self.is_slow()) {
            let pause = load.rng.within(500, 5_000);
            load.after(pause, Task::Pause(self.slot, key));
        }
    }

    /// Reads again now.
    pub fn plan_resume(&self, load: &mut Load) {
        if let Some(key) = self.key().filter(|_| self.is_slow()) {
            load.after(0, Task::Resume(self.slot, key));
        }
    }

    /// Closes the connection, politely if it is open.
    pub fn leave(&mut self, load: &mut Load) {
        match &self.state {
            State::Away => return,
            State::Connecting { token, .. } => load.net.close(*token),
            State::Open(session) => {
                load.log.note(Event::Ended { key: session.key });
                load.net
                    .send(session.token, &encode(Op::Close, &1000u16.to_be_bytes(), true, true));
                load.net.close(session.token);
            }
        }
        self.state = State::Away;
    }

    /// Its time has come for something, if that is still about this connection.
    pub fn on_time(&mut self, task: Task, load: &mut Load, ready: &mut Vec<Ready>) {
        match (task, &mut self.state) {
            (Task::Connect(_), State::Away) if self.slot < load.wanted => self.connect(load),
            (Task::Say(_, key), State::Open(session)) if session.key == key && load.say > 0 => {
                if session.waiting.len() < WAITING_MAX {
                    let qos = load.rng.within(0, 2) as u8;
                    session.say(self.slot, qos, load);
                }
                self.plan_say(load);
            }
            (Task::Repeat(_, key, id, seq), State::Open(session)) if session.key == key => {
                if let Some((_, qos)) = session.waiting.get(&id).copied().filter(|(which, _)| *which == seq) {
                    session.put(self.slot, true, qos, id, seq, load);
                }
            }
            (Task::Leave(_, key), State::Open(session)) if session.key == key && load.churns => {
                let token = session.token;
                match load.rng.within(0, 2) {
                    0 => self.leave(load),
                    how => {
                        load.log.note(Event::Ended { key });
                        if how == 1 {
                            load.net.reset(token)
                        } else {
                            load.net.close(token)
                        }
                        self.state = State::Away;
                    }
                }
                load.who.remove(&token);
                let pause = load.rng.within(50, 1_000);
                load.after(pause, Task::Connect(self.slot));
            }
            (Task::Pause(_, key), State::Open(session)) if session.key == key && load.slows => {
                load.net.set_reads(session.token, false);
                // Some come back to it after a while; the others are closed by the server.
                let pause = if load.rng.chance(50) {
                    load.rng.within(500, 3_000)
                } else {
                    60_000
                };
                load.after(pause, Task::Resume(self.slot, key));
            }
            (Task::Resume(_, key), State::Open(session)) if session.key == key => {
                load.net.set_reads(session.token, true);
                load.net.receive(session.token, ready);
                self.plan_pause(load);
            }
            _ => {}
        }
    }

    fn connect(&mut self, load: &mut Load) {
        let key = load.next_key;
        load.next_key += 1;
        let buffer = self.is_slow().then_some(SLOW_RECEIVE_BUFFER);
        let Ok(token) = load.net.connect(load.server, buffer) else {
            return self.come_back(None, load);
        };
        load.who.insert(token, Who::Client(self.slot));
        let head = format!(
            "GET /connect/ HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             X-DEVICEID: {key}\r\nX-CLIENT-OS: chaos\r\nX-CHANNELS: {}\r\n\r\n",
            self.channel()
        );
        load.net.send(token, head.as_bytes());
        self.state = State::Connecting { key, token };
    }

    /// Tries again later: when it was told to, or with back-off.
    fn come_back(&mut self, told_seconds: Option<u64>, load: &mut Load) {
        self.failures += 1;
        let doubled = BACK_OFF_MS << self.failures.min(6);
        let mean = told_seconds.map_or(doubled.min(BACK_OFF_MAX_MS), |seconds| seconds * 1_500);
        let pause = load.rng.within(mean * 2 / 3, mean * 4 / 3);
        load.after(pause, Task::Connect(self.slot));
    }

    /// The connection is over, and we did not end it.
    pub fn on_end(&mut self, ended: usize, rest: Vec<u8>, load: &mut Load) {
        match &mut self.state {
            State::Connecting { token, .. } if *token == ended => {
                let mut rest = rest;
                let told = Message::take(&mut rest).and_then(|answer| refusal(&answer, load));
                self.state = State::Away;
                self.come_back(told, load);
            }
            State::Open(session) if session.token == ended => {
                let mut rest = rest;
                while let Some((op, payload)) = take_frame(&mut rest) {
                    if op == 2 {
                        session.on_packet(&payload, load);
                    }
                }
                load.log.note(Event::Ended { key: session.key });
                load.counters.cut += 1;
                self.state = State::Away;
                self.come_back(None, load);
            }
            _ => {}
        }
    }

    pub fn on_input(&mut self, load: &mut Load) {
        if let State::Connecting { key, token } = self.state {
            let Some(answer) = load.net.get(token).and_then(|conn| Message::take(&mut conn.input)) else {
                return;
            };
            if answer.second_word() != "101" {
                let told = refusal(&answer, load);
                load.net.close(token);
                load.who.remove(&token);
                self.state = State::Away;
                return self.come_back(told, load);
            }
            self.open(key, token, load);
        }
        let State::Open(session) = &mut self.state else { return };
        while let Some((op, payload)) = load.net.get(session.token).and_then(|conn| take_frame(&mut conn.input)) {
            match op {
                2 => session.on_packet(&payload, load),
                9 => load.net.send(session.token, &encode(Op::Pong, &payload, true, true)),
                // The end of the stream follows the answer.
                8 => load.net.send(session.token, &encode(Op::Close, &payload, true, true)),
                _ => {}
            }
        }
    }

    fn open(&mut self, key: Key, token: usize, load: &mut Load) {
        self.failures = 0;
        load.log.note(Event::Open { key });
        load.log.note(Event::Joined {
            key,
            channel: self.channel(),
        });
        let mut session = Session {
            key,
            token,
            identity: None,
            seq: 0,
            waiting: BTreeMap::new(),
        };
        // The answer tells the identity.
        session.say(self.slot, 1, load);
        self.state = State::Open(session);
        self.plan_say(load);
        self.plan_leave(load);
        self.plan_pause(load);
    }
}

impl Session {
    fn say(&mut self, slot: usize, qos: u8, load: &mut Load) {
        self.seq += 1;
        let (seq, id) = (self.seq, (self.seq % 60_000) as u16 + 1);
        if qos > 0 {
            self.waiting.insert(id, (seq, qos));
        }
        self.put(slot, false, qos, id, seq, load);
    }

    fn put(&mut self, slot: usize, dup: bool, qos: u8, id: u16, seq: u64, load: &mut Load) {
        let key = self.key;
        load.counters.sent += u64::from(!dup);
        load.log.note(Event::Sent { key, seq, qos });
        let padding = "x".repeat(load.rng.index(200));
        let packet = Packet::Send {
            dup,
            qos,
            kind: 7,
            id: (qos > 0).then_some(id),
            payload: format!("{key} {seq} {qos} {padding}").into_bytes(),
        };
        load.net
            .send(self.token, &encode(Op::Binary, &packet.encode(), true, true));
        if qos > 0 {
            let pause = load.some(REPEAT_MS);
            load.after(pause, Task::Repeat(slot, key, id, seq));
        }
    }

    fn on_packet(&mut self, bytes: &[u8], load: &mut Load) {
        let key = self.key;
        let packet = Packet::decode(bytes).unwrap_or_else(|| panic!("client {key} got {bytes:?}"));
        let answer = match packet {
            Packet::Ack { id, data } | Packet::Rec { id, data } => {
                if let Some((seq, qos)) = self.waiting.remove(&id) {
                    load.counters.answered += 1;
                    load.log.note(Event::Answered { key, seq });
                    self.identity = Some(String::from_utf8_lossy(&data).into_owned());
                    (qos == 2).then(|| packet::rel(id))
                } else {
                    None
                }
            }
            Packet::Send {
                dup, qos, id, payload, ..
            } => {
                load.counters.got += 1;
                let number = payload.split(|byte| *byte == b' ').next().unwrap_or_default();
                let number = String::from_utf8_lossy(number).parse().expect("number of a publish");
                load.log.note(Event::Got {
                    key,
                    id: number,
                    repeated: dup,
                });
                let forgets = !dup && load.rng.within(1, FORGETS_ONE_IN) == 1;
                match (qos, id) {
                    (1, Some(id)) if !forgets => Some(packet::ack(id, "")),
                    (2, Some(id)) if !forgets => Some(packet::rec(id, "")),
                    _ => None,
                }
            }
            Packet::Rel { id } => Some(packet::com(id)),
            Packet::Com { .. } => None,
        };
        if let Some(answer) = answer {
            load.net.send(self.token, &encode(Op::Binary, &answer, true, true));
        }
    }
}

/// Counts a refusal; the seconds to wait if it says so.
fn refusal(answer: &Message, load: &mut Load) -> Option<u64> {
    assert_eq!(answer.second_word(), "503", "the only refusal that is due here");
    load.counters.refused += 1;
    let told = answer.field("retry-after").and_then(|seconds| seconds.parse().ok());
    load.counters.retry_after += u64::from(told.is_some());
    told
}

/// Takes one frame of the server out of `bytes`; None while it is not complete.
fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, length) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0x70 == 0 && length & 0x80 == 0, "not a frame of a server");
    let (head, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(head..head + length)?.to_vec();
    bytes.drain(..head + length);
    Some((first & 15, payload))
}
