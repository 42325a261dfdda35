//! A cluster of rainbow-servers, by its own protocol over UDP and HTTP (spec: section 12): who the others are, and asking them.
//! Lives on the control core, behind [`super::Cluster`].
//!
//! | file | what |
//! | --- | --- |
//! | `rainbow.rs` | peers, questions to them, goodbye |
//! | `discovery.rs` | peers found by broadcast |
//! | `fixed.rs` | peers named by the configuration |
//! | `own.rs` | signatures made for others, known again when they come back |
//! | `queue.rs` | what waits for a peer |
//! | `suspects.rs` | peers that did not answer, left out until they do |
//!
//! Invariants:
//! * With `cluster_udp = no` and no `cluster_peers` there is no socket and no task.
//! * A peer in trouble never fails a call, and delays only what is asked of it, once. What it may hold is bounded (`queue.rs`).
//! * Of the publishes of one caller, a peer sees those to one channel in their order.
//! * Targets of requests carry signatures and are never logged.

mod discovery;
mod fixed;
mod own;
mod queue;
mod suspects;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::Method;

use self::discovery::Discovery;
use self::fixed::Fixed;
use self::own::OwnNonces;
use self::queue::{Full, Lane, Queue};
use self::suspects::Suspects;
use crate::config::{ClusterUdp, Config, Scheme};
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackReply, Qos};
use crate::engine::remote::{Inbound, Outbound, Verb};
use crate::io::clock::Clock;
use crate::io::http::{Client, FORM, Request, Url};
use crate::io::udp;
use crate::protocol::rainbow::peer::{PEERS_MAX, PROBE_TARGET, PROBE_TARGET_NAMED, PROBE_TIMEOUT, Peers};
use crate::protocol::rainbow::relay::{self, PeerRequest, Relay};
use crate::protocol::rainbow::sign::{self, Body, Signer};
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
pub struct Servers(Rc<Inner>);

