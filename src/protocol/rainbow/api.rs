//! The HTTP API: which request is which, its parameters in the original's order of checks, and the timing of a publish.
//!
//! ```text
//!   head ── begin ──▶ Begun ── its body ── finish ──▶ Ask ── the control core does it ──▶ HttpAnswer
//!             └─────────────────────────────┴───────▶ HttpAnswer: nothing to do
//! ```
//! What can be refused without the body is refused by [`begin`], so that a caller without the secret cannot make the server
//! hold one: unknown paths, methods, parameters, and signatures that are missing, stale, or of SHA-1 and wrong.
//!
//! `/send/?message_type=N&uid=U` is the interface of the README from before 0.01: it sends to the clients of a user, and the
//! answer says what they run on. Both spellings of the message type go with both.
//!
//! `/send/`, `/sub/` and `/unsub/` check the signature before they look at the method. Source: spec sections 5, 8, 10, 15
//! and 17. Called by the control core.

use std::borrow::Cow;

use http::{Method, StatusCode};

use super::number;
use super::sign::{Refusal, Signed};
use crate::engine::command::{AtDeadline, Qos};
use crate::engine::name::Name;
use crate::time::Duration;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::json::{self, Field};
use crate::wire::query;

/// Timeouts are cut to this many seconds, a day: nobody waits longer for an HTTP answer.
pub const TIMEOUT_MAX_S: u32 = 86_400;

/// `timeout` when the caller gives none, or none above 0; seconds.
pub const TIMEOUT_DEFAULT_S: u32 = 10;

/// What a path stands for. Paths match exactly, undecoded, their last slash included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/send/`
    Send,
    /// `/sub/`
    Sub,
    /// `/unsub/`
    Unsub,
    /// `/hello/`: peers probe it.
    Hello,
    /// `/serverinfo/`
    ServerInfo,
    /// `/updateconfig/`
    UpdateConfig,
}

impl Route {
    /// Labels for the metrics, in the order of the variants.
    pub const LABELS: [&'static str; 6] = ["send", "sub", "unsub", "hello", "serverinfo", "updateconfig"];

    /// The route of a path (without query), if it is one. `/connect/` is none: that is the door of clients.
    pub fn at(path: &[u8]) -> Option<Self> {
        Some(match path {
            b"/send/" => Route::Send,
            b"/sub/" => Route::Sub,
            b"/unsub/" => Route::Unsub,
            b"/hello/" => Route::Hello,
            b"/serverinfo/" => Route::ServerInfo,
            b"/updateconfig/" => Route::UpdateConfig,
            _ => return None,
        })
    }
}

/// One request, its body complete.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As sent.
    pub method: &'a Method,
    /// Without query, undecoded.
    pub path: &'a [u8],
    /// Without `?`.
    pub query: &'a [u8],
    /// Payload of `/send/`, JSON of `/sub/` and `/unsub/`.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// What its signature covers.
    pub fn signed(&self) -> Signed<'a> {
        Signed {
            method: self.method.as_str(),
            path: self.path,
            query: self.query,
            body: self.body,
        }
    }
}

/// What a caller wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Publish the body to a channel or to a user.
    Send(SendAsk),
    /// Put a client into a channel.
    Sub(SubAsk),
    /// Take a client out of a channel; the answer is always [`HttpAnswer::done`].
    Unsub(SubAsk),
    /// List the channels: JSON of this server if `local_only`, else a page of all servers.
    ServerInfo {
        /// Do not ask peers.
        local_only: bool,
    },
    /// Read the configuration again; the answer is always [`HttpAnswer::done`].
    UpdateConfig {
        /// Do not tell peers.
        local_only: bool,
    },
}

/// Parameters of `/send/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendAsk {
    /// A channel, or a user if `uid` came without `channel`: trimmed, not empty, UTF-8.
    pub to: Name,
    /// Type for the application, any number; see [`SendAsk::wire_type`].
    pub msgtype: i64,
    /// Guarantee.
    pub qos: Qos,
    /// 1..=[`TIMEOUT_MAX_S`] seconds; see [`schedule`].
    pub timeout_s: u32,
    /// Do not pass it to peers.
    pub local_only: bool,
}

