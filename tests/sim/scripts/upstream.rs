//! Client → business (spec section 7).

use rainbow_server::engine::command::{Command, Qos};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;

use crate::rig::{Rig, reply};
use crate::wire::{self, Frame, Packet, send};

fn ack(id: u16, data: &str) -> Packet {
    Packet::Ack { id, data: data.into() }
}

fn rec(id: u16, data: &str) -> Packet {
    Packet::Rec { id, data: data.into() }
}

#[test]
fn each_level_is_answered_in_its_own_way() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    for qos in 0..4 {
        rig.bytes(id, &send(false, qos, 5, 10 + u16::from(qos), b"payload"));
        let message = rig.message();
        assert_eq!((&message.body[..], message.msgtype), (&b"payload"[..], 5));
        rig.answer_ok(&message, "data");
    }
    assert_eq!(rig.packets(id), [ack(11, "data"), rec(12, "data")]);
}

#[test]
fn a_business_failure_is_not_answered() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    for qos in 0..3 {
        rig.bytes(id, &send(false, qos, 1, 3, b"x"));
        let message = rig.message();
        rig.answer_failed(&message);
        rig.bytes(id, &send(true, qos, 1, 3, b"x"));
        let message = rig.message();
        rig.answer(&message, reply(500, &[("rainbowclientchannel", "ignored")], "x"));
    }
    assert_eq!(rig.packets(id), []);
    let ticket = rig.publish("ignored", Qos::AtMostOnce, b"", 10);
    assert_eq!(rig.published[&ticket], 0);
}

#[test]
fn only_a_dup_of_a_remembered_qos_2_id_is_dropped() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &send(false, 2, 1, 7, b"a"));
    let first = rig.message();
    rig.bytes(id, &send(true, 2, 1, 7, b"a"));
    assert!(rig.callbacks.is_empty(), "on its way");
    rig.answer_ok(&first, "");
    rig.bytes(id, &send(true, 2, 1, 7, b"a"));
    assert!(rig.callbacks.is_empty(), "answered, not released");
    assert_eq!(rig.packets(id), [rec(7, "")], "the REC is not repeated");
    rig.bytes(id, &send(false, 2, 1, 7, b"b"));
    let second = rig.message();
    rig.answer_ok(&second, "");
    rig.bytes(id, &wire::rel(7));
    assert_eq!(rig.packets(id), [rec(7, ""), Packet::Com { id: 7 }]);
    rig.bytes(id, &send(true, 2, 1, 7, b"b"));
    assert!(rig.callbacks.is_empty(), "one of two uses is released");
    rig.bytes(id, &wire::rel(7));
    assert_eq!(rig.packets(id), [Packet::Com { id: 7 }]);
    rig.bytes(id, &send(true, 2, 1, 7, b"c"));
    assert_eq!(&rig.message().body[..], b"c", "released: a new message");
    rig.bytes(id, &send(true, 1, 1, 7, b"d"));
    rig.bytes(id, &send(true, 1, 1, 7, b"d"));
    assert_eq!(rig.callbacks.len(), 2, "QoS 1 knows no duplicates");
}

/// A, then B under the same id, then the REL for A: B is still remembered, whatever becomes of it.
#[test]
fn an_id_used_twice_before_its_rel_is_two_exchanges() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &send(false, 2, 1, 7, b"a"));
    let first = rig.message();
    rig.answer_ok(&first, "");
    rig.bytes(id, &send(false, 2, 1, 7, b"b"));
    let second = rig.message();
    rig.bytes(id, &wire::rel(7));
    rig.bytes(id, &send(true, 2, 1, 7, b"b"));
    assert!(rig.callbacks.is_empty(), "b is not handed over twice");
    rig.answer_failed(&second);
    rig.bytes(id, &send(true, 2, 1, 7, b"b"));
    let again = rig.message();
    assert_eq!(&again.body[..], b"b", "it failed: the client may repeat it");
    rig.answer_ok(&again, "");
    assert_eq!(rig.packets(id), [rec(7, ""), Packet::Com { id: 7 }, rec(7, "")]);
}

#[test]
fn every_rel_gets_its_com() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &[wire::rel(9), wire::rel(9), wire::rel(65535)].concat());
    assert_eq!(rig.packets(id), [9, 9, 65535].map(|id| Packet::Com { id }));
}

