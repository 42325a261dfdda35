//! Anything in any order, some of it twice, some of it never: each caller is answered once, and nothing is left behind.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::close::CloseCause;
use crate::engine::command::{AtDeadline, ClientSet, Part, Qos};
use crate::engine::query::{ClientInfo, Detail, Page};
use crate::engine::remote::Verb;
use crate::limits::QUERY_SMALL_BYTES;
use crate::time::Duration;

enum Event {
    Report(Report),
    Remote(Ticket),
}

/// A desk with what is on its way to it.
struct World {
    desk: Desk,
    now: Instant,
    on_the_way: Vec<Event>,
    callers: u64,
    answers: BTreeMap<Caller, u32>,
}

impl World {
    fn step(&mut self, what: u8, choice: u8) {
        match what {
            0 => self.publish(choice),
            1 => self.change(choice),
            2 => {
                let caller = self.caller();
                self.desk.list(caller, elsewhere(choice));
            }
            3 => self.query(choice),
            4 => self.change_client(choice),
            5..=8 if !self.on_the_way.is_empty() => {
                let event = self.on_the_way.swap_remove(usize::from(choice) % self.on_the_way.len());
                self.hand_in(event);
            }
            _ => {
                self.now = self.now + Duration::from_millis(u64::from(choice) * 20);
                self.desk.on_deadline(self.now);
            }
        }
        self.carry(choice);
    }

    fn caller(&mut self) -> Caller {
        self.callers += 1;
        Caller(self.callers)
    }

    fn publish(&mut self, choice: u8) {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(choice) % 3];
        let deadline = self.now + Duration::from_secs(u64::from(choice) % 12 + 1);
        let publish = |ticket| Publish {
            ticket,
            to: Name::channel(&[choice]).into(),
            except: ClientSet::default(),
            tag: 1,
            qos,
            tell: qos.tell(),
            payload: Bytes::new(),
            retries: 0,
            retry_interval: Duration::ZERO,
            deadline,
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        };
        let caller = self.caller();
        self.desk.publish(caller, elsewhere(choice), publish);
    }

    fn change(&mut self, choice: u8) {
        let change = [Change::Join, Change::Leave, Change::Occupy][usize::from(choice) % 3];
        let client = (choice > 50).then_some(some());
        let caller = self.caller();
        self.desk
            .change(caller, change, client, Name::channel(&[choice]), elsewhere(choice));
    }

    fn query(&mut self, choice: u8) {
        let name = Name::channel(&[choice]);
        let query = match choice % 4 {
            0 => Query::Client { client: some() },
            1 => Query::Members {
                name,
                detail: Detail::default(),
            },
            2 => Query::Names { space: Space::USER },
            _ => Query::Count {
                names: vec![name; usize::from(choice) % 3],
            },
        };
        let limit = [usize::MAX, usize::MAX, 1, 3][usize::from(choice) / 4 % 4];
        let from = (choice > 200).then_some(Cursor {
            shard: ShardId(u16::from(choice) % 5),
            position: u64::from(choice),
        });
        let caller = self.caller();
        self.desk.query(caller, query, from, limit);
    }

    fn change_client(&mut self, choice: u8) {
        let caller = self.caller();
        match choice % 3 {
            0 => self.desk.unbind(caller, some(), Space::USER),
            1 => self.desk.edit(
                caller,
                some(),
                Edit {
                    verb: 0,
                    patch: Bytes::new(),
                },
            ),
            _ => self.desk.close(caller, some(), CloseOrder::new(CloseCause::Kicked)),
        };
    }

    fn hand_in(&mut self, event: Event) {
        match event {
            Event::Report(report) => self.desk.on_report(report),
            Event::Remote(ticket) => self.desk.on_remote(ticket, Inbound::Nothing),
        }
    }

    fn carry(&mut self, choice: u8) {
        while let Some(output) = self.desk.poll_output() {
            match output {
                Output::Answer(caller, _) => *self.answers.entry(caller).or_default() += 1,
                Output::Ask(ticket, ask) => {
                    let nodes = ask.body.iter().map(|_| Event::Remote(ticket));
                    self.on_the_way.extend(nodes);
                }
                Output::Post(_, command) => self.on_the_way.extend(reports(command, choice).map(Event::Report)),
            }
        }
    }
}