impl SendAsk {
    /// The type as packets carry it. `None`: it does not fit. The original does not notice as long as the channel has no
    /// members; with members it fails or hangs, we answer [`HttpAnswer::bad_type`].
    pub fn wire_type(&self) -> Option<u16> {
        u16::try_from(self.msgtype).ok()
    }
}

/// Parameters of `/sub/` and `/unsub/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAsk {
    /// Whom; not checked, see [`crate::engine::ids::IdentityKey::client`].
    pub identity: String,
    /// Where, as given: not trimmed, not empty.
    pub channel: Name,
    /// Empty the channel first, on every server.
    pub occupy: bool,
    /// Do not pass it to peers.
    pub local_only: bool,
}

/// A request that was not refused by its head.
#[derive(Debug)]
pub enum Begun {
    /// Known as a whole: a body, if one comes, means nothing.
    Whole(Ask),
    /// Signed, known but for its payload.
    Send(SendAsk),
    /// Signed; the body says what to do.
    Body(Route),
    /// The signature covers the body.
    Unproven(Route),
}

impl Begun {
    /// Whether its body is needed.
    pub fn takes_body(&self) -> bool {
        !matches!(self, Begun::Whole(_))
    }

    /// Longest body worth receiving, where `most` is the longest one that is allowed.
    pub fn body_max(&self, most: usize) -> usize {
        match self {
            Begun::Whole(_) => 0,
            Begun::Send(_) | Begun::Unproven(Route::Send) => most,
            Begun::Body(_) | Begun::Unproven(_) => most.min(json::JSON_BYTES_MAX),
        }
    }

    /// Whether nobody knows yet who sends it.
    pub fn is_unproven(&self) -> bool {
        matches!(self, Begun::Unproven(_))
    }
}

/// What the head of a request says about its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good.
    Proven,
    /// It may be, the body will show.
    Unproven,
}

/// Reads the head of a request; `request.body` is not looked at. `verify` says whether its signature is good as far as the
/// head shows, and is asked at most once. `Err` is the answer when there is nothing to be done.
pub fn begin(request: &Request<'_>, verify: impl FnOnce() -> Result<Standing, Refusal>) -> Result<Begun, HttpAnswer> {
    let Some(route) = Route::at(request.path) else {
        return Err(HttpAnswer::page(StatusCode::NOT_FOUND));
    };
    let allowed = || HttpAnswer::not_allowed(allow(route));
    match route {
        _ if !is_known(request.method) => return Err(allowed()),
        Route::Send | Route::Sub | Route::Unsub => {
            let standing = verify().map_err(refused)?;
            return match (standing, request.method) {
                (Standing::Proven, _) => proven(route, request),
                (Standing::Unproven, &Method::POST) => Ok(Begun::Unproven(route)),
                (Standing::Unproven, &Method::GET | &Method::HEAD) if route == Route::Send => {
                    Ok(Begun::Unproven(route))
                }
                (Standing::Unproven, _) => Err(allowed()),
            };
        }
        _ => {}
    }
    let local_only = is_local_only(query::last(request.query, "cluster"));
    let ask = match (route, request.method) {
        (Route::UpdateConfig, &Method::GET) => Ask::UpdateConfig { local_only },
        (Route::UpdateConfig, _) => return Err(allowed()),
        (_, &Method::OPTIONS) => return Err(HttpAnswer::options(allow(route))),
        (Route::Hello, &Method::GET | &Method::HEAD) => return Err(HttpAnswer::ok("ok")),
        (Route::ServerInfo, &Method::GET | &Method::HEAD) => Ask::ServerInfo { local_only },
        _ => return Err(allowed()),
    };
    Ok(Begun::Whole(ask))
}

