//! One started server with the sockets of the load around it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::net::{Key, Lane, Load, Net, Silent};
use crate::options::Options;
use crate::proc::Cpu;
use crate::results::{Round, histogram};
use crate::subject::{Running, Subject};
use crate::wire;

/// Connections being opened at one time: below every listen backlog.
const OPENING_MAX: usize = 64;
/// Nothing of the load takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);
/// A server keeps connections to a backend once it has seen one of them stay open for so long (4.5 s, looked at each second).
const TRUST_TAKES: Duration = Duration::from_millis(5600);
/// The server is quiet when nothing has arrived for this long.
const QUIET: Duration = Duration::from_millis(30);

/// One round's server and sockets.
pub struct Rig<'a> {
    /// The sockets.
    pub net: Net,
    /// The server.
    pub server: Running,
    /// What was asked for.
    pub options: &'a Options,
    /// Keys of the clients by number.
    pub clients: Vec<Key>,
    /// Keys of the callers by number.
    pub callers: Vec<Key>,
}

/// A measurement that has begun.
pub struct Mark {
    started: Instant,
    cpu: Cpu,
}

impl<'a> Rig<'a> {
    /// Starts the server.
    pub fn start(subject: &Subject, options: &'a Options) -> Result<Self, Failure> {
        let net = Net::new()?;
        let server = subject.start(options, net.business_port()?)?;
        Ok(Self {
            net,
            server,
            options,
            clients: Vec::new(),
            callers: Vec::new(),
        })
    }

    /// Adds the server's own words to an error.
    pub fn explain(&self, error: Failure) -> Failure {
        let log = self.server.log();
        if log.is_empty() {
            return error;
        }
        format!("{error}\n  the server said: {log}").into()
    }

    /// Opens clients, each in the channel `channel_of` says; they get the next numbers.
    pub fn open_clients(
        &mut self,
        count: usize,
        lane: Lane,
        channel_of: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let mut opened = Opened::default();
        let (first, port) = (self.clients.len(), self.server.port);
        let end = Instant::now() + PATIENCE;
        while opened.open < count {
            let begun = self.clients.len() - first;
            if begun < count && begun - opened.open < OPENING_MAX {
                let number = self.clients.len();
                let head = wire::connect_head(port, number, &channel_of(number));
                self.clients.push(self.net.client(number, port, &head, lane)?);
            }
            self.net.poll(&mut opened, 0)?;
            if opened.ended > 0 {
                return Err(format!("{} of {count} clients were refused", opened.ended).into());
            }
            if Instant::now() > end {
                return Err(format!("only {} of {count} clients were connected in time", opened.open).into());
            }
        }
        Ok(())
    }

    /// Opens connections for API calls; they get the next numbers.
    pub fn open_callers(&mut self, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let number = self.callers.len();
            self.callers
                .push(self.net.caller(number, self.server.port, Lane::Fast)?);
        }
        Ok(())
    }

    /// Polls until the load says that it is done; an error after a long time or when a connection ended.
    pub fn run_until<L: Load>(&mut self, load: &mut L, mut done: impl FnMut(&L) -> bool) -> Result<(), Failure> {
        let (end, ended) = (Instant::now() + PATIENCE, self.net.ended);
        let mut polls = 0u32;
        while !done(load) {
            self.net.poll(load, self.options.patience())?;
            polls = polls.wrapping_add(1);
            // The clock is not looked at in every poll: a spinning load polls a million times a second.
            if polls & 0x3ff == 0 || self.options.sleep {
                if Instant::now() > end {
                    return Err("what was expected did not arrive within 30 s".into());
                }
                if self.net.ended > ended {
                    return Err("a connection ended during the measurement".into());
                }
            }
        }
        Ok(())
    }

    /// Lets the server become quiet.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.net.poll(&mut Silent, 1)?;
        }
        Ok(())
    }

    /// Lets the server see that its backend keeps connections, if it has asked it anything: what is measured then is not the
    /// first seconds after a start, in which every callback opens a connection.
    pub fn earn_trust(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + TRUST_TAKES;
        while self.net.business.connects > 0 && Instant::now() < end {
            self.net.poll(&mut Silent, 1)?;
        }
        Ok(())
    }

    /// Time of a round.
    pub fn span(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }

    /// Time of the warm-up before it.
    pub fn warm_up(&self) -> Duration {
        self.span() / 5
    }

    /// Begins to measure. The server must be quiet, so that what it used before is on its account.
    pub fn mark(&mut self) -> Result<Mark, Failure> {
        self.settle()?;
        Ok(Mark {
            cpu: self.server.cpu(),
            started: Instant::now(),
        })
    }

    /// Ends a measurement.
    pub fn round(&mut self, mark: Mark, operations: u64, latency: Histogram<u64>) -> Result<Round, Failure> {
        let elapsed = mark.started.elapsed();
        self.settle()?;
        Ok(Round {
            operations,
            elapsed,
            cpu: self.server.cpu().since(&mark.cpu),
            latency,
            extra: Vec::new(),
        })
    }

    /// Runs a closed loop twice, to warm up and to measure: `step` does some operations and says how many.
    pub fn closed<L: Load>(
        &mut self,
        load: &mut L,
        latency: impl Fn(&mut L) -> &mut Histogram<u64>,
        mut step: impl FnMut(&mut Self, &mut L) -> Result<u64, Failure>,
    ) -> Result<Round, Failure> {
        let end = Instant::now() + self.warm_up();
        while Instant::now() < end {
            step(self, load)?;
        }
        *latency(load) = histogram();
        let mark = self.mark()?;
        let (end, mut operations) = (Instant::now() + self.span(), 0);
        while Instant::now() < end {
            operations += step(self, load)?;
        }
        let latency = std::mem::replace(latency(load), histogram());
        self.round(mark, operations, latency)
    }
}

#[derive(Default)]
struct Opened {
    open: usize,
    ended: usize,
}

impl Load for Opened {
    fn on_open(&mut self, _: usize, _: &mut Vec<u8>) {
        self.open += 1;
    }

    fn on_end(&mut self, _: usize) {
        self.ended += 1;
    }
}
