//! The desk of a control core: everybody who asks something of the shards, and of other nodes, and waits for the answer.
//! Verbs come in ([`Desk::publish`], [`Desk::change`], [`Desk::unbind`],
//! [`Desk::edit`], [`Desk::close`], [`Desk::query`], [`Desk::list`]), what shards and nodes say comes in
//! ([`Desk::on_report`], [`Desk::on_remote`]), and the time ([`Desk::on_deadline`]); commands, questions to other nodes and
//! answers go out ([`Desk::poll_output`]). The core carries them, and knows nothing else about it.
//!
//! ```text
//!   caller ── verb ──▶ desk ── Post ──▶ shards ── Report ──▶ desk ── Answer ──▶ caller
//!                        └──── Ask ───▶ nodes ─── Inbound ───▶┘
//! ```
//! Invariants:
//! - Each caller is answered exactly once. A publish is answered by its deadline ([`super::receipt`]); the rest when the
//!   shard and every node that was asked have answered.
//! - Tickets name their node and desk and are used once, so what comes late, twice or astray finds nobody. Each page that
//!   a shard is asked for has a ticket of its own.
//! - Lists without a limit that are large are made one at a time; the others wait, and are refused at their turn if memory is
//!   short then ([`walk`]).
//!
//! Bounds: [`DESK_QUESTIONS_MAX`] questions, publishes included; who comes then is answered [`Told::NoRoom`]. Each holds one
//! answer of every node it counted. Callers of a core are connections, with a bounded number of calls each
//! ([`CALLS_UNDER_WAY_MAX`](crate::limits::CALLS_UNDER_WAY_MAX)).

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
mod walk;
#[cfg(test)]
mod walk_tests;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use self::walk::Walks;
use super::command::{CloseOrder, Command, Done, Edit, Publish, Report, Tell};
use super::ids::{ClientId, DeskId, NodeEpoch, ShardId, Ticket};
use super::name::{Name, Space};
use super::query::{Cursor, Items, Query};
use super::receipt::{Answer, Deadline, Question, Receipts, Tickets};
use super::registry::HomeHash;
use super::remote::{Inbound, Outbound};
use super::wheel::{TimerId, Wheel};
use crate::budget::Claim;
use crate::limits::DESK_QUESTIONS_MAX;
use crate::time::Instant;

/// Somebody who waits for an answer, by a number of the carrier's that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(pub u64);

/// What other nodes are asked too.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The question.
    pub ask: Outbound,
    /// How many nodes the carrier will pass it to. Each answers or fails, once ([`Desk::on_remote`]).
    pub nodes: u32,
}

/// A change of who is in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The client comes.
    Join,
    /// The client goes.
    Leave,
    /// Everybody goes, then the client comes.
    Occupy,
}

/// What has to be carried out.
#[derive(Debug)]
pub enum Output {
    /// For a shard.
    Post(ShardId, Command),
    /// For the nodes that were counted for this question.
    Ask(Ticket, Outbound),
    /// For a caller.
    Answer(Caller, Told),
}

/// What a caller is told.
#[derive(Debug)]
pub enum Told {
    /// How a publish ended.
    Published(Answer),
    /// What became of a change.
    Done {
        /// On this node.
        done: Done,
        /// What other nodes say, in the order of their answers.
        others: Vec<Inbound>,
    },
    /// What clients and sets of this node are.
    Page {
        /// What was asked for.
        items: Items,
        /// Where the rest is to be had, if this was not all.
        next: Option<Cursor>,
        /// What other nodes hold, in the order of their answers.
        others: Vec<Inbound>,
        /// The items are charged for as long as this is kept.
        claim: Claim,
    },
    /// Too many wait, or memory is short.
    NoRoom,
}

/// What is asked of shards and nodes by callers of one core.
pub struct Desk {
    home: HomeHash,
    shards: u16,
    /// [`DESK_QUESTIONS_MAX`], but in tests.
    questions_max: usize,
    tickets: Tickets,
    receipts: Receipts,
    /// Who waits for a publish, and the timer of its deadline.
    publishes: HashMap<Ticket, (Caller, TimerId), RandomState>,
    wheel: Wheel<Ticket>,
    due: Vec<Ticket>,
    questions: HashMap<Ticket, Asked, RandomState>,
    walks: Walks,
    outputs: VecDeque<Output>,
}

/// A question that is no publish.
#[derive(Debug)]
struct Asked {
    caller: Caller,
    here: Here,
    /// Nodes that have not answered.
    nodes: u32,
    others: Vec<Inbound>,
}

/// What this node says to a question.
#[derive(Debug)]
enum Here {
    Waiting,
    Done(Done),
    Page {
        items: Items,
        next: Option<Cursor>,
        claim: Claim,
    },
}

