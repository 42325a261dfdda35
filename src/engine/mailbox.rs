//! Messages between cores: one bounded queue per receiving core, and a wake-up that is only paid when the receiver sleeps.
//! Callers: the core loops of `io` and `control`.
//!
//! Protocol (model-checked in `tests/mailbox_loom.rs`):
//! ```text
//!   sender:   push … push, fence, is it asleep and am I the one to say so? → wake
//!   receiver: drain; when empty: say "asleep", fence, look again: something there → go on, else wait for the wake-up
//! ```
//! Either the receiver's second look sees the message or the sender sees the flag; without the fences both may miss.
//! A wake-up the receiver no longer needs is harmless: it finds nothing and goes to sleep again.
//!
//! Bound and policy: the queue holds the capacity given to [`mailbox`]. When it is full the sender neither waits nor
//! loses: it keeps the overflow itself, in order, and everything behind it. The bound of the overflow is the sender's
//! input: while [`Sender::overflow_len`] is not 0 a core reads no more from its sockets and calls [`Sender::flush`] at
//! least once per [`crate::limits::WHEEL_TICK`], since nobody tells it that there is room again. Cores that are full
//! towards each other still drain their own mailboxes, so nobody waits for anybody.
//!
//! Invariant: what one sender posts arrives in the order it was posted, each message once.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::TrySendError;

use super::sync::{AtomicBool, Ordering, fence};

/// Room the overflow keeps after it drained.
const OVERFLOW_KEPT: usize = 1024;

/// Ends the sleep of one core. Remembered if the core is not asleep yet; repeated calls may become one.
pub trait Wake {
    /// Wakes the core.
    fn wake(&self);
}

impl<W: Wake + ?Sized> Wake for Arc<W> {
    fn wake(&self) {
        (**self).wake();
    }
}

/// Whether a receiver sleeps; the part of the protocol that is easy to get wrong.
#[derive(Debug, Default)]
pub struct Asleep(AtomicBool);

impl Asleep {
    /// Awake.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Receiver: from now on wake me. Look into the queue once more after this.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Receiver: I am awake. A sender that saw the announcement may still send its wake-up.
    pub fn withdraw(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Sender, after pushing: true for the one sender that has to wake the receiver.
    pub fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        // The exchange only where it may succeed: a plain load of an awake receiver's flag stays in this core's cache.
        self.0.load(Ordering::Relaxed)
            && self
                .0
                .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A mailbox of `capacity` messages, whose receiver `wake` wakes. Clone the sender for every core that posts.
pub fn mailbox<T, W: Wake>(capacity: usize, wake: W) -> (Sender<T, W>, Receiver<T>) {
    let (tx, rx) = crossbeam_channel::bounded(capacity);
    let asleep = Arc::new(Asleep::new());
    let sender = Sender {
        queue: tx,
        asleep: Arc::clone(&asleep),
        wake,
        overflow: VecDeque::new(),
        unannounced: false,
        counts: SenderCounts::default(),
    };
    (sender, Receiver { queue: rx, asleep })
}

/// One core's way into another core's mailbox.
#[derive(Debug)]
pub struct Sender<T, W: Wake> {
    queue: crossbeam_channel::Sender<T>,
    asleep: Arc<Asleep>,
    wake: W,
    overflow: VecDeque<T>,
    /// Something was pushed since the last kick.
    unannounced: bool,
    counts: SenderCounts,
}

/// What a sender did, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounts {
    /// Wake-ups of a sleeping receiver.
    pub kicks: u64,
    /// Messages that found the queue full, or others waiting for it.
    pub overflows: u64,
}

impl<T, W: Wake + Clone> Clone for Sender<T, W> {
    /// Another sender to the same receiver; the overflow stays with this one.
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            asleep: Arc::clone(&self.asleep),
            wake: self.wake.clone(),
            overflow: VecDeque::new(),
            unannounced: false,
            counts: SenderCounts::default(),
        }
    }
}

impl<T, W: Wake> Sender<T, W> {
    /// Posts a message; never blocks. The receiver may only see it after [`Sender::kick`]. Without a receiver (its core
    /// has ended) the message is dropped.
    pub fn post(&mut self, message: T) {
        if self.overflow.is_empty() {
            self.push(message);
        } else {
            self.keep(message);
        }
    }

