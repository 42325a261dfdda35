//! Control's side of acknowledgement: one publish, exactly one answer. The only place that counts.
//!
//! ```text
//!   open ──▶ waiting ──────────────── everything is in ───────────────▶ answered
//!               │ deadline T: peers are waited for no longer               ▲
//!               └──▶ grace ── the last part came, or T + RECEIPT_GRACE ────┘
//! ```
//! Inputs may come in any order. The home tells how many shards there are only where no part does. Rules (spec: sections 8, 12, 17):
//! - At most once: answered when the home has published; peers and parts do not matter.
//! - A publish that asks for the platforms of its members ([`Question::tells_online`]) waits for every shard and peer at any
//!   guarantee. The platforms are in order of connecting, each once, over all of them.
//! - Else complete when every shard with members has sent its part and every peer its answer. Members that failed are
//!   simply not counted.
//! - Members silent at T make it a timeout, unless the publish says that they count as failed
//!   ([`AtDeadline::Failed`]): then it is complete with the count. A part with silent members means that T has passed.
//! - A peer missing at T makes it a timeout ("every peer's answer, or T"), as does a shard missing at the end of the
//!   grace: nobody knows what its members did. A peer that failed has answered, with nothing.
//! - Every answer, also a timeout, carries the connections and data known by then.
//! - Data: that of the last local member to acknowledge with any, else that of the first peer to answer with any.
//!
//! Caller: the [`desk`](super::desk), which arms a timer for the deadline of each and bounds their number.
//! A ticket nobody waits for any more is unknown here, so late parts fall on the floor; tickets are never reused
//! ([`Tickets`]), so they cannot fall on another publish.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::command::{AtDeadline, Part, Qos};
use super::ids::{DeskId, NodeEpoch, Ticket};
use super::registry::{Presence, online};
use crate::limits::RECEIPT_GRACE;
use crate::time::Instant;

/// Gives out the tickets of one desk, each once.
#[derive(Debug, Default)]
pub struct Tickets(Ticket);

impl Tickets {
    /// For a desk of a node.
    pub fn new(node: NodeEpoch, desk: DeskId) -> Self {
        Self(Ticket { serial: 0, node, desk })
    }

    /// A ticket nobody had before; never [`Ticket::NOBODY`].
    pub fn issue(&mut self) -> Ticket {
        self.0.serial += 1;
        self.0
    }
}

/// What is to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Guarantee of the publish.
    pub qos: Qos,
    /// What silent members count as.
    pub at_deadline: AtDeadline,
    /// T: when the caller is to be answered.
    pub deadline: Instant,
    /// Peers that were asked too and will each answer or fail, once.
    pub peers: u32,
    /// Shards and peers say on which platforms the members are.
    pub tells_online: bool,
}

/// How a publish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everybody was heard.
    Complete,
    /// Somebody was not.
    TimedOut,
}

/// What the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// Connections that acknowledged, as far as known; 0 for [`Qos::AtMostOnce`].
    pub connections: u64,
    /// Data one of them sent along; may be empty.
    pub data: Bytes,
    /// Where the members are online, as far as known; empty unless asked for.
    pub platforms: Vec<Presence>,
}

impl Answer {
    /// Everybody was heard who is waited for, and nothing was counted.
    pub const NOTHING: Answer = Answer {
        status: Status::Complete,
        connections: 0,
        data: Bytes::new(),
        platforms: Vec::new(),
    };
}

/// What one peer counted; the default for one that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPart {
    /// Its connections that acknowledged.
    pub connections: u64,
    /// Their data; may be empty.
    pub data: Bytes,
    /// Where its members are online.
    pub platforms: Vec<Presence>,
}

/// What a deadline led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The answer; the ticket is closed.
    Answered(Answer),
    /// Call again then.
    Again(Instant),
    /// The ticket was closed before.
    Closed,
}

/// Publishes that wait for their answer.
#[derive(Debug, Default)]
pub struct Receipts {
    open: HashMap<Ticket, Receipt, RandomState>,
}

#[derive(Debug)]
struct Receipt {
    question: Question,
    phase: Phase,
    /// Shards with members, once the home has told.
    shards: Option<u32>,
    parts: u32,
    /// Shards that told their platforms.
    onlines: u32,
    platforms: Vec<Presence>,
    peers: u32,
    connections: u64,
    silent: bool,
    data: Option<(Instant, Bytes)>,
    peer_data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Grace,
    Over,
}

