//! Whole HTTP answers: those that are the same at every door, and how all of them are written. Built by the doors and by
//! whoever refuses before a door has looked; written to the socket by shard and control core. Errors are small html pages, as
//! in the original (spec: sections 10 and 15).

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, StatusCode, Version};

use super::{RequestHead, write_response, write_response_head};
use crate::limits::RETRY_AFTER;

/// What `Server` headers say.
pub const SERVER: &str = concat!("rainbow-server/", env!("CARGO_PKG_VERSION"));

/// Content type of everything the original answers.
pub const HTML: &str = "text/html; charset=UTF-8";

/// Content type of the listing, which has names in it that anybody may have chosen.
pub const JSON: &str = "application/json";

/// Body of a 503 to a client.
pub const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";

/// One answer, without what depends on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Further headers, in order.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
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
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same answer with one more header; its value must be one ([`crate::wire::http1::is_field_value`]).
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// There is no room for whoever asks, now: 503, and when to come back. What connections are told before a door has looked
    /// at them, so it is the same for all; the body does begin with a status line, as the original's.
    pub fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE).with("Retry-After", RETRY_AFTER)
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
        Self::page(StatusCode::METHOD_NOT_ALLOWED).with("Allow", allow)
    }

    /// The answer to OPTIONS.
    pub fn options(allow: &'static str) -> Self {
        Self::new(StatusCode::NO_CONTENT, Bytes::new()).with("Allow", allow)
    }

    /// 200 with JSON that is called JSON. The original calls all of it html; where its callers do not look, neither should a
    /// browser.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            content_type: JSON,
            ..Self::ok(body)
        }
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
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let headers = fixed.into_iter().chain(own).chain(connection);
        if manner.head_only {
            write_response_head(out, self.status, headers, Some(self.body.len() as u64));
        } else {
            write_response(out, self.status, headers, &self.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::date::http_date;

    #[test]
    fn headers_are_written_in_order() {
        let mut out = Vec::new();
        let cookie = format!("session={}", 7);
        let answer = HttpAnswer::overloaded().with("Set-Cookie", cookie);
        answer.write(&mut out, Manner::LAST, &http_date(0));
        let text = String::from_utf8(out).unwrap();
        let order = [
            "\r\nContent-Type:",
            "\r\nRetry-After: 5\r\nSet-Cookie: session=7\r\nConnection: close\r\n",
        ];
        assert!(order.map(|part| text.find(part).unwrap()).is_sorted(), "{text}");
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
