//! What a file holds that a setting names: what is meant is understood, what cannot be used is named with its cause, by
//! `--check-config`, a start and a reload alike. Keys of kinds nobody makes by chance are made with openssl.

use super::authority::Authority;
use super::common::business::Business;
use super::common::server::Builder;
use super::common::{SOON, eventually, http};
use super::settings::refusal;
use std::path::PathBuf;
use std::process::Command;

/// A folder with a pair `own`, another one `other`, and files made from them.
struct Files(Authority);

impl Files {
    fn new() -> Self {
        let authority = Authority::new();
        authority.issue("own", &["a.test"]);
        authority.issue("other", &["b.test"]);
        Self(authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("file")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("write");
        self.path(name).display().to_string()
    }

    /// The key openssl makes; `None`: there is no openssl.
    fn key(&self, name: &str, arguments: &str) -> Option<String> {
        let path = self.path(name);
        let mut command = Command::new("openssl");
        let (verb, arguments) = arguments.split_once(' ').expect("a verb and arguments");
        command.arg(verb).arg("-out").arg(&path).args(arguments.split(' '));
        match command.output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => {
                println!("NOT RUN: openssl: {error}");
                assert!(std::env::var_os("CI").is_none(), "openssl is missing");
                return None;
            }
        }
        Some(path.display().to_string())
    }

    /// What `--check-config` says about a pair.
    fn said(&self, cert: &str, key: &str) -> String {
        refusal(&[
            ("tls_port", "8443".into()),
            ("tls_cert", cert.into()),
            ("tls_key", key.into()),
        ])
        .1
    }
}

/// Not ASCII, both byte orders of the mark.
fn utf_16(text: &str) -> Vec<u8> {
    "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let files = Files::new();
    let own = files.path("own.crt").display().to_string();
    let cases = [
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x",
            "its key is encrypted",
        ),
        (
            "genrsa -traditional -aes128 -passout pass:x 2048",
            "its key is encrypted",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            "its key is an elliptic curve key on P-521",
        ),
        (
            "ecparam -genkey -name secp521r1",
            "its key is an elliptic curve key on P-521",
        ),
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
            "its key is an RSA key of 1024 bits",
        ),
        ("genrsa -traditional 1024", "its key is an RSA key of 1024 bits"),
        ("genpkey -algorithm ED448", "its key is an Ed448 key"),
    ];
    for (number, (arguments, cause)) in cases.into_iter().enumerate() {
        let Some(key) = files.key(&format!("{number}.key"), arguments) else {
            return;
        };
        let said = files.said(&own, &key);
        assert!(said.contains(cause) && said.contains("tls_key"), "{arguments}: {said}");
        let advice = if cause.contains("encrypted") {
            "openssl pkey -in"
        } else {
            "supported are RSA of 2048"
        };
        assert!(said.contains(advice), "{arguments}: {said}");
    }
}

#[test]
fn a_file_that_is_not_what_it_should_be_says_why() {
    let files = Files::new();
    let (own, key) = (files.text("own.crt"), files.path("own.key").display().to_string());
    let other = files.text("other.crt");
    let cut = &own[..own.len() / 2];
    let no_end = own.replace("-----END CERTIFICATE-----\n", "");
    let cases = [
        (
            files.write("last", format!("{other}{own}")),
            "certificate 2 of it is the one of",
        ),
        (
            files.write("cut", cut),
            "ends inside the CERTIFICATE that begins on line 1: it is cut off",
        ),
        (
            files.write("cut2", format!("{own}{cut}")),
            "it is cut off, or still being written",
        ),
        (
            files.write("no-end", format!("{no_end}{other}")),
            "has no line -----END CERTIFICATE-----",
        ),
        (files.write("utf16", utf_16(&own)), "is UTF-16"),
        (
            files.write("odd", own.replace("MI", "M!")),
            "holds something else than base64",
        ),
        (files.write("der", b"\x30\x82\x01\x01"), "is DER, not PEM"),
        (
            files.write("trusted", own.replace(" CERTIFICATE", " TRUSTED CERTIFICATE")),
            "make it a CERTIFICATE with openssl x509",
        ),
    ];
    for (cert, cause) in cases {
        let said = files.said(&cert, &key);
        assert!(said.contains("error: ") && said.contains(cause), "{cert}: {said}");
    }
    let cert = files.path("own.crt").display().to_string();
    let key_text = files.text("own.key");
    let said = files.said(&cert, &files.write("cut.key", &key_text[..key_text.len() / 2]));
    assert!(said.contains("ends inside the PRIVATE KEY"), "{said}");
    let said = files.said(&cert, &cert);
    assert!(said.contains("holds no private key, only certificates"), "{said}");
}

