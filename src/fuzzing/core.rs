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

mod checks;
mod frames;
mod net;
mod repeats;
mod steps;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::{Input8, Random};
use crate::close::CloseCause;
use crate::config::{Config, Overrides};
use crate::engine::command::{CallbackRequest, Command, Report};
use crate::engine::hook::Event;
use crate::engine::ids::{ClientId, IdentityKey, ShardId, Ticket};
use crate::engine::mailbox::{Receiver, mailbox};
use crate::engine::registry::HomeHash;
use crate::io::admission::Admission;
use crate::io::core::Core;
use crate::io::mail::{ControlMail, Handover, Outlets, ShardMail};
use crate::io::wake::Waker;
use crate::metrics::{CoreMetrics, Labels};
use crate::shard::Setup;
use crate::time::Duration;
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
    // A connection is not handed over while an answer is on its way, but closed.
    let handed = |outcome: &Outcome| outcome.read.iter().map(|read| read.handed).collect::<Vec<_>>();
    if handed(&smooth) != handed(&rough) {
        return;
    }
    // A message is repeated, and its client given up, by the time at which its bytes left: from then on the two differ.
    if smooth.has_unanswered() || rough.has_unanswered() {
        return;
    }
    assert_eq!(smooth.events, rough.events);
    for (wire, (smooth, rough)) in smooth.read.iter().zip(&rough.read).enumerate() {
        // Whoever is cut off, for breaking the protocol or ending the connection, loses what waited for the socket. On the
        // smooth kernel that is also what was said in the same turn, which the rough one had divided.
        let same = if rough.cut {
            smooth.bytes.starts_with(&rough.bytes) || smooth.cut && rough.bytes.starts_with(&smooth.bytes)
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

impl Outcome {
    /// Whether a message with acknowledgement was not answered at once.
    fn has_unanswered(&self) -> bool {
        let all_done = |event: &&String| event.contains("failed: 0, silent: 0");
        let mut parts = self.events.iter().filter(|event| event.starts_with("Part {"));
        let has_repeats = self.read.iter().any(|read| repeats::are_in(&read.bytes));
        has_repeats || !parts.all(|event| all_done(&event))
    }
}

/// What a client read.
struct Read {
    bytes: Vec<u8>,
    /// The server has cut it off.
    cut: bool,
    /// It had ended its own direction.
    ended: bool,
    /// How often the connection was handed over.
    handed: usize,
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
    handed: usize,
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
                    let known = &mut self.known[wire];
                    known.handed += 1;
                    known.away = Some((socket, bytes));
                }
                // Not from shards.
                _ => {}
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Callback(request) => {
                self.events.push(format!("{request:?}"));
                if request.hook.event == Event::Close {
                    *self.closed.entry(request.client).or_default() += 1;
                }
                self.callbacks.push_back(request);
            }
            Report::Published { ticket, .. } => *self.publishes.get_mut(&ticket).expect("ours") += 1,
            Report::Part(part) => {
                *self.publishes.get_mut(&part.ticket).expect("ours") += 1;
                self.events.push(format!("{part:?}"));
            }
            Report::Online { .. } => panic!("nobody asked"),
            Report::Done { ticket, done } => self.events.push(format!("{ticket:?} {done:?}")),
            Report::Told { .. } => {}
            Report::Drained { .. } => self.drained += 1,
        }
    }
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
