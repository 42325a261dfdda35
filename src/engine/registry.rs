//! Who is in which channel: named sets of clients. Channels, groups, topics and rooms of every door are this one thing.
//!
//! A name carries the kind of set it names ([`super::name`]). Two sides, one per core each:
//! - [`Members`]: this shard's clients and the channels they are in; what a fan-out walks.
//! - [`Interest`]: for the channels this shard is the home of ([`HomeHash`]), which shards have members. It hears of the
//!   first member to come and the last one to leave ([`super::command::Command::Interest`]), never of those between.
//!
//! Beside them [`Online`]: on which platform the clients of a user are.
//!
//! Callers: `shard`, and `control` for [`HomeHash`]. Names are chosen by others, so every hash is seeded.

mod interest;
mod lists;
mod members;
pub mod online;

pub use interest::{HomeHash, Interest};
pub use lists::Member;
pub use members::{Join, Leave, Members, Place};
pub use online::{Online, Presence};
