//! The shards without sockets and clock: frame scripts (`sim/scripts/`) and the seeded simulator (`sim/world.rs`).
//!
//! `SIM_SEEDS=20000 cargo test --test sim seeds::seeds` runs more seeds (from `SIM_FIRST` on), `SIM_SEED=17 …` repeats one,
//! `SIM_TRACE=1000000` tells all its events; `SIM_BUG=DropPart cargo test --test sim planted` plants one bug only.

#[path = "sim/bugs.rs"]
mod bugs;
#[path = "sim/business.rs"]
mod business;
#[path = "sim/byzantine.rs"]
mod byzantine;
#[path = "sim/conn.rs"]
mod conn;
#[path = "sim/control.rs"]
mod control;
#[path = "sim/cores.rs"]
mod cores;
#[path = "sim/coverage.rs"]
mod coverage;
#[path = "sim/far.rs"]
mod far;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/questions.rs"]
mod questions;
#[path = "sim/records.rs"]
mod records;
#[path = "sim/rig.rs"]
mod rig;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/scripts/mod.rs"]
mod scripts;
#[path = "sim/seeds.rs"]
mod seeds;
#[path = "sim/wire.rs"]
mod wire;
#[path = "sim/world.rs"]
mod world;
