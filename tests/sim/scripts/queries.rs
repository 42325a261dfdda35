//! What shards say to questions: page by page, and nobody who stays is missed.

use std::collections::BTreeSet;
use std::sync::Arc;

use rainbow_server::engine::command::{Command, Edit, Qos};
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::engine::query::{ClientInfo, Detail, Page, Query};
use rainbow_server::limits::{QUERY_PAGE_BYTES, QUERY_PAGE_ITEMS};
use rainbow_server::shard::Input;

use crate::rig::{Rig, channel};
use crate::wire;

fn ask(rig: &mut Rig, shard: u16, query: &Query, cursor: u64, max: u32) -> (Page, Option<u64>) {
    let (query, ticket) = (Arc::new(query.clone()), rig.ticket());
    rig.run(
        ShardId(shard),
        Command::Query {
            query,
            cursor,
            max,
            ticket,
        },
    );
    assert_eq!(rig.told.len(), 1, "one page for one question");
    rig.told.pop().unwrap()
}

fn members_of(name: &str) -> Query {
    Query::Members {
        name: channel(name),
        detail: Detail::default(),
    }
}

fn members(page: Page) -> Vec<ClientInfo> {
    match page {
        Page::Members(members) => members,
        other => panic!("{other:?}"),
    }
}

/// A session that keeps something.
fn enter(rig: &mut Rig, room: &str) -> ClientId {
    let id = rig.accept(0);
    let request = String::from_utf8(wire::connect_request("d")).unwrap();
    let request = request.replace("/connect/?device=d", &format!("/echo/?room={room}&receipt=kept"));
    assert_eq!(rig.bytes(id, request.as_bytes()), Input::Continue);
    assert_eq!(rig.status(id), 101);
    id
}

/// Whoever is looked at next leaves, or the first, or the last, and others come: who stays is seen all the same.
#[test]
fn who_stays_is_never_missed() {
    for (leaves_at, max) in [(0, 3), (1, 1), (2, 7), (5, 2), (usize::MAX, 4)] {
        let mut rig = Rig::new(1);
        let ids: Vec<_> = (0..60).map(|_| rig.connect(0, &["c"])).collect();
        let (mut here, mut seen) = (ids.clone(), BTreeSet::new());
        let (mut gone, mut cursor) = (BTreeSet::new(), Some(0));
        while let Some(from) = cursor {
            let (page, next) = ask(&mut rig, 0, &members_of("c"), from, max);
            let page = members(page);
            assert!(page.len() <= max as usize && (next.is_none() || !page.is_empty()));
            seen.extend(page.into_iter().map(|info| info.client));
            for leaves in [leaves_at, here.len() / 2] {
                if here.len() > 20 {
                    let id = here.swap_remove(leaves.min(here.len() - 1));
                    gone.insert(id);
                    rig.leave(id, "c");
                }
            }
            if let Some(back) = gone.first().copied() {
                rig.join(back, "c");
                gone.remove(&back);
            }
            cursor = next;
        }
        let missed: Vec<_> = here.iter().filter(|id| !seen.contains(id)).collect();
        assert!(missed.is_empty(), "{missed:?} of {} with {leaves_at}", here.len());
    }
}

#[test]
fn a_large_set_takes_a_page_a_turn() {
    let mut rig = Rig::new(1);
    let many = 3 * QUERY_PAGE_ITEMS + 5;
    for _ in 0..many {
        rig.connect(0, &["c"]);
    }
    let small = rig.connect(0, &["d"]);
    let question = |rig: &mut Rig, name: &str| Command::Query {
        query: Arc::new(members_of(name)),
        cursor: 0,
        max: u32::MAX,
        ticket: rig.ticket(),
    };
    let mail = ["c", "c", "d"].map(|name| question(&mut rig, name));
    rig.batch(0, mail);
    assert_eq!(rig.told.len(), 1, "the others wait for their turn");
    assert!(rig.has_more(0));
    rig.publish("d", Qos::AtMostOnce, b"between", 10);
    assert_eq!(rig.packets(small).len(), 1);
    rig.settle();
    let pages: Vec<_> = rig.told.drain(..).collect();
    let sizes: Vec<_> = pages.iter().map(|(page, _)| members(page.clone()).len()).collect();
    assert_eq!(sizes, [QUERY_PAGE_ITEMS, QUERY_PAGE_ITEMS, 1]);
    assert_eq!(pages[0].1, Some((many - QUERY_PAGE_ITEMS) as u64));
    assert_eq!(pages[2].1, None);
    let forged = ask(&mut rig, 0, &members_of("c"), u64::MAX, 2);
    assert_eq!((members(forged.0).len(), forged.1), (2, Some(many as u64 - 2)));
    assert_eq!(
        ask(&mut rig, 0, &members_of("none"), 7, 2),
        (Page::Members(Vec::new()), None)
    );
}

#[test]
fn members_come_with_what_was_asked_for() {
    let mut rig = Rig::with(1, "echo=yes");
    let ids = [enter(&mut rig, "r"), enter(&mut rig, "r")];
    let user = Name::user(b"u");
    rig.change(ids[0].shard, |ticket| Command::Join {
        client: ids[0],
        channel: user.clone(),
        ticket,
    });
    let name = Name::new(Space::many(2), b"r");
    let page = |rig: &mut Rig, data, names| {
        let detail = Detail { data, names };
        let query = Query::Members {
            name: name.clone(),
            detail,
        };
        members(ask(rig, 0, &query, 0, 9).0)
    };
    let info = |client, names: &[&Name], data: &'static str| ClientInfo {
        client,
        names: names.iter().map(|name| (*name).clone()).collect(),
        data: data.into(),
    };
    assert_eq!(
        page(&mut rig, false, None),
        [info(ids[1], &[], ""), info(ids[0], &[], "")]
    );
    let users = page(&mut rig, true, Some(Space::USER));
    assert_eq!(users, [info(ids[1], &[], "kept"), info(ids[0], &[&user], "kept")]);
    let rooms = page(&mut rig, false, Some(Space::many(2)));
    assert_eq!(rooms, [info(ids[1], &[&name], ""), info(ids[0], &[&name], "")]);
}

