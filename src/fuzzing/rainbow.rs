//! The rainbow door: packets of clients, JSON of businesses and peers, API requests of callers.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::Method;

use crate::config::Scheme;
use crate::engine::command::{CallbackOutcome, CallbackReply};
use crate::engine::name::Space;
use crate::engine::registry::online::PLATFORMS_MAX;
use crate::protocol::rainbow::admission::{self, Admission, NAMES_MAX, UID_BYTES_MAX, User};
use crate::protocol::rainbow::api::{self, Ask};
use crate::protocol::rainbow::peer::{Heard, Peers, Trust};
use crate::protocol::rainbow::sign::{Rules, Secrets};
use crate::protocol::rainbow::{packet, relay};
use crate::time::{Duration, Instant};
use crate::wire::query;

/// Any websocket message as a packet.
pub fn packets(data: &[u8]) {
    packet::roundtrip(data);
}

/// A business or peer answers anything, in body and headers.
pub fn replies(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (header, body) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let value = Bytes::copy_from_slice(header);
    let headers = [
        "rainbowclientchannel",
        "rainbowclientchannelunsub",
        "rainbowclientcookie",
    ]
    .map(|name| (Bytes::from(name), value.clone()))
    .to_vec();
    let reply = CallbackReply {
        status: 200,
        headers,
        body: Bytes::copy_from_slice(body),
    };
    let effects = admission::effects(&reply);
    assert!(effects.join.len() <= NAMES_MAX && effects.join == effects.leave);
    assert!(effects.join.iter().all(|name| !name.text().is_empty()));
    let outcome = CallbackOutcome::Answered(reply);
    if let Admission::Admitted(effects) = admission::admission(&outcome) {
        assert!(effects.user.is_none_or(|user| match user {
            User::Named(name) => name.space() == Space::USER && name.text().len() <= UID_BYTES_MAX,
            User::TooLong { bytes } => bytes > UID_BYTES_MAX,
        }));
        assert!(body.windows(7).any(|window| window == b"success") || body.contains(&b'\\'));
    }
    assert!(relay::online_part(&outcome, Instant::ZERO).platforms.len() <= PLATFORMS_MAX);
    let part = relay::peer_part(&outcome);
    assert!(part.data.len() <= relay::SEND_ANSWER_BYTES_MAX);
}

/// Any caller: a request without a right signature changes nothing, and with one asks only for what can be done.
pub fn api_requests(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (query, body) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let rules = Rules {
        secrets: Secrets::one(b"a token nobody can guess"),
        accept: &[Scheme::Sha1, Scheme::HmacSha256],
        window: Duration::from_secs(10),
    };
    for (method, path) in [
        (Method::POST, &b"/send/"[..]),
        (Method::POST, b"/sub/"),
        (Method::POST, b"/unsub/"),
        (Method::GET, b"/serverinfo/"),
        (Method::GET, query),
    ] {
        let request = api::Request {
            method: &method,
            path,
            query,
            body,
        };
        let ask = api::parse(&request, |signed| rules.check(signed, 1_700_000_000_000_000).map(drop));
        assert!(
            !matches!(ask, Ok(Ask::Send(_) | Ask::Sub(_) | Ask::Unsub(_))),
            "unsigned"
        );
        match api::parse(&request, |_| Ok(())) {
            Ok(Ask::Send(ask)) => {
                let to = str::from_utf8(ask.to.text()).expect("UTF-8");
                assert!(!to.is_empty() && to == to.trim());
                let given = |name| {
                    query::last(query, name)
                        .and_then(query::text)
                        .is_some_and(|text| !text.is_empty())
                };
                assert_eq!(ask.to.space() == Space::CHANNEL, given("channel"), "the channel counts");
                let schedule = api::schedule(ask.timeout_s);
                assert_eq!(schedule.deadline, Duration::from_secs(u64::from(ask.timeout_s)));
                assert!(
                    api::RETRY_INTERVAL * schedule.retries < schedule.deadline,
                    "the last one in time"
                );
            }
            Ok(Ask::Sub(ask) | Ask::Unsub(ask)) => assert!(
                !ask.identity.is_empty() && !ask.channel.text().is_empty() && ask.channel.space() == Space::CHANNEL
            ),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Any datagram: at most one probe follows, and nobody is let in by a datagram alone; where they have to be signed, none
/// follows from one that is not.
pub fn datagrams(data: &[u8]) {
    let mut peers = Peers::new([b'0'; 40], String::new());
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let signed = Trust::Signed {
        secrets: Secrets::one(b"a secret that no input holds"),
        window: Duration::from_secs(3600),
        now_micros: 0,
    };
    assert_eq!(peers.on_datagram(Instant::ZERO, source, data, &signed), Heard::Nothing);
    if let Heard::Probe(address) = peers.on_datagram(Instant::ZERO, source, data, &Trust::Anybody) {
        assert_eq!(address.ip(), source);
        assert_ne!(address.port(), 0);
    }
    assert_eq!(peers.alive().count(), 0);
}
