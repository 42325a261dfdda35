//! The HTTP interface of this door, without the HTTP: what callers can ask, how it is read and how it is answered.
//!
//! ```text
//!   REST request ──┐
//!   /v1/call/… ────┤
//!   /v1/batch ─────┼─▶ Arguments ─▶ Request { Call } ── carried out by the control core ──▶ Outcome ─▶ JSON
//!   an action ─────┤                    ▲
//!   (a library) ───┴────────────────────┘
//! ```
//! `table.rs` is the table of functions from which all of this follows, the OpenAPI description (`openapi.rs`) and the table in
//! docs/gateway.md included.
//!
//! Invariants: what is refused has changed nothing; all of a batch is read before any of it is carried out; every length a
//! caller chooses is checked before anything of that length is made.
//!
//! | file | what |
//! | --- | --- |
//! | `table.rs` | functions: names, routes, parameters, answers |
//! | `call.rs` | what they ask, with typed arguments |
//! | `read.rs`, `path.rs` | requests → calls |
//! | `arguments.rs`, `parameter.rs` | arguments and what each may be |
//! | `json.rs` | JSON of callers |
//! | `outcome.rs`, `shape.rs`, `error.rs` | what came of a call, and how it looks |
//! | `openapi.rs`, `manual.rs` | descriptions made from the table |

mod arguments;
mod call;
mod error;
mod json;
mod manual;
pub mod openapi;
mod outcome;
mod parameter;
mod path;
mod read;
mod shape;
mod table;
#[cfg(test)]
mod tests;

pub use self::arguments::checked_name;
pub use self::call::{
    CLIENT_TEXT_LEN, Call, ClientText, Exclusive, Farewell, GroupDetail, Message, Page, REASON_BYTES_MAX, Request,
    Send, Targets,
};
pub use self::error::{ApiError, ErrorCode};
pub use self::json::{DEPTH_MAX, VALUES_MAX, compact, read as read_json};
pub use self::manual::{functions, routes};
pub use self::outcome::{Listed, NodeInfo, Outcome, Sent, answer};
pub use self::parameter::{Kind, Parameter, Place};
pub use self::path::methods;
pub use self::read::{HttpRequest, item};
pub use self::shape::Shape;
pub use self::table::{Alias, FUNCTIONS, Function, Route, Sources};

/// Longest uid or group, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Items of a list among the arguments.
pub const LIST_MAX: usize = 10_000;

/// Items of one page of an answer.
pub const PAGE_MAX: usize = 10_000;

/// Calls of one batch.
pub const BATCH_MAX: usize = 1000;

/// Longest body, in bytes, where `api_body_max` allows it: what is made of it takes a multiple.
pub const BODY_MAX: usize = 8 << 20;

/// Whether a path belongs to this interface.
pub fn is_path(path: &[u8]) -> bool {
    path.starts_with(b"/v1/")
}

/// In whose name a function is called.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The client of the event that is being answered.
    pub current: Option<ClientText>,
    /// Clients that are not there are no error.
    pub lenient: bool,
    /// It is one of a batch.
    pub is_batch: bool,
}
