//! One client of the gateway. What it says is opaque, and so is what it is sent: a message is one frame, text or binary as
//! whoever sends it says ([`Publish`]'s tag is the opcode). Nothing is acknowledged.
//!
//! ```text
//!   admitted ──▶ actions of the connect event ──▶ message ──▶ its actions ──▶ message ──▶ … ──▶ close, once
//! ```
//! The backend is told of one event at a time, and of the next when what it answered has been done. Bound: `forward_queue`
//! messages or `forward_queue_bytes`; beyond it the client is not read. A message whose event fails is lost, and counted.

use bytes::Bytes;

use super::answers::Admitted;
use super::api::ClientText;
use super::data::Data;
use super::events::{self, Gone, HOOKS, Parts, Saying};
use super::names::{self, GROUP, UID};
use crate::budget::{self, Use};
use crate::close::{CloseCause, CloseFrame};
use crate::config::Config;
use crate::engine::command::{CallbackRequest, Edit, Publish, Why};
use crate::engine::hook::Event;
use crate::engine::name::Name;
use crate::protocol::serial::Serial;
use crate::protocol::{Action, Actions, Context, Ending};
use crate::time::{Duration, Instant};
use crate::wire::ws;

/// What messages are charged as until the backend has answered.
const FORWARDS: usize = Use::Forwards as usize;

/// The token of what goes on after a client was admitted: the actions of the connect event. Others are the length of a
/// message.
pub const ADMISSION: u64 = u64::MAX;

/// Code of a close frame that has none, and of a connection that ended without one (RFC 6455 §7.4.1).
const NO_CODE: u16 = 1005;
const NO_FRAME: u16 = 1006;

/// One client.
#[derive(Debug)]
pub struct Session {
    since: Instant,
    events: Serial<Said>,
    data: Data,
    /// What it was when it went.
    gone: Option<Box<Last>>,
}

/// A message on its way to the backend.
#[derive(Debug)]
struct Said {
    kind: ws::Kind,
    payload: Bytes,
}

/// The end of a client.
#[derive(Debug)]
struct Last {
    uid: Option<Name>,
    groups: Vec<Name>,
    cause: CloseCause,
    code: u16,
    reason: Bytes,
    lasted: Duration,
}

impl Session {
    /// A client that may come in: it is one of everybody from now on, and what the backend has made of it. Until the actions
    /// of that answer are done ([`ADMISSION`]) the backend is told of no other event.
    ///
    /// # Errors
    /// There is no room for the data it should have.
    pub(crate) fn admitted(context: Context<'_>, admitted: Admitted, out: &mut Actions) -> Result<Self, Why> {
        let Admitted {
            uid,
            groups,
            session,
            messages,
            actions,
        } = admitted;
        let data = session.map(|session| Data::new(&session, &context.config.gateway));
        let data = data.transpose()?.unwrap_or_default();
        let names = std::iter::once(names::everybody()).chain(uid.clone()).chain(groups);
        out.steps.extend(names.map(Action::Join));
        for message in messages {
            let opcode = if message.binary {
                ws::Opcode::Binary
            } else {
                ws::Opcode::Text
            };
            ws::push_frame(&mut out.reply, opcode, &message.payload);
            out.reply_frames += 1;
        }
        let mut session = Self {
            since: context.now,
            events: Serial::default(),
            data,
            gone: None,
        };
        if context.config.gateway.handlers {
            session.events.begin();
            let nothing = Said {
                kind: ws::Kind::Text,
                payload: Bytes::new(),
            };
            let come = session.to_handler(context, ADMISSION, uid.as_ref(), &nothing);
            out.steps.push(Action::Callback(come));
        } else if !actions.is_empty() {
            session.events.begin();
        }
        Ok(session)
    }

    /// A whole message arrived.
    pub(crate) fn on_message(&mut self, context: Context<'_>, kind: ws::Kind, payload: &[u8], out: &mut Actions) {
        if !events::is_told(&context.config.gateway, Event::Message) {
            return;
        }
        let said = Said {
            kind,
            payload: budget::hold::<FORWARDS>(payload.to_vec()),
        };
        let next = self.events.push(said, payload.len(), 1);
        out.steps.extend(next.map(|said| self.tell(context, &said)));
    }

    /// The backend has answered an event, and what it wanted is done; or it has not answered.
    pub(crate) fn on_callback(&mut self, context: Context<'_>, token: u64, out: &mut Actions) {
        let bytes = if token == ADMISSION { 0 } else { token as usize };
        let next = self.events.finish(bytes, 1);
        out.steps.extend(next.map(|said| self.tell(context, &said)));
    }

    /// Whether more of what it says can be kept.
    pub(crate) fn wants_input(&self, config: &Config) -> bool {
        self.events.is_within(config.forward_queue, config.forward_queue_bytes)
    }

    /// Events on their way.
    pub(crate) fn callbacks_pending(&self) -> usize {
        self.events.len()
    }

