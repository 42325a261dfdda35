//! Which certificate a client is shown: by name, and after a reload.

use super::authority::{Secure, Version, connect};
use super::common::client::{Client, Op};
use super::common::http::Request;
use super::common::{SOON, eventually, packet};
use super::{Setup, setup};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The certificate the server shows to a client of `name`, or its refusal.
fn shown(setup: &Setup, name: &str) -> Result<Vec<u8>, String> {
    // A client of its own: no session is resumed.
    let config = setup.authority.client(Version::Tls13);
    let secure: Secure = connect(setup.port.number, &config, name).map_err(|error| error.to_string())?;
    let chain = secure.conn.peer_certificates().expect("certificates");
    Ok(chain[0].to_vec())
}

fn in_file(path: &Path) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_file(path)
        .expect("certificate")
        .to_vec()
}

#[test]
fn clients_get_the_certificate_of_the_name_they_ask_for() {
    let setup = setup(|builder| builder);
    let own = setup.authority.dir.join("own.crt");
    let (second, second_key) = setup.authority.issue("second", &["b.test", "*.wild.test"]);
    let own_key = setup.authority.dir.join("own.key");
    let lists = [("tls_cert", [&own, &second]), ("tls_key", [&own_key, &second_key])];
    set(
        &setup,
        &lists.map(|(key, files)| (key, format!("{}, {}", files[0].display(), files[1].display()))),
    );
    setup.server.signal("HUP");
    assert!(
        eventually(SOON, || shown(&setup, "b.test").is_ok()),
        "{}",
        setup.server.log_tail()
    );
    assert_eq!(shown(&setup, "a.test"), Ok(in_file(&own)));
    assert_eq!(shown(&setup, "b.test"), Ok(in_file(&second)));
    assert_eq!(shown(&setup, "x.wild.test"), Ok(in_file(&second)));
    let refusal = shown(&setup, "c.test").expect_err("no certificate has this name");
    assert!(refusal.contains("a.test"), "the default is shown: {refusal}");
}

