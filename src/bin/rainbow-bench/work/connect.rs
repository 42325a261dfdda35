//! Upgrades with their connect callback, some at a time; the clients stay. Then all of them leave at once, with their close
//! callbacks. One operation is one connect; the cost of leaving is printed beside it.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load, Silent};
use crate::options::Options;
use crate::results::{Round, histogram, record};
use crate::rig::Rig;
use crate::wire;

/// Connects under way.
const OPENING: usize = 32;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Clients of a round.
    pub clients: usize,
}

/// The standard case.
pub fn cases(options: &Options) -> Vec<Case> {
    let clients = options.clients.unwrap_or(if options.quick { 500 } else { 5000 });
    let name = format!("connect {clients} clients, {OPENING} at a time");
    vec![Case::new(name, Some("90 µs"), Connect { clients })]
}

struct Connecting {
    begun: Vec<Instant>,
    open: usize,
    latency: Histogram<u64>,
}

impl Load for Connecting {
    fn on_open(&mut self, client: usize, _: &mut Vec<u8>) {
        self.open += 1;
        record(&mut self.latency, self.begun[client].elapsed());
    }
}

impl Work for Connect {
    fn unit(&self) -> &'static str {
        "connect"
    }

    fn has_floor(&self) -> bool {
        true
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        // Warms up code, callback connections and tables.
        rig.open_clients(200, Lane::Fast, |_| "warm".into())?;
        rig.earn_trust()?;
        let mut load = Connecting {
            begun: vec![Instant::now(); 200],
            open: 200,
            latency: histogram(),
        };
        let mark = rig.mark()?;
        let (all, port) = (200 + self.clients, rig.server.port);
        while rig.clients.len() < all {
            let number = rig.clients.len();
            let head = wire::connect_head(port, number, "connect");
            load.begun.push(Instant::now());
            let key = rig.net.client(number, port, &head, Lane::Fast)?;
            rig.clients.push(key);
            rig.run_until(&mut load, |load| number + 1 - load.open < OPENING)?;
        }
        rig.run_until(&mut load, |load| load.open == all)?;
        let mut round = rig.round(mark, self.clients as u64, load.latency)?;
        if rig.net.business.connects > 0 {
            round.extra.push(("CPU per close with callback, µs", self.close(rig)?));
        }
        Ok(round)
    }
}

impl Connect {
    /// All clients leave; what that costs each, in microseconds.
    fn close(&self, rig: &mut Rig<'_>) -> Result<f64, Failure> {
        let (before, count) = (rig.server.cpu(), rig.clients.len());
        for key in std::mem::take(&mut rig.clients) {
            rig.net.close(key);
        }
        let end = Instant::now() + std::time::Duration::from_secs(10);
        while rig.net.business.closes < count as u64 && Instant::now() < end {
            rig.net.poll(&mut Silent, 0)?;
        }
        if rig.net.business.closes != count as u64 {
            return Err(format!("{} close callbacks for {count} clients", rig.net.business.closes).into());
        }
        rig.settle()?;
        Ok(rig.server.cpu().since(&before).total() as f64 / 1e3 / count as f64)
    }
}
