//! Who belongs to the cluster: UDP announcements out, a table of peers kept from the announcements that come in.
//!
//! ```text
//!             online, unknown           probe answered 200
//!   (nobody) ────────────────▶ Probing ────────────────────▶ Alive ── online: heard again
//!       ▲        probe failed     │                            │
//!       └─────────────────────────┴────────────────────────────┘
//!                offline, or not heard for 30 s
//! ```
//! What a datagram says and whether it is believed is [`super::announce`]'s. In the open form nothing is believed but that a
//! server may listen at the source address; in either form that server has to answer `/hello/` before it is told anything.
//! Bounds: [`PEERS_MAX`], [`PEERS_PER_ADDRESS_MAX`] and [`PROBES_MAX`]; further ones are ignored until they announce themselves
//! again. Source: spec section 12. Driven by the cluster part of the control core.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

pub use super::announce::{DATAGRAM_BYTES_MAX, Presence, Sender, ServerIdentity, Trust};

use super::announce;
use crate::time::{Duration, Instant};

/// UDP ports announcements go to; a server listens on the first it can bind.
pub const UDP_PORTS: std::ops::RangeInclusive<u16> = 2014..=2033;

/// How often a server announces itself.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);

/// A peer not heard for longer than this is dropped.
pub const PEER_EXPIRY: Duration = Duration::from_secs(30);

/// Time a peer has to answer `GET /hello/`.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Target of a probe; it carries no signature.
pub const PROBE_TARGET: &str = "/hello/";

/// The same, asking which server it is: one of ours answers `ok` and its identity, the original `ok`. Sent with
/// `signature = hmac-sha256`, which no original speaks.
pub const PROBE_TARGET_NAMED: &str = "/hello/?rainbow_node=1";

/// Peers known at most, those being probed included: every `/send/` costs a request to each.
pub const PEERS_MAX: usize = 128;

/// Peers at one address at most: as many as the original's search for a port can start on one host.
pub const PEERS_PER_ADDRESS_MAX: usize = 20;

/// Probes under way at most, so that forged datagrams cannot make us call the whole network.
pub const PROBES_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Probing { since: Instant },
    Alive { heard: Instant },
}

#[derive(Clone, Debug)]
struct Peer {
    state: State,
    /// When its last announcement was sent; nothing sent before is believed again.
    sent_micros: u64,
}

/// What follows from a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// Ask this server for [`PROBE_TARGET`] and tell [`Peers::on_probe_result`].
    Probe(SocketAddr),
    /// This peer said goodbye.
    Left(SocketAddr),
}

/// The table of peers.
#[derive(Debug)]
pub struct Peers {
    own: ServerIdentity,
    cluster_name: String,
    table: HashMap<SocketAddr, Peer>,
}

impl Peers {
    /// Nobody yet. `own` is how announcements of this server are told from others.
    pub fn new(own: ServerIdentity, cluster_name: String) -> Self {
        let table = HashMap::new();
        Self {
            own,
            cluster_name,
            table,
        }
    }

    /// A datagram from `source`. Whatever is not an announcement of another server of this cluster is ignored.
    pub fn on_datagram(&mut self, now: Instant, source: IpAddr, datagram: &[u8], trust: &Trust<'_>) -> Heard {
        let Some(announcement) = announce::read(datagram, source, trust) else {
            return Heard::Nothing;
        };
        let is_ours = announcement.identity.as_bytes() == self.own;
        if is_ours || announcement.cluster_name != self.cluster_name {
            return Heard::Nothing;
        }
        let address = canonical(SocketAddr::new(source, announcement.port));
        let last = self.table.get(&address).map_or(0, |peer| peer.sent_micros);
        if last > 0 && announcement.sent_micros <= last {
            return Heard::Nothing;
        }
        match announcement.presence {
            Presence::Online => self.on_online(now, address, announcement.sent_micros),
            Presence::Offline => self.on_offline(address),
        }
    }

    fn on_online(&mut self, now: Instant, address: SocketAddr, sent_micros: u64) -> Heard {
        if let Some(peer) = self.table.get_mut(&address) {
            if let State::Alive { heard } = &mut peer.state {
                *heard = now;
            }
            peer.sent_micros = sent_micros;
            return Heard::Nothing;
        }
        let neighbours = self.table.keys().filter(|known| known.ip() == address.ip()).count();
        if self.table.len() >= PEERS_MAX || neighbours >= PEERS_PER_ADDRESS_MAX || self.probing() >= PROBES_MAX {
            return Heard::Nothing;
        }
        let state = State::Probing { since: now };
        self.table.insert(address, Peer { state, sent_micros });
        Heard::Probe(address)
    }

    fn on_offline(&mut self, address: SocketAddr) -> Heard {
        match self.table.remove(&address) {
            None => Heard::Nothing,
            Some(_) => Heard::Left(address),
        }
    }

    /// A probe ended: `good` if the server answered 200. True if the peer is in now; a server that said goodbye meanwhile
    /// stays out.
    pub fn on_probe_result(&mut self, now: Instant, address: SocketAddr, good: bool) -> bool {
        let address = canonical(address);
        let Some(peer) = self.table.get_mut(&address).filter(|peer| peer.is_probing()) else {
            return false;
        };
        if good {
            peer.state = State::Alive { heard: now };
        } else {
            self.table.remove(&address);
        }
        good
    }

    /// Drops peers not heard for [`PEER_EXPIRY`] and probes that never ended; returns the peers. Call about every second.
    pub fn on_tick(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut dropped = Vec::new();
        self.table.retain(|address, peer| match peer.state {
            State::Probing { since } => now.since(since) <= PEER_EXPIRY,
            State::Alive { heard } => {
                let is_alive = now.since(heard) <= PEER_EXPIRY;
                if !is_alive {
                    dropped.push(*address);
                }
                is_alive
            }
        });
        dropped
    }

    /// The peers to pass requests to.
    pub fn alive(&self) -> impl Iterator<Item = SocketAddr> {
        let alive = self.table.iter().filter(|(_, peer)| !peer.is_probing());
        alive.map(|(address, _)| *address)
    }

    fn probing(&self) -> usize {
        self.table.values().filter(|peer| peer.is_probing()).count()
    }
}

impl Peer {
    fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }
}

/// One server, one key: an IPv4 peer heard on an IPv6 socket is the same peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
