//! A whole core from socket bytes to socket bytes, on a kernel in memory (`core/net.rs`): clients that say anything, a business that
//! answers anything, connections that come back from the control core. Everything below the system calls is what runs in
//! production; only the runtime's loops, accepting and TLS are not in it.
//!
//! A script is played twice, each step until nothing is left to do: on a smooth kernel and on a rough one. Whatever the chopping
//! and the order of reports, every client must have read the same bytes and the business must have been asked the same. Other scripts
//! are played once, with failing calls, resets in the middle and steps that overlap.
//!
//! Always: nothing panics, every step ends, a core with nothing to do makes no call, what a client reads is HTTP and then whole
//! frames, each message it was promised an answer for is answered once, one close callback for each admitted client, and in the
//! end no slot, timer or descriptor is left.

mod net;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::shard::{CHANNELS, reply};
use super::{Input8, Random};
use crate::close::CloseCause;
use crate::config::{Config, Overrides};
use crate::engine::command::{AtDeadline, CallbackOutcome, CallbackRequest, Command, Endpoint, Publish, Qos, Report};
use crate::engine::command::{CallbackFailure, exhausted_after};
use crate::engine::ids::{ClientId, IdentityKey, ShardId, Ticket};
use crate::engine::mailbox::{Receiver, mailbox};
use crate::engine::registry::HomeHash;
use crate::io::admission::{Admission, Arrival};
use crate::io::core::Core;
use crate::io::mail::{ControlMail, Handover, Outlets, ShardMail};
use crate::io::wake::Waker;
use crate::metrics::{CoreMetrics, Labels};
use crate::protocol::rainbow::packet::{Form, Packet};
use crate::shard::Setup;
use crate::time::Duration;
use crate::wire::ws;
use net::{Net, Plug};

/// Steps looked at of one input.
const STEPS_MAX: usize = 200;
/// Connections in one script.
const WIRES_MAX: usize = 24;
/// Rounds a step may take: a few per byte that is on its way.
const ROUNDS_MAX: usize = 50_000;
/// Rounds of a step that the next one overlaps.
const OVERLAPPED_ROUNDS: usize = 3;
/// Room of the core's buffer: small ones are filled, which is a path of its own.
const SCRATCH: [usize; 4] = [1, 16, 300, 64 * 1024];
/// Room of the control core's mailbox: small ones make the core wait.
const MAILBOX: [usize; 3] = [1, 3, 1024];
/// In the payload of messages whose answers are counted.
const COUNTED: &[u8] = b"counted ";

/// Plays the script `data` stands for.
pub fn core_sockets(data: &[u8]) {
    let (Some((&kind, rest)), seed) = (data.split_first(), data.len()) else {
        return;
    };
    let sum: u64 = rest
        .iter()
        .take(64)
        .fold(seed as u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    if kind & 0x80 != 0 {
        World::new(kind, Net::new(Some(Random::new(sum)), true)).play(rest, true);
        return;
    }
    let smooth = World::new(kind, Net::new(None, false)).play(rest, false);
    let rough = World::new(kind, Net::new(Some(Random::new(sum)), false)).play(rest, false);
    assert_eq!(smooth.events, rough.events);
    for (wire, (smooth, rough)) in smooth.read.iter().zip(&rough.read).enumerate() {
        // Whoever is cut off, for breaking the protocol or ending the connection, loses what waited for the socket.
        let same = if rough.cut {
            smooth.bytes.starts_with(&rough.bytes)
        } else {
            smooth.bytes == rough.bytes
        };
        assert!(
            same && (smooth.cut == rough.cut || smooth.ended),
            "wire {wire}\nsmooth: {smooth:?}\n rough: {rough:?}"
        );
    }
}

/// What a script led to.
struct Outcome {
    /// What business, control core and callers saw.
    events: Vec<String>,
    /// What each client read.
    read: Vec<Read>,
}

/// What a client read.
struct Read {
    bytes: Vec<u8>,
    /// The server has cut it off.
    cut: bool,
    /// It had ended its own direction.
    ended: bool,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.escape_ascii();
        write!(f, "cut {} ended {} {bytes}", self.cut, self.ended)
    }
}

/// What is known about a connection besides its bytes.
#[derive(Default)]
struct Known {
    /// Ids of counted messages, as far as they were said.
    said: u16,
    /// How often each has to be answered; without those that nothing is promised for.
    promised: HashMap<u16, usize>,
    /// It has said things of its own, which may look like anything.
    wild: bool,
    /// With the control core, with what was received.
    away: Option<(Plug, Vec<u8>)>,
}

