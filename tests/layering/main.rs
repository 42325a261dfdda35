//! The arrows between the layers, checked by reading the source: a layer names only layers below it, nobody but the doors
//! names a door, and what must stay in one place (unsafe code, sockets, clocks) does.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Named, Token, code, module_of, paths};

/// Layers from top to bottom; those of one row may name each other. ARCHITECTURE.md draws the same picture.
const LAYERS: &[&[&str]] = &[
    &["main", "bin"],
    &["lib"],
    &["application", "tool"],
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

/// Paths a pure layer must not name, nor anything below them.
const IMPURE: &[&str] = &[
    "monoio",
    "libc",
    "socket2",
    "std::fs",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "std::time::Instant",
];

/// Names that it must not use, from wherever.
const IMPURE_NAMES: &[&str] = &["SystemTime", "TcpStream", "TcpListener", "UdpSocket"];

/// Files of `protocol` that are no door.
const NO_DOORS: &[&str] = &["mod", "door", "listener", "serial", "words"];

/// Files that list the doors, so that nobody else has to.
const LIST_DOORS: &[&str] = &["control/surface.rs", "cluster.rs"];

/// Layers that know no door. The last two may have files of a door's own (`control/…/rainbow.rs`, `cluster/rainbow/…`).
const WITHOUT_DOORS: &[&str] = &["engine", "shard", "control", "cluster"];

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

/// The path of a file below `src`.
fn below(path: &Path) -> &Path {
    path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap()
}

/// The layer of a file.
fn layer_of(path: &Path) -> String {
    let first = below(path).components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn rank(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|row| row.contains(&layer))
        .unwrap_or_else(|| panic!("layer {layer} is in no row of LAYERS"))
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().unwrap().to_str().unwrap().ends_with("tests")
}

/// The files of these layers that are not only tests, with their code.
fn files(layers: impl Fn(&str) -> bool) -> impl Iterator<Item = (PathBuf, Vec<Token>)> {
    sources()
        .into_iter()
        .filter(move |(path, _)| !is_test_file(path) && layers(&layer_of(path)))
        .map(|(path, text)| (path, code(&text)))
}

/// A complaint for each path in a file that `look` has something to say about.
fn complaints(path: &Path, code: &[Token], look: impl Fn(&Named) -> Option<String>) -> Vec<String> {
    let module = module_of(below(path));
    let named = paths(code).into_iter().map(|named| named.resolved(&module));
    named
        .filter_map(|named| Some(format!("{}:{}: {}", path.display(), named.line, look(&named)?)))
        .collect()
}

/// Whether a layer may name this.
fn is_upward(own: &str, named: &Named) -> Option<String> {
    let [root, name, ..] = &named.segments[..] else {
        return (named.segments == ["crate"]).then(|| "all layers get another name".to_owned());
    };
    let upward = |name: &str| LAYERS.concat().contains(&name) && name != own && rank(name) < rank(own);
    (root == "crate" && (name == "*" || upward(name))).then(|| format!("{own} names {}", named.text()))
}

#[test]
fn layers_name_only_layers_below() {
    let wrong: Vec<_> = files(|layer| layer != "bin" && layer != "main" && layer != "lib")
        .flat_map(|(path, code)| complaints(&path, &code, |named| is_upward(&layer_of(&path), named)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The doors there are, by the names of their folders and files.
fn doors() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let doors: BTreeSet<_> = names.filter(|name| !NO_DOORS.contains(&&name[..])).collect();
    assert!(doors.len() > 1, "the doors were not found");
    doors
}

/// Lines of a file that name a door in whatever way: a path, a variant, a function. Texts do not count: the program has the
/// name of a door.
fn lines_naming(code: &[Token], doors: &BTreeSet<String>) -> Vec<usize> {
    let names_one = |token: &&Token| token.parts().iter().any(|part| doors.contains(part));
    code.iter().filter(names_one).map(|token| token.line).collect()
}

/// Whether a file is a door's own: it or a folder above it has the door's name.
fn is_of_a_door(path: &Path, doors: &BTreeSet<String>) -> bool {
    module_of(below(path)).iter().any(|name| doors.contains(name))
}

#[test]
fn nobody_but_a_door_names_a_door() {
    let doors = doors();
    let mut wrong = Vec::new();
    for (path, code) in files(|layer| WITHOUT_DOORS.contains(&layer)) {
        let lines = lines_naming(&code, &doors);
        let name = below(&path).to_str().unwrap().to_owned();
        if lines.is_empty() || is_of_a_door(&path, &doors) || LIST_DOORS.contains(&&name[..]) {
            continue;
        }
        wrong.push(format!("{name}, lines {lines:?}"));
    }
    assert!(wrong.is_empty(), "a door is named in\n{}", wrong.join("\n"));
}

fn is_impure(named: &Named) -> Option<String> {
    let text = named.text();
    let below = |root: &&&str| text.strip_prefix(**root).is_some_and(|rest| !rest.starts_with('_'));
    let is_impure = IMPURE.iter().any(|root| below(&root))
        || text.ends_with("Instant::now")
        || named
            .segments
            .iter()
            .any(|name| IMPURE_NAMES.contains(&&name[..]) || name == "monoio");
    is_impure.then_some(text)
}

#[test]
fn pure_layers_touch_nothing() {
    let wrong: Vec<_> = files(|layer| PURE.contains(&layer))
        .flat_map(|(path, code)| complaints(&path, &code, is_impure))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Only `io` reads the clock, so that one place says what time it is. The demo is a backend of its own.
#[test]
fn only_io_reads_the_clock() {
    let reads = |named: &Named| {
        let text = named.text();
        let reads = text.ends_with("Instant::now") || named.segments.iter().any(|name| name == "SystemTime");
        reads.then_some(text)
    };
    let wrong: Vec<_> = files(|layer| ["control", "cluster", "server"].contains(&layer))
        .flat_map(|(path, code)| complaints(&path, &code, reads))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Macros that panic when standard output or standard error cannot be written, and wait for ever where nobody reads it.
const PRINTS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// Lines with such a macro.
fn prints(code: &[Token]) -> Vec<usize> {
    let is_print = |pair: &&[Token]| {
        pair[0].word().is_some_and(|word| PRINTS.contains(&word)) && pair[1].kind == source::Kind::Sign('!')
    };
    code.windows(2).filter(is_print).map(|pair| pair[0].line).collect()
}

/// `io/console.rs` writes instead. The load generator is a program of its own, for people who look on.
#[test]
fn nothing_prints_but_the_console() {
    let wrong: Vec<_> = files(|layer| layer != "bin")
        .map(|(path, code)| (path, prints(&code)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
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

/// The checks themselves see what is planted, however it is written.
#[test]
fn the_checks_see_what_they_look_for() {
    let complained = |text: &str, look: &dyn Fn(&Named) -> Option<String>| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/planted.rs");
        complaints(&path, &code(text), look).len()
    };
    for (text, upward) in [
        ("use crate::shard::Shard;", 1),
        ("use crate::{wire::ws, shard::Shard, io};", 2),
        ("use crate::{\n    wire::{self, ws},\n    shard::{self},\n};", 1),
        ("use super::super::{limits, control::Control};", 1),
        ("fn f() { crate::server::start() }", 1),
        ("use crate::*;", 1),
        ("use crate as everything;", 1),
        ("use crate::{self as everything};", 1),
        ("// use crate::io::x;\n#[cfg(test)]\nmod tests { use crate::io; }", 0),
        ("use crate::wire::{io, shard};\nuse super::shard;", 0),
    ] {
        assert_eq!(complained(text, &|named| is_upward("engine", named)), upward, "{text}");
    }
    for (text, impure) in [
        ("let now = Instant::now();", 1),
        ("use std::{fs, time::{Duration, Instant, SystemTime}};", 3),
        ("use std::net::{IpAddr, TcpStream};\nuse monoio::{io, net};", 3),
        ("libc::close(1)", 1),
        (
            "use std::net::IpAddr; use crate::time::Instant; Instant::from_micros(1)",
            0,
        ),
    ] {
        assert_eq!(complained(text, &is_impure), impure, "{text}");
    }
    let doors = BTreeSet::from(["rainbow".to_owned()]);
    for (text, lines) in [
        ("use crate::protocol::{\n    door,\n    rainbow::x,\n};", vec![3]),
        (
            "use crate::protocol::*;\nmatch session { Session::Rainbow(_) => {} }",
            vec![2],
        ),
        ("fn is_rainbow() {}", vec![1]),
        ("// rainbow\nlet rainbows = \"rainbow\";", vec![]),
    ] {
        assert_eq!(lines_naming(&code(text), &doors), lines, "{text}");
    }
    assert_eq!(
        prints(&code("\neprintln!(\"x\"); std::print!(\"y\"); my_println!(z)")),
        [2, 2]
    );
}
