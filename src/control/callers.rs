//! Who calls the HTTP interface: where from, and whether it has proved that it knows the secret. Surfaces judge the proofs.
//! Callers: `http.rs`, `places.rs`, `surface/`.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use super::bodies::Standing;
use crate::config::Config;
use crate::io::admission;
use crate::time::Instant;

/// Between two warnings of one reason.
const QUIET: Duration = Duration::from_secs(60);

/// The other end of one connection.
#[derive(Debug)]
pub struct Caller {
    /// Its own address, or the one a PROXY header told; none: it is gone already.
    address: Option<IpAddr>,
    /// It is one of `trusted_proxies`, which speaks for others.
    is_proxy: bool,
    has_signed: Cell<bool>,
}

impl Caller {
    /// A connection from `address`.
    pub fn new(address: Option<IpAddr>, config: &Config) -> Self {
        let address = address.map(|address| address.to_canonical());
        let is_proxy = address.is_some_and(|address| config.trusted_proxies.iter().any(|net| net.contains(address)));
        Self {
            address,
            is_proxy,
            has_signed: Cell::new(false),
        }
    }

    /// Where it calls from, for the log.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A call of it was signed well.
    pub fn has_proven_itself(&self) {
        self.has_signed.set(true);
    }

    /// On this machine.
    pub fn is_local(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }

    /// On this machine itself, or one that has signed.
    pub fn is_known(&self) -> bool {
        self.has_signed.get() || self.is_local() && !self.is_proxy
    }

    /// What is known of it before the body of a call has come, whose head was signed or not.
    pub fn standing(&self, head_is_signed: bool) -> Standing {
        if head_is_signed || self.has_signed.get() {
            Standing::Proven
        } else if self.is_known() {
            Standing::Local
        } else {
            Standing::Stranger
        }
    }

    /// What its connections are counted under, if they are.
    pub fn counted(&self) -> Option<IpAddr> {
        let address = self.address.filter(|_| !self.is_local() && !self.is_proxy);
        address.map(admission::counted)
    }
}

/// When operators were last warned of something that callers can bring about as often as they like.
#[derive(Debug, Default)]
pub struct Quiet(Cell<Option<(Instant, u64)>>);

impl Quiet {
    /// Once more; how often since the last warning, if it is time for another.
    pub fn count(&self, now: Instant) -> Option<u64> {
        match self.0.get() {
            Some((last, quiet)) if now.since(last) < QUIET => {
                self.0.set(Some((last, quiet + 1)));
                None
            }
            earlier => {
                self.0.set(Some((now, 0)));
                Some(earlier.map_or(0, |(_, quiet)| quiet) + 1)
            }
        }
    }
}
