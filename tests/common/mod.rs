//! The harness of the black-box tests: the real binary, a scripted business server, raw clients.
//!
//! Nothing here uses the crate under test, so a mistake in its codec cannot hide itself. Threads block, and every wait has a
//! deadline. Each test file takes what it needs, hence the allowance for unused code.
//!
//! The tests mostly sleep, so many of them fit on one core: `cargo test -- --test-threads=24` ends within about two minutes.
//! `MONOIO_FORCE_LEGACY_DRIVER=1 cargo test` runs every test on epoll; sessions and packets run on both drivers by themselves.
#![allow(dead_code)]

pub mod business;
pub mod client;
pub mod hmac;
pub mod http;
pub mod packet;
pub mod ports;
pub mod server;
pub mod sessions;

use std::io::Write;
use std::time::{Duration, Instant};

/// A test that cannot run here says so, past the capture of its output. With `CI=true` that is a failure.
pub fn not_run(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("test {name} ... NOT RUN: {why}\n").as_bytes());
    assert!(
        !std::env::var("CI").is_ok_and(|value| value == "true"),
        "NOT RUN: {why}"
    );
}

/// One test for io_uring and one for epoll, of a file that uses `common::server::Builder`.
#[allow(unused_macros)]
macro_rules! on_both_drivers {
    ($($(#[$about:meta])* fn $name:ident($setup:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            $(#[$about])*
            fn run($setup: impl Fn(Builder) -> Builder) $body

            #[test]
            fn default_driver() {
                run(|builder| builder);
            }

            #[test]
            fn epoll() {
                run(Builder::legacy_driver);
            }
        }
    )+};
}
#[allow(unused_imports)]
pub(crate) use on_both_drivers;

/// How long a test waits for something that ought to happen at once, on a busy two-core machine.
pub const SOON: Duration = Duration::from_secs(8);

/// `n` milliseconds.
pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Polls `done` until it answers true; false when `within` has passed.
pub fn eventually(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(ms(10));
    }
    true
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of a hex text of the golden files; panics on a malformed file.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex text {text:?}");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digit"))
        .collect()
}

/// The first `n` bytes of `bytes`, printable, for failure messages.
pub fn excerpt(bytes: &[u8], n: usize) -> String {
    let more = if bytes.len() > n {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("{:?}{more}", String::from_utf8_lossy(&bytes[..bytes.len().min(n)]))
}
