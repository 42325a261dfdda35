//! What has to be true of a run. Judged from [`Records`](crate::records) and from what the clients saw, never from what a
//! shard believes, but for the counts that have to be zero in the end.

use std::collections::BTreeMap;

use rainbow_server::engine::command::{AtDeadline, Qos};
use rainbow_server::engine::receipt::Status;
use rainbow_server::limits::RECEIPT_GRACE;
use rainbow_server::shard::Counts;
use rainbow_server::time::Duration;

use crate::conn::Conn;
use crate::records::{Change, Published};
use crate::world::World;

/// A publish has passed all shards after so long: far more than the delays of all mailboxes on its way.
const PASSED: Duration = Duration::from_secs(2);

macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl World {
    /// Nobody has begun anything for minutes: what was begun has ended.
    pub fn check_quiet(&self) -> Result<(), String> {
        for (number, publish) in self.records.publishes.iter().enumerate() {
            check_answer(number, publish)?;
            self.check_parts(number, publish)?;
        }
        for (what, answers) in &self.records.questions {
            check!(*answers == 1, "{answers} answers to {what}");
        }
        for conn in &self.conns {
            self.check_received(conn)?;
            self.check_upstream(conn)?;
            let waited = conn.ping_unanswered.map(|at| self.now.since(at));
            let kept =
                conn.is_well() && !conn.was_paused && waited.is_some_and(|waited| waited > Duration::from_secs(60));
            check!(!kept, "client {} answers no ping and is still there", conn.number);
        }
        Ok(())
    }

    /// The server has stopped.
    pub fn check_end(&self) -> Result<(), String> {
        for (number, publish) in self.records.publishes.iter().enumerate() {
            check_answer(number, publish)?;
        }
        for (client, session) in &self.records.sessions {
            let expected = u32::from(session.admitted);
            let callbacks = session.close_callbacks;
            let fits = callbacks == expected || session.refused && callbacks == 1;
            check!(
                fits,
                "{callbacks} close callbacks for {client:?}, admitted: {}",
                session.admitted
            );
            check!(session.under_way == 0, "messages of {client:?} never ended");
        }
        for (shard, drained) in self.records.drained.iter().enumerate() {
            check!(*drained == 1, "shard {shard} told {drained} times that it is drained");
            let counts = self.shards[shard].debug_counts();
            check!(counts == Counts::default(), "shard {shard} kept {counts:?}");
        }
        for conn in &self.conns {
            check!(conn.over, "client {} still has its socket", conn.number);
        }
        Ok(())
    }

    fn check_parts(&self, number: usize, publish: &Published) -> Result<(), String> {
        check!(
            publish.shards.len() == 1,
            "publish {number} was distributed {} times",
            publish.shards.len()
        );
        let due = if publish.qos == Qos::AtMostOnce {
            0
        } else {
            publish.shards[0] as usize
        };
        check!(
            publish.parts.len() == due,
            "publish {number} has {} parts of {due}",
            publish.parts.len()
        );
        if publish.qos == Qos::AtMostOnce {
            return Ok(());
        }
        let members: u32 = publish
            .parts
            .iter()
            .map(|part| part.done + part.failed + part.silent)
            .sum();
        let (mut least, mut most) = (0, 0);
        for conn in self.conns.iter().filter(|conn| conn.id.is_some()) {
            least += u32::from(conn.is_well() && self.must_receive(conn.number, publish));
            most += u32::from(self.may_receive(conn.number, publish));
        }
        check!(
            (least..=most).contains(&members),
            "publish {number}: {members} members, not {least}..={most}"
        );
        let done: u32 = publish.parts.iter().map(|part| part.done).sum();
        let in_time = |conn: &&Conn| {
            let at = publish.acks.get(&conn.number);
            conn.is_well() && !conn.was_paused && at.is_some_and(|at| *at + Duration::from_secs(1) < publish.deadline)
        };
        let (least, most) = (
            self.conns.iter().filter(in_time).count() as u32,
            publish.acks.len() as u32,
        );
        check!(
            (least..=most).contains(&done),
            "publish {number}: {done} done, not {least}..={most}"
        );
        Ok(())
    }

    /// Deliveries to one client: who must get it did, who must not did not, once, and in order.
    fn check_received(&self, conn: &Conn) -> Result<(), String> {
        let mut copies: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
        for received in &conn.received {
            let number = received.publish;
            let publish = self.records.publishes.get(number).ok_or("a payload nobody published")?;
            let (first, again) = copies.entry(number).or_default();
            if received.dup {
                *again += 1;
                continue;
            }
            *first += 1;
            // All publishes come from one control core: their order of issue is the order of the channel.
            let last = newest.insert(publish.channel, number);
            check!(
                last.is_none_or(|last| last < number),
                "client {} got {number} after {last:?}",
                conn.number
            );
        }
        for (number, publish) in self.records.publishes.iter().enumerate() {
            let (first, again) = copies.get(&number).copied().unwrap_or_default();
            let who = conn.number;
            check!(first <= 1, "client {who} got publish {number} {first} times");
            check!(
                first == 1 || again == 0,
                "client {who} got publish {number} with DUP only"
            );
            check!(
                again <= publish.retries,
                "client {who} got {again} repetitions of publish {number}"
            );
            check!(
                first == 0 || self.may_receive(who, publish),
                "client {who} got publish {number}, not a member"
            );
            if !conn.is_well() || self.is_lossy(publish) || self.is_behind(conn) {
                continue;
            }
            check!(
                first == 1 || !self.must_receive(who, publish),
                "client {who} missed publish {number}"
            );
            let silent = first == 1 && publish.qos != Qos::AtMostOnce && !publish.acks.contains_key(&who);
            check!(
                !silent || again == publish.retries,
                "client {who} got {again} repetitions of publish {number}"
            );
        }
        Ok(())
    }

    /// A small `inflight_max` makes members fail without being sent to.
    fn is_lossy(&self, publish: &Published) -> bool {
        publish.qos != Qos::AtMostOnce && self.plan.settings.contains("inflight_max=3")
    }

    /// It reads so slowly that minutes are not enough.
    fn is_behind(&self, conn: &Conn) -> bool {
        conn.habits.read_bytes < 100
    }

    fn check_upstream(&self, conn: &Conn) -> Result<(), String> {
        for (at, message) in conn.sent.iter().enumerate() {
            let who = conn.number;
            check!(
                message.under_way == 0,
                "message {at} of client {who} is still under way"
            );
            if !conn.is_well() {
                continue;
            }
            let (seen, owed) = (message.forwards, message.forwards_owed);
            check!(
                seen >= owed,
                "message {at} of client {who} was forwarded {seen} times, not {owed}"
            );
            if !self.is_behind(conn) {
                let (answers, due) = (message.answers, message.answers_due);
                check!(
                    answers == due,
                    "client {who} got {answers} of {due} answers to message {at}"
                );
            }
        }
        Ok(())
    }

    /// The changes to one membership; looked up, since every pair of client and publish asks.
    fn changes_of(&self, conn: usize, channel: usize) -> impl Iterator<Item = &Change> {
        let index = self.records.index.get_or_init(|| {
            let mut index = vec![Vec::new(); self.conns.len() * self.plan.channels];
            for (at, change) in self
                .records
                .changes
                .iter()
                .enumerate()
                .filter(|(_, change)| !change.void)
            {
                let conns = change.conn.map_or(0..self.conns.len(), |conn| conn..conn + 1);
                conns.for_each(|conn| index[conn * self.plan.channels + change.channel].push(at));
            }
            index
        });
        index[conn * self.plan.channels + channel]
            .iter()
            .map(|at| &self.records.changes[*at])
    }

    /// It had joined for sure before the publish was issued, and nothing took it out before it had passed.
    pub fn must_receive(&self, conn: usize, publish: &Published) -> bool {
        let passed = publish.issued_at + PASSED;
        let stays = |join: &Change, leave: &Change| {
            leave.operation == join.operation
                || leave.answered.is_some_and(|answered| answered < join.issued)
                || leave.issued_at > passed
        };
        self.changes_of(conn, publish.channel).any(|join| {
            join.join
                && join.answered.is_some_and(|answered| answered < publish.issued)
                && self
                    .changes_of(conn, publish.channel)
                    .all(|leave| leave.join || stays(join, leave))
        })
    }

    /// Some join may have been in force when the publish passed.
    pub fn may_receive(&self, conn: usize, publish: &Published) -> bool {
        let undone = |join: &Change, leave: &Change| {
            join.answered.is_some_and(|answered| leave.issued > answered)
                && leave.answered.is_some_and(|answered| answered < publish.issued)
        };
        self.changes_of(conn, publish.channel).any(|join| {
            join.join
                && join.issued_at < publish.issued_at + PASSED
                && !self
                    .changes_of(conn, publish.channel)
                    .any(|leave| !leave.join && undone(join, leave))
        })
    }
}

