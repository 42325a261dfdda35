//! Bytes from clients. Frames are decoded where they were received; only an unfinished one is kept, in the client's tail.
//!
//! A client whose session wants no more input is paused: its socket is not read until the session has room again. Nothing
//! is dropped; TCP tells the client.

use bytes::Bytes;

use super::client::{Client, Phase};
use super::frames::Outgoing;
use super::rate::Rate;
use super::sockets::Sockets;
use super::{Shard, context, memory};
use crate::budget;
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::limits::EARLY_BYTES_MAX;
use crate::metrics::Metric;
use crate::protocol::{Actions, Ending, ListenerId};
use crate::time::Instant;
use crate::wire::ws;

/// What is accepted of a connection that never was a client's.
const NO_FRAMES: ws::Limits = ws::Limits {
    message_max: 0,
    accept_unmasked: false,
    rsv1: false,
};

/// What the caller does with the socket next.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Read on.
    Continue,
    /// Stop reading until [`Sockets::resume`].
    Pause,
    /// This is not a client: give the socket and these bytes to the control core. The slot is free already.
    HandOver(Vec<u8>, ListenerId),
    /// The client is gone; the socket was closed through [`Sockets::close`].
    Gone,
}

/// A frame that was used.
struct Taken {
    /// Its length.
    frame: usize,
    /// Bytes that count for the client's rate besides: those a compressed message has become more.
    inflated: usize,
}

/// How a run over a buffer of frames ended.
enum Run {
    /// Everything usable was used.
    Hungry,
    /// The session wants no more.
    Full,
    /// The client is over its rate.
    Throttled,
    /// There is no memory for what it sends.
    Short,
    /// Enough was inflated in this turn.
    Spent,
    /// The client closes, with the code of its close frame.
    End(Box<Ending>),
    /// The client's stream cannot be followed any further.
    Violation(ws::Error),
    /// The client is not open any more.
    Closed,
}

impl Shard {
    /// Bytes arrived. They may be changed in place; what is needed later is copied.
    pub fn on_bytes(&mut self, id: ClientId, bytes: &mut [u8], now: Instant, sockets: &mut dyn Sockets) -> Input {
        let step = |shard: &mut Self, sockets: &mut dyn Sockets| shard.take_bytes(id, bytes, now, sockets);
        self.contained(id, now, sockets, step).unwrap_or(Input::Gone)
    }

