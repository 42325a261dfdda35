//! What a process costs, from /proc. CPU time comes from `schedstat` (nanoseconds) where the kernel has it, else from
//! `stat` (ticks); the split into user and system from `stat`, which is coarse.

use std::collections::BTreeMap;
use std::fs;

/// Nanoseconds of one tick of `stat` (USER_HZ is 100 on Linux).
const TICK_NS: u64 = 10_000_000;

/// CPU time of a process so far.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// By thread name, nanoseconds.
    pub threads: BTreeMap<String, u64>,
    /// User time in nanoseconds, coarse.
    pub user: u64,
    /// System time in nanoseconds, coarse.
    pub system: u64,
}

impl Cpu {
    /// Now.
    pub fn of(pid: u32) -> Self {
        let mut cpu = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let name = fs::read_to_string(path.join("comm"))
                .unwrap_or_default()
                .trim()
                .to_owned();
            let stat = ticks(&fs::read_to_string(path.join("stat")).unwrap_or_default());
            let exact = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let exact = exact.split(' ').next().and_then(|ns| ns.parse().ok());
            *cpu.threads.entry(name).or_default() += exact.unwrap_or(stat.0 + stat.1);
            cpu.user += stat.0;
            cpu.system += stat.1;
        }
        cpu
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &String| earlier.threads.get(name).copied().unwrap_or(0);
        let threads = self.threads.iter();
        Self {
            threads: threads
                .map(|(name, ns)| (name.clone(), ns.saturating_sub(before(name))))
                .collect(),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// All threads, nanoseconds.
    pub fn total(&self) -> u64 {
        self.threads.values().sum()
    }

    /// Share of user time, 0..=1; none if too little was used to say.
    pub fn user_share(&self) -> Option<f64> {
        let all = self.user + self.system;
        (all >= 20 * TICK_NS).then(|| self.user as f64 / all as f64)
    }
}

/// User and system time of a `stat` line in nanoseconds.
fn ticks(stat: &str) -> (u64, u64) {
    // The name may contain spaces; fields count from behind its bracket.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * TICK_NS;
    (field(11), field(12))
}

/// Anonymous memory of a process in bytes: what it allocated, without the pages of its binary.
pub fn memory(pid: u32) -> u64 {
    kib(&format!("/proc/{pid}/status"), "RssAnon:") * 1024
}

/// Slab memory of the kernel in bytes.
pub fn slab() -> u64 {
    kib("/proc/meminfo", "Slab:") * 1024
}

fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The machine, in lines of text: processor, cores, kernel.
pub fn machine() -> Vec<(String, String)> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<&str> = cpuinfo.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models
        .first()
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown");
    let memory = kib("/proc/meminfo", "MemTotal:") / 1024 / 1024;
    vec![
        ("processor".into(), model.to_owned()),
        ("cores".into(), models.len().to_string()),
        ("memory".into(), format!("{memory} GiB")),
        ("kernel".into(), read("/proc/sys/kernel/osrelease")),
        ("load before".into(), read("/proc/loadavg")),
    ]
}
