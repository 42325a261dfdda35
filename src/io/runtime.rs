//! One thread with one runtime per core, pinned or not; and the side threads.
//!
//! Invariant: half a server is worse than none. A core that panics or comes to its end takes the process with it (exit code
//! 70), and so does a side thread that panics. What can be known before is known before: all cores have their runtime before
//! the first one begins. Callers: `server.rs`; for side threads whoever needs one.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};

use io_uring::IoUring;
use monoio::time::TimeDriver;
use monoio::{FusionDriver, IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::console;
use crate::config::Driver;

/// Submission entries per ring; more made no difference in measurements.
const RING_ENTRIES: u32 = 1024;

/// What a core runs on in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveDriver {
    /// io_uring.
    IoUring,
    /// epoll, because it was asked for, or io_uring is denied or finds no room.
    Epoll,
}

impl ActiveDriver {
    /// As the log and `/metrics` call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// A core that has its runtime and waits for the others. Dropped, it ends without having begun.
#[derive(Debug)]
pub struct ReadyCore {
    /// What it runs on.
    pub driver: ActiveDriver,
    go: SyncSender<()>,
}

impl ReadyCore {
    /// Lets it begin.
    pub fn begin(self) {
        // Without a receiver the thread has panicked, and says so itself.
        let _ = self.go.send(());
    }
}

/// Starts a thread with a runtime that will run `main`. Errors are for the operator: no thread, no runtime.
pub fn prepare_core<F, Fut>(name: &str, cpu: Option<usize>, wanted: Driver, main: F) -> Result<ReadyCore, String>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (built, is_built) = sync_channel(1);
    let (go, may_begin) = sync_channel(1);
    let core = name.to_owned();
    let run = move || {
        pin(&core, cpu);
        let runtime = match AnyRuntime::build(&core, wanted) {
            Ok(runtime) => runtime,
            Err(error) => return drop(built.send(Err(error))),
        };
        let _ = built.send(Ok(runtime.driver()));
        if may_begin.recv().is_err() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| runtime.block_on(main()))) {
            Ok(()) => die(&core, "it came to its end"),
            Err(_) => die(&core, "it panicked (see above)"),
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| format!("the thread of core {name} could not be started: {error}"))?;
    match is_built.recv() {
        Ok(built) => built.map(|driver| ReadyCore { driver, go }),
        Err(_) => Err(format!("core {name} panicked at its start (see above)")),
    }
}

