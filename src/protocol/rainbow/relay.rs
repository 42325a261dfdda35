//! What peers of the cluster are asked, and how their answers add up.
//!
//! A request that came without `cluster` is passed to every peer with `cluster=1`, its body unchanged, and with a fresh
//! signature if it was signed itself: nobody gets a signature who could not make one. With hmac-sha256 the signature
//! also covers which server it is for ([`NODE`]), so that no other one can be played it. A peer that fails counts nothing
//! and never fails the call. Source: spec section 12. Called by the cluster part of the control core, which sends and waits.

use bytes::Bytes;
use simd_json::prelude::*;

use super::api::TIMEOUT_MAX_S;
use super::sign::{Body, Scheme, Signer};
use crate::engine::command::{CallbackOutcome, CallbackReply, Qos};
use crate::engine::name::{Name, Space};
use crate::engine::receipt::PeerPart;
use crate::engine::registry::Presence;
use crate::engine::registry::online::{PLATFORM_BYTES_MAX, PLATFORMS_MAX};
use crate::engine::remote::{Inbound, Verb};
use crate::time::{Duration, Instant};
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::json;
use crate::wire::query::Encoder;

/// Longest wait for a peer's answer to anything but `/send/`.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer to a `/send/` read from a peer, in bytes: the data of an acknowledgement may be a whole message.
pub const SEND_ANSWER_BYTES_MAX: usize = 16 << 20;

/// Parameter of a request between servers: the identity of the server it is for.
pub const NODE: &str = "rainbow_node";

/// How a request to one peer is signed.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// `None`: it is not, as the request that is passed on was not.
    pub signer: Option<Signer<'a>>,
    /// Which server it is for, where that is known.
    pub node: Option<&'a str>,
}

impl Relay<'_> {
    fn sign(&self, method: &str, target: &mut Vec<u8>, body: &Body<'_>) {
        let Some(signer) = &self.signer else { return };
        if let Some(node) = self.node.filter(|_| signer.scheme == Scheme::HmacSha256) {
            Encoder::extend_url(target).pair(NODE.as_bytes(), node.as_bytes());
        }
        signer.sign(method, target, body);
    }
}

/// One request to a peer; its body is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRequest {
    /// Path and query.
    pub target: Vec<u8>,
    /// POST with the caller's body, or GET without one.
    pub is_post: bool,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

impl PeerRequest {
    /// What a peer is asked. The body is passed on as it came.
    pub fn new(verb: &Verb, body: &Body<'_>, relay: &Relay<'_>) -> Self {
        match verb {
            Verb::Publish { to, tag, qos, timeout } => Self::send(to, *tag, *qos, *timeout, body, relay),
            Verb::Join => Self::plain("/sub/", Some(body), relay),
            Verb::Leave => Self::plain("/unsub/", Some(body), relay),
            Verb::List => Self::plain("/serverinfo/", None, relay),
            Verb::Reload => Self::plain("/updateconfig/", None, relay),
        }
    }

    /// `/send/`: the peer gives up a second earlier, so that its answer is in time.
    fn send(to: &Name, msgtype: u16, qos: Qos, timeout: Duration, body: &Body<'_>, relay: &Relay<'_>) -> Self {
        let whole = timeout.as_secs().clamp(1, u64::from(TIMEOUT_MAX_S));
        let theirs = if whole >= 4 { whole - 1 } else { whole };
        let mut target = b"/send/?".to_vec();
        let mut query = Encoder::new(&mut target);
        let space: &[u8] = if to.space() == Space::USER { b"uid" } else { b"channel" };
        query.pair(space, to.text());
        query.pair(b"msgtype", msgtype.to_string().as_bytes());
        query.pair(b"qos", (qos as u8).to_string().as_bytes());
        query.pair(b"timeout", theirs.to_string().as_bytes());
        query.pair(b"cluster", b"1");
        relay.sign("POST", &mut target, body);
        Self {
            target,
            is_post: true,
            timeout: Duration::from_secs(whole),
        }
    }

    /// A POST with a body, or a GET.
    fn plain(path: &str, body: Option<&Body<'_>>, relay: &Relay<'_>) -> Self {
        let mut target = format!("{path}?cluster=1").into_bytes();
        match body {
            Some(body) => relay.sign("POST", &mut target, body),
            None => relay.sign("GET", &mut target, &Body::default()),
        }
        Self {
            target,
            is_post: body.is_some(),
            timeout: PEER_TIMEOUT,
        }
    }
}

/// What a peer's answer says, come at `now`.
pub fn inbound(verb: &Verb, outcome: &CallbackOutcome, now: Instant) -> Inbound {
    match (verb, outcome) {
        (Verb::Publish { to, .. }, _) if to.space() == Space::USER => Inbound::Part(online_part(outcome, now)),
        (Verb::Publish { .. }, _) => Inbound::Part(peer_part(outcome)),
        (Verb::Join | Verb::Leave, _) => done(outcome).unwrap_or(Inbound::Nothing),
        (Verb::List, CallbackOutcome::Answered(reply)) => Inbound::Page(reply.body.clone()),
        (Verb::List | Verb::Reload, _) => Inbound::Nothing,
    }
}

