//! `io::http` over TLS, with a private certificate authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rainbow_server::engine::command::CallbackFailure;
use rainbow_server::io::http::{Client, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::client::{get, post};
use crate::server::start_tls;
use crate::{far, on_both_drivers, within};

/// A file with the authority's certificate, and a server certificate it signed for `127.0.0.1` and `localhost`.
fn authority(label: &str) -> (PathBuf, Arc<ServerConfig>) {
    let (path, config, (_, own)) = authority_and_client(label);
    std::fs::remove_file(own.0).unwrap();
    std::fs::remove_file(own.1).unwrap();
    (path, config)
}

/// A server that insists on a client certificate, and the files of one it accepts.
type Strict = (Arc<ServerConfig>, (PathBuf, PathBuf));

/// Also what is needed for client certificates.
fn authority_and_client(label: &str) -> (PathBuf, Arc<ServerConfig>, Strict) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let path = std::env::temp_dir().join(format!("rainbow-ca-{}-{label}.pem", std::process::id()));
    std::fs::write(&path, ca_certificate.pem()).unwrap();

    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let issuer = Issuer::new(ca, ca_key);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
    };
    let chain = || vec![certificate.der().clone()];
    let secret = || PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder()
        .with_no_client_auth()
        .with_single_cert(chain(), secret())
        .unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let strict = builder().with_client_cert_verifier(verifier.build().unwrap());
    let strict = strict.with_single_cert(chain(), secret()).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["gateway.test".into()])
        .unwrap()
        .signed_by(&own_key, &issuer)
        .unwrap();
    let own_files = (path.with_extension("crt"), path.with_extension("key"));
    std::fs::write(&own_files.0, own.pem()).unwrap();
    std::fs::write(&own_files.1, own_key.serialize_pem()).unwrap();
    (path, Arc::new(config), (Arc::new(strict), own_files))
}

fn trusting(path: &Path) -> Client {
    let options = Options {
        ca_file: Some(path.to_path_buf()),
        ..crate::client::trusting()
    };
    Client::start(&options).unwrap()
}

#[test]
fn a_private_authority_is_trusted_through_its_file() {
    let (path, config) = authority("trusted");
    on_both_drivers(async || {
        let large: String = "0123456789".repeat(100_000);
        let answer = large.clone();
        let server = start_tls(config.clone(), move |peer| {
            while let Some(seen) = peer.request() {
                peer.ok(if seen.line().ends_with("large") {
                    &answer
                } else {
                    "small"
                });
            }
        });
        let client = trusting(&path);
        let https = |path: &str| server.url(path).replace("http:", "https:");
        for _ in 0..3 {
            assert_eq!(client.call(get(&https("/")), far()).await.unwrap().body, "small");
        }
        let reply = client.call(post(&https("/large"), large.clone()), far()).await.unwrap();
        assert!(reply.body == large && server.seen().pop().unwrap().body == large.as_bytes());
        assert_eq!((server.connections(), client.usage().reused), (1, 3));
        let by_name = https("/").replace("127.0.0.1", "localhost");
        assert_eq!(client.call(get(&by_name), far()).await.unwrap().body, "small");
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_strangers_certificate_is_refused() {
    let (path, _) = authority("mine");
    let (other, config) = authority("stranger");
    on_both_drivers(async || {
        let server = start_tls(config.clone(), |peer| {
            peer.request();
        });
        let url = server.url("/").replace("http:", "https:");
        let result = trusting(&path).call(get(&url), far()).await;
        assert_eq!(result, Err(CallbackFailure::Handshake));
        assert!(server.seen().is_empty());
    });
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(other).unwrap();
}

#[test]
fn our_own_certificate_is_shown_to_servers_that_ask() {
    let (path, _, (config, (cert, key))) = authority_and_client("client");
    on_both_drivers(async || {
        let server = start_tls(config.clone(), |peer| {
            peer.request();
            peer.ok("you are known");
        });
        let url = server.url("/").replace("http:", "https:");
        let options = |identity| Options {
            ca_file: Some(path.clone()),
            identity,
            ..Options::default()
        };
        let unknown = Client::start(&options(None)).unwrap();
        assert!(unknown.call(get(&url), far()).await.is_err());
        let known = Client::start(&options(Some((cert.clone(), key.clone())))).unwrap();
        assert_eq!(known.call(get(&url), far()).await.unwrap().body, "you are known");
        let mixed = options(Some((cert.clone(), path.clone())));
        assert!(known.reload(&mixed).is_err(), "no key in it");
        assert_eq!(known.call(get(&url), far()).await.unwrap().body, "you are known");
    });
    for file in [path, cert, key] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_kept_session_that_was_closed_is_not_used() {
    let (path, config) = authority("closed");
    on_both_drivers(async || {
        let server = start_tls(config.clone(), |peer| {
            peer.request();
            peer.ok("x");
        });
        let client = trusting(&path);
        let url = server.url("/").replace("http:", "https:");
        for count in 1..=2 {
            client.call(post(&url, "a"), far()).await.unwrap();
            server.until_ended(count).await;
        }
        assert_eq!((client.usage().reused, client.usage().dialled), (0, 2));
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_body_until_close_must_end_properly() {
    let (path, config) = authority("cut");
    on_both_drivers(async || {
        let server = start_tls(config.clone(), |peer| {
            let cut = peer.request().is_some_and(|seen| seen.line().ends_with("cut"));
            peer.send("HTTP/1.1 200 OK\r\n\r\nhalf");
            if cut {
                let _ = peer.stream.sock.shutdown(std::net::Shutdown::Both);
            }
        });
        let client = trusting(&path);
        let https = |path: &str| server.url(path).replace("http:", "https:");
        assert_eq!(client.call(get(&https("/whole")), far()).await.unwrap().body, "half");
        assert_eq!(
            client.call(get(&https("/cut")), far()).await,
            Err(CallbackFailure::Dropped)
        );
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_deadline_covers_the_handshake() {
    on_both_drivers(async || {
        let server = crate::server::Server::start(|_| std::thread::sleep(Duration::from_millis(500)));
        let url = server.url("/").replace("http:", "https:");
        let (path, _) = authority("slow");
        let result = trusting(&path).call(get(&url), within(100)).await;
        assert_eq!(result, Err(CallbackFailure::TimedOut));
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn an_unusable_authority_file_is_an_error() {
    on_both_drivers(async || {
        let options = |path: &str| Options {
            ca_file: Some(path.into()),
            ..Options::default()
        };
        assert!(Client::start(&options("/nonexistent/ca.pem")).is_err());
        assert!(Client::start(&options("Cargo.toml")).is_err(), "no certificate in it");
        let client = Client::start(&Options::default()).unwrap();
        assert!(client.reload(&options("/nonexistent/ca.pem")).is_err());
        assert!(client.reload(&Options::default()).is_ok());
    });
}

#[test]
fn an_answer_while_the_body_is_stuck_is_an_answer() {
    let (path, config) = authority("early");
    on_both_drivers(async || {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let server = start_tls(config.clone(), move |peer| {
            crate::bent::head_only(peer);
            peer.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n");
            let _ = held.lock().unwrap().recv();
        });
        let client = trusting(&path);
        let url = server.url("/").replace("http:", "https:");
        let reply = client.call(post(&url, crate::bent::large()), far()).await.unwrap();
        assert_eq!((reply.status, client.usage().idle), (413, 0));
        drop(release);
    });
    std::fs::remove_file(path).unwrap();
}
