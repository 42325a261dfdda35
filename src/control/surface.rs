//! The HTTP interfaces this server offers, and which of them a path belongs to. A surface translates requests into what the
//! control core does, and what came of it into answers, nothing else.
//!
//! ```text
//!   head ── begin ──▶ Begun ── its body ── complete ──▶ Whole ── perform ──▶ HttpAnswer
//!             └──────────────────────────────┴─────────────────────────────▶ HttpAnswer: there is nothing to do
//! ```
//! | file | paths |
//! | --- | --- |
//! | `surface/rainbow.rs` | the API of rainbow-server |
//! | `surface/gateway.rs` | the API of the gateway, below `/v1/` |
//! | `../ops.rs` | what operators ask, and the pages of the demonstration |
//!
//! [`Place::at`] is the only place where a path is looked up: another door's API is one more variant here and one more file.
//! Callers: `http.rs`; the assembly names the metrics by [`ROUTES`].

mod gateway;
pub mod rainbow;

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;

use super::Control;
use super::callback::Builders;
use super::callers::Caller;
use super::ops;
use crate::config::Config;
use crate::engine::command::{CallbackOutcome, CallbackRequest};
use crate::engine::hook::Event;
#[cfg(feature = "application")]
use crate::engine::hook::HookDoor;
#[cfg(feature = "application")]
use crate::io::application::Asked;
use crate::protocol::gateway::events::HOOKS as HOOKS_OF_GATEWAY;
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;

/// A route of one of the surfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Rainbow(rainbow::Route),
    Gateway,
    Ops(ops::Route),
}

/// Labels of all routes in the metrics; the last is for paths nobody answers.
pub const ROUTES: [&str; GATEWAY + 2] = {
    let mut labels = ["not_found"; GATEWAY + 2];
    let mut at = 0;
    while at < labels.len() - 1 {
        labels[at] = if at < OPS {
            rainbow::Route::LABELS[at]
        } else if at < GATEWAY {
            ops::Route::LABELS[at - OPS]
        } else {
            gateway::LABEL
        };
        at += 1;
    }
    labels
};

/// Where the labels of `ops` begin.
const OPS: usize = rainbow::Route::LABELS.len();

/// Where the one label of the gateway is.
const GATEWAY: usize = OPS + ops::Route::LABELS.len();

impl Place {
    /// The API of a door is there when the door is on.
    fn at(path: &[u8], config: &Config) -> Option<Self> {
        let rainbow = rainbow::Route::at(path).filter(|_| config.rainbow);
        let ops = || ops::Route::at(path).map(Place::Ops);
        let gateway = || gateway::is_path(path, config).then_some(Place::Gateway);
        rainbow.map(Place::Rainbow).or_else(ops).or_else(gateway)
    }

    /// Its index in [`ROUTES`].
    fn label(self) -> usize {
        match self {
            Place::Rainbow(route) => route as usize,
            Place::Ops(route) => OPS + route as usize,
            Place::Gateway => GATEWAY,
        }
    }
}

/// A request whose head was let in.
pub enum Begun {
    /// Of the API of rainbow-server.
    Rainbow(rainbow::Begun),
    /// Of the API of the gateway.
    Gateway(gateway::Begun),
    /// Of an operator.
    Ops(ops::Ask),
}

impl Begun {
    /// Whether its body is needed.
    pub fn takes_body(&self) -> bool {
        match self {
            Begun::Rainbow(begun) => begun.takes_body(),
            Begun::Gateway(_) => true,
            Begun::Ops(_) => false,
        }
    }

    /// Longest body it may have.
    pub fn body_max(&self, config: &Config) -> usize {
        match self {
            Begun::Rainbow(begun) => begun.body_max(config),
            Begun::Gateway(begun) => begun.body_max(config),
            Begun::Ops(_) => 0,
        }
    }

    /// The answer where its body could not be received.
    pub fn refused(&self, status: StatusCode) -> HttpAnswer {
        match self {
            Begun::Gateway(begun) => begun.refused(status),
            Begun::Rainbow(_) | Begun::Ops(_) => HttpAnswer::page(status),
        }
    }

