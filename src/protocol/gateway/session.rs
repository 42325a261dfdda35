//! One client of the gateway. What it says is opaque, and so is what it is sent: a message is one frame, text or binary as
//! whoever sends it says ([`Publish`]'s tag is the opcode). Nothing is acknowledged.

use bytes::Bytes;

use super::data::Data;
use super::names;
use crate::engine::command::{Edit, Publish, Why};
use crate::protocol::{Action, Actions, Context};
use crate::wire::ws;

/// One client.
#[derive(Debug, Default)]
pub struct Session {
    data: Data,
}

impl Session {
    /// A client that may come in: it is one of everybody from now on.
    pub(crate) fn admitted(out: &mut Actions) -> Self {
        out.steps.push(Action::Join(names::everybody()));
        Self::default()
    }

    /// What the backend keeps with the client, as JSON.
    pub(crate) fn data(&self) -> Bytes {
        self.data.json()
    }

    /// The backend changes that.
    pub(crate) fn on_edit(&mut self, context: Context<'_>, edit: &Edit) -> Result<Bytes, Why> {
        self.data.edit(edit, &context.config.gateway)
    }

    /// A whole message arrived.
    pub(crate) fn on_message(&mut self, _kind: ws::Kind, _payload: &[u8], _out: &mut Actions) {}
}

/// Appends the header of a message, whose tag is its opcode.
pub(crate) fn shared_head(publish: &Publish, frame: &mut Vec<u8>) {
    let (header, len) = ws::header(ws::Opcode::of_message(publish.tag), publish.payload.len());
    frame.extend_from_slice(header.get(..len).unwrap_or_default());
}
