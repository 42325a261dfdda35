//! Requests to peers wait here for their turn, per peer, so that one that hangs costs a bounded number of sockets and
//! bytes, and delays nobody else.
//!
//! * At most [`RUNNING_MAX`] requests to one peer run at a time; the others wait in the order of their arrival.
//! * Requests of one lane run one after the other, unless they leave it while they run ([`Pass::leave_lane`]). A lane is what
//!   must stay in order: the publishes of a channel. Callers of QoS 0 do not wait for peers; what they publish next could
//!   overtake on another connection.
//! * At most [`WAITING_MAX`] requests and about [`WAITING_BYTES_MAX`] bytes wait per peer; further ones are refused.
//!
//! A wait may be dropped at any moment. Called by [`super::Servers::ask`]. The bounds are ours: the original lets ten
//! requests run in all, and any number wait (spec: section 4).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

/// Requests to one peer at a time. Above QoS 0 each may take as long as its callers' clients need to acknowledge; each holds
/// a socket.
pub(super) const RUNNING_MAX: usize = 256;
/// Requests that wait for one peer.
pub(super) const WAITING_MAX: usize = 8192;
/// Bytes of bodies that wait for one peer; the last one may go beyond it.
pub(super) const WAITING_BYTES_MAX: usize = 64 << 20;

/// What must stay in order.
pub(super) type Lane = u64;

/// The queues of all peers.
#[derive(Default)]
pub(super) struct Queue(RefCell<HashMap<SocketAddr, Line, RandomState>>);

/// One peer's queue. Exists while a request to it runs.
#[derive(Default)]
struct Line {
    running: usize,
    busy: HashSet<Lane, RandomState>,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    next: u64,
}

struct Waiting {
    lane: Option<Lane>,
    bytes: usize,
    turn: Rc<Turn>,
}

/// Where a waiting request finds its pass. If nobody is there any more, the pass is dropped and goes on to the next.
#[derive(Default)]
struct Turn {
    pass: Cell<Option<Pass>>,
    waker: Cell<Option<Waker>>,
}

/// A request that waits.
struct Place {
    queue: Rc<Queue>,
    peer: SocketAddr,
    ticket: u64,
    turn: Rc<Turn>,
}

/// The right to run one request; dropping it lets the next one run.
pub(super) struct Pass {
    queue: Rc<Queue>,
    peer: SocketAddr,
    lane: Option<Lane>,
}

/// Too much waits for this peer already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// Waits for the turn of a request with a body of `bytes`. Errors: too much waits already.
    pub(super) async fn enter(
        self: &Rc<Self>,
        peer: SocketAddr,
        lane: Option<Lane>,
        bytes: usize,
    ) -> Result<Pass, Full> {
        let place = {
            let mut lines = self.0.borrow_mut();
            let line = lines.entry(peer).or_default();
            if line.can_run(lane) {
                line.run(lane);
                return Ok(self.pass(peer, lane));
            }
            let (ticket, turn) = line.wait(lane, bytes).ok_or(Full)?;
            let queue = self.clone();
            Place {
                queue,
                peer,
                ticket,
                turn,
            }
        };
        Ok(poll_fn(|context| place.turn.poll(context)).await)
    }

    /// Gives up one thing, a lane or a place: enough for one other request at most.
    fn release(self: &Rc<Self>, peer: SocketAddr, give_up: impl FnOnce(&mut Line)) {
        let next = {
            let mut lines = self.0.borrow_mut();
            let Some(line) = lines.get_mut(&peer) else {
                return;
            };
            give_up(line);
            let next = line.next();
            if line.running == 0 {
                lines.remove(&peer);
            }
            next
        };
        if let Some(Waiting { lane, turn, .. }) = next {
            turn.give(self.pass(peer, lane));
        }
    }

    fn pass(self: &Rc<Self>, peer: SocketAddr, lane: Option<Lane>) -> Pass {
        let queue = self.clone();
        Pass { queue, peer, lane }
    }
}

impl Line {
    fn can_run(&self, lane: Option<Lane>) -> bool {
        self.running < RUNNING_MAX && lane.is_none_or(|lane| !self.busy.contains(&lane))
    }

    fn run(&mut self, lane: Option<Lane>) {
        self.running += 1;
        self.busy.extend(lane);
    }

    fn wait(&mut self, lane: Option<Lane>, bytes: usize) -> Option<(u64, Rc<Turn>)> {
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
            return None;
        }
        let (ticket, turn) = (self.next, Rc::new(Turn::default()));
        self.next += 1;
        self.waiting_bytes += bytes;
        let waiting = Waiting {
            lane,
            bytes,
            turn: turn.clone(),
        };
        self.waiting.insert(ticket, waiting);
        Some((ticket, turn))
    }

    fn remove(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.waiting_bytes -= waiting.bytes;
        Some(waiting)
    }

    /// The longest waiting request that may run.
    fn next(&mut self) -> Option<Waiting> {
        let ticket = *self.waiting.iter().find(|(_, waiting)| self.can_run(waiting.lane))?.0;
        let waiting = self.remove(ticket)?;
        self.run(waiting.lane);
        Some(waiting)
    }
}

