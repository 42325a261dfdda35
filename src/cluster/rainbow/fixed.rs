//! The configured peers (`cluster_peers`): a task each looks for its server and watches it.
//!
//! ```text
//! name ─▶ addresses ─▶ one of ours? ─ yes ─▶ this server itself, never a peer
//!                          └─ no ─▶ GET /hello/ at each ─▶ the first that answers 200 is in
//! ```
//! * One entry stands for one server: of several addresses the one that answered last is asked first, and only one is in.
//! * Asked every [`ANNOUNCE_INTERVAL`], sooner while it does not answer; out after [`PEER_EXPIRY`] without an answer, as if
//!   it had announced itself. So a dead server does not hold up publishes for longer than one found by broadcast.
//! * The same file may be given to all servers: an entry is this server itself if it names our port at an address we listen
//!   on. What cannot be recognised is our own address seen from outside an address translation; leave it out there.
//!
//! The original has no such list (spec: section 12).

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

use super::Inner;
use crate::config::Peer;
use crate::protocol::rainbow::peer::{ANNOUNCE_INTERVAL, PEER_EXPIRY};
use crate::time::{Duration, Instant};

/// First pause after a failure; each further one is twice as long, up to [`ANNOUNCE_INTERVAL`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// One configured peer.
pub(super) struct Fixed {
    peer: Peer,
    /// Which address answered, and when.
    seen: Cell<Option<(SocketAddr, Instant)>>,
}

/// What a look at a peer found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Answered(SocketAddr),
    Silent,
    Ourselves,
}

impl Fixed {
    pub(super) fn new(peer: &Peer) -> Self {
        Self {
            peer: peer.clone(),
            seen: Cell::new(None),
        }
    }

    /// Where it is, if it answered lately.
    pub(super) fn address(&self, now: Instant) -> Option<SocketAddr> {
        let (address, at) = self.seen.get()?;
        (now.since(at) <= PEER_EXPIRY).then_some(address)
    }

    fn note(&self, look: Look, now: Instant) {
        let Self { peer, seen } = self;
        let before = seen.get();
        match look {
            Look::Answered(address) => {
                seen.set(Some((address, now)));
                if before.map(|(address, _)| address) != Some(address) {
                    tracing::info!(%peer, %address, "configured peer answers");
                }
            }
            Look::Silent if before.is_some() && self.address(now).is_none() => {
                seen.set(None);
                tracing::warn!(%peer, "configured peer has not answered for 30 s, left out until it does");
            }
            Look::Silent => {}
            Look::Ourselves => seen.set(None),
        }
    }

    /// Its addresses, the one that answered last in front.
    fn candidates(&self, found: &[IpAddr]) -> Vec<SocketAddr> {
        let last = self.seen.get().map(|(address, _)| address);
        let mut all: Vec<_> = found.iter().map(|ip| SocketAddr::new(*ip, self.peer.port)).collect();
        all.sort_by_key(|address| Some(*address) != last); // stable: only that one moves
        all.truncate(ADDRESSES_MAX);
        all
    }
}

/// Starts a task for each configured peer.
pub(super) fn start(cluster: &Rc<Inner>) {
    for index in 0..cluster.fixed.len() {
        monoio::spawn(watch(Rc::downgrade(cluster), index));
    }
}

/// Ends with the cluster.
async fn watch(cluster: Weak<Inner>, index: usize) {
    let mut failures = 0u32;
    while let Some(cluster) = cluster.upgrade() {
        let Some(fixed) = cluster.fixed.get(index) else {
            return;
        };
        let look = look(&cluster, fixed).await;
        failures = if look == Look::Silent {
            failures.saturating_add(1)
        } else {
            0
        };
        fixed.note(look, cluster.clock.now());
        drop(cluster);
        monoio::time::sleep(pause(failures)).await;
    }
}

async fn look(cluster: &Rc<Inner>, fixed: &Fixed) -> Look {
    let candidates = fixed.candidates(&cluster.client.resolve(&fixed.peer.host).await);
    if candidates.iter().any(|address| cluster.is_own(*address)) {
        return Look::Ourselves;
    }
    for address in candidates {
        if cluster.probe(address).await {
            return Look::Answered(address);
        }
    }
    Look::Silent
}

/// Time to the next look after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => ANNOUNCE_INTERVAL,
        Some(doublings) => PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(ANNOUNCE_INTERVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn fixed() -> Fixed {
        Fixed::new(&Peer {
            host: "name".into(),
            port: 1984,
        })
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1984))
    }

    #[test]
    fn in_while_it_answers() {
        let fixed = fixed();
        assert_eq!(fixed.address(at(0)), None, "not before its first answer");
        fixed.note(Look::Answered(address(1)), at(5));
        fixed.note(Look::Silent, at(20));
        assert_eq!(fixed.address(at(35)), Some(address(1)));
        assert_eq!(fixed.address(at(36)), None);
        fixed.note(Look::Silent, at(40));
        fixed.note(Look::Answered(address(2)), at(41));
        assert_eq!(fixed.address(at(41)), Some(address(2)), "moved");
        fixed.note(Look::Ourselves, at(42));
        assert_eq!(fixed.address(at(42)), None);
    }

    #[test]
    fn the_address_that_answered_is_asked_first() {
        let fixed = fixed();
        let found: Vec<IpAddr> = (1..=9).map(|last| address(last).ip()).collect();
        assert_eq!(fixed.candidates(&found), [1, 2, 3, 4].map(address));
        fixed.note(Look::Answered(address(7)), at(0));
        assert_eq!(fixed.candidates(&found), [7, 1, 2, 3].map(address));
        assert_eq!(fixed.candidates(&[]), []);
    }

    #[test]
    fn pauses_grow_up_to_the_usual_one() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|failures| pause(failures).as_millis());
        assert_eq!(pauses, [10_000, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }
}