/// Sessions may keep much: a page holds a bounded part of it, but one at least.
#[test]
fn a_page_is_bounded_in_bytes() {
    let mut rig = Rig::with(1, "echo=yes");
    let kept = 1024;
    let ids: Vec<_> = (0..QUERY_PAGE_ITEMS).map(|_| enter(&mut rig, "r")).collect();
    for client in &ids {
        let edit = Edit {
            verb: 0,
            patch: vec![b'x'; kept].into(),
        };
        let client = *client;
        rig.change(ShardId(0), |ticket| Command::Edit { client, edit, ticket });
    }
    let query = Query::Members {
        name: Name::new(Space::many(2), b"r"),
        detail: Detail {
            data: true,
            names: None,
        },
    };
    let (mut seen, mut cursor) = (BTreeSet::new(), Some(0));
    while let Some(from) = cursor {
        let (page, next) = ask(&mut rig, 0, &query, from, u32::MAX);
        let page = members(page);
        assert!((1..=QUERY_PAGE_BYTES / kept).contains(&page.len()), "{}", page.len());
        assert!(page.iter().all(|info| seen.insert(info.client)));
        cursor = next;
    }
    assert_eq!(seen.len(), ids.len());
}

#[test]
fn a_client_is_told_with_all_its_names() {
    let mut rig = Rig::new(2);
    let id = rig.connect(1, &[]);
    let names: BTreeSet<_> = (0..2 * QUERY_PAGE_ITEMS + 1).map(|n| format!("channel-{n}")).collect();
    names.iter().for_each(|name| assert!(rig.join(id, name)));
    let query = Query::Client { client: id };
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), Some(0), 0);
    while let Some(from) = cursor {
        let (page, next) = ask(&mut rig, 1, &query, from, u32::MAX);
        let Page::Client(Some(info)) = page else {
            panic!("{page:?}")
        };
        assert_eq!(info.client, id);
        seen.extend(
            info.names
                .iter()
                .map(|name| String::from_utf8(name.text().to_vec()).unwrap()),
        );
        (cursor, pages) = (next, pages + 1);
    }
    assert_eq!((pages, seen), (3, names));
    let later = ClientId {
        generation: id.generation + 1,
        ..id
    };
    assert_eq!(
        ask(&mut rig, 1, &Query::Client { client: later }, 0, 9),
        (Page::Client(None), None)
    );
    assert_eq!(
        ask(&mut rig, 0, &query, 0, 9),
        (Page::Client(None), None),
        "not of this shard"
    );
    rig.end(id);
    assert_eq!(ask(&mut rig, 1, &query, 0, 9), (Page::Client(None), None));
}

#[test]
fn names_and_their_members_come_in_pages() {
    let mut rig = Rig::new(1);
    let ids = [rig.connect(0, &[]), rig.connect(0, &["channel-7"])];
    (0..1300).for_each(|n| assert!(rig.join(ids[0], &format!("channel-{n}"))));
    for (client, user) in [(ids[0], "u"), (ids[1], "u")] {
        rig.change(ShardId(0), |ticket| Command::Join {
            client,
            channel: Name::user(user.as_bytes()),
            ticket,
        });
    }
    let all = |rig: &mut Rig, space| {
        let (mut all, mut cursor) = (Vec::new(), Some(0));
        while let Some(from) = cursor {
            let (page, next) = ask(rig, 0, &Query::Names { space }, from, u32::MAX);
            let Page::Names(page) = page else { panic!("{page:?}") };
            assert!(page.len() <= QUERY_PAGE_ITEMS);
            all.extend(page);
            cursor = next;
        }
        all
    };
    let channels = all(&mut rig, Space::CHANNEL);
    assert_eq!(channels.len(), 1300);
    assert!(channels.contains(&(channel("channel-7"), 2)) && channels.contains(&(channel("channel-8"), 1)));
    assert_eq!(all(&mut rig, Space::USER), [(Name::user(b"u"), 2)]);
    rig.end(ids[0]);
    assert_eq!(all(&mut rig, Space::CHANNEL), [(channel("channel-7"), 1)]);
}

#[test]
fn counts_are_in_the_order_of_the_question() {
    let mut rig = Rig::new(1);
    rig.connect(0, &["a", "b"]);
    rig.connect(0, &["b"]);
    let names: Vec<_> = (0..3 * QUERY_PAGE_ITEMS)
        .map(|n| channel(["a", "none", "b"][n % 3]))
        .collect();
    let (mut all, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let (page, next) = ask(&mut rig, 0, &Query::Count { names: names.clone() }, from, u32::MAX);
        let Page::Counts(page) = page else { panic!("{page:?}") };
        assert!(page.len() <= QUERY_PAGE_ITEMS);
        all.extend(page);
        cursor = next;
    }
    assert_eq!(all, [1, 0, 2].repeat(QUERY_PAGE_ITEMS));
    assert_eq!(
        ask(&mut rig, 0, &Query::Count { names }, u64::MAX, 9),
        (Page::Counts(Vec::new()), None)
    );
}