impl Desk {
    /// A desk of a node, in front of so many shards.
    pub fn new(node: NodeEpoch, desk: DeskId, home: HomeHash, shards: usize) -> Self {
        Self {
            home,
            shards: u16::try_from(shards).unwrap_or(u16::MAX),
            questions_max: DESK_QUESTIONS_MAX,
            tickets: Tickets::new(node, desk),
            receipts: Receipts::new(),
            publishes: HashMap::default(),
            wheel: Wheel::new(),
            due: Vec::new(),
            questions: HashMap::default(),
            walks: Walks::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Publishes what `publish` makes for a ticket, here and `elsewhere`. What is told to nobody is answered at once, with
    /// nothing.
    pub fn publish(
        &mut self,
        caller: Caller,
        elsewhere: Option<Elsewhere>,
        publish: impl FnOnce(Ticket) -> Publish,
    ) -> Option<Ticket> {
        let ticket = self.admit(caller)?;
        let publish = Arc::new(publish(ticket));
        let question = Question {
            tell: publish.tell,
            at_deadline: publish.at_deadline,
            deadline: publish.deadline,
            peers: elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.nodes),
            tells_online: publish.tells_online,
        };
        self.ask(ticket, elsewhere);
        let distributor = publish.to.distributor(&self.home);
        if let Some(shard) = distributor {
            self.post(shard, Command::Publish(publish));
        }
        // One mailbox is one order: nothing that follows this answer can overtake the publish. With several shards it has to
        // have been passed on first.
        let is_on_its_way = question.tell == Tell::Published && !question.tells_online && self.shards == 1;
        if question.tell == Tell::Nobody || is_on_its_way {
            self.answer(caller, Told::Published(Answer::NOTHING));
            return Some(ticket);
        }
        let timer = self.wheel.insert(question.deadline, ticket);
        self.publishes.insert(ticket, (caller, timer));
        self.receipts.open(ticket, question);
        if distributor.is_none() {
            let answer = self.receipts.on_published(ticket, 0);
            self.end_publish(ticket, answer);
        }
        Some(ticket)
    }

    /// Changes who is in a channel. `client` is `None` if it is none of this node.
    pub fn change(
        &mut self,
        caller: Caller,
        change: Change,
        client: Option<ClientId>,
        channel: Name,
        elsewhere: Option<Elsewhere>,
    ) -> Option<Ticket> {
        let ticket = self.open(caller, elsewhere)?;
        let (shard, command) = match (change, client) {
            (Change::Occupy, client) => (
                self.home.home_of(&channel),
                Command::Occupy {
                    channel,
                    client,
                    ticket,
                },
            ),
            (_, None) => {
                self.on_done(ticket, Done::NoClient);
                return Some(ticket);
            }
            (Change::Join, Some(client)) => (
                client.shard,
                Command::Join {
                    client,
                    channel,
                    ticket,
                },
            ),
            (Change::Leave, Some(client)) => (
                client.shard,
                Command::Leave {
                    client,
                    channel,
                    ticket,
                },
            ),
        };
        self.post(shard, command);
        Some(ticket)
    }

    /// Ends the connection of a client.
    pub fn close(&mut self, caller: Caller, client: ClientId, order: CloseOrder) -> Option<Ticket> {
        let order = Box::new(order);
        self.change_client(caller, client, |ticket| Command::Close { client, order, ticket })
    }

    /// Takes a client out of the set it is in of a single-valued space.
    pub fn unbind(&mut self, caller: Caller, client: ClientId, space: Space) -> Option<Ticket> {
        self.change_client(caller, client, |ticket| Command::Unbind { client, space, ticket })
    }

    /// Changes what a client's session keeps.
    pub fn edit(&mut self, caller: Caller, client: ClientId, edit: Edit) -> Option<Ticket> {
        self.change_client(caller, client, |ticket| Command::Edit { client, edit, ticket })
    }

    fn change_client(
        &mut self,
        caller: Caller,
        client: ClientId,
        command: impl FnOnce(Ticket) -> Command,
    ) -> Option<Ticket> {
        let ticket = self.open(caller, None)?;
        self.post(client.shard, command(ticket));
        Some(ticket)
    }

    /// Asks about clients and sets, from where an earlier answer has ended. With a `limit` there may be fewer items although
    /// there are more: [`Told::Page::next`](Told::Page) says so. `usize::MAX` is no limit.
    pub fn query(&mut self, caller: Caller, query: Query, from: Option<Cursor>, limit: usize) -> Option<Ticket> {
        let ticket = self.open(caller, None)?;
        self.walk(ticket, query, from.unwrap_or(Cursor::START), limit);
        Some(ticket)
    }

    /// Lists all channels with their members, here and `elsewhere`. Users are nobody's to list.
    pub fn list(&mut self, caller: Caller, elsewhere: Option<Elsewhere>) -> Option<Ticket> {
        let ticket = self.open(caller, elsewhere)?;
        let space = Space::CHANNEL;
        self.walk(ticket, Query::Names { space }, Cursor::START, usize::MAX);
        Some(ticket)
    }

    /// A shard has told something. What is not the desk's is ignored.
    pub fn on_report(&mut self, report: Report) {
        match report {
            Report::Published { ticket, shards } => {
                let answer = self.receipts.on_published(ticket, shards);
                self.end_publish(ticket, answer);
            }
            Report::Part(part) => {
                let ticket = part.ticket;
                let answer = self.receipts.on_part(part);
                self.end_publish(ticket, answer);
            }
            Report::Online {
                ticket,
                shards,
                platforms,
            } => {
                let answer = self.receipts.on_online(ticket, shards, &platforms);
                self.end_publish(ticket, answer);
            }
            Report::Done { ticket, done } => self.on_done(ticket, done),
            Report::Told { ticket, page, next } => self.on_page(ticket, page, next),
            Report::Callback(_) | Report::Drained { .. } => {}
        }
    }

    /// A node has answered or failed.
    pub fn on_remote(&mut self, ticket: Ticket, inbound: Inbound) {
        if let Some(asked) = self.questions.get_mut(&ticket) {
            asked.nodes = asked.nodes.saturating_sub(1);
            asked.others.push(inbound);
            return self.end_question(ticket);
        }
        let part = match inbound {
            Inbound::Part(part) => part,
            _ => Default::default(),
        };
        let answer = self.receipts.on_peer(ticket, part);
        self.end_publish(ticket, answer);
    }

    /// When [`Desk::on_deadline`] has to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Ends publishes whose time is over.
    pub fn on_deadline(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, usize::MAX, &mut due);
        due.drain(..).for_each(|ticket| self.end_by(ticket, now));
        self.due = due;
    }

