//! The atomics of the one protocol that is shared between threads, exchanged for loom's when that checks the model
//! (`tests/mailbox_loom.rs`).

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
