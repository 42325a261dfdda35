//! The memory that request bodies take while they are received, and who gives way when it is used up.
//!
//! Where the signature covers the body it is held before anybody can know who sends it. So bodies are told apart by what is known
//! ([`Standing`]): strangers may have half of `api_bodies_max`, and whoever needs room takes it from those below. Among strangers
//! the address that holds most gives way, with its oldest body: a body that trickles is older than one that is sent. One that finds
//! nobody to give way is refused. What is alone may be as long as `api_body_max`.
//!
//! A body that gives way is not counted from that moment on; its task wakes up and lets go of it. Caller: `http/body.rs`.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use hashbrown::HashMap;
use slab::Slab;

use crate::budget::{CHUNK, Claim, Rank, Use, is_short};

/// Strangers have one part in so many.
const STRANGERS_PART: usize = 2;

/// What is known of a caller before its body has come; who gives way to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing.
    Stranger,
    /// It is on this machine.
    Local,
    /// It knows the secret: the head of the call was signed, or an earlier call of the connection.
    Proven,
}

/// All bodies being received.
#[derive(Default)]
pub struct Bodies {
    bodies: RefCell<Slab<Rc<Body>>>,
    /// Bytes of all of them.
    held: Cell<usize>,
    /// Of these, of strangers.
    strangers: Cell<usize>,
    begun: Cell<u64>,
}

struct Body {
    standing: Standing,
    /// Whom it is counted with; none: this machine and its proxies.
    address: Option<IpAddr>,
    /// Lower ones are older.
    number: u64,
    bytes: Cell<usize>,
    gave_way: Cell<bool>,
    task: Cell<Option<Waker>>,
}

/// What one of them takes; given back when dropped.
pub struct Share<'a> {
    all: &'a Bodies,
    key: usize,
    body: Rc<Body>,
    claim: Claim,
}

impl Bodies {
    /// A body begins, of a caller at `address`.
    pub fn begin(&self, standing: Standing, address: Option<IpAddr>) -> Share<'_> {
        let number = self.begun.replace(self.begun.get() + 1);
        let body = Rc::new(Body {
            standing,
            address,
            number,
            bytes: Cell::new(0),
            gave_way: Cell::new(false),
            task: Cell::new(None),
        });
        Share {
            all: self,
            key: self.bodies.borrow_mut().insert(body.clone()),
            body,
            claim: Claim::new(Use::Bodies),
        }
    }

    /// A body has `bytes` from now on.
    fn count(&self, body: &Body, bytes: usize) {
        let before = body.bytes.replace(bytes);
        let change = |sum: &Cell<usize>| sum.set(sum.get().saturating_sub(before) + bytes);
        change(&self.held);
        if body.standing == Standing::Stranger {
            change(&self.strangers);
        }
    }

    /// Whether a body is within what its kind may have of `most`, or alone.
    fn has_room(&self, body: &Body, most: usize) -> bool {
        let within = |sum: usize, most: usize| sum <= most || sum == body.bytes.get();
        let is_stranger = body.standing == Standing::Stranger;
        within(self.held.get(), most) && (!is_stranger || within(self.strangers.get(), most / STRANGERS_PART))
    }

    /// Who gives way to `body`: maybe itself, if it is a stranger's.
    fn victim(&self, body: &Body) -> Option<Rc<Body>> {
        let bodies = self.bodies.borrow();
        let gives_way = |other: &Body| {
            let is_below = other.standing < body.standing;
            (is_below || (other.standing, body.standing) == (Standing::Stranger, Standing::Stranger))
                && other.bytes.get() > 0
        };
        let candidates = || bodies.iter().map(|(_, body)| body).filter(|other| gives_way(other));
        let mut by_address: HashMap<_, usize> = HashMap::new();
        for other in candidates() {
            *by_address.entry((other.standing, other.address)).or_default() += other.bytes.get();
        }
        let rank = |other: &Body| {
            let of_address = by_address.get(&(other.standing, other.address));
            (other.standing, Reverse(of_address.copied()), other.number)
        };
        candidates().min_by_key(|other| rank(other)).cloned()
    }
}

impl Share<'_> {
    /// The body has `bytes` by now. False: it cannot have them, as there is no room for it, or memory is short.
    #[must_use]
    pub fn grow(&mut self, bytes: usize, most: usize) -> bool {
        let body = &self.body;
        if body.gave_way.get() {
            return false;
        }
        self.claim.set(bytes);
        self.all.count(body, bytes);
        let rank = match body.standing {
            Standing::Proven => Rank::Begun,
            Standing::Local | Standing::Stranger => Rank::Stranger,
        };
        if bytes >= CHUNK && is_short(rank) {
            return false;
        }
        while !self.all.has_room(body, most) {
            match self.all.victim(body) {
                Some(other) if !Rc::ptr_eq(&other, body) => other.give_way(self.all),
                _ => return false,
            }
        }
        true
    }

    /// Waits for `next`, at most until the body has to give way: then `None`.
    pub async fn unless_it_gives_way<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        let mut next = pin!(next);
        poll_fn(|context| {
            if self.body.gave_way.get() {
                return Poll::Ready(None);
            }
            self.body.task.set(Some(context.waker().clone()));
            next.as_mut().poll(context).map(Some)
        })
        .await
    }
}

