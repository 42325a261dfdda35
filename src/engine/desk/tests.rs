//! Tests of [`super`]: verbs in, outputs out, no shard and no clock.

use bytes::Bytes;

use super::*;
use crate::close::CloseCause;
use crate::engine::command::{AtDeadline, ClientSet, Part, Qos};
use crate::engine::query::Page;
use crate::engine::receipt::PeerPart;
use crate::engine::remote::Verb;
use crate::limits::RECEIPT_GRACE;
use crate::time::Duration;

const T: Instant = Instant::from_micros(10_000_000);

pub(super) fn desk(shards: usize) -> Desk {
    Desk::new(NodeEpoch(9), DeskId(0), HomeHash::new(7, shards), shards)
}

pub(super) fn channel() -> Name {
    Name::channel(b"room")
}

fn draft(qos: Qos) -> impl FnOnce(Ticket) -> Publish {
    move |ticket| Publish {
        ticket,
        to: channel().into(),
        except: ClientSet::default(),
        tag: 1,
        qos,
        tell: qos.tell(),
        payload: Bytes::from_static(b"x"),
        retries: 0,
        retry_interval: Duration::ZERO,
        deadline: T,
        at_deadline: AtDeadline::TimedOut,
        tells_online: false,
    }
}

fn elsewhere(nodes: u32, verb: Verb) -> Option<Elsewhere> {
    let ask = Outbound {
        verb,
        body: Bytes::new(),
        sha256: None,
        is_vouched: true,
    };
    Some(Elsewhere { ask, nodes })
}

pub(super) fn client() -> ClientId {
    ClientId {
        shard: ShardId(1),
        slot: 4,
        generation: 2,
    }
}

pub(super) fn outputs(desk: &mut Desk) -> Vec<Output> {
    std::iter::from_fn(|| desk.poll_output()).collect()
}

/// What callers were told, of everything that is to be carried out.
pub(super) fn answers(desk: &mut Desk) -> Vec<(u64, String)> {
    let told = |output| match output {
        Output::Answer(caller, told) => Some((caller.0, describe(&told))),
        Output::Post(..) | Output::Ask(..) => None,
    };
    outputs(desk).into_iter().filter_map(told).collect()
}

fn describe(told: &Told) -> String {
    match told {
        Told::Published(answer) => format!("{:?} {}", answer.status, answer.done),
        Told::Done { done, others } => format!("{done:?}, {} others", others.len()),
        Told::Page { items, others, .. } => match items {
            Items::Names(names) => format!("{} channels, {} others", names.len(), others.len()),
            items => format!("{items:?}, {} others", others.len()),
        },
        Told::NoRoom => "no room".into(),
    }
}

fn part(ticket: Ticket, shards: u32, done: u32) -> Report {
    Report::Part(Part {
        ticket,
        shards,
        done,
        failed: 0,
        silent: 0,
        data: None,
    })
}

/// The page that is asked for: of which shard, from where, under which ticket.
pub(super) fn asked_page(desk: &mut Desk) -> Option<(u16, u64, Ticket)> {
    outputs(desk).into_iter().find_map(|output| match output {
        Output::Post(shard, Command::Query { cursor, ticket, .. }) => Some((shard.0, cursor, ticket)),
        _ => None,
    })
}

pub(super) fn page(ticket: Ticket, names: &[Name], next: Option<u64>) -> Report {
    let page = Page::Names(names.iter().map(|name| (name.clone(), 3)).collect());
    Report::Told { ticket, page, next }
}

#[test]
fn a_publish_is_answered_once_whatever_comes_later() {
    let mut desk = desk(2);
    let ticket = desk.publish(Caller(1), None, draft(Qos::AtLeastOnce)).unwrap();
    let posted = outputs(&mut desk);
    assert!(
        matches!(&posted[..], [Output::Post(_, Command::Publish(publish))] if publish.ticket == ticket),
        "{posted:?}"
    );
    assert_eq!((desk.publishes(), desk.next_deadline().is_some()), (1, true));
    desk.on_report(part(ticket, 2, 1));
    assert!(answers(&mut desk).is_empty());
    desk.on_report(part(ticket, 2, 2));
    assert_eq!(answers(&mut desk), [(1, "Complete 3".into())]);
    assert_eq!((desk.publishes(), desk.next_deadline()), (0, None));
    desk.on_report(part(ticket, 2, 5));
    desk.on_report(Report::Published { ticket, shards: 0 });
    desk.on_remote(ticket, Inbound::Nothing);
    desk.on_deadline(T + RECEIPT_GRACE);
    desk.give_up();
    assert!(outputs(&mut desk).is_empty());
}

