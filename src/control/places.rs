//! Who holds a connection to the HTTP interface, and who gives way.
//!
//! Bounds: `api_connections` in all, `api_connections_per_address` of one address. One place in [`RESERVED_SHARE`] is for
//! *known* callers: connections from this machine, and those whose request is signed. When there is no room, the connection of
//! a stranger that has waited longest for its next request is closed for the new one; for a known caller also the
//! stranger's that has been sending its request for longest. Known callers give way to nobody. Who finds no place is answered
//! 503, and counts no more. A stranger becomes known with its first good signature.
//!
//! Who does not send (or take) bytes in time is cut off by one sweep per second, so that no connection holds a timer;
//! without connections it rests. Caller: `http.rs`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use slab::Slab;

use super::callers::Caller;
use crate::config::Config;
use crate::io::stream::Plug;
use crate::time::Instant;

/// Every so many places one is for known callers.
const RESERVED_SHARE: usize = 8;

/// All connections of the interface.
#[derive(Default)]
pub struct Places {
    watches: RefCell<Slab<Rc<Watch>>>,
    /// Places taken.
    taken: Cell<usize>,
    /// Of them by address, where that is bounded.
    addresses: RefCell<HashMap<IpAddr, usize>>,
    /// The sweep runs.
    pub sweeping: Cell<bool>,
}

/// One connection.
pub struct Watch {
    plug: Plug,
    /// The other end.
    pub caller: Caller,
    /// When to cut it off; `None` while its request is being answered.
    pub deadline: Cell<Option<Instant>>,
    phase: Cell<Phase>,
    /// When the phase began.
    since: Cell<Instant>,
    /// It holds a place; with it, its address if that is counted.
    place: Cell<Option<Option<IpAddr>>>,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a request has been received, or it was answered.
    Idle,
    /// The body of a request is coming.
    Receiving,
    /// A request is being answered.
    Answering,
    /// It is over.
    Leaving,
}

/// Why a connection finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are `api_connections`, or as many as strangers may have.
    All,
    /// There are `api_connections_per_address`.
    Address,
}

impl Watch {
    /// A connection that begins.
    pub fn new(plug: Plug, caller: Caller, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            plug,
            caller,
            deadline: Cell::new(None),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            place: Cell::new(None),
        })
    }

    /// The connection goes on to something else.
    pub fn enter(&self, phase: Phase, now: Instant) {
        if self.phase.get() != Phase::Leaving {
            self.phase.set(phase);
            self.since.set(now);
        }
    }

    /// Ends the connection.
    pub fn cut(&self) {
        self.plug.pull();
    }

    /// What it is about now.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn is_stranger(&self, phase: Phase) -> bool {
        self.phase.get() == phase && self.place.get().is_some() && !self.caller.is_known()
    }
}

impl Places {
    /// A connection begins, without a place yet. Returns its key.
    pub fn enter(&self, watch: Rc<Watch>) -> usize {
        self.watches.borrow_mut().insert(watch)
    }

    /// A connection has ended.
    pub fn leave(&self, key: usize) {
        let watch = self.watches.borrow_mut().remove(key);
        self.release(&watch);
    }

