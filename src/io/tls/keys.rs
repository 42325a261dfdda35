//! What a private key is, in words, for the operator whose key is of a kind that is not supported. Caller: `files.rs`.

use super::der::{Reader, SEQUENCE};

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NAME: u8 = 0x06;

/// Contents of object identifiers (RFC 3279, RFC 5480, RFC 8410).
const NAMES: &[(&[u8], &str)] = &[
    (b"\x2b\x81\x04\x00\x23", "an elliptic curve key on P-521"),
    (b"\x2b\x81\x04\x00\x0a", "an elliptic curve key on secp256k1"),
    (b"\x2b\x81\x04\x00\x21", "an elliptic curve key on P-224"),
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", "an elliptic curve key on P-256"),
    (b"\x2b\x81\x04\x00\x22", "an elliptic curve key on P-384"),
    (b"\x2b\x65\x70", "an Ed25519 key"),
    (b"\x2b\x65\x71", "an Ed448 key"),
    (b"\x2b\x65\x6e", "an X25519 key, which cannot sign"),
    (b"\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "an RSA key for PSS only"),
];

/// Names the kind and, of RSA, the size; `None` if that cannot be seen.
pub(super) fn kind(der: &[u8]) -> Option<String> {
    if let Some(bits) = rsa_bits(der) {
        return Some(format!("an RSA key of {bits} bits"));
    }
    let named = NAMES.iter().find(|(name, _)| {
        let element = [&[NAME, name.len() as u8][..], name].concat();
        der.windows(element.len()).any(|window| window == element)
    });
    named.map(|(_, words)| (*words).to_owned())
}

/// Of an `RSAPrivateKey` (RFC 8017 A.1.2), bare or in a PKCS #8 envelope (RFC 5208 §5).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, key) = Reader(der).of(SEQUENCE)?;
    let (rest, _version) = Reader(key).of(INTEGER)?;
    if let Some((rest, algorithm)) = Reader(rest).of(SEQUENCE) {
        let (_, name) = Reader(algorithm).of(NAME)?;
        if name != b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" {
            return None;
        }
        return rsa_bits(Reader(rest).of(OCTETS)?.1);
    }
    let (_, modulus) = Reader(rest).of(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}
