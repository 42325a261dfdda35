//! The `rainbow-server` command: arguments → configuration → server.

use std::process::ExitCode;

use rainbow_server::cli::{self, Command, EXIT_USAGE};
use rainbow_server::config::{Config, Overrides};
use rainbow_server::demo::{self, Backend};
use rainbow_server::log;
use rainbow_server::server::{self, Service};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(refusal) => return refuse(&refusal.to_string()),
    };
    match command {
        Command::Print(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Command::CheckConfig { file, overrides } => match cli::check(&file, &overrides) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(text) => refuse(&text),
        },
        Command::Run {
            file,
            overrides,
            takeover,
        } => match cli::load(&file, &overrides) {
            Ok((config, warnings)) => {
                let service = Service {
                    config,
                    file: Some(file),
                    overrides,
                    takeover,
                    assets: |_| None,
                };
                serve(service, &warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            Err(errors) => refuse(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        },
        Command::Demo { overrides } => demo(overrides),
    }
}

fn serve(service: Service, warnings: &[String]) -> ExitCode {
    let _log = log::init(service.config.log_level, service.config.log_format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match server::start(service) {
        Ok(running) => ExitCode::from(running.wait()),
        Err(error) => refuse(&error),
    }
}

fn demo(overrides: Overrides) -> ExitCode {
    let backend = match Backend::start() {
        Ok(backend) => backend,
        Err(error) => return refuse(&format!("the built-in business server cannot start: {error}")),
    };
    let config = Config::demo(backend.port(), &overrides);
    let _log = log::init(config.log_level, config.log_format);
    match server::start(Service {
        config,
        file: None,
        overrides,
        takeover: false,
        assets: demo::asset,
    }) {
        Ok(running) => {
            backend.serve_api(running.ports[0]);
            println!("{}", demo::banner(running.ports[0]));
            ExitCode::from(running.wait())
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(text: &str) -> ExitCode {
    eprintln!("rainbow-server: {text}");
    ExitCode::from(EXIT_USAGE)
}
