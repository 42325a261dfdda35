//! Callers that ask about clients and sets, change what sessions keep, and order clients to be closed; and what has to be true
//! of the answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{CloseOrder, Done, Edit, Report};
use rainbow_server::engine::desk::Told;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::engine::query::{ClientInfo, Cursor, Detail, Items, Query};
use rainbow_server::protocol::ListenerId;
use rainbow_server::shard::Input;
use rainbow_server::time::{Duration, Instant};

use crate::control::Asked;
use crate::net::Socket;
use crate::oracle::PASSED;
use crate::records::Seq;
use crate::wire;
use crate::world::World;

/// What a keeper's session may keep (`protocol/echo.rs`).
const KEPT_MAX: usize = 1024;

/// What a caller asked, and what it was told.
pub enum Question {
    /// Who is in a set, with so many in one answer.
    Walk {
        set: usize,
        limit: usize,
        seen: BTreeSet<ClientId>,
    },
    /// How many are in each set.
    Count(Vec<u64>),
    /// What a connection is in.
    Client(usize, Option<ClientInfo>),
    /// What a keeper keeps; so many edits were answered before.
    Kept(usize, usize),
    /// A keeper keeps something else: the number of the edit.
    Edit(usize, usize),
    /// To close a connection: with a farewell, by force; what it came to.
    Order {
        conn: usize,
        farewell: bool,
        force: bool,
        done: Option<Done>,
    },
}

/// One of them, and when it was asked and answered.
pub struct Record {
    pub question: Question,
    asked: Seq,
    asked_at: Instant,
    ended_at: Option<Instant>,
}

/// A client of the echo door, whose session keeps what callers make of it.
pub struct Keeper {
    id: ClientId,
    /// What it keeps after each edit, and before the first.
    states: Vec<String>,
    answered: usize,
}

fn kicked(number: usize) -> u16 {
    4000 + (number % 900) as u16
}

impl World {
    /// One keeper for each shard that has room for it.
    pub fn enter_keepers(&mut self) {
        let request = String::from_utf8(wire::connect_request("k")).expect("ASCII");
        let request = request.replace("/connect/?device=k", "/echo/?receipt=r");
        for shard in 0..self.plan.shards {
            let Some(id) = self.shards[shard].on_accept(ListenerId::MAIN, self.now) else {
                continue;
            };
            self.nets[shard].sockets.insert(id, Socket::default());
            let mut bytes = request.clone().into_bytes();
            let input = self.turn(shard, |shard, net, now| shard.on_bytes(id, &mut bytes, now, net));
            if input == Input::Continue {
                self.control.keepers.push(Keeper {
                    id,
                    states: vec!["r".into()],
                    answered: 0,
                });
            }
        }
    }

    fn note(&mut self, what: String, question: Question) -> (usize, rainbow_server::engine::desk::Caller) {
        self.trace(|| what);
        let number = self.records.asked.len();
        let (asked, asked_at) = (self.next_seq(), self.now);
        self.records.asked.push(Record {
            question,
            asked,
            asked_at,
            ended_at: None,
        });
        (number, self.caller(Asked::About(number)))
    }

    /// A caller asks something.
    pub fn ask_something(&mut self) {
        let set = self.rng.index(self.plan.channels + self.plan.users);
        match self.rng.index(10) {
            0..3 => {
                let least = if self.plan.mailbox > 2 { 1 } else { 5 };
                let limit = *self.rng.pick(&[least, 2, 5, usize::MAX]).max(&least);
                let seen = BTreeSet::new();
                self.walk(None, Question::Walk { set, limit, seen }, None);
            }
            3..5 => {
                let (_, caller) = self.note("count".into(), Question::Count(Vec::new()));
                let names = (0..self.plan.channels + self.plan.users)
                    .map(|set| self.name_of(set))
                    .collect();
                self.control
                    .desk
                    .query(caller, Query::Count { names }, None, usize::MAX);
            }
            5..7 => {
                let Some(client) = self.some_client() else { return };
                let conn = self.by_client[&client];
                let (_, caller) = self.note(format!("what is {conn} in"), Question::Client(conn, None));
                self.control
                    .desk
                    .query(caller, Query::Client { client }, None, usize::MAX);
            }
            7 => self.unbind(),
            _ => self.touch_keeper(),
        }
        self.carry(Vec::new());
    }

