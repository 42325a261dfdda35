//! Discovery by broadcast (`cluster_udp`): announces this server, listens to the others, drops who is silent. Who is in is
//! decided by `protocol::rainbow::peer`; here are its sockets and timers (spec: section 12).
//!
//! With `cluster_udp = signed` an announcement is made for each address it leaves from, since it names that address; with
//! `open` it is the original's. Where `bind` names addresses, announcements leave from these only, only broadcasts are
//! heard, and only those of senders that would reach this server at one of them.
//!
//! Nothing that fails here is an error of the server: it is logged once, tried again with the next announcement, and logged
//! again when it works. Three tasks, which end with the cluster; the listening one at the next datagram.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};

use super::{Announce, Inner};
use crate::config::{ClusterUdp, Config, PortRange};
use crate::io::udp::{self, Listener};
use crate::protocol::rainbow::peer::{ANNOUNCE_INTERVAL, DATAGRAM_BYTES_MAX, Heard, Presence, Sender, Trust};
use crate::protocol::rainbow::sign::Rules;
use crate::time::Duration;

/// How often expiry is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Datagrams read in a row; then the others have their turn.
const BATCH: usize = 64;
/// Rest after a full batch: a flood of datagrams costs little, what is too much is lost in the socket's buffer.
const FLOOD_PAUSE: Duration = Duration::from_millis(20);

/// What this server says, and where.
pub(super) struct Discovery {
    ports: PortRange,
    /// `None`: listen only.
    target: Option<Ipv4Addr>,
    /// The addresses of `bind`; empty if it says any.
    addresses: Vec<Ipv4Addr>,
    sender: Sender,
    is_signed: bool,
    has_left: Cell<bool>,
    sending: Trouble,
    listening: Trouble,
}

impl Discovery {
    pub(super) fn new(config: &Config, own: &Announce) -> Self {
        let sender = Sender {
            port: own.port,
            identity: own.identity,
            cluster_name: config.cluster_name.clone(),
        };
        let is_any = config.bind.iter().any(IpAddr::is_unspecified);
        let addresses = config.bind.iter().filter_map(|address| match address {
            IpAddr::V4(address) if !is_any => Some(*address),
            _ => None,
        });
        Self {
            ports: config.cluster_udp_ports,
            target: config.cluster_broadcast,
            addresses: addresses.collect(),
            sender,
            is_signed: config.cluster_udp == ClusterUdp::Signed,
            has_left: Cell::new(false),
            sending: Trouble::new("cannot announce this server to the cluster"),
            listening: Trouble::new("cannot listen for other servers of the cluster"),
        }
    }

    /// Announces no more; says goodbye, once, unless another process is at this address.
    pub(super) fn leave(&self, cluster: &Inner, is_replaced: bool) {
        let again = self.has_left.replace(true);
        if !again
            && !is_replaced
            && let Err(error) = self.say(cluster, Presence::Offline)
        {
            tracing::debug!(%error, "cannot say goodbye to the cluster");
        }
    }

    /// One announcement from each address. Errors: the first one; all are tried.
    fn say(&self, cluster: &Inner, presence: Presence) -> io::Result<()> {
        let Some(target) = self.target else { return Ok(()) };
        let any = [Ipv4Addr::UNSPECIFIED];
        let sources = if self.addresses.is_empty() {
            &any[..]
        } else {
            &self.addresses[..]
        };
        let mut result = Ok(());
        for source in sources {
            result = result.and(self.say_from(cluster, *source, target, presence));
        }
        result
    }

    fn say_from(&self, cluster: &Inner, source: Ipv4Addr, target: Ipv4Addr, presence: Presence) -> io::Result<()> {
        let datagram = if self.is_signed {
            let address = udp::source_towards(source, target)?;
            let config = cluster.config.borrow();
            let secret = config.security_token.expose().as_bytes();
            self.sender
                .signed(presence, address, cluster.clock.unix_micros(), secret)
        } else {
            self.sender.open(presence)
        };
        let too_long = || io::Error::other("cluster_name is too long to be announced");
        udp::broadcast(source, target, self.ports, &datagram.ok_or_else(too_long)?)
    }

    /// Whether this server can be reached where a datagram from `source` came in.
    fn is_heard_from(&self, source: IpAddr) -> bool {
        let IpAddr::V4(source) = source.to_canonical() else {
            return false;
        };
        let near = || udp::source_towards(Ipv4Addr::UNSPECIFIED, source);
        self.addresses.is_empty() || near().is_ok_and(|address| self.addresses.contains(&address))
    }
}

/// Starts the tasks. The socket is bound before the first announcement goes out.
pub(super) fn start(cluster: &Rc<Inner>) {
    monoio::spawn(listen(Rc::downgrade(cluster)));
    monoio::spawn(announce(Rc::downgrade(cluster)));
    monoio::spawn(expire(Rc::downgrade(cluster)));
}