#[test]
fn marks_and_white_space_in_a_chain_hide_nothing() {
    let files = Files::new();
    let (own, other) = (files.text("own.crt"), files.text("other.crt"));
    let key = files.path("own.key").display().to_string();
    let marked = files.write("marked", format!("\u{feff}{own}\u{feff}{other}"));
    let indented = files.write("indented", own.replace('\n', "\r\n  "));
    for cert in [marked, indented] {
        let said = files.said(&cert, &key);
        assert!(said.contains(": valid") && !said.contains("left out"), "{said}");
    }
}

#[test]
fn one_bad_certificate_of_several_is_named_and_left_out() {
    let files = Files::new();
    let (own, other) = (files.text("own.crt"), files.text("other.crt"));
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let odd = bad.replace("AAAA", "A!!A");
    let line = own.lines().count() + 1;
    for bad in [bad, &odd] {
        let bundle = files.write("bundle", format!("{own}{bad}{other}"));
        let text = format!("the certificate that begins on line {line} is left out");
        let said = refusal(&[("ca_file", bundle.clone())]).1;
        assert!(said.contains(": valid") && said.contains(&text), "{said}");
        assert!(said.contains(".ini:2: ca_file: "), "{said}");
        let said = files.said(&bundle, &files.path("own.key").display().to_string());
        assert!(said.contains(": valid") && said.contains(&text), "{said}");
    }
    let only = files.write("only", bad);
    let said = refusal(&[("ca_file", only)]).1;
    assert!(
        said.contains("error: ") && said.contains("holds no certificate that can be used"),
        "{said}"
    );
}

/// The same code reads them, at the same severity.
#[test]
fn check_start_and_reload_refuse_the_same_files() {
    let files = Files::new();
    let own = files.text("own.crt");
    let nothing = files.write("hostname", "myhost\n");
    let cut = files.write("cut", &own[..own.len() / 2]);
    let business = Business::start();
    let running = Builder::new(&business).start();
    let good = std::fs::read_to_string(&running.ini).expect("ini file");
    for (file, cause) in [(nothing, "holds no certificate"), (cut, "it is cut off")] {
        let (line, said) = refusal(&[("ca_file", file.clone())]);
        assert!(line == Some(2) && said.contains(cause), "{said}");
        let mut server = Builder::new(&business).set("ca_file", &file).spawn();
        assert_eq!(server.wait_exit(SOON), Some(2), "{}", server.log_tail());
        assert!(server.log_tail().contains(cause), "{}", server.log_tail());
        let mut successor = Builder::new(&business).set("ca_file", &file).arg("--takeover").spawn();
        assert_eq!(successor.wait_exit(SOON), Some(2), "{}", successor.log_tail());
        assert!(successor.log_tail().contains(cause), "{}", successor.log_tail());
        std::fs::write(&running.ini, format!("{good}ca_file = {file}\n")).expect("ini file");
        running.signal("HUP");
        let refused = || {
            let log = running.log_tail();
            log.lines()
                .any(|line| line.contains("reload refused") && line.contains(cause))
        };
        assert!(eventually(SOON, refused), "{}", running.log_tail());
    }
    let answer = http::call(running.port(), &http::Request::get("/healthz"), SOON).expect("it serves on");
    assert_eq!(answer.status, 200);
}
