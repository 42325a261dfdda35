//! The gateway door: websocket clients whose messages are opaque, with a uid, groups and session data that the backend gives
//! them, as GatewayWorker and bin-x/websocket have it. On where the settings have a section `[gateway]`, on ports of its own.
//! Pure, as everything in `protocol`.
//!
//! | module | what |
//! | --- | --- |
//! | [`names`] | the sets its clients are in |
//! | [`entry`] | how a client comes in |
//! | [`session`] | one client |
//! | [`data`] | what a backend keeps with a client |
//! | [`events`], [`answers`] | what the backend is told of clients, and what it answers |
//! | [`api`] | what backends ask, over HTTP and in their answers |

pub mod answers;
pub mod api;
pub mod data;
pub mod entry;
pub mod events;
pub mod names;
pub mod session;