    /// Whether the SHA-256 of its body will be asked for.
    pub fn is_hashed(&self) -> bool {
        self.rainbow().is_some_and(|begun| begun.is_hashed)
    }

    /// Whether its signature covers the body, so that nobody knows yet who sends it.
    pub fn is_unproven(&self) -> bool {
        self.rainbow().is_some_and(rainbow::Begun::is_unproven)
    }

    fn rainbow(&self) -> Option<&rainbow::Begun> {
        match self {
            Begun::Rainbow(begun) => Some(begun),
            Begun::Gateway(_) | Begun::Ops(_) => None,
        }
    }
}

/// What the surfaces remember from one request to the next.
#[derive(Default)]
pub struct Memory {
    rainbow: rainbow::Memory,
    gateway: gateway::Memory,
}

impl Memory {
    /// Signatures that would be recognised as used before.
    pub fn signatures(&self) -> usize {
        self.rainbow.replays.borrow().len()
    }

    /// The gateway's.
    fn gateway(&self) -> &gateway::Memory {
        &self.gateway
    }

    /// Whether something is being done that nobody waits for.
    pub fn is_busy(&self) -> bool {
        self.gateway.is_busy()
    }
}

/// A body that was received, with its SHA-256 if that was asked for.
#[derive(Default)]
pub struct Received {
    /// The body.
    pub bytes: Vec<u8>,
    /// Of all of it.
    pub sha256: Option<[u8; 32]>,
}

/// What the callbacks of all doors look like, in the order of the doors' numbers.
pub fn builders(config: &Arc<Config>) -> Builders {
    vec![
        Rc::new(rainbow::callback::Requests::new(config.clone())),
        Rc::new(gateway::callback::Requests::new(config.clone())),
    ]
}

/// A callback has ended: what that means to its door.
pub fn completed(control: &Rc<Control>, request: &CallbackRequest, outcome: CallbackOutcome) {
    if request.hook.door == HOOKS_OF_GATEWAY {
        gateway::actions::completed(control, request, outcome);
    } else if request.hook.event != Event::Close {
        control.callback_done(request.client, request.token, outcome);
    }
    // The session of one that is gone waits for nothing.
}

/// The door whose events code of this process may handle.
#[cfg(feature = "application")]
pub const HANDLED_HERE: HookDoor = crate::protocol::gateway::events::HOOKS;

/// Carries out what code of this process asks for.
#[cfg(feature = "application")]
pub fn answer(control: &Rc<Control>, asked: Asked) {
    let control = control.clone();
    monoio::spawn(async move {
        let outcome = gateway::perform(&control, &asked.request).await;
        // Whoever asked may have gone.
        let _ = asked.answer.send(outcome);
    });
}

/// Takes the head of a request; `Err` is its answer, if no body is needed for it.
pub fn begin(control: &Rc<Control>, head: &RequestHead, caller: &Caller) -> Result<Begun, HttpAnswer> {
    let begun = match (ops::asset(control, head), Place::at(head.path(), &control.config())) {
        (Some(asset), _) => Err(asset),
        (None, Some(Place::Rainbow(_))) => rainbow::begin(control, head, caller).map(Begun::Rainbow),
        (None, Some(Place::Gateway)) => gateway::begin(control, head, caller).map(Begun::Gateway),
        (None, Some(Place::Ops(route))) => ops::begin(control, route, head, caller).map(Begun::Ops),
        (None, None) => Err(HttpAnswer::page(StatusCode::NOT_FOUND)),
    };
    begun.inspect_err(|answer| count(control, head, answer))
}

/// A call that is known as a whole, and only has to be carried out.
pub struct Whole {
    /// Index in [`ROUTES`].
    label: usize,
    call: Call,
}

enum Call {
    Rainbow(rainbow::Whole),
    Gateway(gateway::Whole),
    Ops(ops::Ask),
}

impl Whole {
    /// Whether the next calls of the same connection may begin before this one is answered. It may if all it does it does in
    /// its first step, by one message to one core, and only waits after that.
    pub fn may_overlap(&self) -> bool {
        match &self.call {
            Call::Rainbow(whole) => whole.may_overlap(),
            Call::Gateway(whole) => whole.may_overlap(),
            Call::Ops(_) => false,
        }
    }
}

