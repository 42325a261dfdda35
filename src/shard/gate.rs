//! Who is turned away before anybody is asked: connections beyond `connections_max` and `handshakes_max`, clients from pages
//! of other origins, clients for whom there is no room. What only the shell knows (addresses, memory) it says through
//! [`Sockets::admit`].
//!
//! A full server still answers its HTTP interface: one slot in [`RESERVED_SHARE`] of `connections_max` is kept for connections
//! that ask for no door, and clients get a whole answer with Retry-After instead of a closed connection.

use super::Shard;
use super::sockets::{Sockets, Verdict};
use crate::config::OriginRule;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::http1::{Headers, RequestHead};

/// Every so many slots one is not for clients.
const RESERVED_SHARE: usize = 16;
/// Most slots of one shard that are not for clients.
const RESERVED_MAX: usize = 1024;

impl Shard {
    /// Whether another connection may be held; counts the refusal.
    pub(super) fn has_room(&self) -> bool {
        let share = |total: usize| total.div_ceil(self.shards.max(1));
        let reason = if self.is_shut() {
            None
        } else if self.clients.len() >= share(self.config.connections_max) {
            Some(Metric::RefusedFull)
        } else if self.handshaking >= share(self.config.handshakes_max) {
            Some(Metric::RefusedHandshakes)
        } else {
            return true;
        };
        if let Some(reason) = reason {
            self.metrics.add(reason, 1);
        }
        false
    }

    /// Counts connections that begin or end to wait for a request head.
    pub(super) fn count_handshaking(&mut self, begins: bool) {
        self.handshaking = if begins {
            self.handshaking + 1
        } else {
            self.handshaking.saturating_sub(1)
        };
        self.metrics.set(Metric::HandshakesOpen, self.handshaking as u64);
    }

    /// The answer to a client that does not get as far as being asked for; `None`: it may go on.
    pub(super) fn turned_away(
        &self,
        id: ClientId,
        head: &RequestHead,
        sockets: &mut dyn Sockets,
    ) -> Option<HttpAnswer> {
        if !self.config.origins.is_empty() && !is_allowed(&head.headers, &self.config.origins) {
            self.metrics.add(Metric::RefusedOrigin, 1);
            return Some(HttpAnswer::page(http::StatusCode::FORBIDDEN));
        }
        let share = self.config.connections_max.div_ceil(self.shards.max(1));
        let reserved = (share / RESERVED_SHARE).min(RESERVED_MAX);
        let clients = self.clients.len().saturating_sub(self.handshaking);
        let reason = if clients >= share - reserved {
            Metric::RefusedFull
        } else {
            match sockets.admit(id, head.headers.joined("x-forwarded-for").as_deref()) {
                Verdict::Welcome => return None,
                Verdict::AddressFull => Metric::RefusedAddress,
                Verdict::MemoryShort => Metric::RefusedMemory,
            }
        };
        self.metrics.add(reason, 1);
        Some(HttpAnswer::overloaded())
    }
}

/// Whether the page that opens the connection may. Browsers always say where a page comes from; who does not is none.
/// Versions 7 and 8 of the protocol call the header `Sec-WebSocket-Origin`.
fn is_allowed(headers: &Headers, origins: &[OriginRule]) -> bool {
    let said = headers
        .joined("origin")
        .or_else(|| headers.joined("sec-websocket-origin"));
    said.is_none_or(|origin| origins.iter().any(|rule| rule.allows(&origin)))
}
