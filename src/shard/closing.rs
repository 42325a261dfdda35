//! How a client ends. The steps, in order: its session hears of it; it leaves its channels and its unacknowledged deliveries
//! fail; a close frame is sent where the cause has one; messages still on their way to the business end; the close callback is handed to the
//! control core, exactly once for every client the business had admitted; the slot is freed.

use bytes::Bytes;

use super::client::{Closing, Phase, Timer};
use super::frames::{Frames, Outgoing};
use super::sockets::Sockets;
use super::{Shard, context};
use crate::budget::Input;
use crate::close::{CloseCause, CloseFrame};
use crate::engine::command::{CloseOrder, Command, Done, Publish, Report};
use crate::engine::ids::ClientId;
use crate::engine::name::Name;
use crate::limits::CLOSE_TIMEOUT;
use crate::metrics::Metric;
use crate::protocol::{Actions, Ending, Session};
use crate::time::Instant;
use crate::wire::ws;

impl Shard {
    /// Ends a client politely: its close frame goes out, then TCP ends. `code` is for causes
    /// that do not say it themselves ([`CloseFrame::Given`]).
    /// Does nothing if the client is closing already.
    pub(super) fn close_client(
        &mut self,
        id: ClientId,
        cause: CloseCause,
        code: Option<u16>,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) {
        let ending = Ending {
            code: code.filter(|_| cause.frame() == CloseFrame::Given),
            ..Ending::from(cause)
        };
        self.close_with(id, &ending, now, sockets);
    }

    /// Ends a client as somebody has ordered it.
    pub(super) fn close_by_order(
        &mut self,
        id: ClientId,
        order: &CloseOrder,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> Done {
        let client = self.clients.get_mut(id.slot, id.generation);
        if id.shard != self.id || !client.is_some_and(|client| client.is_open()) {
            return Done::NoClient;
        }
        let ending = Ending::ordered(order);
        if order.force {
            self.drop_with(id, &ending, now, sockets);
            return Done::Changed;
        }
        if let Some((tag, payload)) = &order.farewell {
            self.say_farewell(id, *tag, payload, now);
        }
        self.close_with(id, &ending, now, sockets);
        Done::Changed
    }

    /// Queues a last message; nothing if the client has too much waiting already. It is written with the close frame.
    fn say_farewell(&mut self, id: ClientId, tag: u16, payload: &Bytes, now: Instant) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.make_room(&self.config, &mut self.pool, &self.metrics);
        let Some(open) = client.open() else { return };
        let publish = Publish::untold(Name::channel(b""), tag, payload.clone());
        let (mut frames, deflate) = (Frames::default(), open.deflate);
        open.session.shared_head(&publish, frames.head());
        if deflate.is_some() {
            frames.head().extend_from_slice(payload);
            self.pack_reply(id, frames.head());
        } else {
            frames.push_payload(payload);
        }
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        // One message may always wait, however large.
        let bytes_max = match client.outbox.is_empty() {
            true => usize::MAX,
            false => self.config.outbox_bytes,
        };
        let out = Outgoing::Frames(&frames);
        if out.queue(0, &mut client.outbox, bytes_max, &mut self.pool).is_ok() {
            client.outbox.tag(out.len(), false, now);
            self.metrics.add(Metric::FramesOut, 1);
        }
    }

    /// The same as [`Shard::close_client`], with what the close frame says.
    pub(super) fn close_with(&mut self, id: ClientId, ending: &Ending, now: Instant, sockets: &mut dyn Sockets) {
        if !self.begin_closing(id, ending, now, sockets) {
            return;
        }
        let frame = self.close_frame(ending);
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        if !frame.is_empty() {
            // Only pings and pongs can have filled the room for control frames: then the client just sees TCP end.
            if client.outbox.push_control(&frame, &mut self.pool).is_ok() {
                self.metrics.add(Metric::FramesOut, 1);
            }
        }
        // Also without a frame the socket is not closed at once: with input still unread the kernel would reset the
        // connection, and the HTTP answer just written could be lost.
        let linger = self.wheel.insert(now + CLOSE_TIMEOUT, Timer::Linger(id));
        if let Phase::Closing(closing) = &mut client.phase {
            closing.linger = Some(linger);
        }
        // An order comes while mail that replies in the outbox rely on has not left: they are written at the end of the turn.
        let waits = client.write_armed || client.dirty && ending.is_ordered;
        if client.paused {
            client.pause(false, &self.metrics);
            sockets.resume(id);
        }
        self.on_closing_bytes(id, sockets);
        if !waits {
            self.flush(id, now, sockets);
        }
    }

