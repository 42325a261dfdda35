//! The shell's sockets and clock. Nothing outside this layer opens a socket; `sys.rs` is the only unsafe code.
//!
//! | file | what |
//! | --- | --- |
//! | `runtime.rs`, `processors.rs` | a thread with a runtime per core, and which processors there are |
//! | `console.rs`, `signals.rs` | standard output and error; SIGTERM, SIGINT, SIGHUP |
//! | `listen.rs`, `takeover.rs` | listening sockets, port search; handing them to the next process |
//! | `core.rs` | one shard's core: turns, mailbox, timers, writing |
//! | `core/accept.rs`, `greet.rs`, `input.rs` | taking connections in, refusing them, reading them |
//! | `admission.rs`, `memory.rs` | who may connect: addresses, memory; `core/greet.rs` PROXY headers, refusals |
//! | `sockets.rs`, `kernel.rs` | the shard's sockets by slot; what the kernel does for them |
//! | `stream.rs` | a connection of the control core |
//! | `stamp.rs` | whether a file has changed |
//! | `tls/` | TLS of incoming connections |
//! | `mail.rs`, `wake.rs`, `ticker.rs`, `clock.rs` | messages between cores, sleeping and waking, time |
//! | `udp.rs` | the cluster's datagrams |
//! | `own_name.rs` | what this server calls itself |
//! | `http/` | outgoing HTTP |

pub mod admission;
#[cfg(feature = "application")]
pub mod application;
pub mod clock;
pub mod console;
pub mod core;
pub mod files;
pub mod http;
pub mod kernel;
pub mod listen;
pub mod mail;
pub mod memory;
pub mod own_name;
pub mod processors;
pub mod runtime;
pub mod signals;
pub mod sockets;
pub mod stamp;
pub mod stream;
pub mod sys;
pub mod takeover;
pub mod ticker;
pub mod tls;
pub mod udp;
pub mod wake;
