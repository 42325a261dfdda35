//! Clients that do nothing, all in one channel. One operation is one second of doing nothing; the numbers that matter are
//! printed beside it: bytes of the server's own memory per client, bytes of kernel slab per client (both ends of the
//! connection, see the floor's), and what the first message to all of them leaves behind.

use std::time::Duration;

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Silent};
use crate::options::Options;
use crate::proc;
use crate::results::{Part, Round, histogram};
use crate::rig::Rig;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Clients.
    pub clients: usize,
    /// Seconds of doing nothing.
    pub seconds: u64,
}

/// The standard case.
pub fn cases(options: &Options) -> Vec<Case> {
    let clients = options.clients.unwrap_or(if options.quick { 1000 } else { 15_000 });
    let seconds = if options.quick { 1 } else { 5 };
    let target = "500 B of ours, 300 B of the kernel's beyond the socket, 50 µs per second";
    let case = Case::new(
        format!("idle {clients} clients"),
        Some(target),
        Idle { clients, seconds },
    );
    vec![Case {
        rounds: Some(options.rounds.min(2)),
        part: Part::Idle,
        ..case
    }]
}

impl Work for Idle {
    fn unit(&self) -> &'static str {
        "second"
    }

    fn has_floor(&self) -> bool {
        true
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        // What the first clients cost once (tables, code, callback connections) is not theirs.
        rig.open_clients(100, Lane::Fast, |_| "idle".into())?;
        rig.settle()?;
        let (memory, slab) = (proc::memory(rig.server.pid()), proc::slab());
        rig.open_clients(self.clients - 100, Lane::Fast, |_| "idle".into())?;
        // The kernel gives back slab after a grace period, pooled callback connections a little later.
        wait(rig, Duration::from_millis(500))?;
        let grown = |now: u64, before: u64| now.saturating_sub(before) as f64 / (self.clients - 100) as f64;
        let ours = grown(proc::memory(rig.server.pid()), memory);
        let kernel = grown(proc::slab(), slab);
        let mark = rig.mark()?;
        wait(rig, Duration::from_secs(self.seconds))?;
        let mut round = rig.round(mark, self.seconds, histogram())?;
        round.extra.push(("bytes of the server per client", ours));
        round.extra.push(("bytes of kernel slab per client, both ends", kernel));
        Ok(round)
    }
}

fn wait(rig: &mut Rig<'_>, time: Duration) -> Result<(), Failure> {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        rig.net.poll(&mut Silent, 20)?;
    }
    Ok(())
}
