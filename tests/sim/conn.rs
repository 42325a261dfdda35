//! One connection of the simulator: the client at its far end, with its habits, and the bytes on their way.

use std::collections::BTreeSet;

use rainbow_server::engine::ids::ClientId;
use rainbow_server::time::{Duration, Instant};

use crate::records::{Received, Upstream};
use crate::rng::Rng;
use crate::wire::{self, Frame, Packet};

/// How a client behaves, in percent where nothing else is said.
#[derive(Clone, Copy)]
pub struct Habits {
    pub acks: u64,
    pub acks_twice: u64,
    pub acks_by_rec: u64,
    pub unknown_acks: u64,
    pub ack_delay_ms: u64,
    pub pongs: u64,
    pub answers_close: u64,
    pub releases: u64,
    pub repeats: u64,
    pub nonsense: u64,
    /// Per action: sends what is no websocket frame.
    pub garbage: u64,
    /// Per action: leaves.
    pub leaves: u64,
    pub messages: u32,
    /// Most messages at once.
    pub burst: u64,
    /// Per message: sends it in fragments, with a ping between them.
    pub fragments: u64,
    /// Times it comes back as a new client after its connection ended.
    pub reconnects: u32,
    /// Asks for compression, and compresses half of its messages.
    pub deflates: bool,
    /// Sends what no client should; judged by what others see of it.
    pub byzantine: bool,
    pub read_delay_ms: u64,
    pub read_bytes: usize,
    /// Bytes the socket buffers hold.
    pub window: usize,
}

impl Habits {
    pub fn new(rng: &mut Rng) -> Self {
        let good = Self {
            acks: 100,
            acks_twice: 2,
            acks_by_rec: 30,
            unknown_acks: 2,
            ack_delay_ms: 400,
            pongs: 100,
            answers_close: 95,
            releases: 100,
            repeats: 20,
            nonsense: 3,
            garbage: 0,
            leaves: 0,
            messages: rng.within(0, 25) as u32,
            burst: 4,
            fragments: *rng.pick(&[0, 0, 30]),
            reconnects: 0,
            deflates: rng.chance(30),
            byzantine: false,
            read_delay_ms: Pace::AT_ONCE.delay / 1000,
            read_bytes: Pace::AT_ONCE.bytes,
            window: Pace::AT_ONCE.window,
        };
        match rng.index(13) {
            0 => Self {
                acks: 0,
                pongs: 100,
                ..good
            },
            1 => Self {
                acks: 30,
                pongs: 0,
                ack_delay_ms: 5_000,
                ..good
            },
            2 => Self {
                read_delay_ms: 900,
                read_bytes: 700,
                window: 3000,
                ..good
            },
            3 => Self {
                read_delay_ms: 20_000,
                read_bytes: 10,
                window: 100,
                answers_close: 0,
                ..good
            },
            4 => Self { garbage: 8, ..good },
            5 | 6 => Self {
                leaves: 10,
                reconnects: 4,
                ..good
            },
            7 => Self {
                acks_twice: 60,
                unknown_acks: 40,
                repeats: 70,
                nonsense: 30,
                ..good
            },
            8 | 9 => Self {
                byzantine: true,
                reconnects: 3,
                ..good
            },
            // Loses its connection at any moment, and half of what it should acknowledge.
            10 => Self {
                acks: 50,
                leaves: 40,
                reconnects: 8,
                ..good
            },
            // Says much at once.
            11 => Self {
                messages: 60,
                burst: 40,
                ..good
            },
            _ => good,
        }
    }

    /// Reads at once and answers everything: it gives no reason to close it.
    pub fn is_prompt(&self) -> bool {
        self.read_delay_ms <= 20
            && self.pongs == 100
            && self.window >= 256 * 1024
            && self.garbage == 0
            && !self.byzantine
    }
}

/// How a client reads: microseconds from one look to the next, bytes it takes then, bytes its socket holds.
#[derive(Clone, Copy)]
pub struct Pace {
    pub delay: u64,
    pub bytes: usize,
    pub window: usize,
}

impl Pace {
    const AT_ONCE: Self = Self {
        delay: 20_000,
        bytes: 64 * 1024,
        window: 256 * 1024,
    };
}

/// How the far end ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

