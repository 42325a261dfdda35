//! Goldens of loading: values and where they come from, the two layouts; in `tests/` what is refused or warned of, and reload.

mod refusals;
mod reload;

use super::*;

const GOOD: &str = "[main]\nconnect_url = http://a/c\nforward_url = http://a/m/{message_type}\nclose_url = http://a/x\n\
                    security_token = s3cret%%\n";

/// Without the remark that every original's file gets about its open cluster.
fn load(text: &str) -> (Config, Vec<String>) {
    let (config, mut warnings) = load_loudly(text);
    warnings.retain(|text| !text.contains("cluster_udp: is open"));
    (config, warnings)
}

fn load_loudly(text: &str) -> (Config, Vec<String>) {
    let (config, warnings) = Config::from_file_text("t.ini", text, &Overrides::default())
        .unwrap_or_else(|errors| panic!("{}", lines(&errors).join("\n")));
    (config, lines(&warnings))
}

fn errors(text: &str) -> Vec<String> {
    lines(&Config::from_file_text("t.ini", text, &Overrides::default()).expect_err("the text is wrong"))
}

fn lines<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

/// The one error or warning that `line` adds to a good file.
fn error_of(line: &str) -> String {
    errors(&format!("{GOOD}{line}\n")).join("\n")
}

/// The line takes the place of one with the same key.
fn warning_of(line: &str) -> String {
    let key = |line: &str| line.split(['=', ' ']).next().unwrap_or_default().to_owned();
    let kept = GOOD
        .lines()
        .map(|own| if key(own) == key(line) { "# replaced" } else { own });
    let kept: String = kept.map(|own| format!("{own}\n")).collect();
    load(&format!("{kept}{line}\n")).1.join("\n")
}

#[test]
fn a_small_file_gets_every_default() {
    let (config, warnings) = load(GOOD);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.security_token.expose(), "s3cret%");
    assert_eq!(
        (config.http_port, config.socket_port, config.ports.clone()),
        (1984, None, vec![1984])
    );
    assert_eq!(
        config.bind,
        ["::".parse::<IpAddr>().unwrap(), "0.0.0.0".parse().unwrap()]
    );
    assert_eq!((config.workers, config.pin, config.driver), (0, true, Driver::Auto));
    assert_eq!(
        (config.forward_order, config.forward_window, config.forward_queue),
        (ForwardOrder::None, 1, 128)
    );
    assert_eq!(
        (config.message_max, config.head_bytes, config.api_body_max),
        (10 << 20, 64 << 10, 100 << 20)
    );
    assert_eq!((config.outbox_bytes, config.forward_queue_bytes), (4 << 20, 1 << 20));
    assert_eq!(
        (config.callback_timeout, config.callback_idle),
        (Duration::from_secs(15), Duration::from_secs(20))
    );
    assert_eq!(
        (config.close_retry, config.drain_timeout),
        (Duration::from_secs(3600), Duration::from_secs(3))
    );
    assert_eq!(
        (config.close_queue, config.breaker_failures, config.breaker_pause),
        (65_536, 20, Duration::from_secs(1))
    );
    assert_eq!(
        (config.api_open, config.accept_unmasked, config.cluster_udp),
        (true, false, ClusterUdp::Open)
    );
    assert_eq!(
        config.cluster_udp_ports,
        PortRange {
            first: 2014,
            last: 2033
        }
    );
    assert_eq!(config.cluster_broadcast, Some(Ipv4Addr::BROADCAST));
    assert_eq!((config.cluster_name.as_str(), config.ca_file.clone()), ("", None));
}

