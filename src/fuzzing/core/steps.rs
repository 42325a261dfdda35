//! The steps of a script: what clients, business, callers and the control core do.

use std::sync::Arc;

use bytes::Bytes;

use super::{COUNTED, Known, WIRES_MAX, World};
use crate::close::CloseCause;
use crate::engine::command::{AtDeadline, CallbackOutcome, CallbackRequest, CloseOrder, Command};
use crate::engine::command::{ClientSet, Publish, Qos};
use crate::engine::hook::Event;
use crate::engine::ids::{ClientId, ShardId, Ticket};
use crate::engine::name::Name;
use crate::fuzzing::Input8;
use crate::fuzzing::shard::{CHANNELS, outcome};
use crate::io::admission::Arrival;
use crate::io::mail::{Handover, ShardMail};
use crate::protocol::ListenerId;
use crate::protocol::rainbow::api;
use crate::time::Duration;
use crate::wire::ws;

impl World {
    pub(super) fn step(&mut self, step: u8, input: &mut Input8<'_>, overlapping: bool) {
        match step % 16 {
            0 => self.connect(),
            1 => {
                self.connect();
                self.say(self.known.len().saturating_sub(1), &upgrade(input.pick(3)), false);
            }
            2..=5 => self.say_some(input),
            6 | 7 => self.answer(input),
            8 => self.publish(input),
            9 => self.pass(Duration::from_millis(40 * input.pick(256) as u64)),
            10 => {
                let stalled = input.pick(2) == 0;
                if let Some(wire) = self.pick(input) {
                    self.net.wire(wire, |wire| wire.stalled = stalled);
                }
            }
            11 => {
                if let Some(wire) = self.pick(input) {
                    self.say(wire, b"", true);
                }
            }
            12 => self.hand_back(input),
            13 => self.close(input),
            14 if overlapping => {
                if let Some(wire) = self.pick(input) {
                    self.net.reset(wire);
                }
            }
            _ => self.join(input),
        }
    }

    fn pick(&self, input: &mut Input8<'_>) -> Option<usize> {
        (!self.known.is_empty()).then(|| input.pick(self.known.len()))
    }

    fn connect(&mut self) {
        if self.known.len() < WIRES_MAX {
            self.known.push(Known::default());
            // Refused if the server is full.
            drop(self.core.adopt(
                self.net.connect(),
                Vec::new(),
                None,
                (ListenerId::MAIN, Arrival::default()),
            ));
        }
    }

    fn say(&mut self, wire: usize, bytes: &[u8], ends: bool) {
        self.net.say(wire, bytes, ends);
    }

    /// One to four things a client says at once, and sometimes nothing after them.
    fn say_some(&mut self, input: &mut Input8<'_>) {
        let Some(wire) = self.pick(input) else { return };
        let how = input.byte().unwrap_or_default();
        let mut bytes = Vec::new();
        for _ in 0..=(how & 3) {
            self.phrase(wire, input, &mut bytes);
        }
        self.say(wire, &bytes, how >= 240);
    }

    fn phrase(&mut self, wire: usize, input: &mut Input8<'_>, bytes: &mut Vec<u8>) {
        let known = &mut self.known[wire];
        let what = input.pick(12);
        let id = input.byte().unwrap_or_default();
        let mut frame = |opcode, payload: &[u8]| ws::client_frame(bytes, true, opcode, [1, 2, 3, id], payload);
        match what {
            0 => bytes.extend_from_slice(&upgrade(usize::from(id % 3))),
            1 => frame(ws::Opcode::Binary, &[0x10, 0, 7, b'p']),
            2 | 3 => {
                known.said += 1;
                let number = known.said.to_be_bytes();
                let kind = if what == 2 { 0x12 } else { 0x14 };
                let mut packet = vec![kind, 0, 7, number[0], number[1]];
                packet.extend_from_slice(COUNTED);
                packet.extend_from_slice(&number);
                packet.resize(packet.len() + usize::from(id), b'.');
                frame(ws::Opcode::Binary, &packet);
            }
            4 => frame(ws::Opcode::Binary, &[0x20, 0, id, b'd']),
            5 => frame(ws::Opcode::Binary, &[0x30, 0, id]),
            6 => frame(ws::Opcode::Binary, &[0x40, 0, id]),
            7 => frame(ws::Opcode::Ping, &[id; 3]),
            8 => frame(ws::Opcode::Pong, b""),
            9 => frame(ws::Opcode::Close, &[3, 232]),
            10 => bytes.extend_from_slice(b"GET /online/ HTTP/1.1\r\nHost: h\r\n\r\n"),
            _ => {
                known.wild = true;
                bytes.extend_from_slice(&input.bytes());
            }
        }
    }

