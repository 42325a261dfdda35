//! TLS of incoming connections: certificates from files, and an adapter that keeps nothing per idle client but the session.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | settings → what new connections are served with |
//! | `files.rs` | PEM files → certificate with its key, authorities; `pem.rs` takes a file apart, `keys.rs` names a key's kind |
//! | `expiry.rs` | when certificates end; `der.rs` reads their bytes |
//! | `names.rs` | the name a client asks for → certificate |
//! | `places.rs` | who may have a handshake under way |
//! | `session.rs` | one connection: ciphertext ↔ plaintext; `parts.rs` cuts records |
//!
//! rustls with its ring provider, named explicitly: another provider in the same binary changes nothing here.
//! TLS 1.2 and 1.3, no early data (it could be replayed), one ticket per TLS 1.3 connection, no session cache: a ticket is
//! sealed with a key of this process, so resuming costs no memory here and works on every shard, also after a reload.

mod der;
mod expiry;
mod files;
mod keys;
mod names;
mod parts;
mod pem;
pub mod places;
mod session;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;

pub use self::expiry::{Expiry, expiries};
use self::names::Names;
pub use self::session::{End, Place, Received, Scratch, Session};
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

/// Reads the files of `tls_cert` and `tls_key`; `None` without a `tls_port`, or if a reload has taken the certificates away but
/// not the port, which stays until the restart. Blocks on files: for start and reload.
///
/// # Errors
/// The first file that cannot be used; then nothing is.
pub fn load(config: &Config) -> Result<Option<Identity>, Fault> {
    let (certificates, _) = pairs(config)?;
    let Some(names) = Names::new(certificates) else {
        return Ok(None);
    };
    let built = build(provider(), names).map_err(|error| Fault {
        key: "tls_cert",
        text: format!("TLS cannot be set up: {error}"),
    });
    Ok(Some(Arc::new(built?)))
}

/// The certificates to listen with, and what is to be said about them.
fn pairs(config: &Config) -> Result<(Vec<Arc<CertifiedKey>>, Vec<Fault>), Fault> {
    let (mut certificates, mut remarks) = (Vec::new(), Vec::new());
    if config.listens_with_tls() {
        for (cert, key) in config.tls_cert.iter().zip(&config.tls_key) {
            let (certified, said) = files::certified(("tls_cert", cert), ("tls_key", key), &provider())?;
            certificates.push(Arc::new(certified));
            remarks.extend(said);
        }
    }
    Ok((certificates, remarks))
}

/// Reads a certificate and key of ours for outgoing connections; also what is to be said about them.
///
/// # Errors
/// The file that cannot be used.
pub fn client_identity(cert: &Path, key: &Path) -> Result<(Arc<CertifiedKey>, Vec<Fault>), Fault> {
    let (certified, remarks) = files::certified(("callback_cert", cert), ("callback_key", key), &provider())?;
    Ok((Arc::new(certified), remarks))
}

/// Reads the authorities of `ca_file`; also which of them are left out.
///
/// # Errors
/// The file cannot be read, is cut off, or none in it can be used.
pub fn authorities(file: &Path) -> Result<(RootCertStore, Vec<Fault>), Fault> {
    files::authorities(("ca_file", file))
}

/// Reads every file the settings name as it will be read to be used: what is to be said about them.
///
/// # Errors
/// The files that cannot be used, so that `--check-config`, a start and a reload refuse what would fail later.
pub fn check(config: &Config) -> Result<Vec<Fault>, Vec<Fault>> {
    let trusting = config.ca_file.as_ref().map(|file| Ok(authorities(file)?.1));
    let listening = Some(pairs(config).map(|(_, remarks)| remarks));
    let calling = match (&config.callback_cert, &config.callback_key) {
        (Some(cert), Some(key)) => Some(client_identity(cert, key).map(|(_, remarks)| remarks)),
        _ => None,
    };
    let (mut remarks, mut faults) = (Vec::new(), Vec::new());
    for outcome in [trusting, listening, calling].into_iter().flatten() {
        match outcome {
            Ok(said) => remarks.extend(said),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(remarks) } else { Err(faults) }
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
    config.ticketer = tickets()?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What seals tickets, one for the life of the process: a reload must not make every client do a full handshake. It takes a
/// new key by itself every six hours.
fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    static TICKETS: OnceLock<Arc<dyn ProducesTickets>> = OnceLock::new();
    if let Some(tickets) = TICKETS.get() {
        return Ok(tickets.clone());
    }
    let new = rustls::crypto::ring::Ticketer::new()?;
    Ok(TICKETS.get_or_init(|| new).clone())
}