#[test]
fn an_empty_payload_is_forwarded() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &send(false, 1, 1, 2, b""));
    let message = rig.message();
    assert!(message.body.is_empty());
    rig.answer_ok(&message, "");
    assert_eq!(rig.packets(id), [ack(2, "")]);
}

#[test]
fn what_is_not_a_packet_is_dropped() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x10\x00",
        b"\x12\x00\x01\x00",
        b"\x20\x00",
        b"\xf0\x00\x01",
    ] {
        assert_eq!(rig.bytes(id, &wire::frame(2, bytes)), Input::Continue);
    }
    rig.bytes(id, &wire::frame(1, "\x10\u{80}\x01x".as_bytes()));
    assert!(rig.callbacks.is_empty() && rig.packets(id).is_empty());
    rig.bytes(id, &wire::frame(1, b"\x10\x00\x01text"));
    assert_eq!(&rig.message().body[..], b"text");
}

/// What whoever reads an answer relies on may be in front of a full mailbox.
#[test]
fn answers_wait_while_mail_waits_for_room() {
    let mut rig = Rig::new(2);
    let id = rig.connect(0, &[]);
    let channel = rig.channel_at(1);
    rig.bytes(id, &wire::send(false, 1, 7, 1, b"x"));
    let asked = rig.message();
    rig.corked = true;
    let headers = [("rainbowclientchannel", &channel[..])];
    let (client, token) = (asked.client, asked.token);
    let outcome = reply(200, &headers, "joined");
    rig.batch(0, [Command::CallbackDone { client, token, outcome }]);
    assert!(rig.frames(id).is_empty() && rig.has_more(0));
    rig.turn(id.shard, |shard, _, _| shard.on_writable(id));
    assert!(
        rig.frames(id).is_empty(),
        "room in the socket does not let it out either"
    );
    rig.corked = false;
    rig.settle();
    assert_eq!(rig.packets(id), [ack(1, "joined")]);
}

#[test]
fn headers_take_effect_before_the_answer_is_written() {
    let mut rig = Rig::new(2);
    let id = rig.connect(0, &["old"]);
    rig.bytes(id, &send(false, 1, 1, 2, b""));
    let message = rig.message();
    let headers = [
        ("rainbowclientchannel", "new;;both"),
        ("rainbowclientchannelunsub", "old;;both"),
        ("rainbowclientcookie", "k"),
    ];
    rig.answer(&message, reply(204, &headers, ""));
    assert_eq!(rig.packets(id), [ack(2, "")]);
    for (name, members) in [("old", 0), ("new", 1), ("both", 1)] {
        let ticket = rig.publish(name, Qos::AtMostOnce, b"", 10);
        assert_eq!(rig.published[&ticket], members, "{name}");
    }
    rig.bytes(id, &send(false, 0, 1, 0, b""));
    let headers = String::from_utf8(rig.message().headers.to_vec())
        .unwrap()
        .to_lowercase();
    assert!(headers.contains("rainbowclientcookie: k\r\n"), "{headers}");
}

#[test]
fn without_order_all_are_under_way_at_once() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    (2..12).for_each(|n| drop(rig.bytes(id, &send(false, 1, 1, n, b""))));
    assert_eq!(rig.callbacks.len(), 10);
    let last = rig.callbacks.pop_back().unwrap();
    rig.answer_ok(&last, "");
    assert_eq!(rig.packets(id), [ack(11, "")], "answers go out as they come");
}

#[test]
fn in_order_a_window_is_under_way() {
    for window in [1, 3] {
        let mut rig = Rig::with(1, &format!("forward_order=client\nforward_window={window}"));
        let id = rig.connect(0, &[]);
        let burst: Vec<u8> = (0..20).flat_map(|n| send(false, 1, 1, 100 + n, &[n as u8])).collect();
        rig.bytes(id, &burst);
        let mut seen = Vec::new();
        while let Some(request) = rig.callbacks.pop_front() {
            assert!(rig.callbacks.len() < window);
            seen.push(request.body[0]);
            if seen.len() % 2 == 0 {
                rig.answer_ok(&request, "")
            } else {
                rig.answer_failed(&request)
            }
        }
        assert_eq!(seen, (0..20).collect::<Vec<u8>>());
        assert_eq!(rig.packets(id).len(), 10);
    }
}

