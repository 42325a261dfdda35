//! The committed `server.ini` and `docs/configuration.md` are what the table of settings generates, and the shipped file
//! means what it says. `RAINBOW_BLESS=1` rewrites both files.

use rainbow_server::config::{Config, Overrides, keys, render};
use std::collections::HashSet;
use std::path::Path;

fn assert_committed(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("RAINBOW_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("folder");
        std::fs::write(&path, generated).expect("write");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let same = committed == generated;
    assert!(
        same,
        "{name} differs from the table in src/config/keys.rs; run RAINBOW_BLESS=1 cargo test --test config_table"
    );
}

fn load(text: &str) -> Config {
    let loaded = Config::from_file_text("server.ini", text, &Overrides::default());
    loaded.unwrap_or_else(|errors| panic!("{errors:#?}")).0
}

/// name → value in force.
fn values(config: &Config) -> Vec<(&'static str, String)> {
    config
        .settings
        .iter()
        .map(|setting| (setting.name, setting.shown.clone()))
        .collect()
}

#[test]
fn server_ini_is_the_tables() {
    assert_committed("server.ini", &render::server_ini());
}

#[test]
fn the_documentation_is_the_tables() {
    assert_committed("docs/configuration.md", &render::markdown());
}

#[test]
fn the_shipped_file_holds_the_defaults_also_with_every_comment_opened() {
    let shipped = render::server_ini();
    let required = keys::all().filter(|key| key.default.is_none());
    let lines: String = required
        .map(|key| format!("{} = {}\n", key.name, key.shipped.expect("example")))
        .collect();
    let bare = values(&load(&format!("[main]\n{lines}")));
    let opened: String = shipped
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix(';').unwrap_or(line)))
        .collect();
    assert_ne!(opened, shipped);
    // The one key that a section wants once it is open.
    let opened = opened.replace("\napi_tokens =\n", "\napi_tokens = token\n");
    for text in [&shipped, &opened] {
        for ((name, value), (_, default)) in values(&load(text)).into_iter().zip(&bare) {
            let optional = keys::all().find(|key| key.label == name && key.default.is_some());
            let expected = optional.and_then(|key| key.shipped).unwrap_or(default);
            assert!(value == expected || name == "[gateway] api_tokens", "{name}: {value}");
        }
    }
}

#[test]
fn every_row_is_complete_and_every_name_is_there_once() {
    let mut seen = HashSet::new();
    for key in keys::all() {
        assert!(
            key.names()
                .all(|name| seen.insert((key.section, name)) && name == name.to_ascii_lowercase()),
            "{}",
            key.name
        );
        assert!(key.meaning.ends_with('.') && !key.meaning.contains('|'), "{}", key.name);
        assert!(
            key.default.is_some() || key.shipped.is_some(),
            "{} needs an example",
            key.name
        );
    }
    let config = load(&render::server_ini());
    assert_eq!(config.settings.len(), keys::all().count());
}

/// nginx ends a connection that was silent for 60 seconds; two servers that nobody configured must not join.
#[test]
fn the_shipped_file_fits_what_stands_around_it() {
    let config = load(&render::server_ini());
    let nginx = std::time::Duration::from_secs(60);
    assert!(!config.ping_interval.is_zero() && config.ping_interval < nginx / 2);
    assert!(config.idle_timeout > config.ping_interval + config.ping_timeout);
    let shown = |name: &str| {
        config
            .settings
            .iter()
            .find(|setting| setting.name == name)
            .map(|s| s.shown.clone())
    };
    assert_eq!(shown("cluster_udp").as_deref(), Some("no"));
    assert_eq!(shown("port_search").as_deref(), Some("no"));
}
