//! HTTP conformance and request smuggling, on the wire: what may reach a handler, what is refused, and that no two readers of
//! one stream can disagree on where a message ends (RFC 9110, RFC 9112).
//!
//! `requests.rs` is the table for the API server, run twice: as the first bytes of a connection (read by the shard) and behind
//! a request on a kept connection (read by the control core). `bodies.rs` has what needs a body and a look at what was
//! executed. `replies.rs` is the table for the callback client.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod replies;
mod requests;
