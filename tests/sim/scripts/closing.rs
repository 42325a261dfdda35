//! How clients end (spec sections 9, 13 and 14).

use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{CloseOrder, Command, Done, Qos};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::shard::Input;

use crate::rig::{Rig, reply};
use crate::wire::{self, Frame};

#[test]
fn the_code_of_the_client_is_echoed_without_its_reason() {
    for (payload, echo) in [
        (&b""[..], &b""[..]),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x13\x87bye", b"\x13\x87"),
    ] {
        let mut rig = Rig::new(1);
        let id = rig.connect(0, &["c"]);
        rig.bytes(id, &wire::frame(8, payload));
        assert_eq!(rig.frames(id), [Frame::Close(echo.to_vec())]);
        assert!(rig.socket(id).finished && !rig.socket(id).closed, "the client ends TCP");
        rig.callback(Event::Close);
        rig.end(id);
        assert!(rig.socket(id).closed && rig.callbacks.is_empty());
        assert_eq!(rig.shards[0].connections(), 0);
        assert_eq!(rig.shards[0].next_deadline(), None);
    }
}

#[test]
fn a_client_that_does_not_end_tcp_is_ended() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &wire::close(Some(1000)));
    assert_eq!(rig.bytes(id, &wire::ping(b"still here")), Input::Continue);
    assert_eq!(rig.bytes(id, &wire::send(false, 0, 1, 0, b"ignored")), Input::Continue);
    rig.callback(Event::Close);
    rig.secs(4);
    assert!(!rig.socket(id).closed);
    rig.secs(2);
    assert!(rig.socket(id).closed && rig.callbacks.is_empty());
    assert_eq!(rig.frames(id).len(), 1, "nothing after the close frame");
}

#[test]
fn the_api_closes_a_client() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    let close = |ticket| Command::Close {
        client: id,
        order: Box::new(CloseOrder::new(CloseCause::Kicked)),
        ticket,
    };
    assert!(rig.ask(ShardId(0), close));
    assert_eq!(rig.frames(id), [Frame::Close(b"\x03\xe8kicked".to_vec())]);
    assert!(!rig.socket(id).finished, "its answer is waited for");
    assert!(!rig.ask(ShardId(0), close), "closing already");
    // The answer in two pieces, behind something else.
    let answer = [wire::send(false, 1, 1, 2, b"late"), wire::close(Some(1000))].concat();
    let (first, rest) = answer.split_at(answer.len() - 3);
    rig.bytes(id, first);
    assert!(!rig.socket(id).finished);
    rig.bytes(id, rest);
    assert!(rig.socket(id).finished);
    rig.end(id);
    rig.callback(Event::Close);
    assert!(rig.callbacks.is_empty(), "the late message is not forwarded");
    assert_eq!(rig.shards[0].connections(), 0);
}

#[test]
fn a_close_answer_does_not_cut_what_is_still_on_its_way() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 4;
    rig.publish("c", Qos::AtMostOnce, b"on its way", 10);
    rig.ask(ShardId(0), |ticket| Command::Close {
        client: id,
        order: Box::new(CloseOrder::new(CloseCause::Kicked)),
        ticket,
    });
    // The client closes by itself at the same time.
    rig.bytes(id, &wire::close(Some(1000)));
    rig.make_room(id, usize::MAX);
    let frames = rig.frames(id);
    assert!(matches!(&frames[..], [Frame::Packet(_), Frame::Close(_)]), "{frames:?}");
    assert!(rig.socket(id).finished);
}

#[test]
fn memberships_end_before_the_business_is_told() {
    let mut rig = Rig::new(2);
    let id = rig.connect(1, &["c"]);
    rig.end(id);
    rig.callback(Event::Close);
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"", 10);
    assert_eq!(rig.published[&ticket], 0);
}

