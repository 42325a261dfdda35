//! Settings that cannot work are refused with file, line, key and advice, by `--check-config` and at start.

use super::authority::Authority;
use super::common::business::Business;
use super::common::ports;
use super::common::server::Builder;
use super::common::{SOON, http};
use std::path::Path;

/// What `--check-config` says about a file with these lines in front of the required ones: (line, text).
pub fn refusal(lines: &[(&str, String)]) -> (Option<usize>, String) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let ini = dir.join(format!("tls-settings-{}-{number}.ini", std::process::id()));
    let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let rest = "connect_url=http://a/\nforward_url=http://a/\nclose_url=http://a/\nsecurity_token=t\n";
    std::fs::write(&ini, format!("[main]\n{lines}{rest}")).expect("ini file");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rainbow-server"));
    let output = command.arg("-f").arg(&ini).arg("--check-config").output().expect("run");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    std::fs::remove_file(&ini).expect("remove");
    let expected = if said.contains("error: ") { 2 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{said}");
    let line = said
        .split(".ini:")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok());
    (line, said)
}

#[test]
fn what_cannot_work_is_refused() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("one", &["a.test"]);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let other = authority.issue("two", &["b.test"]).1.display().to_string();
    let nonsense = authority.dir.join("nonsense.pem");
    std::fs::write(
        &nonsense,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("write");
    let nonsense = nonsense.display().to_string();
    let port = || ("tls_port", "8443".to_owned());
    let pair = |cert: &str, key: &str| vec![port(), ("tls_cert", cert.to_owned()), ("tls_key", key.to_owned())];
    type Lines<'a> = Vec<(&'a str, String)>;
    let cases: Vec<(Lines<'_>, Option<usize>, &str)> = vec![
        (pair(&cert, &key), None, ": valid"),
        (vec![port()], Some(2), "tls_port: needs a certificate"),
        (pair(&cert, ""), Some(4), "tls_key: lists 0 files, but tls_cert lists 1"),
        (
            pair(&format!("{cert}, {cert}"), &key),
            Some(4),
            "tls_key: lists 1 files, but tls_cert lists 2",
        ),
        (
            pair("/nonexistent/x.crt", &key),
            Some(3),
            "tls_cert: /nonexistent/x.crt: cannot be read",
        ),
        (
            pair(&cert, "/nonexistent/x.key"),
            Some(4),
            "tls_key: /nonexistent/x.key: cannot be read",
        ),
        (pair(&cert, &other), Some(4), "is not the key of"),
        (pair(&key, &key), Some(3), "holds no certificate"),
        (pair(&cert, &cert), Some(4), "holds no private key"),
        (pair(&nonsense, &key), Some(3), "its first certificate is not usable"),
        (pair("Cargo.toml", &key), Some(3), "holds no certificate"),
        (vec![("tls_port", "x".into())], Some(2), "tls_port: \"x\" is not a port"),
        (vec![("tls_port", "70000".into())], Some(2), "is not a port"),
        (vec![("tls_port", "0".into())], None, ": valid"),
        (
            vec![("tls_cert", cert.clone()), ("tls_key", key.clone())],
            None,
            "tls_cert: has no effect without tls_port",
        ),
        (
            [vec![("http_port", "8443".to_owned())], pair(&cert, &key)].concat(),
            Some(3),
            "8443 is the port without TLS too",
        ),
        (
            vec![("callback_cert", cert.clone())],
            Some(2),
            "callback_cert: is of no use without callback_key",
        ),
        (
            vec![("callback_key", key.clone())],
            Some(2),
            "callback_key: is of no use without callback_cert",
        ),
        (
            vec![("callback_cert", cert.clone()), ("callback_key", other.clone())],
            Some(3),
            "callback_key: ",
        ),
        (
            vec![("callback_cert", cert.clone()), ("callback_key", key.clone())],
            None,
            ": valid",
        ),
    ];
    for (lines, line, text) in cases {
        let (found, said) = refusal(&lines);
        assert!(said.contains(text), "{lines:?}: {said}");
        if let Some(line) = line {
            assert_eq!(found, Some(line), "{lines:?}: {said}");
        }
    }
}

#[test]
fn a_taken_tls_port_is_an_error_and_not_a_search() {
    let (business, authority, port) = (Business::start(), Authority::new(), ports::claim());
    let (cert, key) = authority.issue("own", &["a.test"]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", port.number)).expect("bind");
    let builder = Builder::new(&business)
        .set("tls_port", port.number)
        .set("tls_cert", cert.display())
        .set("tls_key", key.display());
    let mut server = builder.spawn();
    assert_eq!(server.wait_exit(SOON), Some(2));
    server.expect_said("tls_port");
    drop(taken);
}

#[test]
fn both_ports_serve_at_once() {
    let setup = super::setup(|builder| builder);
    let plain = http::call(setup.server.port(), &http::Request::get("/hello/"), SOON).expect("plain");
    let tunnel = setup.tunnel(super::Version::Tls13);
    let secure = http::call(tunnel.port, &http::Request::get("/hello/"), SOON).expect("TLS");
    assert_eq!(plain.body, secure.body);
}
