//! What the backend answers to events: mentioned where it is wrong, and its actions, carried out in order before the next event of the client is sent.
//!
//! ```text
//!   connect: answer ─▶ CallbackDone: the client is in ─▶ actions ─▶ CallbackDone (ADMISSION) ─▶ its first message
//!   message: answer ─▶ actions ─▶ CallbackDone ─▶ its next message, or its close event
//!   close:   answer ─▶ actions; nobody waits
//! ```
//! Each action is done when the next begins, and what is refused does not stop those that follow. A client whose actions are
//! carried out holds nobody up but itself. Bound: one answer per client, of at most `ITEMS_MAX` actions; close events as many
//! as their lane has places.

use std::rc::Rc;

use bytes::Bytes;

use super::perform;
use crate::control::Control;
use crate::control::callback::{Fault, Trouble};
use crate::engine::command::{CallbackOutcome, CallbackReply, CallbackRequest};
use crate::engine::hook::Event;
use crate::engine::ids::ClientId;
use crate::protocol::gateway::answers::{self, Heard};
use crate::protocol::gateway::api::{ClientText, Request};
use crate::protocol::gateway::events::HOOKS;
use crate::protocol::gateway::session;

/// How many answers are being acted on.
#[derive(Debug, Default)]
pub struct Acting(Rc<()>);

impl Acting {
    /// One more, until what is returned is dropped.
    fn begin(&self) -> Rc<()> {
        self.0.clone()
    }

    /// Whether there is one.
    pub fn is_busy(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

/// An event of this door has been answered, or not.
pub fn completed(control: &Rc<Control>, request: &CallbackRequest, outcome: CallbackOutcome) {
    let event = Answered {
        client: request.client,
        token: request.token,
        event: request.hook.event,
    };
    let session_max = control.config().gateway.session_max;
    let Heard { actions, wrong } = match &outcome {
        CallbackOutcome::Answered(reply) => answers::heard(event.event, reply, id(control, event.client), session_max),
        CallbackOutcome::Failed(_) => Heard::default(),
    };
    if wrong.is_some() {
        let fault = Fault {
            trouble: Trouble::BadAnswer,
            detail: wrong,
        };
        control.callbacks.complain(request, fault);
    }
    match (event.event, actions.is_empty()) {
        (Event::Close, true) => {}
        (Event::Connect | Event::Message, true) => control.callback_done(event.client, event.token, outcome),
        (Event::Connect, false) => {
            control.callback_done(event.client, event.token, outcome);
            carry_out(control, event, actions, Some((session::ADMISSION, done())));
        }
        (Event::Message, false) => carry_out(control, event, actions, Some((event.token, outcome))),
        (Event::Close, false) => carry_out(control, event, actions, None),
    }
}

/// An event with an answer.
#[derive(Clone, Copy)]
struct Answered {
    client: ClientId,
    token: u64,
    event: Event,
}

impl Answered {
    /// What it was a callback for, without its content.
    fn request(self) -> CallbackRequest {
        CallbackRequest {
            client: self.client,
            token: self.token,
            hook: HOOKS.on(self.event),
            msgtype: 0,
            query: Bytes::new(),
            headers: Bytes::new(),
            body: Bytes::new(),
            address: 0,
        }
    }
}

/// Does it all, then tells the client's session.
fn carry_out(control: &Rc<Control>, event: Answered, actions: Vec<Request>, then: Option<(u64, CallbackOutcome)>) {
    let control = control.clone();
    let acting = control.surfaces.gateway().acting.begin();
    monoio::spawn(async move {
        for action in &actions {
            if let Err(error) = perform(&control, action).await {
                let fault = Fault {
                    trouble: Trouble::ActionRefused,
                    detail: Some(error.to_string()),
                };
                control.callbacks.complain(&event.request(), fault);
            }
        }
        if let Some((token, outcome)) = then {
            control.callback_done(event.client, token, outcome);
        }
        drop(acting);
    });
}

fn id(control: &Control, client: ClientId) -> ClientText {
    ClientText(control.identities.short().id(client))
}

/// Whatever it was, it is over.
fn done() -> CallbackOutcome {
    CallbackOutcome::Answered(CallbackReply {
        status: 200,
        headers: Vec::new(),
        body: Bytes::new(),
    })
}
