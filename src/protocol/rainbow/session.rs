//! One admitted rainbow client: the QoS state machine in both directions (spec: sections 7 and 8).
//!
//! ```text
//!   client SEND q0 ─▶ forward                      business /send/ q1/q2 ─▶ SEND id ─▶ client
//!          SEND q1 ─▶ forward ─2xx─▶ ACK id          client ACK or REC id ─▶ done (REC also ─▶ REL id)
//!          SEND q2 ─▶ remember id, forward ─2xx─▶ REC id;  REL id ─▶ forget one use of id, COM id
//! ```
//! Nothing is sent when the business fails: the client may repeat. Headers of a 2xx reply take effect before its answer
//! is written.

use std::collections::HashMap;

use bytes::Bytes;

use super::admission::{self, Effects};
use super::callback::{self, HOOKS};
use super::forwards::Forwards;
use super::inflight::Inflight;
use super::packet::{self, Answer, Form, Packet};
use crate::budget::{self, Use};
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::ack_data;
use crate::engine::command::{CallbackOutcome, CallbackRequest, Publish, Qos};
use crate::engine::hook::Event;
use crate::engine::ids::{CHECK_BYTES, DeliveryKey, Identity};
use crate::limits::CLOSE_TIMEOUT;
use crate::protocol::{Action, Actions, Context, InflightFull, TimerKind};
use crate::time::Duration;
use crate::wire::ws;

/// What messages are charged as until the backend has answered.
const FORWARDS: usize = Use::Forwards as usize;

/// The timer of a client that owes a pong.
const KEEP_ALIVE: TimerKind = TimerKind {
    number: 0,
    awaits_client: true,
};

/// Time a client has to answer the ping that follows a failed delivery (spec: section 9).
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

const _: () = assert!(KEEP_ALIVE_TIMEOUT.as_secs() > CLOSE_TIMEOUT.as_secs());

/// State of one rainbow client, between its 101 and its close callback.
#[derive(Debug)]
pub struct Session {
    check: [u8; CHECK_BYTES],
    cookie: Option<Box<[u8]>>,
    inflight: Inflight,
    forwards: Forwards,
    /// Ids of QoS 2 SENDs whose REL has not come, at most 65536, and how many of them use the id: a client that uses one
    /// again before its REL has two exchanges under it, and each REL ends one.
    received: HashMap<u16, u32, foldhash::fast::FixedState>,
}

impl Session {
    /// The session of a client the business has just admitted. `effects` of the connect reply are the caller's to apply
    /// ([`Session::apply`]) once the client is registered.
    pub fn new(context: Context<'_>) -> Self {
        Self {
            check: context.identities.check(context.client),
            cookie: None,
            inflight: Inflight::default(),
            forwards: Forwards::default(),
            received: HashMap::default(),
        }
    }

    /// Applies the headers of a reply: cookie, leave, join, in this order (spec: section 4).
    pub fn apply(&mut self, effects: Effects, out: &mut Actions) {
        self.apply_cookie(&effects);
        out.steps.extend(effects.leave.into_iter().map(Action::Leave));
        out.steps.extend(effects.join.into_iter().map(Action::Join));
    }

    pub(crate) fn on_message(&mut self, context: Context<'_>, kind: ws::Kind, payload: &[u8], out: &mut Actions) {
        let form = match kind {
            ws::Kind::Text => Form::Text,
            ws::Kind::Binary => Form::Binary,
        };
        match Packet::decode(payload, form) {
            Ok(Packet::Send {
                dup,
                raw_qos,
                msgtype,
                id,
                payload,
            }) => {
                self.on_send(
                    context,
                    Send {
                        dup,
                        raw_qos,
                        msgtype,
                        id,
                        payload,
                    },
                    out,
                );
            }
            Ok(Packet::Ack { id, data }) => self.on_acknowledged(context, id, data, out),
            Ok(Packet::Rec { id, data }) => {
                self.on_acknowledged(context, id, data, out);
                reply(out, &packet::answer(Answer::Rel, id), &[]);
            }
            Ok(Packet::Rel { id }) => {
                self.forget_received(id);
                reply(out, &packet::answer(Answer::Com, id), &[]);
            }
            Ok(Packet::Com { .. }) => {}
            // The original drops what it does not understand and keeps the connection (spec: section 6).
            Err(malformed) => tracing::debug!(?malformed, "packet dropped"),
        }
    }

