//! The log: records of the `tracing` macros, formatted on the calling thread, written to standard error by one side thread.
//!
//! Invariants: a slow or dead standard error never holds up a core and ends nothing. The queue between is bounded; records
//! that find it full, and those that cannot be written, are dropped and counted. Records never carry payloads or secrets; that
//! is the callers' duty, helped by the `Debug` of `config::Secret`. Caller: `main.rs`, once.

use crate::config::{LogFormat, LogLevel};
use crate::io::runtime;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Records that may wait for standard error. About 10 MB at the usual length.
const QUEUE_LINES_MAX: usize = 20_000;
/// Time standard error has, when the process ends, for what is queued.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Of the log in place.
static DROPPED: OnceLock<Arc<AtomicU64>> = OnceLock::new();

/// Records dropped so far because standard error was too slow or took nothing; for the metrics. 0 before [`init`].
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.load(Relaxed))
}

/// Dropping it waits, for a while, until what is queued is written.
#[derive(Debug)]
#[must_use = "what is queued when the guard is dropped is still written"]
pub struct Guard(Sender<Entry>);

impl Drop for Guard {
    fn drop(&mut self) {
        let (done, is_done) = bounded(0);
        if self.0.send_timeout(Entry::Flush(done), LAST_LINES_WITHIN).is_ok() {
            let _ = is_done.recv_timeout(LAST_LINES_WITHIN);
        }
    }
}

/// Starts the log. A second call in one process (tests) leaves the first log in place. Errors: no thread.
pub fn init(level: LogLevel, format: LogFormat) -> io::Result<Guard> {
    let (queue, guard) = queue(io::stderr())?;
    let _ = DROPPED.set(queue.dropped.clone());
    let shape = tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .with_target(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => install(shape.with_ansi(false).with_writer(queue).finish()),
        LogFormat::Json => install(shape.json().flatten_event(true).with_writer(queue).finish()),
    }
    Ok(guard)
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written: say so.
    Flush(Sender<()>),
}

/// The way to the thread that writes.
#[derive(Debug)]
struct Queue {
    lines: Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// The bounded queue to `target` and its thread.
fn queue(target: impl Write + Send + 'static) -> io::Result<(Queue, Guard)> {
    let (lines, entries) = bounded(QUEUE_LINES_MAX);
    let dropped = Arc::<AtomicU64>::default();
    let counter = dropped.clone();
    runtime::start_side("log".into(), move || write_all(&entries, target, &counter))?;
    let guard = Guard(lines.clone());
    Ok((Queue { lines, dropped }, guard))
}

/// Writes until there is no log any more.
fn write_all(entries: &Receiver<Entry>, mut target: impl Write, dropped: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                if target.write_all(&line).is_err() {
                    dropped.fetch_add(1, Relaxed);
                }
            }
            Entry::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Each write is one record. It never fails: whoever logs can do nothing about it.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
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
        const BEYOND: u64 = 500;
        let ((given, lines), (go, may)) = (channel(), channel());
        let (queue, guard) = queue(Slow(given, may)).unwrap();
        let mut writer = &queue;
        writer.write_all(b"being written").unwrap();
        lines.recv_timeout(Duration::from_secs(10)).expect("the first line");
        for _ in 0..QUEUE_LINES_MAX as u64 + BEYOND {
            writer.write_all(b"waits, or is dropped").unwrap();
        }
        assert_eq!(queue.dropped.load(Relaxed), BEYOND);
        drop(go);
        for line in 0..QUEUE_LINES_MAX {
            let written = lines.recv_timeout(Duration::from_secs(10));
            assert_eq!(written, Ok(()), "{line} lines of those that waited");
        }
        drop(guard);
        assert_eq!(lines.try_iter().count(), 0);
    }

    /// A disk that is full, a reader that went away.
    struct Dead;

    impl Write for Dead {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_dead_target_costs_lines_and_ends_nothing() {
        let (queue, guard) = queue(Dead).unwrap();
        for _ in 0..3 {
            (&queue).write_all(b"lost").unwrap();
        }
        drop(guard);
        assert_eq!(queue.dropped.load(Relaxed), 3);
    }

    #[test]
    fn starts_twice_without_harm_and_keeps_count() {
        let _first = init(LogLevel::Error, LogFormat::Text).unwrap();
        let _second = init(LogLevel::Trace, LogFormat::Json).unwrap();
        tracing::debug!("below the level of the first log, so never written");
        assert_eq!(dropped_lines(), 0);
        assert_eq!(LevelFilter::current(), LevelFilter::ERROR);
    }
}