    /// Connections that are there, with and without a place.
    pub fn len(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Connections without a place: they were refused, or gave theirs up, and are about to end.
    pub fn leaving(&self) -> usize {
        self.len().saturating_sub(self.taken.get())
    }

    /// No request is waiting for its answer.
    pub fn all_answered(&self) -> bool {
        let is_over = |phase| matches!(phase, Phase::Idle | Phase::Leaving);
        self.watches
            .borrow()
            .iter()
            .all(|(_, watch)| is_over(watch.phase.get()))
    }

    /// Looks for a place. `signs`: whether its first request is signed, as far as can be seen; asked only when it matters.
    /// Returns the connection that has to be cut for it, if one has to.
    pub fn admit(
        &self,
        watch: &Watch,
        config: &Config,
        signs: impl FnOnce() -> bool,
    ) -> Result<Option<Rc<Watch>>, Full> {
        let address = watch
            .caller
            .counted()
            .filter(|_| config.api_connections_per_address > 0);
        let of_address = address.and_then(|address| self.addresses.borrow().get(&address).copied());
        let most = config.api_connections;
        let mut victim = None;
        if of_address.is_some_and(|count| count >= config.api_connections_per_address) {
            let same = |other: &Watch| other.is_stranger(Phase::Idle) && other.place.get() == Some(address);
            victim = Some(self.longest(same).ok_or(Full::Address)?);
        } else if self.taken.get() >= most - most / RESERVED_SHARE {
            let is_known = watch.caller.is_known() || signs();
            if !is_known || self.taken.get() >= most {
                let idle = self.longest(|other| other.is_stranger(Phase::Idle));
                let sending = || {
                    self.longest(|other| other.is_stranger(Phase::Receiving))
                        .filter(|_| is_known)
                };
                victim = Some(idle.or_else(sending).ok_or(Full::All)?);
            }
        }
        if let Some(victim) = &victim {
            victim.phase.set(Phase::Leaving);
            self.release(victim);
        }
        watch.place.set(Some(address));
        self.taken.set(self.taken.get() + 1);
        if let Some(address) = address {
            *self.addresses.borrow_mut().entry(address).or_default() += 1;
        }
        Ok(victim)
    }

    /// Calls `cut` for those whose time is over. False: there is nobody at all.
    pub fn sweep(&self, now: Instant, cut: impl Fn(&Watch)) -> bool {
        for (_, watch) in self.watches.borrow().iter() {
            if watch.deadline.get().is_some_and(|deadline| deadline <= now) {
                cut(watch);
            }
        }
        !self.watches.borrow().is_empty()
    }

    /// Of those that may give way the one that has been at it for longest.
    fn longest(&self, may: impl Fn(&Watch) -> bool) -> Option<Rc<Watch>> {
        let watches = self.watches.borrow();
        let all = watches.iter().map(|(_, watch)| watch);
        all.filter(|watch| may(watch))
            .min_by_key(|watch| watch.since.get())
            .cloned()
    }

    fn release(&self, watch: &Watch) {
        let Some(address) = watch.place.take() else { return };
        self.taken.set(self.taken.get().saturating_sub(1));
        let Some(address) = address else { return };
        let mut addresses = self.addresses.borrow_mut();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::time::Duration;

    struct Room {
        places: Places,
        config: Config,
        clock: Cell<Instant>,
        came: RefCell<Vec<(u32, Rc<Watch>)>>,
    }

    impl Room {
        fn new(most: usize, of_address: usize) -> Self {
            let mut config = Config::demo(1, &Overrides::default());
            config.api_connections = most;
            config.api_connections_per_address = of_address;
            Self {
                places: Places::default(),
                config,
                clock: Cell::new(Instant::ZERO),
                came: RefCell::default(),
            }
        }

        /// A connection comes, with a number; which one gives way to it?
        fn come(&self, number: u32, address: &str, signs: bool) -> (Rc<Watch>, Result<Option<u32>, Full>) {
            self.clock.set(self.clock.get() + Duration::from_secs(1));
            let caller = Caller::new(address.parse().ok(), &self.config);
            let watch = Watch::new(Plug::default(), caller, self.clock.get());
            self.places.enter(watch.clone());
            self.came.borrow_mut().push((number, watch.clone()));
            let verdict = self.places.admit(&watch, &self.config, || signs);
            (watch, verdict.map(|victim| victim.map(|victim| self.number(&victim))))
        }

        fn number(&self, watch: &Rc<Watch>) -> u32 {
            let came = self.came.borrow();
            came.iter()
                .find(|(_, other)| Rc::ptr_eq(other, watch))
                .expect("it came")
                .0
        }
    }

    const STRANGER: &str = "192.0.2.1";

    #[test]
    fn strangers_leave_room_and_known_callers_give_way_to_nobody() {
        let room = Room::new(16, 0);
        let strangers: Vec<_> = (0..14).map(|number| room.come(number, STRANGER, false)).collect();
        assert!(strangers.iter().all(|(_, verdict)| *verdict == Ok(None)));
        for (watch, _) in &strangers[1..] {
            watch.enter(Phase::Answering, room.clock.get());
        }
        assert_eq!(room.come(14, STRANGER, false).1, Ok(Some(0)), "the idle one gives way");
        let (sending, _) = &strangers[1];
        sending.enter(Phase::Receiving, room.clock.get());
        room.came.borrow()[14].1.enter(Phase::Answering, room.clock.get());
        assert_eq!(room.come(15, STRANGER, false).1, Err(Full::All), "nobody is idle");
        assert_eq!(
            room.come(16, "127.0.0.1", false).1,
            Ok(None),
            "places are kept for this machine"
        );
        assert_eq!(room.come(17, STRANGER, true).1, Ok(None), "and for those who sign");
        assert_eq!(
            room.come(18, STRANGER, true).1,
            Ok(Some(17)),
            "who has not shown it is a stranger yet"
        );
        let (local, verdict) = room.come(19, "::1", false);
        assert_eq!(verdict, Ok(Some(18)));
        assert_eq!(room.come(20, "::1", false).1, Ok(Some(1)), "then those who are sending");
        assert_eq!(room.come(21, "::1", false).1, Err(Full::All));
        local.enter(Phase::Idle, room.clock.get());
        assert_eq!(room.come(22, "::1", true).1, Err(Full::All), "also when they are idle");
    }

    #[test]
    fn one_address_has_so_many() {
        let room = Room::new(100, 2);
        let (first, _) = room.come(1, "2001:db8::1", false);
        let (second, _) = room.come(2, "2001:db8::2", false);
        assert_eq!(
            room.come(3, "2001:db8::3", false).1,
            Ok(Some(1)),
            "its own idle one gives way"
        );
        second.enter(Phase::Answering, room.clock.get());
        let (third, verdict) = room.come(4, "2001:db8::4", false);
        assert_eq!(verdict, Ok(Some(3)));
        third.enter(Phase::Answering, room.clock.get());
        assert_eq!(room.come(5, "2001:db8::5", true).1, Err(Full::Address));
        assert_eq!(room.come(6, "2001:db8:0:1::1", false).1, Ok(None), "another /64");
        for number in 7..17 {
            assert_eq!(
                room.come(number, "127.0.0.1", false).1,
                Ok(None),
                "this machine is not counted"
            );
        }
        drop(first);
        let all: Vec<usize> = room.places.watches.borrow().iter().map(|(key, _)| key).collect();
        all.into_iter().for_each(|key| room.places.leave(key));
        assert_eq!((room.places.taken.get(), room.places.addresses.borrow().len()), (0, 0));
    }

    #[test]
    fn a_proxy_on_this_machine_speaks_for_strangers() {
        let mut room = Room::new(8, 1);
        room.config.trusted_proxies = vec![crate::config::Network::new("127.0.0.0".parse().unwrap(), 8).unwrap()];
        for number in 0..7 {
            assert_eq!(room.come(number, "127.0.0.1", false).1, Ok(None), "it is not counted");
        }
        assert_eq!(room.come(7, "127.0.0.1", false).1, Ok(Some(0)));
        assert_eq!(room.come(8, "127.0.0.1", true).1, Ok(None));
    }
}
