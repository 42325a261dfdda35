//! PEM files → a certificate chain with its key, checked against each other. Every refusal says which setting and file is
//! meant and what to do. Callers: `mod.rs`.

use std::fmt::Display;
use std::path::Path;

use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Fault;

/// A setting and a file it names.
pub(super) type Named<'a> = (&'static str, &'a Path);

/// Reads a certificate with the chain above it, and its key.
pub(super) fn certified(cert: Named<'_>, key: Named<'_>, provider: &CryptoProvider) -> Result<CertifiedKey, Fault> {
    let chain = chain(cert)?;
    let secret = PrivateKeyDer::from_pem_file(key.1).map_err(|error| {
        let nothing =
            "holds no private key; it needs a block that begins with -----BEGIN PRIVATE KEY----- (not encrypted)";
        unread(key, &error, nothing)
    })?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            let text = format!(
                "is not the key of {}; list keys and certificates in the same order",
                cert.1.display()
            );
            fault(key, text)
        }
        Error::InvalidCertificate(error) => fault(cert, format!("its certificate is not usable: {error}")),
        error => fault(key, format!("its key is not usable: {error}")),
    })
}

fn chain(cert: Named<'_>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let nothing = "holds no certificate; it needs a block that begins with -----BEGIN CERTIFICATE-----";
    let chain = CertificateDer::pem_file_iter(cert.1)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unread(cert, &error, nothing))?;
    let Some(own) = chain.first() else {
        return Err(fault(cert, nothing));
    };
    webpki::EndEntityCert::try_from(own)
        .map_err(|error| fault(cert, format!("its first certificate is not usable: {error}")))?;
    Ok(chain)
}

fn unread(file: Named<'_>, error: &pem::Error, nothing: &str) -> Fault {
    match error {
        pem::Error::NoItemsFound => fault(file, nothing),
        pem::Error::Io(error) => fault(file, format!("cannot be read: {error}")),
        error => fault(file, format!("is not PEM: {error}")),
    }
}

fn fault(file: Named<'_>, text: impl Display) -> Fault {
    Fault {
        key: file.0,
        text: format!("{}: {text}", file.1.display()),
    }
}
