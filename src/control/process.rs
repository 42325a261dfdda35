//! What `/serverinfo/` says about this process. Sampled when asked, from two reads of `/proc`; nothing waits.

use crate::io::clock::Clock;
use crate::time::Instant;
use std::cell::Cell;

/// Clock ticks per second of `/proc/self/stat`; Linux has the same number everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// Remembers the last sample, so that the CPU share is that of the time since.
pub struct Usage {
    last: Cell<(Instant, f64)>,
}

impl Usage {
    /// From now on.
    pub fn new(clock: &Clock) -> Self {
        Self {
            last: Cell::new((clock.now(), cpu_seconds().unwrap_or(0.0))),
        }
    }

    /// Percent of one CPU used since the last call, and percent of the machine's memory in use; 0 if `/proc` is not there.
    pub fn sample(&self, now: Instant) -> (f64, f64) {
        let used = cpu_seconds().unwrap_or(0.0);
        let (then, before) = self.last.replace((now, used));
        let elapsed = now.since(then).as_secs_f64();
        let cpu = if elapsed > 0.0 {
            (used - before).max(0.0) / elapsed * 100.0
        } else {
            0.0
        };
        ((cpu * 10.0).round() / 10.0, memory_percent().unwrap_or(0.0))
    }
}

/// User and system time of this process.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process may contain anything but comes in parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// Bytes of this process in RAM.
pub fn resident_bytes() -> Option<f64> {
    Some(kilobytes("/proc/self/status", "VmRSS:")? * 1024.0)
}

/// Descriptors this process has open. Linux tells since 6.2 as the size of the directory; counting a million entries would
/// hold up the core.
pub fn descriptors() -> Option<f64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    (size > 0).then_some(size as f64)
}

fn memory_percent() -> Option<f64> {
    let resident = kilobytes("/proc/self/status", "VmRSS:")?;
    let total = kilobytes("/proc/meminfo", "MemTotal:")?;
    Some(resident / total * 100.0)
}

fn kilobytes(file: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let clock = Clock::start();
        let usage = Usage::new(&clock);
        let (cpu, memory) = usage.sample(clock.now());
        assert!(cpu >= 0.0);
        assert!(memory > 0.0 && memory < 100.0, "{memory}");
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
        assert!(descriptors().is_none_or(|open| open >= 3.0));
    }
}
