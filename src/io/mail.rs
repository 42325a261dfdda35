//! What travels between cores, and each core's way to all others.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::wake::Waker;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::ShardId;
use crate::engine::mailbox::Sender;

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
    /// The client's address, if a PROXY header told it.
    pub told: Option<IpAddr>,
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
}

impl Outlets {
    /// From the senders of all mailboxes, shards by number.
    pub fn new(shards: Vec<Sender<ShardMail, Waker>>, control: Sender<ControlMail, Waker>) -> Self {
        Self { shards, control }
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
        self.shards.iter_mut().for_each(Sender::kick);
        self.control.kick();
    }

    /// Messages that found a full mailbox and wait here. While there are any, take no new work from sockets.
    pub fn overflow(&self) -> usize {
        self.shards.iter().map(Sender::overflow_len).sum::<usize>() + self.control.overflow_len()
    }
}
