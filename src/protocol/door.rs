//! Which door a request leads to, and what a client has to pass there before its session begins.
//!
//! ```text
//!   path ── Door::at ──▶ door ── knock ──▶ Ask(question) ── admission ──┬──▶ session
//!                                  └─────▶ Welcome ────────────────────┘
//! ```
//! The shard goes through these steps for every door alike; the control core asks only whether a path is one. What a
//! request must be for an upgrade is the same for all doors (RFC 6455 §4.2.1, spec: section 3).

use super::rainbow::admission::{self, Admission, Effects};
use super::rainbow::connect::{self, Question, Refusal};
use super::{Actions, Context, Session, echo, rainbow};
use crate::config::Config;
use crate::engine::command::CallbackOutcome;
use crate::engine::ids::Identity;
use crate::wire::http1::RequestHead;

/// A way in: one variant per kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/connect/`: rainbow-server's clients.
    Rainbow,
    /// `/echo/`, where `echo` is on: for conformance tests.
    Echo,
}

/// What a door says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knock {
    /// The business decides.
    Ask(Question),
    /// Anybody may come in.
    Welcome,
}

impl Door {
    /// The door behind a path, if there is one.
    pub fn at(path: &[u8], config: &Config) -> Option<Door> {
        match path {
            connect::PATH => Some(Door::Rainbow),
            echo::PATH if config.echo => Some(Door::Echo),
            _ => None,
        }
    }

    /// Looks at the request of a client that will be called `identity`. Errors are why it does not get in.
    pub fn knock(self, head: &RequestHead, identity: &Identity, config: &Config) -> Result<Knock, Refusal> {
        match self {
            Door::Rainbow => connect::ask(head, identity, config).map(Knock::Ask),
            Door::Echo if head.method == http::Method::GET => Ok(Knock::Welcome),
            Door::Echo => Err(Refusal::Method),
        }
    }

    /// What the outcome of the question means.
    pub fn admission(self, outcome: &CallbackOutcome) -> Admission {
        match self {
            Door::Rainbow => admission::admission(outcome),
            // Nobody is asked here.
            Door::Echo => Admission::Unavailable,
        }
    }

    /// The session of an admitted client; what the admission does to it goes to `out`.
    pub fn session(self, context: Context<'_>, effects: Effects, out: &mut Actions) -> Session {
        match self {
            Door::Rainbow => {
                let mut session = rainbow::session::Session::new(context);
                session.apply(effects, out);
                Session::Rainbow(session)
            }
            Door::Echo => Session::Echo(echo::Session),
        }
    }
}
