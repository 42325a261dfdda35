//! Which door a request leads to, and what a client has to pass there before its session begins.
//!
//! ```text
//!   listener, path ──▶ door ── knock ──▶ Entry (words.rs) ── answered ──▶ session
//! ```
//! The shard goes through these steps for every door alike; the control core asks only whether a path is one. What a
//! request must be for an upgrade is the same for all doors (`wire/ws/upgrade.rs`).

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Actions, Context, DoorPolicy, Entry, Refused, Session, echo, gateway, rainbow};
use crate::config::Config;
use crate::engine::command::CallbackOutcome;
use crate::wire::http1::RequestHead;

/// A way in: one variant per kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/connect/`: rainbow-server's clients.
    Rainbow,
    /// `/echo/`, where `echo` is on: for conformance tests.
    Echo,
    /// The clients of the gateway, on ports of their own.
    Gateway,
}

impl Door {
    /// Every door, in the order of its number.
    pub const ALL: [Door; 3] = [Door::Rainbow, Door::Echo, Door::Gateway];

    /// How its connections are treated.
    pub fn policy(self, config: &Config) -> DoorPolicy {
        match self {
            Door::Rainbow => DoorPolicy::of(config),
            Door::Echo => echo::policy(config),
            Door::Gateway => gateway::entry::policy(config),
        }
    }

    /// Whether a path leads here, on a listener that has this door (`listener.rs`).
    pub fn serves(self, path: &[u8], config: &Config) -> bool {
        match self {
            Door::Rainbow => path == rainbow::entry::PATH && config.rainbow,
            Door::Echo => path == echo::PATH && config.echo,
            Door::Gateway => gateway::entry::serves(path, config),
        }
    }

    /// What the door says to the request of a client. `address` is where it connects from, for doors that want to know. Steps
    /// in `out` are those of an [`Entry::Admit`], and notes.
    pub fn knock(
        self,
        context: Context<'_>,
        head: &RequestHead,
        address: Option<SocketAddr>,
        out: &mut Actions,
    ) -> Entry<Session> {
        match self {
            Door::Rainbow => rainbow::entry::knock(context, head, out).map(Session::Rainbow),
            Door::Echo => echo::knock(head, out).map(Session::Echo),
            Door::Gateway => gateway::entry::knock(context, head, address, out).map(Session::Gateway),
        }
    }

    /// What the outcome of a question means; `keep` came with the question. Steps as with [`Door::knock`].
    pub fn answered(
        self,
        context: Context<'_>,
        keep: Bytes,
        outcome: &CallbackOutcome,
        out: &mut Actions,
    ) -> Result<Session, Refused> {
        match self {
            Door::Rainbow => rainbow::entry::answered(context, keep, outcome, out).map(Session::Rainbow),
            Door::Echo => Err(echo::answered()),
            Door::Gateway => gateway::entry::answered(context, outcome, out).map(Session::Gateway),
        }
    }
}
