//! Events that go to code of this process in the place of a backend: the [`Builder`] of a door whose events are handled here.
//!
//! ```text
//!   lane ── call ──▶ Handlers::begin ──▶ a side thread ── ControlMail::Handled ──▶ on_handled ──▶ the lane goes on
//! ```
//! Everything else is as with a backend: lanes bound how many events are in flight and waiting, `callback_timeout` is the
//! deadline. A handler that overstays it holds its place until it has really ended, so that events of one client never overlap;
//! it ends at its next await. What a handler does is no reason to ask less (no breaker). A panic closes the client.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::callback::{Builder, Builders, Fault, Pending, Trouble};
use super::wait::Callers;
use super::{Control, surface};
use crate::close::CloseCause;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackReply, CallbackRequest, CloseOrder, Command};
use crate::engine::desk::Caller;
use crate::engine::hook::Event;
use crate::engine::ids::{ClientId, Ticket};
use crate::io::application::{End, Handled, Handlers, Told};
use crate::io::http::{Origin, Request};

/// Handlers of this process, if there are any.
pub struct Local(Option<Rc<Inner>>);

struct Inner {
    handlers: Box<dyn Handlers>,
    /// Who waits for the end of one.
    calls: Callers<End>,
    /// Stands for a server in the lanes and in the log.
    origin: Rc<Origin>,
}

impl Local {
    /// With these handlers.
    pub fn new(handlers: Option<Box<dyn Handlers>>) -> Self {
        let origin = || Origin {
            tls: false,
            host: "application".into(),
            port: 0,
            authority: "application".into(),
        };
        let inner = handlers.map(|handlers| Inner {
            handlers,
            calls: Callers::default(),
            origin: Rc::new(origin()),
        });
        Self(inner.map(Rc::new))
    }

    /// The builders, of which one gives its place to the handlers.
    pub fn in_place(&self, mut builders: Builders) -> Builders {
        let place = builders.get_mut(usize::from(surface::HANDLED_HERE.0));
        if let (Some(local), Some(place)) = (&self.0, place) {
            *place = Rc::new(Here {
                local: local.clone(),
                there: place.clone(),
            });
        }
        builders
    }
}

/// The builder of events that are handled here.
struct Here {
    local: Rc<Inner>,
    /// The one whose place it has.
    there: Rc<dyn Builder>,
}

impl Builder for Here {
    fn origin(&self, _request: &CallbackRequest) -> Option<Rc<Origin>> {
        Some(self.local.origin.clone())
    }

    fn build(&self, _request: &CallbackRequest, _unix_seconds: u64, _nonce: u64) -> Option<Request> {
        None
    }

    fn here(&self, request: &CallbackRequest, deadline: Instant) -> Option<Pending> {
        let (wait, event) = (self.local.calls.open(), request.hook.event);
        self.local.handlers.begin(Told {
            number: wait.caller.0,
            request: request.clone(),
            deadline,
        });
        Some(Box::pin(async move { outcome(event, wait.await) }))
    }

    fn fault(&self, _event: Event, outcome: &CallbackOutcome) -> Option<Fault> {
        // A panic has its line already.
        let is_panic = matches!(outcome, CallbackOutcome::Failed(CallbackFailure::Dropped));
        Trouble::of(outcome).filter(|_| !is_panic).map(Fault::from)
    }

    fn advice(&self, event: Event, trouble: Trouble) -> Option<&'static str> {
        let what_follows = match event {
            Event::Connect => "its client is answered 503",
            Event::Message => {
                "the next message of its client goes on; allow more with callback_timeout, or callback_concurrency"
            }
            Event::Close => "nothing more is told of its client",
        };
        matches!(trouble, Trouble::TimedOut | Trouble::Expired | Trouble::QueueFull).then_some(what_follows)
    }

    fn kind(&self, event: Event) -> &'static str {
        self.there.kind(event)
    }
}

/// In the words of a backend. Nobody asks for a close event: it has been heard however its handler ended.
fn outcome(event: Event, end: End) -> CallbackOutcome {
    let body = match end {
        End::Answered(body) => body,
        End::TimedOut | End::Panicked if event == Event::Close => Bytes::new(),
        End::TimedOut => return CallbackOutcome::Failed(CallbackFailure::TimedOut),
        End::Panicked => return CallbackOutcome::Failed(CallbackFailure::Dropped),
    };
    CallbackOutcome::Answered(CallbackReply {
        status: 200,
        headers: Vec::new(),
        body,
    })
}

impl Control {
    /// A handler has ended.
    pub(super) fn on_handled(&self, handled: Handled) {
        let Handled {
            number,
            client,
            event,
            end,
        } = handled;
        let slot = client.slot;
        match end {
            End::Answered(_) => {}
            End::TimedOut => tracing::warn!(event = event.label(), slot, "a handler took too long and was ended"),
            End::Panicked => tracing::error!(event = event.label(), slot, "a handler panicked, its client is closed"),
        }
        if matches!(end, End::Panicked) && event == Event::Message {
            self.close_panicked(client);
        }
        if let Some(local) = &self.local.0 {
            local.calls.answer(Caller(number), end);
        }
    }

    /// Comes to the shard before the end of the event does, so no other event is handled between.
    fn close_panicked(&self, client: ClientId) {
        let order = CloseOrder::new(CloseCause::Panicked);
        let ticket = Ticket::NOBODY;
        self.post(
            client.shard,
            Command::Close {
                client,
                order: Box::new(order),
                ticket,
            },
        );
    }
}
