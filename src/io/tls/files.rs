//! PEM files → a certificate chain with its key, checked against each other, and authorities to trust. Every refusal says which
//! setting and file is meant, why, and what to do. Start, check, reload and takeover all come through here.
//!
//! A certificate that cannot be used is named and left out where others remain: in a list of authorities any, in a chain any but
//! the first. A file that ends inside a section is refused: it is still being written. Callers: `mod.rs`, `expiry.rs`.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::pem::{self, Damage, Section};
use super::{Fault, keys};

/// Label of a certificate.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";

/// A setting and a file it names.
pub(super) type Named<'a> = (&'static str, &'a Path);

/// Reads a certificate with the chain above it, and its key; also what is to be said about them.
pub(super) fn certified(
    cert: Named<'_>,
    key: Named<'_>,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Vec<Fault>), Fault> {
    let (chain, remarks) = chain(cert)?;
    let secret = secret(key, provider)?;
    let certified = CertifiedKey::new(chain, secret);
    match certified.keys_match() {
        // The key does not tell its public half: taken as it is.
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok((certified, remarks)),
        Err(Error::InconsistentKeys(_)) => Err(mismatch(cert, key, certified)),
        Err(error) => Err(fault(cert, format!("its certificate is not usable: {error}"))),
    }
}

/// The usual slip beside a wrong pair: the server's own certificate does not stand first.
fn mismatch(cert: Named<'_>, key: Named<'_>, certified: CertifiedKey) -> Fault {
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::new(vec![one.clone()], certified.key.clone())
            .keys_match()
            .is_ok()
    };
    match certified.cert.iter().position(fits) {
        Some(at) => fault(
            cert,
            format!(
                "certificate {} of it is the one of {}, but stands behind another; put it first, then the one that issued it, \
                 and so on",
                at + 1,
                key.1.display()
            ),
        ),
        None => fault(
            key,
            format!(
                "is not the key of {}; list keys and certificates in the same order",
                cert.1.display()
            ),
        ),
    }
}

/// Reads the authorities of a bundle; also which of them are left out.
pub(super) fn authorities(file: Named<'_>) -> Result<(RootCertStore, Vec<Fault>), Fault> {
    let (certificates, mut remarks) = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for (line, certificate) in certificates {
        if let Err(error) = roots.add(certificate) {
            remarks.push(left_out(file, line, &reason(&error)));
        }
    }
    if roots.is_empty() {
        let text = "holds no certificate that can be used; ";
        let first = remarks.first().map_or("", |remark| remark.text.as_str());
        return Err(fault(file, format!("{text}{first}")));
    }
    Ok((roots, remarks))
}

