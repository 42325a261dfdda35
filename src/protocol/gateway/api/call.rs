//! What callers can ask for, with its arguments read: one variant for each row of the interface. REST, `/v1/call/`, batches,
//! the actions of a backend's answer and the library all make a [`Call`], and one place carries it out.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::ApiError;
use super::arguments::wrong;
use crate::engine::name::Name;

/// Digits of a client's id.
pub const CLIENT_TEXT_LEN: usize = 20;

/// The id of a client as callers write it: 20 lower-case hex digits. Whether there is such a client, the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientText(pub [u8; CLIENT_TEXT_LEN]);

impl ClientText {
    /// The id of no client: what a malformed one stands for where the caller asked for leniency.
    pub const NOBODY: ClientText = ClientText([b'-'; CLIENT_TEXT_LEN]);

    /// `None` unless it is 20 lower-case hex digits.
    pub fn new(text: &str) -> Option<Self> {
        let digits: [u8; CLIENT_TEXT_LEN] = text.as_bytes().try_into().ok()?;
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        digits.iter().all(is_digit).then_some(Self(digits))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Made of digits only.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ClientText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ClientText {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        Self::new(text).ok_or_else(|| ApiError::bad_request("a client id is 20 lower-case hex digits"))
    }
}

/// A call and how its caller wants unknown clients treated.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do.
    pub call: Call,
    /// A client that is not there is no error ([`Call::of_nobody`]).
    pub lenient: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Send a message; each client gets it once.
    Send(Send),
    /// Bind a client to a uid, in place of the one it has.
    BindUid {
        /// The client.
        client: ClientText,
        /// Of the uid's space.
        uid: Name,
        /// What becomes of other clients with this uid.
        exclusive: Exclusive,
    },
    /// Take a client's uid away.
    UnbindUid {
        /// The client.
        client: ClientText,
    },
    /// How many clients a uid has.
    IsUidOnline {
        /// The uid.
        uid: Name,
    },
    /// Which of these uids have clients.
    AreUidsOnline {
        /// The uids.
        uids: Vec<Name>,
    },
    /// The uid of a client.
    UidOf {
        /// The client.
        client: ClientText,
    },
    /// The clients of a uid.
    ClientsOfUid {
        /// The uid.
        uid: Name,
        /// Which part of the list.
        page: Page,
    },
    /// The clients of each of these uids.
    ClientsOfUids {
        /// The uids.
        uids: Vec<Name>,
    },
    /// All uids with clients.
    AllUids {
        /// Which part of the list.
        page: Page,
    },
    /// How many uids have clients.
    UidCount,
    /// Put a client into a group.
    JoinGroup {
        /// The client.
        client: ClientText,
        /// The group.
        group: Name,
    },
    /// Take a client out of a group.
    LeaveGroup {
        /// The client.
        client: ClientText,
        /// The group.
        group: Name,
    },
    /// Put clients into a group and take others out of it.
    ChangeGroup {
        /// The group.
        group: Name,
        /// Who comes.
        add: Vec<ClientText>,
        /// Who goes.
        remove: Vec<ClientText>,
    },
    /// Everybody leaves a group.
    Ungroup {
        /// The group.
        group: Name,
    },
    /// How many clients and uids a group has; everybody, if none is named.
    GroupCount {
        /// The group.
        group: Option<Name>,
    },
    /// How many clients each of these groups has.
    GroupCounts {
        /// The groups.
        groups: Vec<Name>,
    },
    /// The clients that are in any of these groups, each once.
    GroupClients {
        /// The groups; none: every client.
        groups: Vec<Name>,
        /// With their sessions.
        sessions: bool,
        /// Which part of the list.
        page: Page,
    },
    /// The uids of clients in any of these groups, each once.
    GroupUids {
        /// The groups.
        groups: Vec<Name>,
    },
    /// All groups.
    AllGroups {
        /// What is told of each.
        detail: GroupDetail,
        /// Which part of the list.
        page: Page,
    },
    /// The groups of a client.
    GroupsOf {
        /// The client.
        client: ClientText,
    },
    /// Close the connection of a client.
    Close {
        /// The client.
        client: ClientText,
        /// How.
        farewell: Farewell,
    },
    /// Close the connections of all clients of a uid, or in a group.
    CloseAll {
        /// The uid or group.
        of: Name,
        /// How.
        farewell: Farewell,
    },
    /// Whether a client is connected.
    IsOnline {
        /// The client.
        client: ClientText,
    },
    /// The same, where its absence is an error.
    Client {
        /// The client.
        client: ClientText,
    },
    /// How many clients there are.
    ClientCount,
    /// The session of a client.
    Session {
        /// The client.
        client: ClientText,
    },
    /// Put a session in place of the one a client has.
    SetSession {
        /// The client.
        client: ClientText,
        /// A JSON object, compact.
        session: Bytes,
    },
    /// Merge into a client's session (RFC 7396): recursively, null deletes.
    UpdateSession {
        /// The client.
        client: ClientText,
        /// A JSON object, compact.
        patch: Bytes,
    },
    /// Calls, one after the other.
    Batch(Vec<Request>),
    /// The nodes of the cluster.
    Nodes,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the client receives, byte for byte; UTF-8 unless it is binary.
    pub payload: Bytes,
    /// In a binary frame, not a text one.
    pub binary: bool,
}

