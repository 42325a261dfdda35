//! Business → client: acknowledgements, retries, keep-alive, receipts (spec sections 8 and 9).

use rainbow_server::engine::command::{Command, Qos};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::time::Duration;

use crate::rig::{Rig, reply};
use crate::wire::{self, Frame, Packet};

fn sent(id: u16, qos: u8, dup: bool) -> Packet {
    Packet::Send {
        dup,
        qos,
        msgtype: 1,
        id,
        payload: b"p".to_vec(),
    }
}

#[test]
fn at_most_once_is_told_at_once() {
    let mut rig = Rig::new(2);
    let ids = [rig.connect(0, &["c"]), rig.connect(1, &["c"])];
    let ticket = rig.publish("c", Qos::AtMostOnce, b"p", 10);
    assert_eq!(rig.published[&ticket], 2);
    for id in ids {
        assert_eq!(rig.packets(id), [sent(0, 0, false)]);
    }
    rig.secs(30);
    assert!(rig.parts.is_empty());
}

#[test]
fn any_acknowledgement_will_do_and_each_rec_gets_a_rel() {
    for (qos, level) in [(Qos::AtLeastOnce, 1), (Qos::ExactlyOnce, 2)] {
        let mut rig = Rig::new(1);
        let ids = [rig.connect(0, &["c"]), rig.connect(0, &["c"])];
        let ticket = rig.publish("c", qos, b"p", 10);
        for id in ids {
            assert_eq!(rig.packets(id), [sent(1, level, false)]);
        }
        rig.bytes(ids[0], &wire::ack(1, b"first"));
        assert_eq!(rig.part(ticket), None);
        rig.bytes(ids[0], &wire::ack(1, b"again"));
        assert_eq!(rig.part(ticket), None, "an unknown id is ignored");
        rig.advance(Duration::from_millis(1));
        rig.bytes(ids[1], &[wire::rec(1, b""), wire::rec(1, b"unknown now")].concat());
        assert_eq!(rig.packets(ids[1]), [Packet::Rel { id: 1 }, Packet::Rel { id: 1 }]);
        assert_eq!(
            rig.part(ticket),
            Some((2, 0, 0, "first".into())),
            "the last data that is not empty"
        );
        rig.secs(60);
        for id in ids {
            assert_eq!(rig.frames(id), [], "neither repeats nor pings");
        }
        assert_eq!(rig.parts.len(), 1);
    }
}

#[test]
fn ids_count_over_all_channels() {
    let mut rig = Rig::new(2);
    let id = rig.connect(1, &["a", "b"]);
    for (name, expected) in [("a", 1), ("b", 2), ("a", 3)] {
        rig.publish(name, Qos::AtLeastOnce, b"p", 10);
        assert_eq!(rig.packets(id), [sent(expected, 1, false)]);
    }
}

/// The table of spec section 8: when a silent member is sent to, pinged, and when the caller is told.
#[test]
fn the_retry_table() {
    for (timeout, sends, ping) in [
        (1, &[0][..], 3),
        (2, &[0], 3),
        (3, &[0], 3),
        (4, &[0, 3], 6),
        (5, &[0, 3], 6),
        (6, &[0, 3], 6),
        (7, &[0, 3, 6], 9),
        (8, &[0, 3, 6], 9),
        (9, &[0, 3, 6], 9),
        (10, &[0, 3, 6, 9], 12),
        (12, &[0, 3, 6, 9], 12),
    ] {
        let mut rig = Rig::new(1);
        let (id, live) = (rig.connect(0, &["c"]), rig.connect(0, &["c"]));
        let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", timeout);
        rig.bytes(live, &wire::ack(1, b""));
        for second in 0..16 {
            let frames = rig.frames(id);
            let expected = match second {
                0 => vec![Frame::Packet(sent(1, 1, false))],
                _ if sends.contains(&second) => vec![Frame::Packet(sent(1, 1, true))],
                _ if second == ping => vec![Frame::Ping],
                _ => vec![],
            };
            assert_eq!(frames, expected, "T = {timeout}, {second} s");
            let part = rig.part(ticket);
            if second < timeout {
                assert_eq!(part, None, "T = {timeout}, {second} s");
            } else if ping == timeout {
                let (done, failed, silent, _) = part.expect("told");
                assert_eq!((done, failed + silent), (1, 1), "T = {timeout}");
            } else {
                assert_eq!(part, Some((1, 0, 1, String::new())), "T = {timeout}");
            }
            // Both sides of a second: timers are up to a tick late.
            rig.advance(Duration::from_millis(if second == 0 { 1050 } else { 1000 }));
        }
        assert_eq!(rig.parts.len(), 1, "told once");
    }
}