pub struct Conn {
    pub number: usize,
    pub shard: usize,
    pub id: Option<ClientId>,
    pub habits: Habits,
    /// Has the headers of a websocket request.
    pub upgrades: bool,
    /// Bytes the shard has not read yet.
    pub up: Vec<u8>,
    pub up_end: Option<End>,
    /// The shard reads.
    pub reading: bool,
    pub was_paused: bool,
    /// The shard has nothing to do with it any more.
    pub over: bool,
    pub readable_planned: bool,
    pub writable_planned: bool,
    pub read_planned: bool,
    inbuf: Vec<u8>,
    /// Status of the answer to its request.
    pub status: Option<u16>,
    /// What the server's close frame said.
    pub close: Option<Vec<u8>>,
    /// It did something that ends its session.
    pub leaving: bool,
    /// It was well when the server began to stop.
    pub stayed: bool,
    /// The server began to stop while it was there.
    pub stopped: bool,
    /// When it was let in.
    pub open_at: Option<Instant>,
    /// When it said something last.
    pub said_at: Instant,
    /// When it had said something last before it said that.
    pub silent_since: Instant,
    /// When its direction ended.
    pub ended_at: Option<Instant>,
    /// Its socket took less than the server had for it.
    pub clogged: bool,
    /// It reads at once, whatever its habits.
    pub hurries: bool,
    /// What the answer to its request will have changed (indices into [`Records::changes`](crate::records::Records)).
    pub changes: Vec<usize>,
    /// What the answers it has read have changed.
    pub promised: Vec<usize>,
    /// The server compresses for it.
    deflate: bool,
    /// It has come back as somebody else.
    pub replaced: bool,
    pub sent: Vec<Upstream>,
    pub received: Vec<Received>,
    /// Farewells it has read, by the numbers of the orders.
    pub farewells: Vec<usize>,
    /// [`Bug::LateFarewell`](crate::bugs::Bug::LateFarewell): farewells are read late.
    pub late_farewell: bool,
    held: Vec<Frame>,
    pub ping_unanswered: Option<Instant>,
    /// The first error its stream had.
    pub fault: Option<String>,
    next_id: u16,
    /// Id of the newest message of the server that wants an answer, and those it has not answered.
    newest_id: u16,
    owed_ids: BTreeSet<u16>,
    /// [`Bug::ReuseId`](crate::bugs::Bug::ReuseId): the next message has the id of the one before it.
    pub reuse_id: bool,
}

/// What a client does because of what it read.
pub enum Reaction {
    /// Write this after so many milliseconds.
    Say(u64, Vec<u8>),
    /// It acknowledges a publish.
    Acknowledge {
        publish: usize,
        after_ms: u64,
        bytes: Vec<u8>,
    },
    /// End the connection after so many milliseconds.
    Leave(u64, End),
}

impl Conn {
    pub fn new(number: usize, shard: usize, rng: &mut Rng) -> Self {
        Self {
            number,
            shard,
            id: None,
            habits: Habits::new(rng),
            upgrades: !rng.chance(3),
            up: Vec::new(),
            up_end: None,
            reading: true,
            was_paused: false,
            over: false,
            readable_planned: false,
            writable_planned: false,
            read_planned: false,
            inbuf: Vec::new(),
            status: None,
            close: None,
            leaving: false,
            stayed: false,
            stopped: false,
            open_at: None,
            said_at: Instant::ZERO,
            silent_since: Instant::ZERO,
            ended_at: None,
            clogged: false,
            hurries: false,
            changes: Vec::new(),
            promised: Vec::new(),
            deflate: false,
            replaced: false,
            sent: Vec::new(),
            received: Vec::new(),
            farewells: Vec::new(),
            late_farewell: false,
            held: Vec::new(),
            ping_unanswered: None,
            fault: None,
            next_id: 2,
            newest_id: 0,
            owed_ids: BTreeSet::new(),
            reuse_id: false,
        }
    }

    /// Admitted, and neither side has begun to end it.
    pub fn is_well(&self) -> bool {
        let open = self.status == Some(101) && self.close.is_none() && !self.over && self.up_end.is_none();
        open && !self.leaving && !self.stopped && !self.habits.byzantine
    }

    /// How long it takes to read, at most how much, and what its socket holds.
    pub fn pace(&self) -> Pace {
        if self.hurries {
            return Pace::AT_ONCE;
        }
        Pace {
            delay: self.habits.read_delay_ms * 1000,
            bytes: self.habits.read_bytes,
            window: self.habits.window,
        }
    }

    /// The server compresses for it.
    pub fn is_compressed(&self) -> bool {
        self.deflate
    }

    /// The same client again, on a new connection.
    pub fn again(&self, number: usize, shard: usize, rng: &mut Rng) -> Self {
        let mut conn = Self::new(number, shard, rng);
        conn.habits = Habits {
            reconnects: self.habits.reconnects - 1,
            ..self.habits
        };
        conn
    }

