//! What the runs got to: a simulator that never paused a client has not tested pausing.

use std::collections::BTreeMap;

use rainbow_server::engine::command::{Done, Tell};
use rainbow_server::engine::receipt::Status;
use rainbow_server::metrics::{self, Extra, Metric};
use rainbow_server::time::Duration;

use crate::questions::Question;
use crate::world::World;

/// How often each thing happened.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Adds what happened in other runs.
    pub fn add(&mut self, other: Coverage) {
        other.0.into_iter().for_each(|(what, count)| self.note(what, count));
    }

    pub fn is_full(&self) -> bool {
        self.0.values().all(|count| *count > 0)
    }

    fn note(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }
}

impl World {
    /// What happened in this run.
    pub fn coverage(&self) -> Coverage {
        let mut seen = Coverage::default();
        self.cover_closes(&mut seen);
        self.cover_publishes(&mut seen);
        self.cover_clients(&mut seen);
        self.cover_questions(&mut seen);
        let cores = self.metrics.iter();
        let count = |metric| cores.clone().map(|core| core.value(metric)).sum();
        for (what, metric) in [
            ("redeliveries", Metric::Redeliveries),
            ("refused: no slot", Metric::RefusedFull),
            ("pauses for the rate", Metric::RatePauses),
            ("messages dropped for slow clients", Metric::OutboxDrops),
            ("channels refused", Metric::ChannelsRefused),
            ("mail to a full mailbox", Metric::MailboxOverflows),
        ] {
            seen.note(what, count(metric));
        }
        seen.note("sockets not read for that", self.cores.congested);
        seen.note("reloads", self.plan.settings.len() as u64 - 1);
        seen.note("outages", self.plan.outages.len() as u64);
        seen.note("stalls", self.plan.stalls.len() as u64);
        seen.note("stopped while busy", u64::from(self.plan.drains_busy));
        seen.note("close callbacks repeated", self.records.closes_repeated);
        seen.note("clients with a lot to catch up on", self.records.hurried);
        seen
    }

    fn cover_closes(&self, seen: &mut Coverage) {
        let cores: Vec<_> = self.metrics.iter().map(|core| &**core).collect();
        let uptime = Duration::ZERO;
        let page = metrics::render(
            &cores,
            Extra {
                uptime,
                ..Extra::default()
            },
        );
        for cause in [
            "client_closed",
            "slow_consumer",
            "keep_alive_timeout",
            "ping_timeout",
            "idle_timeout",
            "protocol_error",
            "message_too_big",
            "socket_error",
            "kicked",
            "shutdown",
            "gone_during_auth",
        ] {
            let lines = page.lines().filter(|line| line.contains(&format!("\"{cause}\"")));
            let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            seen.note(cause, counts.sum());
        }
    }

    fn cover_publishes(&self, seen: &mut Coverage) {
        seen.note("publishes", self.records.publishes.len() as u64);
        for publish in &self.records.publishes {
            for conn in self.conns.iter().filter(|conn| conn.stayed) {
                seen.note("deliveries owed", u64::from(self.must_receive(conn.number, publish)));
                seen.note(
                    "deliveries forbidden",
                    u64::from(!self.may_receive(conn.number, publish)),
                );
            }
            for part in &publish.parts {
                seen.note("members done", u64::from(part.done));
                seen.note("members failed", u64::from(part.failed));
                seen.note("members silent", u64::from(part.silent));
                let members = part.done + part.failed + part.silent;
                seen.note("large fan-outs", u64::from(members > 256));
            }
            let counts = publish.tell == Tell::Counted;
            let parts = publish.parts.iter().filter(|_| counts);
            for part in parts {
                seen.note("members counted", u64::from(part.done));
                seen.note("members dropped", u64::from(part.failed));
            }
            seen.note("publishes to several sets", u64::from(publish.sets.len() > 1));
            seen.note("publishes to clients", u64::from(!publish.addressed.is_empty()));
            seen.note("publishes not for all", u64::from(!publish.except.is_empty()));
            let sets = |conn: usize| {
                publish
                    .sets
                    .iter()
                    .filter(move |set| self.is_or_was_in(conn, **set))
                    .count()
            };
            let twice = self.conns.iter().filter(|conn| conn.stayed && sets(conn.number) > 1);
            seen.note("members of several sets", twice.count() as u64);
            let (asks, status) = (publish.tell.has_parts(), publish.answers[0].1.status);
            seen.note("answered in full", u64::from(asks && status == Status::Complete));
            seen.note("nodes heard in time", publish.heard_then as u64);
            seen.note(
                "nodes heard too late",
                publish.heard.len() as u64 - publish.heard_then as u64,
            );
            seen.note("timed out", u64::from(status == Status::TimedOut));
        }
    }

    fn cover_questions(&self, seen: &mut Coverage) {
        for record in &self.records.asked {
            let (what, happened) = match &record.question {
                Question::Walk { limit, seen, .. } => ("walks of several answers", seen.len() > *limit),
                Question::Count(counts) => ("counts", counts.iter().any(|count| *count > 0)),
                Question::Client(_, info) => ("clients asked about", info.is_some()),
                Question::Kept(..) => ("kept data asked for", true),
                Question::Edit(..) => ("edits", true),
                Question::Order {
                    farewell, force, done, ..
                } => {
                    let is_done = *done == Some(Done::Changed);
                    seen.note("farewells", u64::from(is_done && *farewell && !force));
                    ("closed by force", is_done && *force)
                }
            };
            seen.note(what, u64::from(happened));
        }
        let unbound = self
            .records
            .questions
            .iter()
            .filter(|(what, _)| what.starts_with("unbind"));
        seen.note("unbinds", unbound.count() as u64);
    }

    fn cover_clients(&self, seen: &mut Coverage) {
        for conn in &self.conns {
            seen.note("clients well at the end", u64::from(conn.stayed));
            seen.note("clients paused", u64::from(conn.was_paused));
            seen.note("clients compressed for", u64::from(conn.is_compressed()));
            seen.note("clients byzantine", u64::from(conn.habits.byzantine));
            seen.note("clients come again", u64::from(conn.replaced));
            seen.note("slots reused", u64::from(conn.id.is_some_and(|id| id.generation > 0)));
            for message in &conn.sent {
                seen.note("forwards", u64::from(message.forwards));
                seen.note("forwards repeated", u64::from(message.forwards.saturating_sub(1)));
            }
        }
    }
}