/// One message that nobody acknowledges for a day does not get in the way of those after it.
#[test]
fn a_stuck_message_does_not_block_the_ring_of_ids() {
    const IDS: u32 = 65_534;
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    let stuck = rig.publish("c", Qos::AtLeastOnce, b"p", 86_400);
    assert_eq!(rig.packets(id), [sent(1, 1, false)]);
    for number in 1..IDS + 10 {
        let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
        let expected = if number < IDS { number + 1 } else { number - IDS + 2 } as u16;
        assert_eq!(rig.packets(id), [sent(expected, 1, false)], "message {number}");
        rig.bytes(id, &wire::ack(expected, b""));
        assert_eq!(rig.part(ticket), Some((1, 0, 0, String::new())), "message {number}");
        rig.parts.clear();
    }
    rig.bytes(id, &wire::ack(1, b"at last"));
    assert_eq!(rig.part(stuck), Some((1, 0, 0, "at last".into())));
}

/// Takes `bytes` a second from the socket for `seconds` seconds.
fn read_steadily(rig: &mut Rig, id: ClientId, bytes: usize, seconds: u64) {
    for _ in 0..seconds {
        rig.make_room(id, bytes);
        rig.secs(1);
    }
}

/// A message that takes long to read is sent once; its clock starts when all of it has left.
#[test]
fn what_has_not_left_is_not_repeated() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 10;
    let big = vec![7; 200_000];
    let ticket = rig.publish("c", Qos::AtLeastOnce, &big, 40);
    read_steadily(&mut rig, id, 20_000, 11);
    assert!(matches!(&rig.packets(id)[..], [Packet::Send { dup: false, payload, .. }] if payload.len() == big.len()));
    assert!(rig.callbacks.is_empty(), "not a slow consumer");
    // Nobody answers: repeated 3 to 6 s after the last byte, not before.
    rig.make_room(id, usize::MAX);
    rig.advance(Duration::from_millis(900));
    assert_eq!(rig.frames(id), []);
    rig.secs(4);
    assert!(matches!(&rig.packets(id)[..], [Packet::Send { dup: true, id: 1, .. }]));
    rig.bytes(id, &wire::ack(1, b"read"));
    assert_eq!(rig.part(ticket), Some((1, 0, 0, "read".into())));
}

/// Minutes behind, with payloads that are copied and payloads that are shared between them: all of it comes, once and in order.
#[test]
fn who_reads_slowly_gets_everything() {
    const COUNT: u8 = 60;
    let mut rig = Rig::with(1, "outbox_bytes=4m\noutbox_seconds=0");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 10;
    let levels = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
    for number in 0..COUNT {
        let len = if number % 5 == 0 { 20_000 } else { 20 };
        rig.publish("c", levels[usize::from(number) % 3], &vec![number; len], 12);
        rig.advance(Duration::from_millis(100));
    }
    let mut received = Vec::new();
    while rig.socket(id).want_write {
        rig.make_room(id, 700);
        rig.advance(Duration::from_millis(900));
        for packet in rig.packets(id) {
            let Packet::Send {
                dup,
                qos,
                id: message,
                payload,
                ..
            } = packet
            else {
                continue;
            };
            assert!(!dup, "what has not left is not repeated");
            received.push(payload[0]);
            if qos > 0 {
                rig.bytes(id, &wire::ack(message, b""));
            }
        }
    }
    assert_eq!(received, (0..COUNT).collect::<Vec<_>>());
    assert!(rig.now.as_micros() > 300_000_000, "it took minutes");
}

/// Nor is a client pinged for what it has not been able to read, however little time the caller gave.
#[test]
fn a_reading_client_is_not_given_up() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 10;
    let ticket = rig.publish("c", Qos::AtLeastOnce, &[7; 200_000], 3);
    read_steadily(&mut rig, id, 20_000, 11);
    assert_eq!(
        rig.part(ticket),
        Some((0, 0, 1, String::new())),
        "the caller has its answer in time"
    );
    assert_eq!(rig.packets(id).len(), 1);
    rig.bytes(id, &wire::ack(1, b""));
    rig.secs(30);
    assert_eq!(rig.frames(id), [], "neither repetition nor ping");
}

/// Who takes nothing at all is given up when it always was, and nothing is added to what waits for it.
#[test]
fn a_client_that_takes_nothing_is_given_up_as_before() {
    let mut rig = Rig::with(1, "outbox_seconds=0");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 10;
    rig.publish("c", Qos::AtLeastOnce, &[7; 1000], 7);
    rig.advance(Duration::from_millis(9_100));
    rig.make_room(id, usize::MAX);
    let frames = rig.frames(id);
    assert!(
        matches!(
            &frames[..],
            [Frame::Packet(Packet::Send { dup: false, .. }), Frame::Ping]
        ),
        "{frames:?}"
    );
}

