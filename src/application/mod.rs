//! The gateway as a library: handlers in Rust take the place of a backend.
//!
//! A program implements [`Application`] and gives it to [`serve`]. What clients do comes to its methods; what it wants done it
//! asks of [`Api`], from a handler or from anywhere else. Everything that the gateway is otherwise (settings, limits, TLS, the
//! HTTP interface `/v1`, metrics, signals) is as in the command `rainbow-server`; docs/gateway.md describes it.
//!
//! ```no_run
//! use rainbow_server::application::{Api, Application, Client, Message, Server, serve};
//!
//! struct Echo;
//!
//! impl Application for Echo {
//!     async fn on_connect(&self, api: &Api, client: &Client) {
//!         let _ = api.join_group(client.id(), "everybody who is here").await;
//!     }
//!
//!     async fn on_message(&self, _api: &Api, client: &Client, message: Message) {
//!         if let Err(error) = client.send(message).await {
//!             eprintln!("{}: {error}", client.id());
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), String> {
//!     serve(Server::new().gateway("port", 7272), Echo)
//! }
//! ```
//!
//! # Order
//! Of one client: `on_handshake`, `on_connect`, `on_message` for each message in order, `on_close` once, each after the one before
//! has ended. Of different clients: at the same time, on the threads of a tokio runtime, so handlers may use everything that
//! needs one. The cores that hold the connections run no handler: however long one takes, pings are answered and clients
//! stay.
//!
//! # Bounds
//! As for a backend over HTTP: `callback_concurrency` handlers at once (of `on_handshake`: `auth_concurrency`), `callback_queue` events wait for one, a client
//! with `forward_queue` messages waiting is not read. A handler that takes longer than `callback_timeout` is ended: its
//! future is dropped. One that blocks its thread cannot be ended; give what blocks to `tokio::task::spawn_blocking`.
//!
//! # Panics
//! A handler that panics closes its client (code 1011, cause `panicked`) and nobody else. One of `on_handshake` turns the client
//! away.

mod api;
mod client;
mod closing;
mod events;
mod handlers;
mod lists;
mod message;
mod running;
mod sending;
mod server;
mod settings;

use std::future::{Future, ready};

pub use self::api::{Api, ClientId, Pending, Session};
pub use self::client::{Admit, Client, ClosedClient, Fields, Handshake};
pub use self::closing::Closing;
pub use self::lists::{Listing, Part};
pub use self::message::Message;
pub use self::running::Running;
pub use self::sending::Sending;
pub use self::server::{Server, serve};
pub use crate::protocol::gateway::api::{ApiError, ErrorCode, Exclusive, NodeInfo, Sent};

/// What a program does with its clients. Every method may be left out.
pub trait Application: Send + Sync + 'static {
    /// The server is up. No event is handled before this has ended.
    fn on_start(&self, api: &Api) -> impl Future<Output = ()> + Send {
        let _ = api;
        ready(())
    }

    /// May this client come in? Left out, everybody may.
    fn on_handshake(&self, api: &Api, handshake: &Handshake) -> impl Future<Output = Admit> + Send {
        let _ = (api, handshake);
        ready(Admit::accept())
    }

    /// A client has come in. What is sent to it from now on reaches it.
    fn on_connect(&self, api: &Api, client: &Client) -> impl Future<Output = ()> + Send {
        let _ = (api, client);
        ready(())
    }

    /// A client says something.
    fn on_message(&self, api: &Api, client: &Client, message: Message) -> impl Future<Output = ()> + Send {
        let _ = (api, client, message);
        ready(())
    }

    /// A client is gone: it is offline, and in no group any more.
    fn on_close(&self, api: &Api, client: &ClosedClient) -> impl Future<Output = ()> + Send {
        let _ = (api, client);
        ready(())
    }

    /// The server has stopped: the last client is gone, and its `on_close` has ended.
    fn on_stop(&self, api: &Api) -> impl Future<Output = ()> + Send {
        let _ = api;
        ready(())
    }
}