#[test]
fn the_close_callback_comes_after_the_last_message_and_carries_its_cookie() {
    for order in ["none", "client"] {
        let mut rig = Rig::with(1, &format!("forward_order={order}"));
        let id = rig.connect(0, &["c"]);
        (0..3).for_each(|n| drop(rig.bytes(id, &wire::send(false, 2, 1, n, &[n as u8]))));
        rig.end(id);
        assert!(rig.socket(id).closed);
        for n in 0..3 {
            let message = rig.message();
            assert_eq!(message.body[0], n, "queued messages still go out");
            let cookie = format!("cookie-{n}");
            let headers = [("rainbowclientcookie", &cookie[..]), ("rainbowclientchannel", "zombie")];
            rig.answer(&message, reply(200, &headers, ""));
        }
        let close = rig.callback(Event::Close);
        let headers = String::from_utf8(close.headers.to_vec()).unwrap();
        assert!(headers.contains("cookie-2"), "{headers}");
        assert_eq!(rig.shards[0].connections(), 0);
        let ticket = rig.publish("zombie", Qos::AtMostOnce, b"", 10);
        assert_eq!(rig.published[&ticket], 0, "a closed connection joins nothing");
    }
}

#[test]
fn broken_frames_end_tcp_without_a_close_frame() {
    for bytes in [
        &b"\x83\x80\0\0\0\0"[..],
        b"\xc2\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
        b"\x02\x01\x10",
        b"\x89\xfe\0\xff",
    ] {
        let mut rig = Rig::new(1);
        let id = rig.connect(0, &[]);
        assert_eq!(rig.bytes(id, bytes), Input::Gone, "{bytes:02x?}");
        assert!(rig.socket(id).closed && rig.frames(id).is_empty());
        rig.callback(Event::Close);
        assert_eq!(rig.shards[0].connections(), 0);
    }
}

#[test]
fn a_message_too_big_is_told_so() {
    let mut rig = Rig::with(1, "message_max=1k");
    let id = rig.connect(0, &[]);
    rig.bytes(id, &wire::send(false, 0, 1, 0, &[0; 2000]));
    assert_eq!(rig.frames(id), [Frame::Close(b"\x03\xf1message too big".to_vec())]);
    rig.callback(Event::Close);
    rig.secs(5);
    assert!(rig.socket(id).closed);
}

#[test]
fn frames_before_a_broken_one_count() {
    let mut rig = Rig::new(1);
    let id = rig.connect(0, &[]);
    let bytes = [wire::send(false, 0, 1, 0, b"good"), wire::ping(b"x"), vec![0xff, 0xff]].concat();
    assert_eq!(rig.bytes(id, &bytes), Input::Gone);
    assert_eq!(&rig.message().body[..], b"good");
    assert_eq!(rig.frames(id), [Frame::Pong(b"x".to_vec())]);
}

fn ordered(code: Option<u16>, reason: &'static str) -> CloseOrder {
    CloseOrder {
        code,
        reason: reason.into(),
        farewell: Some((7, "bye".into())),
        ..CloseOrder::new(CloseCause::Kicked)
    }
}

fn order(rig: &mut Rig, client: ClientId, order: CloseOrder) -> Done {
    rig.change(client.shard, |ticket| Command::Close {
        client,
        order: Box::new(order),
        ticket,
    })
}

#[test]
fn a_farewell_comes_behind_what_waits_and_before_the_close_frame() {
    for lines in ["", "outbox_bytes=64k"] {
        let mut rig = Rig::with(1, lines);
        let id = rig.connect(0, &["c"]);
        rig.socket(id).room = 4;
        rig.publish("c", Qos::AtMostOnce, b"waits", 10);
        assert_eq!(order(&mut rig, id, ordered(Some(4001), "enough")), Done::Changed);
        assert_eq!(order(&mut rig, id, ordered(Some(4002), "again")), Done::NoClient);
        rig.publish("c", Qos::AtMostOnce, b"too late", 10);
        rig.make_room(id, usize::MAX);
        let frames = rig.frames(id);
        let [Frame::Packet(_), Frame::Packet(farewell), Frame::Close(close)] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert!(matches!(farewell, wire::Packet::Send { msgtype: 7, payload, .. } if payload == b"bye"));
        assert_eq!(close, b"\x0f\xa1enough");
        assert!(!rig.socket(id).finished, "its answer is waited for");
        rig.callback(Event::Close);
    }
}