struct World {
    net: Net,
    core: Rc<Core<Net>>,
    to_core: Outlets<Plug>,
    mailbox: Receiver<ShardMail<Plug>>,
    control: Receiver<ControlMail<Plug>>,
    compressed: bool,
    known: Vec<Known>,
    callbacks: VecDeque<CallbackRequest>,
    admitted: HashMap<ClientId, u32>,
    closed: HashMap<ClientId, u32>,
    publishes: HashMap<Ticket, u32>,
    tickets: u64,
    drained: usize,
    events: Vec<String>,
}

impl World {
    fn new(kind: u8, net: Net) -> Self {
        let waker = waker();
        let (shard, mailbox_of_core) = mailbox(1024, waker.clone());
        let capacity = MAILBOX[usize::from(kind >> 4) % MAILBOX.len()];
        let (control, reports) = mailbox(capacity, waker.clone());
        let outlets = Outlets::new(vec![shard], control);
        let labels = Labels {
            close_causes: &CloseCause::LABELS,
            api_routes: &[],
        };
        let setup = Setup {
            id: ShardId(0),
            shards: 1,
            home: HomeHash::new(1, 1),
            identities: IdentityKey::new(1, [1; 32]),
            started_unix_micros: 0,
            seed: 1,
            config: config(kind),
            metrics: Arc::new(CoreMetrics::new("0", labels)),
        };
        let scratch = SCRATCH[usize::from(kind >> 2) % SCRATCH.len()];
        Self {
            core: Core::new(setup, net.clone(), admission(), outlets.clone(), waker, scratch),
            to_core: outlets,
            mailbox: mailbox_of_core,
            control: reports,
            compressed: kind & 2 != 0,
            known: Vec::new(),
            callbacks: VecDeque::new(),
            admitted: HashMap::new(),
            closed: HashMap::new(),
            publishes: HashMap::new(),
            tickets: 0,
            drained: 0,
            events: Vec::new(),
            net,
        }
    }

    fn play(mut self, script: &[u8], overlapping: bool) -> Outcome {
        let mut input = Input8(script);
        for _ in 0..STEPS_MAX {
            let Some(step) = input.byte() else { break };
            if std::env::var_os("FUZZ_TRACE").is_some() {
                let n = self.net.wires();
                eprintln!(
                    "step {} {:?}",
                    step % 16,
                    (0..n)
                        .map(|w| self.net.wire(w, |w| (w.out.len(), w.cut, w.finished, w.closed)))
                        .collect::<Vec<_>>()
                );
            }
            self.step(step, &mut input, overlapping);
            if overlapping {
                self.rounds(OVERLAPPED_ROUNDS);
            } else {
                self.settle();
            }
        }
        self.settle();
        self.check_streams(overlapping);
        self.end()
    }

    fn step(&mut self, step: u8, input: &mut Input8<'_>, overlapping: bool) {
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
            drop(
                self.core
                    .adopt(self.net.connect(), Vec::new(), None, Arrival::default()),
            );
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
        let outcome = match input.pick(6) {
            0 => CallbackOutcome::Failed(CallbackFailure::TimedOut),
            1 => reply(500, None),
            2 => reply(200, None),
            channel => reply(200, CHANNELS.get(channel - 3).copied()),
        };
        self.answered(request, outcome);
    }

    fn answered(&mut self, request: CallbackRequest, outcome: CallbackOutcome) {
        let CallbackRequest {
            client,
            token,
            endpoint,
            body,
            ..
        } = request;
        let yes = matches!(&outcome, CallbackOutcome::Answered(reply) if reply.is_success());
        match endpoint {
            Endpoint::Connect if yes => *self.admitted.entry(client).or_default() += 1,
            Endpoint::Message if yes => self.promise(client, &body),
            Endpoint::Close => return,
            Endpoint::Connect | Endpoint::Message => {}
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
        let channel = CHANNELS[input.pick(3)].as_bytes().into();
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][input.pick(3)];
        let retries = input.pick(3) as u32;
        let ticket = self.ticket();
        self.publishes.insert(ticket, 0);
        let publish = Publish {
            ticket,
            channel,
            msgtype: 7,
            qos,
            payload: Bytes::from(vec![b'x'; input.pick(256) * 16]),
            retries,
            deadline: self.core.now() + exhausted_after(retries),
            at_deadline: AtDeadline::TimedOut,
        };
        self.post(Command::Publish(Arc::new(publish)));
    }

