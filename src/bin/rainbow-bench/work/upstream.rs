//! QoS 1 messages of clients: forwarded to the business server, which accepts them, then acknowledged. Closed loop; one
//! operation is one acknowledgement.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rainbow_server::protocol::rainbow::packet::Packet;

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load};
use crate::options::Options;
use crate::results::{Round, histogram, record};
use crate::rig::Rig;
use crate::wire::push_packet;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// Clients, each with one message under way.
    pub clients: usize,
}

/// The standard cases.
pub fn cases(_: &Options) -> Vec<Case> {
    let case = |clients| {
        Case::new(
            format!("upstream {clients} clients"),
            Some("30 µs"),
            Upstream { clients },
        )
    };
    vec![case(1), case(16)]
}

struct Messages {
    frame: Vec<u8>,
    sent: Vec<Instant>,
    busy: usize,
    running: bool,
    done: u64,
    latency: Histogram<u64>,
}

impl Load for Messages {
    fn on_packet(&mut self, client: usize, _: &[u8], reply: &mut Vec<u8>) {
        let now = Instant::now();
        record(&mut self.latency, now - self.sent[client]);
        self.done += 1;
        if self.running {
            self.sent[client] = now;
            reply.extend_from_slice(&self.frame);
        } else {
            self.busy -= 1;
        }
    }
}

impl Work for Upstream {
    fn unit(&self) -> &'static str {
        "message"
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(self.clients, Lane::Fast, |_| "upstream".into())?;
        rig.earn_trust()?;
        let mut frame = Vec::new();
        // Messages of QoS 1 are not compared with earlier ones, so one id does for all.
        let packet = Packet::Send {
            dup: false,
            raw_qos: 1,
            msgtype: 7,
            id: 1,
            payload: &[b'x'; 64],
        };
        push_packet(&mut frame, &packet);
        let mut load = Messages {
            frame,
            sent: vec![Instant::now(); self.clients],
            busy: 0,
            running: false,
            done: 0,
            latency: histogram(),
        };
        rig.closed(&mut load, |load| &mut load.latency, |rig, load| step(rig, load))
    }
}

fn step(rig: &mut Rig<'_>, load: &mut Messages) -> Result<u64, Failure> {
    const STEP: Duration = Duration::from_millis(50);
    let (before, now) = (load.done, Instant::now());
    (load.running, load.busy) = (true, load.sent.len());
    for (client, key) in rig.clients.iter().enumerate() {
        load.sent[client] = now;
        rig.net.send(*key, &load.frame);
    }
    let end = now + STEP;
    rig.run_until(load, |load| load.sent[0] >= end || Instant::now() >= end)?;
    load.running = false;
    rig.run_until(load, |load| load.busy == 0)?;
    Ok(load.done - before)
}