    /// Tells everybody who waits for a publish what is known.
    pub fn give_up(&mut self) {
        let far = Instant::from_micros(u64::MAX / 2);
        let mut open: Vec<Ticket> = self.publishes.keys().copied().collect();
        open.sort_unstable();
        open.into_iter().for_each(|ticket| self.end_by(ticket, far));
    }

    /// Publishes whose caller waits.
    pub fn publishes(&self) -> usize {
        self.publishes.len()
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A ticket for one more question, if there is room.
    fn admit(&mut self, caller: Caller) -> Option<Ticket> {
        if self.publishes.len() + self.questions.len() >= self.questions_max {
            self.answer(caller, Told::NoRoom);
            return None;
        }
        Some(self.tickets.issue())
    }

    fn open(&mut self, caller: Caller, elsewhere: Option<Elsewhere>) -> Option<Ticket> {
        let ticket = self.admit(caller)?;
        let asked = Asked {
            caller,
            here: Here::Waiting,
            nodes: elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.nodes),
            others: Vec::new(),
        };
        self.questions.insert(ticket, asked);
        self.ask(ticket, elsewhere);
        Some(ticket)
    }

    fn ask(&mut self, ticket: Ticket, elsewhere: Option<Elsewhere>) {
        let ask = elsewhere.filter(|elsewhere| elsewhere.nodes > 0);
        self.outputs
            .extend(ask.map(|elsewhere| Output::Ask(ticket, elsewhere.ask)));
    }

    fn answer(&mut self, caller: Caller, told: Told) {
        self.outputs.push_back(Output::Answer(caller, told));
    }

    fn post(&mut self, shard: ShardId, command: Command) {
        self.outputs.push_back(Output::Post(shard, command));
    }

    fn on_done(&mut self, ticket: Ticket, done: Done) {
        if let Some(asked) = self.questions.get_mut(&ticket) {
            asked.here = Here::Done(done);
            self.end_question(ticket);
        }
    }

    /// Answers a question if everybody has.
    fn end_question(&mut self, ticket: Ticket) {
        let Entry::Occupied(entry) = self.questions.entry(ticket) else {
            return;
        };
        if entry.get().nodes > 0 || matches!(entry.get().here, Here::Waiting) {
            return;
        }
        let Asked {
            caller, here, others, ..
        } = entry.remove();
        let told = match here {
            Here::Page { items, next, claim } => Told::Page {
                items,
                next,
                others,
                claim,
            },
            Here::Done(done) => Told::Done { done, others },
            Here::Waiting => return,
        };
        self.answer(caller, told);
    }

    fn end_by(&mut self, ticket: Ticket, now: Instant) {
        match self.receipts.on_deadline(ticket, now) {
            Deadline::Answered(answer) => self.end_publish(ticket, Some(answer)),
            Deadline::Again(at) => {
                let timer = self.wheel.insert(at, ticket);
                if let Some((_, armed)) = self.publishes.get_mut(&ticket) {
                    *armed = timer;
                }
            }
            Deadline::Closed => {}
        }
    }

    fn end_publish(&mut self, ticket: Ticket, answer: Option<Answer>) {
        let Some(answer) = answer else { return };
        if let Some((caller, timer)) = self.publishes.remove(&ticket) {
            self.wheel.cancel(timer);
            self.answer(caller, Told::Published(answer));
        }
    }
}
