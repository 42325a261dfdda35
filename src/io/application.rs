//! What travels between the control core and code of this process: calls with a way back for their answers, events of clients,
//! and how their handlers ended.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::engine::command::CallbackRequest;
use crate::engine::hook::Event;
use crate::engine::ids::ClientId;
use crate::protocol::gateway::api::{ApiError, Outcome, Request};

/// A call, and who waits for what comes of it.
#[derive(Debug)]
pub struct Asked {
    /// The call.
    pub request: Request,
    /// Who waits; gone: nobody does any more.
    pub answer: oneshot::Sender<Result<Outcome, ApiError>>,
}

/// An event on its way to its handler.
#[derive(Debug)]
pub struct Told {
    /// Of this event; comes back with its end.
    pub number: u64,
    /// What it is, as a backend would be told.
    pub request: CallbackRequest,
    /// When its handler must have ended.
    pub deadline: Instant,
}

/// The end of a handler; one for each event.
#[derive(Debug)]
pub struct Handled {
    /// Of the event.
    pub number: u64,
    /// Whose event it was.
    pub client: ClientId,
    /// What it was.
    pub event: Event,
    /// How it ended.
    pub end: End,
}

/// How a handler ended.
#[derive(Debug)]
pub enum End {
    /// By itself, with this answer in the words of a backend.
    Answered(Bytes),
    /// It took too long, and was ended.
    TimedOut,
    /// It panicked.
    Panicked,
}

/// Takes events to their handlers. Called on the control core: must not wait for anything.
pub trait Handlers: Send {
    /// Begins to handle an event. Its end comes by the mailbox of the control core, exactly once.
    fn begin(&self, told: Told);
}