fn done(outcome: &CallbackOutcome) -> Option<Inbound> {
    let [status, msg] = json::fields(&success(outcome)?.body, ["status", "msg"])?;
    let found = status?.count() == Some(0);
    let complaint = msg.as_ref().and_then(|msg| msg.text()).map(str::to_owned);
    Some(Inbound::Done {
        found,
        complaint: complaint.filter(|_| !found),
    })
}

/// Where a user is online at a peer, told at `now`; nothing for errors and anything not understood.
pub fn online_part(outcome: &CallbackOutcome, now: Instant) -> PeerPart {
    let platforms = success(outcome).and_then(|reply| read_platforms(&reply.body, now));
    PeerPart {
        platforms: platforms.unwrap_or_default(),
        ..PeerPart::default()
    }
}

/// A server that tells no ages counts as the last to connect.
fn read_platforms(body: &[u8], now: Instant) -> Option<Vec<Presence>> {
    let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    json::with_value(body, json::JSON_BYTES_MAX, |value| {
        let object = value.as_object()?;
        let ages = object
            .get("ages")
            .and_then(|ages| {
                ages.as_array()
                    .map(|ages| ages.iter().map(|age| age.as_i64()).collect::<Vec<_>>())
            })
            .unwrap_or_default();
        let ages = ages
            .into_iter()
            .map(|age| age.unwrap_or_default().max(0))
            .chain(std::iter::repeat(0));
        let platforms = object.get("online_client")?;
        let platforms = platforms.as_array()?.iter().take(PLATFORMS_MAX).zip(ages);
        let presence = |(platform, age): (simd_json::tape::Value<'_, '_>, i64)| {
            let platform = platform.as_str()?.as_bytes();
            Some(Presence {
                since: now.saturating_sub(age),
                platform: Bytes::copy_from_slice(&platform[..platform.len().min(PLATFORM_BYTES_MAX)]),
            })
        };
        platforms.map(presence).collect()
    })
}

/// Members that acknowledged at a peer and their data; nothing for errors, timeouts and anything not understood.
pub fn peer_part(outcome: &CallbackOutcome) -> PeerPart {
    read_part(outcome).unwrap_or_default()
}

/// Whether a peer did not believe the signature.
pub fn is_refused(outcome: &CallbackOutcome) -> bool {
    let fields = success(outcome).and_then(|reply| json::fields(&reply.body, ["msg"]));
    fields.is_some_and(|[msg]| msg.as_ref().and_then(|msg| msg.text()) == Some("signature error"))
}

fn read_part(outcome: &CallbackOutcome) -> Option<PeerPart> {
    let body = &success(outcome)?.body;
    let names = ["status", "connections", "data"];
    let [status, connections, data] = json::fields_within(body, SEND_ANSWER_BYTES_MAX, names)?;
    let data = data?.text().map(str::to_owned)?;
    (status?.count()? == 0).then_some(PeerPart {
        connections: connections?.count()?,
        data: data.into(),
        platforms: Vec::new(),
    })
}

fn success(outcome: &CallbackOutcome) -> Option<&CallbackReply> {
    match outcome {
        CallbackOutcome::Answered(reply) if reply.is_success() => Some(reply),
        _ => None,
    }
}

/// Adds up the answers to a `/sub/`: good if any server knew the identity, else the last complaint.
#[derive(Clone, Debug, Default)]
pub struct SubTally {
    is_done: bool,
    complaint: Option<String>,
}

impl SubTally {
    /// Whether this server has the client.
    pub fn add_local(&mut self, found: bool) {
        if found {
            self.is_done = true;
        } else {
            self.complaint = Some("no such connection".to_owned());
        }
    }

    /// A peer's answer, in the order of arrival.
    pub fn add_peer(&mut self, inbound: &Inbound) {
        let Inbound::Done { found, complaint } = inbound else {
            return;
        };
        self.is_done |= found;
        if let Some(complaint) = complaint {
            self.complaint = Some(complaint.clone());
        }
    }