    fn join(&mut self, input: &mut Input8<'_>) {
        let channel = CHANNELS[input.pick(3)].as_bytes().into();
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
                cause: CloseCause::Kicked,
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
        };
        self.to_core.post_shard(ShardId(0), ShardMail::Adopt(handover));
        self.to_core.kick();
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn post(&mut self, command: Command) {
        self.to_core.post_shard(ShardId(0), ShardMail::Command(command));
        self.to_core.kick();
    }

    fn pass(&mut self, span: Duration) {
        self.net.pass(span);
        while self
            .core
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.core.now())
        {
            self.core.fire();
            self.take_control_mail();
        }
    }

    /// Plays on until nothing is left to do, and sees that the core knows.
    fn settle(&mut self) {
        assert!(self.rounds(ROUNDS_MAX) < ROUNDS_MAX, "the core is never done");
        for known in &mut self.known {
            if let Some((socket, bytes)) = &mut known.away {
                bytes.extend(socket.take_all());
            }
        }
        if !self.net.is_rough() {
            let calls = self.net.calls();
            self.round();
            assert_eq!(self.net.calls(), calls, "a call for nobody");
        }
    }

    /// At most so many rounds; how many there were.
    fn rounds(&mut self, most: usize) -> usize {
        for round in 0..most {
            let moved = self.net.advance();
            let due = self.net.has_reports()
                || self.core.has_more()
                || self.core.congested()
                || !self.mailbox.is_empty()
                || !self.control.is_empty();
            if !moved && !due {
                return round;
            }
            self.round();
        }
        most
    }

    /// What the loops of a core and the control core do, once each.
    fn round(&mut self) {
        self.take_control_mail();
        if self.core.congested() {
            self.core.kick();
        } else {
            self.core.read_ready(&mut Vec::new());
        }
        self.core.write_ready(&mut Vec::new());
        self.core.take_mail(&self.mailbox, &mut Vec::new());
        self.core.kick();
    }

    fn take_control_mail(&mut self) {
        let mut mail = Vec::new();
        self.control.drain(usize::MAX, |one| mail.push(one));
        for one in mail {
            match one {
                ControlMail::Report(report) => self.on_report(report),
                ControlMail::Handover(handover) => {
                    let Handover { socket, bytes, .. } = handover;
                    assert!(
                        socket.is_unwatched(),
                        "the core would still be told of a socket it gave away"
                    );
                    let wire = socket.wire();
                    self.known[wire].away = Some((socket, bytes));
                }
                ControlMail::Signal(_) => {}
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Callback(request) => {
                self.events.push(format!("{request:?}"));
                if request.endpoint == Endpoint::Close {
                    *self.closed.entry(request.client).or_default() += 1;
                }
                self.callbacks.push_back(request);
            }
            Report::Published { ticket, .. } => *self.publishes.get_mut(&ticket).expect("ours") += 1,
            Report::Part(part) => {
                *self.publishes.get_mut(&part.ticket).expect("ours") += 1;
                self.events.push(format!("{part:?}"));
            }
            Report::Done { ticket, found } => self.events.push(format!("{ticket:?} {found}")),
            Report::Census { .. } => {}
            Report::Drained { .. } => self.drained += 1,
        }
    }

    /// What every client has read makes sense, and has the answers it was promised.
    fn check_streams(&self, overlapping: bool) {
        for (wire, known) in self.known.iter().enumerate() {
            self.net.wire(wire, |wire| {
                let whole = !(wire.stalled || wire.reset || wire.closed || wire.finished || overlapping);
                let Some(frames) = frames(&wire.out) else { return };
                assert!(frames.rest.is_empty() || !whole, "half a frame: {:?}", frames.rest);
                if !whole || known.wild || self.compressed || frames.closed {
                    return;
                }
                for (id, promised) in &known.promised {
                    let answered = frames.answered.get(id).copied().unwrap_or_default();
                    assert_eq!(answered, *promised, "answers to message {id}");
                }
            });
        }
    }

    /// Ends everything and checks that nothing is left.
    fn end(mut self) -> Outcome {
        for wire in 0..self.net.wires() {
            self.net.wire(wire, |wire| wire.stalled = false);
        }
        self.post(Command::Drain);
        for _ in 0..200 {
            self.settle();
            while let Some(request) = self.callbacks.pop_front() {
                self.answered(request, reply(500, None));
            }
            self.known.iter_mut().for_each(|known| drop(known.away.take()));
            self.pass(Duration::from_secs(1));
            if self.drained > 0 && self.net.is_empty() && self.core.next_deadline().is_none() {
                break;
            }
        }
        assert_eq!(self.drained, 1, "the shard is not empty");
        let (counts, panics) = self.core.debug_counts();
        assert_eq!(panics, 0, "a panic was contained");
        assert_eq!((counts.clients, counts.deliveries, counts.memberships), (0, 0, 0));
        assert_eq!((counts.interests, counts.timers), (0, 0));
        assert!(self.net.is_empty(), "a descriptor was left open");
        for (client, admitted) in &self.admitted {
            let closed = self.closed.remove(client).unwrap_or_default();
            // Without one: those that could become no websocket.
            let expected = if self.net.is_welcomed(*client) {
                *admitted
            } else {
                closed.min(*admitted)
            };
            assert_eq!(closed, expected, "close callbacks of {client:?}");
        }
        assert!(
            self.closed.is_empty(),
            "close callbacks of strangers: {:?}",
            self.closed
        );
        for (ticket, answers) in &self.publishes {
            assert_eq!(*answers, 1, "answers to {ticket:?}");
        }
        let read = |wire| {
            self.net.wire(wire, |wire| Read {
                bytes: std::mem::take(&mut wire.out),
                cut: wire.cut,
                ended: wire.ended.is_some(),
            })
        };
        Outcome {
            read: (0..self.net.wires()).map(read).collect(),
            events: std::mem::take(&mut self.events),
        }
    }
}

