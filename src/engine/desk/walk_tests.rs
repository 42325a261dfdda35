//! Tests of [`super::walk`]: pages in, one answer out.

use bytes::Bytes;

use super::tests::{answers, asked_page, channel, client, desk, outputs, page};
use super::*;
use crate::engine::query::{ClientInfo, Detail, Page};
use crate::limits::{QUERY_ANSWER_BYTES_MAX, QUERY_SMALL_BYTES};

/// Names of a list that is larger than others may be beside it.
fn many() -> Vec<Name> {
    let names = 0..=QUERY_SMALL_BYTES / size_of::<(Name, u64)>();
    names.map(|at| Name::channel(format!("{at:09}").as_bytes())).collect()
}

fn info(slot: u32, data: usize) -> ClientInfo {
    ClientInfo {
        client: ClientId { slot, ..client() },
        names: Vec::new(),
        data: Bytes::from(vec![b'd'; data]),
    }
}

fn members() -> Query {
    Query::Members {
        name: channel(),
        detail: Detail::default(),
    }
}

fn told(desk: &mut Desk, ticket: Ticket, page: Page, next: Option<u64>) {
    desk.on_report(Report::Told { ticket, page, next });
}

/// The only answer: what it holds, and where the rest begins.
fn page_told(desk: &mut Desk) -> (Items, Option<Cursor>) {
    match outputs(desk).pop() {
        Some(Output::Answer(_, Told::Page { items, next, .. })) => (items, next),
        other => panic!("{other:?}"),
    }
}

#[test]
fn shards_are_asked_one_after_the_other_and_names_are_summed() {
    let mut desk = desk(2);
    desk.list(Caller(1), None);
    let (shard, cursor, first) = asked_page(&mut desk).unwrap();
    assert_eq!((shard, cursor), (0, 0));
    let [a, b, c] = ["a", "b", "c"].map(|name| Name::channel(name.as_bytes()));
    desk.on_report(page(first, &[b.clone(), c.clone()], Some(512)));
    let (shard, cursor, second) = asked_page(&mut desk).unwrap();
    assert_eq!((shard, cursor), (0, 512));
    desk.on_report(page(first, std::slice::from_ref(&a), None));
    assert!(outputs(&mut desk).is_empty(), "a page that comes twice counts once");
    // Emptied and filled again between the two pages: there are three of it, not six.
    desk.on_report(page(second, std::slice::from_ref(&c), None));
    let (shard, _, third) = asked_page(&mut desk).unwrap();
    assert_eq!(shard, 1);
    desk.on_report(page(third, &[c.clone(), a.clone()], None));
    let (items, next) = page_told(&mut desk);
    assert_eq!((items, next), (Items::Names(vec![(a, 3), (b, 3), (c, 6)]), None));
}

