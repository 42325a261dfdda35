//! Clients that take their bytes too slowly: more than `outbox_bytes` wait, or one byte for longer than `outbox_seconds`.
//! Policy `slow_consumer`: close, or drop the oldest QoS 0 messages and close only if that makes no room.
//!
//! Age is looked at by one lazy timer per client, armed when the socket takes less than it was offered, so a client that keeps
//! up has none; it arms itself again while bytes wait.

use super::Shard;
use super::client::{Client, Phase, Timer};
use super::sockets::Sockets;
use crate::close::CloseCause;
use crate::config::{Config, SlowConsumer};
use crate::engine::ids::ClientId;
use crate::engine::outbox::Pool;
use crate::engine::wheel::Wheel;
use crate::metrics::{CoreMetrics, Metric};
use crate::time::Instant;

impl Client {
    /// Something is about to be queued: makes room for it if the outbox is full and the policy allows. Room for many more
    /// messages at once, because dropping moves what stays.
    pub(super) fn make_room(&mut self, config: &Config, pool: &mut Pool, metrics: &CoreMetrics) {
        if config.slow_consumer != SlowConsumer::DropOldest {
            return;
        }
        let most = self.outbox_max(config.outbox_bytes);
        if self.outbox.len_bytes() >= most {
            let keep = most - most / 4;
            count_dropped(self.outbox.drop_oldest(keep, Instant::ZERO, pool), metrics);
        }
    }

    /// The socket took less than there was: see that the rest does not wait forever.
    pub(super) fn watch_outbox(&mut self, id: ClientId, config: &Config, wheel: &mut Wheel<Timer>, now: Instant) {
        if !self.outbox_watched && !config.outbox_seconds.is_zero() {
            self.outbox_watched = true;
            wheel.insert(now + config.outbox_seconds, Timer::Outbox(id));
        }
    }
}

impl Shard {
    pub(super) fn on_outbox_age(&mut self, id: ClientId, now: Instant, sockets: &mut dyn Sockets) {
        let limit = self.config.outbox_seconds;
        let Some(client) = self.clients.get_mut(id.slot, id.generation) else {
            return;
        };
        client.outbox_watched = false;
        // A closing client has its own deadline.
        if limit.is_zero() || matches!(client.phase, Phase::Closing(_)) {
            return;
        }
        let is_late = |since: &Instant| now - *since >= limit;
        if self.config.slow_consumer == SlowConsumer::DropOldest
            && client.outbox.waiting_since().is_some_and(|since| is_late(&since))
        {
            let behind = now.as_micros().saturating_sub(limit.as_micros() as u64);
            let dropped = client
                .outbox
                .drop_oldest(usize::MAX, Instant::from_micros(behind + 1), &mut self.pool);
            count_dropped(dropped, &self.metrics);
        }
        match client.outbox.waiting_since() {
            None => {}
            Some(since) if is_late(&since) => {
                self.metrics.add(Metric::OutboxExpired, 1);
                if client.open().is_some() {
                    self.close_client(id, CloseCause::SlowConsumer, None, now, sockets);
                } else {
                    self.drop_client(id, CloseCause::SlowConsumer, now, sockets);
                }
            }
            Some(since) => {
                client.outbox_watched = true;
                self.wheel.insert(since + limit, Timer::Outbox(id));
            }
        }
    }
}

fn count_dropped(bytes: usize, metrics: &CoreMetrics) {
    if bytes > 0 {
        metrics.add(Metric::OutboxDrops, 1);
        metrics.add(Metric::OutboxDroppedBytes, bytes as u64);
    }
}
