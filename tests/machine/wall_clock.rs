//! The time of day that clients and callers are told follows the machine's clock, also when that is set.

use super::common::business::Business;
use super::common::http::{self, Request};
use super::common::server::Builder;
use super::common::{SOON, eventually};
use super::not_run;
use std::path::{Path, PathBuf};

fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    let library = |place: &str| Path::new(place).join("faketime/libfaketimeMT.so.1");
    places.into_iter().map(library).find(|library| library.exists())
}

/// Hour and minute of the `Date` header.
fn hour_and_minute(date: &str) -> Option<i64> {
    let time = date.split(' ').nth(4)?;
    let mut parts = time.split(':').map(|part| part.parse::<i64>());
    Some(parts.next()?.ok()? * 60 + parts.next()?.ok()?)
}

/// A shard answers by itself who asks for a client's path without being one; the control core answers the rest.
#[test]
fn the_date_of_every_answer_follows_the_clock() {
    let Some(library) = library() else {
        return not_run("a clock that is set", "there is no libfaketime");
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wall-clock-{}", std::process::id()));
    let set = |minutes: i64| {
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{:+}\n", minutes * 60)).expect("clock");
        std::fs::rename(&fresh, &file).expect("clock");
    };
    set(0);
    let business = Business::start();
    let server = Builder::new(&business)
        .env("LD_PRELOAD", &library.display().to_string())
        .env("FAKETIME_TIMESTAMP_FILE", &file.display().to_string())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let told = |path: &str| {
        let answer = http::call(server.port(), &Request::get(path), SOON).expect("an answer");
        hour_and_minute(answer.header("date").expect("a date")).expect("a time")
    };
    for minutes in [0, 300, -300, 0] {
        set(minutes);
        for path in ["/connect/", "/hello/"] {
            let follows = || {
                let now = http::unix_seconds() / 60 + minutes;
                let off = (told(path) - now).rem_euclid(24 * 60);
                off <= 1 || off >= 24 * 60 - 1
            };
            assert!(
                eventually(SOON, follows),
                "{path}, {minutes} minutes beside: {}",
                told(path)
            );
        }
    }
    let _ = std::fs::remove_file(file);
}
