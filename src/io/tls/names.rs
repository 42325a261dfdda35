//! Which certificate a client gets: the first one made out to the name it asks for (RFC 6066 §3), exact names before
//! wildcards, and the default for any other name or none. Whether that is acceptable is for the client to say.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by name.
#[derive(Debug)]
pub(super) struct Names {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`; the star stands for exactly one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl Names {
    /// The first certificate is the default. `None` if there is none.
    pub(super) fn new(certificates: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let mut names = Self {
            default: certificates.first()?.clone(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        for certificate in &certificates {
            for name in dns_names(certificate) {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcard, parent.to_owned()),
                    None => (&mut names.exact, name),
                };
                map.entry(name).or_insert_with(|| certificate.clone());
            }
        }
        Some(names)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        // A final dot marks the root of the DNS and names the same host (RFC 1034 §3.1).
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let parent = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(parent)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(named.unwrap_or(&self.default).clone())
    }
}

/// The DNS names a certificate is made out to, in lower case. None if it cannot be parsed; `files.rs` has refused that.
fn dns_names(certificate: &CertifiedKey) -> Vec<String> {
    let parsed = certificate
        .cert
        .first()
        .and_then(|own| webpki::EndEntityCert::try_from(own).ok());
    let names = parsed.iter().flat_map(|parsed| parsed.valid_dns_names());
    names.map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;

    use super::*;

    fn certificate(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        Arc::new(CertifiedKey::from_der(chain, key, &super::super::provider()).unwrap())
    }

    #[test]
    fn exact_then_wildcard_then_nothing() {
        let certificates = vec![
            certificate(&["a.test"]),
            certificate(&["*.w.test", "B.test"]),
            certificate(&["b.test", "x.w.test"]),
        ];
        let names = Names::new(certificates.clone()).unwrap();
        let found = |name: &str| {
            let found = names.find(name)?;
            certificates
                .iter()
                .position(|certificate| Arc::ptr_eq(certificate, found))
        };
        assert_eq!(found("a.test"), Some(0));
        assert_eq!(found("A.TEST"), Some(0));
        assert_eq!(
            (found("a.test."), found("x.w.test.")),
            (Some(0), Some(2)),
            "a final dot"
        );
        assert_eq!((found("a.test.."), found(".")), (None, None));
        assert_eq!(found("b.test"), Some(1), "the first certificate with a name has it");
        assert_eq!(found("c.w.test"), Some(1));
        assert_eq!(found("x.w.test"), Some(2));
        assert_eq!(found("y.c.w.test"), None, "a star is one label");
        assert_eq!(found("w.test"), None);
        assert_eq!(found(""), None);
        assert!(Names::new(Vec::new()).is_none());
    }
}