    fn take_bytes(&mut self, id: ClientId, bytes: &mut [u8], now: Instant, sockets: &mut dyn Sockets) -> Input {
        self.metrics.add(Metric::BytesIn, bytes.len() as u64);
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return Input::Gone;
        };
        client.note_input(now);
        match &client.phase {
            Phase::Handshaking { .. } => {
                client.tail.extend_from_slice(bytes);
                match self.on_head(id, now, sockets) {
                    Input::Continue => self.mind_head(id, now, sockets),
                    other => other,
                }
            }
            Phase::Authorising { .. } => {
                client.tail.extend_from_slice(bytes);
                let is_full = client.tail.len() >= EARLY_BYTES_MAX || memory::is_short_for_stranger(&client.tail);
                client.pause(is_full, &self.metrics);
                if client.paused { Input::Pause } else { Input::Continue }
            }
            Phase::Open(_) if client.tail.is_empty() => {
                let used = self.on_frames(id, bytes, now, sockets);
                let rest = bytes.get(used..).unwrap_or_default();
                let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
                    return Input::Gone;
                };
                if rest.is_empty() && client.is_open() && client.holds_little() {
                    return if client.paused { Input::Pause } else { Input::Continue };
                }
                self.keep_rest(id, rest, now, sockets)
            }
            Phase::Open(_) => {
                client.tail.extend_from_slice(bytes);
                self.on_tail(id, now, sockets);
                self.mind_input(id, now, sockets);
                self.input_state(id)
            }
            Phase::Closing(_) => {
                client.tail.extend_from_slice(bytes);
                self.on_closing_bytes(id, sockets);
                self.mind_input(id, now, sockets);
                self.input_state(id)
            }
        }
    }

    /// Keeps what is not used yet of the bytes of a client that was open when they came.
    fn keep_rest(&mut self, id: ClientId, rest: &[u8], now: Instant, sockets: &mut dyn Sockets) -> Input {
        if self.input_state(id) != Input::Gone
            && let Some(client) = self.clients.get_mut(id.slot, id.generation)
        {
            client.tail.extend_from_slice(rest);
            self.on_closing_bytes(id, sockets);
            self.mind_input(id, now, sockets);
        }
        self.input_state(id)
    }

    /// Goes on with a paused client if its session has room again.
    pub(super) fn resume_input(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let config = &self.config;
        let Some(client) = self
            .clients
            .get_mut(id.slot, id.generation)
            .filter(|client| client.paused && !client.throttled && !client.inflating)
        else {
            return;
        };
        if !client.open().is_some_and(|open| open.session.wants_input(config)) {
            return;
        }
        client.pause(false, &self.metrics);
        self.forgive_pause(id, now);
        self.on_tail(id, now, sockets);
        if self.input_state(id) == Input::Continue {
            sockets.resume(id);
        }
    }

    /// A member was sent something it has to acknowledge: while it owes, it is read further (`forwards.rs`).
    pub(super) fn after_delivery(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        if self
            .clients
            .get(id.slot, id.generation)
            .is_some_and(|client| client.paused)
        {
            self.resume_input(id, now, sockets);
        }
    }

    /// Processes what the tail holds.
    pub(super) fn on_tail(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let mut tail = std::mem::take(&mut client.tail);
        let used = self.on_frames(id, &mut tail, now, sockets);
        if used < tail.len()
            && self.input_state(id) != Input::Gone
            && let Some(client) = self.clients.get_mut(id.slot, id.generation)
        {
            tail.consume(used);
            client.tail = tail;
            self.on_closing_bytes(id, sockets);
        }
    }

    /// Decodes frames until the buffer, or the session's room, is used up. Returns the bytes used.
    fn on_frames(&mut self, id: ClientId, buffer: &mut [u8], now: Instant, sockets: &mut dyn Sockets) -> usize {
        let mut actions = std::mem::take(&mut self.actions);
        let mut used = 0;
        let limited = Rate::is_limited(&self.config);
        let is_short = memory::is_short_for_messages(buffer);
        let mut may_stop = limited || is_short || self.inflating.is_spent();
        let run = loop {
            let rest = buffer.get_mut(used..).unwrap_or_default();
            if may_stop && let Some(run) = self.stops(id, is_short, rest.is_empty(), now) {
                break run;
            }
            let taken = match self.on_frame(id, rest, &mut actions, now) {
                Ok(taken) => taken,
                Err(run) => break run,
            };
            used += taken.frame;
            may_stop |= self.inflating.is_spent();
            if limited {
                self.take_rate(id, taken.frame + taken.inflated, now);
            }
            if !actions.steps.is_empty() {
                self.perform_steps(id, &mut actions, now, sockets);
            }
        };
        self.pack_reply(id, &mut actions.reply);
        self.metrics
            .add(Metric::FramesOut, std::mem::take(&mut actions.reply_frames));
        let reply = std::mem::take(&mut actions.reply);
        self.write(id, &Outgoing::Copied(&reply), now, sockets);
        actions.reply = reply;
        actions.reply.clear();
        self.actions = actions;
        match run {
            Run::Hungry | Run::Closed => {}
            Run::Throttled => self.pause_for_rate(id, now),
            Run::Short => self.pause_for_memory(id, now),
            Run::Spent => self.pause_to_inflate(id),
            Run::Full => {
                // Writing the replies may have closed it; closing clients are read.
                if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
                    let paused = client.open().is_some();
                    client.pause(paused, &self.metrics);
                }
            }
            Run::End(ending) => self.close_with(id, &ending, now, sockets),
            Run::Violation(error) => self.on_violation(id, error, now, sockets),
        }
        used
    }

    /// Why no frame of the client is to be taken now; asked only where there may be a reason.
    #[inline(never)]
    fn stops(&mut self, id: ClientId, is_short: bool, is_empty: bool, now: Instant) -> Option<Run> {
        if is_short && self.clients.get(id.slot, id.generation).is_some_and(Client::is_open) {
            return Some(Run::Short);
        }
        if Rate::is_limited(&self.config) && self.is_over_rate(id, now) {
            return Some(Run::Throttled);
        }
        let client = self.clients.get_mut(id.slot, id.generation)?;
        (self.inflating.is_spent() && !is_empty && client.is_compressed()).then_some(Run::Spent)
    }

    /// Handles the first frame of `buffer`.
    fn on_frame(&mut self, id: ClientId, buffer: &mut [u8], actions: &mut Actions, now: Instant) -> Result<Taken, Run> {
        let context = context!(self, id, now);
        let client = self.clients.get_mut(id.slot, id.generation).ok_or(Run::Closed)?;
        let Phase::Open(open) = &mut client.phase else {
            return Err(Run::Closed);
        };
        if !open.session.wants_input(&self.config) {
            return Err(Run::Full);
        }
        if buffer.is_empty() {
            return Err(Run::Hungry);
        }
        let limits = self.policies[open.door as usize].frame_limits(open.deflate);
        let (step, frame) = open.decoder.next(buffer, &limits).map_err(Run::Violation)?;
        let mut inflated = 0;
        match step {
            ws::Step::Need(_) => return Err(Run::Hungry),
            ws::Step::Fragment => {}
            ws::Step::Message {
                kind,
                compressed,
                payload,
            } => {
                client.went_on = true;
                let payload = if compressed {
                    let unpacked = self.codec.unpack(&payload, kind, limits.message_max);
                    let len = unpacked.as_ref().map_or(limits.message_max, |unpacked| unpacked.len());
                    inflated = self.inflating.take(payload.len(), len);
                    unpacked.map_err(Run::Violation)?
                } else {
                    &payload
                };
                open.session.on_message(context, kind, payload, actions);
            }
            ws::Step::Ping(payload) => {
                let (header, len) = ws::header(ws::Opcode::Pong, payload.len());
                actions.reply.extend_from_slice(&header[..len]);
                actions.reply.extend_from_slice(payload);
                actions.reply_frames += 1;
            }
            ws::Step::Pong(_) => open.session.on_pong(actions),
            ws::Step::Close(frame) => {
                return Err(Run::End(Box::new(ended_by(frame))));
            }
        }
        self.metrics.add(Metric::FramesIn, 1);
        Ok(Taken { frame, inflated })
    }

    /// The client broke RFC 6455: its door decides what it is told.
    fn on_violation(&mut self, id: ClientId, error: ws::Error, now: Instant, sockets: &mut dyn Sockets) {
        tracing::debug!(%error, slot = id.slot, "client breaks the protocol");
        let open = self.clients.get_mut(id.slot, id.generation).and_then(Client::open);
        match open.and_then(|open| open.session.violation_code(error)) {
            Some(code) => self.close_client(id, cause_of(error), Some(code), now, sockets),
            None => self.drop_client(id, cause_of(error), now, sockets),
        }
    }

    /// A closing client's frames are only searched for its close frame, also those that came before.
    pub(super) fn on_closing_bytes(&mut self, id: ClientId, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Phase::Closing(closing) = &mut client.phase else {
            return;
        };
        let policy = closing.door.map(|door| &self.policies[door as usize]);
        let limits = policy.map_or(NO_FRAMES, |policy| policy.frame_limits(closing.deflate));
        let mut used = 0;
        while !closing.answered {
            match closing
                .decoder
                .next(client.tail.get_mut(used..).unwrap_or_default(), &limits)
            {
                Ok((ws::Step::Need(_), _)) => break,
                Ok((ws::Step::Close(_), _)) | Err(_) => closing.answered = true,
                Ok((_, frame)) => used += frame,
            }
        }
        if closing.answered {
            client.tail = budget::Input::new();
            self.finish_closing(id, sockets);
        } else {
            client.tail.consume(used);
        }
    }

    pub(super) fn input_state(&self, id: ClientId) -> Input {
        match self.clients.get(id.slot, id.generation) {
            None => Input::Gone,
            Some(Client {
                phase: Phase::Closing(closing),
                ..
            }) if !closing.socket => Input::Gone,
            Some(client) if client.paused => Input::Pause,
            Some(_) => Input::Continue,
        }
    }
}

/// The client has said that it goes.
fn ended_by(frame: Option<ws::CloseFrame<'_>>) -> Ending {
    Ending {
        cause: CloseCause::ClientClosed,
        code: frame.map(|frame| frame.code),
        reason: frame.map_or_else(Bytes::new, |frame| Bytes::copy_from_slice(frame.reason.as_bytes())),
        is_ordered: false,
        is_dropped: false,
    }
}

fn cause_of(error: ws::Error) -> CloseCause {
    match error {
        ws::Error::TooBig => CloseCause::MessageTooBig,
        _ => CloseCause::ProtocolError,
    }
}
