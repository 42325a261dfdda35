//! How a client comes in. Any request for one of the paths that can be upgraded is a client's; another one for such a path is
//! told what this port is. Whoever there is no id for is told to come back later.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;

use super::answers::{self, Admitted, Verdict};
use super::events::{self, Asking, HOOKS};
use super::session::{Session, client_text, text};
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::CallbackOutcome;
use crate::engine::hook::Event;
use crate::protocol::words::framed;
use crate::protocol::{Actions, Context, DoorPolicy, Entry, Question, Refused};
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::ws;
use crate::wire::ws::upgrade;

/// What a request is told that is not a client's.
const NO_WEBSOCKET: &str = "This port takes websocket clients only; the HTTP interface is on another port.\n";

/// How its connections are treated.
pub(crate) fn policy(config: &Config) -> DoorPolicy {
    let (gateway, policy) = (&config.gateway, DoorPolicy::of(config));
    let ping = match gateway.ping_data.as_bytes() {
        b"" => policy.ping.clone(),
        text => framed(ws::Opcode::Text, text),
    };
    DoorPolicy {
        ping,
        message_max: gateway.message_max,
        ping_interval: gateway.ping_interval,
        ping_timeout: gateway.ping_timeout,
        idle_timeout: gateway.idle_timeout,
        wants_address: events::is_told(gateway, Event::Connect),
        ..policy
    }
}

/// Whether clients may come by this path.
pub(crate) fn serves(path: &[u8], config: &Config) -> bool {
    let paths = &config.gateway.paths;
    paths.is_empty() || paths.iter().any(|own| own.as_bytes() == path)
}

/// Looks at the request of a client.
pub(crate) fn knock(
    context: Context<'_>,
    head: &RequestHead,
    address: Option<SocketAddr>,
    out: &mut Actions,
) -> Entry<Session> {
    if let Err(reason) = upgrade::check(&head.headers) {
        return Entry::Answer(refused(not_upgraded(reason)));
    }
    if head.method != http::Method::GET {
        return Entry::Answer(refused(HttpAnswer::not_allowed("GET")));
    }
    if !context.identities.short().has_room(context.client) {
        return Entry::Answer(refused(HttpAnswer::overloaded()));
    }
    if !events::is_told(&context.config.gateway, Event::Connect) {
        let session = Session::admitted(context, Admitted::default(), out);
        return session.map_or_else(|_| Entry::Answer(refused(HttpAnswer::overloaded())), Entry::Admit);
    }
    let id = client_text(context);
    let asking = Asking {
        client_id: text(&id),
        address,
        head,
        node: context.identities.node().0,
    };
    Entry::Ask(Question {
        hook: HOOKS.on(Event::Connect),
        query: Bytes::new(),
        headers: Bytes::new(),
        body: asking.body().into(),
        keep: Bytes::new(),
    })
}

/// Reads the answer to the question.
pub(crate) fn answered(context: Context<'_>, outcome: &CallbackOutcome, out: &mut Actions) -> Result<Session, Refused> {
    match answers::verdict(outcome, client_text(context)) {
        Verdict::Admitted(admitted) => Session::admitted(context, admitted, out).map_err(|_| unavailable()),
        Verdict::Denied(status, reason) => Err(Refused {
            answer: plain(status, denied(status, reason)),
            cause: CloseCause::Denied,
        }),
        Verdict::Unavailable => Err(unavailable()),
    }
}

/// Nobody has decided, or there is no room for what was decided.
fn unavailable() -> Refused {
    Refused {
        answer: HttpAnswer::overloaded(),
        cause: CloseCause::AuthUnavailable,
    }
}

/// What a client is told that the backend does not want.
fn denied(status: StatusCode, reason: String) -> String {
    match reason.is_empty() {
        true => format!("{}\n", status.canonical_reason().unwrap_or("Refused")),
        false => reason,
    }
}

/// A request that wants to be a websocket is told what it lacks; any other what this port is.
fn not_upgraded(reason: upgrade::NoUpgrade) -> HttpAnswer {
    match reason {
        upgrade::NoUpgrade::Protocol => plain(StatusCode::BAD_REQUEST, NO_WEBSOCKET),
        _ => reason.answer(),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> HttpAnswer {
    HttpAnswer {
        content_type: "text/plain; charset=UTF-8",
        ..HttpAnswer::new(status, body)
    }
}

fn refused(answer: HttpAnswer) -> Refused {
    Refused {
        answer,
        cause: CloseCause::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::engine::ids::{ClientId, IdentityKey, ShardId};
    use crate::engine::registry::Members;
    use crate::protocol::gateway::names;
    use crate::protocol::{Action, Names};
    use crate::time::Instant;
    use crate::wire::http1::parse_request;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_client_needs_an_id() {
        let config = Config::demo(1, &Overrides::default());
        let (identities, members) = (IdentityKey::new(1, [2; 32]), Members::new(1));
        let head = parse_request(HEAD, HEAD.len()).unwrap().unwrap();
        let knock = |slot| {
            let client = ClientId {
                shard: ShardId(0),
                slot,
                generation: 0,
            };
            let context = Context {
                client,
                identities: &identities,
                config: &config,
                now: Instant::ZERO,
                names: Names::of(&members, slot),
            };
            let mut out = Actions::default();
            (super::knock(context, &head, None, &mut out), out.steps)
        };
        let (entry, steps) = knock((1 << 20) - 1);
        assert!(matches!((entry, &steps[..]), (Entry::Admit(_), [Action::Join(name)]) if *name == names::everybody()));
        let (entry, steps) = knock(1 << 20);
        assert!(matches!(entry, Entry::Answer(refused) if refused.answer == HttpAnswer::overloaded()));
        assert!(steps.is_empty());
    }
}
