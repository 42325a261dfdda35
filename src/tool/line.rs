//! A blocking connection to a server, with or without TLS, whose waits end in time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;

use crate::config::{Config, Endpoint};
use crate::io::{clock, tls};

/// What TLS connections trust and show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Authorities beside those of the system.
    pub ca_file: Option<&'a Path>,
    /// Certificate and key of our own.
    pub identity: Option<(&'a Path, &'a Path)>,
}

impl<'a> Trust<'a> {
    /// That of the server's own calls.
    pub fn of(config: &'a Config) -> Self {
        Self {
            ca_file: config.ca_file.as_deref(),
            identity: config.callback_cert.as_deref().zip(config.callback_key.as_deref()),
        }
    }

    fn load(self) -> io::Result<ClientConfig> {
        let named = |fault: tls::Fault| io::Error::other(fault.text);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = self.ca_file {
            roots.roots.extend(tls::authorities(path).map_err(named)?.0.roots);
        }
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (identity, _) = tls::client_identity(cert, key).map_err(named)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The connection.
pub enum Line {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    /// Connects to the first address that takes it, and does the TLS handshake.
    ///
    /// # Errors
    /// In words for the caller: the name, the address or the certificate that did not do.
    pub fn open(to: &Endpoint, trust: Trust<'_>, within: Duration) -> io::Result<Self> {
        let addresses = (&*to.host, to.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| told(&error, format!("{} is not found: {error}", to.host)))?;
        let mut last = io::Error::other(format!("{} has no address", to.host));
        for address in addresses {
            match TcpStream::connect_timeout(&address, within) {
                Ok(stream) => return Self::over(stream, to, trust, within),
                Err(error) => last = told(&error, format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream, to: &Endpoint, trust: Trust<'_>, within: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(within))?;
        stream.set_read_timeout(Some(within))?;
        if !to.tls {
            return Ok(Self::Plain(stream));
        }
        let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(trust.load()?), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        stream
            .flush()
            .and_then(|()| match stream.conn.is_handshaking() {
                true => stream.conn.complete_io(&mut stream.sock).map(drop),
                false => Ok(()),
            })
            .map_err(|error| told(&error, format!("TLS with {}: {error}", to.host)))?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Appends what comes to `buffer`, at most until `until`. 0: the end of the stream.
    ///
    /// # Errors
    /// `TimedOut`: nothing came in time.
    pub fn receive(&mut self, buffer: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
        let left = until.saturating_duration_since(clock::instant());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut piece = [0; 16 * 1024];
        let socket = match self {
            Self::Plain(stream) => &*stream,
            Self::Tls(stream) => &stream.sock,
        };
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let received = match self {
            Self::Plain(stream) => stream.read(&mut piece),
            Self::Tls(stream) => stream.read(&mut piece),
        };
        let count = received.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The peer takes no more, or not in time.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// The same kind of error with other words.
fn told(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}
