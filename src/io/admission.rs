//! Who may connect, as far as only the shell can know: connections per address, memory, and the addresses behind proxies.
//!
//! [`Admission`] is shared by all cores. With SO_REUSEPORT the connections of one address are spread over the shards by the
//! kernel, so no shard can count them alone: the counts lie in one table of [`BUCKETS`] small maps, each behind a mutex. It is
//! touched once when a connection is accepted and once when it ends, never by traffic, and not at all while
//! `connections_per_address` is 0. A counted connection holds a [`Place`], which gives itself back when dropped.
//!
//! A [`Doorman`] is one core's access to it, with what it knows about its own connections. Nothing is kept of a connection
//! unless it is counted or a PROXY header told its address.
//!
//! Whose connection it is: the address it comes from, or the one of its PROXY header, or, if that is one of `trusted_proxies`, the
//! one its `X-Forwarded-For` names. Trusted proxies themselves are not counted.
//!
//! Clients and connections that have not sent their request head are counted apart, each up to the limit: an address whose
//! clients have filled it can still call the HTTP interface, and one that opens connections and says nothing is bounded too.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::Memory;
use crate::config::Config;
use crate::metrics::{CoreMetrics, Metric};
use crate::shard::Verdict;
use crate::wire::forwarded::client_address;

/// Maps of the table: enough that cores which accept at full speed rarely meet.
const BUCKETS: usize = 64;

/// Shared by all cores.
#[derive(Debug)]
pub struct Admission {
    addresses: Addresses,
    memory: Memory,
}

impl Admission {
    /// Nobody is here yet; looks how much memory there is.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            addresses: Addresses {
                hasher: RandomState::new(),
                buckets: std::array::from_fn(|_| Mutex::default()),
            },
            memory: Memory::look(),
        })
    }

    /// [`Memory::tend`].
    pub fn tend_memory(&self, memory_max: usize) -> bool {
        self.memory.tend(memory_max)
    }

    /// Counts one more connection of `address` (IPv6: of its /64), unless it has `most` of that kind already; 1 is the least.
    fn claim(self: &Arc<Self>, address: IpAddr, kind: Kind, most: usize) -> Option<Place> {
        let address = counted(address);
        let mut bucket = self.addresses.bucket(address);
        let counts = bucket.entry(address).or_default();
        let count = counts.of(kind);
        if *count >= most.max(1) {
            return None;
        }
        *count += 1;
        Some(Place {
            admission: self.clone(),
            address,
            kind,
        })
    }
}

/// What a connection is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has not sent its request head.
    Arriving,
    /// It asks, or has asked, to connect.
    Client,
}

/// Connections of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    arriving: usize,
    clients: usize,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Arriving => &mut self.arriving,
            Kind::Client => &mut self.clients,
        }
    }
}

/// Connections by address.
#[derive(Debug)]
struct Addresses {
    hasher: RandomState,
    buckets: [Mutex<HashMap<IpAddr, Counts>>; BUCKETS],
}

impl Addresses {
    fn bucket(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, Counts>> {
        // The remainder is in range.
        let index = self.hasher.hash_one(address) as usize % BUCKETS;
        self.buckets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted as one address: whoever has one IPv6 address usually has its whole /64.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 64))),
        v4 => v4,
    }
}

/// One counted connection.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    kind: Kind,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut bucket = self.admission.addresses.bucket(self.address);
        if let Some(counts) = bucket.get_mut(&self.address) {
            let count = counts.of(self.kind);
            *count = count.saturating_sub(1);
            if *counts == Counts::default() {
                bucket.remove(&self.address);
            }
        }
    }
}

/// What is known about a connection.
#[derive(Debug, Default)]
pub struct Arrival {
    /// The address its PROXY header told.
    pub told: Option<IpAddr>,
    place: Option<Place>,
}