#[test]
fn a_wider_window_does_not_let_new_messages_overtake_waiting_ones() {
    let mut rig = Rig::with(1, "forward_order=client\nforward_window=1");
    let id = rig.connect(0, &[]);
    (0..3).for_each(|n| drop(rig.bytes(id, &send(false, 0, 1, 0, &[n]))));
    rig.shards[0].reload(crate::rig::config("forward_order=client\nforward_window=2").into());
    rig.bytes(id, &send(false, 0, 1, 0, &[3]));
    let mut seen = Vec::new();
    while let Some(request) = rig.callbacks.pop_front() {
        seen.push(request.body[0]);
        rig.answer_ok(&request, "");
    }
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn a_full_queue_pauses_and_resumes_without_loss() {
    for order in ["none", "client"] {
        let mut rig = Rig::with(1, &format!("forward_queue=4\nforward_order={order}"));
        let id = rig.connect(0, &[]);
        let burst: Vec<u8> = (0..20).flat_map(|n| send(false, 1, 1, 100 + n, &[n as u8])).collect();
        let (first, rest) = burst.split_at(burst.len() - 5);
        assert_eq!(rig.bytes(id, first), Input::Pause);
        let (mut seen, mut rest) = (Vec::new(), Some(rest));
        while let Some(request) = rig.callbacks.pop_front() {
            seen.push(request.body[0]);
            assert!(rig.callbacks.len() < 4);
            rig.answer_ok(&request, "");
            if std::mem::take(&mut rig.socket(id).resumed)
                && let Some(rest) = rest.take()
            {
                assert_ne!(rig.bytes(id, rest), Input::Gone);
            }
        }
        assert_eq!(seen, (0..20).collect::<Vec<u8>>(), "{order}");
        assert_eq!(rig.packets(id).len(), 20);
    }
}

#[test]
fn a_byte_bound_pauses_too() {
    let mut rig = Rig::with(1, "forward_queue_bytes=4k");
    let id = rig.connect(0, &[]);
    assert_eq!(
        rig.bytes(id, &send(false, 0, 1, 0, &[1; 9000])),
        Input::Pause,
        "one message is always taken"
    );
    let message = rig.message();
    rig.answer_ok(&message, "");
    assert!(rig.socket(id).resumed);
}

/// The handler of a message waits for an acknowledgement of the very client whose input is full.
#[test]
fn acknowledgements_pass_a_full_queue() {
    let mut rig = Rig::with(1, "forward_queue=2");
    let id = rig.connect(0, &["c"]);
    let full = [
        send(false, 0, 1, 0, b"1"),
        send(false, 0, 1, 0, b"2"),
        send(false, 0, 1, 0, b"3"),
    ]
    .concat();
    assert_eq!(rig.bytes(id, &full), Input::Pause);
    let handler = rig.message();
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"question", 10);
    assert!(rig.socket(id).resumed, "it owes an acknowledgement: it is read on");
    assert!(matches!(rig.packets(id)[..], [Packet::Send { id: 1, .. }]));
    rig.bytes(id, &wire::ack(1, b"answer"));
    assert_eq!(rig.part(ticket), Some((1, 0, 0, "answer".into())));
    rig.answer_ok(&handler, "");
    assert_eq!(rig.callbacks.len(), 2);
}

#[test]
fn the_patience_with_those_who_owe_is_bounded() {
    let mut rig = Rig::with(1, "forward_queue=2");
    let id = rig.connect(0, &["c"]);
    rig.publish("c", Qos::AtLeastOnce, b"", 10);
    let flood: Vec<u8> = (0..100).flat_map(|_| send(false, 0, 1, 0, b"")).collect();
    assert_eq!(rig.bytes(id, &flood), Input::Pause);
    assert!(rig.callbacks.len() <= 8, "{}", rig.callbacks.len());
}

#[test]
fn who_does_not_read_the_answers_is_a_slow_consumer() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let id = rig.connect(0, &[]);
    rig.socket(id).room = 0;
    for n in 0..10 {
        rig.bytes(id, &send(false, 1, 1, n, b""));
        if let Some(request) = rig
            .callbacks
            .pop_front()
            .filter(|request| request.hook.event == Event::Message)
        {
            rig.answer_ok(&request, &"x".repeat(20_000));
        }
    }
    rig.secs(6);
    assert!(rig.socket(id).closed);
}

