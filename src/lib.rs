//! rainbow-server: a message gateway. See ARCHITECTURE.md for the threads, the layers and the walk of one message.
//!
//! Layers, each naming only layers to its right:
//! `main → application, tool → server → {control, cluster} → io → shard → protocol → engine → wire → {config, metrics} → {budget, limits, time,
//! close}`
//!
//! Comments cite "spec" for docs/spec/rainbow.md, the measured behaviour of the server this one replaces.

#[cfg(feature = "application")]
pub mod application;
pub mod budget;
#[cfg(feature = "runtime")]
pub mod cli;
pub mod close;
#[cfg(feature = "runtime")]
pub mod cluster;
pub mod config;
#[cfg(feature = "runtime")]
pub mod control;
#[cfg(feature = "runtime")]
pub mod demo;
pub mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "runtime")]
pub mod io;
pub mod limits;
#[cfg(feature = "runtime")]
pub mod log;
pub mod metrics;
pub mod protocol;
#[cfg(feature = "runtime")]
pub mod server;
pub mod shard;
pub mod time;
#[cfg(feature = "runtime")]
pub mod tool;
pub mod wire;
