//! How a client comes in: what the request is answered or the business asked, and what the business's answer makes of it.
//!
//! The upgrade is looked at only after the business has answered: business servers count such attempts. Whoever is refused
//! for something an operator can change is mentioned to him. Source: spec section 3. Called by `protocol/door.rs`.

use bytes::Bytes;

use super::admission::{Admission, UID_BYTES_MAX, User, admission};
use super::callback::HOOKS;
use super::connect::{self, Refusal};
use super::session::Session;
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::{CallbackFailure, CallbackOutcome};
use crate::engine::hook::Event;
use crate::metrics::Metric;
use crate::protocol::{Action, Actions, Context, Entry, Note, Question, Refused};
use crate::wire::http1::RequestHead;

/// The path clients connect to.
pub const PATH: &[u8] = b"/connect/";

/// Looks at the request of a client.
pub(crate) fn knock(context: Context<'_>, head: &RequestHead, out: &mut Actions) -> Entry<Session> {
    let identity = context
        .identities
        .identity(context.client, &context.identities.check(context.client));
    match connect::ask(head, &identity, context.config) {
        Ok(asked) => {
            out.steps.extend(asked.withheld.map(withheld).map(Action::Note));
            Entry::Ask(Question {
                hook: HOOKS.on(Event::Connect),
                query: asked.query,
                headers: asked.headers,
                body: Bytes::new(),
                keep: asked.platform,
            })
        }
        Err(refusal) => {
            out.steps.extend(note(refusal).map(Action::Note));
            Entry::Answer(refused(refusal, CloseCause::Refused))
        }
    }
}

/// Reads the answer to the question; `platform` is what the client runs on.
pub(crate) fn answered(
    context: Context<'_>,
    platform: Bytes,
    outcome: &CallbackOutcome,
    out: &mut Actions,
) -> Result<Session, Refused> {
    match admission(outcome) {
        Admission::Admitted(mut effects) => {
            let mut session = Session::new(context);
            let user = effects.user.take();
            out.steps.extend(user.map(|user| match user {
                User::Named(name) => Action::Bind { name, platform },
                User::TooLong { bytes } => Action::Note(nobody(bytes)),
            }));
            session.apply(effects, out);
            Ok(session)
        }
        Admission::Denied => Err(refused(Refusal::Unauthorized, CloseCause::Denied)),
        Admission::Unavailable => {
            let refusal = match outcome {
                CallbackOutcome::Failed(CallbackFailure::Overloaded) => Refusal::Overloaded,
                _ => Refusal::Unavailable,
            };
            Err(refused(refusal, CloseCause::AuthUnavailable))
        }
    }
}

fn refused(refusal: Refusal, cause: CloseCause) -> Refused {
    Refused {
        answer: refusal.answer(),
        cause,
    }
}

/// What the operator is told about a request that was refused before anybody was asked about it.
fn note(refusal: Refusal) -> Option<Note> {
    let (metric, say): (_, fn(&str, u64, &Config)) = match refusal {
        Refusal::Anonymous => (Metric::RefusedAnonymous, say_anonymous),
        Refusal::TooLong => (Metric::RefusedHead, say_too_long),
        _ => return None,
    };
    Some(Note {
        metric,
        detail: String::new(),
        say,
    })
}

/// A client used a name for a query parameter that it may not claim as a header.
fn withheld(parameter: String) -> Note {
    Note {
        metric: Metric::ParametersWithheld,
        detail: parameter,
        say: say_withheld,
    }
}

/// The backend named a user by too long a text.
fn nobody(bytes: usize) -> Note {
    Note {
        metric: Metric::UsersTooLong,
        detail: bytes.to_string(),
        say: say_nobody,
    }
}

fn say_nobody(bytes: &str, more: u64, _: &Config) {
    tracing::warn!(
        bytes,
        more,
        max = UID_BYTES_MAX,
        "the uid of a connect answer is too long, the client belongs to nobody; answer with a shorter one"
    );
}

fn say_anonymous(_: &str, more: u64, _: &Config) {
    tracing::warn!(
        status = 401,
        more,
        "a client names no device id or platform: it must send X-DEVICEID and X-CLIENT-OS, as headers or, spelled exactly so, \
         as query parameters"
    );
}

fn say_too_long(_: &str, more: u64, config: &Config) {
    tracing::warn!(
        status = 431,
        more,
        connect_head_max = config.connect_head_max,
        "a client's query and headers are too long to ask connect_url about it: if the backend takes more, raise \
         connect_head_max"
    );
}

fn say_withheld(parameter: &str, more: u64, _: &Config) {
    tracing::warn!(
        parameter,
        more,
        "a query parameter was not made a header for connect_url, only passed in the query: if clients may set this header, \
         list it in query_headers"
    );
}
