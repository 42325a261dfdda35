//! A server that runs, and how it ends.

use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

use super::api::Api;
use crate::io::mail::{ControlMail, Signal};
use crate::server::{self, ToControl};

/// Pause before a full mailbox is tried again.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) type OnStop = Box<dyn FnOnce(&Handle) -> Result<(), String> + Send>;

/// A server that runs.
#[must_use = "its handlers end with it"]
pub struct Running {
    pub(super) server: server::Running,
    pub(super) api: Api,
    pub(super) control: ToControl,
    pub(super) runtime: Runtime,
    pub(super) on_stop: OnStop,
}

impl Running {
    /// The port of the HTTP interface.
    pub fn port(&self) -> u16 {
        self.server.ports[0]
    }

    /// Asks the server, from outside of its handlers.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Stops: clients are closed, their `on_close` ends, then `on_stop`, all as when the command is told to (`drain_timeout`).
    pub fn stop(self) -> Result<(), String> {
        let mut mail = ControlMail::Signal(Signal::Stop);
        while let Err(back) = self.control.post(mail) {
            mail = back;
            thread::sleep(PAUSE);
        }
        self.wait()
    }

    /// Waits until the server has stopped, which a signal may have told it to.
    pub fn wait(self) -> Result<(), String> {
        let code = self.server.wait();
        let stopped = (self.on_stop)(self.runtime.handle());
        // Handlers that did not end in time end with the process.
        self.runtime.shutdown_background();
        match code {
            0 => stopped,
            code => Err(format!("the server ended with code {code}")),
        }
    }
}

/// Runs one of the methods that are about no client, and waits for its end. It may be called from a thread of another runtime.
pub(super) fn run_on(
    runtime: &Handle,
    within: Option<Duration>,
    method: impl Future<Output = ()> + Send + 'static,
    name: &str,
) -> Result<(), String> {
    let (tell, ended) = mpsc::channel();
    runtime.spawn(async move {
        method.await;
        let _ = tell.send(());
    });
    let panicked = || format!("{name} panicked");
    match within {
        None => ended.recv().map_err(|_| panicked()),
        Some(within) => match ended.recv_timeout(within) {
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(panicked()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("{name} took too long")),
            Ok(()) => Ok(()),
        },
    }
}