    /// Begins a walk, or goes on with one.
    fn walk(&mut self, number: Option<usize>, question: Question, from: Option<Cursor>) {
        let Question::Walk { set, limit, .. } = &question else {
            return;
        };
        let (set, limit) = (*set, *limit);
        let caller = match number {
            Some(number) => {
                self.records.asked[number].question = question;
                self.caller(Asked::About(number))
            }
            None => self.note(format!("walk {set} by {limit}"), question).1,
        };
        let name = self.name_of(set);
        let detail = Detail::default();
        self.control
            .desk
            .query(caller, Query::Members { name, detail }, from, limit);
        self.carry(Vec::new());
    }

    /// A client is nobody's any more.
    fn unbind(&mut self) {
        let Some(client) = self.some_client() else { return };
        let conn = self.by_client[&client];
        self.control.operations += 1;
        let operation = self.control.operations;
        let users = self.plan.channels..self.plan.channels + self.plan.users;
        let changes = users
            .map(|set| self.change(operation, Some(conn), set, false))
            .collect();
        let caller = self.question(format!("unbind {conn}"), changes);
        self.control.desk.unbind(caller, client, Space::USER);
    }

    fn touch_keeper(&mut self) {
        if self.control.keepers.is_empty() {
            return;
        }
        let at = self.rng.index(self.control.keepers.len());
        let keeper = &self.control.keepers[at];
        let (client, edits) = (keeper.id, keeper.states.len());
        if self.rng.chance(40) {
            let before = self.control.keepers[at].answered;
            let (_, caller) = self.note(format!("what does {at} keep"), Question::Kept(at, before));
            self.control
                .desk
                .query(caller, Query::Client { client }, None, usize::MAX);
            return;
        }
        let last = &self.control.keepers[at].states[edits - 1];
        let (verb, patch) = (u8::from(last.len() < KEPT_MAX - 20), format!("{edits};"));
        let next = if verb == 0 {
            patch.clone()
        } else {
            format!("{last}{patch}")
        };
        self.control.keepers[at].states.push(next);
        let (_, caller) = self.note(format!("keeper {at}: {patch}"), Question::Edit(at, edits));
        let patch = Bytes::from(patch);
        self.control.desk.edit(caller, client, Edit { verb, patch });
    }

    /// Somebody is to be closed.
    pub fn kick(&mut self) {
        let Some(client) = self.some_client() else { return };
        let conn = self.by_client[&client];
        let (farewell, force) = (self.rng.chance(50), self.rng.chance(20));
        let order = Question::Order {
            conn,
            farewell,
            force,
            done: None,
        };
        let (number, caller) = self.note(format!("kick {conn}, {farewell}, {force}"), order);
        self.conns[conn].leaving = true;
        let order = CloseOrder {
            code: Some(kicked(number)),
            reason: format!("order {number}").into(),
            farewell: farewell.then(|| (1, format!("f {number}").into())),
            force,
            ..CloseOrder::new(CloseCause::Kicked)
        };
        self.control.desk.close(caller, client, order);
        self.carry(Vec::new());
    }

