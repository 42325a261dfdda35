//! What the events of this door look like on the wire, and what operators are told about their answers. The bodies come from
//! the sessions (`protocol::gateway::events`); each attempt gets the time and a signature of its own.

use std::rc::Rc;
use std::sync::Arc;

use http::Method;

use crate::config::Config;
use crate::control::callback::{Builder, Fault, Target, Trouble};
use crate::engine::command::{CallbackOutcome, CallbackRequest};
use crate::engine::hook::Event;
use crate::io::http::{Origin, Request};
use crate::protocol::gateway::{answers, events};

/// Builds requests from the configuration in force.
pub struct Requests {
    config: Arc<Config>,
    /// By event.
    targets: [Option<Target>; Event::ALL.len()],
}

impl Requests {
    /// For one configuration.
    pub fn new(config: Arc<Config>) -> Self {
        let target = |event| events::url(&config.gateway, event).map(Target::new);
        Self {
            targets: Event::ALL.map(target),
            config,
        }
    }

    /// `None`: there is no such URL, any more.
    fn target(&self, event: Event) -> Option<&Target> {
        self.targets[event as usize].as_ref()
    }
}

impl Builder for Requests {
    fn is_used(&self) -> bool {
        self.config.gateway.on
    }

    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        Some(self.target(request.hook.event)?.origin.clone())
    }

    fn build(&self, request: &CallbackRequest, unix_seconds: u64, _nonce: u64) -> Option<Request> {
        let event = request.hook.event;
        let target = self.target(event)?;
        let secret = self.config.gateway.secret.expose().as_bytes();
        Some(Request {
            url: target.at(target.url.request_target(None, "")),
            method: Method::POST,
            headers: events::headers(event, &request.body, secret, unix_seconds).into(),
            content_type: events::CONTENT_TYPE,
            body: request.body.clone(),
        })
    }

    fn neutral(&self, event: Event) -> Option<Request> {
        Some(self.target(event)?.neutral())
    }

    fn fault(&self, event: Event, outcome: &CallbackOutcome) -> Option<Fault> {
        match outcome {
            // What it says is looked at once it is known that it is the last attempt (`actions.rs`).
            CallbackOutcome::Answered(reply) if reply.is_success() => None,
            // A client is not wanted: nothing is wrong with the backend.
            CallbackOutcome::Answered(reply) if event == Event::Connect && answers::refuses(reply.status) => None,
            _ => Trouble::of(outcome).map(Fault::from),
        }
    }

    fn kind(&self, event: Event) -> &'static str {
        match event {
            Event::Connect => "gateway_connect",
            Event::Message => "gateway_message",
            Event::Close => "gateway_close",
        }
    }

    fn advice(&self, event: Event, trouble: Trouble) -> Option<&'static str> {
        advice(event, trouble)
    }
}

/// What this door says about a trouble in words of its own.
fn advice(event: Event, trouble: Trouble) -> Option<&'static str> {
    Some(match (trouble, event) {
        (Trouble::Forbidden, _) => {
            "most likely it does not accept the signature: compare secret of [gateway] on both sides, and the clocks; or it \
             wants a login: give the URL credentials, or exempt it (in Django also from CSRF)"
        }
        (Trouble::NotFound, _) => "the path of url (or of the event's own) is wrong, or takes no POST",
        (Trouble::ClientError | Trouble::ServerError, Event::Connect) => {
            "see its log; the client was answered 503. To refuse one answer 401, 403 or {\"allow\": false}"
        }
        (Trouble::ClientError | Trouble::ServerError, Event::Message) => {
            "see its log; the message was not handled, and is not sent again"
        }
        (Trouble::BadAnswer, Event::Connect) => {
            "answer nothing, or the fields of docs/gateway.md; what cannot be read admits nobody"
        }
        (Trouble::BadAnswer, _) => "answer nothing, or {\"actions\": [{\"fn\": …, \"args\": {…}}]} (docs/gateway.md)",
        (Trouble::ActionRefused, _) => "the others were carried out; see docs/gateway.md for what a function takes",
        (Trouble::QueueFull | Trouble::Expired, Event::Message) => {
            "messages are lost; the backend is too slow, or callback_concurrency too low"
        }
        _ => return None,
    })
}
