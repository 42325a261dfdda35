//! Other nodes: who they are, and asking them. Lives on the control core. What is asked and answered are the words of
//! [`engine::remote`](crate::engine::remote); a protocol between nodes translates them, and is a folder here.
//!
//! | folder | the nodes are |
//! | --- | --- |
//! | `rainbow/` | rainbow-servers, the original ones too: UDP and HTTP |

pub mod rainbow;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::rainbow::Announce;
use crate::config::Config;
use crate::engine::remote::{Inbound, Outbound};
use crate::io::clock::Clock;
use crate::io::http::Client;

/// The other nodes, kept up to date by tasks of the control core.
#[derive(Clone)]
pub struct Cluster {
    rainbow: rainbow::Servers,
}

/// One of them; which one is its protocol's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(SocketAddr);

impl Cluster {
    /// Looks for nodes on this thread's runtime, which must have its timer enabled.
    pub fn start(config: &Arc<Config>, announce: Announce, client: Client, clock: Clock) -> Self {
        Self {
            rainbow: rainbow::Servers::start(config, announce, client, clock),
        }
    }

    /// Whom to ask too. What another node has passed on (`is_passed_on`) goes to none but a process this one has replaced.
    pub fn nodes(&self, is_passed_on: bool) -> Vec<Node> {
        self.rainbow.targets(is_passed_on).into_iter().map(Node).collect()
    }

    /// Asks one node; never fails the caller, and ends in a time that the question bounds.
    pub async fn ask(&self, node: Node, ask: &Outbound) -> Inbound {
        self.rainbow.ask(node.0, ask).await
    }

    /// How many other nodes there are.
    pub fn count(&self) -> usize {
        self.rainbow.peers().len()
    }

    /// Tells where the server this one has replaced can be asked; `None`: it has ended.
    pub fn set_predecessor(&self, address: Option<SocketAddr>) {
        self.rainbow.set_predecessor(address);
    }

    /// Takes over the settings that a reload may change.
    pub fn reload(&self, config: &Arc<Config>) {
        self.rainbow.reload(config);
    }

    /// Says goodbye, unless a process that replaces this one has its place (`is_replaced`). What comes from other nodes, and
    /// goes to them, is still served.
    pub fn leave(&self, is_replaced: bool) {
        self.rainbow.leave(is_replaced);
    }

    /// The cluster of rainbow-servers, whose protocol goes through the HTTP interface.
    pub fn rainbow(&self) -> &rainbow::Servers {
        &self.rainbow
    }
}
