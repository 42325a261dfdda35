//! Everything that is written from the table: help, `server.ini`, the documentation, the explanation of a file.
//!
//! Pure text. `tests/config_table.rs` compares [`server_ini`] and [`markdown`] with the committed files. Callers: `cli.rs`, tests.

use super::keys::{GROUPS, Group, Key};
use super::kind::Kind;
use super::{Config, SECTION};
use std::fmt::{self, Write};

/// Width of wrapped text.
const WIDTH: usize = 100;

/// `server.ini`: every key with its meaning; keys that keep their default stand there as comments.
pub fn server_ini() -> String {
    text(|out| {
        writeln!(
            out,
            "# Settings of rainbow-server. Check a changed file with: rainbow-server -f server.ini --check-config"
        )?;
        writeln!(out, "#")?;
        writeln!(
            out,
            "# A percent sign in a value is written twice (%%). %(name)s stands for the value of another key."
        )?;
        writeln!(
            out,
            "# Lines that start with # or ; are comments. A ; after a space starts one as well."
        )?;
        writeln!(out, "# Keys written as a comment show their default.")?;
        let mut section = "";
        for group in GROUPS {
            if group.section() != section {
                section = group.section();
                match section {
                    SECTION => writeln!(out, "\n[{section}]")?,
                    _ => writeln!(
                        out,
                        "\n# This section switches a door on: open its line, and what differs from the defaults.\n;[{section}]"
                    )?,
                }
            }
            writeln!(out, "\n# ---- {} ----", group.heading)?;
            for key in group.keys.iter().filter(|key| !matches!(key.kind, Kind::Ignored)) {
                writeln!(out)?;
                for line in wrap(&format!("{} ({})", key.meaning, type_and_default(key)), WIDTH) {
                    writeln!(out, "# {line}")?;
                }
                let (mark, value) = match key.shipped {
                    Some(value) => ("", value),
                    None => (";", key.default.unwrap_or_default()),
                };
                writeln!(out, "{}", format!("{mark}{} = {value}", key.name).trim_end())?;
            }
        }
        Ok(())
    })
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    text(|out| {
        let guards = super::keys::all()
            .filter(|key| key.is_guard)
            .map(|key| format!("`{}`", key.label));
        let guards: Vec<String> = guards.collect();
        out.write_str(MARKDOWN_HEAD)?;
        for line in wrap(&format!("{MARKDOWN_GUARDS} {}.", guards.join(", ")), 120) {
            writeln!(out, "{line}")?;
        }
        for group in GROUPS {
            let section = group.section();
            let place = if section == SECTION {
                String::new()
            } else {
                format!(": section `[{section}]`")
            };
            writeln!(out, "\n## {}{place}\n", group.heading)?;
            writeln!(
                out,
                "| key | value | default | takes effect | meaning |\n| --- | --- | --- | --- | --- |"
            )?;
            for key in group.keys {
                let (name, reload, meaning) = (names(key), key.reload.word(), key.meaning);
                let default = match key.default {
                    None => "required".to_owned(),
                    Some("") => "empty".to_owned(),
                    Some(value) => format!("`{value}`"),
                };
                writeln!(
                    out,
                    "| {name} | {} | {default} | {reload} | {meaning} |",
                    type_and_unit(key)
                )?;
            }
        }
        Ok(())
    })
}

const MARKDOWN_HEAD: &str = "\
# Settings

Made from the table in `src/config/keys.rs`; change the table, then run `RAINBOW_BLESS=1 cargo test --test config_table`.

A file has a section `[main]`, and a section `[gateway]` if that door is to be on; then the settings that are required under
`[main]` may be left out, all of them, and rainbow's door is off. A file is read as Python 2's `SafeConfigParser` reads it, so files
of rainbow-server 0.01–0.05 work unchanged:

- `key = value` or `key: value`; the case of keys does not matter; the last of several equal keys wins.
- Lines that start with `#`, `;` or `rem` are comments; a `;` after a space starts one as well. A `#` does not.
- An indented line continues the value above it.
- `%(name)s` stands for the value of another key of the section or of `[DEFAULT]`. **A plain percent sign is written twice**:
  `http://host/a%%20b`.
- Quotes are part of the value.

Sizes take the suffixes `k` and `m` (1024 and 1024 × 1024). Times are seconds; fractions are allowed. Lists are separated by commas
or spaces. `rainbow-server -f FILE --check-config` shows every value in force and where it came from.

*Takes effect*: `hot` at once after SIGHUP or `/updateconfig/`; `new-connections` for connections accepted from then on;
`restart` only after a restart (or `--takeover`). The log of a reload names what has changed in each class, and `--check-config` shows
the class of every setting. A file with an error changes nothing.
";

const MARKDOWN_GUARDS: &str = "\
A reload also refuses a file from which a protecting setting has vanished, since half a file must not switch protections off: \
while the server runs, write the default instead of taking the line away. These are";

/// The section of `--help`.
pub fn help() -> String {
    text(|out| {
        let mut section = "";
        for group in GROUPS {
            if group.section() != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = group.section();
                writeln!(out, "{gap}Keys of the file, section [{section}]:")?;
            }
            writeln!(out, "\n {}", group.heading)?;
            for key in group.keys {
                writeln!(
                    out,
                    "  {} ({})",
                    key.names().collect::<Vec<_>>().join(", or "),
                    type_and_default(key)
                )?;
                for line in wrap(key.meaning, WIDTH - 6) {
                    writeln!(out, "      {line}")?;
                }
            }
        }
        Ok(())
    })
}

/// The explanation of `--check-config`: every value in force, when a change of it takes effect, and where it came from;
/// secrets masked.
pub fn explain(config: &Config) -> String {
    text(|out| {
        let is_used = |group: &&Group| group.section() == SECTION || config.gateway.on;
        for group in GROUPS.iter().filter(is_used) {
            writeln!(out, "\n{}", group.heading)?;
            let keys = group.keys.iter().filter(|key| !matches!(key.kind, Kind::Ignored));
            for key in keys {
                let Some(setting) = config.setting(key.label) else {
                    continue;
                };
                let assignment = format!("{} = {}", key.name, setting.shown.replace('\n', "\\n"));
                writeln!(out, "  {assignment:<58} {:<15} {}", key.reload.word(), setting.origin)?;
            }
        }
        let ports: Vec<String> = config.ports.iter().map(u16::to_string).collect();
        writeln!(out, "\nServed on port {}.", ports.join(" and "))?;
        if config.gateway.on {
            writeln!(out, "Clients of the gateway on port {}.", config.gateway.port)?;
        }
        if !config.rainbow {
            writeln!(out, "The rainbow door is off: none of its URLs is set.")?;
        }
        Ok(())
    })
}

/// Collects what `write` writes. Writing to a String cannot fail.
fn text(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    let _ = write(&mut out);
    out
}

fn names(key: &Key) -> String {
    let mut names = key.names().map(|name| format!("`{name}`"));
    let name = names.next().unwrap_or_default();
    names.fold(name, |all, alias| format!("{all} (older: {alias})"))
}

fn type_and_unit(key: &Key) -> String {
    let kind = key.kind.describe();
    if key.unit.is_empty() {
        kind
    } else {
        format!("{kind} {}", key.unit)
    }
}

fn type_and_default(key: &Key) -> String {
    let kind = type_and_unit(key);
    match key.default {
        None => format!("{kind}; required"),
        Some("") => kind,
        Some(default) => format!("{kind}; default {default}"),
    }
}

/// Breaks at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_full = lines
            .last()
            .is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
