//! From settings and handlers to a server that runs.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::watch;

use super::Application;
use super::api::Api;
use super::handlers::{Shared, Tasks};
use super::running::{Running, run_on};
use super::settings::{Source, overrides};
use crate::config::{Config, Warning};
use crate::io::application::Handlers;
use crate::io::signals::Signals;
use crate::io::sys;
use crate::log;
use crate::server::{self, MakeHandlers, Service, ToControl};

/// Time `on_stop` has.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What is served, and how: settings, in code or from a file, and pages.
///
/// The settings are those of `server.ini`, with their defaults. Those in code begin with `bind = 127.0.0.1` and
/// `cluster_udp = no` in `[main]`, and have a section `[gateway]`: only this machine is served until `bind` says otherwise, and
/// `[gateway] bind` may say so for the clients alone.
#[derive(Clone, Debug, Default)]
pub struct Server {
    source: Source,
    pages: HashMap<Box<[u8]>, (&'static str, Bytes)>,
    threads: Option<usize>,
}

impl Server {
    /// With settings in code: [`Server::main`] and [`Server::gateway`].
    pub fn new() -> Self {
        Self::default()
    }

    /// With the settings of a `server.ini`, which a reload (SIGHUP) reads again.
    pub fn from_file(file: impl Into<PathBuf>) -> Self {
        Self {
            source: Source::File(file.into()),
            ..Self::default()
        }
    }

    /// Sets a key of section `[main]`, as it would be written there. In place of a file, where one was named.
    pub fn main(self, key: &str, value: impl Display) -> Self {
        self.set(0, key, value.to_string())
    }

    /// Sets a key of section `[gateway]`, as it would be written there. In place of a file, where one was named.
    pub fn gateway(self, key: &str, value: impl Display) -> Self {
        self.set(1, key, value.to_string())
    }

    fn set(mut self, section: usize, key: &str, value: String) -> Self {
        self.source.set(section, key, value);
        self
    }

    /// Serves a page on the port of the HTTP interface: GET of exactly this path.
    pub fn page(mut self, path: &str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.pages.insert(path.as_bytes().into(), (content_type, body.into()));
        self
    }

    /// How many threads run handlers; otherwise as many as the machine has processors.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Starts the server beside the rest of the program, which keeps its signals and its log (what is logged goes to `tracing`).
    /// One server in a process: its threads live until the process ends. Errors are for the operator.
    pub fn start(self, app: impl Application) -> Result<Running, String> {
        let (config, warnings) = self.source.load()?;
        self.run(app, config, &warnings, &Signals::none())
    }

    fn run(
        self,
        app: impl Application,
        config: Config,
        warnings: &[Warning],
        signals: &Signals,
    ) -> Result<Running, String> {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let runtime = threads(self.threads)?;
        let (has_started, started) = watch::channel(false);
        let (make, made) = handlers(app, started, runtime.handle().clone());
        let pages = self.pages;
        let service = Service {
            file: match self.source {
                Source::File(file) => Some(file),
                Source::Code(_) => None,
            },
            overrides: overrides(),
            assets: Box::new(move |path| pages.get(path).cloned()),
            handlers: Some(make),
            ..Service::of(config)
        };
        let server = server::start(service, signals)?;
        let gone = || "the application ended at once".to_owned();
        let (shared, control) = made.recv().map_err(|_| gone())?;
        let (api, app) = (shared.api.clone(), shared.clone());
        run_on(
            runtime.handle(),
            None,
            async move { app.app.on_start(&app.api).await },
            "on_start",
        )?;
        let _ = has_started.send(true);
        let on_stop = move |runtime: &Handle| {
            let stop = async move { shared.app.on_stop(&shared.api).await };
            run_on(runtime, Some(STOP_WITHIN), stop, "on_stop")
        };
        Ok(Running {
            server,
            api,
            control,
            runtime,
            on_stop: Box::new(on_stop),
        })
    }
}

/// The threads of handlers.
fn threads(number: Option<usize>) -> Result<Runtime, String> {
    let mut threads = runtime::Builder::new_multi_thread();
    // Handlers may use whatever tokio was built with.
    threads.thread_name("application").enable_all();
    if let Some(number) = number {
        threads.worker_threads(number.max(1));
    }
    threads
        .build()
        .map_err(|error| format!("the threads of the application cannot be started: {error}"))
}

type Made<A> = (Arc<Shared<A>>, ToControl);

/// What makes the handlers, and what it has made then.
fn handlers<A: Application>(
    app: A,
    started: watch::Receiver<bool>,
    runtime: Handle,
) -> (MakeHandlers, mpsc::Receiver<Made<A>>) {
    let (tell, made) = mpsc::channel();
    let make = move |control: ToControl| {
        let api = Api::new(control.clone(), runtime.clone());
        let shared = Arc::new(Shared { app, api, started });
        let _ = tell.send((shared.clone(), control.clone()));
        let tasks = Tasks {
            shared,
            runtime,
            control,
        };
        Box::new(tasks) as Box<dyn Handlers>
    };
    (Box::new(make), made)
}

/// Serves until the process is told to stop (SIGTERM, SIGINT; SIGHUP reads the settings again). Logs to standard error. To be
/// called from `main` before there are other threads, which would get the signals. Errors are for the operator.
pub fn serve(server: Server, app: impl Application) -> Result<(), String> {
    sys::hold_signals();
    let signals = Signals::catch().map_err(|error| format!("signals cannot be caught: {error}"))?;
    let (config, warnings) = server.source.load()?;
    let log = log::init(config.log_level, config.log_format);
    let _log = log.map_err(|error| format!("the log cannot be started: {error}"))?;
    server.run(app, config, &warnings, &signals)?.wait()
}
