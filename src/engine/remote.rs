//! What nodes of a cluster say to each other, in nobody's protocol: what is asked of other nodes on a caller's behalf, and
//! what they answer. `cluster` carries it, the [`desk`](super::desk) counts the answers.

use bytes::Bytes;

use super::command::Qos;
use super::name::Name;
use super::receipt::PeerPart;
use crate::time::Duration;

/// Asked of other nodes.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// What.
    pub verb: Verb,
    /// The payload of a publish; else what the caller said, for nodes that speak its protocol.
    pub body: Bytes,
    /// The SHA-256 of `body`, if it is known already.
    pub sha256: Option<[u8; 32]>,
    /// The caller has proved that it may ask, so this node vouches for it.
    pub is_vouched: bool,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Publish to your members. Answered by [`Inbound::Part`].
    Publish {
        /// Where to.
        to: Name,
        /// The door's own mark of the message.
        tag: u16,
        /// Guarantee.
        qos: Qos,
        /// How long the caller waits for the answer.
        timeout: Duration,
    },
    /// Put a client of yours into a channel. Answered by [`Inbound::Done`].
    Join,
    /// Take a client of yours out of a channel. Answered by [`Inbound::Done`].
    Leave,
    /// Say what you hold. Answered by [`Inbound::Page`].
    List,
    /// Read your settings again. Nobody waits for the answer.
    Reload,
}

/// Answered by one node; each answers once, or is taken to have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// It failed, or nobody understands what it said.
    Nothing,
    /// Its share of a publish.
    Part(PeerPart),
    /// Whether it has the client, or why not.
    Done {
        /// It was done.
        found: bool,
        /// What it says if it was not.
        complaint: Option<String>,
    },
    /// What it holds, in the words of the protocol between the nodes.
    Page(Bytes),
}
