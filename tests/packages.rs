//! What is published says one thing: the version everywhere, and the day of its release. Building and using the packages is
//! `make dist` and `packaging/try.py` (`.ci/release`): that takes a release build.

use serde_json::Value;
use std::path::Path;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).expect(path)
}

/// The headings of the changelog: `Unreleased`, then a version and the day of its release each.
fn releases() -> Vec<(String, String)> {
    let text = read("CHANGELOG.md");
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let released = headings.filter(|heading| *heading != "Unreleased");
    let parts = released.map(|heading| {
        heading
            .split_once(" - ")
            .unwrap_or_else(|| panic!("{heading}: no date"))
    });
    parts
        .map(|(version, day)| (version.to_owned(), day.to_owned()))
        .collect()
}

/// Days since 1970 of `2026-11-21`, only to put days in order and to tell that one is a day.
fn day(text: &str) -> (u32, u32, u32) {
    let parts: Vec<u32> = text.split('-').map(|part| part.parse().expect(text)).collect();
    let [year, month, day] = parts[..] else {
        panic!("{text} is no day")
    };
    assert!(
        year > 2000 && (1..=12).contains(&month) && (1..=31).contains(&day),
        "{text}"
    );
    (year, month, day)
}

#[test]
fn the_changelog_has_the_version_with_its_day() {
    let releases = releases();
    assert_eq!(
        releases[0].0, VERSION,
        "the newest release of CHANGELOG.md is the version of Cargo.toml"
    );
    assert!(releases.is_sorted_by_key(|(_, text)| std::cmp::Reverse(day(text))));
    let debian = read("packaging/changelog");
    let (head, tail) = (
        debian.lines().next().expect("head"),
        debian.lines().find(|line| line.starts_with(" -- ")),
    );
    assert!(head.starts_with(&format!("rainbow-server ({VERSION}-")), "{head}");
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (year, month, day) = day(&releases[0].1);
    let date = format!(", {day:02} {} {year} ", months[month as usize - 1]);
    assert!(
        tail.is_some_and(|line| line.contains(&date)),
        "packaging/changelog is not of {date}"
    );
    let page = read("packaging/rainbow-server.1");
    assert!(
        page.lines().next().is_some_and(|line| line.contains(&releases[0].1)),
        "the man page is of another day"
    );
}

#[test]
fn packages_have_the_version_of_the_program() {
    let launcher = json("packaging/npm/rainbow-server/package.json");
    let platform = json("packaging/npm/linux-x64/package.json");
    assert_eq!(
        (&launcher["version"], &platform["version"]),
        (&VERSION.into(), &VERSION.into())
    );
    let names = launcher["optionalDependencies"].as_object().expect("dependencies");
    assert_eq!(names[platform["name"].as_str().expect("name")], VERSION);
    // The wheel takes its version from Cargo.toml.
    let wheel = read("pyproject.toml");
    assert!(
        wheel.contains("dynamic = [\"version\"]") && !wheel.contains("\nversion"),
        "{wheel}"
    );
    let lock = read("Cargo.lock");
    assert!(lock.contains(&format!("name = \"rainbow-server\"\nversion = \"{VERSION}\"\n")));
}

/// Where there are tags, that of a release is the version of the files below it.
#[test]
fn a_tag_has_the_version_in_its_name() {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git")
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let output = output.ok().filter(|output| output.status.success());
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    for tag in git(&["tag", "--points-at", "HEAD"])
        .lines()
        .filter(|tag| tag.starts_with('v'))
    {
        assert_eq!(tag, format!("v{VERSION}"));
    }
}

/// The install section of the README has the ways that `packaging/try.py` tries, and no other.
#[test]
fn the_readme_names_what_was_tried() {
    let (readme, tries) = (read("README.md"), read("packaging/try.py"));
    let (_, section) = readme.split_once("\n## Install\n").expect("an install section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: Vec<_> = rows.filter_map(|row| row.rsplit('`').nth(1)).collect();
    let (_, all) = tries.split_once("\nALL = [").expect("the list of tries");
    let tried: Vec<_> = all.split(']').next().unwrap_or_default().split(", ").collect();
    assert_eq!(named, tried);
}
