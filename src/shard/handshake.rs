//! From a request head to an open client. Order of checks: the door, then the backend if the door asks it, then the upgrade
//! headers (spec: section 3).

use bytes::Bytes;

use super::client::{Open, Phase, Timer, Upgrade};
use super::copies::Kind;
use super::frames::Outgoing;
use super::input::Input;
use super::sockets::Sockets;
use super::timers::SessionTimers;
use super::{Shard, context};
use crate::close::CloseCause;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest, Report};
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::protocol::{Action, Actions, Door, Entry, ListenerId, Question, Refused, Session};
use crate::time::Instant;
use crate::wire::deflate::{self, Agreed};
use crate::wire::http1::answer::{HttpAnswer, Manner};
use crate::wire::http1::{self, Framing, RequestHead};
use crate::wire::ws;
use crate::wire::ws::upgrade;

impl Shard {
    /// Bytes of a request head are in the tail.
    pub(super) fn on_head(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) -> Input {
        loop {
            let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
                return Input::Gone;
            };
            let listener = match client.phase {
                Phase::Handshaking { listener, .. } if !client.tail.is_empty() => listener,
                _ => return self.input_state(id),
            };
            let head = match http1::parse_request(&client.tail, self.config.head_bytes) {
                Ok(None) => return Input::Continue,
                Ok(Some(head)) => head,
                Err(error) => {
                    tracing::debug!(%error, "request head refused");
                    self.refuse_head(id, &HttpAnswer::page(error.status()), now, sockets);
                    return self.input_state(id);
                }
            };
            let Some(door) = listener.door(head.path(), &self.config) else {
                if !listener.has_api() {
                    self.refuse_head(id, &HttpAnswer::page(http::StatusCode::NOT_FOUND), now, sockets);
                    return self.input_state(id);
                }
                if client.outbox.is_empty() {
                    return self.hand_over(id, listener);
                }
                // An answer to an earlier request is still on its way out and would be cut: the peer asks again.
                self.close_client(id, CloseCause::Refused, None, now, sockets);
                return self.input_state(id);
            };
            client.tail.consume(head.head_len);
            self.on_connect(id, (listener, door), &head, now, sockets);
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
        let Phase::Authorising { upgrade, keep, gone } = &mut client.phase else {
            return;
        };
        let (upgrade, keep, gone) = (**upgrade, std::mem::take(keep), *gone);
        let admission = upgrade.door.answered(context!(self, id, now), keep, outcome, actions);
        if gone {
            return self.on_auth_gone(id, upgrade, admission, actions, now);
        }
        match admission {
            Ok(session) => {
                if upgrade.accept.is_ok() {
                    self.metrics.add(Metric::AuthOk, 1);
                }
                self.admit(id, upgrade, session, actions, now, sockets);
            }
            Err(refused) => {
                self.count_unasked(&refused, outcome);
                self.refuse_after_auth(id, &refused, (upgrade.listener, upgrade.manner), now, sockets);
            }
        }
    }

    fn count_unasked(&self, refused: &Refused, outcome: &CallbackOutcome) {
        match refused.cause {
            CloseCause::Denied => self.metrics.add(Metric::AuthDenied, 1),
            CloseCause::AuthUnavailable => {
                self.metrics.add(Metric::AuthUnavailable, 1);
                if matches!(outcome, CallbackOutcome::Failed(CallbackFailure::Overloaded)) {
                    self.metrics.add(Metric::RefusedAuthQueue, 1);
                }
            }
            _ => {}
        }
    }

    /// Nothing but the request itself can keep the client out now.
    fn admit(
        &mut self,
        id: ClientId,
        upgrade: Upgrade,
        session: Session,
        actions: &mut Actions,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let accept = match upgrade.accept {
            Ok(accept) => accept,
            Err(reason) => {
                actions.steps.clear();
                let refused = Refused {
                    answer: reason.answer(),
                    cause: CloseCause::Refused,
                };
                return self.refuse_after_auth(id, &refused, (upgrade.listener, upgrade.manner), now, sockets);
            }
        };
        self.open(id, session, &upgrade);
        self.watch_liveness(id, now);
        // Written at the end of the turn, after the subscriptions were posted: a publish caused by this answer cannot
        // miss the client.
        self.metrics.add(Metric::Handshakes, 1);
        let mut switching = Vec::with_capacity(256);
        let extensions = upgrade.deflate.map(Agreed::answer);
        upgrade::switching(&mut switching, &accept, extensions.as_deref(), &self.date(now));
        self.queue(id, &switching, now, sockets);
        self.perform(id, actions, now, sockets);
        self.on_tail(id, now, sockets);
        self.resume_after_auth(id, sockets);
        self.note_admitted(id);
    }

    fn on_connect(
        &mut self,
        id: ClientId,
        at: (ListenerId, Door),
        head: &RequestHead,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
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
        let forwarded = || head.headers.joined("x-forwarded-for");
        let wants_address = self.policy(at.1).wants_address;
        let address = wants_address
            .then(|| sockets.peer(id, forwarded().as_deref()))
            .flatten();
        let mut actions = std::mem::take(&mut self.actions);
        match at.1.knock(context!(self, id, now), head, address, &mut actions) {
            Entry::Ask(question) => {
                self.begin_entry(id, self.upgrade(at, head, manner), question.keep.clone());
                self.perform_steps(id, &mut actions, now, sockets);
                self.ask(id, question, sockets.address(id, forwarded().as_deref()));
            }
            Entry::Admit(session) => {
                let upgrade = self.upgrade(at, head, manner);
                self.begin_entry(id, upgrade, Bytes::new());
                self.admit(id, upgrade, session, &mut actions, now, sockets);
            }
            Entry::Answer(refused) => {
                self.perform_steps(id, &mut actions, now, sockets);
                self.refuse(id, &refused, manner, now, sockets);
            }
        }
        self.actions = actions;
    }

