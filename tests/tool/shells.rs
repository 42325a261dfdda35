//! What the shells offer: each with the script that the program prints for it, loaded into the shell itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rainbow_server::cli::table::{COMMANDS, Value};

use super::common::not_run;
use super::run;

/// One shell with its completions.
struct Shell {
    name: &'static str,
    /// A folder of its own, in which the shell runs; it holds the script and `a file.ini`.
    dir: PathBuf,
}

impl Shell {
    /// None where the shell is missing.
    fn new(name: &'static str) -> Option<Self> {
        if Command::new(name).args(["-c", "true"]).output().is_err() {
            not_run(&format!("{name} is not installed"));
            return None;
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("completions-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("folder");
        let (code, script, said) = run(&["completions", name]);
        assert_eq!(code, 0, "{said}");
        std::fs::write(dir.join("script"), script).expect("script");
        std::fs::write(dir.join("a file.ini"), "").expect("file");
        Some(Self { name, dir })
    }

    /// What is offered at the end of these words, of which the last may be empty.
    fn offers(&self, words: &[&str]) -> BTreeSet<String> {
        let line = words.join(" ");
        let mut command = Command::new(self.name);
        match self.name {
            "bash" => {
                let script = r#"source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rainbow_server
                    printf '%s\n' "${COMPREPLY[@]}""#;
                command.args(["--norc", "-c", script, "bash"]).args(words)
            }
            "zsh" => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tool/complete.zsh");
                command.args(["-f", script, "./script", &line])
            }
            _ => command.args(["--no-config", "-c", &format!("source ./script; complete -C '{line}'")]),
        };
        let output = command
            .current_dir(&self.dir)
            .env("TERM", "dumb")
            .env("HOME", &self.dir)
            .output()
            .expect("shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {line:?}: {said}", self.name);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let offers = text
            .lines()
            .map(|line| line.split('\t').next().unwrap_or_default().trim_end());
        // zsh and fish quote what has spaces.
        offers
            .filter(|offer| !offer.is_empty())
            .map(|offer| offer.replace('\\', ""))
            .collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn set<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

/// Options of every command, and the words and files that belong to them.
fn completes(name: &'static str) {
    let Some(shell) = Shell::new(name) else { return };
    let names = set(COMMANDS
        .iter()
        .map(|command| command.name)
        .filter(|name| !name.is_empty()));
    let first = shell.offers(&["rainbow-server", ""]);
    assert!(names.is_subset(&first), "{name}: {first:?}");
    assert_eq!(shell.offers(&["rainbow-server", "se"]), set(["send"]), "{name}");
    assert_eq!(
        shell
            .offers(&["rainbow-server", "completions", ""])
            .intersection(&set(["bash", "zsh", "fish"]))
            .count(),
        3
    );
    for command in COMMANDS {
        let start = ["rainbow-server", command.name];
        let start = &start[..if command.name.is_empty() { 1 } else { 2 }];
        let offers = |words: &[&str]| shell.offers(&[start, words].concat());
        let longs = set(command.options().map(|option| format!("--{}", option.long)));
        let offered = offers(&["--"]).into_iter().filter(|offer| offer.starts_with("--"));
        assert_eq!(offered.collect::<BTreeSet<_>>(), longs, "{name} {}", command.name);
        for option in command.options() {
            let long = format!("--{}", option.long);
            match option.value {
                Value::Words(_, words) => assert_eq!(offers(&[&long, ""]), set(words), "{name} {long}"),
                Value::File(_) => assert_eq!(offers(&[&long, "a"]), set(["a file.ini"]), "{name} {long}"),
                Value::Text(_) => assert_eq!(offers(&[&long, "a"]), set([""; 0]), "{name} {long}"),
                Value::None => {}
            }
        }
    }
}

#[test]
fn bash_completes() {
    completes("bash");
}

#[test]
fn zsh_completes() {
    completes("zsh");
}

#[test]
fn fish_completes() {
    completes("fish");
}

#[test]
fn another_shell_is_refused() {
    for args in [
        &["completions"][..],
        &["completions", "tcsh"],
        &["completions", "bash", "zsh"],
    ] {
        let (code, out, said) = run(args);
        assert_eq!((code, &*out), (2, ""), "{said}");
        assert!(said.contains("completions: name one shell"), "{said}");
    }
}
