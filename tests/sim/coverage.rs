//! What the runs got to: a simulator that never paused a client has not tested pausing.

use rainbow_server::engine::command::Qos;
use rainbow_server::engine::receipt::Status;
use rainbow_server::metrics::{self, Extra, Metric};
use rainbow_server::time::Duration;

use crate::world::World;

#[derive(Debug, Default)]
pub struct Coverage {
    publishes: u64,
    deliveries_owed: u64,
    deliveries_forbidden: u64,
    redeliveries: u64,
    complete: u64,
    timed_out: u64,
    members_done: u64,
    members_failed: u64,
    members_silent: u64,
    clients_well: u64,
    clients_paused: u64,
    slots_reused: u64,
    forwards: u64,
    forwards_repeated: u64,
    gone_during_auth: u64,
    closed_by_client: u64,
    closed_slow: u64,
    closed_silent: u64,
    closed_broken: u64,
    closed_reset: u64,
    closed_by_api: u64,
    closed_at_the_end: u64,
    large_fanouts: u64,
}

impl Coverage {
    pub fn is_full(&self) -> bool {
        !format!("{self:?}").contains(": 0")
    }
}

impl World {
    /// Adds what happened in this run.
    pub fn cover(&self, sum: &mut Coverage) {
        let cores: Vec<_> = self.metrics.iter().map(|core| &**core).collect();
        let page = metrics::render(
            &cores,
            Extra {
                uptime: Duration::ZERO,
                ..Extra::default()
            },
        );
        let closed = |cause: &str| -> u64 {
            let lines = page.lines().filter(|line| line.contains(&format!("\"{cause}\"")));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        sum.closed_by_client += closed("client_closed");
        sum.closed_slow += closed("slow_consumer");
        sum.closed_silent += closed("keep_alive_timeout");
        sum.closed_broken += closed("protocol_error");
        sum.closed_reset += closed("socket_error");
        sum.closed_by_api += closed("kicked");
        sum.closed_at_the_end += closed("shutdown");
        sum.gone_during_auth += closed("gone_during_auth");
        sum.redeliveries += cores.iter().map(|core| core.value(Metric::Redeliveries)).sum::<u64>();
        sum.publishes += self.records.publishes.len() as u64;
        for publish in &self.records.publishes {
            for conn in &self.conns {
                sum.deliveries_owed += u64::from(conn.stayed && self.must_receive(conn.number, publish));
                sum.deliveries_forbidden += u64::from(!self.may_receive(conn.number, publish));
            }
            for part in &publish.parts {
                sum.members_done += u64::from(part.done);
                sum.members_failed += u64::from(part.failed);
                sum.members_silent += u64::from(part.silent);
                sum.large_fanouts += u64::from(part.done + part.failed + part.silent > 256);
            }
            let asks = publish.qos != Qos::AtMostOnce;
            sum.complete += u64::from(asks && publish.answers[0].1.status == Status::Complete);
            sum.timed_out += u64::from(publish.answers[0].1.status == Status::TimedOut);
        }
        for conn in &self.conns {
            sum.clients_well += u64::from(conn.stayed);
            sum.clients_paused += u64::from(conn.was_paused);
            sum.slots_reused += u64::from(conn.id.is_some_and(|id| id.generation > 0));
            for message in &conn.sent {
                sum.forwards += u64::from(message.forwards);
                sum.forwards_repeated += u64::from(message.forwards.saturating_sub(1));
            }
        }
    }
}
