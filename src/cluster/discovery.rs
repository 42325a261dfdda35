//! Discovery by broadcast (`cluster_udp`): announces this server, listens to the others, drops who is silent. Who is in is
//! decided by `protocol::rainbow::peer`; here are its sockets and timers (spec: section 12).
//!
//! Nothing that fails here is an error of the server: it is logged once, tried again with the next announcement, and logged
//! again when it works. Three tasks, which end with the cluster; the listening one at the next datagram.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};

use super::{Announce, Inner};
use crate::config::{Config, PortRange};
use crate::io::udp::{self, Listener};
use crate::protocol::rainbow::peer::{ANNOUNCE_INTERVAL, DATAGRAM_BYTES_MAX, Heard, Presence, announcement};
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
    online: Vec<u8>,
    offline: Vec<u8>,
    has_left: Cell<bool>,
    sending: Trouble,
    listening: Trouble,
}

impl Discovery {
    pub(super) fn new(config: &Config, own: &Announce) -> Self {
        let say = |presence| announcement(presence, own.port, &own.identity, &config.cluster_name);
        let (online, offline) = (say(Presence::Online), say(Presence::Offline));
        if online.is_none() {
            tracing::error!("cluster_name is too long to be announced, others will not find this server");
        }
        Self {
            ports: config.cluster_udp_ports,
            target: config.cluster_broadcast.filter(|_| online.is_some()),
            online: online.unwrap_or_default(),
            offline: offline.unwrap_or_default(),
            has_left: Cell::new(false),
            sending: Trouble::new("cannot announce this server to the cluster"),
            listening: Trouble::new("cannot listen for other servers of the cluster"),
        }
    }

    /// Announces no more; says goodbye, once, unless another process is at this address.
    pub(super) fn leave(&self, is_replaced: bool) {
        let again = self.has_left.replace(true);
        if let Some(target) = self.target.filter(|_| !again && !is_replaced)
            && let Err(error) = udp::broadcast(target, self.ports, &self.offline)
        {
            tracing::debug!(%error, "cannot say goodbye to the cluster");
        }
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
        let Some(target) = discovery.target.filter(|_| !discovery.has_left.get()) else {
            return;
        };
        let sent = udp::broadcast(target, discovery.ports, &discovery.online);
        discovery.sending.note(sent);
        drop(cluster);
        monoio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

async fn listen(cluster: Weak<Inner>) {
    while let Some(alive) = cluster.upgrade() {
        let Some(discovery) = &alive.discovery else { return };
        let listener = Listener::bind(discovery.ports);
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
    let heard = cluster
        .peers
        .borrow_mut()
        .on_datagram(cluster.clock.now(), source.ip(), datagram);
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
