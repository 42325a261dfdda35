//! Who may have a TLS handshake under way: `tls_handshakes` places of a core, shared out by address.
//!
//! ```text
//!   first byte ──▶ a place is free ──▶ held ──▶ done, failed, gone
//!                  none is ──▶ waits ──▶ held        │
//!                                 ▲   the heaviest address gives up its oldest
//! ```
//! Rules:
//! - A free place goes to the waiting address that holds fewest; among equals, first come, first served.
//! - If an address waits that holds fewer places than the one that holds most, the oldest handshake of that one is ended for it,
//!   once it is older than [`GRACE`]. So whoever begins handshakes and does not finish them takes places from himself, and
//!   everybody else waits [`GRACE`] at most. Who holds as many as anybody gets nobody ended.
//! - IPv6 addresses count by their /64. The address is the one a PROXY header told, if there was one.
//!
//! Bound: places by `tls_handshakes`, waiting ones by `handshakes_max` and `handshake_timeout`; each costs a few words. Every
//! step costs the logarithm of that. Pure; caller: `io/sockets.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::engine::ids::ClientId;
use crate::io::admission::counted;
use crate::time::{Duration, Instant};

/// Time a handshake has before it may be ended for another address: three round trips of half a second on a bad line, or one
/// and a packet sent again. The rest of `handshake_timeout` it has as long as nobody needs its place.
pub const GRACE: Duration = Duration::from_millis(1500);

/// What has to be done about a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has a place now.
    Begin(ClientId),
    /// It has lost its place to somebody else: end it.
    End(ClientId),
}

/// Places of one core.
#[derive(Debug)]
pub struct Places {
    most: usize,
    held: usize,
    handshakes: HashMap<ClientId, Handshake>,
    sources: HashMap<IpAddr, Source>,
    /// Addresses that wait, lightest first: places held, when the first of them came.
    waiting: BTreeSet<(usize, u64, IpAddr)>,
    /// Addresses that hold places, heaviest last: places held, when the oldest of them came.
    holding: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    /// Handshakes so far: their order.
    came: u64,
}

#[derive(Clone, Copy, Debug)]
struct Handshake {
    address: IpAddr,
    number: u64,
}

/// Handshakes of one address in the order of coming.
#[derive(Debug, Default)]
struct Source {
    held: BTreeMap<u64, (ClientId, Instant)>,
    waiting: BTreeMap<u64, ClientId>,
}

impl Places {
    /// So many places, all of them free.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: 0,
            handshakes: HashMap::new(),
            sources: HashMap::new(),
            waiting: BTreeSet::new(),
            holding: BTreeSet::new(),
            came: 0,
        }
    }

    /// Places that are taken.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether whoever comes now has to wait.
    pub fn are_taken(&self) -> bool {
        self.held >= self.most
    }

    /// There are so many from now on. Nobody is ended for that.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// A handshake begins while a place is free.
    pub fn take(&mut self, client: ClientId, address: IpAddr, now: Instant) {
        let handshake = self.come(client, address);
        self.change(handshake.address, |source| {
            source.held.insert(handshake.number, (client, now));
        });
        self.held += 1;
    }

    /// A handshake wants to begin while none is; see [`Places::next`].
    pub fn wait(&mut self, client: ClientId, address: IpAddr) {
        let handshake = self.come(client, address);
        self.change(handshake.address, |source| {
            source.waiting.insert(handshake.number, client);
        });
    }

    /// A handshake is over, or waits no longer.
    pub fn leave(&mut self, client: ClientId) {
        let Some(handshake) = self.handshakes.remove(&client) else {
            return;
        };
        let mut held = false;
        self.change(handshake.address, |source| {
            held = source.held.remove(&handshake.number).is_some();
            source.waiting.remove(&handshake.number);
        });
        self.held -= usize::from(held);
    }

    /// What has to be done now. Call it until there is nothing, after each change and when [`Places::next_at`] has come.
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        let (lightest, _, address) = *self.waiting.first()?;
        if !self.are_taken() {
            return self.begin(address, now).map(Step::Begin);
        }
        let (client, since) = self.to_be_ended(lightest)?;
        if since + GRACE > now {
            return None;
        }
        self.leave(client);
        Some(Step::End(client))
    }

    /// When somebody may have to be ended.
    pub fn next_at(&self) -> Option<Instant> {
        let (lightest, ..) = self.waiting.first()?;
        let (_, since) = self.to_be_ended(*lightest)?;
        Some(since + GRACE)
    }

    /// Whose place an address could have that holds `lightest`, and since when it is held.
    fn to_be_ended(&self, lightest: usize) -> Option<(ClientId, Instant)> {
        let (most, _, heaviest) = self.holding.last()?;
        // Where there are fewer places than before, those too many end by themselves.
        let may_be = *most > lightest && self.held <= self.most;
        let (_, oldest) = self.sources.get(heaviest)?.held.first_key_value()?;
        may_be.then_some(*oldest)
    }

    /// The first that waits of an address gets a place.
    fn begin(&mut self, address: IpAddr, now: Instant) -> Option<ClientId> {
        let mut begun = None;
        self.change(address, |source| {
            if let Some((number, client)) = source.waiting.pop_first() {
                source.held.insert(number, (client, now));
                begun = Some(client);
            }
        });
        self.held += usize::from(begun.is_some());
        begun
    }

    fn come(&mut self, client: ClientId, address: IpAddr) -> Handshake {
        self.came += 1;
        let handshake = Handshake {
            address: counted(address),
            number: self.came,
        };
        self.handshakes.insert(client, handshake);
        handshake
    }

    /// Changes what an address holds, and its rank.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Source)) {
        let source = self.sources.entry(address).or_default();
        if let Some(rank) = source.rank_waiting(address) {
            self.waiting.remove(&rank);
        }
        if let Some(rank) = source.rank_holding(address) {
            self.holding.remove(&rank);
        }
        change(source);
        self.waiting.extend(source.rank_waiting(address));
        self.holding.extend(source.rank_holding(address));
        if source.held.is_empty() && source.waiting.is_empty() {
            self.sources.remove(&address);
        }
    }
}