/// Starts a thread beside the cores. If it panics the process ends. Errors: no thread.
pub fn start_side(name: String, main: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = name.clone();
    let run = move || {
        if catch_unwind(AssertUnwindSafe(main)).is_err() {
            die(&thread, "it panicked (see above)");
        }
    };
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

fn pin(core: &str, cpu: Option<usize>) {
    if let Some(cpu) = cpu
        && let Err(error) = monoio::utils::bind_to_cpu_set([cpu])
    {
        tracing::warn!(core, cpu, %error, "the thread could not be pinned, it runs on any processor");
    }
}

enum AnyRuntime {
    Ring(Runtime<TimeDriver<IoUringDriver>>),
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl AnyRuntime {
    /// With `auto`, io_uring if the kernel lets this core have it. That is decided by making the ring that will be used: one
    /// that is denied (EPERM), not there (ENOSYS) or finds no room (ENOMEM, where locked memory is limited) may fail by its size.
    fn build(core: &str, wanted: Driver) -> Result<Self, String> {
        let is_forced = std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some();
        let ring = match wanted {
            Driver::Epoll => None,
            _ if is_forced => Some(Err("MONOIO_FORCE_LEGACY_DRIVER is set".to_owned())),
            // The ring alone does not tell whether the kernel has all operations the runtime needs.
            _ => Some(build_ring().map_err(|error| error.to_string()).and_then(|ring| {
                let is_usable = monoio::utils::detect_uring();
                is_usable
                    .then_some(ring)
                    .ok_or_else(|| "this kernel has too old a one".to_owned())
            })),
        };
        match (ring, wanted) {
            (Some(Ok(ring)), _) => return Ok(Self::Ring(ring)),
            (Some(Err(error)), Driver::IoUring) => {
                return Err(format!(
                    "io_uring cannot be used: {error}; allow it (kernel, container profile, limit of locked memory) or set \
                     driver = auto"
                ));
            }
            (Some(Err(error)), _) if !is_forced => {
                tracing::warn!(core, error, "io_uring cannot be used, this core runs on epoll");
            }
            _ => {}
        }
        let epoll = RuntimeBuilder::<LegacyDriver>::new()
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build();
        epoll.map(Self::Epoll).map_err(|error| {
            format!("core {core} can have no epoll: {error}; free memory, or raise the limit of open files")
        })
    }

    fn driver(&self) -> ActiveDriver {
        match self {
            Self::Ring(_) => ActiveDriver::IoUring,
            Self::Epoll(_) => ActiveDriver::Epoll,
        }
    }

    fn block_on(self, main: impl Future<Output = ()>) {
        match self {
            Self::Ring(mut runtime) => runtime.block_on(main),
            Self::Epoll(mut runtime) => runtime.block_on(main),
        }
    }
}

fn build_ring() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let ring = |options| {
        RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(options)
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build()
    };
    // What completes while the core is busy need not interrupt it: it looks before it sleeps. Since Linux 5.19.
    let mut quiet = IoUring::builder();
    quiet.setup_coop_taskrun();
    ring(quiet).or_else(|_| ring(IoUring::builder()))
}

/// The runtime used by tests of the shell, driver as in production.
pub fn block_on_fusion<F: Future>(future: F) -> io::Result<F::Output> {
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build()?;
    Ok(runtime.block_on(future))
}

fn die(thread: &str, why: &str) -> ! {
    console::say(&format!("thread {thread} ended: {why}; the process stops with it"));
    std::process::exit(70);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Both end this process, which is a child of the test below: the other core would go on for a minute.
    #[test]
    #[ignore = "run by a_core_or_side_thread_that_fails_ends_the_process"]
    fn half_of_the_process_panics() {
        core_beside_one_that(|| async { panic!("injected") });
    }

    #[test]
    #[ignore = "run by a_core_or_side_thread_that_fails_ends_the_process"]
    fn half_of_the_process_panics_in_a_task() {
        core_beside_one_that(|| async {
            monoio::spawn(async { panic!("injected") });
            monoio::time::sleep(Duration::from_secs(60)).await;
        });
    }

    #[test]
    #[ignore = "run by a_core_or_side_thread_that_fails_ends_the_process"]
    fn half_of_the_process_comes_to_its_end() {
        core_beside_one_that(|| async {});
    }

    #[test]
    #[ignore = "run by a_core_or_side_thread_that_fails_ends_the_process"]
    fn a_side_thread_panics() {
        start_side("dies".into(), || panic!("injected")).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    fn core_beside_one_that<F: Future<Output = ()> + 'static>(fails: fn() -> F) {
        let lives = || async { monoio::time::sleep(Duration::from_secs(60)).await };
        let lives = prepare_core("lives", None, Driver::Auto, lives).unwrap();
        let dies = prepare_core("dies", None, Driver::Auto, fails).unwrap();
        lives.begin();
        dies.begin();
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_core_or_side_thread_that_fails_ends_the_process() {
        for (part, words) in [
            ("half_of_the_process_panics", ["injected", "thread dies ended"]),
            (
                "half_of_the_process_panics_in_a_task",
                ["injected", "thread dies ended"],
            ),
            (
                "half_of_the_process_comes_to_its_end",
                ["came to its end", "thread dies ended"],
            ),
            ("a_side_thread_panics", ["injected", "thread dies ended"]),
        ] {
            for legacy in [false, true] {
                let mut child = std::process::Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", "--ignored", "--nocapture"]);
                child.arg(format!("io::runtime::tests::{part}"));
                if legacy {
                    child.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
                }
                let output = child.output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(70), "{part}: {said}");
                assert!(words.iter().all(|word| said.contains(word)), "{part}: {said}");
            }
        }
    }

    #[test]
    fn a_core_that_is_not_begun_runs_nothing() {
        let core = prepare_core("waits", None, Driver::Auto, || async {
            unreachable!("nobody let it begin")
        });
        drop(core.unwrap());
    }
}