struct Inner {
    client: Client,
    clock: Clock,
    /// Our own HTTP port and where it listens.
    port: u16,
    bind: Vec<IpAddr>,
    /// Which server we are, told to whoever asks `/hello/?rainbow_node=1`.
    identity: [u8; 40],
    /// Tokens and scheme, which a reload may change.
    config: RefCell<Arc<Config>>,
    own: OwnNonces,
    /// Which server answered at an address.
    identities: RefCell<HashMap<SocketAddr, Rc<str>>>,
    suspects: Suspects,
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

impl Servers {
    /// Starts discovery on this thread's runtime, which must have its timer enabled.
    pub fn start(config: &Arc<Config>, announce: Announce, client: Client, clock: Clock) -> Self {
        let inner = Rc::new(Inner {
            identity: announce.identity,
            config: RefCell::new(config.clone()),
            own: OwnNonces::default(),
            identities: RefCell::default(),
            suspects: Suspects::default(),
            client,
            clock,
            port: announce.port,
            bind: config.bind.clone(),
            peers: RefCell::new(Peers::new(announce.identity, config.cluster_name.clone())),
            discovery: (config.cluster_udp != ClusterUdp::No).then(|| Discovery::new(config, &announce)),
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
        targets.retain(|peer| !self.0.suspects.contains(*peer));
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

    /// Asks one peer; never fails the caller. One that has been restarted is another server, for which the request has to be
    /// signed anew: it has refused the first one unread.
    pub async fn ask(&self, peer: SocketAddr, ask: &Outbound) -> Inbound {
        let is_named = ask.is_vouched && self.identity(peer).is_some();
        let mut outcome = self.call(peer, ask).await;
        if is_named && relay::is_refused(&outcome) && self.has_changed(peer).await {
            outcome = self.call(peer, ask).await;
        }
        relay::inbound(&ask.verb, &outcome, self.0.clock.now())
    }

    /// One request; a peer in trouble is [`CallbackOutcome::Failed`]. Ends by the request's timeout.
    async fn call(&self, peer: SocketAddr, ask: &Outbound) -> CallbackOutcome {
        let request = self.0.relay(peer, ask);
        match self.0.ask(peer, &request, ask).await {
            Ok(reply) => {
                self.0.suspects.clear(peer);
                CallbackOutcome::Answered(reply)
            }
            Err(failure) => {
                tracing::debug!(%peer, ?failure, "peer did not answer");
                if failure == CallbackFailure::TimedOut && self.peers().contains(&peer) {
                    suspects::suspect(&self.0, peer, request.timeout);
                }
                CallbackOutcome::Failed(failure)
            }
        }
    }

    /// Takes over the settings that a reload may change.
    pub fn reload(&self, config: &Arc<Config>) {
        *self.0.config.borrow_mut() = config.clone();
    }

    /// What one of ours answers to a probe that asks which server it is; `None`: the request is another one.
    pub fn hello(&self, path: &[u8], query: &[u8]) -> Option<String> {
        let is_asked = path == b"/hello/" && query::last(query, relay::NODE).is_some();
        is_asked.then(|| format!("ok {}", self.0.own_identity()))
    }

    /// The server at this address, if it said so; after a restart it is another one.
    fn identity(&self, peer: SocketAddr) -> Option<Rc<str>> {
        self.0.identities.borrow().get(&peer).cloned()
    }

    /// Asks again which server is at this address. True if it is another one than before.
    async fn has_changed(&self, peer: SocketAddr) -> bool {
        let before = self.identity(peer);
        self.0.probe(peer).await && self.identity(peer) != before
    }

    /// Whether a request with this query, whose signature is good, was signed for us: not by us for a peer, and not for
    /// another server.
    pub fn is_for_us(&self, query: &[u8]) -> bool {
        let node = query::last(query, relay::NODE);
        let names_another = node.is_some_and(|node| *node != self.0.identity[..]);
        let is_own = sign::timestamp_and_nonce(query).is_some_and(|(time, nonce)| self.0.own.knows(time, nonce));
        !names_another && !is_own
    }

    /// Announces this server no more, and says goodbye unless a process that replaces it has its address. What comes from
    /// other servers, and goes to them, is still served.
    pub fn leave(&self, is_replaced: bool) {
        if let Some(discovery) = &self.0.discovery {
            discovery.leave(&self.0, is_replaced);
        }
    }
}

impl Inner {
    /// Builds a request to a peer, with a fresh signature if the caller has signed. Its nonce is known again when it comes back.
    fn relay(&self, peer: SocketAddr, ask: &Outbound) -> PeerRequest {
        let config = self.config.borrow();
        let unix_seconds = self.clock.unix_micros() / 1_000_000;
        let nonce = self.own.make(unix_seconds, getrandom::u64().unwrap_or_default());
        let signer = Signer {
            is_relay: true,
            ..Signer::of(&config, unix_seconds, nonce)
        };
        let identities = self.identities.borrow();
        let relay = Relay {
            signer: ask.is_vouched.then_some(signer),
            node: identities.get(&peer).map(AsRef::as_ref),
        };
        PeerRequest::new(&ask.verb, &Body::hashed(&ask.body, ask.sha256), &relay)
    }

    async fn ask(
        &self,
        peer: SocketAddr,
        asked: &PeerRequest,
        ask: &Outbound,
    ) -> Result<CallbackReply, CallbackFailure> {
        let started = self.clock.now();
        let (method, body) = if asked.is_post {
            (Method::POST, ask.body.clone())
        } else {
            (Method::GET, Bytes::new())
        };
        let request = request(peer, method, &asked.target, body).ok_or(CallbackFailure::Unreachable)?;
        let (lane, is_answered) = self.lane(&ask.verb).unzip();
        let turn = self.queue.enter(peer, lane, request.body.len());
        let mut pass = match monoio::time::timeout(asked.timeout, turn).await {
            Ok(Ok(pass)) => pass,
            Ok(Err(Full)) => return Err(CallbackFailure::Overloaded),
            Err(_) => return Err(CallbackFailure::TimedOut),
        };
        if is_answered == Some(true) {
            pass.leave_lane();
        }
        let reply = self
            .client
            .call_directly(request, self.clock.to_std(started + asked.timeout))
            .await;
        drop(pass);
        reply
    }

    /// Publishes to one channel or user stay in order: its lane, and whether its caller waits for the answer of peers. What such a
    /// caller publishes next comes later by itself, so it need not keep the lane.
    fn lane(&self, verb: &Verb) -> Option<(Lane, bool)> {
        match verb {
            Verb::Publish { to, qos, .. } => Some((self.lanes.hash_one(to), *qos != Qos::AtMostOnce)),
            Verb::Join | Verb::Leave | Verb::List | Verb::Reload => None,
        }
    }

    /// Whether a rainbow-server answers there; remembers which one.
    async fn probe(&self, peer: SocketAddr) -> bool {
        let target = match self.config.borrow().signature {
            Scheme::HmacSha256 => PROBE_TARGET_NAMED,
            Scheme::Sha1 => PROBE_TARGET,
        };
        let Some(request) = request(peer, Method::GET, target.as_bytes(), Bytes::new()) else {
            return false;
        };
        let deadline = self.clock.to_std(self.clock.now() + PROBE_TIMEOUT);
        match self.client.call_directly(request, deadline).await {
            Ok(reply) if reply.status == 200 && says_hello(&reply.body) => self.remember(peer, &reply.body),
            _ => return false,
        }
        true
    }

    /// Takes the identity out of the answer to a probe. Only addresses that were probed get here; those of servers long
    /// gone are forgotten when there are too many.
    fn remember(&self, peer: SocketAddr, body: &[u8]) {
        let mut identities = self.identities.borrow_mut();
        let said = body
            .strip_prefix(b"ok ")
            .filter(|said| said.len() == self.identity.len());
        match said.and_then(|said| std::str::from_utf8(said).ok()) {
            Some(identity) => {
                if identities.len() >= 2 * PEERS_MAX {
                    identities.clear();
                }
                identities.insert(peer, identity.into());
            }
            None => drop(identities.remove(&peer)),
        }
    }

    fn own_identity(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.identity)
    }

    /// Whether requests to `address` would come back to this server.
    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let listens = |bound: &IpAddr| *bound == ip || bound.is_unspecified() && udp::is_local(ip);
        address.port() == self.port && self.bind.iter().any(listens)
    }
}

/// Whether this is what servers of every version answer to a probe. Forged datagrams name any address; whatever else
/// listens there, and answers 200 to everything, is not to be sent messages and signatures.
fn says_hello(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    body == b"ok" || body.starts_with(b"ok ")
}

fn request(peer: SocketAddr, method: Method, target: &[u8], body: Bytes) -> Option<Request> {
    let url = [format!("http://{peer}").as_bytes(), target].concat();
    Some(Request {
        url: Url::parse(&url)?,
        method,
        headers: Bytes::new(),
        content_type: FORM,
        body,
    })
}
