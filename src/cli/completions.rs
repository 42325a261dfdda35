//! Completions of the command line for bash, zsh and fish, made from the table.

use std::fmt::Write;

use super::table::{COMMANDS, Command, Opt, SERVER, Value};

/// The script for a shell; `None` for a shell there is none for.
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// The commands with a name.
fn subcommands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.name.is_empty())
}

fn names() -> Vec<&'static str> {
    subcommands().map(|command| command.name).collect()
}

/// `-f --file`.
fn spellings(option: &Opt) -> Vec<String> {
    let short = option.short.map(|letter| format!("-{letter}"));
    short.into_iter().chain([format!("--{}", option.long)]).collect()
}

/// The subcommand is the first word; the value of an option is known by the word in front of it.
fn bash() -> String {
    let names = names();
    let (mut values, mut words) = (String::new(), String::new());
    for command in COMMANDS {
        let name = command.name;
        for option in command.options() {
            let cases: Vec<_> = spellings(option)
                .iter()
                .map(|spelling| format!("{name},{spelling}"))
                .collect();
            let action = match option.value {
                Value::None => continue,
                Value::Text(_) => "return".to_owned(),
                Value::File(_) => "_rainbow_server_reply -f; return".to_owned(),
                Value::Words(_, words) => format!("_rainbow_server_reply -W '{}'; return", words.join(" ")),
            };
            let _ = writeln!(values, "        {}) {action} ;;", cases.join(" | "));
        }
        let mut all: Vec<_> = command.options().flat_map(spellings).collect();
        if name.is_empty() {
            all.extend(names.iter().map(|name| (*name).to_owned()));
        }
        all.extend(command.words.iter().map(|word| (*word).to_owned()));
        let _ = writeln!(
            words,
            "        '{name}') _rainbow_server_reply -W '{}' ;;",
            all.join(" ")
        );
    }
    let names = names.join(" | ");
    format!(
        r#"# bash completion for rainbow-server. Made by: rainbow-server completions bash

_rainbow_server_reply() {{
    [[ $1 != -f ]] || compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$@" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}

_rainbow_server() {{
    local command=
    COMPREPLY=()
    if ((COMP_CWORD > 1)); then
        case ${{COMP_WORDS[1]}} in
        {names}) command=${{COMP_WORDS[1]}} ;;
        esac
    fi
    case $command,${{COMP_WORDS[COMP_CWORD - 1]}} in
{values}    esac
    case $command in
{words}    esac
}}

complete -F _rainbow_server rainbow-server
"#
    )
}

/// Between single quotes of a shell, and with what `escape` names behind a backslash.
fn quoted(text: &str, escape: &[char]) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            c if escape.contains(&c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn zsh() -> String {
    let spec = |option: &Opt| {
        let about = format!("[{}]", option.about.replace('[', "(").replace(']', ")"));
        let value = match option.value {
            Value::None => String::new(),
            Value::Text(name) => format!(":{name}: "),
            Value::File(name) => format!(":{name}:_files"),
            Value::Words(name, words) => format!(":{name}:({})", words.join(" ")),
        };
        let repeats = if option.long == "header" { "*" } else { "" };
        let specs = spellings(option)
            .into_iter()
            .map(|spelling| quoted(&format!("{repeats}{spelling}{}{value}", about.replace(':', "\\:")), &[]));
        specs.collect::<Vec<_>>().join(" ")
    };
    let specs = |command: &Command| {
        command
            .options()
            .map(spec)
            .collect::<Vec<_>>()
            .join(" \\\n            ")
    };
    let mut cases = String::new();
    for command in subcommands() {
        let words = match command.words {
            [] => String::new(),
            words => format!(" \\\n            '1: :({})'", words.join(" ")),
        };
        let _ = writeln!(
            cases,
            "        {})\n        shift words\n        (( CURRENT-- ))\n        _arguments -s -S {}{words}\n        return ;;",
            command.name,
            specs(command)
        );
    }
    let described: Vec<_> = subcommands()
        .map(|command| quoted(&format!("{}:{}", command.name, command.about), &[]))
        .collect();
    format!(
        r#"#compdef rainbow-server
# zsh completion for rainbow-server. Made by: rainbow-server completions zsh

_rainbow-server() {{
    local -a commands
    commands=({described})
    if (( CURRENT > 2 )); then
        case $words[2] in
{cases}        esac
    fi
    if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
        _describe command commands
    else
        _arguments -s -S {server}
    fi
}}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _rainbow-server "$@"
else
    compdef _rainbow-server rainbow-server
fi
"#,
        described = described.join(" "),
        server = specs(&SERVER),
    )
}

fn fish() -> String {
    let names = names().join(" ");
    let mut out = String::from(
        "# fish completion for rainbow-server. Made by: rainbow-server completions fish\n\ncomplete -c rainbow-server -f\n",
    );
    let in_none = format!("not __fish_seen_subcommand_from {names}");
    for command in COMMANDS {
        let condition = match command.name {
            "" => in_none.clone(),
            name => {
                let about = quoted(command.about, &['\\']);
                let _ = writeln!(
                    out,
                    "complete -c rainbow-server -n __fish_use_subcommand -a {name} -d {about}"
                );
                format!("__fish_seen_subcommand_from {name}")
            }
        };
        let condition = quoted(&condition, &[]);
        for option in command.options() {
            let short = option.short.map_or(String::new(), |letter| format!(" -s {letter}"));
            let value = match option.value {
                Value::None => String::new(),
                Value::Text(_) => " -x".to_owned(),
                Value::File(_) => " -r -F".to_owned(),
                Value::Words(_, words) => format!(" -x -a {}", quoted(&words.join(" "), &[])),
            };
            let about = quoted(option.about, &['\\']).replace("'\\''", "\\'");
            let _ = writeln!(
                out,
                "complete -c rainbow-server -n {condition}{short} -l {}{value} -d {about}",
                option.long
            );
        }
        if !command.words.is_empty() {
            let words = quoted(&command.words.join(" "), &[]);
            let _ = writeln!(out, "complete -c rainbow-server -n {condition} -a {words}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_every_command_is_in_every_script() {
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell).expect(shell);
            for command in COMMANDS {
                assert!(script.contains(command.name));
                for option in command.options() {
                    let long = if shell == "fish" { "-l " } else { "--" };
                    assert!(
                        script.contains(&format!("{long}{}", option.long)),
                        "{shell}: {}",
                        option.long
                    );
                }
            }
        }
        assert_eq!(script("tcsh"), None);
    }

    #[test]
    fn quotes_in_texts_stay_texts() {
        assert_eq!(quoted("it's", &[]), r"'it'\''s'");
        assert_eq!(quoted(r"a\b", &['\\']), r"'a\\b'");
    }
}
