//! Documents written by hand that say something about the code: the man page has the options there are, and what is promised
//! names tests that are there.
#![cfg(feature = "runtime")]

use rainbow_server::cli::table::COMMANDS;
use rainbow_server::cli::{Command, parse};
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The names of long options in a text.
fn long_options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.strip_prefix("--").is_some_and(|name| !name.is_empty()))
        .collect()
}

#[test]
fn the_man_page_has_the_options_of_the_help() {
    let Ok(Command::Print(help)) = parse(["--help"]) else {
        panic!("no help")
    };
    // Behind the options come the settings.
    let options = help.split("\n\n").nth(1).expect("options");
    let page = read("packaging/rainbow-server.1")
        .expect("man page")
        .replace("\\-", "-");
    let (_, page) = page.split_once(".SH OPTIONS").expect("options");
    let (page, _) = page.split_once(".SH").expect("a section behind");
    let described: String = page
        .lines()
        .filter(|line| line.starts_with(".B"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(long_options(options).contains("--check-config"), "{options}");
    assert_eq!(long_options(&described), long_options(options));
}

#[test]
fn the_man_page_has_the_options_of_every_command() {
    let page = read("packaging/rainbow-server.1")
        .expect("man page")
        .replace("\\-", "-");
    let (_, commands) = page.split_once(".SH COMMANDS").expect("commands");
    for command in COMMANDS.iter().filter(|command| !command.name.is_empty()) {
        let (_, section) = commands
            .split_once(&format!(".SS {}\n", command.name))
            .expect(command.name);
        let section = section.split("\n.S").next().unwrap_or_default();
        let described: String = section
            .lines()
            .filter(|line| line.starts_with(".B"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let options = command.option_lines();
        assert_eq!(
            long_options(&described),
            long_options(&heads(&options)),
            "{}",
            command.name
        );
    }
}

/// What stands in front of the texts.
fn heads(options: &str) -> String {
    let heads = options.lines().filter_map(|line| line.trim_start().split("  ").next());
    heads.flat_map(|head| [head, "\n"]).collect()
}

/// File and name of every test that a document names as `file::test`, or as `::test` of the same file again.
fn named_tests(text: &str) -> Vec<(String, &str)> {
    let mut file = "";
    let mut found = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        if let Some((path, name)) = quoted.split_once("::")
            && (path.is_empty() || path.ends_with(".rs"))
        {
            file = if path.is_empty() { file } else { path };
            let folder = if file.starts_with("src/") { "" } else { "tests/" };
            found.push((format!("{folder}{file}"), name));
        }
    }
    found
}

/// Whether a file, or the one with its unit tests, has a function or module of that name.
fn has(path: &str, name: &str) -> bool {
    let stem = path.trim_end_matches(".rs");
    let files = [path.to_owned(), format!("{stem}_tests.rs"), format!("{stem}/tests.rs")];
    let texts = files.iter().filter_map(|file| read(file));
    let defined = [format!("fn {name}("), format!("mod {name} ")];
    texts
        .into_iter()
        .any(|text| defined.iter().any(|what| text.contains(what)))
}

#[test]
fn promises_name_tests_that_are_there() {
    for document in [
        "docs/reliability.md",
        "docs/compatibility.md",
        "docs/tls.md",
        "docs/websocket.md",
    ] {
        let text = read(document).expect(document);
        for (path, name) in named_tests(&text) {
            assert!(has(&path, name), "{document}: there is no {path}::{name}");
        }
    }
    let count = named_tests(&read("docs/reliability.md").expect("promises")).len();
    assert!(count > 100, "only {count} were found");
    assert!(!has("tests/documents.rs", "nobody_wrote_this"));
}
