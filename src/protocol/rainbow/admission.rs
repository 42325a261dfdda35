//! What a business answer means: is the client admitted, and which effects do the answer's headers have.
//!
//! Effects are applied in the order of the fields of [`Effects`]: cookie, leave, join; so a name in both lists ends up
//! joined. They are read from the connect reply and from message replies with a 2xx status, from no other. Source: spec
//! sections 3 and 4. Called by [`super::entry`] and the session.

use std::borrow::Cow;

use bytes::Bytes;

use crate::engine::command::{CallbackOutcome, CallbackReply};
use crate::engine::name::Name;
use crate::wire::json::{self, Field};
use crate::wire::query;

/// Names one reply may bring, joined and left each; further ones are ignored. A head of 64 KiB holds fewer.
pub const NAMES_MAX: usize = 65_536;

/// Longest cookie kept for a client, in bytes: as long as the longest head it could have come in.
pub const COOKIE_BYTES_MAX: usize = 64 * 1024;

/// Longest user id, in bytes; a longer one would not fit into most callers' URLs.
pub const UID_BYTES_MAX: usize = 1024;

/// What the business says about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may come in, with these effects once the upgrade checks have passed.
    Admitted(Effects),
    /// It may not: 401.
    Denied,
    /// Nobody knows: 503.
    Unavailable,
}

/// Reads the outcome of a connect callback.
pub fn admission(outcome: &CallbackOutcome) -> Admission {
    let CallbackOutcome::Answered(reply) = outcome else {
        return Admission::Unavailable;
    };
    if !reply.is_success() {
        return Admission::Unavailable;
    }
    match json::fields(&reply.body, ["status", "uid"]) {
        None | Some([None, _]) => Admission::Unavailable,
        Some([Some(Field::Text(status)), uid]) if status == "success" => Admission::Admitted(Effects {
            user: uid.as_ref().and_then(user),
            ..effects(reply)
        }),
        Some(_) => Admission::Denied,
    }
}

/// Whose client it is, written as callers write it in `/send/?uid=`. A number is its digits; what is blank or neither
/// text nor number is nobody's.
fn user(uid: &Field) -> Option<User> {
    let written = match uid {
        Field::Text(uid) => uid.clone(),
        Field::Integer(uid) => uid.to_string(),
        _ => return None,
    };
    let uid = query::text(Cow::Borrowed(written.as_bytes()))?;
    Some(match uid.len() {
        0 => return None,
        bytes if bytes > UID_BYTES_MAX => User::TooLong { bytes },
        _ => User::Named(Name::user(uid.as_bytes())),
    })
}

/// The user a connect answer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// The client is this one's.
    Named(Name),
    /// Longer than [`UID_BYTES_MAX`]: the client is nobody's.
    TooLong {
        /// Length in bytes.
        bytes: usize,
    },
}

/// What the headers of a reply do to the client, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// `Some(Some(_))`: the new cookie. `Some(None)`: the cookie is cleared. `None`: it stays.
    pub cookie: Option<Option<Bytes>>,
    /// Whose client it is from now on; of connect answers only.
    pub user: Option<User>,
    /// Channels to leave; unknown ones are ignored.
    pub leave: Vec<Name>,
    /// Channels to join.
    pub join: Vec<Name>,
}

/// Whether the backend says that our request was invalid; to be logged, and of no effect.
pub fn is_complaint(reply: &CallbackReply) -> bool {
    reply.headers_named(b"rainbowrequestinvalid").next().is_some()
}

/// The effects of a reply; none unless its status is 2xx. Names are bytes: whatever is subscribed here and asked for in
/// `/send/` as the same UTF-8 is the same channel.
pub fn effects(reply: &CallbackReply) -> Effects {
    if !reply.is_success() {
        return Effects::default();
    }
    let cookie = joined(reply, b"rainbowclientcookie").filter(|cookie| cookie.len() <= COOKIE_BYTES_MAX);
    Effects {
        user: None,
        cookie: cookie.map(|cookie| Some(cookie).filter(|cookie| !cookie.is_empty())),
        leave: channels(reply, b"rainbowclientchannelunsub"),
        join: channels(reply, b"rainbowclientchannel"),
    }
}

/// The value of a header, repeated ones joined with a comma.
fn joined(reply: &CallbackReply, name: &[u8]) -> Option<Bytes> {
    let mut values = reply.headers_named(name);
    let first = values.next()?.clone();
    Some(values.fold(first, |joined, value| [&joined[..], b",", value].concat().into()))
}

/// Names between `;;`, those of repeated headers behind each other, empty ones skipped, spaces kept.
fn channels(reply: &CallbackReply, name: &[u8]) -> Vec<Name> {
    let names = reply.headers_named(name).flat_map(|value| parts(value));
    names
        .filter(|part| !part.is_empty())
        .take(NAMES_MAX)
        .map(Name::channel)
        .collect()
}

