//! Bytes to clients. What the socket does not take at once waits in the client's outbox; a client whose outbox is full is
//! closed (policy: slow consumer). Our close frame is exempt from the bound.
//!
//! Replies caused by mailbox messages are corked: they are queued, and each client is written once at the end of the turn.

use std::io::IoSlice;

use super::Shard;
use super::client::Client;
use super::frames::Outgoing;
use super::sockets::{Sent, Sockets};
use crate::close::CloseCause;
use crate::engine::ids::ClientId;
use crate::metrics::Metric;
use crate::time::Instant;

/// Segments of an outbox handed to one write.
const SLICES_MAX: usize = 64;

impl Shard {
    /// Writes now, or queues behind what waits already. Returns whether something waits for the socket.
    pub(super) fn write(&mut self, id: ClientId, out: &Outgoing<'_>, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return false;
        };
        let (len, mut taken) = (out.len(), 0);
        if len == 0 {
            return false;
        }
        if client.outbox.is_empty() {
            match out.send(id, sockets) {
                Sent::Taken(n) => taken = n,
                Sent::Broken => {
                    self.drop_client(id, CloseCause::SocketError, now, sockets);
                    return false;
                }
            }
            self.metrics.add(Metric::BytesOut, taken.min(len) as u64);
            if taken >= len {
                return false;
            }
        }
        self.queue_rest(id, out, taken, now, sockets)
    }

    /// Queues all but the first `taken` bytes. Returns whether something waits for the socket.
    #[cold]
    fn queue_rest(
        &mut self,
        id: ClientId,
        out: &Outgoing<'_>,
        taken: usize,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return false;
        };
        // What fills the outbox only because the turn is not over leaves first: replies make nobody a slow consumer.
        let is_held = client.dirty && !client.write_armed && !self.corked;
        if is_held && client.outbox.len_bytes() >= self.config.outbox_bytes.max(1) {
            self.flush(id, now, sockets);
            return self.write(id, out, now, sockets);
        }
        client.make_room(&self.config, &mut self.pool, &self.metrics);
        // One frame may always wait, however large: it may have been begun, and then it has to be finished.
        let bytes_max = if client.outbox.is_empty() {
            usize::MAX
        } else {
            self.config.outbox_bytes
        };
        let rest = out.queue(taken, &mut client.outbox, bytes_max, &mut self.pool);
        if rest.is_ok() {
            // Nothing has left if the socket took nothing.
            let waiting = out.len() - taken;
            client.outbox.tag(waiting, out.is_droppable() && taken == 0, now);
        }
        if !client.dirty && !client.write_armed {
            client.write_armed = true;
            sockets.want_write(id);
            client.watch_outbox(id, &self.config, &mut self.wheel, now);
        }
        if rest.is_err() {
            self.metrics.add(Metric::OutboxOverflows, 1);
            self.close_client(id, CloseCause::SlowConsumer, None, now, sockets);
        } else {
            self.mind_outbox(id, now, sockets);
        }
        self.clients
            .get(id.slot, id.generation)
            .is_some_and(|client| client.write_armed)
    }

    /// Compresses what is worth it in the frames of one reply, if the client agreed to it.
    pub(super) fn pack_reply(&mut self, id: ClientId, reply: &mut Vec<u8>) {
        if reply.len() < self.config.compression_min {
            return;
        }
        let open = self.clients.get_mut(id.slot, id.generation).and_then(Client::open);
        if let Some(deflate) = open.and_then(|open| open.deflate) {
            let packed = self.codec.pack(reply, self.config.compression_min);
            if deflate.fits(packed.longest) {
                *reply = packed.frames;
            }
        }
    }

    /// Queues bytes until the end of the turn.
    pub(super) fn queue(&mut self, id: ClientId, bytes: &[u8], now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.make_room(&self.config, &mut self.pool, &self.metrics);
        if client
            .outbox
            .push_copy(bytes, self.config.outbox_bytes, &mut self.pool)
            .is_err()
        {
            self.metrics.add(Metric::OutboxOverflows, 1);
            return self.close_client(id, CloseCause::SlowConsumer, None, now, sockets);
        }
        client.outbox.tag(bytes.len(), false, now);
        // What waits only for the end of the turn may still leave.
        if client.write_armed && !self.mind_outbox(id, now, sockets) {
            return;
        }
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        if !client.dirty && !client.write_armed {
            client.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Writes to every client that was queued for in this turn.
    pub(super) fn flush_dirty(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(client) = self.clients.get_mut(id.slot, id.generation) {
                client.dirty = false;
                self.contained(id, now, sockets, |shard, sockets| shard.flush(id, now, sockets));
            }
        }
        self.dirty = dirty;
    }

    /// Writes as much of the outbox as the socket takes; asks to be called again for the rest.
    pub(super) fn flush(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        while !client.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = client.outbox.slices(&mut slices);
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let taken = match sockets.send(id, &slices[..count]) {
                Sent::Taken(taken) => taken,
                Sent::Broken => return self.drop_client(id, CloseCause::SocketError, now, sockets),
            };
            self.metrics.add(Metric::BytesOut, taken as u64);
            client.outbox.advance(taken, &mut self.pool);
            client.advances = client.advances.wrapping_add(u16::from(taken > 0));
            if taken < offered {
                if !client.write_armed {
                    client.write_armed = true;
                    sockets.want_write(id);
                    client.watch_outbox(id, &self.config, &mut self.wheel, now);
                }
                return;
            }
        }
        self.finish_closing(id, sockets);
    }
}
