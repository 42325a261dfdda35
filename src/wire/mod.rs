//! Bytes on the wire: RFC 6455 frames, HTTP/1 heads and bodies, query strings.
//!
//! Everything here is a pure function or a small state machine over slices: no socket, no clock, no global state. Callers
//! are the doors (`protocol`), the shard and the control core; `wire` names none of them.
//!
//! Three rules hold in every file:
//! * nothing a peer sends can panic, and no allocation takes its size from a length the peer merely *declared*;
//! * every bound is an argument or a constant with its reason beside it;
//! * a decoder gives the same result however its input was cut into reads (`fuzzing.rs` checks exactly that).
//!
//! | module | what | source |
//! | --- | --- | --- |
//! | [`ws`] | frames in place, fragmentation, close codes, server and client encoders | RFC 6455, spec §14 |
//! | [`deflate`] | compressed messages | RFC 7692 |
//! | [`ws::upgrade`] | from a request to a websocket | RFC 6455 §4.2, spec §3 |
//! | [`gzip`] | packed answers | RFC 1952 |
//! | [`mask`] | the XOR of client frames | RFC 6455 §5.3 |
//! | [`http1`] | request and response heads, body framing, encoders | RFC 9110, RFC 9112, spec §15 |
//! | [`http1::answer`] | whole answers | spec §10, §15 |
//! | [`json`] | a few fields of an object; strings | RFC 8259, spec §10 |
//! | [`date`] | the text of a `Date` header | RFC 9110 §5.6.7 |
//! | [`query`] | `application/x-www-form-urlencoded` as Python 2 reads and writes it | spec §3, §4, §5, §10 |
//! | [`proxy`] | PROXY protocol headers | HAProxy's document, sections 2.1 and 2.2 |
//! | [`forwarded`] | the client's address in `X-Forwarded-For` | |

pub mod date;
pub mod deflate;
pub mod forwarded;
pub mod gzip;
pub mod http1;
pub mod json;
pub mod mask;
pub mod proxy;
pub mod query;
pub mod ws;
