//! Threads are kept on processors the process may use, or on none.

use super::common::business::Business;
use super::common::server::{Builder, Server};
use super::{can_run, not_run, status_of, threads};

/// Numbers of a list like `0-3,7`.
fn numbers(list: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().expect("number");
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    };
    list.split(',').flat_map(range).collect()
}

fn own() -> Vec<usize> {
    numbers(&status_of("self", "Cpus_allowed_list").expect("mask"))
}

/// Where each core of a server runs: control first, then the shards in order.
fn cores(server: &Server) -> Vec<Vec<usize>> {
    let mut cores: Vec<_> = threads(server)
        .into_iter()
        .filter(|(name, _)| name == "control" || name.starts_with("shard-"))
        .collect();
    cores.sort();
    cores.into_iter().map(|(_, list)| numbers(&list)).collect()
}

/// The k-th thread is on the k-th processor of the mask; with as many workers as processors no thread is kept anywhere.
fn expect_pinned(server: &Server, mask: &[usize]) {
    let expected: Vec<Vec<usize>> = match mask {
        [only] => vec![vec![*only]],
        several => several.iter().map(|cpu| vec![*cpu]).collect(),
    };
    assert_eq!(cores(server), expected, "mask {mask:?}");
}

#[test]
fn threads_are_kept_on_the_processors_of_the_mask() {
    let business = Business::start();
    let own = own();
    expect_pinned(&Builder::new(&business).start(), &own);
    if !can_run("taskset", &["--version"]) {
        return not_run("a mask of processors", "there is no taskset");
    }
    // Without the first one, if there are more: not the first of the machine.
    let fewer = &own[usize::from(own.len() > 1)..];
    let list: Vec<_> = fewer.iter().map(ToString::to_string).collect();
    let server = Builder::new(&business)
        .through(&["taskset", "-c", &list.join(",")])
        .start();
    expect_pinned(&server, fewer);
}

#[test]
fn nobody_is_kept_anywhere_who_does_not_want_to_or_has_no_room() {
    let business = Business::start();
    let own = own();
    for builder in [
        Builder::new(&business).set("pin", "no"),
        Builder::new(&business).set("workers", own.len()),
        Builder::new(&business).set("workers", own.len() + 1),
    ] {
        let server = builder.start();
        let cores = cores(&server);
        assert!(cores.iter().all(|cpus| *cpus == own), "{cores:?}");
    }
}

/// A control group that grants the time of one processor: one worker, kept nowhere. The group is played: files in the places
/// where the kernel shows those of the process, of version 1 or 2, in a mount namespace.
#[test]
fn a_quota_of_time_counts_like_fewer_processors() {
    const SCRIPT: &str = "
        set -e
        mount -t tmpfs none /sys/fs/cgroup
        while IFS=: read -r number controllers path; do
            case $controllers in
            '') dir=/sys/fs/cgroup/$path ;;
            cpu|cpu,*|*,cpu|*,cpu,*) dir=/sys/fs/cgroup/cpu/$path ;;
            *) continue ;;
            esac
            mkdir -p \"$dir\"
            echo cpu >\"$dir/cgroup.controllers\"
            echo cpu >/sys/fs/cgroup/cgroup.controllers
            echo 120000 100000 >\"$dir/cpu.max\"
            echo 120000 >\"$dir/cpu.cfs_quota_us\"
            echo 100000 >\"$dir/cpu.cfs_period_us\"
        done </proc/self/cgroup
        exec \"$0\" \"$@\"";
    if own().len() < 2 {
        return not_run("a quota of processor time", "this machine has one processor");
    }
    if !can_run("unshare", &["-m", "mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"]) {
        return not_run(
            "a quota of processor time",
            "no mount namespace (needs root and unshare)",
        );
    }
    let business = Business::start();
    let server = Builder::new(&business)
        .through(&["unshare", "-m", "sh", "-c", SCRIPT])
        .start();
    assert_eq!(cores(&server), [own()], "{}", server.log_tail());
}