#[test]
fn a_late_acknowledgement_stops_retries_and_ping() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    let ticket = rig.publish("c", Qos::ExactlyOnce, b"p", 4);
    rig.secs(5);
    assert_eq!(rig.part(ticket), Some((0, 0, 1, String::new())));
    assert_eq!(rig.packets(id), [sent(1, 2, false), sent(1, 2, true)]);
    rig.bytes(id, &wire::rec(1, b"late"));
    rig.secs(30);
    assert_eq!(rig.frames(id), [Frame::Packet(Packet::Rel { id: 1 })]);
    assert_eq!(rig.parts.len(), 1);
}

#[test]
fn no_pong_within_20_s_closes_once() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    rig.publish("c", Qos::AtLeastOnce, b"p", 1);
    rig.publish("c", Qos::AtLeastOnce, b"p", 1);
    rig.advance(Duration::from_millis(3050));
    assert_eq!(rig.frames(id)[2..], [Frame::Ping, Frame::Ping]);
    rig.advance(Duration::from_millis(19_900));
    assert!(rig.callbacks.is_empty());
    rig.advance(Duration::from_millis(100));
    rig.callback(Event::Close);
    assert_eq!(rig.frames(id), [Frame::Close(vec![])]);
    assert!(!rig.socket(id).closed);
    rig.secs(5);
    assert!(rig.socket(id).closed);
    rig.secs(60);
    assert!(rig.callbacks.is_empty(), "one close callback");
    assert_eq!(rig.shards[0].connections(), 0);
}

#[test]
fn any_pong_stops_the_timer_and_leaving_too() {
    let mut rig = Rig::new(1);
    let (id, leaver) = (rig.connect(0, &["c"]), rig.connect(0, &["c"]));
    rig.publish("c", Qos::AtLeastOnce, b"p", 1);
    rig.secs(6);
    rig.bytes(id, &wire::pong());
    rig.end(leaver);
    rig.callback(Event::Close);
    assert_eq!(rig.shards[0].debug_counts().timers, 0, "neither of them has one left");
    rig.secs(60);
    assert!(rig.callbacks.is_empty() && !rig.socket(id).closed);
}

#[test]
fn a_disconnect_is_a_failure_at_once() {
    let mut rig = Rig::new(2);
    let ids = [rig.connect(0, &["c"]), rig.connect(0, &["c"]), rig.connect(1, &["c"])];
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    rig.bytes(ids[0], &wire::ack(1, b"d"));
    rig.end(ids[1]);
    assert_eq!(rig.part(ticket), Some((1, 1, 0, "d".into())));
    rig.parts.clear();
    rig.end(ids[2]);
    assert_eq!(
        rig.part(ticket),
        Some((0, 1, 0, String::new())),
        "also of the last member"
    );
}

#[test]
fn those_who_leave_the_channel_are_still_waited_for() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    assert!(rig.leave(id, "c"));
    rig.secs(3);
    assert_eq!(rig.part(ticket), None);
    rig.bytes(id, &wire::ack(1, b""));
    assert_eq!(rig.part(ticket), Some((1, 0, 0, String::new())));
}

#[test]
fn a_broken_socket_during_fan_out_is_a_failure() {
    let mut rig = Rig::new(1);
    let (good, bad) = (rig.connect(0, &["c"]), rig.connect(0, &["c"]));
    rig.socket(bad).broken = true;
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    rig.bytes(good, &wire::ack(1, b""));
    assert_eq!(rig.part(ticket), Some((1, 1, 0, String::new())));
    rig.callback(Event::Close);
    assert_eq!(rig.shards[0].connections(), 1);
}

#[test]
fn a_broken_socket_during_a_retry_is_a_failure() {
    let mut rig = Rig::new(1);
    let (good, bad) = (rig.connect(0, &["c"]), rig.connect(0, &["c"]));
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    rig.socket(bad).broken = true;
    rig.secs(4);
    assert_eq!(rig.packets(good).len(), 2);
    rig.callback(Event::Close);
    rig.bytes(good, &wire::ack(1, b""));
    assert_eq!(rig.part(ticket), Some((1, 1, 0, String::new())));
}

