//! What one callback costs the core that makes it. Prints; run it by hand, in release:
//! `cargo test --release --test callback cost -- --ignored --nocapture --test-threads=1`.

use std::time::Duration;

use crate::schedule::{Bench, Door, MESSAGE, healthy, narrow};
use crate::{on_both_drivers, pause};

const CALLS: u64 = 20_000;
const AT_ONCE: u64 = 50;

/// CPU time of this thread, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_callback() {
    on_both_drivers(async || {
        let server = healthy();
        let url = server.url("/message/");
        let bench = Bench::new(Door::to([&url, &url, &url]), narrow(AT_ONCE as usize, 100_000));
        let mut before = Duration::ZERO;
        for round in 0..CALLS / AT_ONCE {
            if round == 20 {
                before = cpu(); // the connections are there
            }
            for token in 0..AT_ONCE {
                bench
                    .callbacks
                    .submit(crate::schedule::request(MESSAGE, round * AT_ONCE + token));
            }
            while bench.done.borrow().len() as u64 != (round + 1) * AT_ONCE {
                pause(1).await;
            }
        }
        let calls = CALLS - 20 * AT_ONCE;
        let each = (cpu() - before).as_nanos() as f64 / calls as f64 / 1000.0;
        println!("{each:.1} µs of CPU per callback, {} connections", server.connections());
    });
}
