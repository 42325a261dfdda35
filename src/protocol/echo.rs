//! The smallest door: every data message comes back as it was, with its opcode. Off by default (setting `echo`); conformance
//! suites and load generators need a peer that does nothing else. It asks the business nothing and tells it nothing, and it
//! answers violations of RFC 6455 with the close code that RFC has for them.
//!
//! With `?room=NAME` a message goes to everybody who came in with that name, the sender included: from client to clients
//! without HTTP, by the same ways as everything that is published. With `&receipt=TEXT` the sender is answered that each time,
//! once the message is on its way (it is also what the session keeps, for those who ask and change it); with `&farewell=TEXT` the room hears that, and the cause, when the client goes. A room is in
//! a space of its own, no other door's channel.

use bytes::Bytes;

use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::{Edit, Publish, Why};
use crate::engine::name::{Name, Space};
use crate::protocol::{Action, Actions, DoorPolicy, Entry, Refused};
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::{query, ws};

/// The path of this door.
pub const PATH: &[u8] = b"/echo/";

/// Where rooms are.
const ROOMS: Space = Space::many(2);

/// Verbs of [`Session::on_edit`].
const SET: u8 = 0;
const APPEND: u8 = 1;

/// Longest receipt that can be made of one.
const RECEIPT_BYTES_MAX: usize = 1024;

/// What RFC 6455 wants refused is refused, whatever the settings let other clients do.
pub(crate) fn policy(config: &Config) -> DoorPolicy {
    DoorPolicy {
        accept_unmasked: false,
        ..DoorPolicy::of(config)
    }
}

/// Anybody may come in.
pub(crate) fn knock(head: &RequestHead, out: &mut Actions) -> Entry<Session> {
    if head.method != http::Method::GET {
        return Entry::Answer(Refused {
            answer: HttpAnswer::not_allowed("GET"),
            cause: CloseCause::Refused,
        });
    }
    let parameter = |name| query::first(head.query(), name).filter(|value| !value.is_empty());
    let room = parameter("room").map(|name| Name::new(ROOMS, &name));
    out.steps.extend(room.clone().map(Action::Join));
    let text = |name| parameter(name).map(|text| Bytes::from(text.into_owned()));
    Entry::Admit(Session {
        room,
        receipt: text("receipt"),
        farewell: text("farewell"),
    })
}

/// Nobody is asked here, so nobody answers.
pub(crate) fn answered() -> Refused {
    Refused {
        answer: HttpAnswer::overloaded(),
        cause: CloseCause::AuthUnavailable,
    }
}

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Where its messages go, if not back to it.
    room: Option<Name>,
    /// What it is answered for each message to the room.
    receipt: Option<Bytes>,
    /// What the room hears when it goes.
    farewell: Option<Bytes>,
}

impl Session {
    /// Sends the message back, or to the room.
    pub(crate) fn on_message(&self, kind: ws::Kind, payload: &[u8], out: &mut Actions) {
        let opcode = match kind {
            ws::Kind::Text => ws::Opcode::Text,
            ws::Kind::Binary => ws::Opcode::Binary,
        };
        if let Some(room) = &self.room {
            let payload = Bytes::copy_from_slice(payload);
            let publish = Publish::untold(room.clone(), opcode as u16, payload);
            out.steps.push(Action::Publish(publish.into()));
            if let Some(receipt) = &self.receipt {
                reply(ws::Opcode::Binary, receipt, out);
            }
            return;
        }
        reply(opcode, payload, out);
    }

    /// Tells everybody it was with, and why: `FAREWELL (cause)`.
    pub(crate) fn on_closing<'a>(&self, cause: CloseCause, names: impl Iterator<Item = &'a Name>, out: &mut Actions) {
        let Some(farewell) = &self.farewell else { return };
        let text = [farewell, &b" ("[..], cause.label().as_bytes(), b")"].concat();
        let text = Bytes::from(text);
        let publishes = names.map(|name| Publish::untold(name.clone(), ws::Opcode::Binary as u16, text.clone()));
        out.steps
            .extend(publishes.map(|publish| Action::Publish(publish.into())));
    }
}

impl Session {
    /// The receipt.
    pub(crate) fn data(&self) -> Bytes {
        self.receipt.clone().unwrap_or_default()
    }

    /// [`SET`]: another receipt; [`APPEND`]: more of it.
    pub(crate) fn on_edit(&mut self, edit: &Edit) -> Result<Bytes, Why> {
        let receipt = match edit.verb {
            SET => edit.patch.clone(),
            APPEND => [&self.data()[..], &edit.patch].concat().into(),
            _ => return Err(Why::Invalid("a receipt is set or appended to")),
        };
        if receipt.len() > RECEIPT_BYTES_MAX {
            return Err(Why::Full);
        }
        self.receipt = Some(receipt.clone()).filter(|receipt| !receipt.is_empty());
        Ok(receipt)
    }
}

fn reply(opcode: ws::Opcode, payload: &[u8], out: &mut Actions) {
    ws::push_frame(&mut out.reply, opcode, payload);
    out.reply_frames += 1;
}

/// Appends the header of a room's message, whose type is its opcode.
pub(crate) fn shared_head(publish: &Publish, frame: &mut Vec<u8>) {
    let (header, len) = ws::header(ws::Opcode::of_message(publish.tag), publish.payload.len());
    frame.extend_from_slice(&header[..len]);
}
