//! How a shard empties itself when the server stops or is replaced.
//!
//! ```text
//!   Command::Drain ─▶ open clients are closed at the pace ─▶ half of drain_timeout: the rest is cut ─▶ empty
//! ```
//! - The pace is `drain_rate`, divided among the shards; faster where half of `drain_timeout` would not do for everybody.
//!   The other half is for the answers of clients and business server.
//! - Each client is told in its close frame when to come back, so that they do not come back together: code 1012 (service
//!   restart) and the reason `reconnect_after=MILLISECONDS`, spread evenly over `reconnect_spread`.
//! - Handshakes under way go on until they are answered or cut. Who becomes a client that late is closed at once.
//!
//! Called by `mod.rs` at the end of each turn; woken by one timer on the shard's wheel.

use super::client::{Phase, Timer};
use super::sockets::Sockets;
use super::{CLOSES_PER_TURN, Shard};
use crate::close::CloseCause;
use crate::engine::command::Report;
use crate::engine::ids::ClientId;
use crate::engine::wheel::TimerId;
use crate::metrics::Metric;
use crate::time::{Duration, Instant};

/// Slots looked at per turn; most are closed clients' when few are left.
const SLOTS_PER_TURN: u32 = 16 * CLOSES_PER_TURN as u32;
/// Part of `drain_timeout` for closing everybody.
const WINDOW_SHARE: u32 = 2;
/// 2^64 divided by the golden ratio: its multiples fill any range evenly, however many are taken.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    pace: Pace,
    /// When the rest is cut.
    until: Instant,
    stage: Stage,
    /// Admitted since it began.
    late: Vec<ClientId>,
    timer: Option<TimerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Slots from this one on may hold open clients that are not late.
    Closing(u32),
    /// Only handshakes are left, and clients on their way out.
    Waiting,
    /// Slots from this one on may hold something that is not closed yet.
    Cutting(u32),
    /// Everything is closed or on its way out.
    Leaving,
    /// The control core has been told that the shard is empty.
    Told,
}

/// How many of `clients` may be closed at a moment: evenly, all of them at the end of `span`.
#[derive(Clone, Copy, Debug)]
struct Pace {
    begun: Instant,
    span: Duration,
    clients: u64,
    closed: u64,
}

impl Pace {
    fn new(begun: Instant, clients: u64, rate: u64, shards: u64, window: Duration) -> Self {
        let wanted = (clients * shards).saturating_mul(1_000_000).checked_div(rate);
        let span = Duration::from_micros(wanted.unwrap_or(0)).min(window);
        Self {
            begun,
            span,
            clients,
            closed: 0,
        }
    }

    /// Clients to close now.
    fn due(&self, now: Instant) -> u64 {
        let (elapsed, span) = (now.since(self.begun).as_micros(), self.span.as_micros());
        if elapsed >= span {
            return u64::MAX;
        }
        // Below `clients`, which is a u64.
        let so_far = elapsed * u128::from(self.clients) / span;
        (so_far as u64 + 1).saturating_sub(self.closed)
    }

    /// When the next one is due, if none is now.
    fn next(&self) -> Instant {
        let micros = self.span.as_micros() * u128::from(self.closed) / u128::from(self.clients.max(1));
        self.begun + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX) + 1)
    }
}

impl Shard {
    /// Begins to empty the shard; once.
    pub(super) fn begin_drain(&mut self, now: Instant) {
        if self.drain.is_some() {
            return;
        }
        self.metrics.set(Metric::Draining, 1);
        let is_open = |phase: &Phase| matches!(phase, Phase::Open(_));
        let clients = self.clients.iter().filter(|(_, _, client)| is_open(&client.phase));
        let (clients, rate) = (clients.count() as u64, self.config.drain_rate as u64);
        let window = self.config.drain_timeout / WINDOW_SHARE;
        self.drain = Some(Drain {
            pace: Pace::new(now, clients, rate, self.shards as u64, window),
            until: now + window,
            stage: Stage::Closing(0),
            late: Vec::new(),
            timer: None,
        });
    }

    /// Whether connections are turned away because the server stops.
    pub(super) fn is_shut(&self) -> bool {
        let open = |drain: &Drain| matches!(drain.stage, Stage::Closing(_) | Stage::Waiting);
        self.drain.as_ref().is_some_and(|drain| !open(drain))
    }

    /// A client has been admitted.
    pub(super) fn note_admitted(&mut self, id: ClientId) {
        if let Some(drain) = &mut self.drain {
            drain.late.push(id);
        }
    }