    /// Ends a client whose connection is gone already.
    pub(super) fn drop_client(&mut self, id: ClientId, cause: CloseCause, now: Instant, sockets: &mut dyn Sockets) {
        if let Some(Phase::Authorising { gone, .. }) = self.phase_mut(id) {
            if !std::mem::replace(gone, true) {
                self.count_close(CloseCause::GoneDuringAuth);
                self.forget_socket(id, sockets);
            }
            return;
        }
        let ending = Ending {
            is_dropped: true,
            ..Ending::from(cause)
        };
        self.drop_with(id, &ending, now, sockets);
    }

    fn drop_with(&mut self, id: ClientId, ending: &Ending, now: Instant, sockets: &mut dyn Sockets) {
        self.begin_closing(id, ending, now, sockets);
        self.close_socket(id, now, sockets);
    }

    /// Ends our direction of a closing client's TCP once everything is written and its own close frame is not awaited any
    /// more (RFC 6455 §7.1.1).
    pub(super) fn finish_closing(&mut self, id: ClientId, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Phase::Closing(closing) = &mut client.phase else {
            return;
        };
        if client.outbox.is_empty() && closing.answered && !closing.finished && closing.socket {
            closing.finished = true;
            sockets.finish(id);
        }
    }

    /// The messages of a closing client may all have ended: hand over its close callback, free its slot.
    pub(super) fn settle_closing(&mut self, id: ClientId, now: Instant) {
        let context = context!(self, id, now);
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Phase::Closing(closing) = &mut client.phase else {
            return;
        };
        if closing
            .session
            .as_ref()
            .is_some_and(|session| session.callbacks_pending() == 0)
            && let Some(session) = closing.session.take()
        {
            self.reports
                .extend(session.close_callback(context).map(Report::Callback));
        }
        if closing.session.is_none() && !closing.socket {
            if let Some(timer) = closing.linger.take() {
                self.wheel.cancel(timer);
            }
            self.free(id);
        }
    }

    /// Closes the socket of a closing client.
    pub(super) fn close_socket(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        let Phase::Closing(closing) = &mut client.phase else {
            return;
        };
        if std::mem::take(&mut closing.socket) {
            client.outbox.clear(&mut self.pool);
            client.tail = Input::new();
            self.forget_socket(id, sockets);
        }
        self.settle_closing(id, now);
    }

