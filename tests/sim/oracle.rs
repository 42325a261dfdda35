//! What has to be true of a run. Judged from [`Records`](crate::records) and from what the clients saw, never from what a
//! shard believes, but for the counts that have to be zero in the end.

use std::collections::{BTreeMap, BTreeSet};

use rainbow_server::engine::command::{AtDeadline, Qos, Tell};
use rainbow_server::engine::receipt::Status;
use rainbow_server::limits::RECEIPT_GRACE;
use rainbow_server::shard::Counts;
use rainbow_server::time::{Duration, Instant};

use crate::conn::Conn;
use crate::far::JUST_NOW;
use crate::records::{Change, Published, Seq};
use crate::wire;
use crate::world::World;

/// A publish has passed all shards after so long: far more than the delays of all mailboxes on its way.
pub const PASSED: Duration = Duration::from_secs(5);
/// An acknowledgement is with the shard after so long.
const ARRIVED: Duration = Duration::from_secs(3);
/// Whoever has left for so long is known to have left.
const NOTICED: Duration = Duration::from_secs(100);

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
        self.check_messages()?;
        self.check_census()?;
        self.check_asked()?;
        for conn in &self.conns {
            // Silence that a ping should have ended; other pings than that of a failed delivery are answered by any input.
            let since = conn.ping_unanswered.filter(|at| {
                let silent = conn.said_at <= *at + Duration::from_secs(1);
                silent || !self.plan.any(|settings| settings.ping_interval > 0)
            });
            let waited = since.is_some_and(|at| self.now.since(at) > Duration::from_secs(60));
            let kept = conn.is_well() && !conn.was_paused && waited;
            check!(!kept, "client {} answers no ping and is still there", conn.number);
            let waits = conn.hurries && !conn.over && conn.up_end.is_none() && conn.status.is_none();
            check!(!waits, "client {} got no answer to its request", conn.number);
            let session = conn.id.and_then(|id| self.records.sessions.get(&id));
            let left = conn.ended_at.is_some_and(|at| self.now.since(at) > NOTICED);
            let owed = left && session.is_some_and(|session| session.admitted && session.close_callbacks == 0);
            check!(!owed, "client {} left and nobody was told", conn.number);
        }
        Ok(())
    }

    /// Messages in both directions, and all answers.
    fn check_messages(&self) -> Result<(), String> {
        for (number, publish) in self.records.publishes.iter().enumerate() {
            self.check_answer(number, publish)?;
            self.check_parts(number, publish)?;
            self.check_online(number, publish)?;
        }
        for (what, answers) in &self.records.questions {
            check!(*answers == 1, "{answers} answers to {what}");
        }
        for conn in &self.conns {
            self.check_received(conn)?;
            self.check_upstream(conn)?;
        }
        Ok(())
    }

    /// The server has stopped.
    pub fn check_end(&self) -> Result<(), String> {
        if self.plan.drains_busy {
            self.check_messages()?;
        }
        for (number, publish) in self.records.publishes.iter().enumerate() {
            self.check_answer(number, publish)?;
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
            check!(
                conn.over || conn.id.is_none(),
                "client {} still has its socket",
                conn.number
            );
        }
        let (receipts, callbacks) = (self.control.waiting(), self.control.callbacks.len());
        check!(receipts == 0, "{receipts} publishes without an answer");
        check!(callbacks == 0, "{callbacks} callbacks never ended");
        check!(self.cores.are_empty(), "mail that nobody takes");
        Ok(())
    }

    /// Who is in which channel is who should be, and the homes know of exactly the channels there are.
    fn check_census(&self) -> Result<(), String> {
        let Some(census) = &self.records.census else {
            return Err("no census".into());
        };
        let names: BTreeSet<_> = census.pages.iter().flat_map(BTreeMap::keys).collect();
        let (known, there) = (census.interests, names.len());
        check!(
            known == there,
            "{known} channels are known at their homes, {there} have members"
        );
        let conns = || census.there.iter().map(|number| &self.conns[*number]);
        for (shard, page) in census.pages.iter().enumerate() {
            for channel in 0..self.sets() {
                let members = page.get(&self.name_of(channel)).copied().unwrap_or(0);
                let here = || conns().filter(|conn| conn.shard == shard);
                let must = |conn: &&Conn| {
                    conn.is_well() && self.must_be_in(conn.number, channel, census.asked, census.asked_at)
                };
                let may = |conn: &&Conn| self.may_be_in(conn.number, channel, census.asked, census.asked_at);
                let (least, most) = (here().filter(must).count() as u32, here().filter(may).count() as u32);
                check!(
                    (least..=most).contains(&members),
                    "{members} members of channel {channel} on shard {shard}, not {least}..={most}"
                );
            }
        }
        Ok(())
    }

    /// The server has ended a connection: it needs a reason.
    pub fn check_farewell(&mut self, number: usize) {
        let conn = &self.conns[number];
        if !conn.habits.is_prompt() || conn.leaving || conn.status != Some(101) || self.draining {
            return;
        }
        let said = match conn.close.as_deref() {
            None => "nothing".into(),
            Some([]) => "an empty close frame".into(),
            Some(payload) => String::from_utf8_lossy(payload.get(2..).unwrap_or_default()),
        };
        // What the client said last may have crossed the farewell, which may then have waited until the client read on.
        let crossed = self.now.since(conn.said_at) <= JUST_NOW * 2;
        let since = if crossed { conn.silent_since } else { conn.said_at };
        let silent = self.now.since(since) + JUST_NOW;
        let reason = match &*said {
            "idle_timeout" => self
                .plan
                .any(|all| all.idle_timeout > 0 && silent >= Duration::from_secs(all.idle_timeout)),
            // While mail of its core waits for room neither the ping leaves nor is anything read.
            "ping_timeout" => self.plan.mailbox < 8 && !self.plan.stalls.is_empty(),
            // Also a fast client, if more than its outbox holds is for it in one turn.
            "slow_consumer" => conn.clogged || self.plan.any(|all| all.outbox_bytes < 1 << 20),
            _ => false,
        };
        if !reason {
            let said = said.into_owned();
            self.blame(format!("client {number} was closed for no reason, with {said:?}"));
        }
    }

    fn check_parts(&self, number: usize, publish: &Published) -> Result<(), String> {
        if publish.tell == Tell::Nobody {
            let told = publish.shards.len() + publish.parts.len();
            check!(told == 0, "publish {number}: {told} reports for nobody");
            return Ok(());
        }
        check!(
            publish.shards.len() == 1,
            "publish {number} was distributed {} times",
            publish.shards.len()
        );
        let due = if publish.tell.has_parts() {
            publish.shards[0] as usize
        } else {
            0
        };
        check!(
            publish.parts.len() == due,
            "publish {number} has {} parts of {due}",
            publish.parts.len()
        );
        if !publish.tell.has_parts() {
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
        if publish.qos == Qos::AtMostOnce {
            return self.check_counted(number, publish, done, most);
        }
        let in_time = |conn: &&Conn| {
            let at = publish.acks.get(&conn.number);
            conn.is_well() && !conn.was_paused && at.is_some_and(|at| *at + ARRIVED < publish.deadline)
        };
        let liar = |conn: &&Conn| conn.habits.byzantine && !publish.acks.contains_key(&conn.number);
        let liars = self.conns.iter().filter(liar);
        let liars = liars.filter(|conn| self.may_receive(conn.number, publish)).count();
        let (least, most) = (
            self.conns.iter().filter(in_time).count() as u32,
            (publish.acks.len() + liars) as u32,
        );
        check!(
            (least..=most).contains(&done),
            "publish {number}: {done} done, not {least}..={most}"
        );
        Ok(())
    }

    /// Whoever got a message that is only counted was counted, and whoever was not is gone.
    fn check_counted(&self, number: usize, publish: &Published, done: u32, most: u32) -> Result<(), String> {
        let got = |conn: &&Conn| conn.received.iter().any(|received| received.publish == number);
        let silent: u32 = publish.parts.iter().map(|part| part.silent).sum();
        let failed: u32 = publish.parts.iter().map(|part| part.failed).sum();
        let least = self.conns.iter().filter(got).count() as u32;
        check!(
            (least..=most).contains(&(done + silent)) && done <= most,
            "publish {number}: {done} counted, not {least}..={most}"
        );
        let gone = |conn: &&Conn| conn.id.is_some() && !conn.is_well() && self.may_receive(conn.number, publish);
        let gone = self.conns.iter().filter(gone).count() as u32;
        check!(
            failed <= gone,
            "publish {number}: {failed} dropped of {gone} that are gone"
        );
        Ok(())
    }

    /// Whoever sends to a user is told where it is online: each platform once, none left out, in order of connecting.
    fn check_online(&self, number: usize, publish: &Published) -> Result<(), String> {
        let is_user = publish.tells_online;
        let due = if is_user { publish.shards[0] } else { 0 };
        let (told, answers) = (publish.onlines, &publish.answers);
        check!(
            told == due,
            "publish {number}: {told} of {due} shards told who is online"
        );
        let Some((_, answer, ..)) = answers.first() else {
            return Ok(());
        };
        let platforms: Vec<_> = answer.platforms.iter().map(|presence| &presence.platform[..]).collect();
        if !is_user {
            check!(platforms.is_empty(), "publish {number}: nobody asked for {platforms:?}");
            return Ok(());
        }
        let each: BTreeSet<_> = platforms.iter().collect();
        check!(each.len() == platforms.len(), "publish {number}: {platforms:?}");
        let of = |conn: &Conn| wire::platform(&conn.number.to_string()).into_bytes();
        let surely = |conn: &&Conn| conn.is_well() && self.must_receive(conn.number, publish);
        let perhaps = |conn: &&Conn| conn.id.is_some() && self.may_receive(conn.number, publish);
        for platform in &platforms {
            let known = self.conns.iter().filter(perhaps).any(|conn| of(conn) == *platform);
            check!(known, "publish {number}: nobody is online with {platform:?}");
        }
        for conn in self.conns.iter().filter(surely) {
            let told = platforms.contains(&&of(conn)[..]) || answer.status == Status::TimedOut;
            check!(
                told,
                "publish {number}: client {} is online, not in {platforms:?}",
                conn.number
            );
        }
        if answer.status == Status::TimedOut {
            // Of a shard that is not heard in time nobody knows who came first there.
            return Ok(());
        }
        for pair in platforms.windows(2) {
            // The second had surely come before any of the first: its admission was known before theirs was given.
            let joins = |conn: &Conn| self.changes_of(conn.number, publish.sets[0]).find(|change| change.join);
            let earliest = self.conns.iter().filter(perhaps).filter(|conn| of(conn) == pair[0]);
            let earliest = earliest.filter_map(|conn| joins(conn).map(|join| join.issued)).min();
            let latest = self.conns.iter().filter(surely).filter(|conn| of(conn) == pair[1]);
            let latest = latest
                .filter_map(|conn| joins(conn).and_then(|join| join.answered))
                .min();
            let swapped = latest.zip(earliest).is_some_and(|(second, first)| second < first);
            check!(
                !swapped,
                "publish {number}: {platforms:?} are not in order of connecting"
            );
        }
        Ok(())
    }

    /// Deliveries to one client: who must get it did, who must not did not, once, and in order.
    fn check_received(&self, conn: &Conn) -> Result<(), String> {
        let mut copies: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        let mut firsts = Vec::new();
        for received in &conn.received {
            let number = received.publish;
            let publish = self.records.publishes.get(number).ok_or("a payload nobody published")?;
            let (first, again) = copies.entry(number).or_default();
            if received.dup {
                *again += 1;
                continue;
            }
            *first += 1;
            firsts.push((number, publish));
        }
        self.check_order(conn.number, &firsts)?;
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
            if !conn.is_well() || self.is_lossy(publish) || self.may_drop(conn, publish) {
                continue;
            }
            check!(
                first == 1 || !self.must_receive(who, publish),
                "client {who} missed publish {number}"
            );
            let silent = first == 1 && publish.qos != Qos::AtMostOnce && !publish.acks.contains_key(&who);
            check!(
                // What has not left its outbox is not repeated.
                !silent || again == publish.retries || conn.clogged,
                "client {who} got {again} repetitions of publish {number}"
            );
        }
        Ok(())
    }

    /// All publishes come from one control core: of those that go by one home their order of issue is the order of everybody.
    /// One that is for several channels or for clients is in order with all that had been answered before it was issued, and
    /// with all that were issued after it was answered.
    fn check_order(&self, who: usize, firsts: &[(usize, &Published)]) -> Result<(), String> {
        let mut newest = 0;
        for (at, (number, publish)) in firsts.iter().enumerate() {
            newest = newest.max(*number);
            if newest == *number {
                continue;
            }
            for (later, overtaker) in firsts[..at].iter().filter(|(before, _)| before > number) {
                let is_bound = publish.via == overtaker.via;
                let is_plain = publish.is_plain && overtaker.is_plain;
                let is_known = publish.passed_on().is_some_and(|answered| answered < overtaker.issued);
                check!(
                    !is_bound && (is_plain || !is_known),
                    "client {who} got {number} after {later}"
                );
            }
        }
        Ok(())
    }

    /// A small `inflight_max` makes members fail without being sent to.
    fn is_lossy(&self, publish: &Published) -> bool {
        publish.qos != Qos::AtMostOnce && self.plan.any(|settings| settings.inflight_max < 100)
    }

    /// Messages of level 0 may have been dropped for it.
    fn may_drop(&self, conn: &Conn, publish: &Published) -> bool {
        publish.qos == Qos::AtMostOnce && conn.clogged && self.plan.any(|settings| settings.drop_oldest)
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
            let (answers, due) = (message.answers, message.answers_due);
            check!(
                answers == due,
                "client {who} got {answers} of {due} answers to message {at}"
            );
        }
        Ok(())
    }

    /// Channels and users.
    fn sets(&self) -> usize {
        self.plan.channels + self.plan.users
    }

    /// The changes to one membership; looked up, since every pair of client and publish asks.
    fn changes_of(&self, conn: usize, channel: usize) -> impl Iterator<Item = &Change> {
        let index = self.records.index.get_or_init(|| {
            let mut index = vec![Vec::new(); self.conns.len() * self.sets()];
            for (at, change) in self
                .records
                .changes
                .iter()
                .enumerate()
                .filter(|(_, change)| !change.void)
            {
                let conns = change.conn.map_or(0..self.conns.len(), |conn| conn..conn + 1);
                conns.for_each(|conn| index[conn * self.sets() + change.channel].push(at));
            }
            index
        });
        index[conn * self.sets() + channel]
            .iter()
            .map(|at| &self.records.changes[*at])
    }

    pub fn must_receive(&self, conn: usize, publish: &Published) -> bool {
        let is_in = |set: &usize| self.must_be_in(conn, *set, publish.issued, publish.issued_at);
        let is_addressed = publish.addressed.get(&conn) == Some(&true);
        !publish.except.contains(&conn) && (is_addressed || publish.sets.iter().any(is_in))
    }

    pub fn may_receive(&self, conn: usize, publish: &Published) -> bool {
        let is_in = |set: &usize| self.may_be_in(conn, *set, publish.issued, publish.issued_at);
        let is_addressed = publish.addressed.contains_key(&conn);
        !publish.except.contains(&conn) && (is_addressed || publish.sets.iter().any(is_in))
    }

    /// It has joined at some time.
    pub fn is_or_was_in(&self, conn: usize, set: usize) -> bool {
        self.changes_of(conn, set).any(|change| change.join)
    }

    /// It had joined for sure before this was issued, and nothing took it out before it had passed.
    pub fn must_be_in(&self, conn: usize, channel: usize, issued: Seq, issued_at: Instant) -> bool {
        let passed = issued_at + PASSED;
        let stays = |join: &Change, leave: &Change| {
            leave.operation == join.operation
                || leave.answered.is_some_and(|answered| answered < join.issued)
                || leave.issued_at > passed
        };
        self.changes_of(conn, channel).any(|join| {
            join.join
                && !join.doubtful
                && join.answered.is_some_and(|answered| answered < issued)
                && self
                    .changes_of(conn, channel)
                    .all(|leave| leave.join || stays(join, leave))
        })
    }

    /// Some join may have been in force when this passed.
    pub fn may_be_in(&self, conn: usize, channel: usize, issued: Seq, issued_at: Instant) -> bool {
        let undone = |join: &Change, leave: &Change| {
            join.answered.is_some_and(|answered| leave.issued > answered)
                && leave.answered.is_some_and(|answered| answered < issued)
        };
        self.changes_of(conn, channel).any(|join| {
            join.join
                && join.issued_at < issued_at + PASSED
                && !self
                    .changes_of(conn, channel)
                    .any(|leave| !leave.join && undone(join, leave))
        })
    }

    /// Exactly one answer, in time, that fits the parts.
    fn check_answer(&self, number: usize, publish: &Published) -> Result<(), String> {
        let count = publish.answers.len();
        check!(count == 1, "publish {number} was answered {count} times");
        let (at, answer, parts_then, of) = &publish.answers[0];
        let latest = publish.deadline + RECEIPT_GRACE + Duration::from_millis(10);
        check!(
            *at <= latest,
            "publish {number} was answered at {at:?}, after {latest:?}"
        );
        if !publish.tell.has_parts() {
            // Whoever loses its processor, or has no room for mail, may not get it passed on in time.
            let hindered = self.plan.mailbox < 64 || !self.plan.stalls.is_empty();
            let late = hindered && *at >= publish.deadline + RECEIPT_GRACE;
            check!(
                answer.done == 0 && (answer.status == Status::Complete || late),
                "publish {number}: {answer:?}"
            );
            return Ok(());
        }
        let (parts, heard) = (&publish.parts[..*parts_then], &publish.heard[..publish.heard_then]);
        let (done, silent): (u32, u32) = parts
            .iter()
            .fold((0, 0), |(done, silent), part| (done + part.done, silent + part.silent));
        let failed: u32 = parts.iter().map(|part| part.failed).sum();
        check!(
            answer.done == u64::from(done) + heard.iter().sum::<u64>() && answer.failed == u64::from(failed),
            "publish {number}: {answer:?} for {parts:?} and {heard:?}"
        );
        let nodes_in = heard.len() == publish.nodes as usize;
        let all_in = nodes_in && of.is_some_and(|shards| shards as usize == parts.len());
        let complete = all_in && (silent == 0 || publish.at_deadline == AtDeadline::Failed);
        check!(
            complete == (answer.status == Status::Complete),
            "publish {number}: {answer:?} for {parts:?}"
        );
        let data = String::from_utf8_lossy(&answer.data);
        let writer = data
            .strip_prefix(&format!("a {number} "))
            .and_then(|conn| conn.parse::<usize>().ok());
        let known = match writer {
            Some(conn) => publish.acks.contains_key(&conn),
            None => self.conns.iter().any(|conn| conn.habits.byzantine) && !data.starts_with("a "),
        };
        check!(data.is_empty() || known, "publish {number}: nobody sent {data:?}");
        Ok(())
    }
}
