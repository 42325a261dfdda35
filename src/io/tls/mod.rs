//! TLS of incoming connections: certificates from files, and an adapter that keeps nothing per idle client but the session.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | settings → what new connections are served with |
//! | `files.rs` | PEM files → certificate with its key |
//! | `expiry.rs` | when certificates end |
//! | `names.rs` | the name a client asks for → certificate |
//! | `session.rs` | one connection: ciphertext ↔ plaintext; `parts.rs` cuts records |
//!
//! rustls with its ring provider, named explicitly: another provider in the same binary changes nothing here.
//! TLS 1.2 and 1.3, no early data (it could be replayed), one ticket per TLS 1.3 connection, no session cache: a ticket is
//! sealed with a key of this process, so resuming costs no memory here and works on every shard.

mod expiry;
mod files;
mod names;
mod parts;
mod session;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;

pub use self::expiry::{Expiry, expiries};
use self::names::Names;
pub use self::session::{End, Received, Scratch, Session};
use crate::config::Config;

/// What new connections are served with. Connections made under an earlier one keep it.
pub type Identity = Arc<rustls::ServerConfig>;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting that names it.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub text: String,
}

/// Reads the files of `tls_cert` and `tls_key`; `None` without `tls_port`, or if a reload has taken the certificates away but
/// not the port, which stays until the restart. Blocks on files: for start and reload.
///
/// # Errors
/// The first file that cannot be used; then nothing is.
pub fn load(config: &Config) -> Result<Option<Identity>, Fault> {
    if config.tls_port.is_none() || config.tls_cert.is_empty() {
        return Ok(None);
    }
    let provider = provider();
    let pairs = config.tls_cert.iter().zip(&config.tls_key);
    let certificates = pairs
        .map(|(cert, key)| files::certified(("tls_cert", cert), ("tls_key", key), &provider).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let names = Names::new(certificates).ok_or_else(|| Fault {
        key: "tls_cert",
        text: "lists no certificate".into(),
    })?;
    let built = build(provider, names).map_err(|error| Fault {
        key: "tls_cert",
        text: format!("TLS cannot be set up: {error}"),
    });
    Ok(Some(Arc::new(built?)))
}

/// Reads a certificate and key of ours for outgoing connections.
///
/// # Errors
/// The file that cannot be used.
pub fn client_identity(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Fault> {
    files::certified(("callback_cert", cert), ("callback_key", key), &provider()).map(Arc::new)
}

/// Tries every file the settings name, so that `--check-config` and a reload refuse what would fail later.
pub fn check(config: &Config) -> Vec<Fault> {
    let listening = load(config).err();
    let calling = match (&config.callback_cert, &config.callback_key) {
        (Some(cert), Some(key)) => client_identity(cert, key).err(),
        _ => None,
    };
    listening.into_iter().chain(calling).collect()
}

/// The cryptography of all TLS connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn build(provider: Arc<CryptoProvider>, names: Names) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(names));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