impl Body {
    fn give_way(&self, all: &Bodies) {
        all.count(self, 0);
        self.gave_way.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.count(&self.body, 0);
        self.all.bodies.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Local, Proven, Stranger};
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Context, Wake};

    /// An address of a stranger.
    fn from(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn gave_way(share: &Share<'_>) -> bool {
        share.body.gave_way.get()
    }

    #[test]
    fn all_together_are_bounded_and_one_alone_is_not() {
        for standing in [Stranger, Local, Proven] {
            let all = Bodies::default();
            let (mut one, mut other) = (all.begin(standing, from(1)), all.begin(standing, from(1)));
            assert!(one.grow(1000, 100), "alone");
            assert!(other.grow(0, 1000));
            drop(one);
            assert!(other.grow(500, 100), "alone now");
            drop(other);
            assert_eq!(
                (all.held.get(), all.strangers.get(), all.bodies.borrow().len()),
                (0, 0, 0)
            );
        }
    }

    #[test]
    fn equals_that_are_known_are_refused_where_there_is_no_room() {
        for standing in [Local, Proven] {
            let all = Bodies::default();
            let (mut one, mut other) = (all.begin(standing, None), all.begin(standing, None));
            assert!(one.grow(600, 1000) && other.grow(400, 1000));
            assert!(!other.grow(401, 1000));
            assert!(!gave_way(&one) && !gave_way(&other));
        }
    }

    #[test]
    fn strangers_have_half_and_their_oldest_gives_way() {
        let all = Bodies::default();
        let mut old = all.begin(Stranger, from(1));
        let mut young = all.begin(Stranger, from(1));
        let mut next = all.begin(Stranger, from(1));
        assert!(old.grow(200, 1000) && young.grow(300, 1000));
        assert!(next.grow(1, 1000));
        assert!(gave_way(&old) && !gave_way(&young), "the oldest");
        assert!(!old.grow(201, 1000), "it is over");
        assert!(!young.grow(500, 1000), "it is the oldest now");
        assert!(!gave_way(&next));
    }

    #[test]
    fn the_address_that_holds_most_gives_way() {
        let all = Bodies::default();
        let mut honest = all.begin(Stranger, from(9));
        assert!(honest.grow(100, 1000), "the oldest of all");
        let mut attack: Vec<_> = (0..40).map(|n| all.begin(Stranger, from(n % 2))).collect();
        for share in &mut attack {
            assert!(share.grow(50, 1000));
        }
        let left = attack.iter().filter(|share| !gave_way(share)).count();
        assert!(!gave_way(&honest) && left == 8, "{left}");
        assert!(honest.grow(150, 1000));
        assert!(!honest.grow(400, 1000), "then it holds most itself");
    }

    #[test]
    fn who_needs_room_takes_it_from_those_below() {
        let all = Bodies::default();
        let (mut stranger, mut local) = (all.begin(Stranger, from(1)), all.begin(Local, None));
        let (mut proven, mut other) = (all.begin(Proven, from(2)), all.begin(Proven, from(3)));
        assert!(stranger.grow(500, 1000) && local.grow(500, 1000));
        assert!(proven.grow(500, 1000));
        assert!(gave_way(&stranger) && !gave_way(&local), "the lowest first");
        assert!(other.grow(500, 1000));
        assert!(gave_way(&local) && !gave_way(&proven));
        let mut stranger = all.begin(Stranger, from(1));
        assert!(!stranger.grow(1, 1000), "they give way to nobody below");
        assert!(!other.grow(501, 1000), "nor to each other");
    }

    #[test]
    fn who_gives_way_is_woken() {
        #[derive(Default)]
        struct Bell(AtomicBool);
        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Relaxed);
            }
        }
        let (all, bell) = (Bodies::default(), Arc::new(Bell::default()));
        let waker = Waker::from(bell.clone());
        let mut context = Context::from_waker(&waker);
        let mut stranger = all.begin(Stranger, from(1));
        assert!(stranger.grow(500, 1000));
        let mut done = pin!(stranger.unless_it_gives_way(std::future::ready(7)));
        assert_eq!(done.as_mut().poll(&mut context), Poll::Ready(Some(7)));
        let mut waits = pin!(stranger.unless_it_gives_way(std::future::pending::<()>()));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        let mut proven = all.begin(Proven, None);
        assert!(proven.grow(400, 1000));
        assert!(!bell.0.load(Relaxed), "there is room");
        assert!(proven.grow(600, 1000));
        assert!(bell.0.load(Relaxed));
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Ready(None));
    }
}