    /// The answer to question `number`.
    pub fn on_told(&mut self, number: usize, told: Told) {
        let now = self.now;
        let record = &mut self.records.asked[number];
        if record.ended_at.is_some() {
            return self.blame(format!("question {number} is answered twice"));
        }
        record.ended_at = Some(now);
        match (&mut record.question, told) {
            (Question::Walk { seen, limit, .. }, Told::Page { items, next, .. }) => {
                let Items::Members(members) = items else {
                    return self.blame(format!("{items:?} is no list of members"));
                };
                let here: BTreeSet<_> = members.iter().map(|info| info.client).collect();
                if here.len() != members.len() || members.len() > *limit {
                    let fault = format!("members twice, or more than {limit}: {members:?}");
                    return self.blame(fault);
                }
                seen.extend(here);
                if let Some(next) = next {
                    record.ended_at = None;
                    let question = std::mem::replace(&mut record.question, Question::Count(Vec::new()));
                    let again = next.to_string().parse().expect("a cursor is read back");
                    self.walk(Some(number), question, Some(again));
                }
            }
            (
                Question::Count(counts),
                Told::Page {
                    items: Items::Counts(told),
                    ..
                },
            ) => *counts = told,
            (
                Question::Client(_, info),
                Told::Page {
                    items: Items::Client(told),
                    ..
                },
            ) => *info = told,
            (
                Question::Kept(at, before),
                Told::Page {
                    items: Items::Client(told),
                    ..
                },
            ) => {
                let (at, before) = (*at, *before);
                self.check_kept(at, before, told);
            }
            (Question::Edit(at, edit), Told::Done { done, .. }) => {
                let (at, edit) = (*at, *edit);
                self.check_edit(at, edit, done);
            }
            (Question::Order { done, .. }, Told::Done { done: told, .. }) => *done = Some(told),
            (_, told) => self.blame(format!("question {number} is told {told:?}")),
        }
    }

    /// A keeper may be gone only if something ends silent clients.
    fn may_be_gone(&self) -> bool {
        self.draining || self.plan.any(|all| all.ping_interval > 0 || all.idle_timeout > 0)
    }

    fn check_kept(&mut self, at: usize, before: usize, told: Option<ClientInfo>) {
        let keeper = &self.control.keepers[at];
        let fits = match told {
            None => self.may_be_gone(),
            Some(info) => keeper.states[before..]
                .iter()
                .any(|state| *state.as_bytes() == info.data[..]),
        };
        if !fits {
            self.blame(format!(
                "keeper {at} keeps none of {:?}",
                self.control.keepers[at].states
            ));
        }
    }

    fn check_edit(&mut self, at: usize, edit: usize, done: Done) {
        let keeper = &mut self.control.keepers[at];
        keeper.answered = keeper.answered.max(edit);
        let expected = keeper.states[edit].clone();
        let fits = match &done {
            Done::NoClient => self.may_be_gone(),
            Done::Edited(kept) => *kept == expected,
            _ => false,
        };
        if !fits {
            self.blame(format!("edit {edit} of keeper {at}: {done:?}, not {expected:?}"));
        }
    }

    /// Each page and each change is reported once, to somebody who asked.
    pub fn note_report(&mut self, report: &Report) {
        let (ticket, what) = match report {
            Report::Told { ticket, .. } => (*ticket, "page"),
            Report::Done { ticket, .. } => (*ticket, "change"),
            _ => return,
        };
        if ticket.serial != u64::MAX && !self.control.reported.insert(ticket) {
            self.blame(format!("a {what} is told twice"));
        }
    }