/// A message and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// What.
    pub message: Message,
    /// To whom.
    pub to: Targets,
    /// Not to these.
    pub exclude: Vec<ClientText>,
}

/// Receivers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every client.
    Everybody,
    /// One client, whose absence is an error.
    Client(ClientText),
    /// Everybody in any of these uids and groups, and these clients; unknown ones are left out.
    Any {
        /// Uids and groups.
        names: Vec<Name>,
        /// Single clients.
        clients: Vec<ClientText>,
    },
}

/// What becomes of other clients of a uid when one is bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusive {
    /// They stay.
    #[default]
    No,
    /// They are closed.
    Kick,
    /// If there are any, the binding is refused.
    Reject,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Most items; none: all of them, if they are not too many.
    pub limit: Option<usize>,
    /// Where the last part ended, as its answer said.
    pub cursor: Option<String>,
}

/// What a list of groups says about each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupDetail {
    /// Its name.
    #[default]
    Names,
    /// How many clients it has.
    ClientCounts,
    /// Its clients.
    Clients,
    /// How many uids it has.
    UidCounts,
    /// Its uids.
    Uids,
}

/// How a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// A last message.
    pub message: Option<Message>,
    /// Code of the close frame.
    pub code: u16,
    /// Reason in the close frame, at most [`REASON_BYTES_MAX`].
    pub reason: String,
    /// At once: without a close frame, and what still waits for the client is thrown away.
    pub force: bool,
}

/// Longest reason of a close frame (RFC 6455 §5.5: 125 bytes with its code).
pub const REASON_BYTES_MAX: usize = 123;

impl Farewell {
    /// The same, if it is one that can be said.
    pub fn checked(self) -> Result<Self, ApiError> {
        if !matches!(self.code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(wrong("code", "1000 to 1003, 1007 to 1014 or 3000 to 4999"));
        }
        if self.reason.len() > REASON_BYTES_MAX {
            return Err(wrong("reason", &format!("at most {REASON_BYTES_MAX} bytes")));
        }
        if self.force && self.message.is_some() {
            let text = "force throws messages away, so there can be none";
            return Err(ApiError::bad_request(text));
        }
        Ok(self)
    }
}

impl Request {
    /// A call that treats the absence of a client as an error.
    pub fn strict(call: Call) -> Self {
        Self { call, lenient: false }
    }
}

impl Call {
    /// What a call is answered whose client is not there, if the caller does not mind.
    pub fn of_nobody(&self) -> Result<super::Outcome, ApiError> {
        use super::Outcome;
        Ok(match self {
            Call::Send(_) => Outcome::Sent(super::Sent::default()),
            Call::BindUid { .. } | Call::UnbindUid { .. } => Outcome::PreviousUid(None),
            Call::UidOf { .. } => Outcome::Uid(None),
            Call::JoinGroup { .. } | Call::LeaveGroup { .. } => Outcome::Changed(false),
            Call::GroupsOf { .. } => Outcome::Groups {
                groups: Vec::new(),
                next: None,
            },
            Call::Close { .. } => Outcome::Closed(false),
            Call::IsOnline { .. } | Call::Client { .. } => Outcome::Online(false),
            Call::Session { .. } | Call::UpdateSession { .. } => Outcome::Session(Bytes::from_static(b"{}")),
            Call::SetSession { .. } => Outcome::Nothing,
            _ => return Err(ApiError::client_not_found()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twenty_lower_case_hex_digits() {
        let text = "0123456789abcdef0123";
        assert_eq!(
            ClientText::new(text).map(|id| id.0.to_vec()),
            Some(text.as_bytes().to_vec())
        );
        for bad in [
            "",
            "0123456789abcdef012",
            "0123456789abcdef01234",
            "0123456789ABCDEF0123",
            "0123456789abcdef012é",
        ] {
            assert_eq!(ClientText::new(bad), None, "{bad}");
        }
        let nobody = String::from_utf8(ClientText::NOBODY.0.to_vec()).expect("ascii");
        assert_eq!(ClientText::new(&nobody), None, "no id reads as nobody");
    }
}
