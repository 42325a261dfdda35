//! What was asked of this server, asked of the others of its cluster too (spec: section 12). Caller: `control/mod.rs`.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use crate::control::Control;
use crate::engine::command::CallbackOutcome;
use crate::engine::ids::Ticket;
use crate::engine::remote::Outbound;
use crate::protocol::rainbow::relay::{self, PeerRequest, Relay};
use crate::protocol::rainbow::sign::{Body, Signer};

impl Control {
    /// Asks every peer, each in a task of its own; each answer or failure is told the desk under `ticket`.
    pub(in crate::control) fn ask_peers(self: &Rc<Self>, peers: &[SocketAddr], ask: Outbound, ticket: Option<Ticket>) {
        let ask = Rc::new(ask);
        let signed = Body::hashed(&ask.body, ask.sha256);
        for peer in peers {
            let request = self.relay(*peer, ask.is_vouched, |relay| {
                PeerRequest::new(&ask.verb, &signed, relay)
            });
            let (control, peer, ask) = (self.clone(), *peer, ask.clone());
            monoio::spawn(async move {
                let again =
                    |relay: &Relay<'_>| PeerRequest::new(&ask.verb, &Body::hashed(&ask.body, ask.sha256), relay);
                let outcome = control.call_peer(peer, ask.is_vouched, request, &ask.body, again).await;
                let Some(ticket) = ticket else { return };
                let inbound = relay::inbound(&ask.verb, &outcome, control.clock.now());
                let inbound = control.bounded(inbound);
                control.desk.borrow_mut().on_remote(ticket, inbound);
                control.carry(&[]);
            });
        }
    }

    /// Builds a request to a peer, with a fresh signature if the caller has signed.
    fn relay(&self, peer: SocketAddr, is_vouched: bool, build: impl FnOnce(&Relay<'_>) -> PeerRequest) -> PeerRequest {
        let config = self.config();
        let unix_seconds = self.clock.unix_micros() / 1_000_000;
        let nonce = self.cluster.nonce(unix_seconds, getrandom::u64().unwrap_or_default());
        let signer = Signer {
            is_relay: true,
            ..Signer::of(&config, unix_seconds, nonce)
        };
        let node = self.cluster.identity(peer);
        build(&Relay {
            signer: is_vouched.then_some(signer),
            node: node.as_deref(),
        })
    }

    /// Asks a peer. One that has been restarted is another server, for which the request has to be signed anew: it has
    /// refused the first one unread.
    async fn call_peer(
        &self,
        peer: SocketAddr,
        is_vouched: bool,
        request: PeerRequest,
        body: &Bytes,
        build: impl FnOnce(&Relay<'_>) -> PeerRequest,
    ) -> CallbackOutcome {
        let is_named = is_vouched && self.cluster.identity(peer).is_some();
        let outcome = self.cluster.call(peer, &request, body.clone()).await;
        if is_named && relay::is_refused(&outcome) && self.cluster.has_changed(peer).await {
            let request = self.relay(peer, is_vouched, build);
            return self.cluster.call(peer, &request, body.clone()).await;
        }
        outcome
    }
}
