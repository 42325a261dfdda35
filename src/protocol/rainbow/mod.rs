//! The rainbow door: websocket clients with binary packets, business servers with signed HTTP both ways. Everything in
//! this folder is pure: bytes and the time come in, values and bytes go out.
//!
//! | module | what | spec section |
//! | --- | --- | --- |
//! | [`packet`] | binary packets | 6 |
//! | [`sign`] | signatures, ours and the callers' | 5 |
//! | [`entry`] | how a client comes in | 3 |
//! | [`connect`] | who may ask the business, and with what | 3, 4 |
//! | [`admission`] | what a business answer means for a client | 3, 4 |
//! | [`callback`] | URLs and headers of callbacks | 4, 7 |
//! | [`api`] | routes, parameters and timing of the HTTP API | 8, 10, 17 |
//! | [`answer`] | whole HTTP answers | 10, 15, 17 |
//! | [`serverinfo`] | the listing of channels, as JSON and as a page | 10 |
//! | [`announce`], [`peer`] | discovery of other servers: what they say, who is in | 12 |
//! | [`relay`] | what is asked of peers and how their answers add up | 12 |
//! | [`number`] | numbers as Python reads them | 10 |

pub mod admission;
pub mod announce;
pub mod answer;
pub mod api;
pub mod callback;
pub mod connect;
pub mod entry;
pub mod forwards;
pub mod inflight;
pub mod number;
pub mod packet;
mod passing;
pub mod peer;
pub mod relay;
pub mod serverinfo;
pub mod session;
pub mod sign;
