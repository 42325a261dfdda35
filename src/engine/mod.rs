//! The engine: clients grouped in channels, messages published to them, acknowledgements counted. It names no protocol,
//! opens no socket, reads no clock: bytes, commands and `now` in, bytes, reports and answers out.
//!
//! The walk of one publish through these modules:
//! ```text
//!   control: receipt::Receipts::open ── mailbox ──▶ home shard: registry::Interest (which shards?)
//!      ▲                                                   │ mailbox, one envelope per shard
//!      │ one answer                                        ▼
//!   receipt ◀── mailbox: command::Part ── shard: registry::Members (which clients?) ──▶ outbox ──▶ socket
//!                                            └─ wheel: retries, keep-alive, deadlines
//! ```
//!
//! Invariants:
//! - **One thread each.** Everything here but [`mailbox`] belongs to one core; there are no locks. Cores exchange
//!   [`command`]s, never memory (payloads and names are shared, and constant).
//! - **Handles cannot lie.** A slot, a timer or a ticket is checked by its generation or never given out twice: what comes
//!   late for something dead is a no-op ([`ids`], [`slots`], [`wheel`], [`receipt`]).
//! - **Everything is bounded** or bounded by its caller, and the module header says how and what happens at the bound
//!   ([`outbox`], [`mailbox`]).
//! - **Order.** Mailboxes are FIFO per sender and receiver, an outbox is FIFO, a channel has one home: all subscribers of
//!   a channel see one order, and an effect is posted before the answer that tells of it.
//! - **One seed, one run.** No result depends on the order of a hash table, so the simulator can repeat a run.

pub mod ack_data;
pub mod command;
pub mod desk;
pub mod hook;
pub mod ids;
pub mod mailbox;
pub mod name;
pub mod outbox;
pub mod outlets;
pub mod publish;
pub mod query;
pub mod receipt;
pub mod registry;
pub mod remote;
pub mod slots;
pub mod sync;
pub mod wheel;
