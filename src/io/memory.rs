//! How much memory there is, and how much of it this process uses: so that new clients are refused, and uses of the budget
//! ([`crate::budget`]) give way, before the kernel ends the process.
//!
//! What there is: `memory_max`, or nine tenths of the machine's memory or of the tightest limit of a control group above this
//! process (v1 and v2), which may change and is read again. What is used: resident memory, sampled when a client connects (at
//! most every [`SAMPLE_MILLIS`]) and by the control core ([`Memory::tend`]), plus what was charged to the budget and let in since.
//!
//! The allocator keeps pages that were freed, so resident memory alone would refuse for ever after a peak. They are given back
//! when what is not charged has grown, and before anybody is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::sys;
use crate::budget::OF_PROCESS;

/// Age of the resident memory that is believed.
const SAMPLE_MILLIS: u64 = 100;

/// Age of the limits of control groups that is believed.
const LIMITS_MILLIS: u64 = 1000;

/// Pages are given back at most this often: it takes milliseconds for each hundred megabytes.
const GIVE_BACK_MILLIS: u64 = 1000;

/// Growth of what is not charged after which it is tried to give some of it back.
const KEPT_BYTES: u64 = 4 << 20;

/// Charges below this are what a calm server has.
const CALM_BYTES: usize = 1 << 20;

/// What a client that was let in after the last sample is taken to need until the next: its slot, a call to the backend and
/// its connection.
const COMING_BYTES: u64 = 16 * 1024;

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Shared by all cores.
#[derive(Debug)]
pub struct Memory {
    machine: u64,
    groups: PathBuf,
    started: Instant,
    /// Limit of the machine and its groups, and when it is to be read again, in milliseconds since the start.
    available: AtomicU64,
    available_until: AtomicU64,
    /// Resident memory, what was charged then, who was let in since, and when to look again.
    resident: AtomicU64,
    charged: AtomicUsize,
    coming: AtomicU64,
    sampled_until: AtomicU64,
    /// [`Memory::others`] after pages were given back, and when that may be done again.
    floor: AtomicU64,
    kept_until: AtomicU64,
}

impl Memory {
    /// Looks how much there is.
    pub fn look() -> Self {
        Self::below(Path::new(GROUPS))
    }

    fn below(groups: &Path) -> Self {
        let machine = fs::read_to_string("/proc/meminfo").ok();
        Self {
            machine: machine
                .and_then(|text| kibibytes(&text, "MemTotal:"))
                .unwrap_or(u64::MAX),
            groups: groups.to_owned(),
            started: Instant::now(),
            available: AtomicU64::new(u64::MAX),
            available_until: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            charged: AtomicUsize::new(0),
            coming: AtomicU64::new(0),
            sampled_until: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            kept_until: AtomicU64::new(0),
        }
    }

    /// A client asks to connect: whether more than `most` bytes are used (0: nine tenths of what there is). If not, it is
    /// counted as coming.
    pub fn is_short(&self, most: usize) -> bool {
        let most = self.most(most);
        if self.is_due(&self.sampled_until, SAMPLE_MILLIS) {
            self.sample(most);
        }
        if self.expected() > most && self.is_due(&self.kept_until, GIVE_BACK_MILLIS) {
            self.give_back(most);
        }
        let is_short = self.expected() > most;
        if !is_short {
            self.coming.fetch_add(COMING_BYTES, Relaxed);
        }
        is_short
    }

    /// Sets the limit of the budget to what is left of `most` (as for [`Memory::is_short`]), and gives pages back after a peak.
    /// Call it every second, or every ten while it returns true: little is charged.
    pub fn tend(&self, most: usize) -> bool {
        let most = self.most(most);
        self.sample(most);
        let is_kept = self.others() > self.floor.load(Relaxed) + KEPT_BYTES;
        if is_kept && self.is_due(&self.kept_until, GIVE_BACK_MILLIS) {
            self.give_back(most);
        }
        OF_PROCESS.total() < CALM_BYTES
    }

