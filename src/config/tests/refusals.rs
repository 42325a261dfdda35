//! Every kind of error and warning, in its words.

use super::*;

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
            "takeover_dir = run/own",
            "t.ini:6: takeover_dir: \"run/own\" does not begin at the root; write the whole path",
        ),
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
fn what_the_gateway_needs_and_what_it_must_not_have() {
    let of = |main: &str, section: &str| errors(&format!("[main]\n{main}\n[gateway]\n{section}\n"));
    assert_eq!(
        of("", ""),
        [
            "t.ini: [gateway] api_tokens: is empty, so everybody who reaches the port of [main] could send to every client: set a \
          token, or let bind of [main] have addresses of this machine only (127.0.0.1, ::1)"
        ]
    );
    assert_eq!(
        of("bind = ::1", "port = 1984"),
        ["t.ini:4: [gateway] port: 1984 is a port of [main] too; choose another one"]
    );
    assert_eq!(
        of("bind = ::1", "tls_port = 7272"),
        [
            "t.ini:4: [gateway] tls_port: 7272 is the port without TLS too; choose another one",
            "t.ini:4: [gateway] tls_port: needs a certificate; add tls_cert and tls_key under [main], or set tls_port = 0"
        ]
    );
    assert_eq!(
        of("bind = ::1\nforward_url = http://a/{message_type}", "").len(),
        3,
        "with one of them rainbow's door is on and needs the others"
    );
    let peers = of("bind = ::1\ncluster_peers = a:1\ncluster_udp = signed", "");
    assert!(
        peers.len() == 2
            && peers
                .iter()
                .all(|text| text.contains("is of no use without connect_url")),
        "{peers:?}"
    );
    let tokens = of("", "api_tokens = good, \"s3cret\"");
    assert!(
        tokens[0].starts_with("t.ini:4: [gateway] api_tokens: lists") && !tokens.concat().contains("s3cret"),
        "{tokens:?}"
    );
    for (line, words) in [
        ("port = 0", "is not a port"),
        ("port = x", "is not a port"),
        ("paths = ws", "is not a path"),
        ("paths = /a?b", "is not a path"),
        ("url = b", "must start with http"),
        ("id_format = x", "is not one of: random, gatewayworker"),
        ("bind = here", "is not an IP address"),
        ("lan_ip = ::1", "is not an IPv4 address"),
    ] {
        let found = of("bind = ::1", line);
        assert!(found.len() == 1 && found[0].contains(words), "{line}: {found:?}");
    }
}

#[test]
fn keys_are_known_in_their_own_section() {
    let (config, warnings) =
        load("[main]\nbind = ::1\napi_tokens = t\n[gateway]\nhttp_port = 1\nports = 2\nurl = http://b/\n");
    assert_eq!(config.gateway.port, 7272);
    assert_eq!(
        warnings,
        [
            "t.ini: [gateway] secret: is empty: a backend cannot tell the events of this server from anybody else's",
            "t.ini:3: api_tokens: unknown key, ignored",
            "t.ini:5: [gateway] http_port: unknown key, ignored",
            "t.ini:6: [gateway] ports: unknown key, ignored; did you mean port?",
        ]
    );
}