/// Exactly one answer, in time, that fits the parts.
fn check_answer(number: usize, publish: &Published) -> Result<(), String> {
    let count = publish.answers.len();
    check!(count == 1, "publish {number} was answered {count} times");
    let (at, answer, parts_then) = &publish.answers[0];
    let latest = publish.deadline + RECEIPT_GRACE + Duration::from_millis(10);
    check!(
        *at <= latest,
        "publish {number} was answered at {at:?}, after {latest:?}"
    );
    if publish.qos == Qos::AtMostOnce {
        check!(
            answer.status == Status::Complete && answer.connections == 0,
            "publish {number}: {answer:?}"
        );
        return Ok(());
    }
    let parts = &publish.parts[..*parts_then];
    let (done, silent): (u32, u32) = parts
        .iter()
        .fold((0, 0), |(done, silent), part| (done + part.done, silent + part.silent));
    check!(
        answer.connections == u64::from(done),
        "publish {number}: {answer:?} for {parts:?}"
    );
    let all_in = publish
        .shards
        .first()
        .is_some_and(|shards| *shards as usize == parts.len());
    let complete = all_in && (silent == 0 || publish.at_deadline == AtDeadline::Failed);
    check!(
        complete == (answer.status == Status::Complete),
        "publish {number}: {answer:?} for {parts:?}"
    );
    let data = String::from_utf8_lossy(&answer.data);
    let writer = data
        .strip_prefix(&format!("a {number} "))
        .and_then(|conn| conn.parse().ok());
    let known = writer.is_some_and(|conn: usize| publish.acks.contains_key(&conn));
    check!(data.is_empty() || known, "publish {number}: nobody sent {data:?}");
    Ok(())
}