/// One core's access to the [`Admission`].
#[derive(Debug)]
pub struct Doorman {
    admission: Arc<Admission>,
    config: Arc<Config>,
    metrics: Arc<CoreMetrics>,
    /// By slot.
    arrivals: HashMap<u32, Arrival>,
}

impl Doorman {
    /// For one core.
    pub fn new(admission: Arc<Admission>, config: Arc<Config>, metrics: Arc<CoreMetrics>) -> Self {
        Self {
            admission,
            config,
            metrics,
            arrivals: HashMap::new(),
        }
    }

    /// Settings changed; who is here stays.
    pub fn reload(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// Settings in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Counts a refusal.
    pub fn count(&self, refusal: Metric) {
        self.metrics.add(refusal, 1);
    }

    /// Whether a connection from `peer` has to begin with a PROXY header.
    pub fn expects_header(&self, peer: IpAddr) -> bool {
        self.config.proxy_protocol && (self.config.trusted_proxies.is_empty() || self.is_trusted(peer))
    }

    /// A connection from `peer` arrived, whose PROXY header told `told`. `None`: its address has enough of them.
    pub fn arrive(&self, peer: IpAddr, told: Option<IpAddr>) -> Option<Arrival> {
        match self.claim(told.unwrap_or(peer), Kind::Arriving) {
            Ok(place) => Some(Arrival { told, place }),
            Err(Refused) => {
                self.count(Metric::RefusedAddress);
                None
            }
        }
    }

    /// The connection got this slot.
    pub fn settle(&mut self, slot: u32, arrival: Arrival) {
        if arrival.told.is_some() || arrival.place.is_some() {
            self.arrivals.insert(slot, arrival);
        }
    }

    /// The connection is not this core's any more. Returns what its PROXY header told.
    pub fn leave(&mut self, slot: u32) -> Option<IpAddr> {
        if self.arrivals.is_empty() {
            return None;
        }
        self.arrivals.remove(&slot)?.told
    }

    /// The client of `slot`, connected from `peer`, asks to connect.
    pub fn admit(&mut self, slot: u32, peer: impl FnOnce() -> Option<IpAddr>, forwarded: Option<&[u8]>) -> Verdict {
        if self.admission.memory.is_short(self.config.memory_max) {
            return Verdict::MemoryShort;
        }
        if self.config.connections_per_address == 0 && !tracing::enabled!(tracing::Level::DEBUG) {
            return Verdict::Welcome;
        }
        let told = self.arrivals.get(&slot).and_then(|arrival| arrival.told);
        let Some(near) = told.or_else(peer) else {
            // The connection is gone already; somebody will notice.
            return Verdict::Welcome;
        };
        let far = client_address(near, forwarded.unwrap_or_default(), |address| self.is_trusted(address));
        tracing::debug!(address = %far, slot, "a client asks to connect");
        // Its own place, from accept or from an earlier request, must not be in its way.
        drop(self.arrivals.remove(&slot));
        let (place, verdict) = match self.claim(far, Kind::Client) {
            Ok(place) => (place, Verdict::Welcome),
            Err(Refused) => (None, Verdict::AddressFull),
        };
        self.settle(slot, Arrival { told, place });
        verdict
    }

    /// A number for the address of the client of `slot`, connected from `peer`: the same on every core, nothing one can
    /// choose. 0: the connection is gone already.
    pub fn number(&self, slot: u32, peer: impl FnOnce() -> Option<IpAddr>, forwarded: Option<&[u8]>) -> u64 {
        let told = self.arrivals.get(&slot).and_then(|arrival| arrival.told);
        let Some(near) = told.or_else(peer) else { return 0 };
        let far = client_address(near, forwarded.unwrap_or_default(), |address| self.is_trusted(address));
        self.admission.addresses.hasher.hash_one(counted(far)).max(1)
    }

    /// The address and port of the client of `slot`, connected from `peer`; port 0: only a proxy knows it. `None`: the
    /// connection is gone already.
    pub fn origin(
        &self,
        slot: u32,
        peer: impl FnOnce() -> Option<SocketAddr>,
        forwarded: Option<&[u8]>,
    ) -> Option<SocketAddr> {
        let told = self.arrivals.get(&slot).and_then(|arrival| arrival.told);
        let near = told.map(|address| SocketAddr::new(address, 0)).or_else(peer)?;
        let far = client_address(near.ip(), forwarded.unwrap_or_default(), |address| {
            self.is_trusted(address)
        });
        let port = if far == near.ip() { near.port() } else { 0 };
        Some(SocketAddr::new(far.to_canonical(), port))
    }

    fn claim(&self, address: IpAddr, kind: Kind) -> Result<Option<Place>, Refused> {
        match self.config.connections_per_address {
            0 => Ok(None),
            _ if self.is_trusted(address) => Ok(None),
            most => self.admission.claim(address, kind, most).map(Some).ok_or(Refused),
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.config
            .trusted_proxies
            .iter()
            .any(|network| network.contains(address))
    }
}

/// An address has as many connections as it may.
struct Refused;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCause;
    use crate::config::{Network, Overrides};
    use crate::metrics::Labels;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn doorman(change: impl FnOnce(&mut Config)) -> Doorman {
        let mut config = Config::demo(1, &Overrides::default());
        config.trusted_proxies = vec![Network::new(ip("10.0.0.0"), 8).unwrap()];
        change(&mut config);
        let labels = Labels {
            close_causes: &CloseCause::LABELS,
            api_routes: &[],
        };
        Doorman::new(
            Admission::new(),
            Arc::new(config),
            Arc::new(CoreMetrics::new("0", labels)),
        )
    }

    #[test]
    fn an_address_has_so_many_places_on_all_cores_together() {
        let one = doorman(|config| config.connections_per_address = 2);
        let other = Doorman::new(one.admission.clone(), one.config.clone(), one.metrics.clone());
        let places = (one.arrive(ip("192.0.2.1"), None), other.arrive(ip("192.0.2.1"), None));
        assert!(places.0.is_some() && places.1.is_some());
        assert!(one.arrive(ip("192.0.2.1"), None).is_none());
        assert!(other.arrive(ip("::ffff:192.0.2.1"), None).is_none());
        assert!(one.arrive(ip("192.0.2.2"), None).is_some());
        assert_eq!(one.metrics.value(Metric::RefusedAddress), 2);
        drop(places);
        assert!(one.arrive(ip("192.0.2.1"), None).is_some());
        let left: usize = one
            .admission
            .addresses
            .buckets
            .iter()
            .map(|b| b.lock().unwrap().len())
            .sum();
        assert_eq!(left, 0, "nothing is kept of addresses without connections");
    }

    #[test]
    fn ipv6_counts_by_64_bits() {
        let doorman = doorman(|config| config.connections_per_address = 1);
        let _first = doorman.arrive(ip("2001:db8:0:1::1"), None).unwrap();
        assert!(doorman.arrive(ip("2001:db8:0:1:ffff::2"), None).is_none());
        assert!(doorman.arrive(ip("2001:db8:0:2::1"), None).is_some());
    }

    #[test]
    fn where_a_client_comes_from_is_asked_of_the_nearest_that_is_believed() {
        let doorman = doorman(|_| {});
        let origin = |peer: &str, forwarded: &[u8]| {
            let peer = peer.parse::<SocketAddr>().ok();
            let origin = doorman.origin(0, || peer, Some(forwarded));
            origin.map(|origin| origin.to_string())
        };
        assert_eq!(origin("192.0.2.1:80", b"203.0.113.9").as_deref(), Some("192.0.2.1:80"));
        assert_eq!(origin("10.0.0.1:80", b"203.0.113.9").as_deref(), Some("203.0.113.9:0"));
        assert_eq!(origin("[::ffff:192.0.2.1]:80", b"").as_deref(), Some("192.0.2.1:80"));
        assert_eq!(origin("", b""), None);
    }

    #[test]
    fn the_number_of_an_address_is_that_of_the_client_behind_the_proxy() {
        let doorman = doorman(|_| {});
        let number = |peer: &str, forwarded: &[u8]| doorman.number(0, || Some(ip(peer)), Some(forwarded));
        let one = number("192.0.2.1", b"");
        assert!(one != 0 && one == number("10.0.0.1", b"6.6.6.6, 192.0.2.1"));
        assert_ne!(
            one,
            number("192.0.2.2", b"192.0.2.1"),
            "who is not trusted is not believed"
        );
        assert_eq!(number("2001:db8:0:1::1", b""), number("2001:db8:0:1:ffff::2", b""));
        assert_eq!(doorman.number(0, || None, None), 0);
    }

    #[test]
    fn behind_a_trusted_proxy_the_forwarded_address_counts() {
        let mut doorman = doorman(|config| config.connections_per_address = 1);
        for slot in 0..3 {
            let arrival = doorman.arrive(ip("10.0.0.1"), None).expect("proxies are not counted");
            doorman.settle(slot, arrival);
        }
        let peer = || Some(ip("10.0.0.1"));
        assert_eq!(doorman.admit(0, peer, Some(b"192.0.2.1")), Verdict::Welcome);
        assert_eq!(
            doorman.admit(1, peer, Some(b"6.6.6.6, 192.0.2.1")),
            Verdict::AddressFull
        );
        assert_eq!(doorman.admit(1, peer, Some(b"192.0.2.2")), Verdict::Welcome);
        assert_eq!(
            doorman.admit(0, peer, Some(b"192.0.2.1")),
            Verdict::Welcome,
            "the same one again"
        );
        assert_eq!(doorman.leave(0), None);
        assert_eq!(doorman.admit(2, peer, Some(b"192.0.2.1")), Verdict::Welcome);
        // Others may write what they like.
        let peer = || Some(ip("192.0.2.9"));
        for (slot, verdict) in [(3, Verdict::Welcome), (4, Verdict::AddressFull)] {
            let arrival = doorman.arrive(ip("192.0.2.9"), None).unwrap();
            doorman.settle(slot, arrival);
            assert_eq!(doorman.admit(slot, peer, Some(b"192.0.2.77")), verdict);
        }
    }

    #[test]
    fn what_a_proxy_header_told_counts_and_is_kept() {
        let mut doorman = doorman(|config| {
            config.connections_per_address = 1;
            config.proxy_protocol = true;
        });
        assert!(doorman.expects_header(ip("10.0.0.1")) && !doorman.expects_header(ip("192.0.2.1")));
        let arrival = doorman.arrive(ip("10.0.0.1"), Some(ip("192.0.2.1"))).unwrap();
        doorman.settle(7, arrival);
        assert!(doorman.arrive(ip("10.0.0.1"), Some(ip("192.0.2.1"))).is_none());
        assert_eq!(doorman.admit(7, || unreachable!(), None), Verdict::Welcome);
        let arrival = doorman.arrive(ip("10.0.0.1"), Some(ip("192.0.2.1"))).unwrap();
        doorman.settle(8, arrival);
        assert_eq!(doorman.admit(8, || unreachable!(), None), Verdict::AddressFull);
        assert_eq!(doorman.leave(7), Some(ip("192.0.2.1")));
        assert_eq!(doorman.admit(8, || unreachable!(), None), Verdict::Welcome);
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let mut doorman = doorman(|_| {});
        let arrival = doorman.arrive(ip("192.0.2.1"), None).unwrap();
        doorman.settle(1, arrival);
        assert!(doorman.arrivals.is_empty());
        doorman.reload(Arc::new(Config {
            memory_max: 1,
            ..(*doorman.config).clone()
        }));
        assert_eq!(doorman.admit(1, || None, None), Verdict::MemoryShort);
    }
}