    fn upgrade(&self, (listener, door): (ListenerId, Door), head: &RequestHead, manner: Manner) -> Upgrade {
        Upgrade {
            door,
            listener,
            accept: upgrade::check(&head.headers),
            deflate: self.policy(door).compression.then(|| agreement(head)).flatten(),
            manner,
        }
    }

    /// The request has been read; what becomes of it is not decided.
    fn begin_entry(&mut self, id: ClientId, upgrade: Upgrade, keep: Bytes) {
        let authorising = Phase::Authorising {
            upgrade: Box::new(upgrade),
            keep,
            gone: false,
        };
        if let Some(phase) = self.phase_mut(id)
            && let Phase::Handshaking { deadline, .. } = std::mem::replace(phase, authorising)
        {
            self.count_handshaking(false);
            self.wheel.cancel(deadline);
        }
    }

    /// A door refuses a request without asking anybody.
    fn refuse(&mut self, id: ClientId, refused: &Refused, manner: Manner, now: Instant, sockets: &mut dyn Sockets) {
        self.answer(id, &refused.answer, manner, now, sockets);
        if manner.keep_alive {
            self.rearm_handshake(id, now);
        } else {
            self.close_client(id, refused.cause, None, now, sockets);
        }
    }

    fn ask(&mut self, id: ClientId, question: Question, address: u64) {
        self.reports.push(Report::Callback(CallbackRequest {
            client: id,
            token: 0,
            hook: question.hook,
            msgtype: 0,
            query: question.query,
            headers: question.headers,
            body: question.body,
            address,
        }));
    }

    fn open(&mut self, id: ClientId, session: Session, upgrade: &Upgrade) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            self.metrics.add(Metric::SessionsOpen, 1);
            client.phase = Phase::Open(Open {
                decoder: ws::Decoder::new(),
                deflate: upgrade.deflate,
                door: upgrade.door,
                kind: Kind::new(session.form(), upgrade.deflate),
                session,
                timers: SessionTimers::default(),
            });
        }
    }

    /// Early input may have paused the socket.
    fn resume_after_auth(&mut self, id: ClientId, sockets: &mut dyn Sockets) {
        let config = &self.config;
        let Some(client) = self
            .clients
            .get_mut(id.slot, id.generation)
            .filter(|client| client.paused && !client.throttled && !client.inflating)
        else {
            return;
        };
        if client.open().is_some_and(|open| open.session.wants_input(config)) {
            client.pause(false, &self.metrics);
            sockets.resume(id);
        }
    }

    /// The client left while the business was asked: it is never registered. If the business said yes it is told.
    fn on_auth_gone(
        &mut self,
        id: ClientId,
        upgrade: Upgrade,
        admission: Result<Session, Refused>,
        actions: &mut Actions,
        now: Instant,
    ) {
        self.metrics.add(Metric::AuthGone, 1);
        // It never joins them, but its session may have to tell what it would have been in. What it asks the backend it has to
        // be answered.
        let (mut names, mut asked) = (Vec::new(), Vec::new());
        for step in actions.steps.drain(..) {
            match step {
                Action::Join(name) | Action::Bind { name, .. } => names.push(name),
                Action::Callback(request) => asked.push(Report::Callback(request)),
                _ => {}
            }
        }
        // Whoever could not have become a client is not called back, gone or not.
        match (admission, upgrade.accept) {
            (Ok(session), Ok(_)) => {
                self.reports.append(&mut asked);
                self.close_unborn(id, session, &names, now);
            }
            _ => self.free(id),
        }
    }

    fn refuse_after_auth(
        &mut self,
        id: ClientId,
        refused: &Refused,
        (listener, mut manner): (ListenerId, Manner),
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
        client.phase = Phase::Handshaking { listener, deadline };
        self.count_handshaking(true);
        self.answer(id, &refused.answer, manner, now, sockets);
        if manner.keep_alive {
            self.count_close(refused.cause);
        } else {
            self.close_client(id, refused.cause, None, now, sockets);
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
        if let Some(Phase::Handshaking { deadline, .. }) = client.map(|client| &mut client.phase) {
            let old = std::mem::replace(deadline, self.wheel.insert(at, timer));
            self.wheel.cancel(old);
        }
    }

    /// Not a client: free the slot and give everything to the control core.
    fn hand_over(&mut self, id: ClientId, listener: ListenerId) -> Input {
        let Some(mut client) = self.clients.remove(id.slot, id.generation) else {
            return Input::Gone;
        };
        if let Phase::Handshaking { deadline, .. } = client.phase {
            self.count_handshaking(false);
            self.wheel.cancel(deadline);
        }
        client.outbox.clear(&mut self.pool);
        self.metrics.add(Metric::HandedOver, 1);
        self.metrics.sub(Metric::ConnectionsOpen, 1);
        Input::HandOver(client.tail.into_vec(), listener)
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
