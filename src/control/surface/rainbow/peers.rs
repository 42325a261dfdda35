//! What was asked of this server, asked of the others of its cluster too (spec: section 12). Caller: `surface/rainbow.rs`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::{Payload, Trust};
use crate::control::Control;
use crate::control::wait::Countdown;
use crate::engine::command::CallbackOutcome;
use crate::engine::ids::Ticket;
use crate::engine::name::Space;
use crate::protocol::rainbow::api::SendAsk;
use crate::protocol::rainbow::relay::{self, PeerRequest, Relay};
use crate::protocol::rainbow::sign::{Body, Signer};

/// Passes a publish to every peer, each in a task of its own; each answer or failure is counted under `ticket`.
pub fn ask_peers(control: &Rc<Control>, peers: &[SocketAddr], ask: &SendAsk, body: &Payload, ticket: Ticket) {
    let signed = body.hashed();
    let is_user = ask.to.space() == Space::User;
    for peer in peers {
        let request = control.relay(*peer, Trust::Signed, |relay| PeerRequest::send(ask, &signed, relay));
        let (control, peer, ask, body) = (control.clone(), *peer, ask.clone(), body.clone());
        monoio::spawn(async move {
            let again = |relay: &Relay<'_>| PeerRequest::send(&ask, &body.hashed(), relay);
            let outcome = control
                .call_peer(peer, Trust::Signed, request, &body.bytes, again)
                .await;
            let part = match is_user {
                true => relay::online_part(&outcome, control.clock.now()),
                false => relay::peer_part(&outcome),
            };
            control.on_peer(ticket, part);
        });
    }
}

impl Control {
    /// Builds a request to a peer, with a fresh signature if the caller has signed.
    fn relay(&self, peer: SocketAddr, trust: Trust, build: impl FnOnce(&Relay<'_>) -> PeerRequest) -> PeerRequest {
        let config = self.config();
        let unix_seconds = self.clock.unix_micros() / 1_000_000;
        let nonce = self.cluster.nonce(unix_seconds, getrandom::u64().unwrap_or_default());
        let signer = Signer {
            is_relay: true,
            ..Signer::of(&config, unix_seconds, nonce)
        };
        let node = self.cluster.identity(peer);
        build(&Relay {
            signer: (trust == Trust::Signed).then_some(signer),
            node: node.as_deref(),
        })
    }

    /// Asks a peer. One that has been restarted is another server, for which the request has to be signed anew: it has
    /// refused the first one unread.
    async fn call_peer(
        &self,
        peer: SocketAddr,
        trust: Trust,
        request: PeerRequest,
        body: &Bytes,
        build: impl FnOnce(&Relay<'_>) -> PeerRequest,
    ) -> CallbackOutcome {
        let is_named = trust == Trust::Signed && self.cluster.identity(peer).is_some();
        let outcome = self.cluster.call(peer, &request, body.clone()).await;
        if is_named && relay::is_refused(&outcome) && self.cluster.has_changed(peer).await {
            let request = self.relay(peer, trust, build);
            return self.cluster.call(peer, &request, body.clone()).await;
        }
        outcome
    }
}

/// A request passed to all peers at once; their answers in the order of arrival.
pub struct Others {
    arrived: Rc<RefCell<Vec<CallbackOutcome>>>,
    all: Countdown,
}

impl Others {
    pub fn ask(
        control: &Rc<Control>,
        trust: Trust,
        local_only: bool,
        body: &Payload,
        build: impl Fn(&Body<'_>, &Relay<'_>) -> PeerRequest + Copy + 'static,
    ) -> Self {
        let peers = control.cluster.targets(local_only);
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let all = Countdown::new(peers.len());
        let signed = body.hashed();
        for peer in peers {
            let request = control.relay(peer, trust, |relay| build(&signed, relay));
            let (control, body, arrived, all) = (control.clone(), body.clone(), arrived.clone(), all.clone());
            monoio::spawn(async move {
                let again = |relay: &Relay<'_>| build(&body.hashed(), relay);
                let outcome = control.call_peer(peer, trust, request, &body.bytes, again).await;
                arrived.borrow_mut().push(outcome);
                all.count();
            });
        }
        Self { arrived, all }
    }

    pub async fn outcomes(self) -> Vec<CallbackOutcome> {
        self.all.zero().await;
        self.arrived.take()
    }
}