#[test]
fn lists_without_a_limit_grow_one_at_a_time() {
    let mut desk = desk(2);
    let names = many();
    let first = [1, 2, 3].map(|caller| {
        desk.list(Caller(caller), None);
        asked_page(&mut desk).unwrap().2
    });
    desk.on_report(page(first[0], &names, Some(512)));
    let growing = asked_page(&mut desk).unwrap().2;
    desk.on_report(page(first[1], &names, Some(512)));
    assert!(outputs(&mut desk).is_empty(), "it waits");
    desk.on_report(page(first[2], &[], None));
    let small = asked_page(&mut desk).unwrap().2;
    desk.on_report(page(small, &[channel()], None));
    assert_eq!(
        answers(&mut desk),
        [(3, "1 channels, 0 others".into())],
        "a small one does not"
    );
    desk.on_report(page(growing, &[], None));
    let last = asked_page(&mut desk).unwrap().2;
    desk.on_report(page(last, &[], None));
    let told = outputs(&mut desk);
    let [
        Output::Answer(Caller(1), Told::Page { .. }),
        Output::Post(
            ShardId(0),
            Command::Query {
                cursor: 512, ticket, ..
            },
        ),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    desk.on_report(page(*ticket, &[], None));
    let last = asked_page(&mut desk).unwrap().2;
    desk.on_report(page(last, &[], None));
    assert_eq!(answers(&mut desk), [(2, format!("{} channels, 0 others", names.len()))]);
    assert!(desk.walks.is_empty());
}

#[test]
fn who_is_seen_twice_is_told_once() {
    let mut desk = desk(1);
    desk.query(Caller(1), members(), None, usize::MAX);
    let (_, _, first) = asked_page(&mut desk).unwrap();
    told(&mut desk, first, Page::Members(vec![info(5, 0), info(4, 0)]), Some(3));
    let (_, cursor, second) = asked_page(&mut desk).unwrap();
    assert_eq!(cursor, 3);
    told(&mut desk, second, Page::Members(vec![info(5, 0), info(2, 0)]), None);
    let (items, next) = page_told(&mut desk);
    assert_eq!(
        (items, next),
        (Items::Members(vec![info(5, 0), info(4, 0), info(2, 0)]), None)
    );
}

#[test]
fn a_limit_ends_a_list_and_says_where_it_goes_on() {
    let mut desk = desk(2);
    desk.query(Caller(1), members(), None, 3);
    let asked = outputs(&mut desk);
    let [Output::Post(ShardId(0), Command::Query { max: 3, ticket, .. })] = &asked[..] else {
        panic!("{asked:?}")
    };
    told(&mut desk, *ticket, Page::Members(vec![info(9, 0), info(8, 0)]), None);
    let asked = outputs(&mut desk);
    let [Output::Post(ShardId(1), Command::Query { max: 1, ticket, .. })] = &asked[..] else {
        panic!("{asked:?}")
    };
    told(&mut desk, *ticket, Page::Members(vec![info(7, 0)]), Some(40));
    let (items, next) = page_told(&mut desk);
    assert!(matches!(items, Items::Members(members) if members.len() == 3));
    let text = next.unwrap().to_string();
    desk.query(Caller(2), members(), Some(text.parse().unwrap()), 3);
    let (shard, cursor, last) = asked_page(&mut desk).unwrap();
    assert_eq!((shard, cursor), (1, 40));
    told(&mut desk, last, Page::Members(vec![info(6, 0)]), None);
    assert_eq!(page_told(&mut desk), (Items::Members(vec![info(6, 0)]), None));
    let beyond = Cursor {
        shard: ShardId(2),
        position: 0,
    };
    desk.query(Caller(3), members(), Some(beyond), 3);
    assert_eq!(page_told(&mut desk), (Items::Members(Vec::new()), None));
}

#[test]
fn an_answer_with_a_limit_is_bounded_in_bytes_too() {
    let mut desk = desk(1);
    desk.query(Caller(1), members(), None, 1_000_000);
    let mut asked = asked_page(&mut desk);
    let mut pages = 0;
    while let Some((_, cursor, ticket)) = asked {
        pages += 1;
        told(
            &mut desk,
            ticket,
            Page::Members(vec![info(pages, QUERY_ANSWER_BYTES_MAX / 4)]),
            Some(cursor + 100),
        );
        let output = outputs(&mut desk).pop();
        asked = match output {
            Some(Output::Post(_, Command::Query { cursor, ticket, .. })) => Some((0, cursor, ticket)),
            Some(Output::Answer(_, Told::Page { next, .. })) => {
                assert!(next.is_some());
                None
            }
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(pages, 4);
}

#[test]
fn all_shards_count_at_once() {
    let mut desk = desk(2);
    let names = vec![channel(), Name::user(b"u"), channel()];
    desk.query(Caller(1), Query::Count { names }, None, usize::MAX);
    let asked = outputs(&mut desk);
    let [
        Output::Post(ShardId(0), Command::Query { ticket: first, .. }),
        Output::Post(ShardId(1), Command::Query { ticket: second, .. }),
    ] = &asked[..]
    else {
        panic!("{asked:?}")
    };
    told(&mut desk, *second, Page::Counts(vec![1]), Some(1));
    let (shard, cursor, third) = asked_page(&mut desk).unwrap();
    assert_eq!((shard, cursor), (1, 1));
    told(&mut desk, *first, Page::Counts(vec![4, 5, 6]), None);
    assert!(outputs(&mut desk).is_empty());
    told(&mut desk, third, Page::Counts(vec![2, 3]), None);
    assert_eq!(page_told(&mut desk).0, Items::Counts(vec![5, 7, 9]));
    desk.query(Caller(2), Query::Count { names: Vec::new() }, None, usize::MAX);
    assert_eq!(page_told(&mut desk).0, Items::Counts(Vec::new()));
}

#[test]
fn a_client_with_many_names_comes_in_pages() {
    let mut desk = desk(2);
    let client = client();
    let page = |name: &[u8], data: &'static str| ClientInfo {
        client,
        names: vec![Name::channel(name)],
        data: data.into(),
    };
    desk.query(Caller(1), Query::Client { client }, None, usize::MAX);
    let (shard, _, first) = asked_page(&mut desk).unwrap();
    assert_eq!(shard, client.shard.0);
    told(&mut desk, first, Page::Client(Some(page(b"b", "data"))), Some(1));
    let (_, _, second) = asked_page(&mut desk).unwrap();
    told(&mut desk, second, Page::Client(Some(page(b"a", ""))), None);
    let whole = ClientInfo {
        names: vec![Name::channel(b"b"), Name::channel(b"a")],
        ..page(b"", "data")
    };
    assert_eq!(page_told(&mut desk), (Items::Client(Some(whole)), None));
    // It left between two pages.
    desk.query(Caller(2), Query::Client { client }, None, usize::MAX);
    let (_, _, first) = asked_page(&mut desk).unwrap();
    told(&mut desk, first, Page::Client(Some(page(b"b", "data"))), Some(1));
    let (_, _, second) = asked_page(&mut desk).unwrap();
    told(&mut desk, second, Page::Client(None), None);
    assert_eq!(page_told(&mut desk), (Items::Client(None), None));
    // Of a shard that there is not.
    let stranger = ClientId {
        shard: ShardId(9),
        ..client
    };
    desk.query(Caller(3), Query::Client { client: stranger }, None, 1);
    assert_eq!(page_told(&mut desk), (Items::Client(None), None));
}