impl Receipts {
    /// No publishes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of publishes that wait.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Starts to count for a fresh `ticket`; call it before the publish is posted, and [`Receipts::on_deadline`] at
    /// the deadline of `question`.
    pub fn open(&mut self, ticket: Ticket, question: Question) {
        let known = self.open.insert(ticket, Receipt::new(question));
        debug_assert!(known.is_none(), "tickets are used once");
    }

    /// The home has handed the publish to `shards` shards.
    pub fn on_published(&mut self, ticket: Ticket, shards: u32) -> Option<Answer> {
        self.step(ticket, |receipt| {
            receipt.shards.get_or_insert(shards);
        })
    }

    /// A shard has told its share.
    pub fn on_part(&mut self, part: Part) -> Option<Answer> {
        self.step(part.ticket, |receipt| receipt.add(part))
    }

    /// One of `shards` shards has told where its members are online.
    pub fn on_online(&mut self, ticket: Ticket, shards: u32, platforms: &[Presence]) -> Option<Answer> {
        self.step(ticket, |receipt| {
            receipt.shards.get_or_insert(shards);
            receipt.onlines += 1;
            receipt.add_platforms(platforms);
        })
    }

    /// A peer has answered or failed.
    pub fn on_peer(&mut self, ticket: Ticket, part: PeerPart) -> Option<Answer> {
        self.step(ticket, |receipt| receipt.add_peer(part))
    }

    /// The time of this ticket has come, or what looks like it: early calls are told when to call again.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) -> Deadline {
        let Some(receipt) = self.open.get_mut(&ticket) else {
            return Deadline::Closed;
        };
        let deadline = receipt.question.deadline;
        let end = deadline + RECEIPT_GRACE;
        let (phase, next) = match now {
            now if now < deadline => return Deadline::Again(deadline),
            now if now < end => (Phase::Grace, end),
            _ => (Phase::Over, end),
        };
        receipt.phase = phase;
        match self.step(ticket, |_| ()) {
            Some(answer) => Deadline::Answered(answer),
            None => Deadline::Again(next),
        }
    }

    /// The caller has hung up; nobody is to be answered. False if the ticket was closed before.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.open.remove(&ticket).is_some()
    }

    fn step(&mut self, ticket: Ticket, input: impl FnOnce(&mut Receipt)) -> Option<Answer> {
        let Entry::Occupied(mut entry) = self.open.entry(ticket) else {
            return None;
        };
        input(entry.get_mut());
        let status = entry.get().status()?;
        Some(entry.remove().answer(status))
    }
}

impl Receipt {
    fn new(question: Question) -> Self {
        Self {
            question,
            phase: Phase::Waiting,
            shards: None,
            parts: 0,
            onlines: 0,
            platforms: Vec::new(),
            peers: 0,
            connections: 0,
            silent: false,
            data: None,
            peer_data: Bytes::new(),
        }
    }

    fn add(&mut self, part: Part) {
        self.shards.get_or_insert(part.shards);
        self.parts += 1;
        self.connections = self.connections.saturating_add(u64::from(part.done));
        self.silent |= part.silent > 0;
        let latest = self.data.as_ref().map(|(when, _)| *when);
        self.data = match part.data {
            Some((when, data)) if !data.is_empty() && latest.is_none_or(|latest| latest <= when) => Some((when, data)),
            _ => self.data.take(),
        };
    }

    fn add_peer(&mut self, part: PeerPart) {
        self.peers += 1;
        self.connections = self.connections.saturating_add(part.connections);
        if self.peer_data.is_empty() {
            self.peer_data = part.data;
        }
        self.add_platforms(&part.platforms);
    }

    fn add_platforms(&mut self, platforms: &[Presence]) {
        platforms
            .iter()
            .for_each(|presence| online::note(&mut self.platforms, presence));
    }

    /// How it ended, if it has.
    fn status(&self) -> Option<Status> {
        let published = self.shards.is_some();
        let Question { qos, tells_online, .. } = self.question;
        if qos == Qos::AtMostOnce && !tells_online {
            return match self.phase {
                _ if published => Some(Status::Complete),
                Phase::Over => Some(Status::TimedOut),
                Phase::Waiting | Phase::Grace => None,
            };
        }
        let shards_in = self.shards.is_some_and(|shards| {
            (qos == Qos::AtMostOnce || self.parts >= shards) && (!tells_online || self.onlines >= shards)
        });
        let peers_in = self.peers >= self.question.peers;
        let ended = match self.phase {
            Phase::Waiting => shards_in && (peers_in || self.silent),
            Phase::Grace => shards_in,
            Phase::Over => true,
        };
        let timed_out = self.silent && self.question.at_deadline == AtDeadline::TimedOut;
        ended.then_some(match shards_in && peers_in && !timed_out {
            true => Status::Complete,
            false => Status::TimedOut,
        })
    }