#[test]
fn values_of_every_kind() {
    let extra = "bind = 127.0.0.1,\n  [::1]\ncallback_timeout = 0.25\noutbox_bytes = 128K\nDRIVER = Epoll\npin = Off\n\
                 cluster_peers = a:1 [::1]:2\ncluster_udp_ports=3000-3001\ncluster_broadcast=127.255.255.255\n\
                 ca_file=/etc/ca.pem\nlog_format: json\nhttp_port = +80\n";
    let (config, warnings) = load(&format!("{GOOD}{extra}"));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.bind.len(), 2);
    assert_eq!(config.callback_timeout, Duration::from_millis(250));
    assert_eq!(
        (config.outbox_bytes, config.driver, config.pin),
        (128 << 10, Driver::Epoll, false)
    );
    let peer = |host: &str, port| Peer {
        host: host.into(),
        port,
    };
    assert_eq!(config.cluster_peers, [peer("a", 1), peer("::1", 2)]);
    assert_eq!(config.cluster_udp_ports.iter().collect::<Vec<_>>(), [3000, 3001]);
    assert_eq!((config.log_format, config.http_port), (LogFormat::Json, 80));
}

#[test]
fn the_older_layout_is_served_on_both_ports_or_told_what_is_missing() {
    let older = "[main]\nauth_url = http://a/c\nsecurity_key = k\nsocket_port = 1984\nhttp_port = 2501\n";
    let reason = "is missing; this file has the older layout, which this server reads, but add a line like";
    assert_eq!(
        errors(older),
        [format!(
            "t.ini: forward_url: {reason} `forward_url = http://127.0.0.1:8000/message/{{message_type}}/` under [main]"
        )]
    );
    let (config, warnings) = load(&format!("{older}forward_url = http://a/{{{{message_type}}}}\n"));
    assert_eq!(config.close_url, None);
    assert_eq!(
        warnings,
        ["t.ini: close_url: is not set, as the older layout allows: the backend is not told when a client has gone"]
    );
    let newer = "[main]\nconnect_url = http://a/c\nsecurity_token = k\nforward_url = http://a/\n";
    assert_eq!(errors(newer).len(), 1, "close_url is required there");
    let complete = format!("{older}forward_url = http://a/{{{{message_type}}}}\nclose_url = http://a/x\n");
    let (config, warnings) = load(&complete);
    assert_eq!(
        (config.ports, config.security_token.expose(), warnings),
        (vec![2501, 1984], "k", vec![])
    );
    let overrides = Overrides {
        port: Some(9),
        ..Overrides::default()
    };
    let (config, warnings) = Config::from_file_text("t.ini", &complete, &overrides).expect("valid");
    assert_eq!(config.ports, [9]);
    let expected = "t.ini:4: socket_port: is not served, because -p names the only port";
    assert_eq!(lines(&warnings)[0], expected);
}

#[test]
fn secrets_stay_out_of_debug_explanation_and_errors() {
    let text = GOOD.replace("http://a/c", "http://user:hunter2@a/c");
    let (config, _) = load(&text);
    for shown in [format!("{config:?}"), render::explain(&config)] {
        assert!(!shown.contains("s3cret") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("(set, 7 characters)"), "{shown}");
    }
    for bad in [
        "security_token = hunter2%",
        "security_token = %(hunter2)s",
        "connect_url = http://u:hunter2@a:0/",
    ] {
        assert!(!error_of(bad).contains("hunter2"), "{}", error_of(bad));
    }
}

#[test]
fn the_explanation_names_every_origin() {
    let overrides = Overrides {
        port: Some(2000),
        ..Overrides::default()
    };
    let (config, _) = Config::from_file_text("t.ini", &format!("{GOOD}pin = no\n"), &overrides).expect("valid");
    let explained = render::explain(&config);
    let has = |line: &str| {
        explained
            .lines()
            .any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") == line)
    };
    assert!(has("security_token = (set, 7 characters) hot t.ini:5"), "{explained}");
    assert!(has("pin = no restart t.ini:6"), "{explained}");
    assert!(has("outbox_bytes = 4m new-connections default"), "{explained}");
    assert!(has("http_port = 2000 restart option -p"), "{explained}");
    assert!(has("Served on port 2000."), "{explained}");
}

#[test]
fn shown_values_read_back_as_themselves() {
    let (mut config, _) = load(GOOD);
    for key in keys::all().filter(|key| !matches!(key.kind, kind::Kind::Url(_) | kind::Kind::Secret(_))) {
        let shown = key.kind.show(&mut config);
        let before = config.clone();
        key.kind
            .read(&shown, &mut config)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", key.name));
        assert_eq!(config, before, "{}", key.name);
    }
}

