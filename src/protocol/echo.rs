//! The smallest door: every data message comes back as it was, with its opcode. Off by default (setting `echo`); conformance
//! suites and load generators need a peer that does nothing else. It asks the business nothing and tells it nothing, its
//! clients are in no channel, and it answers violations of RFC 6455 with the close code that RFC has for them.

use crate::protocol::Actions;
use crate::wire::ws;

/// The path of this door.
pub const PATH: &[u8] = b"/echo/";

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
