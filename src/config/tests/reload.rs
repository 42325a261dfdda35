//! What a reload puts in force, and what it reports.

use super::*;

#[test]
fn a_reload_keeps_what_needs_a_restart() {
    let extra = "http_port = 2000\ncluster_peers = a:1, [::1]:2\nbind = ::1\ncluster_udp_ports = 1-2\nworkers = 3\ndriver = epoll\n\
                 socket_port = 7\ncluster_broadcast = 10.0.0.255\ncluster_name = n\npin = no\n";
    let (old, _) = load(&format!("{GOOD}{extra}"));
    let (new, _) = load(&GOOD.replace("s3cret", "other").replace("http://a/x", "http://b/y"));
    let (merged, changes) = old.reloaded(new);
    assert_eq!(merged.security_token.expose(), "other%");
    assert_eq!(merged.close_url.as_ref().map(|url| &*url.host), Some("b"));
    let names = "http_port port_search socket_port bind cluster_name cluster_udp cluster_peers cluster_udp_ports cluster_broadcast workers pin driver";
    assert_eq!(changes.restart.join(" "), names);
    assert_eq!(changes.hot, ["close_url", "security_token"]);
    assert!(changes.new_connections.is_empty());
    let mut expected = old.clone();
    expected.security_token = merged.security_token.clone();
    expected.close_url = merged.close_url.clone();
    expected.settings = merged.settings.clone();
    assert_eq!(merged, expected);
    assert_eq!(old.reloaded(old.clone()), (old.clone(), Changes::default()));
}

/// Every setting, changed alone, is reported in its class and nowhere else, and is in force unless it needs a restart.
#[test]
fn each_change_is_reported_in_its_class() {
    let (old, _) = load(GOOD);
    let others = [
        "http://c/{message_type}/",
        "7",
        "no",
        "yes",
        "hmac-sha256",
        "drop_oldest",
        "client",
        "epoll",
        "debug",
        "json",
        "10.0.0.1",
        "10.0.0.1:7",
        "7-9",
        "/x",
        "https://words",
        "70000",
        "60000",
        "warn",
        "gatewayworker",
    ];
    let has_room = |key: &&keys::Key| !matches!(key.kind, kind::Kind::Ignored);
    for key in keys::all().filter(has_room) {
        let mut new = old.clone();
        let changed = others.iter().any(|text| {
            let read = key.kind.read(text, &mut new);
            read.is_ok() && !key.kind.is_same(&mut old.clone(), &mut new)
        });
        assert!(changed, "no other value for {}", key.name);
        let (mut merged, changes) = old.reloaded(new.clone());
        let mut expected = Changes::default();
        match key.reload {
            keys::Reload::Hot => expected.hot.push(key.label),
            keys::Reload::NewConnections => expected.new_connections.push(key.label),
            keys::Reload::Restart => expected.restart.push(key.label),
        }
        assert_eq!(changes, expected);
        let is_in_force = key.kind.is_same(&mut merged, &mut new);
        assert_eq!(is_in_force, key.reload != keys::Reload::Restart, "{}", key.name);
    }
}

#[test]
fn a_door_comes_and_goes_with_a_restart() {
    let section = "[gateway]\nport = 7000\nsecret = s\napi_tokens = t\n";
    let (without, _) = load(&format!("{GOOD}workers = 1\n"));
    let (with, _) = load(&format!("{GOOD}workers = 1\n{section}"));
    let (alone, _) = load(&format!("[main]\nworkers = 1\n{section}"));
    assert_eq!(
        (without.gateway.on, with.gateway.on, alone.gateway.on),
        (false, true, true)
    );
    assert_eq!((without.rainbow, with.rainbow, alone.rainbow), (true, true, false));
    let (merged, changes) = without.reloaded(with.clone());
    assert_eq!((merged, changes.restart), (without.clone(), vec!["gateway"]));
    let (merged, changes) = with.reloaded(without);
    assert_eq!((merged, changes.restart), (with.clone(), vec!["gateway"]));
    let (merged, changes) = with.reloaded(alone.clone());
    assert_eq!(changes.restart, ["connect_url"]);
    assert_eq!(
        (merged.rainbow, &merged.connect_url, &merged.security_token),
        (true, &with.connect_url, &with.security_token)
    );
    let (merged, changes) = alone.reloaded(with);
    assert_eq!(
        (merged.rainbow, merged.connect_url, changes.restart),
        (false, alone.connect_url, vec!["connect_url"])
    );
}
