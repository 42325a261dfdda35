//! The signature hmac-sha256, written down once more from docs/signature.md.

use super::hex;
use super::http::Request;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Steps 3 to 5 of the document.
pub fn signature(secret: &str, method: &str, target: &str, body: &[u8]) -> String {
    let text = format!(
        "rainbow-hmac-sha256\n{method}\n{target}\n{}",
        hex(&Sha256::digest(body))
    );
    of(secret, text.as_bytes())
}

/// HMAC-SHA256 in lower-case hex.
pub fn of(secret: &str, bytes: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(bytes);
    hex(&mac.finalize().into_bytes())
}

/// Steps 2 to 6, for a time and a nonce.
pub fn signed_at(secret: &str, method: &str, target: &str, body: &[u8], timestamp: i64, nonce: &str) -> String {
    let mark = if target.contains('?') { '&' } else { '?' };
    let target = format!("{target}{mark}timestamp={timestamp}&nonce={nonce}");
    let signature = signature(secret, method, &target, body);
    format!("{target}&signature={signature}")
}

/// A request whose target is sent as it is.
pub fn raw(method: &str, target: &str, body: &[u8]) -> Request {
    Request {
        method: method.into(),
        path: target.into(),
        body: body.to_vec(),
        ..Request::default()
    }
}
