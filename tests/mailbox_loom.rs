//! Model check of the mailbox's sleep protocol (`engine::mailbox`): every interleaving and every permitted reordering of
//! two senders and a receiver. Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --test mailbox_loom --release --no-default-features --target-dir target/loom
//! ```
//!
//! crossbeam's channel is not known to loom and orders more than it promises, so the queue is modelled by the weakest
//! thing that can hold messages: a relaxed counter.
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use rainbow_server::engine::mailbox::Asleep;

const SENDERS: usize = 2;

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

/// Remembers one wake-up, as an eventfd does.
struct Token {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Token {
    fn wake(&self) {
        *self.set.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut set = self.set.lock().unwrap();
        while !*set {
            set = self.changed.wait(set).unwrap();
        }
        *set = false;
    }
}

struct World<F> {
    posted: AtomicUsize,
    asleep: F,
    token: Token,
}

/// The receiver waits for one message of each sender. A lost wake-up leaves it waiting, which loom reports as deadlock.
fn model<F: Flag>() {
    loom::model(|| {
        let world = Arc::new(World {
            posted: AtomicUsize::new(0),
            asleep: F::new(),
            token: Token {
                set: Mutex::new(false),
                changed: Condvar::new(),
            },
        });
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    world.posted.fetch_add(1, Ordering::Relaxed);
                    if world.asleep.claim() {
                        world.token.wake();
                    }
                })
            })
            .collect();
        while world.posted.load(Ordering::Relaxed) < SENDERS {
            let seen = world.posted.load(Ordering::Relaxed);
            world.asleep.announce();
            if world.posted.load(Ordering::Relaxed) == seen && seen < SENDERS {
                world.token.wait();
            }
            world.asleep.withdraw();
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn no_wake_up_is_lost() {
    model::<Asleep>();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_one_is_lost() {
    model::<Broken>();
}