    fn most(&self, most: usize) -> u64 {
        match most {
            0 => self.available() / 10 * 9,
            most => most as u64,
        }
    }

    fn available(&self) -> u64 {
        if self.is_due(&self.available_until, LIMITS_MILLIS) {
            let memberships = fs::read_to_string("/proc/self/cgroup").ok();
            let of_groups = memberships.and_then(|text| group_limit(&self.groups, &text));
            self.available
                .store(of_groups.unwrap_or(u64::MAX).min(self.machine), Relaxed);
        }
        self.available.load(Relaxed)
    }

    /// Memory in use by now, as far as that is known.
    fn expected(&self) -> u64 {
        let grown = OF_PROCESS.total().saturating_sub(self.charged.load(Relaxed));
        self.resident.load(Relaxed) + grown as u64 + self.coming.load(Relaxed)
    }

    fn sample(&self, most: u64) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Where nothing can be read nobody is refused.
        let resident = kibibytes(&status, "VmRSS:").unwrap_or(0);
        let charged = OF_PROCESS.total();
        self.resident.store(resident, Relaxed);
        self.charged.store(charged, Relaxed);
        self.coming.store(0, Relaxed);
        // Clients that only wait are not charged; a quarter is left for messages whatever they take.
        let others = self.others();
        OF_PROCESS.set_limit(usize::try_from(most.saturating_sub(others).max(most / 4)).unwrap_or(usize::MAX));
    }

    fn give_back(&self, most: u64) {
        sys::give_memory_back();
        self.sample(most);
        self.floor.store(self.others(), Relaxed);
    }

    /// Resident memory that was not charged, at the last look: what clients take that only wait, and pages nobody uses.
    fn others(&self) -> u64 {
        self.resident
            .load(Relaxed)
            .saturating_sub(self.charged.load(Relaxed) as u64)
    }

    /// Whether `until` has passed; the one who is told so sets it `millis` ahead.
    fn is_due(&self, until: &AtomicU64, millis: u64) -> bool {
        let now = self.started.elapsed().as_millis() as u64 + 1;
        let before = until.load(Relaxed);
        now > before && until.compare_exchange(before, now + millis, Relaxed, Relaxed).is_ok()
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
        assert!(
            (1 << 20..1 << 60).contains(&memory.available()),
            "{}",
            memory.available()
        );
        assert!(!memory.is_short(0) && memory.is_short(1));
        assert!((1 << 20..memory.available()).contains(&memory.resident.load(Relaxed)));
        memory.tend(0);
        assert!(memory.floor.load(Relaxed) <= memory.resident.load(Relaxed));
    }

    #[test]
    fn who_was_let_in_since_the_last_look_counts() {
        let memory = Memory::look();
        let most = 1 << 40;
        assert!(!memory.is_short(most));
        memory.sampled_until.store(u64::MAX, Relaxed);
        memory.kept_until.store(u64::MAX, Relaxed);
        let room = most as u64 - memory.expected();
        memory.coming.fetch_add(room - 2 * COMING_BYTES, Relaxed);
        let let_in = (0..10).take_while(|_| !memory.is_short(most)).count();
        // Other tests of this process charge a little.
        assert!((2..=3).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_limit_that_changes_is_seen() {
        let root = std::env::temp_dir().join(format!("rainbow-limit-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let memory = Memory::below(&root);
        let limit = |text: &str| {
            // In whatever group this test runs, the root of all is above it, in v2 or v1.
            for folder in [root.clone(), root.join("memory")] {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("memory.max"), text).unwrap();
                fs::write(folder.join("memory.limit_in_bytes"), text).unwrap();
            }
            memory.available_until.store(0, Relaxed);
        };
        limit("1000000\n");
        let is_known = memory.available() == 1_000_000;
        limit("3000000\n");
        // A machine without control groups has no limit to change.
        assert_eq!((memory.available() == 3_000_000), is_known);
        limit("max\n");
        assert_eq!(memory.available(), memory.machine);
        fs::remove_dir_all(&root).unwrap();
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