impl Turn {
    fn give(&self, pass: Pass) {
        self.pass.set(Some(pass));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Pass> {
        if let Some(pass) = self.pass.take() {
            return Poll::Ready(pass);
        }
        self.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(line) = self.queue.0.borrow_mut().get_mut(&self.peer) {
            line.remove(self.ticket);
        }
    }
}

impl Pass {
    /// Lets the next one of the lane run already.
    pub(super) fn leave_lane(&mut self) {
        if let Some(lane) = self.lane.take() {
            let give_up = |line: &mut Line| _ = line.busy.remove(&lane);
            self.queue.release(self.peer, give_up);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.leave_lane();
        self.queue.release(self.peer, |line| line.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use super::*;

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1984))
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// A request that is let in at once.
    fn now(queue: &Rc<Queue>, lane: Option<Lane>) -> Option<Pass> {
        poll(pin!(queue.enter(peer(1), lane, 0)))?.ok()
    }

    #[test]
    fn a_lane_keeps_its_order_and_leaves_others_alone() {
        let queue = Rc::new(Queue::default());
        let first = now(&queue, Some(1)).unwrap();
        let mut second = pin!(queue.enter(peer(1), Some(1), 0));
        let mut third = pin!(queue.enter(peer(1), Some(1), 0));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        assert!(now(&queue, Some(2)).is_some() && now(&queue, None).is_some());
        assert!(poll(pin!(queue.enter(peer(2), Some(1), 0))).is_some(), "another peer");
        drop(first);
        assert!(poll(third.as_mut()).is_none());
        let second = poll(second.as_mut()).unwrap();
        drop(second);
        assert!(poll(third.as_mut()).is_some());
        assert!(queue.0.borrow().is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_hanging_peer_holds_a_bounded_number() {
        let queue = Rc::new(Queue::default());
        let mut running: Vec<Pass> = (0..RUNNING_MAX).map(|_| now(&queue, None).unwrap()).collect();
        assert!(poll(pin!(queue.enter(peer(2), None, 0))).is_some(), "another peer");
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(queue.enter(peer(1), None, 0)))
            .collect();
        assert!(waiting.iter_mut().all(|wait| poll(wait.as_mut()).is_none()));
        assert!(matches!(poll(pin!(queue.enter(peer(1), None, 0))), Some(Err(Full))));
        running.pop();
        assert!(poll(waiting[1].as_mut()).is_none() && poll(waiting[0].as_mut()).is_some());
    }

    #[test]
    fn bytes_that_wait_are_bounded() {
        let queue = Rc::new(Queue::default());
        let first = now(&queue, Some(1)).unwrap();
        let mut large = Box::pin(queue.enter(peer(1), Some(1), WAITING_BYTES_MAX));
        assert!(poll(large.as_mut()).is_none());
        assert!(matches!(poll(pin!(queue.enter(peer(1), Some(1), 1))), Some(Err(Full))));
        drop(large);
        assert!(poll(pin!(queue.enter(peer(1), Some(1), 1))).is_none(), "room again");
        drop(first);
        assert!(queue.0.borrow().is_empty());
    }

    #[test]
    fn a_lane_can_be_left_early() {
        let queue = Rc::new(Queue::default());
        let mut first = now(&queue, Some(1)).unwrap();
        let mut second = pin!(queue.enter(peer(1), Some(1), 0));
        assert!(poll(second.as_mut()).is_none());
        first.leave_lane();
        let second = poll(second.as_mut()).unwrap();
        drop(first);
        assert!(now(&queue, Some(1)).is_none(), "the second has the lane");
        drop(second);
        assert!(queue.0.borrow().is_empty());
    }

    #[test]
    fn a_turn_nobody_takes_goes_on_to_the_next() {
        let queue = Rc::new(Queue::default());
        let first = now(&queue, Some(1)).unwrap();
        let mut gone = Box::pin(queue.enter(peer(1), Some(1), 0));
        let mut next = pin!(queue.enter(peer(1), Some(1), 0));
        assert!(poll(gone.as_mut()).is_none() && poll(next.as_mut()).is_none());
        drop(first); // `gone` has its turn now, but never looks
        assert!(poll(next.as_mut()).is_none());
        drop(gone);
        assert!(poll(next.as_mut()).is_some());
        assert!(queue.0.borrow().is_empty());
    }
}