    /// A client has read a close frame: it is as it was ordered, and the farewell came before it.
    pub fn check_ordered(&mut self, number: usize) {
        let conn = &self.conns[number];
        let Some(payload) = &conn.close else { return };
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        let order = reason
            .strip_prefix("order ")
            .and_then(|order| order.parse::<usize>().ok());
        let farewells = &conn.farewells;
        let fits = match order.map(|order| (order, self.records.asked.get(order).map(|record| &record.question))) {
            None => farewells.is_empty(),
            Some((
                order,
                Some(Question::Order {
                    conn: whom,
                    farewell,
                    force,
                    ..
                }),
            )) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                // It is left out if the outbox is full.
                let said = *farewells == [order] || farewells.is_empty() && (!farewell || conn.clogged);
                *whom == number && !force && code == Some(kicked(order)) && said && (*farewell || farewells.is_empty())
            }
            Some(_) => false,
        };
        if !fits {
            let said = format!("{:?}", self.conns[number].farewells);
            self.blame(format!(
                "client {number} was closed with {reason:?} after the farewells {said}"
            ));
        }
    }

    /// All has gone quiet: what was told was true.
    pub fn check_asked(&self) -> Result<(), String> {
        for (number, record) in self.records.asked.iter().enumerate() {
            self.check_record(record)
                .map_err(|error| format!("question {number}: {error}"))?;
        }
        Ok(())
    }

    fn check_record(&self, record: &Record) -> Result<(), String> {
        let Some(ended_at) = record.ended_at else {
            return Err("it was never answered".into());
        };
        // Within that time the oracle knows who must be and who may be where.
        let in_time = ended_at.since(record.asked_at) + Duration::from_secs(1) < PASSED;
        let must =
            |conn: usize, set| self.conns[conn].is_well() && self.must_be_in(conn, set, record.asked, record.asked_at);
        let may = |conn: usize, set| {
            self.conns[conn].id.is_some() && self.may_be_in(conn, set, record.asked, record.asked_at)
        };
        match &record.question {
            Question::Walk { set, seen, .. } if in_time => {
                for conn in &self.conns {
                    let listed = conn.id.is_some_and(|id| seen.contains(&id));
                    if !listed && must(conn.number, *set) {
                        return Err(format!("client {} is in {set} and was not listed", conn.number));
                    }
                    if listed && !may(conn.number, *set) {
                        return Err(format!("client {} was listed, not in {set}", conn.number));
                    }
                }
                Ok(())
            }
            Question::Count(counts) if in_time => {
                for (set, count) in counts.iter().enumerate() {
                    let all = || 0..self.conns.len();
                    let least = all().filter(|conn| must(*conn, set)).count() as u64;
                    let most = all().filter(|conn| may(*conn, set)).count() as u64;
                    if !(least..=most).contains(count) {
                        return Err(format!("{count} members of {set}, not {least}..={most}"));
                    }
                }
                Ok(())
            }
            Question::Client(conn, info) if in_time => self.check_client(*conn, info.as_ref(), record, must, may),
            Question::Order { conn, force, done, .. } => self.check_close_order(*conn, *force, done.as_ref()),
            _ => Ok(()),
        }
    }

    fn check_client(
        &self,
        number: usize,
        info: Option<&ClientInfo>,
        record: &Record,
        must: impl Fn(usize, usize) -> bool,
        may: impl Fn(usize, usize) -> bool,
    ) -> Result<(), String> {
        let conn = &self.conns[number];
        let Some(info) = info else {
            let was_there = conn.is_well() && conn.open_at.is_some_and(|at| at < record.asked_at);
            return if was_there {
                Err(format!("client {number} is there"))
            } else {
                Ok(())
            };
        };
        let sets = 0..self.plan.channels + self.plan.users;
        for set in sets {
            let name: Name = self.name_of(set);
            let listed = info.names.contains(&name);
            if listed && !may(number, set) || !listed && must(number, set) {
                return Err(format!("client {number} in {set}: {listed} is wrong"));
            }
        }
        Ok(())
    }

    fn check_close_order(&self, number: usize, force: bool, done: Option<&Done>) -> Result<(), String> {
        let conn = &self.conns[number];
        match done {
            Some(Done::NoClient) => Ok(()),
            Some(Done::Changed) => {
                if !conn.over {
                    return Err(format!("client {number} was to be closed and is there"));
                }
                let is_told = conn.close.is_some() || conn.up_end.is_some() || !conn.habits.is_prompt() || conn.clogged;
                if !force && !is_told && conn.status == Some(101) {
                    return Err(format!("client {number} was closed without a close frame"));
                }
                Ok(())
            }
            other => Err(format!("an order to close is told {other:?}")),
        }
    }
}