fn some() -> ClientId {
    ClientId {
        shard: ShardId(0),
        slot: 1,
        generation: 1,
    }
}

/// What shards say to a command.
fn reports(command: Command, choice: u8) -> Box<dyn Iterator<Item = Report>> {
    match command {
        Command::Publish(publish) => {
            let (ticket, shards) = (publish.ticket, u32::from(choice) % 3);
            let lost = u32::from(choice > 200);
            let part = move |_| {
                Report::Part(Part {
                    ticket,
                    shards,
                    done: 1,
                    failed: 0,
                    silent: 0,
                    data: None,
                })
            };
            let parts = (lost..shards).map(part);
            let told = (shards == 0 || publish.qos == Qos::AtMostOnce).then_some(Report::Published { ticket, shards });
            Box::new(parts.chain(told))
        }
        Command::Query {
            query, cursor, ticket, ..
        } => {
            let next = (cursor < u64::from(choice) % 3).then_some(cursor + 1);
            Box::new((0..2).map(move |_| Report::Told {
                ticket,
                page: told(&query, cursor),
                next,
            }))
        }
        Command::Unbind { ticket, .. } | Command::Edit { ticket, .. } | Command::Close { ticket, .. } => {
            Box::new((0..2).map(move |_| Report::Done {
                ticket,
                done: Done::Unchanged,
            }))
        }
        Command::Join { ticket, .. } | Command::Leave { ticket, .. } | Command::Occupy { ticket, .. } => {
            Box::new((0..2).map(move |_| Report::Done {
                ticket,
                done: Done::Changed,
            }))
        }
        other => panic!("nobody asks for {other:?}"),
    }
}

/// A page that is large enough to want to grow.
fn told(query: &Query, cursor: u64) -> Page {
    let client = |slot| ClientInfo {
        client: ClientId {
            shard: ShardId(0),
            slot,
            generation: 0,
        },
        names: vec![Name::channel(b"c"); 1 + cursor as usize],
        data: vec![0; QUERY_SMALL_BYTES / 2].into(),
    };
    match query {
        Query::Client { .. } => Page::Client(Some(client(1))),
        Query::Members { .. } => Page::Members((0..2).map(client).collect()),
        Query::Names { .. } => Page::Names(vec![(Name::channel(b"c"), 1)]),
        Query::Count { names } => Page::Counts(vec![1; names.len()]),
    }
}

/// So many nodes as the body has bytes.
fn elsewhere(choice: u8) -> Option<Elsewhere> {
    let nodes = choice % 4;
    (nodes > 0).then(|| Elsewhere {
        ask: Outbound {
            verb: Verb::List,
            body: vec![0; usize::from(nodes)].into(),
            sha256: None,
            is_vouched: true,
        },
        nodes: u32::from(nodes),
    })
}

proptest! {
    #[test]
    fn everybody_is_answered_once(
        shards in 1..4usize,
        steps in prop::collection::vec((0..10u8, any::<u8>()), 1..150),
    ) {
        let mut world = World {
            desk: Desk::new(NodeEpoch(1), DeskId(2), HomeHash::new(3, shards), shards),
            now: Instant::ZERO,
            on_the_way: Vec::new(),
            callers: 0,
            answers: BTreeMap::new(),
        };
        for (what, choice) in steps {
            world.step(what, choice);
            prop_assert!(world.answers.values().all(|answers| *answers == 1));
        }
        while let Some(event) = world.on_the_way.pop() {
            world.hand_in(event);
            world.carry(0);
        }
        world.desk.on_deadline(world.now + Duration::from_secs(3600));
        world.carry(0);
        prop_assert!(world.answers.values().all(|answers| *answers == 1));
        prop_assert_eq!(world.answers.len() as u64, world.callers);
        let desk = &world.desk;
        prop_assert!(desk.publishes() == 0 && desk.receipts.is_empty() && desk.questions.is_empty());
        prop_assert!(desk.walks.is_empty() && desk.next_deadline().is_none());
    }
}