    fn answer(self, status: Status) -> Answer {
        if self.question.qos == Qos::AtMostOnce {
            return Answer {
                status,
                connections: 0,
                data: Bytes::new(),
                platforms: self.platforms,
            };
        }
        Answer {
            status,
            connections: self.connections,
            data: self.data.map_or(self.peer_data, |(_, data)| data),
            platforms: self.platforms,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Duration;

    const T: Instant = Instant::from_micros(10_000_000);
    const TICKET: Ticket = Ticket {
        serial: 1,
        node: NodeEpoch(7),
        desk: DeskId(0),
    };

    fn question(peers: u32) -> Question {
        Question {
            qos: Qos::AtLeastOnce,
            at_deadline: AtDeadline::TimedOut,
            deadline: T,
            peers,
            tells_online: false,
        }
    }

    fn part(shards: u32, done: u32, silent: u32, data: Option<(u64, &'static str)>) -> Part {
        Part {
            ticket: TICKET,
            shards,
            done,
            failed: 1,
            silent,
            data: data.map(|(when, data)| (Instant::from_micros(when), Bytes::from(data))),
        }
    }

    fn peer(connections: u64, data: &'static str) -> PeerPart {
        PeerPart {
            connections,
            data: Bytes::from(data),
            platforms: Vec::new(),
        }
    }

    fn opened(question: Question) -> Receipts {
        let mut receipts = Receipts::new();
        receipts.open(TICKET, question);
        receipts
    }

    fn answer(status: Status, connections: u64, data: &'static str) -> Answer {
        Answer {
            status,
            connections,
            data: Bytes::from(data),
            platforms: Vec::new(),
        }
    }

    #[test]
    fn without_members_the_answer_is_immediate() {
        let mut receipts = opened(question(0));
        assert_eq!(receipts.on_published(TICKET, 0), Some(answer(Status::Complete, 0, "")));
        assert!(receipts.is_empty());
        assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Closed);
    }

    #[test]
    fn at_most_once_waits_for_the_home_only() {
        let mut receipts = opened(Question {
            qos: Qos::AtMostOnce,
            ..question(3)
        });
        assert_eq!(receipts.on_peer(TICKET, peer(5, "x")), None);
        assert_eq!(receipts.on_published(TICKET, 4), Some(answer(Status::Complete, 0, "")));
        assert_eq!(receipts.on_part(part(4, 1, 0, None)), None);
        let mut receipts = opened(Question {
            qos: Qos::AtMostOnce,
            ..question(0)
        });
        assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Again(T + RECEIPT_GRACE));
        let late = Deadline::Answered(answer(Status::TimedOut, 0, ""));
        assert_eq!(receipts.on_deadline(TICKET, T + RECEIPT_GRACE), late);
    }

    #[test]
    fn parts_may_overtake_the_home_and_the_latest_data_wins() {
        let mut receipts = opened(question(0));
        assert_eq!(receipts.on_part(part(3, 2, 0, Some((30, "late")))), None);
        assert_eq!(receipts.on_part(part(3, 1, 0, Some((20, "early")))), None);
        assert_eq!(receipts.on_published(TICKET, 3), None);
        let last = receipts.on_part(part(3, 0, 0, Some((40, ""))));
        assert_eq!(last, Some(answer(Status::Complete, 3, "late")));
        assert_eq!(receipts.on_part(part(3, 1, 0, None)), None, "closed");
    }

    #[test]
    fn peers_add_up_and_their_first_data_fills_in() {
        let mut receipts = opened(question(3));
        receipts.on_published(TICKET, 1);
        assert_eq!(receipts.on_peer(TICKET, PeerPart::default()), None);
        assert_eq!(receipts.on_peer(TICKET, peer(u64::MAX, "first")), None);
        assert_eq!(receipts.on_part(part(1, 2, 0, None)), None);
        let last = receipts.on_peer(TICKET, peer(7, "second"));
        assert_eq!(last, Some(answer(Status::Complete, u64::MAX, "first")));
    }

    #[test]
    fn silent_members_time_out_or_count_as_failed() {
        let mut receipts = opened(question(0));
        receipts.on_published(TICKET, 2);
        assert_eq!(receipts.on_part(part(2, 3, 0, Some((5, "d")))), None);
        assert_eq!(
            receipts.on_part(part(2, 1, 2, None)),
            Some(answer(Status::TimedOut, 4, "d"))
        );

        let failed = AtDeadline::Failed;
        let mut receipts = opened(Question {
            at_deadline: failed,
            ..question(0)
        });
        receipts.on_published(TICKET, 1);
        assert_eq!(
            receipts.on_part(part(2, 1, 2, None)),
            Some(answer(Status::Complete, 1, ""))
        );

        let mut receipts = opened(Question {
            at_deadline: failed,
            ..question(1)
        });
        receipts.on_published(TICKET, 1);
        let unheard_peer = receipts.on_part(part(2, 1, 2, None));
        assert_eq!(unheard_peer, Some(answer(Status::TimedOut, 1, "")));
    }

    #[test]
    fn a_hanging_peer_is_waited_for_until_the_deadline() {
        let mut receipts = opened(question(1));
        receipts.on_published(TICKET, 1);
        assert_eq!(receipts.on_part(part(1, 1, 0, None)), None);
        assert_eq!(receipts.on_deadline(TICKET, Instant::ZERO), Deadline::Again(T));
        let timeout = Deadline::Answered(answer(Status::TimedOut, 1, ""));
        assert_eq!(receipts.on_deadline(TICKET, T), timeout);
    }

    #[test]
    fn a_busy_shard_has_its_grace() {
        let end = T + RECEIPT_GRACE;
        let mut receipts = opened(question(0));
        receipts.on_published(TICKET, 1);
        assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Again(end));
        assert_eq!(
            receipts.on_part(part(1, 2, 0, None)),
            Some(answer(Status::Complete, 2, ""))
        );

        let mut receipts = opened(question(0));
        receipts.on_published(TICKET, 2);
        receipts.on_part(part(1, 2, 0, None));
        let later = T + Duration::from_millis(1);
        assert_eq!(receipts.on_deadline(TICKET, later), Deadline::Again(end));
        let timeout = Deadline::Answered(answer(Status::TimedOut, 2, ""));
        assert_eq!(receipts.on_deadline(TICKET, end), timeout);
    }

