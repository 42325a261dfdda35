//! The bodies of the fuzz targets (feature `fuzzing`). `fuzz/fuzz_targets/*.rs` run them under libFuzzer, and
//! `tests/fuzz_smoke.rs` runs the same functions over the committed corpus and seeded mutations of it, on stable.
//!
//! A body takes any bytes and asserts what must hold for all of them: not only that nothing panics, but that a stream gives
//! the same result however it is cut, that what was decoded can be encoded and decoded again, that limits hold. It turns
//! the first bytes into knobs (limits, cuts) and the rest into the stream or a list of operations. No clock, no randomness
//! but [`Random`] seeded from the input: a failing input fails again.
//!
//! To add a target: write `pub fn name(data: &[u8])` in a file of `fuzzing/`, add a line to [`TARGETS`], copy one of the
//! `fuzz/fuzz_targets/*.rs` with its `[[bin]]` entry, and put a dozen meaningful seeds into `fuzz/corpus/name/`. The smoke
//! test fails as long as one of these is missing.

mod config;
#[cfg(feature = "runtime")]
mod core;
mod deflate;
mod gateway;
mod http;
mod proxy;
mod query;
mod rainbow;
mod shard;
mod ws;

pub use config::ini;
#[cfg(feature = "runtime")]
pub use core::core_sockets;
pub use deflate::deflate;
pub use gateway::gateway_calls;
pub use http::{http_body, http_request, http_response};
pub use proxy::proxy;
pub use query::query;
pub use rainbow::{api_requests, datagrams, packets, replies};
pub use shard::shard_ops;
pub use ws::{ws_frames, ws_messages};

/// A body and the name its target, its corpus folder and its function share.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, for the smoke test.
pub const TARGETS: &[Target] = &[
    ("api_requests", api_requests),
    #[cfg(feature = "runtime")]
    ("core_sockets", core_sockets),
    ("datagrams", datagrams),
    ("deflate", deflate),
    ("gateway_calls", gateway_calls),
    ("http_body", http_body),
    ("http_request", http_request),
    ("http_response", http_response),
    ("ini", ini),
    ("packets", packets),
    ("proxy", proxy),
    ("query", query),
    ("replies", replies),
    ("shard_ops", shard_ops),
    ("ws_frames", ws_frames),
    ("ws_messages", ws_messages),
];

/// A xorshift generator: reproducible, not random enough for anything else.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; every seed gives its own sequence.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, or 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound.max(1)
    }
}

/// What is left of an input that is read as operations.
struct Input8<'a>(&'a [u8]);

impl Input8<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn pick(&mut self, below: usize) -> usize {
        usize::from(self.byte().unwrap_or_default()) % below.max(1)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(self.pick(64).min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// Cuts a stream into the reads it may arrive in: 0 → single bytes, 1 → all at once, else pieces of up to `cuts` bytes.
fn pieces(mut stream: &[u8], cuts: u8) -> Vec<&[u8]> {
    let (mut random, mut pieces) = (Random::new(u64::from(cuts)), Vec::new());
    while !stream.is_empty() {
        let len = match cuts {
            0 => 1,
            1 => stream.len(),
            most => 1 + random.below(usize::from(most)),
        };
        let (piece, rest) = stream.split_at(len.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}