#[test]
fn a_full_window_fails_at_once() {
    let mut rig = Rig::with(1, "inflight_max=2");
    let id = rig.connect(0, &["c"]);
    rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    let third = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    assert_eq!(rig.part(third), Some((0, 1, 0, String::new())));
    assert_eq!(rig.packets(id).len(), 2);
    rig.bytes(id, &wire::ack(2, b""));
    rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    assert_eq!(rig.packets(id), [sent(3, 1, false)]);
}

#[test]
fn a_short_write_goes_on_when_there_is_room() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 3;
    for _ in 0..3 {
        rig.publish("c", Qos::AtMostOnce, b"p", 10);
    }
    assert!(rig.frames(id).is_empty() && rig.socket(id).want_write);
    while rig.socket(id).want_write {
        rig.make_room(id, 2);
    }
    assert_eq!(
        rig.packets(id),
        [sent(0, 0, false), sent(0, 0, false), sent(0, 0, false)]
    );
}

#[test]
fn a_slow_consumer_is_closed() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let (slow, good) = (rig.connect(0, &["c"]), rig.connect(0, &["c"]));
    rig.socket(slow).room = 10;
    let payload = [0; 16 * 1024];
    for n in 1..7 {
        rig.publish("c", Qos::AtLeastOnce, &payload, 10);
        rig.bytes(good, &wire::ack(n, b""));
    }
    rig.callback(Event::Close);
    assert_eq!(rig.packets(good).len(), 6);
    assert_eq!(rig.parts.len(), 6, "its deliveries have failed");
    rig.secs(5);
    assert!(rig.socket(slow).closed, "not waited for longer than for a close answer");
    assert_eq!(rig.shards[0].connections(), 1);
}

#[test]
fn a_reply_of_the_same_turn_makes_nobody_slow() {
    const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];
    for policy in ["close", "drop_oldest"] {
        let mut rig = Rig::with(1, &format!("outbox_bytes=64k\nslow_consumer={policy}"));
        let id = rig.connect(0, &CHANNELS);
        rig.bytes(id, &wire::send(false, 1, 1, 5, b"m"));
        let asked = rig.message();
        let (client, token) = (asked.client, asked.token);
        let outcome = reply(200, &[], "answer");
        let done = Command::CallbackDone { client, token, outcome };
        // What goes to one channel in one turn is one write.
        let publishes = CHANNELS.map(|name| rig.publish_command(name, Qos::AtMostOnce, &[0; 60_000], 10).1);
        rig.batch(0, std::iter::once(done).chain(publishes));
        rig.settle();
        let packets = rig.packets(id);
        assert!(matches!(&packets[0], Packet::Ack { .. }), "{policy}");
        assert_eq!(packets.len(), 1 + CHANNELS.len(), "{policy}");
    }
}

#[test]
fn a_slow_consumer_that_wakes_up_learns_why() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let slow = rig.connect(0, &["c"]);
    rig.socket(slow).room = 10;
    for _ in 0..6 {
        rig.publish("c", Qos::AtMostOnce, &[0; 16 * 1024], 10);
    }
    rig.make_room(slow, usize::MAX);
    let frames = rig.frames(slow);
    assert_eq!(frames.last(), Some(&Frame::Close(b"\x03\xf0slow_consumer".to_vec())));
    assert!(frames.len() < 7);
}

#[test]
fn a_first_write_may_be_larger_than_the_bound() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 1;
    rig.publish("c", Qos::AtMostOnce, &[1; 200_000], 10);
    rig.make_room(id, usize::MAX);
    assert!(matches!(&rig.packets(id)[..], [Packet::Send { payload, .. }] if payload.len() == 200_000));
}

#[test]
fn timers_and_replies_for_the_dead_find_nobody() {
    let mut rig = Rig::new(1);
    let old = rig.connect(0, &["c"]);
    rig.bytes(old, &wire::send(false, 1, 1, 5, b"m"));
    let message = rig.message();
    rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    rig.end(old);
    assert!(rig.callbacks.is_empty(), "the close callback waits for the message");
    rig.answer_ok(&message, "");
    rig.callback(Event::Close);
    let new = rig.connect(0, &["c"]);
    assert_eq!((new.slot, new.generation), (old.slot, old.generation + 1));
    // Late things for the old one: an answer, a join, a leave, its timers.
    rig.answer_ok(&message, "late");
    assert!(!rig.join(old, "late") && !rig.leave(old, "c"));
    rig.secs(60);
    assert_eq!(rig.frames(new), []);
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 10);
    assert_eq!(rig.packets(new), [sent(1, 1, false)], "ids start anew");
    rig.bytes(new, &wire::ack(1, b""));
    assert_eq!(rig.part(ticket), Some((1, 0, 0, String::new())));
}
