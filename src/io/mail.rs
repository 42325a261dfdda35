//! What travels between cores.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[cfg(feature = "application")]
use super::application::{Asked, Handled};
use super::takeover::{Offer, Successor};
use super::tls::{Identity, Session};
use super::wake::Waker;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::outlets;
use crate::protocol::ListenerId;

/// To a shard.
#[derive(Debug)]
pub enum ShardMail<S = OwnedFd> {
    /// For the engine.
    Command(Command),
    /// A connection that turned out to belong here.
    Adopt(Handover<S>),
    /// Settings changed.
    Reload(Arc<Config>),
    /// Certificates of new TLS connections changed.
    Identity(Identity),
}

/// To the control core.
#[derive(Debug)]
pub enum ControlMail<S = OwnedFd> {
    /// From a shard's engine.
    Report(Report),
    /// A connection that turned out to be an API call.
    Handover(Handover<S>),
    /// There was no descriptor for a new connection.
    DescriptorsShort,
    /// From the signal thread.
    Signal(Signal),
    /// This server may be replaced.
    Offer(Offer),
    /// It has been: stop gracefully, its listening sockets live on there.
    Replaced(Successor),
    /// Code of this process asks for something.
    #[cfg(feature = "application")]
    Asked(Asked),
    /// A handler of this process has ended.
    #[cfg(feature = "application")]
    Handled(Handled),
    /// The server this one has replaced serves calls for its last clients there; none: it has ended.
    Predecessor(Option<SocketAddr>),
}

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Handover<S = OwnedFd> {
    /// The socket.
    pub socket: S,
    /// What was read from it already.
    pub bytes: Vec<u8>,
    /// With TLS: its session.
    pub tls: Option<Box<Session>>,
    /// The client's address, if a PROXY header told it.
    pub told: Option<IpAddr>,
    /// Where it came in.
    pub listener: ListenerId,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: stop gracefully.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// One core's way to all others.
pub type Outlets<S = OwnedFd> = outlets::Outlets<ShardMail<S>, ControlMail<S>, Waker>;
