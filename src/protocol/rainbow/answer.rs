//! Whole HTTP answers of this door. JSON goes out as `text/html`, errors as small html pages, some 500s without a body: all
//! as the original does it, since callers may look. Source: spec sections 3, 10, 15, 16 and 17. Built by
//! [`super::connect`] and [`super::api`]; written to the socket by shard and control core.

use bytes::Bytes;
use http::{Method, StatusCode, Version};

use super::json;
use crate::engine::registry::Presence;
use crate::time::Instant;
use crate::wire::http1::{self, RequestHead};

/// What `Server` headers say.
pub const SERVER: &str = concat!("rainbow-server/", env!("CARGO_PKG_VERSION"));

/// Content type of everything the original answers.
pub const HTML: &str = "text/html; charset=UTF-8";

/// Content type of the listing, which has names in it that anybody may have chosen.
pub const JSON: &str = "application/json";

/// One answer, without what depends on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// One more header, if the status needs it.
    pub extra: Option<(&'static str, &'static str)>,
    /// The body.
    pub body: Bytes,
}

/// How an answer has to be framed for the request it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The connection stays open afterwards.
    pub keep_alive: bool,
    /// The client speaks HTTP/1.0, where staying open has to be said.
    pub http_10: bool,
    /// The request was a HEAD: no body.
    pub head_only: bool,
}

impl Manner {
    /// The connection ends after the answer.
    pub const LAST: Manner = Manner {
        keep_alive: false,
        http_10: false,
        head_only: false,
    };

    /// As the request asks for.
    pub fn of(head: &RequestHead) -> Self {
        Self {
            keep_alive: head.keep_alive,
            http_10: head.version == Version::HTTP_10,
            head_only: head.method == Method::HEAD,
        }
    }
}

