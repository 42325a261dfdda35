//! Calls of `/send/` on kept-alive connections: QoS 0 to one client, QoS 1 to one client (round trip) or to many, closed
//! and open loop. Clients acknowledge at once.
//!
//! Closed: each caller sends its next call when the last one is answered. Open: calls are due at fixed times, whatever the
//! server does; a call that finds no free caller waits, and its time counts from when it was due (no coordinated omission).

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rainbow_server::protocol::rainbow::packet::{Form, Packet};

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load};
use crate::options::Options;
use crate::results::{Round, histogram, record};
use crate::rig::Rig;
use crate::wire::{Send, push_packet};

const PAYLOAD: usize = 64;
/// Calls per second of the open loop, unless asked for otherwise.
const RATE: f64 = 4000.0;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// 0 or 1.
    pub qos: u8,
    /// Connections that call.
    pub callers: usize,
    /// Clients in the one channel.
    pub members: usize,
    /// Calls per second; `None`: closed loop.
    pub rate: Option<f64>,
    /// One operation is a delivery, not a call.
    pub per_delivery: bool,
}

/// The standard cases of a workload.
pub fn cases(name: &str, options: &Options) -> Vec<Case> {
    let calls = |qos, callers, members, rate| Calls {
        qos,
        callers,
        members,
        rate,
        per_delivery: members > 1,
    };
    let case = |text: String, target, calls| Case::new(format!("{name} {text}"), Some(target), calls);
    let members = options.members.unwrap_or(if options.quick { 100 } else { 1000 });
    let rate = options.rate.unwrap_or(RATE);
    match name {
        "send0" => vec![
            case("1 caller".into(), "15 µs", calls(0, 1, 1, None)),
            case("16 callers".into(), "15 µs", calls(0, 16, 1, None)),
        ],
        "acked" => vec![case(format!("{members} members"), "12 µs", calls(1, 1, members, None))],
        _ => vec![
            case("1 caller".into(), "35 µs, p99 <= 4 x p50", calls(1, 1, 1, None)),
            case("16 callers".into(), "35 µs", calls(1, 16, 1, None)),
            case(format!("open loop {rate:.0}/s"), "35 µs", calls(1, 64, 1, Some(rate))),
        ],
    }
}

/// The load of API calls; other workloads use it beside their own.
pub struct Calling {
    /// Times from when a call was due to its answer.
    pub latency: Histogram<u64>,
    /// When the call of each busy caller was due.
    due: Vec<Option<Instant>>,
    /// Calls answered.
    pub answered: u64,
    /// Packets clients received.
    pub packets: u64,
    failed: Option<String>,
    wanted: &'static [u8],
}

impl Calling {
    /// For so many callers; an answer of QoS 1 must say how many acknowledged.
    pub fn new(callers: usize, wanted: &'static [u8]) -> Self {
        Self {
            latency: histogram(),
            due: vec![None; callers],
            answered: 0,
            packets: 0,
            failed: None,
            wanted,
        }
    }

    /// A caller without a call.
    pub fn free(&self) -> Option<usize> {
        self.due.iter().position(Option::is_none)
    }

    /// Calls under way.
    pub fn busy(&self) -> usize {
        self.due.iter().flatten().count()
    }

    /// A caller begins a call that was due then.
    pub fn begin(&mut self, caller: usize, due: Instant) {
        self.due[caller] = Some(due);
    }

    /// An error if an answer was wrong.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.failed.take().map_or(Ok(()), |text| Err(text.into()))
    }
}

impl Load for Calling {
    fn on_packet(&mut self, _: usize, packet: &[u8], reply: &mut Vec<u8>) {
        self.packets += 1;
        if let Ok(Packet::Send { raw_qos: 1, id, .. }) = Packet::decode(packet, Form::Binary) {
            push_packet(reply, &Packet::Ack { id, data: &[] });
        }
    }

    fn on_answer(&mut self, caller: usize, status: u16, body: &[u8], _: &mut Vec<u8>) {
        if let Some(due) = self.due[caller].take() {
            record(&mut self.latency, due.elapsed());
        }
        self.answered += 1;
        let right = status == 200 && body.windows(self.wanted.len()).any(|part| part == self.wanted);
        if !right && self.failed.is_none() {
            self.failed = Some(format!(
                "a call was answered {status} {}",
                String::from_utf8_lossy(body)
            ));
        }
    }
}

impl Work for Calls {
    fn unit(&self) -> &'static str {
        if self.per_delivery {
            "acknowledged delivery"
        } else {
            "call"
        }
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(self.members, Lane::Fast, |_| "calls".into())?;
        rig.open_callers(self.callers)?;
        let mut send = Send::new("calls", self.qos, PAYLOAD);
        let wanted: &[u8] = if self.qos == 0 {
            b"\"status\": 0"
        } else {
            b"\"connections\": "
        };
        let mut load = Calling::new(self.callers, wanted);
        let Some(rate) = self.rate else {
            let each = if self.per_delivery { self.members as u64 } else { 1 };
            return rig.closed(
                &mut load,
                |load| &mut load.latency,
                |rig, load| closed_step(rig, load, &mut send).map(|calls| calls * each),
            );
        };
        open_loop(rig, &mut load, &mut send, rate, rig.warm_up())?;
        load.latency = histogram();
        let mark = rig.mark()?;
        let calls = open_loop(rig, &mut load, &mut send, rate, rig.span())?;
        rig.round(mark, calls, std::mem::replace(&mut load.latency, histogram()))
    }
}

/// Keeps every caller busy for a while; at the end all are answered.
fn closed_step(rig: &mut Rig<'_>, load: &mut Calling, send: &mut Send) -> Result<u64, Failure> {
    const STEP: Duration = Duration::from_millis(50);
    let (before, end) = (load.answered, Instant::now() + STEP);
    loop {
        let now = Instant::now();
        if now > end {
            break;
        }
        while let Some(caller) = load.free() {
            load.begin(caller, Instant::now());
            rig.net.send(rig.callers[caller], send.bytes(now));
        }
        let answered = load.answered;
        rig.run_until(load, |load| load.answered > answered)?;
    }
    rig.run_until(load, |load| load.busy() == 0)?;
    load.check()?;
    Ok(load.answered - before)
}

/// Calls due every `1 / rate` seconds for `span`; returns when all are answered. How many there were.
fn open_loop(
    rig: &mut Rig<'_>,
    load: &mut Calling,
    send: &mut Send,
    rate: f64,
    span: Duration,
) -> Result<u64, Failure> {
    let (start, before) = (Instant::now(), load.answered);
    let calls = (rate * span.as_secs_f64()) as u64;
    let mut begun = 0;
    while begun < calls {
        let now = Instant::now();
        while begun < calls {
            let due = start + Duration::from_secs_f64(begun as f64 / rate);
            let Some(caller) = load.free().filter(|_| due <= now) else {
                break;
            };
            load.begin(caller, due);
            rig.net.send(rig.callers[caller], send.bytes(now));
            begun += 1;
        }
        if now > start + span + Duration::from_secs(20) {
            return Err(format!("the server does not keep up with {rate} calls per second").into());
        }
        rig.net.poll(load, 0)?;
    }
    rig.run_until(load, |load| load.busy() == 0)?;
    load.check()?;
    Ok(load.answered - before)
}