/// Takes a request whose body is complete; `Err` is its answer if there is nothing to do.
pub fn complete(
    control: &Control,
    head: &RequestHead,
    begun: Begun,
    body: Received,
    caller: &Caller,
) -> Result<Whole, HttpAnswer> {
    let call = match begun {
        Begun::Rainbow(begun) => rainbow::complete(control, head, begun, body, caller).map(Call::Rainbow),
        Begun::Gateway(_) => gateway::complete(control, head, &body).map(Call::Gateway),
        Begun::Ops(ask) => Ok(Call::Ops(ask)),
    };
    let call = call.inspect_err(|answer| count(control, head, answer))?;
    let label = label_of(control, head);
    Ok(Whole { label, call })
}

/// Carries out a call, and answers it.
pub async fn perform(control: Rc<Control>, whole: Whole) -> HttpAnswer {
    let answer = match whole.call {
        Call::Rainbow(call) => rainbow::perform(&control, call).await,
        Call::Gateway(call) => gateway::respond(&control, call).await,
        Call::Ops(ask) => ops::respond(&control, ask),
    };
    control.own_metrics().count_api(whole.label, answer.status.as_u16());
    answer
}

fn count(control: &Control, head: &RequestHead, answer: &HttpAnswer) {
    control
        .own_metrics()
        .count_api(label_of(control, head), answer.status.as_u16());
}

fn label_of(control: &Control, head: &RequestHead) -> usize {
    Place::at(head.path(), &control.config()).map_or(ROUTES.len() - 1, Place::label)
}

/// Whether the head of a request that has not been begun could be that of a signed call: who fakes it has to know the secret,
/// or has to send a body that is measured by it.
pub fn seems_signed(control: &Control, head: &RequestHead) -> bool {
    match Place::at(head.path(), &control.config()) {
        Some(Place::Rainbow(route)) => rainbow::seems_signed(control, route, head),
        Some(Place::Gateway) => gateway::names_token(control, head),
        Some(Place::Ops(_)) | None => false,
    }
}

/// Lets in a call that needs no signature: with `api_open = no` only from this machine, or signed. Says whether it is signed.
pub fn guard(control: &Control, head: &RequestHead, caller: &Caller) -> Result<bool, HttpAnswer> {
    let is_signed = control.config().rainbow && rainbow::is_signed(control, head, caller);
    if control.config().api_open || is_signed || caller.is_local() {
        Ok(is_signed)
    } else {
        Err(HttpAnswer::page(StatusCode::FORBIDDEN))
    }
}

/// Whether another server passes on what was asked of it.
pub fn is_passed_on(head: &RequestHead) -> bool {
    rainbow::is_passed_on(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::engine::hook::HookDoor;
    use crate::protocol;

    #[test]
    fn every_door_has_the_builder_of_its_number() {
        let builders = builders(&Arc::new(Config::demo(1, &Overrides::default())));
        let kind = |door: HookDoor| builders[usize::from(door.0)].kind(Event::Close);
        assert_eq!(kind(protocol::rainbow::callback::HOOKS), "close");
        assert_eq!(kind(protocol::gateway::events::HOOKS), "gateway_close");
    }

    #[test]
    fn every_route_has_its_label() {
        let config = Config::demo(1, &Overrides::default());
        let label = |path: &str| Place::at(path.as_bytes(), &config).map(|place| ROUTES[place.label()]);
        for path in [
            "/send/",
            "/sub/",
            "/unsub/",
            "/hello/",
            "/serverinfo/",
            "/updateconfig/",
        ] {
            assert_eq!(label(path), Some(path.trim_matches('/')), "{path}");
        }
        assert_eq!(label("/metrics"), Some("metrics"));
        assert_eq!(label("/healthz"), Some("healthz"));
        assert_eq!(label("/connect/"), None, "the door of clients");
        assert_eq!(ROUTES[ROUTES.len() - 1], "not_found");
        let off = Config {
            rainbow: false,
            ..config.clone()
        };
        assert_eq!(
            (Place::at(b"/send/", &off), Place::at(b"/metrics", &off).is_some()),
            (None, true)
        );
    }
}
