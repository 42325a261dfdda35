//! TLS of outgoing connections: rustls over one monoio stream, and the roots it trusts.
//!
//! A session owns no socket buffers between calls. The stream stays visible underneath, because the pool has to look at
//! the socket before it hands a connection out again; that is why this is not a wrapped stream of a library.
//! A stream whose call was dropped in the middle must be dropped too: ciphertext may have been lost.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use monoio::net::TcpStream;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

use super::Options;
use super::line::{Line, Stop, remaining};
use crate::io::tls;

/// Bytes of one read from the socket. A TLS record has up to 16 KiB; longer ones just take two reads.
const CIPHER_BYTES: usize = 8 * 1024;

/// What outgoing TLS connections trust.
#[derive(Clone)]
pub(super) struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// Reads the system's roots, those of `ca_file` (PEM) and our own certificate. Blocks on files: for start and reload, not
    /// for a call. Without any root, `https` fails and says so. Errors: a file is unreadable, or holds nothing usable.
    pub(super) fn load(options: &Options) -> io::Result<Trust> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a system root certificate could not be read");
        }
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = &options.ca_file {
            let (own, _) = tls::authorities(path).map_err(named)?;
            roots.roots.extend(own.roots);
        }
        if roots.is_empty() {
            tracing::warn!("no root certificates: callbacks to https URLs will fail; set ca_file");
            return Ok(Trust(None));
        }
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (identity, _) = tls::client_identity(cert, key).map_err(named)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust(Some(Arc::new(config))))
    }

    /// Handshakes as a client of `host` (a name or an IP address) over `tcp`.
    pub(super) async fn connect(&self, host: &str, tcp: TcpStream) -> io::Result<TlsStream> {
        let config = self
            .0
            .clone()
            .ok_or_else(|| io::Error::other("https without root certificates; set ca_file"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = TlsStream {
            line: Line::new(tcp),
            session,
            cipher: Vec::new(),
            fed: 0,
            outgoing: Vec::new(),
        };
        stream.handshake().await?;
        Ok(stream)
    }
}

/// With the setting that is meant.
fn named(fault: tls::Fault) -> io::Error {
    io::Error::other(format!("{}: {}", fault.key, fault.text))
}

/// One encrypted connection.
pub(super) struct TlsStream {
    line: Line,
    session: ClientConnection,
    /// What the socket gave last.
    cipher: Vec<u8>,
    /// How much of `cipher` the session has taken. It takes a part only when its plaintext has been fetched, because it
    /// refuses ciphertext while too much plaintext waits.
    fed: usize,
    /// What the socket has not taken yet: one batch of the session.
    outgoing: Vec<u8>,
}

impl TlsStream {
    /// The socket underneath.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// The same.
    pub(super) fn line_mut(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Bytes came in that no call has asked for: a closing alert, or worse.
    pub(super) fn has_unread(&self) -> bool {
        self.fed < self.cipher.len()
    }

    /// Encrypts and sends what `parts` has from byte `at` on; `at` is what the session has taken. Stops when the peer speaks
    /// instead of taking more.
    pub(super) async fn send(&mut self, parts: [&[u8]; 2], at: &mut usize) -> Result<(), Stop> {
        loop {
            self.flush(true).await?;
            let rest = match remaining(parts, *at) {
                ([], body) => body,
                (head, _) => head,
            };
            if rest.is_empty() {
                return Ok(());
            }
            *at += self.session.writer().write(rest).map_err(|_| Stop::Failed)?;
        }
    }

    /// Appends what has arrived to `plain`, at most its spare capacity. 0: the peer ended the session properly; if it
    /// just ended, that is an error, because the end of a body could have been cut off.
    pub(super) async fn read(&mut self, plain: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let filled = plain.len();
            let room = (plain.capacity() - filled) as u64;
            // keeps what it read before it had to wait
            let result = self.session.reader().take(room).read_to_end(plain);
            match (plain.len() - filled, result) {
                (0, Ok(_)) => return Ok(0),
                (0, Err(error)) if error.kind() == ErrorKind::WouldBlock => self.advance().await?,
                (0, Err(error)) => return Err(error),
                (taken, _) => return Ok(taken),
            }
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        let broken = |_| io::Error::from(ErrorKind::BrokenPipe);
        self.flush(false).await.map_err(broken)?;
        while self.session.is_handshaking() {
            if self.session.wants_read() {
                self.advance().await?;
            }
            self.flush(false).await.map_err(broken)?;
        }
        Ok(())
    }

    /// Gives the session the next ciphertext and sends what it has to say about it: an alert, the answer to a key update.
    async fn advance(&mut self) -> io::Result<()> {
        let processed = self.take_in().await;
        // The peer may be saying why it takes no more of a request: then there is nothing to be added, only to be read.
        if self.outgoing.is_empty() {
            self.flush(false)
                .await
                .map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
        }
        processed
    }

    /// Gives the session the next ciphertext, from the socket if none is left.
    async fn take_in(&mut self) -> io::Result<()> {
        if !self.has_unread() {
            let mut cipher = std::mem::take(&mut self.cipher);
            cipher.clear();
            cipher.reserve(CIPHER_BYTES);
            let (result, cipher) = self.line.receive(cipher).await;
            (self.cipher, self.fed) = (cipher, 0);
            if result? == 0 && self.session.is_handshaking() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let mut rest = self.cipher.get(self.fed..).unwrap_or_default();
        let taken = self.session.read_tls(&mut rest)?; // none left: tells the session of the end
        self.fed += taken;
        if taken == 0 {
            self.fed = self.cipher.len(); // behind a closing alert nothing counts
        }
        let processed = self.session.process_new_packets();
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(())
    }

    /// Sends what the session has encrypted. With `listen` it stops when the peer says something to the caller instead of
    /// taking more.
    async fn flush(&mut self, listen: bool) -> Result<(), Stop> {
        loop {
            if self.outgoing.is_empty() {
                if !self.session.wants_write() {
                    return Ok(());
                }
                self.session.write_tls(&mut self.outgoing).map_err(|_| Stop::Failed)?;
            }
            let mut taken = 0;
            let result = self.line.send([&self.outgoing, &[]], &mut taken, listen).await;
            self.outgoing.drain(..taken);
            match result {
                Err(Stop::PeerSpeaks) => {
                    self.take_in().await.map_err(|_| Stop::PeerSpeaks)?; // the next read finds out
                    if !self.session.wants_read() || self.line.is_finished() {
                        return Err(Stop::PeerSpeaks);
                    }
                }
                other => other?,
            }
        }
    }
}
