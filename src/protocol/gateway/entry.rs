//! How a client comes in. Any request that can be upgraded and has one of the paths is a client's; whatever else comes to
//! this port is told what it is.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;

use super::session::Session;
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::CallbackOutcome;
use crate::protocol::{Actions, Context, DoorPolicy, Entry, Refused};
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::ws::upgrade;

/// What a request is told that is not a client's.
const NO_WEBSOCKET: &str = "This port takes websocket clients only; the HTTP interface is on another port.\n";
/// What a client of another path is told.
const NO_PATH: &str = "No websocket clients are taken on this path.\n";

/// How its connections are treated.
pub(crate) fn policy(config: &Config) -> DoorPolicy {
    let gateway = &config.gateway;
    DoorPolicy {
        message_max: gateway.message_max,
        ping_interval: gateway.ping_interval,
        ping_timeout: gateway.ping_timeout,
        idle_timeout: gateway.idle_timeout,
        ..DoorPolicy::of(config)
    }
}

/// Looks at the request of a client.
pub(crate) fn knock(
    context: Context<'_>,
    head: &RequestHead,
    _address: Option<SocketAddr>,
    out: &mut Actions,
) -> Entry<Session> {
    if let Err(reason) = upgrade::check(&head.headers) {
        return Entry::Answer(refused(not_upgraded(reason)));
    }
    if head.method != http::Method::GET {
        return Entry::Answer(refused(HttpAnswer::not_allowed("GET")));
    }
    let paths = &context.config.gateway.paths;
    if !paths.is_empty() && !paths.iter().any(|path| path.as_bytes() == head.path()) {
        return Entry::Answer(refused(text(StatusCode::NOT_FOUND, NO_PATH)));
    }
    Entry::Admit(Session::admitted(out))
}

/// Nobody is asked yet, so nobody answers.
pub(crate) fn answered(
    _context: Context<'_>,
    _keep: Bytes,
    _outcome: &CallbackOutcome,
    _out: &mut Actions,
) -> Result<Session, Refused> {
    Err(Refused {
        answer: HttpAnswer::overloaded(),
        cause: CloseCause::AuthUnavailable,
    })
}

/// A request that wants to be a websocket is told what it lacks; any other what this port is.
fn not_upgraded(reason: upgrade::NoUpgrade) -> HttpAnswer {
    match reason {
        upgrade::NoUpgrade::Protocol => text(StatusCode::BAD_REQUEST, NO_WEBSOCKET),
        _ => reason.answer(),
    }
}

fn text(status: StatusCode, sentence: &'static str) -> HttpAnswer {
    HttpAnswer {
        content_type: "text/plain; charset=UTF-8",
        ..HttpAnswer::new(status, sentence)
    }
}

fn refused(answer: HttpAnswer) -> Refused {
    Refused {
        answer,
        cause: CloseCause::Refused,
    }
}
