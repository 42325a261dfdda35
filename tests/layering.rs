//! The arrows between the layers, checked by reading the source: a layer names only layers below it, and what must stay in
//! one place (unsafe code, sockets, clocks) does.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers from top to bottom; those of one row may name each other. ARCHITECTURE.md draws the same picture.
const LAYERS: &[&[&str]] = &[
    &["main", "bin"],
    &["lib"],
    &["server", "demo", "fuzzing"],
    &["control"],
    &["cluster"],
    &["cli", "log"],
    &["io"],
    &["shard"],
    &["protocol"],
    &["engine"],
    &["wire"],
    &["config", "metrics"],
    &["budget", "limits", "time", "close"],
];

/// Layers that take bytes and the time and give values: no socket, no clock, no runtime.
const PURE: &[&str] = &[
    "shard", "protocol", "engine", "wire", "config", "metrics", "budget", "limits", "time", "close",
];

/// What a pure layer must not name.
const IMPURE: &[&str] = &[
    "monoio",
    "libc::",
    "socket2",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "std::fs::",
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 50, "the source was not found");
    found
}

/// The layer of a file, from its path below `src`.
fn layer_of(path: &Path) -> String {
    let below = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn rank(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|row| row.contains(&layer))
        .unwrap_or_else(|| panic!("layer {layer} is in no row of LAYERS"))
}

/// Source lines that are code of the crate itself: no comments, nothing from the test module on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().unwrap().to_str().unwrap().ends_with("tests")
}

/// Names that follow `crate::` in a line.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn layers_name_only_layers_below() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test_file(path)) {
        let own = layer_of(path);
        for (line, text) in code(text) {
            for name in named(text).filter(|name| LAYERS.concat().contains(name)) {
                if name != own && rank(name) < rank(&own) {
                    wrong.push(format!("{}:{line}: {own} names {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_names_no_door() {
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| layer_of(path) == "engine" && !is_test_file(path))
    {
        for (line, text) in code(text) {
            assert!(!text.contains("rainbow"), "{}:{line}: {text}", path.display());
        }
    }
}

#[test]
fn pure_layers_touch_nothing() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test_file(path)) {
        if PURE.contains(&layer_of(path).as_str()) {
            for (line, text) in code(text) {
                for name in IMPURE.iter().filter(|name| text.contains(**name)) {
                    wrong.push(format!("{}:{line}: {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Macros that panic when standard output or standard error cannot be written, and wait for ever where nobody reads it.
const PRINTS: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

fn prints(line: &str) -> bool {
    let is_macro = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    PRINTS
        .iter()
        .any(|name| line.match_indices(name).any(|(at, _)| is_macro(at)))
}

/// `io/console.rs` writes instead. The load generator is a program of its own, for people who look on.
#[test]
fn nothing_prints_but_the_console() {
    let mut wrong = Vec::new();
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| !is_test_file(path) && layer_of(path) != "bin")
    {
        for (line, text) in code(text).filter(|(_, text)| prints(text)) {
            wrong.push(format!("{}:{line}: {text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_has_one_home_and_every_block_an_argument() {
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| {
            !line.trim_start().starts_with("//") && (line.contains("unsafe {") || line.contains("unsafe fn"))
        }) {
            assert!(path.ends_with("io/sys.rs"), "{}:{}: {line}", path.display(), at + 1);
            let argued = lines[at.saturating_sub(4)..at]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            assert!(argued, "{}:{}: no SAFETY argument above", path.display(), at + 1);
        }
    }
}

/// The checks themselves: a planted upward name and a planted clock read are seen.
#[test]
fn the_checks_see_what_they_look_for() {
    let planted =
        "use crate::shard::Shard;\n// use crate::io::x;\nlet now = Instant::now();\n#[cfg(test)]\nuse crate::main;";
    let names: Vec<&str> = code(planted).flat_map(|(_, line)| named(line)).collect();
    assert_eq!(names, ["shard"]);
    assert!(
        rank("shard") < rank("engine"),
        "engine naming shard would be an upward arrow"
    );
    assert!(code(planted).any(|(_, line)| line.contains(IMPURE[5])));
    assert!(prints("    eprintln!(\"x\")") && prints("std::print!(\"x\")") && !prints("my_println!(x)"));
}
