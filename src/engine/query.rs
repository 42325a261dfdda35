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

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::ids::{ClientId, ShardId};
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

/// Where a list that was not given whole goes on. Opaque: it is passed out as text, and whatever comes back in its place
/// leads to some part of the list, or to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose turn it is.
    pub(super) shard: ShardId,
    /// Where in what that shard says.
    pub(super) position: u64,
}

impl Cursor {
    /// Where every list begins.
    pub const START: Cursor = Cursor {
        shard: ShardId(0),
        position: 0,
    };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.shard.0, self.position)
    }
}

/// A text that no cursor was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (shard, position) = text.split_once('.').ok_or(NoCursor)?;
        let cursor = Self {
            shard: ShardId(u16::from_str_radix(shard, 16).map_err(|_| NoCursor)?),
            position: u64::from_str_radix(position, 16).map_err(|_| NoCursor)?,
        };
        // One text each: no signs, no leading zeroes, no capitals.
        (cursor.to_string() == text).then_some(cursor).ok_or(NoCursor)
    }
}

/// What the shards of a node say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items {
    /// To [`Query::Client`].
    Client(Option<ClientInfo>),
    /// To [`Query::Members`]: each once.
    Members(Vec<ClientInfo>),
    /// To [`Query::Names`]: in the order of their bytes, each once, with its members on the shards that were asked.
    Names(Vec<(Name, u64)>),
    /// To [`Query::Count`]: in the order of the names.
    Counts(Vec<u64>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        for (shard, position) in [(0, 0), (63, 1), (u16::MAX, u64::MAX)] {
            let cursor = Cursor {
                shard: ShardId(shard),
                position,
            };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            ".",
            "0",
            "0.",
            ".0",
            "0.0.0",
            "+1.0",
            "01.0",
            "1.A",
            "-1.0",
            " 0.0",
            "10000.0",
            "0.10000000000000000",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text:?}");
        }
    }
}
