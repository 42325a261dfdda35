//! rainbow-server: a message gateway. See ARCHITECTURE.md for the threads, the layers and the walk of one message.
//!
//! Layers, each naming only layers to its right:
//! `main → server → {control, cluster} → io → shard → protocol → engine → wire → {config, metrics} → {limits, time, close}`

pub mod close;
#[cfg(feature = "runtime")]
pub mod control;
pub mod engine;
#[cfg(feature = "runtime")]
pub mod io;
pub mod limits;
pub mod time;
pub mod wire;
