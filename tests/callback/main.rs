//! The callback client and its scheduler against scripted servers. Every test runs on both drivers of the runtime.
#![cfg(feature = "runtime")]

mod bent;
mod client;
mod cost;
mod doors;
mod fire;
mod kept;
mod schedule;
mod server;
mod tls;

use std::time::{Duration, Instant};

use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

/// Runs `test` on the driver the machine offers (io_uring, where allowed) and on epoll.
fn on_both_drivers(test: impl AsyncFn()) {
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
    runtime.block_on(test());
    drop(runtime);
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
    runtime.block_on(test());
}

/// A deadline no healthy test reaches.
fn far() -> Instant {
    within(10_000)
}

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

async fn pause(millis: u64) {
    monoio::time::sleep(Duration::from_millis(millis)).await;
}
