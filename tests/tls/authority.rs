//! A private certificate authority, the files of the server's certificates, and clients that trust it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

/// An authority; its files are removed when it is dropped.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pub dir: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let root = params.self_signed(&key).expect("root certificate").der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, root, dir }
    }

    /// Writes (or replaces) a certificate for `names` and its key.
    pub fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let far = SystemTime::now() + Duration::from_secs(1000 * 24 * 3600);
        self.issue_until(far, file, names)
    }

    /// The same, valid until `end`.
    pub fn issue_until(&self, end: SystemTime, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = end.into();
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        let paths = [".crt", ".key"].map(|ending| self.dir.join(format!("{file}{ending}")));
        std::fs::write(&paths[0], certificate.pem()).expect("certificate file");
        std::fs::write(&paths[1], key.serialize_pem()).expect("key file");
        let [cert, key] = paths;
        (cert, key)
    }

    /// A client that trusts this authority.
    pub fn client(&self, version: Version) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("root");
        let version = match version {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A TLS connection, handshake done.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects to `port` as a client of `name`; reads give up after 20 s.
pub fn connect(port: u16, config: &Arc<ClientConfig>, name: &str) -> io::Result<Secure> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = ServerName::try_from(name.to_owned()).expect("server name");
    let mut session = ClientConnection::new(config.clone(), name).expect("client session");
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(session, tcp))
}