/// A signed route whose signature is good.
fn proven(route: Route, request: &Request<'_>) -> Result<Begun, HttpAnswer> {
    match (route, request.method) {
        (Route::Send, &Method::POST) => send(request.query).map(Begun::Send),
        (Route::Send, &Method::GET | &Method::HEAD) => Err(HttpAnswer::ok("ok")),
        (Route::Sub | Route::Unsub, &Method::POST) => Ok(Begun::Body(route)),
        _ => Err(HttpAnswer::not_allowed(allow(route))),
    }
}

/// Asks `verify` about a request whose signature covers the body, now that `request` has all of it.
pub fn prove(
    begun: Begun,
    request: &Request<'_>,
    verify: impl FnOnce(&Signed<'_>) -> Result<(), Refusal>,
) -> Result<Begun, HttpAnswer> {
    match begun {
        Begun::Unproven(route) => {
            verify(&request.signed()).map_err(refused)?;
            proven(route, request)
        }
        begun => Ok(begun),
    }
}

/// The rest of a request that was begun, now that its body is there; see [`prove`].
pub fn finish(
    begun: Begun,
    request: &Request<'_>,
    verify: impl FnOnce(&Signed<'_>) -> Result<(), Refusal>,
) -> Result<Ask, HttpAnswer> {
    match prove(begun, request, verify)? {
        Begun::Whole(ask) => Ok(ask),
        Begun::Send(ask) => Ok(Ask::Send(ask)),
        Begun::Body(route) | Begun::Unproven(route) => {
            let local_only = is_local_only(query::last(request.query, "cluster"));
            let ask = sub(request.body, local_only)?;
            Ok(if route == Route::Unsub {
                Ask::Unsub(ask)
            } else {
                Ask::Sub(ask)
            })
        }
    }
}

/// Reads a whole request at once. The control core takes both steps apart.
pub fn parse(
    request: &Request<'_>,
    verify: impl FnOnce(&Signed<'_>) -> Result<(), Refusal>,
) -> Result<Ask, HttpAnswer> {
    let begun = begin(request, || verify(&request.signed()).map(|()| Standing::Proven))?;
    finish(begun, request, |_| Ok(()))
}

/// The methods of a route, for `Allow`. `/updateconfig/` has no HEAD: it would reload.
const fn allow(route: Route) -> &'static str {
    match route {
        Route::UpdateConfig => "GET",
        Route::Send => "GET, HEAD, POST",
        Route::Sub | Route::Unsub => "POST",
        Route::Hello | Route::ServerInfo => HttpAnswer::READ_ONLY,
    }
}

/// Methods the original's framework dispatches; it answers any other before a handler runs.
fn is_known(method: &Method) -> bool {
    let known = [
        &Method::GET,
        &Method::HEAD,
        &Method::POST,
        &Method::DELETE,
        &Method::PATCH,
        &Method::PUT,
        &Method::OPTIONS,
    ];
    known.contains(&method)
}

fn refused(refusal: Refusal) -> HttpAnswer {
    match refusal {
        Refusal::Incomplete => HttpAnswer::page(StatusCode::BAD_REQUEST),
        Refusal::NotANumber => HttpAnswer::page(StatusCode::INTERNAL_SERVER_ERROR),
        Refusal::Wrong | Refusal::Astray | Refusal::Stale(_) | Refusal::Scheme => HttpAnswer::failed("signature error"),
        Refusal::Used => HttpAnswer::failed("signature used before"),
        Refusal::TooOld => HttpAnswer::failed("signature too old"),
        Refusal::NoRoom => HttpAnswer::failed("too many signatures"),
    }
}

/// Any `cluster` parameter that is not blank.
fn is_local_only(cluster: Option<Cow<'_, [u8]>>) -> bool {
    cluster.is_some_and(|value| query::text(value).is_none_or(|text| !text.is_empty()))
}

fn send(query: &[u8]) -> Result<SendAsk, HttpAnswer> {
    let names = ["channel", "uid", "msgtype", "message_type", "qos", "timeout", "cluster"];
    let [channel, uid, msgtype, message_type, qos, timeout, cluster] = query::lasts(query, names);
    let to = match (text(channel)?.unwrap_or_default(), uid) {
        (channel, _) if !channel.is_empty() => Name::channel(channel.as_bytes()),
        (_, uid) => match text(uid)?.unwrap_or_default() {
            uid if uid.is_empty() => return Err(HttpAnswer::failed("channel miss")),
            uid => Name::user(uid.as_bytes()),
        },
    };
    let msgtype = integer(msgtype.or(message_type), 1)?;
    let qos = match integer(qos, 2)? {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        2 => Qos::ExactlyOnce,
        _ => return Err(HttpAnswer::failed("qos level error")),
    };
    let timeout_s = match integer(timeout, i64::from(TIMEOUT_DEFAULT_S))? {
        ..=0 => TIMEOUT_DEFAULT_S,
        seconds => u32::try_from(seconds).unwrap_or(u32::MAX).min(TIMEOUT_MAX_S),
    };
    Ok(SendAsk {
        to,
        msgtype,
        qos,
        timeout_s,
        local_only: is_local_only(cluster),
    })
}

/// A parameter as text. Not UTF-8: 400.
fn text(value: Option<Cow<'_, [u8]>>) -> Result<Option<Cow<'_, str>>, HttpAnswer> {
    let bad = || HttpAnswer::page(StatusCode::BAD_REQUEST);
    value.map(|value| query::text(value).ok_or_else(bad)).transpose()
}

/// An integer parameter; an empty one is an error, not the default.
fn integer(value: Option<Cow<'_, [u8]>>, default: i64) -> Result<i64, HttpAnswer> {
    match text(value)? {
        Some(text) => number::int(&text).ok_or_else(HttpAnswer::server_error),
        None => Ok(default),
    }
}

fn sub(body: &[u8], local_only: bool) -> Result<SubAsk, HttpAnswer> {
    let names = ["identity", "channel", "occupy"];
    let [identity, channel, occupy] = json::fields(body, names).ok_or_else(HttpAnswer::server_error)?;
    // Texts only: the original also takes numbers, which then match no identity and no channel.
    match (identity, channel) {
        (Some(Field::Text(identity)), Some(Field::Text(channel))) if !identity.is_empty() && !channel.is_empty() => {
            let occupy = occupy.is_some_and(|occupy| occupy.is_truthy());
            Ok(SubAsk {
                identity,
                channel: Name::channel(channel.as_bytes()),
                occupy,
                local_only,
            })
        }
        _ => Err(HttpAnswer::failed("params error")),
    }
}

/// When a publish is repeated and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Repetitions after the first transmission, one every 3 s.
    pub retries: u32,
    /// From the publish to the latest answer.
    pub deadline: Duration,
    /// What silent members count as then.
    pub at_deadline: AtDeadline,
}

/// Spacing of QoS 1/2 retries (spec: section 8).
pub const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// Time between the first transmission and the end of the last retry of a publish: `retries + 1` intervals.
pub fn exhausted_after(retries: u32) -> Duration {
    RETRY_INTERVAL * (retries + 1)
}

/// The schedule of a timeout, cut to 1..=[`TIMEOUT_MAX_S`] seconds. Where the last retry runs out at the very deadline
/// (timeouts divisible by 3) the original races; we tell the count.
pub fn schedule(timeout_s: u32) -> Schedule {
    let timeout_s = timeout_s.clamp(1, TIMEOUT_MAX_S);
    let retries = (timeout_s - 1) / 3;
    let deadline = Duration::from_secs(u64::from(timeout_s));
    let both = exhausted_after(retries) == deadline;
    let at_deadline = if both { AtDeadline::Failed } else { AtDeadline::TimedOut };
    Schedule {
        retries,
        deadline,
        at_deadline,
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