    pub(crate) fn on_pong(&mut self, out: &mut Actions) {
        out.steps.push(Action::Disarm(KEEP_ALIVE));
    }

    pub(crate) fn on_delivery(
        &mut self,
        context: Context<'_>,
        publish: &Publish,
        delivery: DeliveryKey,
        frame: &mut Vec<u8>,
    ) -> Result<u16, InflightFull> {
        let id = self
            .inflight
            .insert(delivery, context.config.inflight_max)
            .ok_or(InflightFull)?;
        send_head(publish, Some(id), false, frame);
        Ok(id)
    }

    pub(crate) fn is_waiting(&self, id: u16, delivery: DeliveryKey) -> bool {
        self.inflight.find(id) == Some(delivery)
    }

    pub(crate) fn on_exhausted(&mut self, id: u16, out: &mut Actions) {
        self.inflight.remove(id);
        // Only a failed delivery makes the original ping (spec: section 9).
        let (header, len) = ws::header(ws::Opcode::Ping, 0);
        out.reply.extend_from_slice(&header[..len]);
        out.reply_frames += 1;
        out.steps.push(Action::Arm(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT));
    }

    /// No pong came in time.
    pub(crate) fn on_timer(&self, _only: TimerKind, out: &mut Actions) {
        out.steps.push(Action::Close(CloseCause::KeepAliveTimeout, None));
    }

    pub(crate) fn on_callback(
        &mut self,
        context: Context<'_>,
        token: u64,
        outcome: CallbackOutcome,
        open: bool,
        out: &mut Actions,
    ) {
        let Token { raw_qos, id, bytes } = Token::unpack(token);
        if let Some(next) = self.forwards.finish(bytes, context.config) {
            out.steps.push(Action::Callback(self.refreshed(context, next)));
        }
        let answer = match outcome {
            CallbackOutcome::Answered(answer) if answer.is_success() => answer,
            _ => {
                if raw_qos == 2 {
                    self.forget_received(id);
                }
                return;
            }
        };
        let effects = admission::effects(&answer);
        if !open {
            return self.apply_cookie(&effects);
        }
        self.apply(effects, out);
        match raw_qos {
            1 => reply(out, &packet::answer(Answer::Ack, id), &answer.body),
            2 => reply(out, &packet::answer(Answer::Rec, id), &answer.body),
            _ => {}
        }
    }

    pub(crate) fn wants_input(&self, config: &Config) -> bool {
        self.forwards.has_room(!self.inflight.is_empty(), config)
    }

    pub(crate) fn callbacks_pending(&self) -> usize {
        self.forwards.len()
    }

    pub(crate) fn abandon_deliveries(&mut self, abandoned: impl FnMut(DeliveryKey)) {
        self.inflight.clear(abandoned);
    }

    pub(crate) fn close_callback(&self, context: Context<'_>) -> CallbackRequest {
        CallbackRequest {
            client: context.client,
            token: 0,
            hook: HOOKS.on(Event::Close),
            msgtype: 0,
            query: Bytes::new(),
            headers: self.callback_headers(context),
            body: Bytes::new(),
            address: 0,
        }
    }

    pub(crate) fn identity(&self, context: Context<'_>) -> Identity {
        context.identities.identity(context.client, &self.check)
    }

    fn on_send(&mut self, context: Context<'_>, send: Send<'_>, out: &mut Actions) {
        if send.raw_qos == 2 {
            // A repeat of a remembered id is dropped silently; without DUP it is a new message (spec: section 7).
            if send.dup && self.received.contains_key(&send.id) {
                return;
            }
            let uses = self.received.entry(send.id).or_default();
            *uses = uses.saturating_add(1);
        }
        let request = CallbackRequest {
            client: context.client,
            token: Token {
                raw_qos: send.raw_qos,
                id: send.id,
                bytes: send.payload.len(),
            }
            .pack(),
            hook: HOOKS.on(Event::Message),
            msgtype: send.msgtype,
            query: Bytes::new(),
            headers: Bytes::new(),
            body: budget::hold::<FORWARDS>(send.payload.to_vec()),
            address: 0,
        };
        if let Some(request) = self.forwards.push(request, context.config) {
            out.steps.push(Action::Callback(self.refreshed(context, request)));
        }
    }