    fn answer(&mut self, input: &mut Input8<'_>) {
        let at = input.pick(self.callbacks.len());
        let Some(request) = self.callbacks.remove(at) else {
            return;
        };
        self.answered(request, outcome(input));
    }

    pub(super) fn answered(&mut self, request: CallbackRequest, outcome: CallbackOutcome) {
        let CallbackRequest {
            client,
            token,
            hook,
            body,
            ..
        } = request;
        let yes = matches!(&outcome, CallbackOutcome::Answered(reply) if reply.is_success());
        match hook.event {
            Event::Connect if yes => *self.admitted.entry(client).or_default() += 1,
            Event::Message if yes => self.promise(client, &body),
            Event::Close => return,
            Event::Connect | Event::Message => {}
        }
        self.post(Command::CallbackDone { client, token, outcome });
    }

    /// The client has to be told that its message has arrived.
    fn promise(&mut self, client: ClientId, body: &[u8]) {
        let number = body.strip_prefix(COUNTED).and_then(|rest| rest.first_chunk());
        if let (Some(number), Some(wire)) = (number, self.net.wire_of(client)) {
            *self.known[wire]
                .promised
                .entry(u16::from_be_bytes(*number))
                .or_default() += 1;
        }
    }

    fn publish(&mut self, input: &mut Input8<'_>) {
        let channel = Name::channel(CHANNELS[input.pick(3)].as_bytes());
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][input.pick(3)];
        let retries = input.pick(3) as u32;
        let ticket = self.ticket();
        self.publishes.insert(ticket, 0);
        let publish = Publish {
            ticket,
            to: channel.into(),
            except: ClientSet::default(),
            tag: 7,
            qos,
            tell: qos.tell(),
            payload: Bytes::from(vec![b'x'; input.pick(256) * 16]),
            retries,
            retry_interval: api::RETRY_INTERVAL,
            deadline: self.core.now() + api::exhausted_after(retries),
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        };
        self.post(Command::Publish(Arc::new(publish)));
    }

    fn join(&mut self, input: &mut Input8<'_>) {
        let channel = Name::channel(CHANNELS[input.pick(3)].as_bytes());
        if let (Some(client), ticket) = (self.client(input), self.ticket()) {
            self.post(Command::Join {
                client,
                channel,
                ticket,
            });
        }
    }

    fn close(&mut self, input: &mut Input8<'_>) {
        if let (Some(client), ticket) = (self.client(input), self.ticket()) {
            self.post(Command::Close {
                client,
                order: Box::new(CloseOrder::new(CloseCause::Kicked)),
                ticket,
            });
        }
    }

    /// One of those the business has admitted.
    fn client(&self, input: &mut Input8<'_>) -> Option<ClientId> {
        let mut clients: Vec<ClientId> = self.admitted.keys().copied().collect();
        clients.sort_unstable();
        clients.get(input.pick(clients.len())).copied()
    }

    /// The control core has answered a request, and what follows it is for a door.
    fn hand_back(&mut self, input: &mut Input8<'_>) {
        let Some(wire) = self.pick(input) else { return };
        let Some((socket, mut bytes)) = self.known[wire].away.take() else {
            return;
        };
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            bytes.drain(..end + 4);
        }
        let handover = Handover {
            socket,
            bytes,
            tls: None,
            told: None,
            listener: ListenerId::MAIN,
        };
        self.to_core.post_shard(ShardId(0), ShardMail::Adopt(handover));
        self.to_core.kick();
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket {
            serial: self.tickets,
            ..Ticket::default()
        }
    }
}

/// Requests for the door: plain, one that may compress, one that can become no websocket.
fn upgrade(kind: usize) -> Vec<u8> {
    let more = [
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
        "",
    ];
    format!(
        "GET /connect/?X-DEVICEID=d&X-CLIENT-OS=o HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\n{}\r\n",
        more[kind]
    )
    .into_bytes()
}
