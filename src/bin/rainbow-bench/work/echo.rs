//! REL in, COM out: the shortest round trip of the protocol, inside one shard. Each client has some under way and sends the
//! next ones, together, when all are answered. One operation is one COM.

use std::time::Instant;

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
pub struct Echo {
    /// Clients.
    pub clients: usize,
    /// RELs under way per client.
    pub depth: usize,
}

/// The standard cases.
pub fn cases(options: &Options) -> Vec<Case> {
    let clients = options.clients.unwrap_or(100);
    vec![case(clients, 1, "1.10 x floor"), case(clients, 16, "1.30 x floor")]
}

/// One case.
pub fn case(clients: usize, depth: usize, target: &'static str) -> Case {
    let name = format!("echo {clients} clients, depth {depth}");
    Case::new(name, Some(target), Echo { clients, depth })
}

struct Echoes {
    frames: Vec<u8>,
    depth: usize,
    /// COMs still to come, and when the RELs were sent, by client.
    open: Vec<(usize, Instant)>,
    busy: usize,
    running: bool,
    done: u64,
    latency: Histogram<u64>,
}

impl Load for Echoes {
    fn on_packet(&mut self, client: usize, _: &[u8], reply: &mut Vec<u8>) {
        self.done += 1;
        let (left, sent) = &mut self.open[client];
        *left -= 1;
        if *left > 0 {
            return;
        }
        let now = Instant::now();
        record(&mut self.latency, now - *sent);
        if self.running {
            (*left, *sent) = (self.depth, now);
            reply.extend_from_slice(&self.frames);
        } else {
            self.busy -= 1;
        }
    }
}

impl Work for Echo {
    fn unit(&self) -> &'static str {
        "COM"
    }

    fn has_floor(&self) -> bool {
        true
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(self.clients, Lane::Fast, |_| "echo".into())?;
        let mut frames = Vec::new();
        (0..self.depth).for_each(|_| push_packet(&mut frames, &Packet::Rel { id: 1 }));
        let mut load = Echoes {
            frames,
            depth: self.depth,
            open: vec![(0, Instant::now()); self.clients],
            busy: 0,
            running: false,
            done: 0,
            latency: histogram(),
        };
        rig.closed(&mut load, |load| &mut load.latency, |rig, load| step(rig, load))
    }
}

/// Lets all clients run for a while; at the end all are answered.
fn step(rig: &mut Rig<'_>, load: &mut Echoes) -> Result<u64, Failure> {
    let (before, now) = (load.done, Instant::now());
    (load.running, load.busy) = (true, load.open.len());
    for (client, key) in rig.clients.iter().enumerate() {
        load.open[client] = (load.depth, now);
        rig.net.send(*key, &load.frames);
    }
    // About 50 ms, whatever the number of clients.
    let rounds = 20_000usize.div_ceil(load.open.len()).max(2);
    let goal = before + (rounds * load.open.len() * load.depth) as u64;
    rig.run_until(load, |load| load.done >= goal)?;
    load.running = false;
    rig.run_until(load, |load| load.busy == 0)?;
    Ok(load.done - before)
}
