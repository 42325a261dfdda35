//! From a request to a websocket: may it be upgraded, and the 101 that does it (RFC 6455 §4.2, spec: section 3). The same at
//! every door; a door decides when it is asked. Called by the shard.

use http::StatusCode;

use super::accept_key;
use crate::wire::http1::answer::{HttpAnswer, SERVER};
use crate::wire::http1::{Headers, write_response_head};

/// The value of `Sec-WebSocket-Accept`.
pub type AcceptKey = [u8; 28];

/// Why a request does not become a websocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUpgrade {
    /// No `Upgrade: websocket`.
    Protocol,
    /// `Connection` does not say `upgrade`.
    Connection,
    /// A websocket version other than 7, 8 or 13.
    Version,
    /// No websocket key, or no `Host`.
    Headers,
}

impl NoUpgrade {
    /// The answer; its words are the original's (spec: section 3).
    pub fn answer(self) -> HttpAnswer {
        let (status, body) = match self {
            NoUpgrade::Protocol => (StatusCode::BAD_REQUEST, "Can \"Upgrade\" only to \"WebSocket\"."),
            NoUpgrade::Connection => (StatusCode::BAD_REQUEST, "\"Connection\" must be \"Upgrade\"."),
            NoUpgrade::Headers => (StatusCode::BAD_REQUEST, "Missing/Invalid WebSocket headers"),
            NoUpgrade::Version => {
                let answer = HttpAnswer::new(StatusCode::UPGRADE_REQUIRED, "");
                return answer.with("Sec-Websocket-Version", "7, 8, 13");
            }
        };
        HttpAnswer::new(status, body)
    }
}

/// Whether a request can become a websocket; any Origin may.
pub fn check(headers: &Headers) -> Result<AcceptKey, NoUpgrade> {
    let is = |name, wanted: &[&[u8]]| {
        let value = headers.joined(name).unwrap_or_default().to_ascii_lowercase();
        wanted.contains(&&value[..])
    };
    if !is("upgrade", &[b"websocket"]) {
        return Err(NoUpgrade::Protocol);
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(NoUpgrade::Connection);
    }
    if !is("sec-websocket-version", &[b"7", b"8", b"13"]) {
        return Err(NoUpgrade::Version);
    }
    let filled = |name| headers.first(name).filter(|value| !value.is_empty());
    match (filled("sec-websocket-key"), filled("host")) {
        (Some(key), Some(_)) => Ok(accept_key(key)),
        _ => Err(NoUpgrade::Headers),
    }
}

/// Appends the 101 answer, with the `extensions` that were agreed. No subprotocol is ever accepted.
pub fn switching(out: &mut Vec<u8>, accept: &AcceptKey, extensions: Option<&str>, date: &[u8; 29]) {
    let fixed: [(&str, &[u8]); 5] = [
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-Websocket-Accept", accept),
        ("Server", SERVER.as_bytes()),
        ("Date", date),
    ];
    let extensions = extensions.map(|value| ("Sec-Websocket-Extensions", value.as_bytes()));
    write_response_head(
        out,
        StatusCode::SWITCHING_PROTOCOLS,
        fixed.into_iter().chain(extensions),
        None,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::date::http_date;
    use crate::wire::http1::{RequestHead, parse_request};

    const UPGRADE: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    #[test]
    fn upgrade_checks_in_their_order() {
        let checked = |headers: &str| check(&head(headers).headers);
        assert_eq!(checked(UPGRADE), Ok(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(
            checked(&UPGRADE.replace("13", "8")),
            Ok(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        let without = |name: &str| UPGRADE.replace(name, "X");
        assert_eq!(checked(""), Err(NoUpgrade::Protocol));
        assert_eq!(
            checked(&UPGRADE.replace("WebSocket\r", "h2c\r")),
            Err(NoUpgrade::Protocol)
        );
        assert_eq!(checked(&without("Connection")), Err(NoUpgrade::Connection));
        assert_eq!(checked(&UPGRADE.replace(", Upgrade", "")), Err(NoUpgrade::Connection));
        assert_eq!(checked(&without("Sec-WebSocket-Version")), Err(NoUpgrade::Version));
        assert_eq!(checked(&UPGRADE.replace("13", "12")), Err(NoUpgrade::Version));
        assert_eq!(checked(&without("Sec-WebSocket-Key")), Err(NoUpgrade::Headers));
        assert_eq!(
            checked(&UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "")),
            Err(NoUpgrade::Headers)
        );
        let no_host = parse(format!("GET /connect/ HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
        assert_eq!(check(&no_host.headers), Err(NoUpgrade::Headers));
    }

    #[test]
    fn the_answers_of_section_3() {
        let cases = [
            (NoUpgrade::Protocol, 400, "Can \"Upgrade\" only to \"WebSocket\"."),
            (NoUpgrade::Connection, 400, "\"Connection\" must be \"Upgrade\"."),
            (NoUpgrade::Headers, 400, "Missing/Invalid WebSocket headers"),
            (NoUpgrade::Version, 426, ""),
        ];
        for (reason, status, body) in cases {
            let answer = reason.answer();
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()));
            assert_eq!(answer.content_type, "text/html; charset=UTF-8");
        }
        let versions = [("Sec-Websocket-Version", "7, 8, 13".into())];
        assert_eq!(NoUpgrade::Version.answer().headers, versions);
    }

    #[test]
    fn the_switching_answer() {
        let mut out = Vec::new();
        let accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        switching(&mut out, accept, None, &http_date(0));
        let expected = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nServer: {SERVER}\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        switching(&mut out, accept, Some("permessage-deflate"), &http_date(0));
        let answer = String::from_utf8(out).unwrap();
        assert!(
            answer.ends_with("\r\nSec-Websocket-Extensions: permessage-deflate\r\n\r\n"),
            "{answer}"
        );
    }

    fn head(headers: &str) -> RequestHead {
        parse(format!("GET /connect/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
    }

    fn parse(bytes: &[u8]) -> RequestHead {
        parse_request(bytes, 64 * 1024).unwrap().unwrap()
    }
}
