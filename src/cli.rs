//! The command line: arguments → [`Command`], and the parts of it that only read a file and print.
//!
//! Options of the original stay (`-f`, `-p`, `-h`, spec §2); what it accepted by accident (`-p 70000`, exit code 0 without a
//! file) is refused with exit code 2. Extra words are ignored, as there, but for the name of a subcommand in front, which `tool`
//! takes. Caller: `main.rs`, which acts on the command.

pub mod completions;
pub mod given;
pub mod table;

use self::table::SERVER;
use crate::config::ini::FILE_BYTES_MAX;
use crate::config::{Config, ConfigError, Note, Origin, Overrides, Warning, render};
use crate::io::clock::Clock;
use crate::io::files;
use crate::io::tls::{self, Expiry, Fault};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Exit code of a refused command line or file.
pub const EXIT_USAGE: u8 = 2;

/// Certificates that end within this time are warned of, at start and at every reload.
const EXPIRY_NOTICE_DAYS: u64 = 30;

/// What the caller was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print this text to standard output, exit 0.
    Print(String),
    /// Print what [`check`] says.
    CheckConfig {
        /// The ini file.
        file: PathBuf,
        /// Options above it.
        overrides: Overrides,
    },
    /// Serve.
    Run {
        /// The ini file.
        file: PathBuf,
        /// Options above it.
        overrides: Overrides,
        /// Take over from the server that runs.
        takeover: bool,
    },
    /// Serve with a business server inside the process.
    Demo {
        /// Options above the built-in settings (`Config::demo`).
        overrides: Overrides,
    },
}

/// Why the command line is refused: print it to standard error, exit [`EXIT_USAGE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What the options said, before it is decided what that means.
#[derive(Default)]
struct Options {
    file: Option<PathBuf>,
    overrides: Overrides,
    check: bool,
    demo: bool,
    takeover: bool,
}

/// Parses the arguments without the program's name.
///
/// # Errors
/// An unknown option, a missing or bad value, no file where one is needed.
pub fn parse<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Result<Command, Refusal> {
    let mut parser = Parser::from_args(args);
    let mut options = Options::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(help())),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Print(version())),
            Arg::Long("print-config") => return Ok(Command::Print(render::server_ini())),
            Arg::Short('f') | Arg::Long("file") => options.file = Some(parser.value().map_err(usage)?.into()),
            Arg::Short('p') | Arg::Long("port") => {
                let value = parser.value().and_then(|value| value.string()).map_err(usage)?;
                options.overrides.port = Some(port(&value)?);
            }
            Arg::Long("check-config") => options.check = true,
            Arg::Long("demo") => options.demo = true,
            Arg::Long("takeover") => options.takeover = true,
            Arg::Value(_) => {}
            other => return Err(usage(other.unexpected())),
        }
    }
    decide(options)
}

fn decide(options: Options) -> Result<Command, Refusal> {
    let Options {
        file,
        overrides,
        check,
        demo,
        takeover,
    } = options;
    match (file, check, demo) {
        (Some(file), true, _) => Ok(Command::CheckConfig { file, overrides }),
        (_, _, true) if takeover => Err(Refusal(format!(
            "--takeover is not for --demo: leave one of them out\n{}",
            SERVER.usage()
        ))),
        (None, false, true) => Ok(Command::Demo { overrides }),
        (Some(_), false, true) => Err(Refusal(format!(
            "--demo brings its own settings and business server: leave -f out, or leave --demo out\n{}",
            SERVER.usage()
        ))),
        (Some(file), false, false) => Ok(Command::Run {
            file,
            overrides,
            takeover,
        }),
        (None, ..) => {
            let advice =
                "name the settings file with -f FILE; --print-config writes one to start from, --demo needs none";
            Err(Refusal(format!("miss -f: {advice}\n{}", SERVER.usage())))
        }
    }
}

/// 0 would mean "default" in the file and "any" to the system; on the command line it is a slip.
fn port(value: &str) -> Result<u16, Refusal> {
    let port = value.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        Refusal(format!(
            "-p: \"{}\" is not a port; use 1..65535\n{}",
            value.escape_debug(),
            SERVER.usage()
        ))
    })
}

fn usage(error: lexopt::Error) -> Refusal {
    Refusal(format!("{error}\n{}", SERVER.usage()))
}

fn help() -> String {
    format!("{}\n\n{}\n\n{}", SERVER.usage(), SERVER.option_lines(), render::help())
}

fn version() -> String {
    format!("rainbow-server {}\n", env!("CARGO_PKG_VERSION"))
}

