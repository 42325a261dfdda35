//! The wall clock of the server jumps. Signatures follow it; nothing else does. Needs libfaketime (Debian package
//! `libfaketime`), which shows the server another time of day and leaves its monotonic clock alone.

use crate::Outcome;
use crate::common::business::{Business, Reply};
use crate::common::client::Client;
use crate::common::server::{Builder, Server, TOKEN};
use crate::common::{SOON, eventually, hmac, http, packet};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HOUR: i64 = 3600;
/// Seconds: short, so that what the server remembers of signatures is forgotten within the scenario.
const WINDOW: i64 = 3;

/// A clock that jumps an hour ahead and then an hour behind, while a message waits for its acknowledgement.
pub fn the_clock_of_the_server_jumps() -> Outcome {
    let Some(library) = library() else {
        return Outcome::NotRun("faketime", "there is no libfaketime".into());
    };
    let clock = Clock::new();
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    let server = Builder::new(&business)
        .set("signature", "hmac-sha256")
        .set("signature_window", WINDOW)
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock.file.display().to_string())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let client = Client::open(server.port());
    expect(&server, 0, "fine");
    expect(&server, WINDOW - 2, "fine");
    expect(&server, WINDOW + 2, "signature error");
    expect(&server, -WINDOW - 2, "signature error");

    for jump in [HOUR, -HOUR] {
        // Sent at 0 and 3 seconds, answered at 5, whatever the time of day is.
        let (port, start) = (server.port(), Instant::now());
        let caller = std::thread::spawn(move || {
            let answer = call(port, "/send/?channel=room&qos=1&timeout=5", 0);
            (answer, start.elapsed())
        });
        let (id, _) = client.expect_send(SOON);
        clock.set(jump);
        expect(&server, 0, "signature error");
        client.send(&packet::send(1, 7, 1, "what time is it?"));
        let again = client.packet(SOON);
        let told = business.wait_for("/message/", 1, SOON).pop().expect("a message");
        let (answered, after) = caller.join().expect("the caller");
        assert_eq!(answered, "timeout", "jump of {jump}");
        assert!(after > Duration::from_millis(4_500), "answered after {after:?}");
        let next = client.packet(SOON);
        let is_repetition =
            |p: &packet::Packet| matches!(p, packet::Packet::Send { dup: true, id: same, .. } if *same == id);
        assert!(is_repetition(&again) || is_repetition(&next), "{again:?}, {next:?}");
        let said: i64 = told
            .query
            .iter()
            .find(|(k, _)| k == "timestamp")
            .expect("timestamp")
            .1
            .parse()
            .expect("number");
        let off = said - http::unix_seconds();
        assert!((off - jump).abs() < 30, "signed with a clock {off} s off");
        clock.set(0);
        expect(&server, 0, "fine");
        client.send(&packet::ack(id.expect("an id"), ""));
    }

    // A caller with the same wrong clock is accepted; afterwards nothing older than it is, since its signature may have been
    // forgotten. A caller is told so.
    clock.set(HOUR);
    expect(&server, HOUR, "fine");
    clock.set(0);
    expect(&server, 0, "signature too old");
    drop(server);
    Outcome::Passed
}

/// The time of day as the server sees it.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new() -> Self {
        let name = format!("chaos-clock-{}", std::process::id());
        let clock = Self {
            file: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name),
        };
        clock.set(0);
        clock
    }

    /// Seconds beside the real time. Replaced as a whole: the server may be reading.
    fn set(&self, seconds: i64) {
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n")).expect("clock");
        std::fs::rename(&fresh, &self.file).expect("clock");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn library() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
    ];
    places.into_iter().find(|place| Path::new(place).exists())
}

/// What a call says that was signed by a clock so many seconds off: its message, or "fine".
fn call(port: u16, target: &str, off: i64) -> String {
    let target = hmac::signed_at(TOKEN, "POST", target, b"x", http::unix_seconds() + off, &http::nonce());
    let answer = http::call(port, &hmac::raw("POST", &target, b"x"), 4 * SOON).expect("an answer");
    let said: Value = answer.json().unwrap_or_default();
    let msg = said["msg"].as_str().map(str::to_owned);
    msg.unwrap_or_else(|| {
        if said["status"] == 0 {
            "fine".into()
        } else {
            answer.text()
        }
    })
}

/// Calls until that is what is said: the server reads the new time with its next look at the clock.
fn expect(server: &Server, off: i64, wanted: &str) {
    let mut said = String::new();
    let right = eventually(4 * SOON, || {
        said = call(server.port(), "/send/?channel=nobody&qos=0", off);
        said == wanted || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }
    });
    assert!(right, "clock {off} s off: {said:?} instead of {wanted:?}");
}
