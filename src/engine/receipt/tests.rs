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
        tell: Tell::Acknowledged,
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

/// Each of so many parts had a member that failed.
fn answer(status: Status, done: u64, parts: u64, data: &'static str) -> Answer {
    Answer {
        status,
        done,
        failed: parts,
        data: Bytes::from(data),
        platforms: Vec::new(),
    }
}

#[test]
fn without_members_the_answer_is_immediate() {
    let mut receipts = opened(question(0));
    assert_eq!(
        receipts.on_published(TICKET, 0),
        Some(answer(Status::Complete, 0, 0, ""))
    );
    assert!(receipts.is_empty());
    assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Closed);
}

#[test]
fn at_most_once_waits_for_the_home_only() {
    let mut receipts = opened(Question {
        tell: Tell::Published,
        ..question(3)
    });
    assert_eq!(receipts.on_peer(TICKET, peer(5, "x")), None);
    assert_eq!(
        receipts.on_published(TICKET, 4),
        Some(answer(Status::Complete, 0, 0, ""))
    );
    assert_eq!(receipts.on_part(part(4, 1, 0, None)), None);
    let mut receipts = opened(Question {
        tell: Tell::Published,
        ..question(0)
    });
    assert_eq!(receipts.on_deadline(TICKET, T), Deadline::Again(T + RECEIPT_GRACE));
    let late = Deadline::Answered(answer(Status::TimedOut, 0, 0, ""));
    assert_eq!(receipts.on_deadline(TICKET, T + RECEIPT_GRACE), late);
}

#[test]
fn parts_may_overtake_the_home_and_the_latest_data_wins() {
    let mut receipts = opened(question(0));
    assert_eq!(receipts.on_part(part(3, 2, 0, Some((30, "late")))), None);
    assert_eq!(receipts.on_part(part(3, 1, 0, Some((20, "early")))), None);
    assert_eq!(receipts.on_published(TICKET, 3), None);
    let last = receipts.on_part(part(3, 0, 0, Some((40, ""))));
    assert_eq!(last, Some(answer(Status::Complete, 3, 3, "late")));
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
    assert_eq!(last, Some(answer(Status::Complete, u64::MAX, 1, "first")));
}

#[test]
fn silent_members_time_out_or_count_as_failed() {
    let mut receipts = opened(question(0));
    receipts.on_published(TICKET, 2);
    assert_eq!(receipts.on_part(part(2, 3, 0, Some((5, "d")))), None);
    assert_eq!(
        receipts.on_part(part(2, 1, 2, None)),
        Some(answer(Status::TimedOut, 4, 2, "d"))
    );

    let failed = AtDeadline::Failed;
    let mut receipts = opened(Question {
        at_deadline: failed,
        ..question(0)
    });
    receipts.on_published(TICKET, 1);
    assert_eq!(
        receipts.on_part(part(2, 1, 2, None)),
        Some(answer(Status::Complete, 1, 1, ""))
    );

    let mut receipts = opened(Question {
        at_deadline: failed,
        ..question(1)
    });
    receipts.on_published(TICKET, 1);
    let unheard_peer = receipts.on_part(part(2, 1, 2, None));
    assert_eq!(unheard_peer, Some(answer(Status::TimedOut, 1, 1, "")));
}

#[test]
fn a_hanging_peer_is_waited_for_until_the_deadline() {
    let mut receipts = opened(question(1));
    receipts.on_published(TICKET, 1);
    assert_eq!(receipts.on_part(part(1, 1, 0, None)), None);
    assert_eq!(receipts.on_deadline(TICKET, Instant::ZERO), Deadline::Again(T));
    let timeout = Deadline::Answered(answer(Status::TimedOut, 1, 1, ""));
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
        Some(answer(Status::Complete, 2, 1, ""))
    );

    let mut receipts = opened(question(0));
    receipts.on_published(TICKET, 2);
    receipts.on_part(part(1, 2, 0, None));
    let later = T + Duration::from_millis(1);
    assert_eq!(receipts.on_deadline(TICKET, later), Deadline::Again(end));
    let timeout = Deadline::Answered(answer(Status::TimedOut, 2, 1, ""));
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
    let asked = |tell| Question {
        tell,
        tells_online: true,
        ..question(1)
    };
    let told = |answer: Option<Answer>| answer.map(|answer| (answer.status, answer.done, answer.platforms));
    let expected = vec![on(-5, "web"), on(10, "ios"), on(30, "android")];

    let mut receipts = opened(asked(Tell::Published));
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

    let mut receipts = opened(asked(Tell::Acknowledged));
    assert_eq!(receipts.on_peer(TICKET, there), None);
    let here = [on(10, "ios"), on(30, "android")];
    assert_eq!(
        receipts.on_online(TICKET, 1, &here),
        None,
        "who acknowledges is awaited"
    );
    let answer = receipts.on_part(part(1, 2, 0, None));
    assert_eq!(told(answer), Some((Status::Complete, 2, expected)));

    let mut receipts = opened(asked(Tell::Published));
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
        ..asked(Tell::Acknowledged)
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
    (shards, peers, clock, any::<[bool; 3]>()).prop_flat_map(|(shards, peers, clock, [told, failed, lossy])| {
        let question = Question {
            tell: if told { Tell::Published } else { Tell::Counted },
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
    if question.tell == Tell::Published {
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
            prop_assert_eq!(output.as_ref().map(|answer| (answer.status, answer.done)), should);
            answered = answered.or(output);
        }
        prop_assert!(answered.is_some() && receipts.is_empty());
    }
}