type Chain = (Vec<CertificateDer<'static>>, Vec<Fault>);

fn chain(cert: Named<'_>) -> Result<Chain, Fault> {
    let (certificates, mut remarks) = certificates(cert)?;
    let mut chain = Vec::new();
    for (line, certificate) in certificates {
        match webpki::EndEntityCert::try_from(&certificate) {
            Ok(_) => chain.push(certificate),
            Err(error) if chain.is_empty() => {
                return Err(fault(cert, format!("its first certificate is not usable: {error}")));
            }
            Err(error) => remarks.push(left_out(cert, line, &error)),
        }
    }
    Ok((chain, remarks))
}

/// Certificates with the line each begins on, at least one; and what was left out.
type Certificates = (Vec<(usize, CertificateDer<'static>)>, Vec<Fault>);

fn certificates(file: Named<'_>) -> Result<Certificates, Fault> {
    let sections = read(file)?;
    let (mut good, mut remarks) = (Vec::new(), Vec::new());
    for section in &sections {
        match (section.label.as_str(), &section.der) {
            (CERTIFICATE, Ok(der)) => good.push((section.line, CertificateDer::from(der.clone()))),
            (_, Err(Damage::CutOff)) => return Err(fault(file, damage(section, Damage::CutOff))),
            (CERTIFICATE, Err(found)) if good.is_empty() && remarks.is_empty() && file.0 != "ca_file" => {
                return Err(fault(file, damage(section, *found)));
            }
            (CERTIFICATE, Err(found)) => remarks.push(left_out(file, section.line, &damage(section, *found))),
            ("TRUSTED CERTIFICATE" | "X509 CERTIFICATE", _) => {
                let text = format!("it is a {}; make it a CERTIFICATE with openssl x509", section.label);
                remarks.push(left_out(file, section.line, &text));
            }
            _ => {}
        }
    }
    if good.is_empty() {
        let nothing = "holds no certificate; it needs a block that begins with -----BEGIN CERTIFICATE-----";
        let why = remarks.first().map(|remark| format!(" ({})", remark.text));
        return Err(fault(file, format!("{nothing}{}", why.unwrap_or_default())));
    }
    Ok((good, remarks))
}

fn secret(file: Named<'_>, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, Fault> {
    let sections = read(file)?;
    let Some(section) = sections.iter().find(|section| section.label.ends_with("PRIVATE KEY")) else {
        let has = if sections.iter().any(|section| section.label == CERTIFICATE) {
            ", only certificates"
        } else {
            ""
        };
        let text = format!(
            "holds no private key{has}; it needs a block that begins with -----BEGIN PRIVATE KEY----- (not encrypted)"
        );
        return Err(fault(file, text));
    };
    let advice = format!("openssl pkey -in {} -out NEW", file.1.display());
    let der = match (section.label.as_str(), &section.der) {
        ("ENCRYPTED PRIVATE KEY", _) | (_, Err(Damage::Encrypted)) => {
            let text = format!(
                "its key is encrypted, and nobody is there to type the password; decrypt it ({advice}) and let only the server read it"
            );
            return Err(fault(file, text));
        }
        (_, Err(found)) => return Err(fault(file, damage(section, *found))),
        (_, Ok(der)) => der,
    };
    let key = match section.label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.clone().into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.clone().into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.clone().into()),
        other => {
            return Err(fault(
                file,
                format!("holds a block {other}; convert it to PRIVATE KEY ({advice})"),
            ));
        }
    };
    provider.key_provider.load_private_key(key).map_err(|error| {
        let text = match keys::kind(der) {
            Some(kind) => format!("its key is {kind}, which cannot be used"),
            None => format!("its key is not usable: {error}"),
        };
        let supported = "supported are RSA of 2048 to 4096 bits, elliptic curves P-256 and P-384, and Ed25519";
        fault(file, format!("{text}; {supported}"))
    })
}

fn read(file: Named<'_>) -> Result<Vec<Section>, Fault> {
    let bytes = pem::read(file.1).map_err(|text| fault(file, text))?;
    let sections = pem::sections(&bytes);
    // A DER sequence: what tools write without -outform PEM.
    if sections.is_empty() && bytes.starts_with(b"\x30\x82") {
        let text =
            "is DER, not PEM, so it holds no certificate or private key as text; convert it with openssl (-inform DER)";
        return Err(fault(file, text));
    }
    Ok(sections)
}

fn damage(section: &Section, damage: Damage) -> String {
    let (label, line) = (&section.label, section.line);
    match damage {
        Damage::CutOff => format!(
            "ends inside the {label} that begins on line {line}: it is cut off, or still being written; copy it again"
        ),
        Damage::NoEnd => {
            format!("is not PEM: the {label} that begins on line {line} has no line -----END {label}-----")
        }
        Damage::NotBase64 => {
            format!("is not PEM: the {label} that begins on line {line} holds something else than base64")
        }
        Damage::Encrypted => format!("the {label} that begins on line {line} is encrypted; decrypt it with openssl"),
    }
}

fn left_out(file: Named<'_>, line: usize, why: &dyn Display) -> Fault {
    fault(
        file,
        format!("the certificate that begins on line {line} is left out: {why}"),
    )
}

/// rustls wraps what webpki says twice.
fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => format!("{error}"),
        error => error.to_string(),
    }
}

fn fault(file: Named<'_>, text: impl Display) -> Fault {
    Fault {
        key: file.0,
        text: format!("{}: {text}", file.1.display()),
    }
}