#[test]
fn the_demo_serves_this_machine_only() {
    for port in [0, 1, 65_535] {
        let overrides = Overrides {
            port: Some(port),
            ..Overrides::default()
        };
        let config = Config::demo(port, &overrides);
        assert_eq!(config.ports, [port]);
        assert!(config.bind.iter().all(IpAddr::is_loopback));
        assert_eq!(config.forward_url.request_target(Some(3), ""), "/message/3/");
    }
}

#[test]
fn zeroes_are_resolved_from_the_machine() {
    let (config, _) = load(GOOD);
    let numbers = |cores, descriptors| {
        let resolved = config.clone().resolved(cores, descriptors);
        (resolved.workers, resolved.connections_max)
    };
    assert_eq!(numbers(8, 1_000_000), (7, 1_000_000 - 3 * 1024 - 256));
    assert_eq!(numbers(1, 1024), (1, 512));
    assert_eq!(numbers(0, 0), (1, 1));
    let (config, _) = load(&format!("{GOOD}workers = 5\nconnections_max = 6\n"));
    assert_eq!(config.clone().resolved(8, 100), config);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[main\\]\n)?(([a-z_]{1,9}|http_port|bind|forward_url|pin|head_bytes|drain_timeout|cluster_peers) ?= ?\\PC{0,12}\n){0,6}") {
        let _ = Config::from_file_text("t", &text, &Overrides::default());
    }

    #[test]
    fn no_value_panics_a_kind(index in 0usize..64, text in "\\PC{0,20}|[-+]?[0-9.]{0,25}[kKmM]?") {
        let (mut config, _) = load(GOOD);
        if let Some(key) = keys::all().nth(index) {
            let _ = key.kind.read(&text, &mut config);
            let _ = key.kind.show(&mut config);
        }
    }
}

#[test]
fn broadcasts_are_open_only_for_a_file_that_may_be_an_originals() {
    let of = |more: &str| {
        let (config, warnings) = load_loudly(&format!("{GOOD}{more}"));
        let said = warnings.iter().filter(|text| text.contains("cluster_")).count();
        (config.cluster_udp, said)
    };
    assert_eq!(of(""), (ClusterUdp::Open, 1), "as 0.05, loudly");
    assert_eq!(
        of("cluster_name = c\nudp_ports = 1\nhttp_port = 80\nunknown = 1\n"),
        (ClusterUdp::Open, 1)
    );
    assert_eq!(of("workers = 1\n"), (ClusterUdp::No, 0));
    assert_eq!(
        of("workers = 1\ncluster_name = c\n"),
        (ClusterUdp::No, 1),
        "a name that has no effect"
    );
    assert_eq!(of("cluster_name = c\ncluster_peers = a:1\n"), (ClusterUdp::No, 0));
    assert_eq!(of("cluster_udp = signed\n"), (ClusterUdp::Signed, 0));
    for yes in ["open", "yes", "True", "1"] {
        assert_eq!(of(&format!("cluster_udp = {yes}\n")), (ClusterUdp::Open, 1));
    }
    assert_eq!(of("cluster_udp = off\n"), (ClusterUdp::No, 0));
    let unsigned = "[main]\nconnect_url = http://a/\nforward_url = http://a/{message_type}\nclose_url = http://a/\n\
                    security_token =\ncluster_udp = signed\n";
    let expected = "t.ini:6: cluster_udp: is signed, but security_token is empty: set a token";
    assert_eq!(errors(unsigned), [expected]);
}

#[test]
fn who_names_a_port_means_that_one() {
    let searches = |more: &str| load(&format!("{GOOD}{more}")).0.port_search;
    assert!(searches("") && searches("http_port = 80\n"), "as 0.05");
    assert!(searches("workers = 1\n"), "no port is named");
    assert!(!searches("workers = 1\nhttp_port = 80\n"));
    assert!(searches("workers = 1\nhttp_port = 80\nport_search = yes\n"));
}
