//! Answers of this door's HTTP interface. JSON goes out as `text/html` and some 500s without a body: all as the original does
//! it, since callers may look. Source: spec sections 3, 10, 15, 16 and 17. Built by [`super::connect`] and [`super::api`];
//! what every door answers alike, and how answers are written, is in [`crate::wire::http1::answer`].

use bytes::Bytes;
use http::StatusCode;

use crate::engine::registry::Presence;
use crate::time::Instant;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::{http1, json};

impl HttpAnswer {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