    /// The answer when everybody has answered or failed.
    pub fn answer(&self) -> HttpAnswer {
        match &self.complaint {
            _ if self.is_done => HttpAnswer::done(),
            Some(msg) => HttpAnswer::failed(msg),
            None => HttpAnswer::failed("no such connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::CallbackFailure;
    use crate::protocol::rainbow::api::{self, SendAsk};
    use crate::protocol::rainbow::sign::{Rules, Secrets};
    use http::Method;

    const SIGNER: Signer<'static> = Signer {
        scheme: Scheme::Sha1,
        secret: b"testtoken",
        unix_seconds: 1_420_000_000,
        random: 234,
        is_relay: false,
    };
    const RELAY: Relay<'static> = Relay {
        signer: Some(SIGNER),
        node: Some("ab12"),
    };
    const SIGNED: &str = "cluster=1&timestamp=1420000000&nonce=1234&signature=3bb158b1b16ea2a6dbdfb5881080954c8c0c75c8";

    fn answered(status: u16, body: &str) -> CallbackOutcome {
        CallbackOutcome::Answered(CallbackReply {
            status,
            headers: Vec::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    fn ask(channel: &str, timeout_s: u32) -> SendAsk {
        SendAsk {
            to: Name::channel(channel.as_bytes()),
            msgtype: 7,
            qos: Qos::AtLeastOnce,
            timeout_s,
            local_only: false,
        }
    }

    fn send(ask: &SendAsk, body: &Body<'_>, relay: &Relay<'_>) -> PeerRequest {
        let verb = Verb::Publish {
            to: ask.to.clone(),
            tag: ask.wire_type().unwrap(),
            qos: ask.qos,
            timeout: Duration::from_secs(u64::from(ask.timeout_s)),
        };
        PeerRequest::new(&verb, body, relay)
    }

    fn plain(verb: &Verb, relay: &Relay<'_>) -> PeerRequest {
        PeerRequest::new(verb, &Body::default(), relay)
    }

    #[test]
    fn the_recorded_requests() {
        for (timeout_s, theirs) in [(1, 1), (3, 3), (4, 3), (6, 5), (10, 9)] {
            let request = send(&ask("room", timeout_s), &Body::default(), &RELAY);
            let target = format!("/send/?channel=room&msgtype=7&qos=1&timeout={theirs}&{SIGNED}");
            assert_eq!(String::from_utf8(request.target).unwrap(), target);
            assert_eq!(
                (request.is_post, request.timeout.as_secs()),
                (true, u64::from(timeout_s))
            );
        }
        for (request, path, is_post) in [
            (plain(&Verb::Join, &RELAY), "/sub/", true),
            (plain(&Verb::Leave, &RELAY), "/unsub/", true),
            (plain(&Verb::List, &RELAY), "/serverinfo/", false),
            (plain(&Verb::Reload, &RELAY), "/updateconfig/", false),
        ] {
            assert_eq!(String::from_utf8(request.target).unwrap(), format!("{path}?{SIGNED}"));
            assert_eq!((request.is_post, request.timeout), (is_post, PEER_TIMEOUT));
        }
    }

    #[test]
    fn a_peer_reads_what_we_ask() {
        for scheme in [Scheme::Sha1, Scheme::HmacSha256] {
            let request = send(
                &ask("你 &b", 10),
                &Body::new(b"\0payload"),
                &Relay {
                    signer: Some(Signer { scheme, ..SIGNER }),
                    ..RELAY
                },
            );
            let (path, query) = request.target.split_at("/send/?".len());
            let path = &path[..path.len() - 1];
            let read = api::Request {
                method: &Method::POST,
                path,
                query,
                body: b"\0payload",
            };
            let expected = SendAsk {
                timeout_s: 9,
                local_only: true,
                ..ask("你 &b", 10)
            };
            let rules = Rules {
                secrets: Secrets::one(b"testtoken"),
                accept: &[scheme],
                window: Duration::from_secs(10),
            };
            let parsed = api::parse(&read, |signed| rules.check(signed, 1_420_000_000_000_000).map(drop));
            assert_eq!(parsed, Ok(api::Ask::Send(expected)));
        }
    }

    #[test]
    fn a_signature_says_whom_it_is_for_and_none_is_made_for_who_did_not_sign() {
        let scheme = Scheme::HmacSha256;
        let relay = Relay {
            signer: Some(Signer { scheme, ..SIGNER }),
            ..RELAY
        };
        let target = String::from_utf8(plain(&Verb::Join, &relay).target).unwrap();
        assert!(
            target.starts_with("/sub/?cluster=1&rainbow_node=ab12&timestamp="),
            "{target}"
        );
        let unknown = Relay { node: None, ..relay };
        let target = String::from_utf8(plain(&Verb::Join, &unknown).target).unwrap();
        assert!(target.starts_with("/sub/?cluster=1&timestamp="), "{target}");
        let unsigned = Relay { signer: None, ..RELAY };
        assert_eq!(plain(&Verb::List, &unsigned).target, b"/serverinfo/?cluster=1");
        assert_eq!(plain(&Verb::Reload, &unsigned).target, b"/updateconfig/?cluster=1");
    }

    #[test]
    fn counts_and_data_are_read() {
        let part = |connections, data: &str| PeerPart {
            connections,
            data: Bytes::copy_from_slice(data.as_bytes()),
            platforms: Vec::new(),
        };
        let read = |body: &str| peer_part(&answered(200, body));
        assert_eq!(read(r#"{"status": 0, "connections": 1, "data": ""}"#), part(1, ""));
        assert_eq!(read(r#"{"status": 0, "connections": 3, "data": "P"}"#), part(3, "P"));
        let data = "x".repeat(3 << 20);
        let long = format!(r#"{{"status": 0, "connections": 1, "data": "{data}"}}"#);
        assert_eq!(read(&long), part(1, &data));
    }

    #[test]
    fn a_user_is_asked_for_and_told_of_peers() {
        let ask = SendAsk {
            to: Name::user(b"u 1"),
            ..ask("", 10)
        };
        let target = send(&ask, &Body::default(), &RELAY).target;
        assert!(
            target.starts_with(b"/send/?uid=u%201&msgtype=7&qos=1&timeout=9&cluster=1&")
                || target.starts_with(b"/send/?uid=u+1&msgtype=7&qos=1&timeout=9&cluster=1&")
        );
        let now = Instant::from_micros(100);
        let on = |since, platform: &'static str| Presence {
            since,
            platform: platform.into(),
        };
        let there = HttpAnswer::online(&[on(-50, "ios"), on(90, "a")], Some(now)).body;
        let read = |body: &[u8]| online_part(&answered(200, str::from_utf8(body).unwrap()), now).platforms;
        assert_eq!(read(&there), [on(-50, "ios"), on(90, "a")]);
        assert_eq!(read(br#"{"online_client": ["ios"]}"#), [on(100, "ios")]);
        assert_eq!(read(br#"{"online_client": ["ios"], "ages": [-7]}"#), [on(100, "ios")]);
        let many = format!("{{\"online_client\": [{}\"x\"]}}", "\"y\", ".repeat(1000));
        assert_eq!(read(many.as_bytes()).len(), PLATFORMS_MAX);
        let long = format!("{{\"online_client\": [\"{}\"]}}", "z".repeat(10_000));
        assert_eq!(read(long.as_bytes())[0].platform.len(), PLATFORM_BYTES_MAX);
        for nothing in [
            "",
            "[]",
            "{}",
            r#"{"online_client": [5]}"#,
            r#"{"status": 1, "msg": "channel miss"}"#,
        ] {
            assert_eq!(read(nothing.as_bytes()), [], "{nothing}");
        }
        let failed = CallbackOutcome::Failed(CallbackFailure::TimedOut);
        assert_eq!(online_part(&failed, now), PeerPart::default());
    }

    #[test]
    fn failing_peers_count_nothing() {
        for body in [
            r#"{"status": 1, "msg": "timeout"}"#,
            r#"{"status": 0}"#,
            "oops",
            "",
            "[]",
            r#"{"status": 0, "connections": -1, "data": ""}"#,
            r#"{"status": 0, "connections": "1", "data": ""}"#,
            r#"{"status": 0, "connections": 1, "data": null}"#,
            r#"{"connections": 1, "data": ""}"#,
        ] {
            assert_eq!(peer_part(&answered(200, body)), PeerPart::default(), "{body}");
        }
        let failed = answered(500, r#"{"status": 0, "connections": 1, "data": "x"}"#);
        assert_eq!(peer_part(&failed), PeerPart::default());
        assert_eq!(
            peer_part(&CallbackOutcome::Failed(CallbackFailure::TimedOut)),
            PeerPart::default()
        );
    }

    #[test]
    fn one_server_with_the_client_is_enough() {
        let good = answered(200, r#"{"status": 0}"#);
        let unknown = answered(200, r#"{"status": 1, "msg": "no such connection"}"#);
        let other = answered(200, r#"{"status": 1, "msg": "signature error"}"#);
        let broken = [
            answered(500, ""),
            answered(200, "x"),
            CallbackOutcome::Failed(CallbackFailure::Unreachable),
        ];
        let tally = |local: bool, peers: &[&CallbackOutcome]| {
            let mut tally = SubTally::default();
            tally.add_local(local);
            peers
                .iter()
                .for_each(|peer| tally.add_peer(&inbound(&Verb::Join, peer, Instant::ZERO)));
            tally.answer()
        };
        assert_eq!(tally(true, &[&unknown, &broken[0]]), HttpAnswer::done());
        assert_eq!(tally(false, &[&unknown, &good, &broken[1]]), HttpAnswer::done());
        assert_eq!(
            tally(false, &[&other, &unknown]),
            HttpAnswer::failed("no such connection")
        );
        assert_eq!(tally(false, &[&unknown, &other]), HttpAnswer::failed("signature error"));
        assert_eq!(
            tally(false, &[&broken[0], &broken[1], &broken[2]]),
            HttpAnswer::failed("no such connection")
        );
    }
}
