//! The `rainbow-server` command: arguments → configuration → server.
//!
//! Exit codes of the server: 0 done, or stopped in order; 1 the text that was asked for could not be written, or stopped by a
//! second signal; 2 refused (command line, settings, this machine); 70 a core failed. Subcommands have their own (`tool`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rainbow_server::cli::{self, Command, EXIT_USAGE};
use rainbow_server::config::Overrides;
use rainbow_server::demo::{self, Backend};
use rainbow_server::io::signals::Signals;
use rainbow_server::io::{console, runtime, sys};
use rainbow_server::log;
use rainbow_server::server::{self, Service};
use rainbow_server::tool;

fn main() -> ExitCode {
    // Before anything else: until there is a thread that takes them, signals wait.
    sys::hold_signals();
    console::report_panics();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = tool::run(&args) {
        return ExitCode::from(code);
    }
    match cli::parse(args) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::CheckConfig { file, overrides }) => check(&file, &overrides),
        Ok(Command::Run {
            file,
            overrides,
            takeover,
        }) => run(file, overrides, takeover),
        Ok(Command::Demo { overrides }) => demo(overrides),
        Err(refusal) => refuse(&refusal.to_string()),
    }
}

/// Nothing here needs an orderly end: signals do what they do to every command.
fn print(text: &str) -> ExitCode {
    sys::release_signals();
    match console::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&format!("standard output cannot be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn check(file: &Path, overrides: &Overrides) -> ExitCode {
    sys::release_signals();
    match cli::check(file, overrides) {
        Ok(text) => print(&text),
        Err(text) => refuse(&text),
    }
}

fn run(file: PathBuf, overrides: Overrides, takeover: bool) -> ExitCode {
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return refuse(&format!("signals cannot be caught: {error}")),
    };
    let (config, warnings) = match cli::load(&file, &overrides) {
        Ok(loaded) => loaded,
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            return refuse(&errors.join("\n"));
        }
    };
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let service = Service {
        file: Some(file),
        overrides,
        takeover,
        ..Service::of(config)
    };
    serve(service, &signals, &warnings, |_| {})
}

fn demo(overrides: Overrides) -> ExitCode {
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return refuse(&format!("signals cannot be caught: {error}")),
    };
    let backend = match Backend::start() {
        Ok(backend) => backend,
        Err(error) => return refuse(&format!("the built-in business server cannot start: {error}")),
    };
    let config = demo::settings(&backend, &overrides);
    let service = Service {
        overrides,
        assets: Box::new(demo::asset),
        ..Service::of(config)
    };
    serve(service, &signals, &[], |port| {
        backend.serve_api(port);
        // The demonstration runs also where nobody reads it.
        let banner = format!("{}\n", demo::banner(port));
        let _ = runtime::start_side("banner".into(), move || drop(console::print(&banner)));
    })
}

/// Serves until the end; `started` is told the port.
fn serve(service: Service, signals: &Signals, warnings: &[String], started: impl FnOnce(u16)) -> ExitCode {
    let _log = match log::init(service.config.log_level, service.config.log_format) {
        Ok(log) => log,
        Err(error) => return refuse(&format!("the log cannot be started: {error}")),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match server::start(service, signals) {
        Ok(running) => {
            started(running.ports[0]);
            ExitCode::from(running.wait())
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(text: &str) -> ExitCode {
    console::say(text);
    ExitCode::from(EXIT_USAGE)
}