    /// The client goes: what it is now is what the backend is told last.
    pub(crate) fn on_closing<'a>(
        &mut self,
        context: Context<'_>,
        ending: &Ending,
        names: impl Iterator<Item = &'a Name>,
    ) {
        let is_told = |event| events::is_told(&context.config.gateway, event);
        if !is_told(Event::Message) && !is_told(Event::Close) {
            return;
        }
        let mut last = Last {
            uid: None,
            groups: Vec::new(),
            cause: ending.cause,
            code: code_of(ending),
            reason: reason_of(ending),
            lasted: context.now.since(self.since),
        };
        for name in names {
            match name.space() {
                UID => last.uid = Some(name.clone()),
                GROUP => last.groups.push(name.clone()),
                _ => {}
            }
        }
        // The registry keeps them in no order that means anything.
        last.groups.sort_unstable();
        self.gone = Some(Box::new(last));
    }

    /// The last event.
    pub(crate) fn close_callback(&self, context: Context<'_>) -> Option<CallbackRequest> {
        let last = self.gone.as_deref();
        let last = last.filter(|_| events::is_told(&context.config.gateway, Event::Close))?;
        let id = client_text(context);
        let gone = Gone {
            client_id: text(&id),
            uid: last.uid.as_ref(),
            groups: &last.groups,
            session: self.data.text(),
            code: last.code,
            reason: &last.reason,
            cause: last.cause.label(),
            lasted: last.lasted,
        };
        Some(request(context, Event::Close, 0, gone.body()))
    }

    /// What the backend keeps with the client, as JSON.
    pub(crate) fn data(&self) -> Bytes {
        self.data.json()
    }

    /// The backend changes that.
    pub(crate) fn on_edit(&mut self, context: Context<'_>, edit: &Edit) -> Result<Bytes, Why> {
        self.data.edit(edit, &context.config.gateway)
    }

    /// The event of a message, with the uid and the session of this moment.
    fn tell(&self, context: Context<'_>, said: &Said) -> Action {
        let id = client_text(context);
        let uid = match &self.gone {
            Some(last) => last.uid.as_ref(),
            None => context.names.the(UID),
        };
        let saying = Saying {
            client_id: text(&id),
            uid,
            session: self.data.text(),
            kind: said.kind,
            payload: &said.payload,
        };
        let token = said.payload.len() as u64;
        if context.config.gateway.handlers {
            return Action::Callback(self.to_handler(context, token, uid, said));
        }
        Action::Callback(request(context, Event::Message, token, saying.body()))
    }
}

impl Session {
    /// The event for a handler of this process.
    fn to_handler(&self, context: Context<'_>, token: u64, uid: Option<&Name>, said: &Said) -> CallbackRequest {
        let mut request = request(context, Event::Message, token, Vec::new());
        let parts = Parts {
            client: client_text(context),
            uid: uid.map(Name::text),
            session: &self.data(),
            kind: said.kind,
            payload: &said.payload,
        };
        parts.fill(&mut request);
        request
    }
}

fn request(context: Context<'_>, event: Event, token: u64, body: Vec<u8>) -> CallbackRequest {
    CallbackRequest {
        client: context.client,
        token,
        hook: HOOKS.on(event),
        msgtype: 0,
        query: Bytes::new(),
        headers: Bytes::new(),
        body: budget::hold::<FORWARDS>(body),
        address: 0,
    }
}

/// The id of the client, as everybody sees it.
pub(crate) fn client_text(context: Context<'_>) -> ClientText {
    ClientText(context.identities.short().id(context.client))
}

/// A client's id as text.
pub(crate) fn text(id: &ClientText) -> &str {
    // Hex digits.
    str::from_utf8(&id.0).unwrap_or_default()
}

/// The code of the close frame, the client's own if it sent one first.
fn code_of(ending: &Ending) -> u16 {
    match (ending.cause.frame(), ending.code) {
        _ if ending.is_dropped => NO_FRAME,
        (_, Some(code)) => code,
        (CloseFrame::None, None) => NO_FRAME,
        (CloseFrame::Empty | CloseFrame::Given, None) => NO_CODE,
        (CloseFrame::Code(code, _) | CloseFrame::Restart(code), None) => code,
    }
}

/// The reason in it.
fn reason_of(ending: &Ending) -> Bytes {
    match (ending.cause.frame(), ending.code) {
        _ if ending.is_dropped => Bytes::new(),
        (CloseFrame::Code(_, reason), None) => Bytes::from_static(reason.as_bytes()),
        _ => ending.reason.clone(),
    }
}

/// Appends the header of a message, whose tag is its opcode.
pub(crate) fn shared_head(publish: &Publish, frame: &mut Vec<u8>) {
    let (header, len) = ws::header(ws::Opcode::of_message(publish.tag), publish.payload.len());
    frame.extend_from_slice(header.get(..len).unwrap_or_default());
}
