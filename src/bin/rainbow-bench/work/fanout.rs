//! QoS 0 publishes to one channel with many members; one operation is one delivery. A burst is published at once: over as
//! many connections, or pipelined on one. The next burst begins when the last member has the last message and every caller
//! its answer. Saturated: nothing but the server's core while it delivers.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load};
use crate::options::Options;
use crate::results::{Round, histogram, record};
use crate::rig::Rig;
use crate::wire::Send;

const CHANNEL: &str = "fanout";

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// Clients in the channel.
    pub members: usize,
    /// Bytes of a message.
    pub payload: usize,
    /// Messages published at once.
    pub burst: usize,
    /// The burst comes on one connection.
    pub pipelined: bool,
}

/// The standard cases, or the one that was described.
pub fn cases(options: &Options) -> Vec<Case> {
    let case = |members, payload, burst, pipelined| Fanout {
        members,
        payload,
        burst,
        pipelined,
    };
    if options.members.is_some() || options.payload.is_some() || options.burst.is_some() {
        let (members, payload) = (options.members.unwrap_or(1000), options.payload.unwrap_or(64));
        return vec![case(members, payload, options.burst.unwrap_or(1), options.pipelined).case()];
    }
    if options.quick {
        return vec![case(200, 64, 1, false).case(), case(200, 64, 10, true).case()];
    }
    let standard = [
        case(1000, 64, 1, false),
        case(1000, 1024, 1, false),
        case(10_000, 64, 1, false),
        case(10_000, 1024, 1, false),
        case(1000, 64, 10, false),
        case(1000, 64, 10, true),
        case(10_000, 64, 10, false),
        case(10_000, 64, 10, true),
        case(1000, 64, 100, false),
        case(1000, 64, 100, true),
    ];
    standard.into_iter().map(Fanout::case).collect()
}

/// Single publishes of 64 bytes.
pub fn case(members: usize) -> Case {
    burst(members, 1)
}

/// Bursts over as many connections.
pub fn burst(members: usize, burst: usize) -> Case {
    let fanout = Fanout {
        members,
        payload: 64,
        burst,
        pipelined: false,
    };
    fanout.case()
}

impl Fanout {
    fn case(self) -> Case {
        let how = match (self.burst, self.pipelined) {
            (1, _) => String::new(),
            (burst, true) => format!(", bursts of {burst} pipelined"),
            (burst, false) => format!(", bursts of {burst}"),
        };
        let name = format!("fanout {} x {} B{how}", self.members, self.payload);
        Case::new(name, Some("1.10 x floor"), self)
    }
}

struct Deliveries {
    started: Instant,
    packets: usize,
    answers: usize,
    failed: usize,
    latency: Histogram<u64>,
}

impl Load for Deliveries {
    fn on_packet(&mut self, _: usize, _: &[u8], _: &mut Vec<u8>) {
        self.packets += 1;
        record(&mut self.latency, self.started.elapsed());
    }

    fn on_answer(&mut self, _: usize, status: u16, _: &[u8], _: &mut Vec<u8>) {
        self.answers += 1;
        self.failed += usize::from(status != 200);
    }
}

impl Work for Fanout {
    fn unit(&self) -> &'static str {
        "delivery"
    }

    fn has_floor(&self) -> bool {
        true
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(self.members, Lane::Fast, |_| CHANNEL.into())?;
        rig.open_callers(if self.pipelined { 1 } else { self.burst })?;
        let mut send = Send::new(CHANNEL, 0, self.payload);
        let (mut pipeline, mut callers) = (Vec::new(), rig.callers.clone());
        let mut load = Deliveries {
            started: Instant::now(),
            packets: 0,
            answers: 0,
            failed: 0,
            latency: histogram(),
        };
        let expected = self.members * self.burst;
        rig.closed(
            &mut load,
            |load| &mut load.latency,
            |rig, load| {
                (load.packets, load.answers, load.started) = (0, 0, Instant::now());
                let request = send.bytes(load.started);
                if self.pipelined {
                    pipeline.clear();
                    (0..self.burst).for_each(|_| pipeline.extend_from_slice(request));
                    rig.net.send(callers[0], &pipeline);
                } else {
                    callers.rotate_left(1);
                    callers.iter().for_each(|caller| rig.net.send(*caller, request));
                }
                rig.run_until(load, |load| load.packets >= expected && load.answers >= self.burst)?;
                if load.failed > 0 {
                    return Err("a publish was not answered with 200".into());
                }
                Ok(expected as u64)
            },
        )
    }
}
