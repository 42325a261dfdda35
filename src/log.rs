//! The log: records of the `tracing` macros, formatted on the calling thread, written to standard error by one side thread.
//!
//! Invariant: a slow standard error never holds up a core: the queue between is bounded and drops records when full
//! (`tracing-appender` counts them). Records never carry payloads or secrets; that is the callers' duty, helped by the
//! `Debug` of `config::Secret`. Caller: `main.rs`, once.

use crate::config::{LogFormat, LogLevel};
use std::io::Write;
use std::sync::OnceLock;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Records that may wait for standard error. About 10 MB at the usual length; the crate's default is six times that.
const QUEUE_LINES_MAX: usize = 20_000;

/// Of the log in place.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Records dropped so far because standard error was too slow; for the metrics. 0 before [`init`].
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Keeps the writing thread alive. Dropping it writes what is queued.
#[derive(Debug)]
#[must_use = "the log ends when the guard is dropped"]
pub struct Guard(#[expect(dead_code, reason = "its drop is what counts")] WorkerGuard);

/// Starts the log. A second call in one process (tests) leaves the first log in place.
pub fn init(level: LogLevel, format: LogFormat) -> Guard {
    let (writer, worker) = queue(std::io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    let shape = tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .with_target(false);
    match format {
        LogFormat::Text => install(shape.with_ansi(false).with_writer(writer).finish()),
        LogFormat::Json => install(shape.json().flatten_event(true).with_writer(writer).finish()),
    }
    Guard(worker)
}

/// The bounded queue to `target` and its thread.
fn queue(target: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .thread_name("log");
    builder.finish(target)
}

fn install(subscriber: impl Subscriber + Send + Sync + 'static) {
    // Asked first, because even a refused subscriber raises the global level and so the cost of every silent record.
    if !tracing::dispatcher::has_been_set() {
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Says that it was given a line, and takes it when it may.
    struct Slow(Sender<()>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv(); // an error: from now on it may
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_target_costs_lines_and_nobody_waits() {
        const BEYOND: usize = 500;
        let ((given, lines), (go, may)) = (channel(), channel());
        let (mut writer, guard) = queue(Slow(given, may));
        let dropped = writer.error_counter();
        writer.write_all(b"being written").unwrap();
        lines.recv_timeout(Duration::from_secs(10)).expect("the first line");
        for _ in 0..QUEUE_LINES_MAX + BEYOND {
            writer.write_all(b"waits, or is dropped").unwrap();
        }
        assert_eq!(dropped.dropped_lines(), BEYOND);
        drop(go);
        for line in 0..QUEUE_LINES_MAX {
            let written = lines.recv_timeout(Duration::from_secs(10));
            assert_eq!(written, Ok(()), "{line} lines of those that waited");
        }
        drop(guard);
        assert_eq!(lines.try_iter().count(), 0);
    }

    #[test]
    fn starts_twice_without_harm_and_keeps_count() {
        let _first = init(LogLevel::Error, LogFormat::Text);
        let _second = init(LogLevel::Trace, LogFormat::Json);
        tracing::debug!("below the level of the first log, so never written");
        assert_eq!(dropped_lines(), 0);
        assert_eq!(LevelFilter::current(), LevelFilter::ERROR);
    }
}