    /// The socket of a client is closed; once for every one that was accepted and not handed over.
    fn forget_socket(&mut self, id: ClientId, sockets: &mut dyn Sockets) {
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            client.pause(false, &self.metrics);
            client.tail = Input::new();
        }
        self.metrics.sub(Metric::ConnectionsOpen, 1);
        sockets.close(id);
    }

    /// The business has admitted a client that had left meanwhile: tell it so.
    pub(super) fn close_unborn(&mut self, id: ClientId, mut session: Session, names: &[Name], now: Instant) {
        let mut nothing = Actions::default();
        let context = context!(self, id, now);
        session.on_closing(context, &CloseCause::GoneDuringAuth.into(), names.iter(), &mut nothing);
        if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
            client.phase = Phase::Closing(Closing {
                session: Some(session),
                decoder: ws::Decoder::new(),
                door: None,
                deflate: None,
                linger: None,
                socket: false,
                answered: true,
                finished: true,
            });
        }
        self.settle_closing(id, now);
    }

    /// Moves a client to `Closing`; false if it is there already. Memberships and deliveries end here.
    fn begin_closing(&mut self, id: ClientId, ending: &Ending, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let cause = ending.cause;
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return false;
        };
        if matches!(client.phase, Phase::Closing(_)) {
            return false;
        }
        // Only after a close frame of ours does the client answer with its own.
        let answered = match cause.frame() {
            CloseFrame::None => ending.code.is_none(),
            CloseFrame::Given => true,
            CloseFrame::Empty | CloseFrame::Code(..) | CloseFrame::Restart(_) => false,
        };
        let closing = Closing {
            session: None,
            decoder: ws::Decoder::new(),
            door: None,
            deflate: None,
            linger: None,
            socket: true,
            answered,
            finished: false,
        };
        let phase = std::mem::replace(&mut client.phase, Phase::Closing(closing));
        let liveness = client.liveness.take();
        self.count_close(cause);
        match phase {
            Phase::Handshaking { deadline, .. } => {
                self.count_handshaking(false);
                self.wheel.cancel(deadline);
            }
            Phase::Authorising { .. } | Phase::Closing(_) => {}
            Phase::Open(mut open) => {
                self.metrics.sub(Metric::SessionsOpen, 1);
                for timer in std::iter::from_fn(|| open.timers.pop()).chain(liveness) {
                    self.wheel.cancel(timer);
                }
                let mut actions = std::mem::take(&mut self.actions);
                open.session.on_closing(
                    context!(self, id, now),
                    ending,
                    self.members.channels_of(id.slot),
                    &mut actions,
                );
                self.perform_steps(id, &mut actions, now, sockets);
                self.actions = actions;
                self.leave_all(id);
                let mut failed = Vec::new();
                open.session.abandon_deliveries(|key| failed.push(key));
                failed.into_iter().for_each(|key| self.member_failed(key));
                if let Some(Phase::Closing(closing)) = self.phase_mut(id) {
                    closing.session = Some(open.session);
                    closing.decoder = open.decoder;
                    closing.door = Some(open.door);
                    closing.deflate = open.deflate;
                }
                tracing::debug!(cause = cause.label(), slot = id.slot, "client closes");
                self.settle_closing(id, now);
            }
        }
        true
    }

    fn leave_all(&mut self, id: ClientId) {
        let mut emptied = Vec::new();
        self.members.leave_all(id.slot, |channel| emptied.push(channel));
        self.online.remove(id.slot);
        for key in self.fanout.slices.forget(id.slot) {
            self.member_skipped(key);
        }
        for channel in emptied {
            self.tell_interest(channel, false);
        }
    }

    /// Tells the home of a channel that this shard has its first member or lost its last one.
    pub(super) fn tell_interest(&mut self, channel: Name, joined: bool) {
        let home = self.home.home_of(&channel);
        if home == self.id {
            self.interest.note(&channel, self.id, joined);
        } else {
            self.commands.push((
                home,
                Command::Interest {
                    channel,
                    shard: self.id,
                    joined,
                },
            ));
        }
    }

    /// The close frame of an ending, or nothing.
    fn close_frame(&mut self, ending: &Ending) -> Vec<u8> {
        let mut frame = Vec::new();
        let payload = match (ending.cause.frame(), ending.code) {
            (CloseFrame::Given, code) => code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default(),
            (_, Some(code)) => [&code.to_be_bytes(), &ending.reason[..]].concat(),
            (CloseFrame::None, None) => return frame,
            (CloseFrame::Empty, None) => Vec::new(),
            (CloseFrame::Code(code, reason), None) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
            (CloseFrame::Restart(code), None) => [&code.to_be_bytes(), self.reconnect_after().as_bytes()].concat(),
        };
        let (header, len) = ws::header(ws::Opcode::Close, payload.len());
        frame.extend_from_slice(&header[..len]);
        frame.extend_from_slice(&payload);
        frame
    }
}