impl Source {
    fn rank_waiting(&self, address: IpAddr) -> Option<(usize, u64, IpAddr)> {
        let (first, _) = self.waiting.first_key_value()?;
        Some((self.held.len(), *first, address))
    }

    fn rank_holding(&self, address: IpAddr) -> Option<(usize, Reverse<u64>, IpAddr)> {
        let (oldest, _) = self.held.first_key_value()?;
        Some((self.held.len(), Reverse(*oldest), address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::ids::ShardId;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(slot: u32) -> ClientId {
        ClientId {
            shard: ShardId(0),
            slot,
            generation: 1,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    struct Rig {
        places: Places,
        now: Instant,
    }

    impl Rig {
        fn new(most: usize) -> Self {
            Self {
                places: Places::new(most),
                now: Instant::ZERO,
            }
        }

        /// A handshake of an address wants to begin; who gets a place, or loses his, for it.
        fn come(&mut self, slot: u32, address: &str) -> Vec<Step> {
            if self.places.are_taken() {
                self.places.wait(client(slot), ip(address));
            } else {
                self.places.take(client(slot), ip(address), self.now);
            }
            self.steps()
        }

        fn leave(&mut self, slot: u32) -> Vec<Step> {
            self.places.leave(client(slot));
            self.steps()
        }

        fn pass(&mut self, span: Duration) -> Vec<Step> {
            self.now = self.now + span;
            self.steps()
        }

        fn steps(&mut self) -> Vec<Step> {
            std::iter::from_fn(|| self.places.next(self.now)).collect()
        }
    }

    #[test]
    fn the_heaviest_address_gives_way_to_lighter_ones_only() {
        let mut rig = Rig::new(3);
        for slot in 0..3 {
            assert_eq!(rig.come(slot, "192.0.2.1"), []);
        }
        assert_eq!(rig.pass(10 * SECOND), []);
        assert_eq!(rig.come(3, "192.0.2.1"), [], "it has most itself");
        let swapped = [Step::End(client(0)), Step::Begin(client(4))];
        assert_eq!(
            rig.come(4, "192.0.2.2"),
            swapped,
            "the oldest one goes, the newcomer comes"
        );
        let swapped = [Step::End(client(1)), Step::Begin(client(5))];
        assert_eq!(rig.come(5, "192.0.2.3"), swapped);
        assert_eq!(rig.come(6, "192.0.2.2"), [], "everybody has one");
        assert_eq!(rig.places.held(), 3);
        assert_eq!(
            rig.leave(4),
            [Step::Begin(client(6))],
            "who holds none comes before who waits for longer"
        );
        assert_eq!(rig.leave(2), [Step::Begin(client(3))]);
    }

    #[test]
    fn nobody_is_ended_before_its_grace_is_over() {
        let mut rig = Rig::new(2);
        assert_eq!((rig.come(0, "192.0.2.1"), rig.pass(SECOND)), (vec![], vec![]));
        assert_eq!(rig.come(1, "192.0.2.1"), []);
        assert_eq!(rig.places.next_at(), None, "nobody waits");
        assert_eq!(rig.come(2, "192.0.2.2"), []);
        assert_eq!(rig.places.next_at(), Some(Instant::ZERO + GRACE));
        let swapped = [Step::End(client(0)), Step::Begin(client(2))];
        assert_eq!(rig.pass(GRACE - SECOND), swapped);
        assert_eq!(rig.places.next_at(), None);
        rig.places.leave(client(0));
        assert_eq!(rig.places.held(), 2, "it has left already");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut rig = Rig::new(2);
        assert_eq!(
            (rig.come(0, "2001:db8::1"), rig.come(1, "2001:db8::2")),
            (vec![], vec![])
        );
        assert_eq!((rig.come(2, "2001:db8::3"), rig.pass(10 * SECOND)), (vec![], vec![]));
        let swapped = [Step::End(client(0)), Step::Begin(client(3))];
        assert_eq!(rig.come(3, "2001:db8:0:1::1"), swapped);
    }

    #[test]
    fn fewer_places_end_nobody_and_more_are_given_away() {
        let mut rig = Rig::new(3);
        (0..3).for_each(|slot| assert_eq!(rig.come(slot, "192.0.2.1"), []));
        rig.places.set_most(1);
        assert_eq!((rig.come(3, "192.0.2.2"), rig.pass(10 * SECOND)), (vec![], vec![]));
        assert_eq!(
            (rig.leave(0), rig.leave(1)),
            (vec![], vec![Step::End(client(2)), Step::Begin(client(3))])
        );
        assert_eq!(rig.come(4, "192.0.2.2"), []);
        rig.places.set_most(2);
        assert_eq!(rig.steps(), [Step::Begin(client(4))]);
    }

    proptest! {
        /// No place is lost or given twice, and while somebody waits all are taken; whoever waits and holds fewer than another
        /// waits for a grace at most.
        #[test]
        fn places_are_kept(most in 1..5usize, steps in prop::collection::vec((0..4u8, 0..6u8, 0..40u32), 0..200)) {
            let mut rig = Rig::new(most);
            let (mut held, mut waits) = (BTreeMap::<u32, u8>::new(), BTreeMap::<u32, u8>::new());
            let (mut slot, mut all) = (0, Vec::new());
            for (step, address, number) in steps {
                let had_room = held.len() < most;
                let came = match step {
                    0 | 1 => {
                        slot += 1;
                        all.push(slot);
                        if had_room { held.insert(slot, address) } else { waits.insert(slot, address) };
                        rig.come(slot, &format!("192.0.2.{address}"))
                    }
                    2 if !all.is_empty() => {
                        let gone = all.swap_remove(number as usize % all.len());
                        held.remove(&gone);
                        waits.remove(&gone);
                        rig.leave(gone)
                    }
                    _ => rig.pass(Duration::from_millis(u64::from(number) * 50)),
                };
                for step in came {
                    match step {
                        Step::Begin(client) => {
                            let address = waits.remove(&client.slot);
                            prop_assert!(address.is_some(), "{client:?} did not wait");
                            held.extend(address.map(|address| (client.slot, address)));
                        }
                        Step::End(client) => prop_assert!(held.remove(&client.slot).is_some(), "{client:?} held none"),
                    }
                }
                prop_assert_eq!(rig.places.held(), held.len());
                prop_assert!(held.len() <= most && (waits.is_empty() || held.len() == most));
                let holds = |address: u8| held.values().filter(|of| **of == address).count();
                let lightest = waits.values().map(|address| holds(*address)).min();
                let heaviest = held.values().map(|address| holds(*address)).max();
                let is_unfair = lightest < heaviest && lightest.is_some();
                prop_assert_eq!(rig.places.next_at().is_some(), is_unfair);
                prop_assert!(rig.places.next_at().is_none_or(|at| at > rig.now));
            }
        }
    }
}
