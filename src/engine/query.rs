//! What can be asked about clients and the sets they are in. A shard answers page by page ([`Command::Query`] →
//! [`Report::Told`]), each a part of a slice of its time, however many members there are; the desk asks for the next page.
//!
//! Members of a set, and the names of a client, are walked from the end of their array to its start. Whoever leaves is
//! replaced by the last one (`swap_remove`), so somebody who has not been looked at never gets behind the walk: **who stays
//! is never missed**, whatever others do meanwhile; he may be seen twice, and the desk drops doubles. Names are walked by the
//! numbers they have in the registry, which stay while they have members.
//!
//! [`Command::Query`]: super::command::Command::Query
//! [`Report::Told`]: super::command::Report::Told

use bytes::Bytes;

use super::ids::ClientId;
use super::name::{Name, Space};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Is there such a client, and what is it in? Asked of its shard.
    Client {
        /// The client.
        client: ClientId,
    },
    /// Who is in a set?
    Members {
        /// The set.
        name: Name,
        /// What is wanted of each.
        detail: Detail,
    },
    /// Which sets of a space have members here, and how many?
    Names {
        /// The space.
        space: Space,
    },
    /// How many members does each of these have?
    Count {
        /// The sets.
        names: Vec<Name>,
    },
}

/// What is wanted of each member beside its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// What its session keeps.
    pub data: bool,
    /// Its names of this space.
    pub names: Option<Space>,
}

/// What a shard says to a question, from a position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// To [`Query::Client`]: what it is, with so many of its names as fit; `None`: there is none such.
    Client(Option<ClientInfo>),
    /// To [`Query::Members`].
    Members(Vec<ClientInfo>),
    /// To [`Query::Names`]: each with its number of members here.
    Names(Vec<(Name, u32)>),
    /// To [`Query::Count`]: of so many of the names as fit, in their order.
    Counts(Vec<u32>),
}

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client.
    pub client: ClientId,
    /// What it is in, as far as that was asked for.
    pub names: Vec<Name>,
    /// What its session keeps, if that was asked for; in the door's own words.
    pub data: Bytes,
}
