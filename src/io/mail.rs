//! What travels between cores, and each core's way to all others.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::wake::Waker;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::ShardId;
use crate::engine::mailbox::{Sender, SenderCounts, Wake};
use crate::metrics::{CoreMetrics, Metric};

/// To a shard.
#[derive(Debug)]
pub enum ShardMail {
    /// For the engine.
    Command(Command),
    /// A connection that turned out to belong here.
    Adopt(Handover),
    /// Settings changed.
    Reload(Arc<Config>),
}

/// To the control core.
#[derive(Debug)]
pub enum ControlMail {
    /// From a shard's engine.
    Report(Report),
    /// A connection that turned out to be an API call.
    Handover(Handover),
    /// From the signal thread.
    Signal(Signal),
}

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: OwnedFd,
    /// What was read from it already.
    pub bytes: Vec<u8>,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: stop gracefully.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// One core's senders to all cores. Posted mail is seen after [`Outlets::kick`].
#[derive(Clone)]
pub struct Outlets {
    shards: Vec<Sender<ShardMail, Waker>>,
    control: Sender<ControlMail, Waker>,
    /// Counters of the core whose outlets these are.
    metrics: Option<Arc<CoreMetrics>>,
}

impl Outlets {
    /// From the senders of all mailboxes, shards by number.
    pub fn new(shards: Vec<Sender<ShardMail, Waker>>, control: Sender<ControlMail, Waker>) -> Self {
        Self {
            shards,
            control,
            metrics: None,
        }
    }

    /// The same for one core, which counts what it does.
    pub fn counted(mut self, metrics: Arc<CoreMetrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Posts to a shard; a shard that does not exist gets nothing.
    pub fn post_shard(&mut self, shard: ShardId, mail: ShardMail) {
        if let Some(sender) = self.shards.get_mut(shard.index()) {
            sender.post(mail);
        }
    }

    /// Posts to the control core.
    pub fn post_control(&mut self, mail: ControlMail) {
        self.control.post(mail);
    }

    /// Wakes every core something was posted to.
    pub fn kick(&mut self) {
        let metrics = self.metrics.as_deref();
        self.shards.iter_mut().for_each(|sender| kick(sender, metrics));
        kick(&mut self.control, metrics);
    }

    /// Messages that found a full mailbox and wait here. While there are any, take no new work from sockets.
    pub fn overflow(&self) -> usize {
        self.shards.iter().map(Sender::overflow_len).sum::<usize>() + self.control.overflow_len()
    }
}

fn kick<T, W: Wake>(sender: &mut Sender<T, W>, metrics: Option<&CoreMetrics>) {
    sender.kick();
    let done = sender.take_counts();
    if let Some(metrics) = metrics.filter(|_| done != SenderCounts::default()) {
        metrics.add(Metric::MailboxKicks, done.kicks);
        metrics.add(Metric::MailboxOverflows, done.overflows);
    }
}