#[test]
fn a_reload_serves_new_connections_with_new_certificates() {
    let setup = setup(|builder| builder.set("workers", 2));
    let cert = setup.authority.dir.join("own.crt");
    let old = in_file(&cert);
    let client = Client::open(setup.tunnel(Version::Tls13).port);
    assert_eq!(shown(&setup, "a.test"), Ok(old.clone()));

    setup.authority.issue("own", &["a.test"]);
    let new = in_file(&cert);
    assert_ne!(old, new);
    assert_eq!(shown(&setup, "a.test"), Ok(old), "nobody asked for a reload");
    setup.server.signal("HUP");
    let all_new = || (0..8).all(|_| shown(&setup, "a.test").as_ref() == Ok(&new));
    assert!(eventually(SOON, all_new), "{}", setup.server.log_tail());

    // Half of a pair does not match the other half: all stays as it was.
    setup.authority.issue("other", &["a.test"]);
    std::fs::copy(
        setup.authority.dir.join("other.key"),
        setup.authority.dir.join("own.key"),
    )
    .expect("copy");
    setup.server.signal("HUP");
    setup.server.expect_said("reload refused");
    setup.server.expect_said("is not the key of");
    assert!(all_new());

    std::fs::copy(setup.authority.dir.join("other.crt"), &cert).expect("copy");
    setup.server.api(&Request::get("/updateconfig/"));
    let newest = in_file(&cert);
    assert!(eventually(SOON, || (0..8).all(|_| shown(&setup, "a.test").as_ref() == Ok(&newest))));

    // A port stays until the restart, so its certificates do too.
    set(
        &setup,
        &[
            ("tls_port", "0".into()),
            ("tls_cert", String::new()),
            ("tls_key", String::new()),
        ],
    );
    setup.server.signal("HUP");
    setup.server.expect_said(r#"needs_restart="tls_port""#);
    assert_eq!(shown(&setup, "a.test"), Ok(newest));

    client.send(&packet::send(1, 7, 3, "still here"));
    client.expect(Op::Binary, &packet::ack(3, "ok"));
    setup.expect_healthy();
}

/// A storm of returning clients must not cost a full handshake each because somebody asked for a reload.
#[test]
fn tickets_stay_good_over_a_reload() {
    use rustls::HandshakeKind;
    use std::io::{Read, Write};
    let setup = setup(|builder| builder.set("workers", 1));
    let config = setup.authority.client(Version::Tls13);
    let handshake = || {
        let mut secure = connect(setup.port.number, &config, "a.test").expect("handshake");
        // The ticket comes with the first answer.
        secure
            .write_all(b"GET /hello/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("write");
        let _ = secure.read_to_end(&mut Vec::new());
        secure.conn.handshake_kind()
    };
    assert_eq!(handshake(), Some(HandshakeKind::Full));
    assert_eq!(handshake(), Some(HandshakeKind::Resumed));
    let reloads = || setup.server.log_tail().matches("configuration read again").count();
    setup.server.signal("HUP");
    assert!(eventually(SOON, || reloads() == 1), "{}", setup.server.log_tail());
    setup.server.expect_said("certificates=\"unchanged\"");
    assert_eq!(handshake(), Some(HandshakeKind::Resumed), "nothing has changed");
    setup.authority.issue("own", &["a.test"]);
    setup.server.signal("HUP");
    assert!(eventually(SOON, || reloads() == 2), "{}", setup.server.log_tail());
    setup.server.expect_said("certificates=\"new\"");
    assert_eq!(
        handshake(),
        Some(HandshakeKind::Resumed),
        "other certificates, the same keys of tickets"
    );
    setup.expect_healthy();
}

/// They are served all the same; it is for the log, `--check-config` and whoever watches the metric to say so.
#[test]
fn certificates_that_end_soon_are_warned_of() {
    const DAY: u64 = 24 * 3600;
    const METRIC: &str = "rainbow_tls_certificate_expiry_timestamp_seconds";
    let setup = setup(|builder| builder);
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let now = SystemTime::now();
    assert!(setup.metric(METRIC) > seconds(now) + 900 * DAY);
    assert!(
        !setup.server.log_tail().contains("renew"),
        "{}",
        setup.server.log_tail()
    );
    let cases = [
        (
            now + Duration::from_secs(10 * DAY + 1000),
            "own.crt: a certificate expires in 10 days",
        ),
        (now - Duration::from_secs(5), "own.crt: a certificate has expired"),
    ];
    for (end, text) in cases {
        setup.authority.issue_until(end, "own", &["a.test"]);
        setup.server.signal("HUP");
        assert!(
            eventually(SOON, || setup.metric(METRIC) == seconds(end)),
            "{}",
            setup.metric(METRIC)
        );
        assert!(
            eventually(SOON, || setup.server.log_tail().contains(text)),
            "{}",
            setup.server.log_tail()
        );
        let checked = Command::new(env!("CARGO_BIN_EXE_rainbow-server"))
            .args(["--check-config".as_ref(), "-f".as_ref(), setup.server.ini.as_os_str()])
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success() && said.contains(text), "{said}");
    }
    let refusal = shown(&setup, "a.test").expect_err("it has expired");
    assert!(refusal.contains("expired"), "{refusal}");
}

/// Replaces values in the server's ini file.
pub(super) fn set(setup: &Setup, values: &[(&str, String)]) {
    let text = std::fs::read_to_string(&setup.server.ini).expect("ini file");
    let is_replaced = |line: &str| values.iter().any(|(key, _)| line.starts_with(&format!("{key} =")));
    let kept = text
        .lines()
        .filter(|line| !is_replaced(line))
        .map(|line| format!("{line}\n"));
    let new = values.iter().map(|(key, value)| format!("{key} = {value}\n"));
    std::fs::write(&setup.server.ini, kept.chain(new).collect::<String>()).expect("ini file");
}