/// Reads and parses a file. Comments may be in any encoding; values must be UTF-8.
///
/// # Errors
/// Everything that is wrong with it, the failure to read it included.
pub fn load(file: &Path, overrides: &Overrides) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    let bytes = files::read_patiently(file, FILE_BYTES_MAX).map_err(|error| vec![unreadable(file, &error)])?;
    interpret(file, &bytes, overrides)
}

/// The bytes of a settings file, at most one more than allowed, so that the parser sees that it is too long. For a reload,
/// which must not wait: unlike at a start, a pipe is refused.
///
/// # Errors
/// The failure to read it.
pub fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    files::read(file, FILE_BYTES_MAX).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError(Note {
        file: file.display().to_string(),
        line: None,
        key: None,
        text: format!("cannot be read: {error}; name another file with -f"),
    })
}

/// Parses what was read of a settings file, and reads the files it names.
///
/// # Errors
/// Everything that is wrong with them.
pub fn interpret(file: &Path, bytes: &[u8], overrides: &Overrides) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    let label = file.display().to_string();
    if bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.get(..2).is_some_and(|two| two.contains(&0))
    {
        return Err(vec![ConfigError(Note {
            file: label,
            line: None,
            key: None,
            text: "is UTF-16; save it as UTF-8".into(),
        })]);
    }
    let (config, mut warnings) = Config::from_file_text(&label, &String::from_utf8_lossy(bytes), overrides)?;
    // The parser cannot look at files; a wrong one should not wait for the first https call or client to show.
    match tls::check(&config) {
        Ok(mut remarks) => {
            remarks.extend(expiring(&config, Clock::start().unix_micros() / 1_000_000));
            let remarks = remarks.into_iter();
            warnings.extend(remarks.map(|fault| Warning(located(&label, &config, fault))));
            Ok((config, warnings))
        }
        Err(faults) => {
            let faults = faults.into_iter();
            Err(faults
                .map(|fault| ConfigError(located(&label, &config, fault)))
                .collect())
        }
    }
}

/// Certificates that have ended, or soon will: they are served all the same, and clients refuse them.
fn expiring(config: &Config, now: u64) -> Vec<Fault> {
    const DAY: u64 = 24 * 3600;
    let warning = |expiry: Expiry| {
        let what = match expiry.unix_seconds.checked_sub(now) {
            None => "has expired".to_owned(),
            Some(left) if left <= EXPIRY_NOTICE_DAYS * DAY => format!("expires in {} days", left / DAY),
            Some(_) => return None,
        };
        Some(Fault {
            key: expiry.key,
            text: format!("{}: a certificate {what}; renew it", expiry.file.display()),
        })
    };
    tls::expiries(config).into_iter().filter_map(warning).collect()
}

fn located(label: &str, config: &Config, fault: Fault) -> Note {
    let setting = config.settings.iter().find(|setting| setting.name == fault.key);
    let line = setting.and_then(|setting| match setting.origin {
        Origin::File { line, .. } => Some(line),
        _ => None,
    });
    Note {
        file: label.to_owned(),
        line,
        key: Some(fault.key.into()),
        text: fault.text,
    }
}

