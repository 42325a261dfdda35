//! Other servers of the cluster: who they are, and asking them (spec: section 12). Lives on the control core.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | the interface of the control core: peers, calls, goodbye |
//! | `discovery.rs` | peers found by broadcast |
//! | `fixed.rs` | peers named by the configuration |
//! | `queue.rs` | what waits for a peer |
//!
//! Invariants:
//! * With `cluster_udp = no` and no `cluster_peers` there is no socket and no task.
//! * A peer in trouble never fails a call, and delays only what is asked of it. What it may hold is bounded (`queue.rs`).
//! * Of the publishes of one caller, a peer sees those to one channel in their order.
//! * Targets of requests carry signatures and are never logged.

mod discovery;
mod fixed;
mod queue;

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::Method;

use self::discovery::Discovery;
use self::fixed::Fixed;
use self::queue::{Full, Lane, Queue};
use crate::config::Config;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackReply};
use crate::io::clock::Clock;
use crate::io::http::{Client, Request, Url};
use crate::io::udp;
use crate::protocol::rainbow::peer::{PROBE_TARGET, PROBE_TIMEOUT, Peers};
use crate::protocol::rainbow::relay::PeerRequest;
use crate::wire::query;

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

struct Inner {
    client: Client,
    clock: Clock,
    /// Our own HTTP port and where it listens.
    port: u16,
    bind: Vec<IpAddr>,
    /// Peers found by broadcast.
    peers: RefCell<Peers>,
    discovery: Option<Discovery>,
    /// Peers named by the configuration.
    fixed: Vec<Fixed>,
    /// The server this one has replaced, while it has clients.
    predecessor: Cell<Option<SocketAddr>>,
    queue: Rc<Queue>,
    lanes: RandomState,
}

impl Cluster {
    /// Starts discovery on this thread's runtime, which must have its timer enabled.
    pub fn start(config: &Config, announce: Announce, client: Client, clock: Clock) -> Self {
        let inner = Rc::new(Inner {
            client,
            clock,
            port: announce.port,
            bind: config.bind.clone(),
            peers: RefCell::new(Peers::new(announce.identity, config.cluster_name.clone())),
            discovery: config.cluster_udp.then(|| Discovery::new(config, &announce)),
            fixed: config.cluster_peers.iter().map(Fixed::new).collect(),
            predecessor: Cell::new(None),
            queue: Rc::default(),
            lanes: RandomState::default(),
        });
        if inner.discovery.is_some() {
            discovery::start(&inner);
        }
        fixed::start(&inner);
        Self(inner)
    }

    /// Whom to pass a request to: the peers, and the server this one has replaced. One that a peer has passed on (`is_passed_on`)
    /// goes to that server only: it is at the same address for the others, and passes nothing back.
    pub fn targets(&self, is_passed_on: bool) -> Vec<SocketAddr> {
        let mut targets = if is_passed_on { Vec::new() } else { self.peers() };
        targets.extend(self.0.predecessor.get());
        targets
    }

    /// Tells where the server this one has replaced can be asked; `None`: it has ended.
    pub fn set_predecessor(&self, address: Option<SocketAddr>) {
        self.0.predecessor.set(address);
    }

    /// The other servers of the cluster, each once.
    pub fn peers(&self) -> Vec<SocketAddr> {
        let now = self.0.clock.now();
        let mut peers: Vec<_> = self.0.fixed.iter().filter_map(|fixed| fixed.address(now)).collect();
        peers.extend(self.0.peers.borrow().alive());
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Asks one peer; never fails the caller, a peer in trouble is [`CallbackOutcome::Failed`]. Ends by the request's timeout.
    pub async fn call(&self, peer: SocketAddr, request: &PeerRequest, body: Bytes) -> CallbackOutcome {
        match self.0.ask(peer, request, body).await {
            Ok(reply) => CallbackOutcome::Answered(reply),
            Err(failure) => {
                tracing::debug!(%peer, ?failure, "peer did not answer");
                CallbackOutcome::Failed(failure)
            }
        }
    }

    /// Announces this server no more, and says goodbye unless a process that replaces it has its address. What comes from
    /// other servers, and goes to them, is still served.
    pub fn leave(&self, is_replaced: bool) {
        if let Some(discovery) = &self.0.discovery {
            discovery.leave(is_replaced);
        }
    }
}

impl Inner {
    async fn ask(&self, peer: SocketAddr, ask: &PeerRequest, body: Bytes) -> Result<CallbackReply, CallbackFailure> {
        let started = self.clock.now();
        let (method, body) = if ask.is_post {
            (Method::POST, body)
        } else {
            (Method::GET, Bytes::new())
        };
        let request = request(peer, method, &ask.target, body).ok_or(CallbackFailure::Unreachable)?;
        let (lane, is_answered) = self.lane(&ask.target).unzip();
        let turn = self.queue.enter(peer, lane, request.body.len());
        let mut pass = match monoio::time::timeout(ask.timeout, turn).await {
            Ok(Ok(pass)) => pass,
            Ok(Err(Full)) => return Err(CallbackFailure::Overloaded),
            Err(_) => return Err(CallbackFailure::TimedOut),
        };
        if is_answered == Some(true) {
            pass.leave_lane();
        }
        let reply = self
            .client
            .call(request, self.clock.to_std(started + ask.timeout))
            .await;
        drop(pass);
        reply
    }

    /// Publishes to one channel stay in order: its lane, and whether its caller waits for the answer of peers. What such a
    /// caller publishes next comes later by itself, so it need not keep the lane.
    fn lane(&self, target: &[u8]) -> Option<(Lane, bool)> {
        let query = target.strip_prefix(b"/send/?")?;
        let channel = query::first(query, "channel")?;
        let is_answered = query::first(query, "qos")?.as_ref() != b"0";
        Some((self.lanes.hash_one(channel.as_ref()), is_answered))
    }

    /// Whether a rainbow-server answers there.
    async fn probe(&self, peer: SocketAddr) -> bool {
        let Some(request) = request(peer, Method::GET, PROBE_TARGET.as_bytes(), Bytes::new()) else {
            return false;
        };
        let deadline = self.clock.to_std(self.clock.now() + PROBE_TIMEOUT);
        matches!(self.client.call(request, deadline).await, Ok(reply) if reply.status == 200)
    }

    /// Whether requests to `address` would come back to this server.
    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let listens = |bound: &IpAddr| *bound == ip || bound.is_unspecified() && udp::is_local(ip);
        address.port() == self.port && self.bind.iter().any(listens)
    }
}

fn request(peer: SocketAddr, method: Method, target: &[u8], body: Bytes) -> Option<Request> {
    let url = [format!("http://{peer}").as_bytes(), target].concat();
    Some(Request {
        url: Url::parse(&url)?,
        method,
        headers: Bytes::new(),
        body,
    })
}