    #[test]
    fn who_hung_up_is_not_answered() {
        let mut receipts = opened(question(0));
        assert!(receipts.cancel(TICKET));
        assert!(!receipts.cancel(TICKET));
        assert_eq!(receipts.on_published(TICKET, 0), None);
    }

    #[test]
    fn platforms_of_all_shards_and_peers_in_order_of_connecting() {
        let on = |since, name: &'static str| Presence {
            since,
            platform: Bytes::from(name),
        };
        let asked = |qos| Question {
            qos,
            tells_online: true,
            ..question(1)
        };
        let told = |answer: Option<Answer>| answer.map(|answer| (answer.status, answer.connections, answer.platforms));
        let expected = vec![on(-5, "web"), on(10, "ios"), on(30, "android")];

        let mut receipts = opened(asked(Qos::AtMostOnce));
        assert_eq!(receipts.on_published(TICKET, 2), None);
        assert_eq!(receipts.on_online(TICKET, 2, &[on(30, "android"), on(40, "ios")]), None);
        assert_eq!(
            receipts.on_online(TICKET, 2, &[on(10, "ios")]),
            None,
            "a peer is awaited"
        );
        let there = PeerPart {
            platforms: vec![on(-5, "web"), on(35, "android")],
            ..PeerPart::default()
        };
        let answer = receipts.on_peer(TICKET, there.clone());
        assert_eq!(told(answer), Some((Status::Complete, 0, expected.clone())));

        let mut receipts = opened(asked(Qos::AtLeastOnce));
        assert_eq!(receipts.on_peer(TICKET, there), None);
        let here = [on(10, "ios"), on(30, "android")];
        assert_eq!(
            receipts.on_online(TICKET, 1, &here),
            None,
            "who acknowledges is awaited"
        );
        let answer = receipts.on_part(part(1, 2, 0, None));
        assert_eq!(told(answer), Some((Status::Complete, 2, expected)));

