//! Model check of the mailbox's sleep protocol (`engine::mailbox`): interleavings and permitted reorderings of a receiver
//! and its senders. Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --test mailbox_loom --release --no-default-features --target-dir target/loom
//! ```
//!
//! crossbeam's channel is not known to loom and orders more than it promises, so the queue is modelled by the weakest
//! thing that can hold messages: a relaxed counter.
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use rainbow_server::engine::mailbox::Asleep;

trait Flag: Send + Sync + 'static {
    fn new() -> Self;
    fn announce(&self);
    fn withdraw(&self);
    fn claim(&self) -> bool;
}

impl Flag for Asleep {
    fn new() -> Self {
        Asleep::new()
    }
    fn announce(&self) {
        self.announce();
    }
    fn withdraw(&self) {
        self.withdraw();
    }
    fn claim(&self) -> bool {
        self.claim()
    }
}

/// The same without the fences. It must fail, or the model proves nothing.
struct Broken(AtomicBool);

impl Flag for Broken {
    fn new() -> Self {
        Broken(AtomicBool::new(false))
    }
    fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn withdraw(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    fn claim(&self) -> bool {
        self.0.load(Ordering::Relaxed)
            && self
                .0
                .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

struct World<F> {
    posted: AtomicUsize,
    asleep: F,
    /// Remembers one wake-up, as an eventfd does.
    token: Notify,
}

/// `SENDERS` post one message each; the receiver sleeps whenever it may. A lost wake-up leaves it asleep, which loom
/// reports as a deadlock. `preemptions`: how many involuntary switches are tried per run; `None` tries all.
fn model<F: Flag, const SENDERS: usize>(preemptions: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(|| {
        let world = Arc::new(World {
            posted: AtomicUsize::new(0),
            asleep: F::new(),
            token: Notify::new(),
        });
        let senders: [_; SENDERS] = std::array::from_fn(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.posted.fetch_add(1, Ordering::Relaxed);
                if world.asleep.claim() {
                    world.token.notify();
                }
            })
        });
        let mut seen = 0;
        while seen < SENDERS {
            world.asleep.announce();
            let posted = world.posted.load(Ordering::Relaxed);
            if posted == seen {
                world.token.wait();
            }
            world.asleep.withdraw();
            seen = posted;
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn no_wake_up_of_one_sender_is_lost() {
    model::<Asleep, 1>(None);
}

#[test]
fn no_wake_up_of_two_senders_is_lost() {
    model::<Asleep, 2>(Some(3));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_one_is_lost() {
    model::<Broken, 1>(None);
}
