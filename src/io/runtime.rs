//! One pinned thread with one runtime per core.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use io_uring::IoUring;
use monoio::{FusionDriver, IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config::Driver;

/// Submission entries per ring; more made no difference in measurements.
const RING_ENTRIES: u32 = 1024;

/// What a core runs on in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveDriver {
    /// io_uring.
    IoUring,
    /// epoll, because it was asked for or io_uring is denied.
    Epoll,
}

impl ActiveDriver {
    /// The driver a core will get, known before any is started. Errors if io_uring is insisted on and denied.
    pub fn choose(wanted: Driver) -> Result<Self, String> {
        let forced = std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some();
        let available = !forced && monoio::utils::detect_uring();
        match wanted {
            Driver::Epoll => Ok(Self::Epoll),
            Driver::IoUring if !available => {
                Err("io_uring is not available here; allow it (container profile, kernel) or set driver = auto".into())
            }
            _ if available => Ok(Self::IoUring),
            _ => Ok(Self::Epoll),
        }
    }

    /// As the log and `/metrics` call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Starts a thread that runs `main` on its own runtime. A panic or a runtime that cannot be built ends the process: half a
/// server is worse than none.
pub fn start_core<F, Fut>(name: String, cpu: Option<usize>, driver: ActiveDriver, main: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        if let Some(cpu) = cpu
            && monoio::utils::bind_to_cpu_set([cpu]).is_err()
        {
            tracing::warn!(core = %name, cpu, "could not pin the thread");
        }
        let run = std::panic::AssertUnwindSafe(|| run(driver, main));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => die(&name, &format!("its runtime failed: {error}")),
            Err(_) => die(&name, "it panicked (see above)"),
        }
    })
}

fn run<F, Fut>(driver: ActiveDriver, main: F) -> io::Result<()>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    match driver {
        ActiveDriver::IoUring => {
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
            let mut runtime = ring(quiet).or_else(|_| ring(IoUring::builder()))?;
            runtime.block_on(async move { main().await });
        }
        ActiveDriver::Epoll => {
            let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
                .with_entries(RING_ENTRIES)
                .enable_timer()
                .build()?;
            runtime.block_on(async move { main().await });
        }
    }
    Ok(())
}

/// The runtime used by tests of the shell, driver as in production.
pub fn block_on_fusion<F: Future>(future: F) -> io::Result<F::Output> {
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build()?;
    Ok(runtime.block_on(future))
}

fn die(core: &str, why: &str) -> ! {
    eprintln!("rainbow-server: core {core} ended: {why}; the process stops with it");
    std::process::exit(70);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Ends this process, which is a child of the test below: the other core would go on for a minute.
    #[test]
    #[ignore = "run by a_panic_outside_of_clients_ends_the_process"]
    fn half_of_the_process_panics() {
        let driver = ActiveDriver::choose(Driver::Auto).unwrap();
        let lives = || async { monoio::time::sleep(Duration::from_secs(60)).await };
        let other = start_core("lives".into(), None, driver, lives).unwrap();
        start_core("dies".into(), None, driver, || async { panic!("injected") }).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_panic_outside_of_clients_ends_the_process() {
        for legacy in [false, true] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "--ignored", "--nocapture"]);
            child.arg("io::runtime::tests::half_of_the_process_panics");
            if legacy {
                child.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
            }
            let output = child.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(70), "{said}");
            assert!(said.contains("injected") && said.contains("core dies ended"), "{said}");
        }
    }
}
