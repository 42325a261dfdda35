//! What is measured, once for both ways of measuring: `micro` (wall clock, criterion) and `instructions` (callgrind). A body
//! is prepared once and then does one unit of work per call. Everything here is pure computation on one thread, without
//! system calls, so instruction counts judge all of it.

mod engine;
mod shard;
mod wire;

use rainbow_server::config::{Config, Overrides};

/// One thing to measure.
pub struct Body {
    /// Module and what it does.
    pub name: &'static str,
    /// Does one unit.
    pub run: Box<dyn FnMut()>,
}

impl Body {
    fn new(name: &'static str, run: impl FnMut() + 'static) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

const INI: &str = "[main]\nconnect_url = http://127.0.0.1/c\nforward_url = http://127.0.0.1/m\nclose_url = http://127.0.0.1/x\n\
    security_token = a shared secret\nconnections_max = 100000\n";

/// The settings of all bodies.
fn config() -> Config {
    match Config::from_file_text("bench", INI, &Overrides::default()) {
        Ok((config, _)) => config,
        Err(errors) => panic!("the ini text is right: {errors:?}"),
    }
}

/// How large the tables are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Timers in the wheel.
    pub timers: u32,
    /// Channels, each with ten members.
    pub channels: u32,
    /// Clients in the fan-out.
    pub members: u32,
}

/// What is measured: a million timers, a million memberships.
pub const SIZES: Sizes = Sizes {
    timers: 1_000_000,
    channels: 100_000,
    members: 1000,
};

/// All bodies, cheapest to prepare first.
pub fn all(sizes: Sizes) -> Vec<Body> {
    let mut bodies = wire::bodies();
    bodies.extend(engine::bodies(sizes));
    bodies.extend(shard::bodies(sizes));
    bodies
}