/// It is we who do not read: its pong may be waiting in the socket.
#[test]
fn a_paused_client_is_not_closed_for_a_missing_pong() {
    let mut rig = Rig::with(1, "forward_queue=1");
    let id = rig.connect(0, &["c"]);
    rig.publish("c", Qos::AtLeastOnce, b"", 1);
    assert_eq!(
        rig.bytes(id, &[send(false, 0, 1, 0, b"1"), wire::pong()].concat()),
        Input::Continue
    );
    assert_eq!(
        rig.bytes(id, &[send(false, 0, 1, 0, b"2"), send(false, 0, 1, 0, b"3")].concat()),
        Input::Continue
    );
    rig.bytes(id, &send(false, 0, 1, 0, b"4"));
    rig.secs(3);
    assert!(rig.frames(id).contains(&Frame::Ping));
    rig.bytes(id, &wire::pong());
    rig.secs(60);
    assert!(!rig.socket(id).closed && !rig.frames(id).iter().any(|frame| matches!(frame, Frame::Close(_))));
    while let Some(message) = rig.callbacks.pop_front() {
        assert_eq!(message.hook.event, Event::Message);
        rig.answer_ok(&message, "");
    }
    rig.secs(60);
    assert!(!rig.socket(id).closed, "the pong was read in the end");
}

/// Pauses a client with more messages than are taken, and reads it again 100 ms before `timeout` has passed; ends behind that.
fn pause_until_just_before(rig: &mut Rig, id: ClientId, timeout: Duration) {
    let flood: Vec<u8> = (0..4).flat_map(|_| send(false, 0, 1, 0, b"")).collect();
    assert_eq!(rig.bytes(id, &flood), Input::Pause);
    rig.socket(id).resumed = false;
    rig.advance(timeout - Duration::from_millis(100));
    while !rig.socket(id).resumed {
        let message = rig.message();
        rig.answer_ok(&message, "");
    }
    rig.advance(Duration::from_millis(200));
}

/// Nor for a pong that is still in the socket because it was read again only just now.
#[test]
fn a_client_read_again_in_the_last_moment_is_not_closed_for_a_missing_pong() {
    let mut rig = Rig::with(1, "forward_queue=1");
    let id = rig.connect(0, &["c"]);
    rig.publish("c", Qos::AtLeastOnce, b"", 1);
    rig.secs(3);
    assert!(rig.frames(id).contains(&Frame::Ping));
    pause_until_just_before(&mut rig, id, Duration::from_secs(20));
    assert_eq!(rig.frames(id), [], "its pong has not been read yet");
    rig.secs(18);
    rig.bytes(id, &wire::pong());
    rig.secs(60);
    assert_eq!(rig.frames(id), []);
}

/// The pause is no silence of the client's.
#[test]
fn a_client_read_again_in_the_last_moment_is_not_idle() {
    let mut rig = Rig::with(1, "forward_queue=1\nidle_timeout=30");
    let id = rig.connect(0, &[]);
    pause_until_just_before(&mut rig, id, Duration::from_secs(30));
    assert_eq!(rig.frames(id), [], "what it has said meanwhile has not been read yet");
    rig.secs(31);
    assert!(matches!(rig.frames(id)[..], [Frame::Close(_)]), "now it is silent");
}

/// The rest of a message could not come while it was not read.
#[test]
fn a_client_read_again_in_the_last_moment_is_not_too_slow_with_its_message() {
    let mut rig = Rig::with(1, "client_bytes_per_second=1000\nmessage_timeout=30");
    let id = rig.connect(0, &[]);
    // Costs 30.8 s, of which one is a present: it is read again after 29.9.
    let costly = send(false, 0, 1, 0, &[0; 30_800]);
    let begun = send(false, 0, 1, 0, &[0; 10_000]);
    assert_eq!(rig.bytes(id, &[&costly[..], &begun[..5000]].concat()), Input::Pause);
    rig.secs(29);
    assert!(!rig.socket(id).resumed);
    rig.secs(2);
    assert!(rig.socket(id).resumed);
    assert_eq!(rig.frames(id), [], "the rest is still on its way");
    rig.secs(31);
    assert!(matches!(rig.frames(id)[..], [Frame::Close(_)]), "it does not come");
}

#[test]
fn fragments_and_pings_between_them() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    let mut first = wire::frame(2, b"\x10\x00\x01he");
    first[0] &= 0x7f;
    let rest = wire::frame(0, b"llo");
    rig.bytes(id, &[first, wire::ping(b"p"), rest].concat());
    assert_eq!(&rig.message().body[..], b"hello");
    assert_eq!(rig.frames(id), [Frame::Pong(b"p".to_vec())]);
}
