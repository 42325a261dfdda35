//! How much memory there is, and how much of it this process uses: so that new clients can be refused before the kernel ends
//! the process.
//!
//! What there is: the machine's memory or the tightest limit of a control group above this process, read once. What is used:
//! resident memory, read at most once per [`SAMPLE_MILLIS`], and only when somebody asks, that is when a client connects.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Age of the number that is believed. A burst of clients takes longer than this to fill the tenth that is kept free.
const SAMPLE_MILLIS: u64 = 1000;

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Shared by all cores.
#[derive(Debug)]
pub struct Memory {
    available: u64,
    started: Instant,
    /// Milliseconds since the start, and the bytes seen then.
    sampled: AtomicU64,
    resident: AtomicU64,
}

impl Memory {
    /// Looks how much there is.
    pub fn look() -> Self {
        let of_groups = fs::read_to_string("/proc/self/cgroup").ok();
        let of_groups = of_groups.and_then(|text| group_limit(Path::new(GROUPS), &text));
        let of_machine = fs::read_to_string("/proc/meminfo").ok();
        let of_machine = of_machine.and_then(|text| kibibytes(&text, "MemTotal:"));
        Self {
            available: of_groups.into_iter().chain(of_machine).min().unwrap_or(u64::MAX),
            started: Instant::now(),
            sampled: AtomicU64::new(0),
            resident: AtomicU64::new(0),
        }
    }

    /// Whether more than `most` bytes are used; 0: nine tenths of what there is.
    pub fn is_short(&self, most: usize) -> bool {
        let most = match most {
            0 => self.available / 10 * 9,
            most => most as u64,
        };
        self.resident() > most
    }

    fn resident(&self) -> u64 {
        let now = self.started.elapsed().as_millis() as u64 + SAMPLE_MILLIS;
        let last = self.sampled.load(Relaxed);
        let is_old = now - last.min(now) >= SAMPLE_MILLIS;
        if is_old && self.sampled.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            // Where nothing can be read nobody is refused.
            self.resident.store(kibibytes(&status, "VmRSS:").unwrap_or(0), Relaxed);
        }
        self.resident.load(Relaxed)
    }
}

/// The number behind `name` in a file of lines like `MemTotal:  1024 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// The tightest limit of the groups in `memberships` (the text of /proc/self/cgroup) and of those above them.
fn group_limit(root: &Path, memberships: &str) -> Option<u64> {
    let limits = memberships.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|one| one == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // A container sees its own group as the root, whatever the path says.
        let below: PathBuf = root.join(group.trim_start_matches('/'));
        let above = below.ancestors().filter(|folder| folder.starts_with(&root));
        above
            .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
            .collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_some() {
        let memory = Memory::look();
        assert!((1 << 20..1 << 60).contains(&memory.available), "{}", memory.available);
        assert!(!memory.is_short(0) && memory.is_short(1));
        assert!((1 << 20..memory.available).contains(&memory.resident()));
    }

    #[test]
    fn numbers_of_proc_files() {
        let text = "Name:\tx\nVmRSS:\t    2048 kB\nVmData:\tmuch\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(2 << 20));
        assert_eq!((kibibytes(text, "VmData:"), kibibytes(text, "VmSwap:")), (None, None));
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = std::env::temp_dir().join(format!("rainbow-groups-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "3000000\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "2000000\n");
        assert_eq!(group_limit(&root, "0::/a/b\n"), Some(3_000_000));
        assert_eq!(group_limit(&root, "4:cpu:/c\n3:memory,x:/c\n0::/a\n"), Some(2_000_000));
        assert_eq!(group_limit(&root, "0::/elsewhere\nnonsense\n"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