impl HttpAnswer {
    /// Any status with a body of the original's content type.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: HTML,
            extra: None,
            body: body.into(),
        }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// The error page of a status.
    pub fn page(status: StatusCode) -> Self {
        let title = format!(
            "{}: {}",
            status.as_str(),
            status.canonical_reason().unwrap_or("Unknown")
        );
        Self::new(
            status,
            format!("<html><title>{title}</title><body>{title}</body></html>"),
        )
    }

    /// `Allow` of what can only be read.
    pub const READ_ONLY: &'static str = "GET, HEAD, OPTIONS";

    /// 405 with the methods there are (RFC 9110 §15.5.6).
    pub fn not_allowed(allow: &'static str) -> Self {
        Self {
            extra: Some(("Allow", allow)),
            ..Self::page(StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    /// The answer to OPTIONS.
    pub fn options(allow: &'static str) -> Self {
        Self {
            extra: Some(("Allow", allow)),
            ..Self::new(StatusCode::NO_CONTENT, Bytes::new())
        }
    }

    /// 200 with JSON that is called JSON. The original calls all of it html; where its callers do not look, neither should a
    /// browser.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            content_type: JSON,
            ..Self::ok(body)
        }
    }

    /// 500 without a body: what the original's handlers answer to integers and JSON they cannot read.
    pub fn server_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())
    }

    /// `{"status": 0}`.
    pub fn done() -> Self {
        Self::ok(&b"{\"status\": 0}"[..])
    }

    /// `{"status": 1, "msg": …}` with status 200.
    pub fn failed(msg: &str) -> Self {
        let mut body = b"{\"status\": 1, \"msg\": ".to_vec();
        json::push_string(&mut body, msg.as_bytes());
        body.push(b'}');
        Self::ok(body)
    }

    /// A message type outside 0..=65535, for a channel with members.
    pub fn bad_type() -> Self {
        Self::failed("msgtype error")
    }

    /// A publish with acknowledgements: how many, and the data of the last one that had any (empty if none).
    pub fn delivered(connections: u64, data: &[u8]) -> Self {
        let mut body = b"{\"status\": 0, \"connections\": ".to_vec();
        http1::push_decimal(&mut body, connections);
        body.extend_from_slice(b", \"data\": ");
        json::push_string(&mut body, data);
        body.push(b'}');
        Self::ok(body)
    }

    /// A publish that ran into its deadline. The original's answer has no count; `connections` adds the members that did
    /// acknowledge, for callers that asked for more than the original tells.
    pub fn timed_out(connections: Option<u64>) -> Self {
        let Some(connections) = connections else {
            return Self::failed("timeout");
        };
        let mut body = b"{\"status\": 1, \"msg\": \"timeout\", \"connections\": ".to_vec();
        http1::push_decimal(&mut body, connections);
        body.push(b'}');
        Self::ok(body)
    }

    /// A publish to a user: the platforms it is online with, in order of connecting. A peer is told for how many
    /// microseconds before `now` each has been there, to put them in order with its own.
    pub fn online(platforms: &[Presence], now: Option<Instant>) -> Self {
        let mut body = b"{\"online_client\": [".to_vec();
        for (at, presence) in platforms.iter().enumerate() {
            body.extend_from_slice(if at == 0 { b"" } else { b", " });
            json::push_string(&mut body, &presence.platform);
        }
        body.push(b']');
        if let Some(now) = now {
            let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
            let ages = platforms
                .iter()
                .map(|presence| now.saturating_sub(presence.since).to_string());
            body.extend_from_slice(format!(", \"ages\": [{}]", ages.collect::<Vec<_>>().join(", ")).as_bytes());
        }
        body.push(b'}');
        Self::ok(body)
    }

    /// Appends the answer as bytes; `date` as [`crate::wire::date::http_date`] makes it.
    pub fn write(&self, out: &mut Vec<u8>, manner: Manner, date: &[u8; 29]) {
        let connection = match (manner.keep_alive, manner.http_10) {
            (true, false) => None,
            (true, true) => Some(("Connection", &b"Keep-Alive"[..])),
            (false, _) => Some(("Connection", &b"close"[..])),
        };
        let fixed = [
            ("Server", SERVER.as_bytes()),
            ("Date", date),
            ("Content-Type", self.content_type.as_bytes()),
        ];
        let extra = self.extra.map(|(name, value)| (name, value.as_bytes()));
        let headers = fixed.into_iter().chain(extra).chain(connection);
        if manner.head_only {
            http1::write_response_head(out, self.status, headers, Some(self.body.len() as u64));
        } else {
            http1::write_response(out, self.status, headers, &self.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::date::http_date;

    #[test]
    fn bodies_of_section_17() {
        let body = |answer: HttpAnswer| String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(body(HttpAnswer::done()), r#"{"status": 0}"#);
        assert_eq!(
            body(HttpAnswer::failed("channel miss")),
            r#"{"status": 1, "msg": "channel miss"}"#
        );
        assert_eq!(
            body(HttpAnswer::delivered(0, b"")),
            r#"{"status": 0, "connections": 0, "data": ""}"#
        );
        assert_eq!(
            body(HttpAnswer::delivered(2, "é\"\u{1f600}".as_bytes())),
            r#"{"status": 0, "connections": 2, "data": "\u00e9\"\ud83d\ude00"}"#
        );
        assert_eq!(
            body(HttpAnswer::delivered(1, b"\xff")),
            r#"{"status": 0, "connections": 1, "data": "\ufffd"}"#
        );
        assert_eq!(body(HttpAnswer::timed_out(None)), r#"{"status": 1, "msg": "timeout"}"#);
        assert_eq!(
            body(HttpAnswer::timed_out(Some(3))),
            r#"{"status": 1, "msg": "timeout", "connections": 3}"#
        );
        let on = |since, platform: &'static str| Presence {
            since,
            platform: platform.into(),
        };
        let platforms = [on(-5, "ios"), on(7, "a\"b")];
        assert_eq!(body(HttpAnswer::online(&[], None)), r#"{"online_client": []}"#);
        assert_eq!(
            body(HttpAnswer::online(&platforms, None)),
            r#"{"online_client": ["ios", "a\"b"]}"#
        );
        assert_eq!(
            body(HttpAnswer::online(&platforms, Some(Instant::from_micros(10)))),
            r#"{"online_client": ["ios", "a\"b"], "ages": [15, 3]}"#
        );
        assert_eq!(body(HttpAnswer::server_error()), "");
    }

    #[test]
    fn pages_of_section_10() {
        for (status, title) in [
            (StatusCode::BAD_REQUEST, "400: Bad Request"),
            (StatusCode::NOT_FOUND, "404: Not Found"),
            (StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            (StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Server Error"),
        ] {
            let page = format!("<html><title>{title}</title><body>{title}</body></html>");
            assert_eq!(HttpAnswer::page(status), HttpAnswer::new(status, page));
        }
    }

    #[test]
    fn framing_follows_the_request() {
        let text = |keep_alive, http_10, head_only| {
            let mut out = Vec::new();
            HttpAnswer::ok("ok").write(
                &mut out,
                Manner {
                    keep_alive,
                    http_10,
                    head_only,
                },
                &http_date(0),
            );
            String::from_utf8(out).unwrap()
        };
        let plain = text(true, false, false);
        assert!(
            plain.starts_with("HTTP/1.1 200 OK\r\nServer: rainbow-server/"),
            "{plain}"
        );
        assert!(plain.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"), "{plain}");
        assert!(
            plain.contains("\r\nContent-Type: text/html; charset=UTF-8\r\n"),
            "{plain}"
        );
        assert!(
            !plain.contains("Connection") && plain.ends_with("\r\n\r\nok"),
            "{plain}"
        );
        assert!(text(true, true, false).contains("\r\nConnection: Keep-Alive\r\n"));
        assert!(text(false, false, false).contains("\r\nConnection: close\r\n"));
        let head = text(true, false, true);
        assert!(
            head.to_lowercase().contains("content-length: 2\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}
