//! When certificates end. The certificate library checks that of peers, but does not tell it of our own; so the few bytes are
//! read here (RFC 5280 §4.1, §4.1.2.5). Callers: `mod.rs`.

use std::path::{Path, PathBuf};

use super::der::{Reader, SEQUENCE};
use super::{files, pem};
use crate::config::Config;
use crate::wire::date::days_since_1970;

/// The end of a file's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The setting that names the file.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// When its first certificate, or the first one above it, ends: seconds since 1970.
    pub unix_seconds: u64,
}

/// Of every file with certificates of ours that is in use and can be read.
pub fn expiries(config: &Config) -> Vec<Expiry> {
    let listening = config.tls_cert.iter().filter(|_| config.listens_with_tls());
    let listening = listening.map(|file| ("tls_cert", file));
    let calling = config.callback_cert.iter().map(|file| ("callback_cert", file));
    let expiry = |(key, file): (_, &PathBuf)| {
        Some(Expiry {
            key,
            file: file.clone(),
            unix_seconds: first_end(file)?,
        })
    };
    listening.chain(calling).filter_map(expiry).collect()
}

fn first_end(file: &Path) -> Option<u64> {
    let sections = pem::sections(&pem::read(file).ok()?);
    let chain = sections.iter().filter(|section| section.label == files::CERTIFICATE);
    chain.filter_map(|section| not_after(section.der.as_ref().ok()?)).min()
}

/// `notAfter` of a certificate in seconds since 1970; `None` if it is none, or before 1970.
fn not_after(der: &[u8]) -> Option<u64> {
    const VERSION: u8 = 0xa0;
    let (_, certificate) = Reader(der).of(SEQUENCE)?;
    let (_, mut fields) = Reader(certificate).of(SEQUENCE)?;
    let mut reader = Reader(fields);
    if let Some((rest, _)) = reader.of(VERSION) {
        fields = rest;
    }
    reader = Reader(fields);
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        reader = Reader(reader.any()?.0);
    }
    let (_, validity) = reader.of(SEQUENCE)?;
    let (rest, _not_before) = Reader(validity).any()?;
    let (_, end) = Reader(rest).any()?;
    time(end)
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn time(text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let two = |at: usize| {
        let pair = digits.get(at..at + 2)?;
        let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        Some(digit(*pair.first()?)? * 10 + digit(*pair.get(1)?)?)
    };
    let (year, from) = match digits.len() {
        12 => (two(0)? + if two(0)? < 50 { 2000 } else { 1900 }, 2),
        14 => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let (month, day) = (two(from)?, two(from + 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = two(from + 4)? * 3600 + two(from + 6)? * 60 + two(from + 8)?;
    Some(days_since_1970(year, month, day)? * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_certificates_as_they_are_made() {
        for (year, expected) in [(2031, 1_930_550_447), (2049, 2_498_630_447), (2050, 2_530_166_447)] {
            let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 3, 6) + std::time::Duration::from_secs(8 * 3600 + 47);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let der: &[u8] = certificate.der();
            assert_eq!(not_after(der), Some(expected), "{year}");
            for length in 0..der.len().min(300) {
                let _ = not_after(&der[..length]);
            }
        }
    }

    #[test]
    fn times_and_what_is_none() {
        assert_eq!(time(b"700101000000Z"), Some(0));
        assert_eq!(time(b"20380119031407Z"), Some(2_147_483_647));
        assert_eq!(time(b"99991231235959Z"), Some(253_402_300_799));
        for bad in [
            &b""[..],
            b"Z",
            b"700101000000",
            b"7001010000Z",
            b"70010100000xZ",
            b"701301000000Z",
            b"700100000000Z",
            b"691231235959Z",
            b"00000101000000Z",
        ] {
            assert_eq!(time(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
