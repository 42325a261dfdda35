//! Peers that let a call run into its deadline: left out of further ones until `/hello/` is answered, so that a hanging
//! server delays one call and not all of them. What fails at once delays nobody and has no consequence.
//!
//! One that answers `/hello/` and hangs again is left out longer each time, from [`PAUSE_MIN`] to [`PAUSE_MAX`]; any answer to
//! a call makes up for all of that. One task for each that is left out; it ends when the peer is back, or is a peer no longer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use super::{Inner, Servers};
use crate::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A call with a shorter timeout gives the peer no less time than its own members have, so a silent member looks like a
/// silent peer: such a failure does not count against it (`PeerRequest::send`).
const TELLING_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Default)]
struct Suspect {
    is_out: bool,
    strikes: u32,
}

/// Who is left out, and how often in a row that has happened.
#[derive(Default)]
pub(super) struct Suspects(RefCell<HashMap<SocketAddr, Suspect>>);

impl Suspects {
    /// Whether this peer is left out at the moment.
    pub(super) fn contains(&self, peer: SocketAddr) -> bool {
        self.0.borrow().get(&peer).is_some_and(|suspect| suspect.is_out)
    }

    /// It has answered a call.
    pub(super) fn clear(&self, peer: SocketAddr) {
        let mut table = self.0.borrow_mut();
        if table.get(&peer).is_some_and(|suspect| !suspect.is_out) {
            table.remove(&peer);
        }
    }

    /// Leaves it out, and says how long to wait before it is asked; `None`: it is out already.
    fn strike(&self, peer: SocketAddr, is_telling: bool) -> Option<Duration> {
        let mut table = self.0.borrow_mut();
        let suspect = table.entry(peer).or_default();
        if std::mem::replace(&mut suspect.is_out, true) {
            return None;
        }
        if !is_telling {
            return Some(Duration::ZERO);
        }
        suspect.strikes = suspect.strikes.saturating_add(1);
        Some(pause(suspect.strikes))
    }

    /// Its probe was answered: it is in again, its strikes are kept.
    fn readmit(&self, peer: SocketAddr) {
        if let Some(suspect) = self.0.borrow_mut().get_mut(&peer) {
            suspect.is_out = false;
        }
    }

    fn forget(&self, peer: SocketAddr) {
        self.0.borrow_mut().remove(&peer);
    }
}

fn pause(strikes: u32) -> Duration {
    let doublings = strikes.saturating_sub(1).min(16);
    PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
}

/// Leaves `peer` out after a call with this timeout went unanswered, and watches for its return.
pub(super) fn suspect(cluster: &Rc<Inner>, peer: SocketAddr, timeout: Duration) {
    if let Some(first) = cluster.suspects.strike(peer, timeout >= TELLING_TIMEOUT) {
        tracing::warn!(%peer, "peer did not answer in time; nothing is asked of it until it answers /hello/");
        monoio::spawn(watch(Rc::downgrade(cluster), peer, first));
    }
}

async fn watch(cluster: Weak<Inner>, peer: SocketAddr, first: Duration) {
    let mut wait = first;
    loop {
        monoio::time::sleep(wait).await;
        let Some(inner) = cluster.upgrade() else { return };
        if !Servers(inner.clone()).peers().contains(&peer) {
            return inner.suspects.forget(peer);
        }
        if inner.probe(peer).await {
            inner.suspects.readmit(peer);
            tracing::info!(%peer, "peer answers again");
            return;
        }
        wait = wait.max(PAUSE_MIN).saturating_mul(2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_longer_each_time_until_it_answers_a_call() {
        let peer = SocketAddr::from(([10, 0, 0, 2], 1984));
        let suspects = Suspects::default();
        assert_eq!(suspects.strike(peer, true), Some(PAUSE_MIN));
        assert!(suspects.contains(peer));
        assert_eq!(suspects.strike(peer, true), None, "one watcher is enough");
        suspects.clear(peer);
        assert!(
            suspects.contains(peer),
            "an answer to an older call does not bring it back"
        );
        suspects.readmit(peer);
        assert!(!suspects.contains(peer));
        assert_eq!(suspects.strike(peer, true), Some(PAUSE_MIN.saturating_mul(2)));
        suspects.readmit(peer);
        suspects.clear(peer);
        assert_eq!(
            suspects.strike(peer, true),
            Some(PAUSE_MIN),
            "it has answered meanwhile"
        );
        suspects.readmit(peer);
        assert_eq!(suspects.strike(peer, false), Some(Duration::ZERO));
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