    /// Wakes the receiver if it sleeps and something was posted since the last kick. Call it once per batch, before
    /// waiting for anything. Tries the overflow first.
    pub fn kick(&mut self) {
        self.flush();
        if std::mem::take(&mut self.unannounced) && self.asleep.claim() {
            self.counts.kicks += 1;
            self.wake.wake();
        }
    }

    /// What was done since the last call.
    pub fn take_counts(&mut self) -> SenderCounts {
        std::mem::take(&mut self.counts)
    }

    /// Moves overflow into the queue as far as there is room; true if none is left.
    pub fn flush(&mut self) -> bool {
        if self.overflow.is_empty() {
            return true;
        }
        while let Some(message) = self.overflow.pop_front() {
            if let Err(message) = self.try_push(message) {
                self.overflow.push_front(message);
                return false;
            }
        }
        if self.overflow.capacity() > OVERFLOW_KEPT {
            self.overflow = VecDeque::new();
        }
        true
    }

    /// Messages that found the queue full and wait here.
    pub fn overflow_len(&self) -> usize {
        self.overflow.len()
    }

    /// A way into the same mailbox for threads that are no core.
    pub fn entrance(&self) -> Entrance<T, W>
    where
        W: Clone,
    {
        Entrance {
            queue: self.queue.clone(),
            asleep: Arc::clone(&self.asleep),
            wake: self.wake.clone(),
        }
    }

    fn push(&mut self, message: T) {
        if let Err(message) = self.try_push(message) {
            self.keep(message);
        }
    }

    fn keep(&mut self, message: T) {
        self.counts.overflows += 1;
        self.overflow.push_back(message);
    }

    fn try_push(&mut self, message: T) -> Result<(), T> {
        match self.queue.try_send(message) {
            Err(TrySendError::Full(message)) => Err(message),
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                self.unannounced = true;
                Ok(())
            }
        }
    }
}

/// The way into a core's mailbox of threads that are no core, and may share it: nothing waits here.
#[derive(Debug)]
pub struct Entrance<T, W> {
    queue: crossbeam_channel::Sender<T>,
    asleep: Arc<Asleep>,
    wake: W,
}

impl<T, W: Clone> Clone for Entrance<T, W> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            asleep: Arc::clone(&self.asleep),
            wake: self.wake.clone(),
        }
    }
}

impl<T, W: Wake> Entrance<T, W> {
    /// Posts a message and wakes the receiver if it sleeps; never blocks. A full mailbox gives the message back. Without a
    /// receiver the message is dropped.
    pub fn post(&self, message: T) -> Result<(), T> {
        match self.queue.try_send(message) {
            Err(TrySendError::Full(message)) => Err(message),
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                if self.asleep.claim() {
                    self.wake.wake();
                }
                Ok(())
            }
        }
    }
}

/// The receiving end; one per core.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    asleep: Arc<Asleep>,
}

impl<T> Receiver<T> {
    /// Hands at most `max` messages to `handle`, oldest first; returns how many there were. Fewer than `max` means that
    /// the mailbox was empty.
    pub fn drain(&self, max: usize, mut handle: impl FnMut(T)) -> usize {
        for handled in 0..max {
            match self.queue.try_recv() {
                Ok(message) => handle(message),
                Err(_) => return handled,
            }
        }
        max
    }

