//! From a request head to an open client (spec: section 3). Order of checks: credentials, then the business, then the
//! upgrade headers.

use bytes::Bytes;

use super::client::{Open, Phase, Timer, Upgrade};
use super::frames::Outgoing;
use super::input::Input;
use super::sockets::Sockets;
use super::{Shard, context};
use crate::close::CloseCause;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest, Endpoint, Report};
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::protocol::door::Knock;
use crate::protocol::rainbow::admission::{Admission, Effects};
use crate::protocol::rainbow::answer::{HttpAnswer, Manner};
use crate::protocol::rainbow::connect::{self, Question, Refusal};
use crate::protocol::{Actions, Door, Session};
use crate::time::Instant;
use crate::wire::deflate::{self, Agreed};
use crate::wire::http1::{self, Framing, RequestHead};
use crate::wire::ws;

/// What an admitted client brings in.
#[derive(Default)]
struct Entry {
    effects: Effects,
    platform: Bytes,
}

impl Shard {
    /// Bytes of a request head are in the tail.
    pub(super) fn on_head(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) -> Input {
        loop {
            let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
                return Input::Gone;
            };
            if !matches!(client.phase, Phase::Handshaking { .. }) || client.tail.is_empty() {
                return self.input_state(id);
            }
            let head = match http1::parse_request(&client.tail, self.config.head_bytes) {
                Ok(None) => return Input::Continue,
                Ok(Some(head)) => head,
                Err(error) => {
                    tracing::debug!(%error, "request head refused");
                    self.refuse_head(id, &HttpAnswer::page(error.status()), now, sockets);
                    return self.input_state(id);
                }
            };
            let Some(door) = Door::at(head.path(), &self.config) else {
                if client.outbox.is_empty() {
                    return self.hand_over(id);
                }
                // An answer to an earlier request is still on its way out and would be cut: the peer asks again.
                self.close_client(id, CloseCause::Refused, None, now, sockets);
                return self.input_state(id);
            };
            client.tail.consume(head.head_len);
            self.on_connect(id, door, &head, now, sockets);
        }
    }

    pub(super) fn on_handshake_timeout(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        if !matches!(client.phase, Phase::Handshaking { .. }) {
            return;
        }
        // A kept-alive connection that never sent a byte of a next request is just idle.
        if client.tail.is_empty() {
            return self.drop_client(id, CloseCause::HandshakeTimeout, now, sockets);
        }
        self.answer(
            id,
            &HttpAnswer::page(http::StatusCode::REQUEST_TIMEOUT),
            Manner::LAST,
            now,
            sockets,
        );
        self.close_client(id, CloseCause::HandshakeTimeout, None, now, sockets);
    }

    /// The business has answered, or could not be asked.
    pub(super) fn on_auth(
        &mut self,
        id: ClientId,
        outcome: &CallbackOutcome,
        actions: &mut Actions,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Phase::Authorising {
            upgrade,
            platform,
            gone,
        } = &mut client.phase
        else {
            return;
        };
        let (upgrade, platform, gone) = (**upgrade, std::mem::take(platform), *gone);
        let admission = upgrade.door.admission(outcome);
        if gone {
            return self.on_auth_gone(id, upgrade, admission);
        }
        match admission {
            Admission::Admitted(effects) => {
                if upgrade.accept.is_ok() {
                    self.metrics.add(Metric::AuthOk, 1);
                }
                self.admit(id, upgrade, Entry { effects, platform }, actions, now, sockets);
            }
            Admission::Denied => {
                self.metrics.add(Metric::AuthDenied, 1);
                self.refuse_after_auth(
                    id,
                    Refusal::Unauthorized,
                    upgrade.manner,
                    CloseCause::Denied,
                    now,
                    sockets,
                );
            }
            Admission::Unavailable => {
                self.metrics.add(Metric::AuthUnavailable, 1);
                let overloaded = matches!(outcome, CallbackOutcome::Failed(CallbackFailure::Overloaded));
                let refusal = if overloaded {
                    self.metrics.add(Metric::RefusedAuthQueue, 1);
                    Refusal::Overloaded
                } else {
                    Refusal::Unavailable
                };
                self.refuse_after_auth(id, refusal, upgrade.manner, CloseCause::AuthUnavailable, now, sockets);
            }
        }
    }

    /// Nothing but the request itself can keep the client out now.
    fn admit(
        &mut self,
        id: ClientId,
        upgrade: Upgrade,
        entry: Entry,
        actions: &mut Actions,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let accept = match upgrade.accept {
            Ok(accept) => accept,
            Err(refusal) => {
                return self.refuse_after_auth(id, refusal, upgrade.manner, CloseCause::Refused, now, sockets);
            }
        };
        let Entry { mut effects, platform } = entry;
        let user = effects.user.take();
        let session = upgrade.door.session(context!(self, id), effects, actions);
        self.open(id, session, upgrade.deflate);
        if let Some(user) = user {
            self.bind(id, &user, platform, now);
        }
        self.watch_liveness(id, now);
        self.perform_steps(id, actions, now);
        // Written at the end of the turn, after the subscriptions were posted: a publish caused by this answer cannot
        // miss the client.
        self.metrics.add(Metric::Handshakes, 1);
        let mut switching = Vec::with_capacity(256);
        let extensions = upgrade.deflate.map(Agreed::answer);
        connect::switching(&mut switching, &accept, extensions.as_deref(), &self.date(now));
        self.queue(id, &switching, now, sockets);
        self.on_tail(id, now, sockets);
        self.resume_after_auth(id, sockets);
        self.note_admitted(id);
    }

    fn on_connect(&mut self, id: ClientId, door: Door, head: &RequestHead, now: Instant, sockets: &mut dyn Sockets) {
        let mut manner = Manner::of(head);
        // A body would be taken for frames, or for the next request.
        let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
        if has_body && head.method == http::Method::GET {
            return self.refuse_head(id, &HttpAnswer::page(http::StatusCode::BAD_REQUEST), now, sockets);
        }
        manner.keep_alive &= !has_body;
        if let Some(answer) = self.turned_away(id, head, sockets) {
            manner.keep_alive = false;
            self.answer(id, &answer, manner, now, sockets);
            return self.close_client(id, CloseCause::Refused, None, now, sockets);
        }
        let identity = self.identities.identity(id, &self.identities.check(id));
        let mut knock = match door.knock(head, &identity, &self.config) {
            Ok(knock) => knock,
            Err(refusal) => {
                self.note_refusal(refusal, now);
                self.answer(id, &refusal.answer(), manner, now, sockets);
                return if manner.keep_alive {
                    self.rearm_handshake(id, now);
                } else {
                    self.close_client(id, CloseCause::Refused, None, now, sockets);
                };
            }
        };
        let upgrade = Upgrade {
            door,
            accept: connect::upgrade_check(&head.headers),
            deflate: self.config.compression.then(|| agreement(head)).flatten(),
            manner,
        };
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let authorising = Phase::Authorising {
            upgrade: Box::new(upgrade),
            platform: match &mut knock {
                Knock::Ask(question) => std::mem::take(&mut question.platform),
                Knock::Welcome => Bytes::new(),
            },
            gone: false,
        };
        let phase = std::mem::replace(&mut client.phase, authorising);
        if let Phase::Handshaking { deadline } = phase {
            self.count_handshaking(false);
            self.wheel.cancel(deadline);
        }
        match knock {
            Knock::Ask(question) => {
                if let Some(parameter) = &question.withheld {
                    self.note_withheld(parameter, now);
                }
                let forwarded = head.headers.joined("x-forwarded-for");
                self.ask(id, question, sockets.address(id, forwarded.as_deref()));
            }
            Knock::Welcome => {
                let mut actions = std::mem::take(&mut self.actions);
                self.admit(id, upgrade, Entry::default(), &mut actions, now, sockets);
                self.actions = actions;
            }
        }
    }

    fn ask(&mut self, id: ClientId, question: Question, address: u64) {
        self.reports.push(Report::Callback(CallbackRequest {
            client: id,
            token: 0,
            endpoint: Endpoint::Connect,
            msgtype: 0,
            query: question.query,
            headers: question.headers,
            body: Bytes::new(),
            address,
        }));
    }

    fn open(&mut self, id: ClientId, session: Session, deflate: Option<Agreed>) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            self.metrics.add(Metric::SessionsOpen, 1);
            client.phase = Phase::Open(Open {
                decoder: ws::Decoder::new(),
                deflate,
                session,
                keep_alive: None,
            });
        }
    }

    /// Early input may have paused the socket.
    fn resume_after_auth(&mut self, id: ClientId, sockets: &mut dyn Sockets) {
        let config = &self.config;
        let Some(client) = self
            .clients
            .get_mut(id.slot, id.generation)
            .filter(|client| client.paused && !client.throttled)
        else {
            return;
        };
        if client.open().is_some_and(|open| open.session.wants_input(config)) {
            client.pause(false, &self.metrics);
            sockets.resume(id);
        }
    }

    /// The client left while the business was asked: it is never registered. If the business said yes it is told.
    fn on_auth_gone(&mut self, id: ClientId, upgrade: Upgrade, admission: Admission) {
        self.metrics.add(Metric::AuthGone, 1);
        // Whoever could not have become a client is not called back, gone or not.
        let (Admission::Admitted(effects), Ok(_)) = (admission, upgrade.accept) else {
            return self.free(id);
        };
        // What it would have joined is of no use any more.
        let session = upgrade
            .door
            .session(context!(self, id), effects, &mut Actions::default());
        self.close_unborn(id, session);
    }

    fn refuse_after_auth(
        &mut self,
        id: ClientId,
        refusal: Refusal,
        mut manner: Manner,
        cause: CloseCause,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        // Whoever sent more without waiting for the answer meant it for a websocket.
        manner.keep_alive &= client.tail.is_empty();
        let deadline = self
            .wheel
            .insert(now + self.config.handshake_timeout, Timer::Handshake(id));
        client.phase = Phase::Handshaking { deadline };
        self.count_handshaking(true);
        self.answer(id, &refusal.answer(), manner, now, sockets);
        if manner.keep_alive {
            self.count_close(cause);
        } else {
            self.close_client(id, cause, None, now, sockets);
        }
    }

    fn refuse_head(&mut self, id: ClientId, answer: &HttpAnswer, now: Instant, sockets: &mut dyn Sockets) {
        self.answer(id, answer, Manner::LAST, now, sockets);
        self.close_client(id, CloseCause::BadRequest, None, now, sockets);
    }

    pub(super) fn answer(
        &mut self,
        id: ClientId,
        answer: &HttpAnswer,
        manner: Manner,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let mut bytes = Vec::new();
        answer.write(&mut bytes, manner, &self.date(now));
        self.write(id, &Outgoing::Copied(&bytes), now, sockets);
    }

    /// A connection that was just accepted speaks TLS and has not sent a byte: for that it has less time than for the whole
    /// handshake. Until [`Shard::on_first_byte`].
    pub fn await_first_byte(&mut self, id: ClientId, now: Instant) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            client.active = now;
            let first_byte = self.config.tls_first_byte_timeout;
            if first_byte < self.config.handshake_timeout {
                self.rearm(id, now + first_byte, Timer::FirstByte(id));
            }
        }
    }

    /// Its first byte has come. What is left of `handshake_timeout` is for the rest.
    pub fn on_first_byte(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            let deadline = client.active + self.config.handshake_timeout;
            self.rearm(id, deadline, Timer::Handshake(id));
        }
    }

    fn rearm_handshake(&mut self, id: ClientId, now: Instant) {
        self.rearm(id, now + self.config.handshake_timeout, Timer::Handshake(id));
    }

    /// Another timer takes the place of the one that ends the handshake.
    fn rearm(&mut self, id: ClientId, at: Instant, timer: Timer) {
        let client = self.clients.get_mut(id.slot, id.generation);
        if let Some(Phase::Handshaking { deadline }) = client.map(|client| &mut client.phase) {
            let old = std::mem::replace(deadline, self.wheel.insert(at, timer));
            self.wheel.cancel(old);
        }
    }

    /// Not a client: free the slot and give everything to the control core.
    fn hand_over(&mut self, id: ClientId) -> Input {
        let Some(mut client) = self.clients.remove(id.slot, id.generation) else {
            return Input::Gone;
        };
        if let Phase::Handshaking { deadline } = client.phase {
            self.count_handshaking(false);
            self.wheel.cancel(deadline);
        }
        client.outbox.clear(&mut self.pool);
        self.metrics.add(Metric::HandedOver, 1);
        self.metrics.sub(Metric::ConnectionsOpen, 1);
        Input::HandOver(client.tail.into_vec())
    }

    fn date(&self, now: Instant) -> [u8; 29] {
        crate::wire::date::http_date((self.started_unix_micros + now.as_micros()) / 1_000_000)
    }
}

/// The compression this request gets, where it is on.
fn agreement(head: &RequestHead) -> Option<Agreed> {
    let offers = head.headers.joined("sec-websocket-extensions")?;
    deflate::negotiate(&offers)
}