        let mut receipts = opened(asked(Qos::AtMostOnce));
        receipts.on_online(TICKET, 2, &[on(1, "ios")]);
        assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Again(T + RECEIPT_GRACE));
        let Deadline::Answered(answer) = receipts.on_deadline(TICKET, T + RECEIPT_GRACE) else {
            panic!("over")
        };
        assert_eq!(
            (answer.status, answer.platforms),
            (Status::TimedOut, vec![on(1, "ios")])
        );

        let mut receipts = opened(Question {
            peers: 0,
            ..asked(Qos::ExactlyOnce)
        });
        let nobody = receipts.on_published(TICKET, 0);
        assert_eq!(told(nobody), Some((Status::Complete, 0, Vec::new())));
    }

    #[test]
    fn tickets_differ() {
        let mut tickets = Tickets::new(NodeEpoch(7), DeskId(0));
        let first = tickets.issue();
        assert_ne!(first, tickets.issue());
        for (node, desk) in [(7, 1), (8, 0)] {
            assert_ne!(Tickets::new(NodeEpoch(node), DeskId(desk)).issue(), first);
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Published,
        Part { done: u32, silent: u32 },
        Peer { connections: u64 },
        At(u64),
    }

    /// A world of some shards and peers whose events come in any order, some never, ended by the clock.
    fn world() -> impl Strategy<Value = (Question, u32, Vec<Event>)> {
        let part = (0..4u32, prop_oneof![3 => Just(0u32), 1 => 1..3u32]);
        let shards = prop::collection::vec(part, 0..4);
        let peers = prop::collection::vec(0..4u64, 0..3);
        let clock = prop::collection::vec(0..12_000_000u64, 0..3);
        (shards, peers, clock, any::<[bool; 3]>()).prop_flat_map(|(shards, peers, clock, [qos0, failed, lossy])| {
            let question = Question {
                qos: if qos0 { Qos::AtMostOnce } else { Qos::ExactlyOnce },
                at_deadline: if failed {
                    AtDeadline::Failed
                } else {
                    AtDeadline::TimedOut
                },
                ..question(peers.len() as u32)
            };
            let count = shards.len() as u32;
            let parts = shards.into_iter().map(|(done, silent)| Event::Part { done, silent });
            let peers = peers.into_iter().map(|connections| Event::Peer { connections });
            let clock = clock.into_iter().map(Event::At);
            let events: Vec<_> = parts.chain(peers).chain(clock).chain([Event::Published]).collect();
            let least = if lossy { 0 } else { events.len() };
            let most = events.len();
            (
                Just(question),
                Just(count),
                prop::sample::subsequence(events, least..=most).prop_shuffle(),
            )
        })
    }

    /// The answer that follows from everything that happened, looked at as a whole.
    fn expected(question: &Question, shards: u32, history: &[Event]) -> Option<(Status, u64)> {
        let (mut published, mut parts, mut peers, mut sum, mut silent, mut now) = (false, 0, 0, 0, false, 0);
        for event in history {
            match *event {
                Event::Published => published = true,
                Event::Part { done, silent: count } => {
                    (parts, sum, silent) = (parts + 1, sum + u64::from(done), silent | (count > 0));
                }
                Event::Peer { connections } => (peers, sum) = (peers + 1, sum + connections),
                Event::At(micros) => now = now.max(micros),
            }
        }
        let over = now >= (T + RECEIPT_GRACE).as_micros();
        if question.qos == Qos::AtMostOnce {
            let published = published || parts > 0;
            let status = if published { Status::Complete } else { Status::TimedOut };
            return (published || over).then_some((status, 0));
        }
        // Each part tells how many there are, so the home need not.
        let (local, all) = ((published || parts > 0) && parts == shards, peers == question.peers);
        let bad = silent && question.at_deadline == AtDeadline::TimedOut;
        let status = if local && all && !bad {
            Status::Complete
        } else {
            Status::TimedOut
        };
        let ended = over || local && (all || silent || now >= T.as_micros());
        ended.then_some((status, sum))
    }

    proptest! {
        #[test]
        fn exactly_one_answer_at_the_first_possible_moment((question, shards, events) in world()) {
            let mut receipts = opened(question);
            let (mut answered, mut now) = (None, 0);
            let end = Event::At((T + RECEIPT_GRACE).as_micros());
            let events: Vec<_> = events.into_iter().chain([end]).collect();
            for (at, event) in events.iter().enumerate() {
                let output = match *event {
                    Event::Published => receipts.on_published(TICKET, shards),
                    Event::Part { done, silent } => receipts.on_part(part(shards, done, silent, None)),
                    Event::Peer { connections } => receipts.on_peer(TICKET, peer(connections, "")),
                    Event::At(micros) => {
                        now = now.max(micros);
                        match receipts.on_deadline(TICKET, Instant::from_micros(now)) {
                            Deadline::Answered(answer) => Some(answer),
                            Deadline::Again(_) | Deadline::Closed => None,
                        }
                    }
                };
                let should = expected(&question, shards, &events[..=at]).filter(|_| answered.is_none());
                prop_assert_eq!(output.as_ref().map(|answer| (answer.status, answer.connections)), should);
                answered = answered.or(output);
            }
            prop_assert!(answered.is_some() && receipts.is_empty());
        }
    }
}
