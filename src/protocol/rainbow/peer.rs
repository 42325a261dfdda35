//! Who belongs to the cluster: UDP announcements out, a table of peers kept from the announcements that come in.
//!
//! ```text
//!             online, unknown           probe answered 200
//!   (nobody) ────────────────▶ Probing ────────────────────▶ Alive ── online: heard again
//!       ▲        probe failed     │                            │
//!       └─────────────────────────┴────────────────────────────┘
//!                offline, or not heard for 30 s
//! ```
//! Datagrams are not authenticated: nothing in one is believed but that a server may listen at its source address, and that
//! server has to answer `/hello/` before it is told anything. Bounds: [`PEERS_MAX`] and [`PROBES_MAX`]; further ones are
//! ignored until they announce themselves again. Source: spec section 12. Driven by the cluster part of the control core.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::json::{self, Field};
use crate::time::{Duration, Instant};

/// Longest datagram read or written, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1024;

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

/// Peers known at most, those being probed included. Every `/send/` costs a request to each.
pub const PEERS_MAX: usize = 1024;

/// Probes under way at most, so that forged datagrams cannot make us call the whole network.
pub const PROBES_MAX: usize = 16;

/// What tells servers of one cluster apart: 40 hex digits, fresh per start.
pub type ServerIdentity = [u8; 40];

/// The two kinds of announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// I am here; at start and every [`ANNOUNCE_INTERVAL`].
    Online,
    /// I am leaving; once, at shutdown.
    Offline,
}

impl Presence {
    const fn word(self) -> &'static str {
        match self {
            Presence::Online => "online",
            Presence::Offline => "offline",
        }
    }
}

/// An announcement of a server that listens on `http_port`; `None` if the cluster name makes it too long to be read.
pub fn announcement(
    presence: Presence,
    http_port: u16,
    identity: &ServerIdentity,
    cluster_name: &str,
) -> Option<Vec<u8>> {
    let head = format!(
        "{{\"msgtype\": \"{}\", \"port\": {http_port}, \"server_identity\": ",
        presence.word()
    );
    let mut out = head.into_bytes();
    json::push_string(&mut out, identity);
    out.extend_from_slice(b", \"cluster_name\": ");
    json::push_string(&mut out, cluster_name.as_bytes());
    out.push(b'}');
    (out.len() <= DATAGRAM_BYTES_MAX).then_some(out)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Probing { since: Instant },
    Alive { heard: Instant },
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
    pub fn on_datagram(&mut self, now: Instant, source: IpAddr, datagram: &[u8]) -> Heard {
        match self.read(source, datagram) {
            Some((Presence::Online, address)) => self.on_online(now, address),
            Some((Presence::Offline, address)) => self.on_offline(address),
            None => Heard::Nothing,
        }
    }

    fn read(&self, source: IpAddr, datagram: &[u8]) -> Option<(Presence, SocketAddr)> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let names = ["msgtype", "port", "server_identity", "cluster_name"];
        let [msgtype, port, identity, cluster_name] = json::fields(datagram, names)?;
        let is_ours = identity.as_ref().and_then(Field::text)?.as_bytes() == self.own;
        if is_ours || cluster_name.as_ref().and_then(Field::text)? != self.cluster_name {
            return None;
        }
        let word = msgtype.as_ref().and_then(Field::text)?;
        let presence = [Presence::Online, Presence::Offline]
            .into_iter()
            .find(|presence| presence.word() == word)?;
        let port = port
            .and_then(|port| u16::try_from(port.count()?).ok())
            .filter(|port| *port != 0)?;
        Some((presence, canonical(SocketAddr::new(source, port))))
    }

    fn on_online(&mut self, now: Instant, address: SocketAddr) -> Heard {
        if let Some(peer) = self.table.get_mut(&address) {
            if let Peer::Alive { heard } = peer {
                *heard = now;
            }
            return Heard::Nothing;
        }
        if self.table.len() >= PEERS_MAX || self.probing() >= PROBES_MAX {
            return Heard::Nothing;
        }
        self.table.insert(address, Peer::Probing { since: now });
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
        let is_probing = matches!(self.table.get(&address), Some(Peer::Probing { .. }));
        if is_probing && good {
            self.table.insert(address, Peer::Alive { heard: now });
        } else if is_probing {
            self.table.remove(&address);
        }
        is_probing && good
    }

    /// Drops peers not heard for [`PEER_EXPIRY`] and probes that never ended; returns the peers. Call about every second.
    pub fn on_tick(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut dropped = Vec::new();
        self.table.retain(|address, peer| match *peer {
            Peer::Probing { since } => now.since(since) <= PEER_EXPIRY,
            Peer::Alive { heard } => {
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
        self.table
            .iter()
            .filter(|(_, peer)| !matches!(peer, Peer::Probing { .. }))
            .map(|(address, _)| *address)
    }

    fn probing(&self) -> usize {
        self.table
            .values()
            .filter(|peer| matches!(peer, Peer::Probing { .. }))
            .count()
    }
}

/// One server, one key: an IPv4 peer heard on an IPv6 socket is the same peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
