//! The shards without sockets and clock: frame scripts (`sim/scripts/`) and the seeded simulator (`sim/world.rs`).
//!
//! `SIM_SEEDS=2000 cargo test --test sim` runs more seeds, `SIM_SEED=17 cargo test --test sim seeds` repeats one.

#[path = "sim/net.rs"]
mod net;
#[path = "sim/rig.rs"]
mod rig;
#[path = "sim/wire.rs"]
mod wire;

#[path = "sim/scripts/mod.rs"]
mod scripts;
