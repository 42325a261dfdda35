//! What the machine allows: open files, io_uring, waiting connections, the clock; and who may read the secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Report;
use crate::config::{Config, Driver};
use crate::io::listen::BACKLOG;
use crate::io::processors::Processors;
use crate::io::runtime::{ActiveDriver, prepare_core};
use crate::io::sys;
use crate::server;

/// Fewer clients than this are a test, not a service.
const CLIENTS_EXPECTED: usize = 10_000;

/// A line of a file below `/proc` or `/sys`.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    line(path)?.parse().ok()
}

/// The settings hold the shared secret.
pub fn secret(report: &mut Report, file: &Path) {
    let Ok(about) = fs::metadata(file) else { return };
    if about.permissions().mode() & 0o004 != 0 {
        let text = format!(
            "{} holds the shared secret, and every user of this machine can read it",
            file.display()
        );
        report.warning("secret", text, "chmod 640, and give it to the group of the server");
    } else {
        report.ok("secret", "not every user of this machine can read it");
    }
}

/// How many clients the limit of open files leaves room for.
pub fn open_files(report: &mut Report, config: &Config) {
    let check = "open files";
    let limit = usize::try_from(sys::raise_descriptor_limit()).unwrap_or(usize::MAX);
    let cores = Processors::of_process().count;
    let workers = config.clone().resolved(cores, limit).workers;
    let own = server::own_descriptors(config, workers);
    let room = limit.saturating_sub(own);
    let clients = config.clone().resolved(cores, room).connections_max;
    let advice = || {
        let kernel =
            number("/proc/sys/fs/nr_open").map_or(String::new(), |most| format!(", at most fs.nr_open ({most})"));
        format!("raise the hard limit: ulimit -Hn, or LimitNOFILE= of the unit{kernel}")
    };
    let text = format!(
        "{limit} allowed, {own} of them for the server itself: room for {} clients",
        clients.min(room)
    );
    if limit < own + server::CLIENT_DESCRIPTORS_MIN {
        report.problem(check, text, advice());
    } else if config.connections_max > room {
        report.warning(
            check,
            format!("{text}, connections_max is {}", config.connections_max),
            advice(),
        );
    } else if clients < CLIENTS_EXPECTED && config.connections_max == 0 {
        report.warning(check, text, advice());
    } else {
        report.ok(check, text);
    }
}

/// Whether the server would run on what the settings want: a ring as large as a core's is made.
pub fn driver(report: &mut Report, config: &Config) {
    let check = "io_uring";
    let kernel =
        line("/proc/sys/kernel/osrelease").map_or("an unknown kernel".to_owned(), |name| format!("Linux {name}"));
    match prepare_core("doctor", None, wanted(config.driver), || async {}) {
        Ok(core) if core.driver == ActiveDriver::IoUring => report.ok(check, format!("can be used ({kernel})")),
        Ok(_) => report.ok(
            check,
            format!("is not wanted (driver = epoll), and epoll works ({kernel})"),
        ),
        Err(error) if config.driver == Driver::Auto => {
            report.warning(check, format!("{error}; the server runs on epoll ({kernel})"), denied());
        }
        Err(error) => report.problem(check, format!("{error} ({kernel})"), denied()),
    }
}

/// What is asked for instead of `auto`, which would fall back without saying why.
fn wanted(driver: Driver) -> Driver {
    match driver {
        Driver::Auto | Driver::IoUring => Driver::IoUring,
        Driver::Epoll => Driver::Epoll,
    }
}

/// What most likely denies io_uring.
fn denied() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_filtered = status
        .lines()
        .any(|line| line.replace('\t', " ").trim_end() == "Seccomp: 2");
    match number("/proc/sys/kernel/io_uring_disabled") {
        Some(1 | 2) => "sysctl kernel.io_uring_disabled=0".to_owned(),
        _ if is_filtered => {
            "the container's seccomp profile must allow io_uring_setup, io_uring_enter and io_uring_register".to_owned()
        }
        _ => {
            "needs Linux 5.10 or newer, and room below the limit of locked memory on old kernels (ulimit -l)".to_owned()
        }
    }
}

/// Connections that may wait for their accept.
pub fn backlog(report: &mut Report) {
    let Some(most) = number("/proc/sys/net/core/somaxconn") else {
        return;
    };
    if most < BACKLOG as u64 {
        let text =
            format!("net.core.somaxconn is {most}: of many clients that come at once only so many wait per core");
        report.warning("backlog", text, format!("sysctl net.core.somaxconn={BACKLOG}"));
    } else {
        report.ok("backlog", format!("{most} connections may wait for their accept"));
    }
}

/// Signatures depend on the time of day, everything else on a clock that is cheap to read.
pub fn clock(report: &mut Report) {
    let check = "clock";
    match sys::clock_is_kept() {
        Some(true) => report.ok(check, "is kept by a time service"),
        Some(false) => {
            let text = "no time service keeps the clock; signatures are refused when it is off by signature_window";
            report.warning(
                check,
                text,
                "run chrony, systemd-timesyncd or ntpd; in a container its host must",
            );
        }
        None => report.warning(check, "the kernel does not say whether a time service keeps it", ""),
    }
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if let Some(source) = line(path).filter(|source| matches!(&**source, "hpet" | "acpi_pm" | "jiffies")) {
        let text = format!("reading it is slow here (clocksource {source}), and the server reads it for every message");
        report.warning(
            check,
            text,
            "see whether tsc or kvm-clock can be used (dmesg says why not)",
        );
    }
}
