//! What happened in a run, as seen from outside the shards: the only thing the oracle judges from.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use rainbow_server::engine::command::{AtDeadline, Part, Qos, Tell};
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::engine::name::Name;
use rainbow_server::engine::receipt::{Answer, Status};
use rainbow_server::time::Instant;

use crate::questions::Record;

/// A point in the one total order of everything the control model does and sees.
pub type Seq = u64;

#[derive(Default)]
pub struct Records {
    pub publishes: Vec<Published>,
    pub changes: Vec<Change>,
    pub sessions: BTreeMap<ClientId, SessionRecord>,
    /// Questions of the API other than publishes: (what, answers).
    pub questions: Vec<(String, u32)>,
    /// Questions about clients and sets.
    pub asked: Vec<Record>,
    pub drained: Vec<u32>,
    /// Close callbacks that were not accepted.
    pub closes_repeated: u64,
    /// Clients with more before them than their socket held when they began to read at once.
    pub hurried: u64,
    /// Who is in which channel, by shard, when all has gone quiet.
    pub census: Option<Census>,
    /// Positions in `changes`, by client and channel; made when the run has gone quiet.
    pub index: OnceCell<Vec<Vec<usize>>>,
}

/// One publish of the API.
pub struct Published {
    /// Numbers of channels, and of users behind the channels.
    pub sets: Vec<usize>,
    /// Clients it is for by themselves, and whether they had surely been admitted.
    pub addressed: BTreeMap<usize, bool>,
    /// Clients it is not for.
    pub except: BTreeSet<usize>,
    pub via: Via,
    /// To one set and no clients.
    pub is_plain: bool,
    pub tells_online: bool,
    pub qos: Qos,
    pub tell: Tell,
    pub issued: Seq,
    pub issued_at: Instant,
    pub deadline: Instant,
    pub at_deadline: AtDeadline,
    pub retries: u32,
    pub shards: Vec<u32>,
    pub parts: Vec<Part>,
    /// Shards that told where the members are online.
    pub onlines: u32,
    /// Each answer, when it was given, and how many parts had come by then of how many.
    pub answers: Vec<(Instant, Answer, usize, Option<u32>)>,
    /// When the first one was.
    pub answered: Option<Seq>,
    /// Other nodes that were asked, and what those that have answered counted.
    pub nodes: u32,
    pub heard: Vec<u64>,
    /// How many had answered when the caller was.
    pub heard_then: usize,
    /// Connections that acknowledged, and when their acknowledgement was written.
    pub acks: BTreeMap<usize, Instant>,
}

/// What decides the order of publishes: those that go by the same are seen in the order in which they were issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// The home of this set.
    Set(usize),
    /// The owner of a client.
    Shard(ShardId),
}

impl Published {
    /// Whoever waited for its answer knows that it is on its way.
    pub fn passed_on(&self) -> Option<Seq> {
        let fine = self.tell != Tell::Nobody && self.answers.first()?.1.status == Status::Complete;
        self.answered.filter(|_| fine)
    }
}

/// Something that changes who is in a channel.
pub struct Change {
    /// Changes of one operation: its leaves come before its joins.
    pub operation: usize,
    /// `None`: everybody.
    pub conn: Option<usize>,
    pub channel: usize,
    pub join: bool,
    pub issued: Seq,
    pub issued_at: Instant,
    pub answered: Option<Seq>,
    /// It was answered with "no such client".
    pub void: bool,
    /// It may have been refused without a word: too many channels.
    pub doubtful: bool,
}

/// Members of every channel, by shard, and when the question was asked.
pub struct Census {
    pub asked: Seq,
    pub asked_at: Instant,
    /// The connections there were then.
    pub there: Vec<usize>,
    pub pages: Vec<BTreeMap<Name, u32>>,
    /// Channels at home on any shard.
    pub interests: usize,
}

/// What the business knows of one identity.
#[derive(Default)]
pub struct SessionRecord {
    pub admitted: bool,
    /// Let in by the business, but its request cannot become a websocket: it is told only of those that left meanwhile.
    pub refused: bool,
    pub close_callbacks: u32,
    /// Message callbacks not yet answered.
    pub under_way: u32,
    /// When the business said yes, and message callbacks since.
    pub admitted_at: Option<Instant>,
    pub forwards: u64,
}

/// One message of a client.
pub struct Upstream {
    pub qos: u8,
    pub id: u16,
    /// When it was last repeated or first sent; ids are released by a REL.
    pub released: bool,
    pub under_way: u32,
    pub forwards: u32,
    pub failures: u32,
    pub failed_at: Option<Instant>,
    /// At least so many forwards have to be seen.
    pub forwards_owed: u32,
    pub succeeded: bool,
    /// What its answer will have changed (indices into [`Records::changes`]).
    pub changes: Vec<usize>,
    /// The callback answers that went to the client, and those that arrived.
    pub answers_due: u32,
    pub answers: u32,
}

/// One copy of a publish that reached a client.
pub struct Received {
    pub publish: usize,
    pub dup: bool,
}
