//! Standard output and standard error that are full, closed or never read. The server says what it can, ends when it has to,
//! and never panics over it.

use super::common::business::{Business, Reply};
use super::common::client::{Client, Op};
use super::common::http::{self, Request};
use super::common::server::{Builder, Server};
use super::common::{SOON, eventually, packet};
use super::shell;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// A disk that is full, a reader that has gone.
const DEAD: [&str; 2] = [
    "exec \"$0\" \"$@\" >/dev/full 2>&1",
    // The reader ends at once; bash and dash give the writer's end to the server.
    "mkfifo \"$FIFO\" && exec 3<>\"$FIFO\" 4>\"$FIFO\" 3<&- && rm \"$FIFO\" && exec \"$0\" \"$@\" >&4 2>&4 4>&-",
];

#[test]
fn what_cannot_be_printed_is_an_error_and_no_panic() {
    for what in ["--print-config", "--help", "--version"] {
        let output = shell(&format!("\"$0\" {what} >/dev/full"), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(
            said.starts_with("rainbow-server: standard output cannot be written: "),
            "{what}: {said}"
        );
        let silent = shell(&format!("\"$0\" {what} >/dev/full 2>&1"), &[]);
        assert_eq!(silent.status.code(), Some(1), "{what} with both dead");
    }
    let head = shell("{ \"$0\" --print-config; echo $? >&2; } | head -c 1 >/dev/null", &[]);
    let said = String::from_utf8_lossy(&head.stderr);
    assert_eq!(said.trim(), "0", "a reader that has enough: {said}");
    let refused = shell("\"$0\" -f /nonexistent 2>/dev/full", &[]);
    assert_eq!(refused.status.code(), Some(2));
}

fn through(script: &str, business: &Business) -> Builder {
    let fifo = format!(
        "{}/fifo-{}-{}",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id(),
        http::nonce()
    );
    Builder::new(business).env("FIFO", &fifo).through(&["sh", "-c", script])
}

fn room() -> Business {
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    business
}

/// A client is served, a stop waits for its close callback, a second signal does not.
fn serves_and_is_stopped_by_a_second_signal(business: &Business, mut server: Server) {
    let client = Client::open(server.port());
    client.send(&packet::send(1, 7, 1, "x"));
    client.expect(Op::Binary, &packet::ack(1, "ok"));
    assert_eq!(server.send("room", 0, "push")["status"], 0);
    assert_eq!(client.expect_send(SOON).1, b"push");
    business.reply("/close/", Reply::ok("").delay(super::common::ms(60_000)));
    server.signal("TERM");
    let told = client.next(SOON).expect("told");
    assert_eq!(told.op, Op::Close);
    assert!(server.is_alive());
    server.signal("TERM");
    assert_eq!(server.wait_exit(SOON), Some(1), "the second signal");
}

#[test]
fn a_server_with_dead_outputs_serves_and_stops() {
    for script in DEAD {
        let business = room();
        let server = through(script, &business)
            .set("drain_timeout", 60)
            .set("log_level", "debug")
            .start();
        let lost = || {
            let page = http::call(server.port(), &Request::get("/metrics"), SOON)
                .expect("metrics")
                .text();
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix("rainbow_log_lines_dropped_total "))
                .map(str::to_owned);
            line.expect("the metric").parse::<f64>().expect("a number") > 0.0
        };
        assert!(eventually(SOON, lost), "lines that cannot be written are counted");
        serves_and_is_stopped_by_a_second_signal(&business, server);
    }
}

/// A pipe that is full and that nobody reads.
struct Stuck {
    path: PathBuf,
    _end: File,
}

impl Stuck {
    fn new() -> Self {
        let name = format!("stuck-{}-{}", std::process::id(), http::nonce());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        let mut end = File::options().read(true).write(true).open(&path).expect("fifo");
        // What a pipe of Linux holds.
        end.write_all(&[b'.'; 65_536]).expect("fill");
        Self { path, _end: end }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_server_whose_outputs_nobody_reads_serves_and_stops() {
    let (business, stuck) = (room(), Stuck::new());
    let script = "exec \"$0\" \"$@\" >\"$STUCK\" 2>&1";
    let path = stuck.path.display().to_string();
    let builder = || {
        Builder::new(&business)
            .env("STUCK", &path)
            .through(&["sh", "-c", script])
    };
    let server = builder().set("drain_timeout", 60).start();
    serves_and_is_stopped_by_a_second_signal(&business, server);

    let business = room();
    let mut server = Builder::new(&business)
        .env("STUCK", &path)
        .through(&["sh", "-c", script])
        .start();
    server.signal("TERM");
    assert_eq!(server.wait_exit(SOON), Some(0), "one signal");
    let mut refused = builder().set("drain_timeout", "soon").spawn();
    assert_eq!(refused.wait_exit(SOON), Some(2), "a file that is refused");
}

#[test]
fn the_demonstration_needs_no_reader() {
    let stuck = Stuck::new();
    for target in ["/dev/full", &stuck.path.display().to_string()] {
        let builder = Builder::demo().env("OUTPUT", target);
        let mut server = builder
            .through(&["sh", "-c", "exec \"$0\" \"$@\" >\"$OUTPUT\" 2>&1"])
            .start();
        server.signal("TERM");
        assert_eq!(server.wait_exit(SOON), Some(0), "{target}");
    }
}

/// A file that may not grow any more: the kernel has a signal for that, which would end the process.
#[test]
fn a_log_file_at_its_limit_ends_nothing() {
    let (business, log) = (
        room(),
        format!("{}/limited-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id()),
    );
    let script = "ulimit -f 1; exec \"$0\" \"$@\" >\"$LOG\" 2>&1";
    let builder = Builder::new(&business)
        .env("LOG", &log)
        .set("log_level", "debug")
        .set("drain_timeout", 60);
    let server = builder.through(&["sh", "-c", script]).start();
    let is_full = || std::fs::metadata(&log).is_ok_and(|file| file.len() >= 512);
    let filled = eventually(SOON, || {
        drop(Client::open(server.port()));
        is_full()
    });
    assert!(filled, "nothing is logged");
    serves_and_is_stopped_by_a_second_signal(&business, server);
    let _ = std::fs::remove_file(log);
}