    /// The timer of the drain has fired: the end of the turn does what is due.
    pub(super) fn on_drain_timer(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.timer = None;
        }
    }

    /// Does what is due, within the budget of a turn; true if more is due at once.
    pub(super) fn drain_some(&mut self, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        let until = drain.until;
        for id in std::mem::take(&mut drain.late) {
            self.close_client(id, CloseCause::Shutdown, None, now, sockets);
        }
        let more = match self.stage() {
            Stage::Closing(cursor) => self.close_at_pace(cursor, now, sockets),
            Stage::Cutting(cursor) => self.cut(cursor, now, sockets),
            Stage::Waiting | Stage::Leaving | Stage::Told => false,
        };
        if self.stage() == Stage::Waiting && (now >= until || self.clients.is_empty()) {
            self.set_stage(Stage::Cutting(0));
            return true;
        }
        if !more {
            self.arm_drain();
        }
        more
    }

    /// Tells the control core, once, that a draining shard is empty.
    pub(super) fn report_drained(&mut self) {
        if self.stage() == Stage::Leaving && self.clients.is_empty() {
            self.set_stage(Stage::Told);
            self.metrics.set(Metric::Draining, 0);
            self.reports.push(Report::Drained { shard: self.id });
        }
    }

    /// What a client is told with code 1012.
    pub(super) fn reconnect_after(&mut self) -> String {
        let spread = u64::try_from(self.config.reconnect_spread.as_millis()).unwrap_or(u64::MAX);
        self.restarts_told = self.restarts_told.wrapping_add(1);
        let even = self.seed.wrapping_add(self.restarts_told.wrapping_mul(GOLDEN));
        let millis = (u128::from(even) * (u128::from(spread) + 1)) >> 64;
        format!("reconnect_after={millis}")
    }

    fn stage(&self) -> Stage {
        self.drain.as_ref().map_or(Stage::Waiting, |drain| drain.stage)
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(drain) = &mut self.drain {
            drain.stage = stage;
        }
    }

    fn close_at_pace(&mut self, cursor: u32, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let Some(drain) = &self.drain else { return false };
        let due = drain.pace.due(now);
        let budget = due.min(CLOSES_PER_TURN as u64);
        let (end, mut slot, mut closed) = (self.clients.end(), cursor, 0);
        while slot < end && closed < budget && slot - cursor < SLOTS_PER_TURN {
            let id = self.client_id(slot, self.clients.generation(slot));
            if let Some(Phase::Open(_)) = self.phase_mut(id) {
                self.close_client(id, CloseCause::Shutdown, None, now, sockets);
                closed += 1;
            }
            slot += 1;
        }
        if let Some(drain) = &mut self.drain {
            drain.pace.closed += closed;
        }
        self.set_stage(if slot < end {
            Stage::Closing(slot)
        } else {
            Stage::Waiting
        });
        slot < end && closed < due
    }

    /// Ends what is not open and not on its way out.
    fn cut(&mut self, cursor: u32, now: Instant, sockets: &mut dyn Sockets) -> bool {
        let end = self.clients.end();
        let next = end.min(cursor.saturating_add(CLOSES_PER_TURN as u32));
        for slot in cursor..next {
            let id = self.client_id(slot, self.clients.generation(slot));
            if let Some(Phase::Handshaking { .. } | Phase::Authorising { .. }) = self.phase_mut(id) {
                self.drop_client(id, CloseCause::Shutdown, now, sockets);
            }
        }
        self.set_stage(if next < end {
            Stage::Cutting(next)
        } else {
            Stage::Leaving
        });
        next < end
    }

    /// Wakes the shard when something is due.
    fn arm_drain(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let at = match drain.stage {
            Stage::Closing(_) => drain.pace.next(),
            Stage::Waiting => drain.until,
            Stage::Cutting(_) | Stage::Leaving | Stage::Told => {
                if let Some(timer) = drain.timer.take() {
                    self.wheel.cancel(timer);
                }
                return;
            }
        };
        if drain.timer.is_none() {
            drain.timer = Some(self.wheel.insert(at, Timer::Drain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments in milliseconds at which a client is closed, one per call.
    fn moments(clients: u64, rate: u64, shards: u64, window: Duration) -> Vec<u64> {
        let mut pace = Pace::new(Instant::ZERO, clients, rate, shards, window);
        let mut now = Instant::ZERO;
        let mut moments = Vec::new();
        while (moments.len() as u64) < clients {
            assert!(pace.due(now) > 0, "the pace stands still at {now:?}");
            moments.push(now.as_millis());
            pace.closed += 1;
            if pace.due(now) == 0 {
                now = pace.next();
            }
        }
        moments
    }

    #[test]
    fn the_pace_is_even_and_divided_among_the_shards() {
        let long = Duration::from_secs(100);
        assert_eq!(moments(5, 10, 1, long), [0, 100, 200, 300, 400]);
        assert_eq!(moments(5, 10, 2, long), [0, 200, 400, 600, 800]);
    }

    #[test]
    fn it_is_faster_where_time_is_short() {
        assert_eq!(moments(4, 1, 1, Duration::from_secs(1)), [0, 250, 500, 750]);
        assert_eq!(moments(3, 0, 1, Duration::from_secs(9)), [0, 0, 0], "0: no pace");
        assert_eq!(moments(3, 1, 1, Duration::ZERO), [0, 0, 0]);
    }

    #[test]
    fn large_numbers_stay_in_range() {
        let pace = Pace::new(Instant::ZERO, u64::from(u32::MAX), 1, 64, Duration::from_secs(3600));
        assert_eq!(pace.due(Instant::from_micros(3_600_000_000)), u64::MAX);
        assert!(pace.due(Instant::from_micros(1_800_000_000)) > u64::from(u32::MAX / 2 - 2));
    }
}
