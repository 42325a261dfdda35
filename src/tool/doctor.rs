//! `doctor`: what would keep a server with these settings from working on this machine, and what to do about it.
//!
//! It reads, and asks; nothing is changed. Each check prints one finding or more and goes on whatever it has found. Ports that
//! are free are bound for a moment.

mod backend;
mod machine;
mod ports;

use super::output::{Object, Output};
use super::{End, Failure};
use crate::cli::{self, given::Given};
use crate::config::Overrides;

/// What a finding means for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not do what was meant, or not as well as it could.
    Warning,
    /// It does not work.
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// Takes findings and shows them.
struct Report {
    output: Output,
    problems: u32,
    warnings: u32,
    /// What could not be shown.
    failure: Option<Failure>,
}

impl Report {
    fn ok(&mut self, check: &str, text: impl AsRef<str>) {
        self.finding(Level::Ok, check, text.as_ref(), "");
    }

    fn warning(&mut self, check: &str, text: impl AsRef<str>, advice: impl AsRef<str>) {
        self.finding(Level::Warning, check, text.as_ref(), advice.as_ref());
    }

    fn problem(&mut self, check: &str, text: impl AsRef<str>, advice: impl AsRef<str>) {
        self.finding(Level::Problem, check, text.as_ref(), advice.as_ref());
    }

    fn finding(&mut self, level: Level, check: &str, text: &str, advice: &str) {
        self.problems += u32::from(level == Level::Problem);
        self.warnings += u32::from(level == Level::Warning);
        let line = if self.output.json {
            let object = Object::new()
                .text("check", check)
                .text("level", level.word())
                .text("text", text);
            let object = if advice.is_empty() {
                object
            } else {
                object.text("advice", advice)
            };
            object.end()
        } else {
            let advice = if advice.is_empty() {
                String::new()
            } else {
                format!("\n{:21}→ {advice}", "")
            };
            format!("{:8} {check:11} {text}{advice}", level.word()).into_bytes()
        };
        if self.failure.is_none() {
            self.failure = self.output.result(&line).err();
        }
    }
}

/// Examines.
pub fn run(given: &Given) -> Result<End, Failure> {
    let Some(file) = given.path("file").filter(|_| given.operands.is_empty()) else {
        return Err(given.refusal("name the settings with -f FILE").into());
    };
    let mut report = Report {
        output: Output::of(given),
        problems: 0,
        warnings: 0,
        failure: None,
    };
    let config = match cli::load(file, &Overrides::default()) {
        Ok((config, warnings)) => {
            report.ok("settings", format!("{} is valid", file.display()));
            for warning in &warnings {
                report.warning("settings", warning.to_string(), "");
            }
            config
        }
        Err(errors) => {
            for error in &errors {
                report.problem("settings", error.to_string(), "");
            }
            return report.failure.map_or(Ok(End::Usage), Err);
        }
    };
    machine::secret(&mut report, file);
    machine::open_files(&mut report, &config);
    machine::driver(&mut report, &config);
    machine::backlog(&mut report);
    machine::clock(&mut report);
    ports::examine(&mut report, &config);
    backend::examine(&mut report, &config, given.has("connect"));
    finish(report)
}

fn finish(report: Report) -> Result<End, Failure> {
    if let Some(failure) = report.failure {
        return Err(failure);
    }
    let Report { problems, warnings, .. } = report;
    report
        .output
        .note(&format!("doctor: {problems} problems, {warnings} warnings"));
    Ok(if problems == 0 { End::Done } else { End::Failed })
}
