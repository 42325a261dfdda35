//! The smallest door: every data message comes back as it was, with its opcode. Off by default (setting `echo`); conformance
//! suites and load generators need a peer that does nothing else. It asks the business nothing and tells it nothing, its
//! clients are in no channel, and it answers violations of RFC 6455 with the close code that RFC has for them.

use crate::close::CloseCause;
use crate::config::Config;
use crate::protocol::{Actions, DoorPolicy, Entry, Refused};
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::ws;

/// The path of this door.
pub const PATH: &[u8] = b"/echo/";

/// What RFC 6455 wants refused is refused, whatever the settings let other clients do.
pub(crate) fn policy(config: &Config) -> DoorPolicy {
    DoorPolicy {
        accept_unmasked: false,
        ..DoorPolicy::of(config)
    }
}

/// Anybody may come in.
pub(crate) fn knock(head: &RequestHead) -> Entry<Session> {
    if head.method == http::Method::GET {
        return Entry::Admit(Session);
    }
    Entry::Answer(Refused {
        answer: HttpAnswer::not_allowed("GET"),
        cause: CloseCause::Refused,
    })
}

/// Nobody is asked here, so nobody answers.
pub(crate) fn answered() -> Refused {
    Refused {
        answer: HttpAnswer::overloaded(),
        cause: CloseCause::AuthUnavailable,
    }
}

/// Has no state.
#[derive(Debug)]
pub struct Session;

impl Session {
    /// Sends the message back.
    pub(crate) fn on_message(&self, kind: ws::Kind, payload: &[u8], out: &mut Actions) {
        let opcode = match kind {
            ws::Kind::Text => ws::Opcode::Text,
            ws::Kind::Binary => ws::Opcode::Binary,
        };
        ws::push_frame(&mut out.reply, opcode, payload);
        out.reply_frames += 1;
    }
}
