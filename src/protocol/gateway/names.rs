//! The sets that clients of this door are in: groups, uids, and everybody.

use crate::engine::name::{Name, Space};

/// Groups: a client is in any number of them.
pub const GROUP: Space = Space::many(3);
/// Uids: a client has one at most.
pub const UID: Space = Space::single(4);
/// Where the one set is that every client is in.
pub const EVERYBODY: Space = Space::single(5);

/// A group.
pub fn group(text: &[u8]) -> Name {
    Name::new(GROUP, text)
}

/// The clients with this uid.
pub fn uid(text: &[u8]) -> Name {
    Name::new(UID, text)
}

/// All clients of this door. A set like any other: one home, one order.
pub fn everybody() -> Name {
    Name::new(EVERYBODY, b"")
}
