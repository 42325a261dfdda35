//! rainbow-server: a message gateway. See ARCHITECTURE.md for the threads, the layers and the walk of one message.
//!
//! Layers, each naming only layers to its right:
//! `main → server → {control, cluster} → io → shard → protocol → engine → wire → {config, metrics} → {limits, time, close}`
//!
//! Comments cite "spec" for docs/spec/rainbow.md, the measured behaviour of the server this one replaces.

pub mod close;
pub mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod limits;
pub mod protocol;
pub mod shard;
pub mod time;
pub mod wire;
