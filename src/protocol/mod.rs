//! Doors. A door decodes what its clients say into the engine's vocabulary and encodes deliveries back, nothing else.
//!
//! To add a door: copy the smallest folder; write the codec and its goldens; write the session and its frame scripts; add
//! one [`Session`] and one [`Door`] variant and follow the compiler; map its HTTP verbs in `api.rs`. What all doors say is in
//! `words.rs`.
//!
//! A session never holds a reference to its shard: it puts what should happen into [`Actions`], and the shard drains
//! them after each call.

pub mod door;
pub mod echo;
pub mod gateway;
pub mod listener;
pub mod rainbow;
pub mod serial;
mod words;

use bytes::Bytes;

use crate::config::Config;
use crate::engine::command::{CallbackOutcome, CallbackRequest, Edit, Publish, Why};
use crate::engine::ids::{DeliveryKey, Identity};
use crate::engine::name::Name;
use crate::wire::ws;

pub use door::Door;
pub use listener::{Listener, ListenerId};
pub use words::{
    Action, Actions, Context, DoorPolicy, Ending, Entry, InflightFull, Names, Note, Question, Refused, TimerKind,
};

/// The session of one admitted client: one variant per door.
#[derive(Debug)]
pub enum Session {
    /// rainbow-server's binary packets.
    Rainbow(rainbow::session::Session),
    /// Messages come back as they were.
    Echo(echo::Session),
    /// Opaque messages; sets and data that the backend gives.
    Gateway(gateway::session::Session),
}

impl Session {
    /// A whole data message arrived.
    pub fn on_message(&mut self, context: Context<'_>, kind: ws::Kind, payload: &[u8], out: &mut Actions) {
        match self {
            Session::Rainbow(session) => session.on_message(context, kind, payload, out),
            Session::Echo(session) => session.on_message(kind, payload, out),
            Session::Gateway(session) => session.on_message(context, kind, payload, out),
        }
    }

    /// A pong arrived.
    pub fn on_pong(&mut self, out: &mut Actions) {
        match self {
            Session::Rainbow(session) => session.on_pong(out),
            Session::Echo(_) | Session::Gateway(_) => {}
        }
    }

    /// Appends the frame of a message that asks for acknowledgement, up to its payload, which ends it: the shard adds the
    /// payload, by reference where that pays. `delivery` comes back in [`Action::Acknowledged`], at most once.
    pub fn on_delivery(
        &mut self,
        context: Context<'_>,
        publish: &Publish,
        delivery: DeliveryKey,
        frame: &mut Vec<u8>,
    ) -> Result<u16, InflightFull> {
        match self {
            Session::Rainbow(session) => session.on_delivery(context, publish, delivery, frame),
            // Only its own clients send to it, and none of them asks for that; nobody can ask a client of the gateway.
            Session::Echo(_) | Session::Gateway(_) => Err(InflightFull),
        }
    }

    /// Sessions of one form take the same bytes for messages that need no acknowledgement.
    pub const fn form(&self) -> u8 {
        match self {
            Session::Rainbow(_) => 0,
            Session::Echo(_) | Session::Gateway(_) => 1,
        }
    }

    /// Appends the frame of a message that needs no acknowledgement, up to its payload; the same for every session of this
    /// [`Session::form`], so the shard builds it once per batch.
    pub fn shared_head(&self, publish: &Publish, frame: &mut Vec<u8>) {
        match self {
            Session::Rainbow(_) => rainbow::session::shared_head(publish, frame),
            Session::Echo(_) => echo::shared_head(publish, frame),
            Session::Gateway(_) => gateway::session::shared_head(publish, frame),
        }
    }

    /// Does message `id` of `delivery` still wait for its acknowledgement?
    pub fn is_waiting(&self, id: u16, delivery: DeliveryKey) -> bool {
        match self {
            Session::Rainbow(session) => session.is_waiting(id, delivery),
            Session::Echo(_) | Session::Gateway(_) => false,
        }
    }

    /// Appends the frame that repeats message `id`, up to its payload.
    pub fn repeat(&self, publish: &Publish, id: u16, frame: &mut Vec<u8>) {
        match self {
            Session::Rainbow(_) => rainbow::session::repeat(publish, id, frame),
            Session::Echo(_) | Session::Gateway(_) => {}
        }
    }

    /// A timer this session had armed has fired.
    pub fn on_timer(&mut self, kind: TimerKind, out: &mut Actions) {
        match self {
            Session::Rainbow(session) => session.on_timer(kind, out),
            Session::Echo(_) | Session::Gateway(_) => {}
        }
    }