/// What lies between `;;` (Python's `str.split`: of `;;;` the first two are the separator).
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(2).position(|pair| pair == b";;");
        rest = at.map(|at| &text[at + 2..]);
        Some(at.map_or(text, |at| &text[..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::CallbackFailure;

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> CallbackReply {
        let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let headers = headers
            .iter()
            .map(|(name, value)| (owned(name), owned(value)))
            .collect();
        CallbackReply {
            status,
            headers,
            body: owned(body),
        }
    }

    fn admit(status: u16, body: &str) -> Admission {
        admission(&CallbackOutcome::Answered(reply(status, &[], body)))
    }

    #[test]
    fn the_table_of_section_3() {
        let admitted = Admission::Admitted(Effects::default());
        assert_eq!(admit(200, r#"{"status": "success"}"#), admitted);
        assert_eq!(
            admit(
                201,
                r#" {"status":"success","id":"u","n":123456789012345678901234567890} "#
            ),
            admitted
        );
        for body in [
            r#"{"status": "fail"}"#,
            r#"{"status": "Success"}"#,
            r#"{"status": ""}"#,
            r#"{"status": null}"#,
            r#"{"status": true}"#,
            r#"{"status": ["success"]}"#,
            r#"{"status": "success", "status": "no"}"#,
        ] {
            assert_eq!(admit(200, body), Admission::Denied, "{body}");
        }
        for body in [
            "",
            "ok",
            "{}",
            "[\"status\"]",
            "null",
            "\u{feff}{\"status\": \"success\"}",
            "{\"status\": \"success\"",
        ] {
            assert_eq!(admit(200, body), Admission::Unavailable, "{body}");
        }
        assert_eq!(admit(204, ""), Admission::Unavailable);
        for status in [302, 403, 500] {
            assert_eq!(admit(status, r#"{"status": "success"}"#), Admission::Unavailable);
        }
        let failed = CallbackOutcome::Failed(CallbackFailure::TimedOut);
        assert_eq!(admission(&failed), Admission::Unavailable);
        let bomb = format!("{{\"status\": \"success\", \"x\": {}", "[".repeat(100_000));
        assert_eq!(admit(200, &bomb), Admission::Unavailable);
    }

    #[test]
    fn whose_client_it_is() {
        let user_of = |uid: &str| match admit(200, &format!(r#"{{"status": "success", "uid": {uid}}}"#)) {
            Admission::Admitted(effects) => effects.user,
            other => panic!("{other:?}"),
        };
        let named = |text: &[u8]| Some(User::Named(Name::user(text)));
        assert_eq!(user_of(r#""u1""#), named(b"u1"));
        assert_eq!(user_of(r#"" \u4f60 ""#), named("你".as_bytes()));
        assert_eq!(user_of("-42"), named(b"-42"));
        let longest = "u".repeat(UID_BYTES_MAX);
        assert_eq!(user_of(&format!("\"{longest}\"")), named(longest.as_bytes()));
        for nobody in [r#""""#, r#"" ""#, "null", "true", "1.5", "[]"] {
            assert_eq!(user_of(nobody), None, "{nobody}");
        }
        let bytes = UID_BYTES_MAX + 1;
        assert_eq!(user_of(&format!("\"{longest}u\"")), Some(User::TooLong { bytes }));
        assert_eq!(admit(200, r#"{"uid": "u1"}"#), Admission::Unavailable);
        assert_eq!(admit(200, r#"{"status": "fail", "uid": "u1"}"#), Admission::Denied);
    }

    #[test]
    fn the_recorded_headers() {
        let headers = [
            ("rainbowclientchannel", "a;;b;;;;c d;;"),
            ("rainbowclientchannelunsub", "a"),
            ("rainbowclientcookie", "Y29va2ll"),
            ("rainbowrequestinvalid", "60002"),
        ];
        let reply = reply(200, &headers, "");
        assert!(is_complaint(&reply));
        let effects = effects(&reply);
        assert_eq!(effects.cookie, Some(Some(Bytes::from_static(b"Y29va2ll"))));
        assert_eq!(effects.leave, [Name::channel(b"a")]);
        assert_eq!(effects.join, [&b"a"[..], b"b", b"c d"].map(Name::channel));
    }

    #[test]
    fn repeated_headers() {
        let headers = [
            ("rainbowclientchannel", "a,b"),
            ("rainbowclientcookie", "c1"),
            ("rainbowclientchannel", "c;; d"),
            ("rainbowclientcookie", "c2"),
            ("rainbowrequestinvalid", "nonsense"),
        ];
        let effects = effects(&reply(200, &headers, ""));
        assert_eq!(effects.join, [&b"a,b"[..], b"c", b" d"].map(Name::channel));
        assert_eq!(effects.cookie, Some(Some(Bytes::from_static(b"c1,c2"))));
    }

    #[test]
    fn an_empty_cookie_clears_and_an_error_changes_nothing() {
        let headers = [("rainbowclientcookie", ""), ("rainbowclientchannel", "a")];
        assert_eq!(effects(&reply(200, &headers, "")).cookie, Some(None));
        assert_eq!(effects(&reply(500, &headers, "")), Effects::default());
        assert_eq!(effects(&reply(200, &[], "")), Effects::default());
    }

    #[test]
    fn names_are_split_as_python_splits() {
        let split = |text: &'static str| {
            parts(text.as_bytes())
                .map(|p| str::from_utf8(p).unwrap())
                .collect::<Vec<_>>()
        };
        for text in ["", ";", ";;", ";;;", "a;;b", "a;;;b", "a;b", ";;a;;;;"] {
            assert_eq!(split(text), text.split(";;").collect::<Vec<_>>());
        }
    }
}