#[test]
fn what_must_not_travel_in_a_close_frame_is_left_out() {
    let long = "é".repeat(100);
    for (code, reason, sent) in [
        (Some(1006), "no code", b"\x03\xe8kicked".to_vec()),
        (None, "no code", b"\x03\xe8kicked".to_vec()),
        (Some(1000), "", b"\x03\xe8".to_vec()),
        (Some(4000), &long[..], [b"\x0f\xa0", &long.as_bytes()[..122]].concat()),
    ] {
        let mut rig = Rig::new(1);
        let id = rig.connect(0, &[]);
        let wanted = CloseOrder {
            code,
            reason: reason.to_owned().into(),
            ..CloseOrder::new(CloseCause::Kicked)
        };
        order(&mut rig, id, wanted);
        assert_eq!(rig.frames(id), [Frame::Close(sent)]);
    }
}

#[test]
fn a_farewell_that_finds_no_room_does_not_change_why_the_client_goes() {
    let mut rig = Rig::with(1, "outbox_bytes=64k");
    let id = rig.connect(0, &["c"]);
    rig.socket(id).room = 0;
    rig.publish("c", Qos::AtMostOnce, &[b'x'; 70_000], 10);
    let long = CloseOrder {
        farewell: Some((7, vec![b'y'; 100].into())),
        ..ordered(Some(4001), "enough")
    };
    assert_eq!(order(&mut rig, id, long), Done::Changed);
    rig.make_room(id, usize::MAX);
    let frames = rig.frames(id);
    assert!(
        matches!(&frames[..], [Frame::Packet(_), Frame::Close(close)] if close == b"\x0f\xa1enough"),
        "{frames:?}"
    );
}

#[test]
fn by_force_tcp_ends_at_once() {
    let mut rig = Rig::new(2);
    let id = rig.connect(1, &["c"]);
    rig.socket(id).room = 4;
    rig.publish("c", Qos::AtMostOnce, b"never read", 10);
    let forced = CloseOrder {
        force: true,
        ..ordered(Some(4001), "enough")
    };
    assert_eq!(order(&mut rig, id, forced), Done::Changed);
    assert!(rig.socket(id).closed);
    assert_eq!(rig.socket(id).out.len(), 4, "nothing more was written");
    rig.callback(Event::Close);
    assert_eq!(rig.shards[1].connections(), 0);
}

/// A close frame that an order sends is written at the end of the turn if replies of the client wait for it: their mail has
/// not left yet.
#[test]
fn an_order_does_not_let_replies_overtake_their_mail() {
    let mut rig = Rig::new(2);
    let name = rig.channel_at(1);
    let id = rig.connect(0, &[]);
    rig.bytes(id, &wire::send(false, 1, 1, 2, b"m"));
    let message = rig.message();
    let (client, token) = (id, message.token);
    rig.corked = true;
    let joined = reply(200, &[("rainbowclientchannel", &name)], "joined");
    let ticket = rig.ticket();
    rig.batch(
        0,
        [
            Command::CallbackDone {
                client,
                token,
                outcome: joined,
            },
            Command::Close {
                client,
                order: Box::new(ordered(Some(4001), "enough")),
                ticket,
            },
        ],
    );
    assert!(rig.socket(id).out.is_empty(), "the home has not heard of it");
    rig.corked = false;
    rig.settle();
    let frames = rig.frames(id);
    assert!(
        matches!(&frames[..], [Frame::Packet(_), Frame::Packet(_), Frame::Close(_)]),
        "{frames:?}"
    );
}
