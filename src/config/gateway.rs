//! Settings of the gateway door, section `[gateway]`: the door is on where the section is. Their meanings stand in the table
//! (`keys/gateway.rs`) under the same names. Filled by `load.rs`, read by the door, its surface and the assembly.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::types::Secret;
use super::url::Endpoint;

/// What a client id looks like.
pub use super::types::IdFormat;

/// The section of the gateway's settings.
pub const SECTION: &str = "gateway";

/// Settings of the gateway door.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gateway {
    /// The file has the section. Without it nothing here is used.
    pub on: bool,
    /// Port of the clients.
    pub port: u16,
    /// Port of the clients for TLS, with the certificates of the main one; `None`: none.
    pub tls_port: Option<u16>,
    /// Addresses to listen on; empty: those of the main port.
    pub bind: Vec<IpAddr>,
    /// Paths that clients may connect to; empty: any.
    pub paths: Vec<String>,
    /// Code of this process is told of every event, and no backend. No setting of the file.
    pub handlers: bool,
    /// Told of every event that has no URL of its own.
    pub url: Option<Endpoint>,
    /// Asked whether a client may connect.
    pub connect_url: Option<Endpoint>,
    /// Told what a client says.
    pub message_url: Option<Endpoint>,
    /// Told that a client has gone.
    pub close_url: Option<Endpoint>,
    /// Key of the signature of events.
    pub secret: Secret,
    /// Tokens callers of the API may use.
    pub api_tokens: Vec<Secret>,
    /// Largest message of a client in bytes.
    pub message_max: usize,
    /// Silence before a ping; zero: no pings.
    pub ping_interval: Duration,
    /// Silence after a ping before the client is closed; zero: any.
    pub ping_timeout: Duration,
    /// Text of the message that takes the place of a ping; empty: a websocket ping.
    pub ping_data: String,
    /// Silence before the client is closed; zero: any.
    pub idle_timeout: Duration,
    /// Bytes of the session data of one client.
    pub session_max: usize,
    /// Bytes of the session data of all clients.
    pub sessions_max: usize,
    /// Form of client ids.
    pub id_format: IdFormat,
    /// The address in ids of GatewayWorker's form; `None`: 127.0.0.1.
    pub lan_ip: Option<Ipv4Addr>,
}
