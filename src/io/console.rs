//! What the process says beside its log: texts that were asked for, refusals, last words.
//!
//! Invariant: standard output and standard error may be closed, full, or a pipe nobody reads. Nothing here panics over that,
//! and [`say`] holds up its caller for at most [`SAY_WITHIN`], so that a process that means to end does end. The macros of
//! the standard library promise neither; `tests/layering` looks for them.
//!
//! Callers: `main.rs`, and whoever ends the process (`runtime.rs`, `signals.rs`).

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

/// Time standard error has for one text.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// A text is being written. While that hangs, further ones are dropped: they would hang behind it.
static SAYING: AtomicBool = AtomicBool::new(false);

/// Writes `text` to standard output, however long that takes. A reader that went away had enough.
///
/// # Errors
/// It could not be written, for example because a disk is full.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes `rainbow-server: TEXT` and a line feed to standard error, if it takes that within [`SAY_WITHIN`].
pub fn say(text: &str) {
    if SAYING.swap(true, SeqCst) {
        return;
    }
    let line = format!("rainbow-server: {text}\n");
    let (done, is_done) = mpsc::channel();
    let write = move || {
        // There is nobody left to tell.
        let _ = io::stderr().write_all(line.as_bytes());
        SAYING.store(false, SeqCst);
        let _ = done.send(());
    };
    match std::thread::Builder::new().name("last-words".into()).spawn(write) {
        Ok(_) => drop(is_done.recv_timeout(SAY_WITHIN)),
        Err(_) => SAYING.store(false, SeqCst),
    }
}

/// From now on a panic is reported by [`say`]. The default hook waits for standard error for ever, and the core with it.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        // Empty unless RUST_BACKTRACE asks for it.
        let trace = match std::backtrace::Backtrace::capture() {
            trace if trace.status() == std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        say(&format!("thread {name}: {panic}{trace}"));
    }));
}
