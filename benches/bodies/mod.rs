//! What is measured, once for both ways of measuring: `micro` (wall clock, criterion) and `instructions` (callgrind). A body
//! is prepared once and then does one unit of work per call. Everything here is pure computation on one thread, but for
//! `Sharing`, which the instruction counts leave out.

mod engine;
mod shard;
mod wire;

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

/// How large the tables are: callgrind is fifty times slower than the machine.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Timers in the wheel.
    pub timers: u32,
    /// Channels, each with ten members.
    pub channels: u32,
    /// Clients in the fan-out.
    pub members: u32,
}

/// All bodies, cheapest to prepare first.
pub fn all(sizes: Sizes) -> Vec<Body> {
    let mut bodies = wire::bodies();
    bodies.extend(engine::bodies(sizes));
    bodies.extend(shard::bodies(sizes));
    bodies
}
