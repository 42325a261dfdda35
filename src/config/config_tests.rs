//! Goldens of loading: values, every kind of error, warnings, the two layouts, reload.

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
fn all_errors_at_once_with_place_and_advice() {
    let text = "[main]\nconnect_url = ftp://a/\nforward_url = http://a/%2F\nworkers = many\nhttp_port = 70000\n";
    assert_eq!(
        errors(text),
        [
            "t.ini:2: connect_url: URL must start with http:// or https://",
            "t.ini:3: forward_url: `%` at column 10 of the value must be doubled: write %% (a URL's %2F becomes %%2F)",
            "t.ini: close_url: is missing; add a line like `close_url = http://127.0.0.1:8000/close/` under [main]",
            "t.ini: security_token: is missing; add a line like `security_token = change-this-token` under [main]",
            "t.ini:5: http_port: \"70000\" is not a port; use 1..65535",
            "t.ini:4: workers: \"many\" is not a whole number 0..1024",
        ]
    );
}

#[test]
fn refusals_of_every_kind() {
    let table = [
        (
            "http_port = -1",
            "t.ini:6: http_port: \"-1\" is not a port; use 1..65535",
        ),
        (
            "http_port = 99999999999999999999",
            "t.ini:6: http_port: \"99999999999999999999\" is not a port; use 1..65535",
        ),
        (
            "workers = 1025",
            "t.ini:6: workers: \"1025\" is not a whole number 0..1024",
        ),
        ("pin = maybe", "t.ini:6: pin: \"maybe\" is neither yes nor no"),
        (
            "signature_accept = sha1, md5",
            "t.ini:6: signature_accept: \"md5\" is not one of: sha1, hmac-sha256",
        ),
        (
            "drain_timeout = 1e3",
            "t.ini:6: drain_timeout: \"1e3\" is not a number of seconds 0..3600",
        ),
        (
            "drain_timeout = .5",
            "t.ini:6: drain_timeout: \".5\" is not a number of seconds 0..3600",
        ),
        (
            "close_retry = -1",
            "t.ini:6: close_retry: \"-1\" is not a number of seconds 0..86400",
        ),
        (
            "head_bytes = 2m",
            "t.ini:6: head_bytes: \"2m\" is not a number of bytes 1k..1m (suffix k or m allowed)",
        ),
        (
            "head_bytes = 99999999999999999m",
            "t.ini:6: head_bytes: \"99999999999999999m\" is not a number of bytes 1k..1m (suffix k or m allowed)",
        ),
        (
            "driver = kqueue",
            "t.ini:6: driver: \"kqueue\" is not one of: auto, io_uring, epoll",
        ),
        (
            "bind = localhost",
            "t.ini:6: bind: \"localhost\" is not an IP address; names are not resolved here",
        ),
        (
            "bind =",
            "t.ini:6: bind: lists no address; use for example 0.0.0.0 or 127.0.0.1",
        ),
        ("cluster_peers = a", "t.ini:6: cluster_peers: \"a\" is not host:port"),
        (
            "cluster_udp_ports = 9-8",
            "t.ini:6: cluster_udp_ports: \"9-8\": the first port must not be above the last, at most 100 ports",
        ),
        (
            "cluster_broadcast = ::1",
            "t.ini:6: cluster_broadcast: \"::1\" is not an IPv4 address",
        ),
        (
            "cluster_name = a\n b",
            "t.ini:6: cluster_name: has a line break or control character; write it on one line",
        ),
        (
            "cluster_name = \u{fffd}",
            "t.ini:6: cluster_name: value is not UTF-8; save the file as UTF-8",
        ),
        (
            "nonsense",
            "t.ini:6: line is neither `key = value`, [section] nor # comment",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(error_of(line), expected, "{line}");
    }
}

#[test]
fn a_missing_section_is_named() {
    let table = [
        (
            "",
            "t.ini: section [main] is missing; put the settings under a line [main]",
        ),
        (
            "[Main]\na=1\n",
            "t.ini: section [main] is missing; [Main] is another one, write [main]",
        ),
        ("a=1\n", "t.ini:1: line before the first section; put [main] above it"),
    ];
    for (text, expected) in table {
        assert_eq!(errors(text), [expected], "{text:?}");
    }
}

#[test]
fn warnings() {
    let table = [
        ("http_port = x", "t.ini:6: http_port: is not an integer; 1984 is used"),
        ("http_port = 0", "t.ini:6: http_port: 0 means the default; 1984 is used"),
        (
            "udp_ports = 1,2",
            "t.ini:6: udp_ports: has no effect since version 0.02; remove it",
        ),
        (
            "auth_url = http://b/",
            "t.ini:6: auth_url: is ignored, because connect_url is set too",
        ),
        (
            "htp_port = 1",
            "t.ini:6: htp_port: unknown key, ignored; did you mean http_port?",
        ),
        ("colour = red", "t.ini:6: colour: unknown key, ignored"),
        (
            "forward_window = 4",
            "t.ini:6: forward_window: has no effect without forward_order = client",
        ),
        (
            "socket_port = 1985",
            "t.ini:6: socket_port: has no effect without http_port; write http_port for the listening port",
        ),
        (
            "signature_accept = hmac-sha256",
            "t.ini:6: signature_accept: leaves out what signature says: servers of a cluster with this file refuse each other",
        ),
        (
            "security_token =",
            "t.ini:6: security_token: is empty: everybody who reaches the port can send to every client",
        ),
        (
            "forward_url = http://a/m",
            "t.ini:6: forward_url: has no {message_type}; the business server will not learn the type of a message",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(warning_of(line), expected, "{line}");
    }
    assert_eq!(
        load(&format!("{GOOD}base = http://b\nca_file = %(BASE)s\n")).1,
        [""; 0],
        "a key used by another is known"
    );
}

#[test]
fn values_that_may_not_mean_what_they_say_draw_a_warning() {
    let hash = "a # after a value starts no comment, it is part of the value; write comments on lines of their own";
    let cut = "a ; after a space starts a comment: what stands from there on is not part of the value; if it should be, leave the \
               space out, and write comments on lines of their own";
    let cure = "take away the white space in front of it";
    let table = [
        ("security_token = s3cret # mine", format!("t.ini:6: security_token: {hash}")),
        ("security_token = s3cret ;x", format!("t.ini:6: security_token: {cut}")),
        ("cluster_name = a # b", format!("t.ini:6: cluster_name: {hash}")),
        ("origins = https://a.example ;https://b.example", format!("t.ini:6: origins: {cut}")),
        (
            "security_token = \"s3cret\"",
            "t.ini:6: security_token: quotes are part of the value here; write it without them".into(),
        ),
        (
            "security_token = s3cret\n  http_port = 80",
            format!("t.ini:6: security_token: line 7 is indented, so http_port is not set there but is part of this value; {cure}"),
        ),
        (
            "security_token = s3cret\n  # mine",
            format!("t.ini:6: security_token: line 7 is indented, so it is no comment but part of this value; {cure}"),
        ),
        (
            "security_token = s3cret\n  more",
            format!("t.ini:6: security_token: goes on on line 7, because that line is indented; {cure} if it is not part of this value"),
        ),
        (
            "http_port = 80 # main",
            format!("t.ini:6: http_port: is not an integer; 1984 is used ({hash})"),
        ),
        (
            "colour = red\n  origins = https://a",
            format!(
                "t.ini:6: colour: unknown key, ignored\n\
                 t.ini:6: colour: line 7 is indented, so origins is not set there but is part of this value; {cure}"
            ),
        ),
        ("pin = no\npin = yes", "t.ini:7: pin: is set on line 6 too; the last one counts".into()),
        (
            "connect_url = http://u:p%%40x@a/",
            "t.ini:6: connect_url: has a percent-encoded character in user:password@, which is sent as it is written, not decoded; \
             write the character itself (an @ or a : in the password does no harm)"
                .into(),
        ),
        // What is plain draws none.
        ("http_port = 80 ; main", String::new()),
        ("connect_url = http://a/ ; asked", String::new()),
        ("security_token = a;b#c%%d", String::new()),
        ("bind = 127.0.0.1,\n  ::1", String::new()),
    ];
    for (line, expected) in table {
        let said = warning_of(line);
        assert_eq!(said, expected, "{line}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    // The bytes stay those of the original.
    let token = |line: &str| {
        load(&format!("{GOOD}security_token = {line}\n"))
            .0
            .security_token
            .expose()
            .to_owned()
    };
    assert_eq!(token("a # b"), "a # b");
    assert_eq!(token("a ; b"), "a");
    assert_eq!(token("\"a\""), "\"a\"");
    assert_eq!(token("a\n  http_port = 80\n # c"), "a\nhttp_port = 80\n# c");
}

#[test]
fn values_that_cannot_mean_what_they_say_are_refused_with_the_cause() {
    let table = [
        ("origins = a.example", "has no scheme; write https://a.example"),
        (
            "origins = \"https://a\"",
            "has quotes, which are part of the value here",
        ),
        ("origins = https://a; https://b", "separate items with commas or spaces"),
        ("origins = https://a # mine", "a # after a value starts no comment"),
        (
            "origins = https://a\n  # mine",
            "line 7 is indented, so it is no comment",
        ),
        (
            "origins = https://a\n  pin = no",
            "line 7 is indented, so pin is not set there",
        ),
        ("trusted_proxies = 10.0.0.0/8;", "separate items with commas or spaces"),
        ("bind = '127.0.0.1'", "has quotes"),
        ("ca_file = \"/etc/ca.pem\"", "quotes are part of the value here"),
        ("ca_file = /etc/ca.pem # mine", "a # after a value starts no comment"),
        (
            "tls_cert = /a.pem #x\ntls_key = /a.key",
            "a # after a value starts no comment",
        ),
        ("workers = 4 # all", "is not a whole number 0..1024 (a # after a value"),
        ("workers = \"4\"", "is not a whole number 0..1024 (quotes are part"),
        (
            "pin = no\n  driver = epoll",
            "is neither yes nor no (line 7 is indented, so driver is not set there",
        ),
        (
            "close_url = http://a/\n  http_port = 80",
            "(line 7 is indented, so http_port is not set there",
        ),
    ];
    for (line, cause) in table {
        assert!(error_of(line).contains(cause), "{line}: {}", error_of(line));
    }
    let token = GOOD.replace("security_token", "  security_token");
    let said = errors(&token).join("\n");
    assert!(
        said.contains("t.ini:5: security_token: is missing; line 5 has it, but is indented"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
    let said = error_of("workers = 4\n  security_token_previous = s3cret");
    assert!(!said.contains("s3cret"), "{said}");
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
    let overrides = Overrides { port: Some(9) };
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
    let overrides = Overrides { port: Some(2000) };
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
            keys::Reload::Hot => expected.hot.push(key.name),
            keys::Reload::NewConnections => expected.new_connections.push(key.name),
            keys::Reload::Restart => expected.restart.push(key.name),
        }
        assert_eq!(changes, expected);
        let is_in_force = key.kind.is_same(&mut merged, &mut new);
        assert_eq!(is_in_force, key.reload != keys::Reload::Restart, "{}", key.name);
    }
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
        let overrides = Overrides { port: Some(port) };
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
