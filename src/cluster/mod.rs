//! Other servers of the cluster: who they are, and asking them (spec: section 12).

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use crate::config::Config;
use crate::engine::command::CallbackOutcome;
use crate::io::clock::Clock;
use crate::io::http::Client;
use crate::protocol::rainbow::relay::PeerRequest;

/// How this server presents itself to others.
#[derive(Clone, Debug)]
pub struct Announce {
    /// The HTTP port in the end.
    pub port: u16,
    /// Random per start.
    pub identity: [u8; 40],
}

/// The peers, kept up to date by tasks of the control core.
#[derive(Clone)]
pub struct Cluster(Rc<Inner>);

struct Inner {}

impl Cluster {
    /// Starts discovery on this thread's runtime.
    pub fn start(_config: &Config, _announce: Announce, _client: Client, _clock: Clock) -> Self {
        Self(Rc::new(Inner {}))
    }

    /// The peers to pass requests to.
    pub fn peers(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Asks one peer; never fails the caller, a peer in trouble is [`CallbackOutcome::Failed`].
    pub async fn call(&self, _peer: SocketAddr, _request: &PeerRequest, _body: Bytes) -> CallbackOutcome {
        CallbackOutcome::Failed(crate::engine::command::CallbackFailure::Unreachable)
    }

    /// Says goodbye.
    pub fn leave(&self) {}
}