#[test]
fn parts_go_to_the_publish_they_are_of() {
    let mut desk = desk(2);
    let first = desk.publish(Caller(1), None, draft(Qos::AtLeastOnce)).unwrap();
    let second = desk.publish(Caller(2), None, draft(Qos::AtLeastOnce)).unwrap();
    outputs(&mut desk);
    desk.on_report(part(second, 1, 7));
    assert_eq!(answers(&mut desk), [(2, "Complete 7".into())]);
    desk.on_report(part(first, 1, 4));
    assert_eq!(answers(&mut desk), [(1, "Complete 4".into())]);
}

#[test]
fn what_is_for_another_desk_is_counted_by_none() {
    let mut desk = desk(2);
    let ticket = desk.publish(Caller(1), None, draft(Qos::AtLeastOnce)).unwrap();
    outputs(&mut desk);
    let elsewhere = Ticket {
        desk: DeskId(1),
        ..ticket
    };
    let earlier = Ticket {
        node: NodeEpoch(8),
        ..ticket
    };
    desk.on_report(part(elsewhere, 1, 3));
    desk.on_report(part(earlier, 1, 3));
    assert!(outputs(&mut desk).is_empty());
    desk.on_report(part(ticket, 1, 2));
    assert_eq!(answers(&mut desk), [(1, "Complete 2".into())]);
}

#[test]
fn a_deadline_passes_through_its_grace() {
    let mut desk = desk(2);
    let ticket = desk.publish(Caller(1), None, draft(Qos::AtLeastOnce)).unwrap();
    desk.on_report(part(ticket, 2, 1));
    outputs(&mut desk);
    desk.on_deadline(T + Duration::from_millis(20));
    assert!(outputs(&mut desk).is_empty(), "the other shard has its grace");
    assert!(desk.next_deadline().is_some());
    desk.on_deadline(T + RECEIPT_GRACE + Duration::from_millis(20));
    assert_eq!(answers(&mut desk), [(1, "TimedOut 1".into())]);
    assert_eq!((desk.publishes(), desk.next_deadline()), (0, None));
}

#[test]
fn one_mailbox_is_one_order() {
    let mut one = desk(1);
    one.publish(Caller(1), None, draft(Qos::AtMostOnce));
    let output = outputs(&mut one);
    let [Output::Post(..), Output::Answer(Caller(1), Told::Published(answer))] = &output[..] else {
        panic!("{output:?}")
    };
    assert_eq!(*answer, Answer::NOTHING);
    assert_eq!(one.next_deadline(), None);
    let mut two = desk(2);
    let ticket = two.publish(Caller(1), None, draft(Qos::AtMostOnce)).unwrap();
    assert!(answers(&mut two).is_empty(), "the home has to have passed it on");
    two.on_report(Report::Published { ticket, shards: 2 });
    assert_eq!(answers(&mut two), [(1, "Complete 0".into())]);
}

#[test]
fn nodes_are_asked_once_and_counted() {
    let mut desk = desk(2);
    let verb = Verb::Publish {
        to: channel(),
        tag: 1,
        qos: Qos::AtLeastOnce,
        timeout: Duration::from_secs(9),
    };
    let ticket = desk
        .publish(Caller(1), elsewhere(2, verb), draft(Qos::AtLeastOnce))
        .unwrap();
    let asked = outputs(&mut desk);
    assert!(
        matches!(&asked[..], [Output::Ask(of, _), Output::Post(..)] if *of == ticket),
        "{asked:?}"
    );
    desk.on_report(part(ticket, 1, 1));
    let counted = PeerPart {
        connections: 5,
        ..PeerPart::default()
    };
    desk.on_remote(ticket, Inbound::Part(counted));
    assert!(outputs(&mut desk).is_empty());
    desk.on_remote(ticket, Inbound::Nothing);
    assert_eq!(
        answers(&mut desk),
        [(1, "Complete 6".into())],
        "who failed counts nothing"
    );
}

