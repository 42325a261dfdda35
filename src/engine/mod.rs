//! The engine: clients grouped in channels, messages published to them, acknowledgements counted. It names no protocol
//! and opens no socket.

pub mod command;
pub mod ids;
pub mod mailbox;
pub mod outbox;
pub mod registry;
pub mod slots;
pub mod sync;
pub mod wheel;
