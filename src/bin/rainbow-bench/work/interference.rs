//! QoS 1 round trips of a small channel, open loop, on a quiet server and while something large happens beside it: a flood
//! to a large channel, clients that leave and come back, one client that never reads. One operation is one round trip. The
//! load handles the small channel's sockets first and the flood's a few at a time, so that what is added is the server's.
//!
//! One round of a disturbed case measures the quiet server first; what matters is printed as the ratio of the two p99.9.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::calls::Calling;
use super::{Case, Work};
use crate::Failure;
use crate::net::{Key, Lane, Load};
use crate::options::Options;
use crate::results::{Part, Round, histogram};
use crate::rig::Rig;
use crate::wire::{self, Send};

/// Connections for the calls of the small channel.
const CALLERS: usize = 16;
/// Round trips per second.
const RATE: f64 = 1000.0;

/// What happens beside the small channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Publishes to a channel with so many members, the next as soon as the last is delivered.
    Flood(usize),
    /// So many clients, of which the oldest leaves and comes back, some at a time.
    Reconnects(usize),
    /// A client in a busy channel that never reads.
    Deaf,
}

/// The scenarios.
pub fn cases(options: &Options) -> Vec<Case> {
    let (flood, reconnects) = if options.quick { (500, 200) } else { (10_000, 5000) };
    let case = |text: String, beside| {
        let name = format!("interference: {text}");
        Case {
            part: Part::Interference,
            ..Case::new(name, Some("p99.9 <= 3 x undisturbed"), Interference(beside))
        }
    };
    vec![
        case(format!("flood of {flood} members"), Beside::Flood(flood)),
        case(
            format!("{reconnects} clients reconnect"),
            Beside::Reconnects(reconnects),
        ),
        case("a client that never reads".into(), Beside::Deaf),
    ]
}

/// One scenario.
pub struct Interference(Beside);

impl Work for Interference {
    fn unit(&self) -> &'static str {
        "round trip"
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(1, Lane::Fast, |_| "small".into())?;
        rig.open_callers(CALLERS)?;
        let mut both = Both::new();
        both.small_clients = 1;
        let rate = rig.options.rate.unwrap_or(RATE);
        let (warm, span) = (rig.warm_up(), rig.span().max(Duration::from_secs_f64(500.0 / rate)));
        both.run(rig, rate, warm, None)?;
        both.calling.latency = histogram();
        both.run(rig, rate, span, None)?;
        let quiet = std::mem::replace(&mut both.calling.latency, histogram());
        let mut beside = self.0.prepare(rig)?;
        both.run(rig, rate, warm, Some(&mut beside))?;
        both.calling.latency = histogram();
        let mark = rig.mark()?;
        // What was under way has ended unseen while the server became quiet.
        (both.flood_packets, both.opened) = (0, 0);
        (beside.left, beside.opening) = (0, 0);
        let calls = both.run(rig, rate, span, Some(&mut beside))?;
        let latency = std::mem::replace(&mut both.calling.latency, histogram());
        let us = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let extra = vec![
            ("undisturbed p50, µs", us(&quiet, 0.5)),
            ("undisturbed p99, µs", us(&quiet, 0.99)),
            ("undisturbed p99.9, µs", us(&quiet, 0.999)),
            (
                "p99.9 disturbed / undisturbed",
                us(&latency, 0.999) / us(&quiet, 0.999).max(0.001),
            ),
            ("deliveries beside it", both.flood_packets as f64),
            ("connects beside it", both.opened as f64),
        ];
        let mut round = rig.round(mark, calls, latency)?;
        round.extra = extra;
        Ok(round)
    }
}

impl Beside {
    fn prepare(self, rig: &mut Rig<'_>) -> Result<Disturbance, Failure> {
        let (clients, channel) = match self {
            Self::Flood(members) => (members, "large"),
            Self::Reconnects(clients) => (clients, "many"),
            Self::Deaf => (20, "busy"),
        };
        let first = rig.clients.len();
        rig.open_clients(clients, Lane::Bulk, |_| channel.into())?;
        let caller = rig.net.caller(CALLERS, rig.server.port, Lane::Bulk)?;
        let deaf = match self {
            Self::Deaf => Some(deaf(rig.server.port)?),
            _ => None,
        };
        Ok(Disturbance {
            what: self,
            send: Send::new(channel, 0, if self == Self::Deaf { 4096 } else { 64 }),
            caller,
            first,
            turn: 0,
            left: 0,
            opening: 0,
            _deaf: deaf,
        })
    }
}