/// What a client read after its upgrade.
struct Frames<'a> {
    /// The beginning of a frame.
    rest: &'a [u8],
    /// The server has said goodbye.
    closed: bool,
    /// ACK and REC packets by id.
    answered: HashMap<u16, usize>,
}

/// The frames in what a client read; `None` before its upgrade. Panics if that is not HTTP and then frames.
fn frames(read: &[u8]) -> Option<Frames<'_>> {
    assert!(
        read.is_empty() || read.starts_with(b"HTTP/1.1 "),
        "{}",
        read.escape_ascii()
    );
    let upgraded = read.windows(13).position(|bytes| bytes == b"HTTP/1.1 101 ")?;
    let end = read[upgraded..].windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let mut found = Frames {
        rest: &read[upgraded + end + 4..],
        closed: false,
        answered: HashMap::new(),
    };
    while let Some((opcode, payload, rest)) = frame(found.rest) {
        assert!(!found.closed, "a frame behind the close frame");
        found.closed = opcode == 8;
        if let Ok(Packet::Ack { id, .. } | Packet::Rec { id, .. }) = Packet::decode(payload, Form::Binary)
            && opcode == 2
        {
            *found.answered.entry(id).or_default() += 1;
        }
        found.rest = rest;
    }
    Some(found)
}

/// The first frame: opcode, payload, what follows; `None` if it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert!(
        first & 0x30 == 0 && matches!(first & 15, 0..=2 | 8..=10),
        "no frame: {bytes:?}"
    );
    assert!(second & 0x80 == 0, "a masked frame of the server");
    let (len, rest) = match second & 127 {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), &rest[8..]),
        len => (u64::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((first & 15, payload, rest))
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

/// Settings of a kind of script.
fn config(kind: u8) -> Arc<Config> {
    static KINDS: OnceLock<[Arc<Config>; 4]> = OnceLock::new();
    let make = |kind: usize| {
        let order = if kind & 1 == 0 { "none" } else { "client" };
        let slow = if kind & 1 == 0 { "close" } else { "drop_oldest" };
        let compression = if kind & 2 == 0 { "no" } else { "yes" };
        let text = format!(
            "[main]\nconnect_url=http://b/c\nforward_url=http://b/m/{{message_type}}\nclose_url=http://b/x\n\
             security_token=t\nworkers=1\nconnections_max=64\nforward_order={order}\nforward_queue=4\noutbox_bytes=64k\n\
             inflight_max=4\nchannels_max=2\nslow_consumer={slow}\ncompression={compression}\nmemory_max=1048576m\n"
        );
        let (config, _) = Config::from_file_text("fuzz", &text, &Overrides::default()).expect("valid");
        Arc::new(config)
    };
    KINDS.get_or_init(|| std::array::from_fn(make))[usize::from(kind & 3)].clone()
}

/// Looking at the machine takes longer than a script.
fn admission() -> Arc<Admission> {
    static ADMISSION: OnceLock<Arc<Admission>> = OnceLock::new();
    ADMISSION.get_or_init(Admission::new).clone()
}

fn waker() -> Waker {
    static WAKER: OnceLock<Waker> = OnceLock::new();
    WAKER.get_or_init(|| Waker::new().expect("an eventfd")).clone()
}
