//! Signals from the first instruction of `main` on: nothing that comes early kills the server, and nothing is forgotten.

use super::common::business::Business;
use super::common::server::{Builder, Server};
use super::common::{SOON, eventually};
use super::{SERVER, status_of};

/// Bits of a signal mask in `/proc`.
const HUP: u64 = 1 << 0;
const TERM: u64 = 1 << 14;

/// Starts a server and comes back as soon as its `main` holds signals.
fn spawn_and_wait_for_main(builder: &Builder) -> Server {
    let server = builder.spawn();
    let pid = server.pid().to_string();
    let path = std::fs::canonicalize(SERVER).expect("the server");
    let holds = || {
        // Before it runs the new program, the child has the mask of whoever starts it.
        let is_server = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == path);
        let blocked = status_of(&pid, "SigBlk").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        is_server && blocked.is_some_and(|mask| mask & (HUP | TERM) == HUP | TERM)
    };
    // Not `eventually`, which pauses: what is tested is over in milliseconds.
    let end = std::time::Instant::now() + SOON;
    while !holds() {
        assert!(
            std::time::Instant::now() < end,
            "it never holds signals: {}",
            server.log_tail()
        );
    }
    server
}

#[test]
fn a_reload_that_is_asked_for_early_waits_for_the_server() {
    let business = Business::start();
    for round in 0..5 {
        let mut server = spawn_and_wait_for_main(&Builder::new(&business));
        (0..3).for_each(|_| server.signal("HUP"));
        let reloaded = || server.log_tail().contains("configuration read again");
        assert!(eventually(SOON, reloaded), "round {round}: {}", server.log_tail());
        assert!(server.is_alive());
        server.signal("TERM");
        assert_eq!(server.wait_exit(SOON), Some(0), "{}", server.log_tail());
    }
}

#[test]
fn a_stop_that_is_asked_for_early_is_a_stop_in_order() {
    let business = Business::start();
    for signal in ["TERM", "INT"] {
        for round in 0..5 {
            let mut server = spawn_and_wait_for_main(&Builder::new(&business));
            server.signal(signal);
            assert_eq!(
                server.wait_exit(SOON),
                Some(0),
                "{signal}, round {round}: {}",
                server.log_tail()
            );
        }
    }
}

/// The server that runs goes on when the one that would replace it is asked to stop before it can.
#[test]
fn a_successor_that_is_stopped_early_takes_nothing_over() {
    let business = Business::start();
    let mut server = Builder::new(&business).start();
    let port = std::sync::Arc::new(super::common::ports::claim());
    let mut old = Builder::new(&business).on(&port).start();
    let mut stopped_early = 0;
    for _ in 0..5 {
        let mut successor = spawn_and_wait_for_main(&Builder::new(&business).on(&port).arg("--takeover"));
        successor.signal("TERM");
        assert_eq!(successor.wait_exit(SOON), Some(0), "{}", successor.log_tail());
        if !old.is_alive() {
            // It was quicker: then clients and port are gone in order, as with any stop.
            break;
        }
        stopped_early += 1;
        assert!(server.is_alive());
    }
    assert!(
        stopped_early > 0,
        "five times in a row the stop came too late: {}",
        old.log_tail()
    );
    server.signal("TERM");
    assert_eq!(server.wait_exit(SOON), Some(0));
}

/// What only prints is ended by a signal like any command.
#[test]
fn a_command_that_only_prints_can_be_interrupted() {
    let script = "mkfifo \"$1\" && exec 3<>\"$1\" && head -c 65536 /dev/zero >&3 && { \"$0\" --print-config >&3 & } \
                  && sleep 0.2 && kill -TERM $! && wait $!; code=$?; rm -f \"$1\"; exit $code";
    let fifo = format!("{}/fifo-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let output = super::shell(script, &[&fifo]);
    assert_eq!(output.status.code(), Some(128 + 15), "{output:?}");
}