/// A client that upgrades, and is never read again.
fn deaf(port: u16) -> Result<std::net::TcpStream, Failure> {
    use std::io::Write;
    let mut socket = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port))?;
    socket.write_all(&wire::connect_head(port, 999_999, "busy"))?;
    Ok(socket)
}

/// What is going on beside the measurement.
struct Disturbance {
    what: Beside,
    send: Send,
    caller: Key,
    first: usize,
    turn: usize,
    /// Packets of the last publish still to come.
    left: u64,
    /// Clients on their way back.
    opening: u64,
    _deaf: Option<std::net::TcpStream>,
}

impl Disturbance {
    /// Does more of it if the last is done.
    fn go_on(&mut self, rig: &mut Rig<'_>, both: &Both) -> Result<(), Failure> {
        const RECONNECTS_MAX: u64 = 8;
        let clients = rig.clients.len() - self.first;
        match self.what {
            Beside::Flood(_) | Beside::Deaf if both.flood_packets >= self.left => {
                self.left = both.flood_packets + clients as u64;
                rig.net.send(self.caller, self.send.bytes(Instant::now()));
            }
            Beside::Reconnects(_) if self.opening.saturating_sub(both.opened) < RECONNECTS_MAX => {
                let number = self.first + self.turn % clients;
                self.turn += 1;
                rig.net.close(rig.clients[number]);
                let head = wire::connect_head(rig.server.port, number, "many");
                rig.clients[number] = rig.net.client(number, rig.server.port, &head, Lane::Bulk)?;
                self.opening = self.opening.max(both.opened) + 1;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The calls of the small channel and the rest.
struct Both {
    calling: Calling,
    small_clients: usize,
    flood_packets: u64,
    opened: u64,
}

impl Load for Both {
    fn on_open(&mut self, _: usize, _: &mut Vec<u8>) {
        self.opened += 1;
    }

    fn on_packet(&mut self, client: usize, packet: &[u8], reply: &mut Vec<u8>) {
        if client < self.small_clients {
            return self.calling.on_packet(client, packet, reply);
        }
        self.flood_packets += 1;
    }

    fn on_answer(&mut self, caller: usize, status: u16, body: &[u8], reply: &mut Vec<u8>) {
        if caller < CALLERS {
            self.calling.on_answer(caller, status, body, reply);
        }
    }
}

impl Both {
    fn new() -> Self {
        Self {
            calling: Calling::new(CALLERS, b"\"connections\": 1"),
            small_clients: 0,
            flood_packets: 0,
            opened: 0,
        }
    }

    /// Round trips due at fixed times, with or without the disturbance; how many.
    fn run(
        &mut self,
        rig: &mut Rig<'_>,
        rate: f64,
        span: Duration,
        mut beside: Option<&mut Disturbance>,
    ) -> Result<u64, Failure> {
        let mut send = Send::new("small", 1, 64);
        let (start, calls, mut begun) = (Instant::now(), (rate * span.as_secs_f64()) as u64, 0);
        while begun < calls || self.calling.busy() > 0 {
            let now = Instant::now();
            while begun < calls {
                let due = start + Duration::from_secs_f64(begun as f64 / rate);
                let Some(caller) = self.calling.free().filter(|_| due <= now) else {
                    break;
                };
                self.calling.begin(caller, due);
                rig.net.send(rig.callers[caller], send.bytes(now));
                begun += 1;
            }
            if let Some(beside) = &mut beside {
                beside.go_on(rig, self)?;
            }
            rig.net.poll(self, 0)?;
            if now > start + span + Duration::from_secs(20) {
                return Err(format!("the server does not keep up with {rate} round trips per second").into());
            }
        }
        self.calling.check()?;
        Ok(calls)
    }
}