    /// Announces sleep. True: the mailbox is empty and whoever posts from now on will wake this core. False: there are
    /// messages; stay awake.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.asleep.announce();
        let empty = self.queue.is_empty();
        if !empty {
            self.cancel_sleep();
        }
        empty
    }

    /// This core is awake, whatever woke it: senders need not.
    pub fn cancel_sleep(&self) {
        self.asleep.withdraw();
    }

    /// Messages waiting now; for the metrics.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits now.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, Thread};
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Count(Arc<AtomicUsize>);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_entrance_wakes_a_sleeper_and_gives_back_what_finds_no_room() {
        let wakes = Count::default();
        let (sender, receiver) = mailbox(1, wakes.clone());
        let (first, second) = (sender.entrance(), sender.entrance());
        assert!(receiver.prepare_sleep());
        assert_eq!(first.post(1), Ok(()));
        assert_eq!(second.post(2), Err(2));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(received(&receiver, 9), [1]);
        receiver.cancel_sleep();
        assert_eq!(second.post(2), Ok(()));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "it is awake");
        assert_eq!(received(&receiver, 9), [2]);
    }

    fn received(receiver: &Receiver<u32>, max: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let handled = receiver.drain(max, |message| all.push(message));
        assert_eq!(handled, all.len());
        all
    }

    #[test]
    fn a_full_queue_overflows_in_order() {
        let (mut sender, receiver) = mailbox(2, Count::default());
        (0..5).for_each(|n| sender.post(n));
        assert_eq!(sender.overflow_len(), 3);
        assert_eq!(sender.take_counts().overflows, 3);
        assert_eq!(sender.take_counts().overflows, 0);
        assert!(!sender.flush());
        assert_eq!(received(&receiver, 1), [0]);
        sender.post(5);
        assert_eq!(
            received(&receiver, 9),
            [1],
            "what is posted later stays behind the overflow"
        );
        assert!(!sender.flush());
        assert_eq!(received(&receiver, 9), [2, 3]);
        assert!(sender.flush());
        assert_eq!(received(&receiver, 9), [4, 5]);
        assert_eq!(sender.overflow_len(), 0);
    }

    #[test]
    fn only_a_sleeping_receiver_is_woken_and_only_once() {
        let wake = Count::default();
        let wakes = || wake.0.load(Ordering::SeqCst);
        let (mut sender, receiver) = mailbox(8, wake.clone());
        let mut other = sender.clone();
        sender.post(1);
        sender.kick();
        assert_eq!(wakes(), 0, "awake");
        assert!(!receiver.prepare_sleep(), "not empty");
        received(&receiver, 9);
        assert!(receiver.prepare_sleep());
        sender.kick();
        assert_eq!(wakes(), 0, "nothing new");
        sender.post(2);
        other.post(3);
        assert_eq!(wakes(), 0, "before the kick");
        sender.kick();
        other.kick();
        assert_eq!(wakes(), 1);
        assert_eq!((sender.take_counts().kicks, other.take_counts().kicks), (1, 0));
        received(&receiver, 9);
        assert!(receiver.prepare_sleep());
        receiver.cancel_sleep();
        sender.post(4);
        sender.kick();
        assert_eq!(wakes(), 1, "it woke by itself");
    }

    #[test]
    fn without_a_receiver_messages_vanish() {
        let (mut sender, receiver) = mailbox(1, Count::default());
        (0..3).for_each(|n| sender.post(n));
        drop(receiver);
        assert!(sender.flush());
        sender.post(4);
        sender.kick();
        assert_eq!(sender.overflow_len(), 0);
    }

    impl Wake for Thread {
        fn wake(&self) {
            self.unpark();
        }
    }

    /// Three senders against a small queue and a receiver that sleeps whenever it can: nothing lost, nothing twice,
    /// every sender's order kept, no wake-up missed.
    #[test]
    fn stress() {
        const SENDERS: usize = 3;
        const EACH: u32 = 30_000;
        let (sender, receiver) = mailbox(64, thread::current());
        let threads: Vec<_> = (0..SENDERS)
            .map(|number| {
                let mut sender = sender.clone();
                thread::spawn(move || {
                    for n in 0..EACH {
                        sender.post((number, n));
                        if n % 7 == 0 {
                            sender.kick();
                        }
                        if n % 997 == 0 {
                            thread::sleep(Duration::from_micros(50));
                        }
                    }
                    while !sender.flush() {
                        sender.kick();
                        thread::yield_now();
                    }
                    sender.kick();
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        while next.iter().sum::<u32>() < SENDERS as u32 * EACH {
            let handled = receiver.drain(16, |(number, n): (usize, u32)| {
                assert_eq!(n, next[number]);
                next[number] += 1;
            });
            if handled == 0 && receiver.prepare_sleep() {
                let asleep_since = std::time::Instant::now();
                thread::park_timeout(Duration::from_secs(20));
                assert!(asleep_since.elapsed().as_secs() < 20, "a wake-up was lost");
                receiver.cancel_sleep();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(receiver.is_empty());
    }
}