    fn on_acknowledged(&mut self, context: Context<'_>, id: u16, data: &[u8], out: &mut Actions) {
        let Some(delivery) = self.inflight.remove(id) else {
            return;
        };
        // Most have none.
        if data.is_empty() {
            out.steps.push(Action::Acknowledged(delivery, Bytes::new()));
            return;
        }
        let kept = ack_data::keep(data, context.config.ack_data_max).unwrap_or_else(|why| {
            out.steps.push(Action::DataLeftOut(why, data.len()));
            Bytes::new()
        });
        out.steps.push(Action::Acknowledged(delivery, kept));
    }

    /// One exchange under `id` is over.
    fn forget_received(&mut self, id: u16) {
        let Some(uses) = self.received.get_mut(&id) else {
            return;
        };
        *uses -= 1;
        if *uses == 0 {
            self.received.remove(&id);
            if self.received.is_empty() {
                self.received = HashMap::default();
            }
        }
    }

    pub(crate) fn apply_cookie(&mut self, effects: &Effects) {
        if let Some(cookie) = &effects.cookie {
            self.cookie = cookie.as_ref().map(|value| value.as_ref().into());
        }
    }

    /// Headers are written when a forward leaves, so that it carries the cookie of that moment.
    fn refreshed(&self, context: Context<'_>, mut request: CallbackRequest) -> CallbackRequest {
        request.headers = self.callback_headers(context);
        request
    }

    fn callback_headers(&self, context: Context<'_>) -> Bytes {
        callback::client_headers(&self.identity(context), self.cookie.as_deref()).into()
    }
}

/// A SEND of the client.
struct Send<'a> {
    dup: bool,
    raw_qos: u8,
    msgtype: u16,
    id: u16,
    payload: &'a [u8],
}

/// What a forward was about: returned with its outcome.
struct Token {
    raw_qos: u8,
    id: u16,
    bytes: usize,
}

impl Token {
    /// Payloads are bounded by `message_max`, which is below 4 GiB.
    fn pack(&self) -> u64 {
        (self.bytes as u64) << 32 | u64::from(self.raw_qos) << 16 | u64::from(self.id)
    }

    fn unpack(token: u64) -> Self {
        Self {
            raw_qos: (token >> 16) as u8,
            id: token as u16,
            bytes: (token >> 32) as usize,
        }
    }
}

/// Appends the frame of a QoS 0 message up to its payload; equal for all clients.
pub(crate) fn shared_head(publish: &Publish, frame: &mut Vec<u8>) {
    send_head(publish, None, false, frame);
}

/// Appends the frame that repeats message `id` with DUP, up to its payload.
pub(crate) fn repeat(publish: &Publish, id: u16, frame: &mut Vec<u8>) {
    send_head(publish, Some(id), true, frame);
}

fn send_head(publish: &Publish, id: Option<u16>, dup: bool, frame: &mut Vec<u8>) {
    let qos = if id.is_some() { publish.qos } else { Qos::AtMostOnce };
    let (packet, packet_len) = packet::send_header(publish.tag, qos, id.unwrap_or(0), dup);
    let (header, header_len) = ws::header(ws::Opcode::Binary, packet_len + publish.payload.len());
    frame.extend_from_slice(&header[..header_len]);
    frame.extend_from_slice(&packet[..packet_len]);
}

fn reply(out: &mut Actions, packet: &[u8], data: &[u8]) {
    let (header, len) = ws::header(ws::Opcode::Binary, packet.len() + data.len());
    out.reply.extend_from_slice(&header[..len]);
    out.reply.extend_from_slice(packet);
    out.reply.extend_from_slice(data);
    out.reply_frames += 1;
}