#[test]
fn a_change_waits_for_its_shard_and_every_node() {
    let mut desk = desk(2);
    let ticket = desk
        .change(
            Caller(1),
            Change::Join,
            Some(client()),
            channel(),
            elsewhere(1, Verb::Join),
        )
        .unwrap();
    let asked = outputs(&mut desk);
    assert!(
        matches!(
            &asked[..],
            [Output::Ask(..), Output::Post(ShardId(1), Command::Join { .. })]
        ),
        "{asked:?}"
    );
    let complaint = Inbound::Done {
        found: false,
        complaint: Some("no such connection".into()),
    };
    desk.on_remote(ticket, complaint.clone());
    assert!(outputs(&mut desk).is_empty());
    desk.on_report(Report::Done {
        ticket,
        done: Done::Changed,
    });
    let told = outputs(&mut desk);
    assert!(
        matches!(&told[..], [Output::Answer(Caller(1), Told::Done { done: Done::Changed, others })] if *others == [complaint]),
        "{told:?}"
    );
    desk.on_report(Report::Done {
        ticket,
        done: Done::Changed,
    });
    assert!(outputs(&mut desk).is_empty(), "told once");
}

#[test]
fn who_is_unknown_here_is_asked_for_elsewhere_only() {
    let mut desk = desk(2);
    for change in [Change::Join, Change::Leave] {
        desk.change(Caller(1), change, None, channel(), None);
        assert_eq!(answers(&mut desk), [(1, "NoClient, 0 others".into())], "{change:?}");
    }
    let ticket = desk
        .change(Caller(2), Change::Leave, None, channel(), elsewhere(1, Verb::Leave))
        .unwrap();
    assert!(matches!(&outputs(&mut desk)[..], [Output::Ask(..)]));
    desk.on_remote(ticket, Inbound::Nothing);
    assert_eq!(answers(&mut desk), [(2, "NoClient, 1 others".into())]);
    desk.change(Caller(3), Change::Occupy, None, channel(), None);
    assert!(
        matches!(
            &outputs(&mut desk)[..],
            [Output::Post(_, Command::Occupy { client: None, .. })]
        ),
        "the channel is emptied all the same"
    );
}

#[test]
fn a_list_waits_for_other_nodes_and_does_not_hold_up_the_next() {
    let mut desk = desk(1);
    let ticket = desk.list(Caller(1), elsewhere(1, Verb::List)).unwrap();
    let (_, _, first) = asked_page(&mut desk).unwrap();
    desk.on_report(page(first, &[channel()], None));
    assert!(outputs(&mut desk).is_empty());
    desk.list(Caller(2), None);
    let (_, _, second) = asked_page(&mut desk).unwrap();
    desk.on_report(page(second, &[], None));
    assert_eq!(answers(&mut desk), [(2, "0 channels, 0 others".into())]);
    desk.on_remote(ticket, Inbound::Page(Bytes::from_static(b"{}")));
    assert_eq!(answers(&mut desk), [(1, "1 channels, 1 others".into())]);
}

#[test]
fn who_finds_no_room_is_told() {
    let mut desk = desk(1);
    desk.questions_max = 3;
    for caller in 0..2 {
        desk.close(Caller(caller), client(), CloseOrder::new(CloseCause::Kicked));
    }
    let ticket = desk.publish(Caller(3), None, draft(Qos::ExactlyOnce)).unwrap();
    outputs(&mut desk);
    let beyond = Caller(u64::MAX);
    desk.change(beyond, Change::Join, Some(client()), channel(), None);
    desk.publish(beyond, None, draft(Qos::AtLeastOnce));
    desk.list(beyond, None);
    let refused = (beyond.0, "no room".to_owned());
    assert_eq!(answers(&mut desk), [refused.clone(), refused.clone(), refused]);
    desk.on_report(Report::Published { ticket, shards: 0 });
    outputs(&mut desk);
    assert!(desk.list(beyond, None).is_some(), "there is room again");
}

#[test]
fn at_the_end_everybody_is_told_what_is_known() {
    let mut desk = desk(2);
    let ticket = desk.publish(Caller(1), None, draft(Qos::AtLeastOnce)).unwrap();
    desk.publish(Caller(2), None, draft(Qos::AtLeastOnce));
    desk.on_report(part(ticket, 2, 1));
    outputs(&mut desk);
    desk.give_up();
    assert_eq!(answers(&mut desk), [(1, "TimedOut 1".into()), (2, "TimedOut 0".into())]);
}
