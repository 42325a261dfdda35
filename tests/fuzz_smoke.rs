//! Runs every fuzz body over its committed corpus and over seeded mutations of it: on stable, without a sanitizer.
//!
//! `FUZZ_SMOKE_ITERATIONS` (default 20000) is the number of mutated inputs per target (fewer of the [`COSTLY`] ones),
//! `FUZZ_SMOKE_SEED` (default 1) where the sequence starts. A failure prints the input; put it into `fuzz/corpus/<target>/` with the fix.

use rainbow_server::fuzzing::{Random, TARGETS, Target};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Bodies of which one input costs about as much as so many of the others.
const COSTLY: &[(&str, u64)] = &[("core_sockets", 40), ("ini", 8), ("shard_ops", 16)];
/// Mutated inputs do not grow beyond this.
const INPUT_MAX: usize = 4096;
/// Bytes that sit at some boundary of some format here.
const INTERESTING: &[u8] = b"\0\x01\x7d\x7e\x7f\x80\x81\x88\xfe\xff\r\n :;=&%+0fF?/";

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
    })
}

/// The committed inputs, those written by hand and those the fuzzer found, in the order of their names, so that a seed means
/// the same everywhere.
fn corpus(target: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let folder = fuzz_folder().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    let (found, written): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| is_sha1(path));
    let read = |paths: Vec<PathBuf>| {
        let inputs = paths.iter().map(|path| fs::read(path).expect("a readable seed"));
        inputs.collect()
    };
    (read(written), read(found))
}

/// What the fuzzer calls its inputs.
fn is_sha1(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() == 40 && name.iter().all(u8::is_ascii_hexdigit)
}

fn run((name, body): Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        eprintln!("{name} fails on {} bytes: b\"{}\"", input.len(), input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One to eight small changes to a seed.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len());
        let end = (at + 1 + random.below(16)).min(input.len());
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = INTERESTING[random.below(INTERESTING.len())],
            2 => input.insert(at, INTERESTING[random.below(INTERESTING.len())]),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..end),
            5 => input.truncate(at),
            6 if at < input.len() => input[at] = random.below(256) as u8,
            _ => {
                let other = &corpus[random.below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
        }
    }
    input.truncate(INPUT_MAX);
    input
}

fn smoke(name: &str) {
    let target = *TARGETS
        .iter()
        .find(|target| target.0 == name)
        .expect("a line in TARGETS");
    let (written, found) = corpus(name);
    assert!(written.len() >= 10, "{name}: a dozen meaningful seeds");
    for input in &written {
        for len in 0..input.len().min(200) {
            run(target, &input[..len]);
        }
    }
    let corpus = [written, found].concat();
    for input in &corpus {
        run(target, input);
    }
    let mut random = Random::new(number("FUZZ_SMOKE_SEED", 1));
    let cost = COSTLY
        .iter()
        .find(|costly| costly.0 == name)
        .map_or(1, |costly| costly.1);
    for _ in 0..number("FUZZ_SMOKE_ITERATIONS", 20_000) / cost {
        run(target, &mutate(&mut random, &corpus));
    }
}

/// One test per target, so that they run in parallel and fail apart; and the list of those there are.
macro_rules! smoke_tests {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*
    };
}

smoke_tests! {
    api_requests core_sockets datagrams deflate gateway_calls http_body http_request http_response ini packets proxy query replies
    shard_ops ws_frames ws_messages
}

#[test]
fn every_body_has_a_test_and_a_target_file() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
    assert_eq!(names, TESTED, "TARGETS and smoke_tests! in the same order");
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in names {
        let file = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).expect("a target file");
        assert!(
            file.contains(&format!("fuzzing::{name}(data)")),
            "{name}.rs runs its own body"
        );
        assert!(
            manifest.contains(&format!("name = \"{name}\"\n")),
            "{name} is in fuzz/Cargo.toml"
        );
    }
}