    /// The last retry of message `id` ran out: forget it.
    pub fn on_exhausted(&mut self, id: u16, out: &mut Actions) {
        match self {
            Session::Rainbow(session) => session.on_exhausted(id, out),
            Session::Echo(_) | Session::Gateway(_) => {}
        }
    }

    /// A callback this session asked for has ended. `open` is false while the client is being closed: nothing more can be
    /// sent to it, but its queued callbacks go on.
    pub fn on_callback(
        &mut self,
        context: Context<'_>,
        token: u64,
        outcome: CallbackOutcome,
        open: bool,
        out: &mut Actions,
    ) {
        match self {
            Session::Rainbow(session) => session.on_callback(context, token, outcome, open, out),
            Session::Gateway(session) => session.on_callback(context, token, out),
            Session::Echo(_) => {}
        }
    }

    /// Whether more input should be read. False stops reading the socket; nothing is lost.
    pub fn wants_input(&self, config: &Config) -> bool {
        match self {
            Session::Rainbow(session) => session.wants_input(config),
            Session::Gateway(session) => session.wants_input(config),
            Session::Echo(_) => true,
        }
    }

    /// Message callbacks not yet answered or not yet sent; the close callback comes after them.
    pub fn callbacks_pending(&self) -> usize {
        match self {
            Session::Rainbow(session) => session.callbacks_pending(),
            Session::Gateway(session) => session.callbacks_pending(),
            Session::Echo(_) => 0,
        }
    }

    /// The client begins to go away, as `ending` says; `names` are what it is in, all but for the last time. Comes before
    /// everything else that ends: what is published here is heard by those who stay.
    pub fn on_closing<'a>(
        &mut self,
        context: Context<'_>,
        ending: &Ending,
        names: impl Iterator<Item = &'a Name>,
        out: &mut Actions,
    ) {
        match self {
            Session::Rainbow(_) => {}
            Session::Echo(session) => session.on_closing(ending.cause, names, out),
            Session::Gateway(session) => session.on_closing(context, ending, names),
        }
    }

    /// What this session keeps of its client, for those who ask; the door says what it is.
    pub fn data(&self) -> Bytes {
        match self {
            Session::Rainbow(_) => Bytes::new(),
            Session::Echo(session) => session.data(),
            Session::Gateway(session) => session.data(),
        }
    }

    /// Changes what this session keeps of its client; what it is then.
    ///
    /// # Errors
    /// Nothing was changed, and why.
    pub fn on_edit(&mut self, context: Context<'_>, edit: &Edit) -> Result<Bytes, Why> {
        match self {
            Session::Rainbow(_) => Err(Why::Invalid("this door keeps no data")),
            Session::Echo(session) => session.on_edit(edit),
            Session::Gateway(session) => session.on_edit(context, edit),
        }
    }

    /// Gives up every unacknowledged delivery, for a client that is going away.
    pub fn abandon_deliveries(&mut self, abandoned: impl FnMut(DeliveryKey)) {
        match self {
            Session::Rainbow(session) => session.abandon_deliveries(abandoned),
            Session::Echo(_) | Session::Gateway(_) => {}
        }
    }

    /// The question that tells the business that this client is gone; `None` if the business does not know it.
    pub fn close_callback(&self, context: Context<'_>) -> Option<CallbackRequest> {
        match self {
            Session::Rainbow(session) => {
                let wants = context.config.close_url.is_some();
                wants.then(|| session.close_callback(context))
            }
            Session::Gateway(session) => session.close_callback(context),
            Session::Echo(_) => None,
        }
    }

    /// The code of the close frame a client gets for breaking RFC 6455; `None`: TCP just ends.
    pub fn violation_code(&self, error: ws::Error) -> Option<u16> {
        match self {
            // Of all violations the original answers this one (spec: section 14).
            Session::Rainbow(_) => (error == ws::Error::TooBig).then(|| error.close_code()),
            Session::Echo(_) | Session::Gateway(_) => Some(error.close_code()),
        }
    }

    /// The identity the business knows this client by.
    pub fn identity(&self, context: Context<'_>) -> Identity {
        match self {
            Session::Rainbow(session) => session.identity(context),
            Session::Echo(_) | Session::Gateway(_) => context
                .identities
                .identity(context.client, &context.identities.check(context.client)),
        }
    }
}
