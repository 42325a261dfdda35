//! The business server of the load: admits everybody to the channel asked for, accepts every message. In the same loop as
//! the clients, so its cost is the load's, not the server's.

use crate::wire::Message;

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Business {
    /// Connect callbacks.
    pub connects: u64,
    /// Message callbacks.
    pub messages: u64,
    /// Close callbacks.
    pub closes: u64,
}

impl Business {
    /// Appends the answer; false when the connection is to be closed behind it.
    pub fn answer(&mut self, request: &Message<'_>, out: &mut Vec<u8>) -> bool {
        let target = request.text.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if target.starts_with(b"/message/") {
            self.messages += 1;
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        } else if target.starts_with(b"/connect/") {
            self.connects += 1;
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\nRAINBOWCLIENTCHANNEL: ");
            out.extend_from_slice(channel(target));
            out.extend_from_slice(b"\r\n\r\n{\"status\": \"success\"}");
        } else {
            self.closes += 1;
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        request
            .field(b"connection")
            .is_none_or(|value| !value.eq_ignore_ascii_case(b"close"))
    }
}

fn channel(target: &[u8]) -> &[u8] {
    let Some(at) = target.windows(3).position(|three| three == b"ch=") else {
        return b"none";
    };
    let rest = &target[at + 3..];
    let end = rest.iter().position(|byte| *byte == b'&').unwrap_or(rest.len());
    &rest[..end]
}