    pub fn request(&self) -> Vec<u8> {
        let mut request = String::from_utf8(wire::connect_request(&self.number.to_string())).expect("ASCII");
        if !self.upgrades {
            request = request.replace("Upgrade: websocket\r\n", "");
        }
        if self.habits.deflates {
            request.insert_str(request.len() - 2, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        }
        request.into_bytes()
    }

    /// A fresh message of any level.
    pub fn message(&mut self, rng: &mut Rng) -> Vec<u8> {
        let qos = *rng.pick(&[0, 1, 1, 2, 2, 2, 3]);
        let id = self.next_id;
        self.next_id += 1;
        let padding = if rng.chance(10) {
            rng.within(0, 3_000) as usize
        } else {
            0
        };
        let payload = format!("u {} {} {}", self.number, self.sent.len(), ".".repeat(padding));
        self.sent.push(Upstream {
            qos,
            id,
            released: false,
            under_way: 0,
            forwards: 0,
            failures: 0,
            failed_at: None,
            forwards_owed: 1,
            succeeded: false,
            changes: Vec::new(),
            answers_due: 0,
            answers: 0,
        });
        let packet = Packet::Send {
            dup: false,
            qos,
            msgtype: id,
            id,
            payload: payload.into_bytes(),
        };
        self.framed(&packet.bytes(), rng)
    }

    /// A message as this client puts it on the wire.
    fn framed(&self, message: &[u8], rng: &mut Rng) -> Vec<u8> {
        if self.deflate && rng.chance(50) {
            wire::packed_frame(message)
        } else if rng.chance(self.habits.fragments) {
            wire::fragments(message, 1 + rng.index(3))
        } else {
            wire::frame(2, message)
        }
    }

    /// Repeats a QoS 2 message that was not released, with DUP.
    pub fn repetition(&mut self, now: Instant, dup: bool, rng: &mut Rng) -> Option<Vec<u8>> {
        let open = self
            .sent
            .iter()
            .enumerate()
            .filter(|(_, message)| message.qos == 2 && !message.released);
        let open: Vec<_> = open.map(|(at, message)| (at, message.id)).collect();
        if open.is_empty() {
            return None;
        }
        let (at, id) = *rng.pick(&open);
        let message = &mut self.sent[at];
        let failed_long_ago = message.failed_at.is_some_and(|at| at + Duration::from_secs(2) < now);
        if failed_long_ago && message.under_way == 0 && !message.succeeded {
            message.forwards_owed = message.forwards + 1;
        }
        Some(wire::send(
            dup,
            2,
            id,
            id,
            format!("u {} {at} again", self.number).as_bytes(),
        ))
    }

    /// Bytes arrived.
    pub fn read(&mut self, bytes: &[u8], now: Instant, rng: &mut Rng) -> Vec<Reaction> {
        self.inbuf.extend_from_slice(bytes);
        let mut reactions = Vec::new();
        if self.status.is_none() {
            if !self.inbuf.starts_with(b"HTTP/1.1 ") && self.inbuf.len() >= 9 {
                self.blame("something before the HTTP answer");
            }
            let agreed = b"permessage-deflate";
            self.deflate |= self.inbuf.windows(agreed.len()).any(|some| some == agreed);
            let Some((status, _)) = wire::take_answer(&mut self.inbuf) else {
                return reactions;
            };
            self.status = Some(status);
            self.open_at = Some(now);
            self.promised.append(&mut self.changes);
            if status != 101 {
                self.leaving = true;
                return vec![Reaction::Leave(rng.within(0, 50), End::Fin)];
            }
        }
        if self.status != Some(101) {
            return reactions;
        }
        match wire::take_frames_of(&mut self.inbuf, self.deflate) {
            Ok(frames) => frames
                .into_iter()
                .for_each(|frame| self.on_frame(frame, now, rng, &mut reactions)),
            Err(error) => self.blame(&error),
        }
        reactions
    }

    pub fn blame(&mut self, fault: &str) {
        self.fault
            .get_or_insert_with(|| format!("client {}: {fault}", self.number));
    }

    fn on_frame(&mut self, frame: Frame, now: Instant, rng: &mut Rng, reactions: &mut Vec<Reaction>) {
        if self.close.is_some() {
            return self.blame(&format!("{frame:?} after the close frame"));
        }
        if let Some(order) = farewell(&frame) {
            if std::mem::take(&mut self.late_farewell) {
                return self.held.push(frame);
            }
            return self.farewells.push(order);
        }
        if !self.farewells.is_empty() && !matches!(frame, Frame::Close(_)) {
            return self.blame(&format!("{frame:?} after its farewell"));
        }
        match frame {
            Frame::Packet(packet) => self.on_packet(packet, rng, reactions),
            Frame::Ping if rng.chance(self.habits.pongs) => {
                reactions.push(Reaction::Say(rng.within(0, 500), wire::pong()))
            }
            Frame::Ping => self.ping_unanswered = self.ping_unanswered.or(Some(now)),
            Frame::Pong(_) => {}
            Frame::Close(payload) => {
                self.close = Some(payload);
                for frame in std::mem::take(&mut self.held) {
                    self.on_frame(frame, now, rng, reactions);
                }
                if rng.chance(self.habits.answers_close) {
                    reactions.push(Reaction::Say(0, wire::close(Some(1000))));
                    reactions.push(Reaction::Leave(rng.within(1, 300), End::Fin));
                }
            }
        }
    }

    fn on_packet(&mut self, packet: Packet, rng: &mut Rng, reactions: &mut Vec<Reaction>) {
        match packet {
            Packet::Send {
                dup, qos, id, payload, ..
            } => {
                let text = String::from_utf8_lossy(&payload);
                let number = text
                    .strip_prefix("p ")
                    .and_then(|rest| rest.split(' ').next()?.parse().ok());
                let Some(publish) = number else {
                    return self.blame("a payload nobody published");
                };
                self.received.push(Received { publish, dup });
                if qos > 0 && !dup {
                    self.on_new_id(id);
                }
                if qos > 0 && rng.chance(self.habits.acks) {
                    self.owed_ids.remove(&id);
                    self.acknowledge(publish, id, rng, reactions);
                }
            }
            Packet::Ack { id, .. } => self.on_answer(id, 1),
            Packet::Rec { id, .. } => {
                self.on_answer(id, 2);
                if rng.chance(self.habits.releases) {
                    self.sent
                        .iter_mut()
                        .filter(|message| message.id == id)
                        .for_each(|message| message.released = true);
                    reactions.push(Reaction::Say(rng.within(0, 100), wire::rel(id)));
                }
            }
            Packet::Rel { .. } | Packet::Com { .. } => {}
        }
    }

    /// Ids follow each other in a ring, without those that are in use.
    fn on_new_id(&mut self, id: u16) {
        let id = if std::mem::take(&mut self.reuse_id) {
            self.newest_id
        } else {
            id
        };
        let mut expected = self.newest_id;
        loop {
            expected = expected % 65_534 + 1;
            if !self.owed_ids.contains(&expected) {
                break;
            }
        }
        if id != expected {
            self.blame(&format!("a message with id {id} instead of {expected}"));
        }
        self.newest_id = id;
        self.owed_ids.insert(id);
    }

    fn acknowledge(&mut self, publish: usize, id: u16, rng: &mut Rng, reactions: &mut Vec<Reaction>) {
        let data = if rng.chance(50) {
            format!("a {publish} {}", self.number)
        } else {
            String::new()
        };
        let by_rec = rng.chance(self.habits.acks_by_rec);
        let bytes = if by_rec {
            wire::rec(id, data.as_bytes())
        } else {
            wire::ack(id, data.as_bytes())
        };
        if rng.chance(self.habits.unknown_acks) {
            reactions.push(Reaction::Say(
                rng.within(0, 500),
                wire::ack(id.wrapping_add(5000), b"unknown"),
            ));
        }
        if rng.chance(self.habits.acks_twice) {
            reactions.push(Reaction::Say(
                self.habits.ack_delay_ms + rng.within(1, 2000),
                bytes.clone(),
            ));
        }
        let after_ms = rng.within(0, self.habits.ack_delay_ms);
        reactions.push(Reaction::Acknowledge {
            publish,
            after_ms,
            bytes,
        });
    }

    fn on_answer(&mut self, id: u16, qos: u8) {
        if self.habits.byzantine {
            return;
        }
        match self
            .sent
            .iter_mut()
            .find(|message| message.id == id && message.qos == qos)
        {
            Some(message) if message.answers < message.answers_due => {
                message.answers += 1;
                self.promised.append(&mut message.changes);
            }
            _ => self.blame(&format!("an answer to message {id} that the business did not give")),
        }
    }
}

/// The order a message is the farewell of.
fn farewell(frame: &Frame) -> Option<usize> {
    match frame {
        Frame::Packet(Packet::Send { payload, .. }) => str::from_utf8(payload).ok()?.strip_prefix("f ")?.parse().ok(),
        _ => None,
    }
}