async fn announce(cluster: Weak<Inner>) {
    while let Some(cluster) = cluster.upgrade() {
        let Some(discovery) = &cluster.discovery else { return };
        if discovery.target.is_none() || discovery.has_left.get() {
            return;
        }
        discovery.sending.note(discovery.say(&cluster, Presence::Online));
        drop(cluster);
        monoio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

async fn listen(cluster: Weak<Inner>) {
    while let Some(alive) = cluster.upgrade() {
        let Some(discovery) = &alive.discovery else { return };
        let broadcasts = discovery.target.unwrap_or(Ipv4Addr::BROADCAST);
        let at = if discovery.addresses.is_empty() {
            Ipv4Addr::UNSPECIFIED
        } else {
            broadcasts
        };
        let listener = Listener::bind(at, discovery.ports);
        let result = match listener {
            Ok(listener) => {
                discovery.listening.note(Ok(()));
                tracing::info!(port = listener.port(), "listening for other servers of the cluster");
                drop(alive);
                hear(&cluster, &listener).await
            }
            Err(error) => {
                drop(alive);
                Err(error)
            }
        };
        let Some(alive) = cluster.upgrade() else { return };
        if let Some(discovery) = &alive.discovery {
            discovery.listening.note(result);
        }
        drop(alive);
        monoio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// Hands datagrams on until the socket fails or the cluster is gone.
async fn hear(cluster: &Weak<Inner>, listener: &Listener) -> io::Result<()> {
    // One byte more than is valid, to tell what is too long.
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    loop {
        listener.readable().await?;
        let mut taken = 0;
        while taken < BATCH
            && let Some((length, source)) = listener.receive(&mut buffer)?
        {
            let Some(cluster) = cluster.upgrade() else {
                return Ok(());
            };
            on_datagram(&cluster, source, buffer.get(..length).unwrap_or_default());
            taken += 1;
        }
        if taken == BATCH {
            monoio::time::sleep(FLOOD_PAUSE).await;
        }
    }
}

fn on_datagram(cluster: &Rc<Inner>, source: SocketAddr, datagram: &[u8]) {
    let Some(discovery) = cluster.discovery.as_ref().filter(|own| own.is_heard_from(source.ip())) else {
        return;
    };
    let config = cluster.config.borrow();
    let Rules { secrets, window, .. } = Rules::of(&config);
    let trust = if discovery.is_signed {
        let now_micros = cluster.clock.unix_micros();
        Trust::Signed {
            secrets,
            window,
            now_micros,
        }
    } else {
        Trust::Anybody
    };
    let now = cluster.clock.now();
    let heard = cluster
        .peers
        .borrow_mut()
        .on_datagram(now, source.ip(), datagram, &trust);
    match heard {
        Heard::Nothing => {}
        // The process that replaces this one, or is replaced by it, is at the same address: asking it is asking ourselves.
        Heard::Probe(peer) if cluster.is_own(peer) => {
            cluster
                .peers
                .borrow_mut()
                .on_probe_result(cluster.clock.now(), peer, false);
        }
        Heard::Probe(peer) => drop(monoio::spawn(probe(cluster.clone(), peer))),
        Heard::Left(peer) => tracing::info!(%peer, "peer left"),
    }
}

async fn probe(cluster: Rc<Inner>, peer: SocketAddr) {
    let good = cluster.probe(peer).await;
    let now = cluster.clock.now();
    if cluster.peers.borrow_mut().on_probe_result(now, peer, good) {
        tracing::info!(%peer, "peer joined");
    }
}

async fn expire(cluster: Weak<Inner>) {
    let mut pause = TICK;
    loop {
        monoio::time::sleep(pause).await;
        let Some(cluster) = cluster.upgrade() else { return };
        // Without peers there is nothing to expire before one has been silent for 30 s.
        let is_alone = cluster.peers.borrow().alive().next().is_none();
        pause = if is_alone { ANNOUNCE_INTERVAL } else { TICK };
        for peer in cluster.peers.borrow_mut().on_tick(cluster.clock.now()) {
            tracing::warn!(%peer, "peer has not been heard of for 30 s, dropped");
        }
    }
}

/// Something that is tried again and again: its failure is logged when it begins, and its end.
struct Trouble {
    what: &'static str,
    lasts: Cell<bool>,
}

impl Trouble {
    const fn new(what: &'static str) -> Self {
        Self {
            what,
            lasts: Cell::new(false),
        }
    }

    fn note(&self, result: io::Result<()>) {
        let Self { what, lasts } = self;
        match (lasts.replace(result.is_err()), result) {
            (false, Err(error)) => tracing::warn!(%error, "{what}; trying again every 10 s"),
            (true, Err(error)) => tracing::debug!(%error, "{what}"),
            (true, Ok(())) => tracing::info!("{what}: over, it works now"),
            (false, Ok(())) => {}
        }
    }
}