/// `--check-config`: the explanation of a valid file, or its errors. Errors go to standard error, exit [`EXIT_USAGE`].
///
/// # Errors
/// One line per error.
pub fn check(file: &Path, overrides: &Overrides) -> Result<String, String> {
    match load(file, overrides) {
        Ok((config, warnings)) => {
            let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            Ok(format!(
                "{}: valid\n{warnings}{}",
                file.display(),
                render::explain(&config)
            ))
        }
        Err(errors) => Err(errors.iter().map(|error| format!("error: {error}\n")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        let error = parse(args).expect_err("refused").to_string();
        assert!(error.ends_with(&SERVER.usage()), "{error}");
        error.lines().next().unwrap_or_default().to_owned()
    }

    fn run(port: Option<u16>) -> Command {
        Command::Run {
            file: "a.ini".into(),
            overrides: Overrides {
                port,
                ..Overrides::default()
            },
            takeover: false,
        }
    }

    #[test]
    fn commands() {
        assert_eq!(parse(["-f", "a.ini"]), Ok(run(None)));
        assert_eq!(parse(["extra", "--file=a.ini", "words", "-p80"]), Ok(run(Some(80))));
        assert_eq!(parse(["-f", "a.ini", "--port", "65535"]), Ok(run(Some(65535))));
        let overrides = Overrides::default();
        let takes_over = Command::Run {
            file: "a.ini".into(),
            overrides: overrides.clone(),
            takeover: true,
        };
        assert_eq!(parse(["-f", "a.ini", "--takeover"]), Ok(takes_over));
        assert_eq!(
            parse(["--demo"]),
            Ok(Command::Demo {
                overrides: overrides.clone()
            })
        );
        let check = Command::CheckConfig {
            file: "a.ini".into(),
            overrides,
        };
        assert_eq!(parse(["--check-config", "-fa.ini"]), Ok(check));
        assert_eq!(parse(["--print-config"]), Ok(Command::Print(render::server_ini())));
        assert_eq!(
            parse(["-V"]),
            Ok(Command::Print(format!(
                "rainbow-server {}\n",
                env!("CARGO_PKG_VERSION")
            )))
        );
    }

    #[test]
    fn help_names_every_option_and_every_key() {
        let Ok(Command::Print(text)) = parse(["-h", "--nonsense"]) else {
            panic!("help comes first")
        };
        for word in [
            "-f",
            "-p",
            "--takeover",
            "--check-config",
            "--print-config",
            "--demo",
            "-V",
        ] {
            assert!(text.contains(word), "{word}");
        }
        assert!(crate::config::keys::all().all(|key| text.contains(key.name)));
    }

    #[test]
    fn refusals() {
        assert!(refusal(&[]).starts_with("miss -f: name the settings file with -f FILE"));
        assert!(refusal(&["--demo", "--takeover"]).starts_with("--takeover is not for --demo"));
        assert!(refusal(&["--check-config", "--demo"]).starts_with("miss -f"));
        assert!(refusal(&["--demo", "-f", "a"]).starts_with("--demo brings its own settings"));
        for port in ["0", "70000", "-1", "x", "", "1.5"] {
            assert_eq!(
                refusal(&["-f", "a", "-p", port]),
                format!("-p: \"{port}\" is not a port; use 1..65535")
            );
        }
        assert_eq!(refusal(&["--nonsense"]), "invalid option '--nonsense'");
        assert_eq!(refusal(&["-f"]), "missing argument for option '-f'");
    }

    /// A file that is removed when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Scratch {
            let path = std::env::temp_dir().join(format!("rainbow-cli-{}-{name}", std::process::id()));
            std::fs::write(&path, content).expect("scratch file");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const GOOD: &str = "[main]\nconnect_url=http://a/\nforward_url=http://a/\nclose_url=http://a/\nsecurity_token=t\n";

    #[test]
    fn check_explains_or_refuses() {
        let good = Scratch::new("good", format!("# \u{e4}\n{GOOD}").replace('\u{e4}', "").as_bytes());
        let explained = check(&good.0, &Overrides::default()).expect("valid");
        assert!(
            explained.contains(": valid\nwarning: ") && explained.contains("(set, 1 characters)"),
            "{explained}"
        );
        let bad = Scratch::new("bad", b"[main]\n");
        assert_eq!(
            check(&bad.0, &Overrides::default())
                .expect_err("four keys missing")
                .lines()
                .count(),
            4
        );
        let ca = Scratch::new("ca", format!("{GOOD}ca_file=/nonexistent/ca.pem\n").as_bytes());
        assert!(
            check(&ca.0, &Overrides::default())
                .expect_err("no such file")
                .contains(":6: ca_file: /nonexistent/ca.pem: cannot be read")
        );
    }

    #[test]
    fn unreadable_files_are_errors_and_odd_comments_are_not() {
        let missing = load(Path::new("/nonexistent.ini"), &Overrides::default()).expect_err("missing");
        assert!(missing[0].to_string().starts_with("/nonexistent.ini: cannot be read: "));
        let long = Scratch::new("long", &vec![b'#'; FILE_BYTES_MAX + 10]);
        assert!(
            load(&long.0, &Overrides::default()).expect_err("long")[0]
                .to_string()
                .contains("longer than")
        );
        let latin = Scratch::new("latin", &[b"# caf\xe9\n", GOOD.as_bytes()].concat());
        assert!(load(&latin.0, &Overrides::default()).is_ok());
        for marked in ["\u{feff}", ""] {
            let wide = format!("{marked}{GOOD}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>();
            let wide = Scratch::new("wide", &wide);
            let refused = load(&wide.0, &Overrides::default()).expect_err("UTF-16");
            assert!(
                refused[0].to_string().ends_with("is UTF-16; save it as UTF-8"),
                "{refused:?}"
            );
        }
        let value = Scratch::new("value", &[GOOD.as_bytes(), b"cluster_name=caf\xe9\n"].concat());
        assert!(
            load(&value.0, &Overrides::default()).expect_err("value")[0]
                .to_string()
                .contains("not UTF-8")
        );
    }
}
