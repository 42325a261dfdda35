//! QoS 0 publishes pipelined on one connection, to many channels with one member each, so that homes and members are spread
//! over all shards. One operation is one call. The next calls begin when all of the last ones are answered and delivered.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load};
use crate::options::Options;
use crate::results::{Round, histogram, record};
use crate::rig::Rig;
use crate::wire::Send;

/// Channels, and clients.
const CHANNELS: usize = 32;
const PAYLOAD: usize = 64;
/// Calls sent at once.
const BURST: usize = 64;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Pipelined {
    /// Calls sent at once.
    pub burst: usize,
}

/// The standard case, or the burst that was asked for.
pub fn case(options: &Options) -> Case {
    let burst = options.burst.unwrap_or(BURST);
    let name = format!("pipelined {burst} calls to {CHANNELS} channels");
    Case::new(name, None, Pipelined { burst })
}

struct Calls {
    started: Instant,
    packets: usize,
    answers: usize,
    failed: usize,
    latency: Histogram<u64>,
}

impl Load for Calls {
    fn on_packet(&mut self, _: usize, _: &[u8], _: &mut Vec<u8>) {
        self.packets += 1;
    }

    fn on_answer(&mut self, _: usize, status: u16, _: &[u8], _: &mut Vec<u8>) {
        self.answers += 1;
        self.failed += usize::from(status != 200);
        record(&mut self.latency, self.started.elapsed());
    }
}

impl Work for Pipelined {
    fn unit(&self) -> &'static str {
        "call"
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        let name = |channel: usize| format!("pipelined-{channel}");
        rig.open_clients(CHANNELS, Lane::Fast, name)?;
        rig.open_callers(1)?;
        let mut sends: Vec<Send> = (0..CHANNELS)
            .map(|channel| Send::new(&name(channel), 0, PAYLOAD))
            .collect();
        let (mut pipeline, caller, burst) = (Vec::new(), rig.callers[0], self.burst);
        let mut load = Calls {
            started: Instant::now(),
            packets: 0,
            answers: 0,
            failed: 0,
            latency: histogram(),
        };
        rig.closed(
            &mut load,
            |load| &mut load.latency,
            |rig, load| {
                (load.packets, load.answers, load.started) = (0, 0, Instant::now());
                pipeline.clear();
                for call in 0..burst {
                    pipeline.extend_from_slice(sends[call % CHANNELS].bytes(load.started));
                }
                rig.net.send(caller, &pipeline);
                rig.run_until(load, |load| load.packets >= burst && load.answers >= burst)?;
                if load.failed > 0 {
                    return Err("a publish was not answered with 200".into());
                }
                Ok(burst as u64)
            },
        )
    }
}
