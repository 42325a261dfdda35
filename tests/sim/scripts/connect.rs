//! From accept to open (spec section 3).

use rainbow_server::engine::command::{CallbackFailure, CallbackOutcome, Qos};
use rainbow_server::engine::hook::Event;
use rainbow_server::protocol::ListenerId;
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;

use crate::rig::{ADMITTED, Rig, reply};
use crate::wire::{self, Frame, Packet, connect_request};

const UNAUTHORIZED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\n\r\nNot authenticated";

#[test]
fn a_head_may_come_in_any_pieces() {
    let request = connect_request("d");
    for piece in [1, 7, request.len()] {
        let mut rig = Rig::new(1);
        let id = rig.accept(0);
        for bytes in request.chunks(piece) {
            assert!(rig.callbacks.is_empty());
            assert_eq!(rig.bytes(id, bytes), Input::Continue);
        }
        let asked = rig.callback(Event::Connect);
        assert_eq!(&asked.query[..], b"device=d");
        rig.answer(&asked, reply(200, &[("rainbowclientchannel", "a;;b")], ADMITTED));
        assert_eq!(rig.status(id), 101);
        rig.publish("a", Qos::AtMostOnce, b"x", 10);
        rig.publish("b", Qos::AtMostOnce, b"y", 10);
        assert_eq!(rig.packets(id).len(), 2);
    }
}

#[test]
fn without_credentials_the_business_is_not_asked_and_the_connection_stays() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    let bare = b"GET /connect/ HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(rig.bytes(id, bare), Input::Continue);
    assert_eq!(
        wire::take_answer(&mut rig.socket(id).out),
        Some((401, UNAUTHORIZED.to_vec()))
    );
    assert!(rig.callbacks.is_empty() && !rig.socket(id).closed);
    // Two more in one piece, the second one complete.
    rig.bytes(id, &[&bare[..], &connect_request("d")].concat());
    assert_eq!(rig.status(id), 401);
    let asked = rig.callback(Event::Connect);
    rig.answer(&asked, reply(200, &[], ADMITTED));
    assert_eq!(rig.status(id), 101);
}

#[test]
fn denied_and_unavailable() {
    let failed = |failure| CallbackOutcome::Failed(failure);
    for (outcome, status) in [
        (reply(200, &[], "{\"status\": \"no\"}"), 401),
        (reply(200, &[], "not json"), 503),
        (reply(403, &[], ADMITTED), 503),
        (failed(CallbackFailure::TimedOut), 503),
        (failed(CallbackFailure::Overloaded), 503),
    ] {
        let mut rig = Rig::new(1);
        let id = rig.accept(0);
        rig.bytes(id, &connect_request("d"));
        let asked = rig.callback(Event::Connect);
        rig.answer(&asked, outcome);
        assert_eq!(rig.status(id), status);
        assert!(!rig.socket(id).closed, "the connection is kept alive");
        rig.bytes(id, &connect_request("again"));
        rig.callback(Event::Connect);
        rig.end(id);
        assert!(rig.callbacks.is_empty(), "nobody was admitted");
    }
}

#[test]
fn upgrade_is_checked_after_the_business_was_asked() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    rig.bytes(
        id,
        b"GET /connect/ HTTP/1.1\r\nHost: h\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\n\r\n",
    );
    let asked = rig.callback(Event::Connect);
    rig.answer(&asked, reply(200, &[], ADMITTED));
    assert_eq!(rig.status(id), 400);
    rig.end(id);
    assert!(rig.callbacks.is_empty());
    assert_eq!(rig.shards[0].connections(), 0);
}

#[test]
fn early_frames_are_handled_after_the_101() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    let early = [wire::ping(b"early"), wire::send(false, 1, 9, 2, b"hello")].concat();
    let (first, rest) = early.split_at(9);
    rig.bytes(id, &[&connect_request("d"), first].concat());
    rig.bytes(id, rest);
    let asked = rig.callback(Event::Connect);
    assert!(
        rig.callbacks.is_empty(),
        "nothing is forwarded before the client is admitted"
    );
    rig.answer(&asked, reply(200, &[("rainbowclientcookie", "c")], ADMITTED));
    assert_eq!(rig.status(id), 101);
    assert_eq!(rig.frames(id), [Frame::Pong(b"early".to_vec())]);
    let message = rig.message();
    assert_eq!((&message.body[..], message.msgtype), (&b"hello"[..], 9));
    let headers = String::from_utf8(message.headers.to_vec()).unwrap().to_lowercase();
    assert!(headers.contains("rainbowclientcookie: c\r\n"), "{headers}");
    rig.answer_ok(&message, "");
    assert_eq!(rig.packets(id), [Packet::Ack { id: 2, data: vec![] }]);
}

#[test]
fn too_much_early_input_pauses_until_the_answer() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    rig.bytes(id, &connect_request("d"));
    let big = wire::send(false, 0, 1, 0, &[7; 65 * 1024]);
    assert_eq!(rig.bytes(id, &big), Input::Pause);
    let asked = rig.callback(Event::Connect);
    rig.answer(&asked, reply(200, &[], ADMITTED));
    assert!(rig.socket(id).resumed);
    assert_eq!(rig.message().body.len(), 65 * 1024);
}

#[test]
fn a_client_that_leaves_during_auth_is_never_registered() {
    for (admitted, closes) in [(true, 1), (false, 0)] {
        let mut rig = Rig::new(2);
        let id = rig.accept(1);
        rig.bytes(id, &connect_request("d"));
        let asked = rig.callback(Event::Connect);
        rig.end(id);
        assert!(
            rig.callbacks.is_empty(),
            "nothing is told before the business has decided"
        );
        let headers = [("rainbowclientchannel", "a"), ("rainbowclientcookie", "c")];
        rig.answer(
            &asked,
            reply(200, &headers, if admitted { ADMITTED } else { "{\"status\":\"no\"}" }),
        );
        assert_eq!(rig.callbacks.len(), closes);
        if admitted {
            let close = rig.callback(Event::Close);
            assert!(
                String::from_utf8(close.headers.to_vec())
                    .unwrap()
                    .to_lowercase()
                    .contains("cookie: c\r\n")
            );
        }
        assert_eq!(rig.shards[1].connections(), 0);
        let ticket = rig.publish("a", Qos::AtLeastOnce, b"", 10);
        assert_eq!(rig.published[&ticket], 0, "no ghost in the channel");
        assert!(!rig.join(id, "a"));
    }
}

#[test]
fn other_requests_are_handed_over_with_everything_read() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    let head = b"POST /send/?a=b HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(rig.bytes(id, &head[..10]), Input::Continue);
    let rest = [&head[10..], b"abcGET /hello/ HTTP/1.1\r\n\r\n"].concat();
    let all = [&head[..10], &rest].concat();
    assert_eq!(rig.bytes(id, &rest), Input::HandOver(all, ListenerId::MAIN));
    assert_eq!(rig.shards[0].connections(), 0);
    assert_eq!(rig.shards[0].next_deadline(), None, "its timer is gone");
    assert!(!rig.socket(id).closed, "the socket lives on elsewhere");
}

#[test]
fn a_refused_request_and_then_an_api_call() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    let api = b"GET /hello/ HTTP/1.1\r\n\r\n";
    let both = [b"GET /connect/ HTTP/1.1\r\n\r\n", &api[..]].concat();
    assert_eq!(rig.bytes(id, &both), Input::HandOver(api.to_vec(), ListenerId::MAIN));
    assert_eq!(rig.status(id), 401);
}

#[test]
fn an_answer_still_on_its_way_is_not_lost_to_a_hand_over() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    rig.socket(id).room = 20;
    let both = b"GET /connect/ HTTP/1.1\r\n\r\nGET /hello/ HTTP/1.1\r\n\r\n";
    let input = rig.bytes(id, both);
    assert!(
        !matches!(input, Input::HandOver(..)),
        "bytes of the first answer wait here"
    );
    rig.make_room(id, usize::MAX);
    assert_eq!(rig.status(id), 401);
    assert!(rig.socket(id).finished, "the caller asks again on a new connection");
}

#[test]
fn garbage_is_answered_and_the_connection_ends() {
    let mut rig = Rig::new(1);
    let id = rig.accept(0);
    rig.socket(id).room = 10;
    rig.bytes(id, b"\x16\x03\x01 hello\r\n\r\n");
    assert_eq!(rig.bytes(id, b"more garbage"), Input::Continue);
    rig.make_room(id, usize::MAX);
    assert_eq!(rig.status(id), 400);
    assert!(rig.socket(id).finished);
    rig.secs(5);
    assert!(rig.socket(id).closed);
    assert_eq!(rig.shards[0].connections(), 0);
}

#[test]
fn a_head_takes_too_long() {
    for (sent, answered) in [(&b""[..], false), (b"GET /conn", true)] {
        let mut rig = Rig::with(1, "handshake_timeout=10");
        let id = rig.accept(0);
        rig.bytes(id, sent);
        rig.advance(Duration::from_millis(9_900));
        assert!(!rig.socket(id).closed);
        rig.secs(1);
        assert!(rig.socket(id).closed || rig.socket(id).finished);
        assert_eq!(
            wire::take_answer(&mut rig.socket(id).out).map(|(status, _)| status),
            answered.then_some(408)
        );
        rig.secs(5);
        assert!(rig.socket(id).closed);
        assert_eq!(rig.shards[0].connections(), 0);
        assert!(rig.callbacks.is_empty());
    }
}

/// On the TLS port: what has not sent a byte goes first, and whoever has sent one has what is left of the whole time.
#[test]
fn the_first_byte_has_a_time_of_its_own() {
    let mut rig = Rig::with(1, "tls_first_byte_timeout=2\nhandshake_timeout=6");
    let accept = |rig: &mut Rig| {
        let id = rig.accept(0);
        let now = rig.now;
        rig.shards[0].await_first_byte(id, now);
        id
    };
    let (silent, begun, gone) = (accept(&mut rig), accept(&mut rig), accept(&mut rig));
    rig.secs(1);
    rig.turn(begun.shard, |shard, _, _| shard.on_first_byte(begun));
    rig.end(gone);
    rig.secs(1);
    assert!(rig.socket(silent).closed && !rig.socket(begun).closed);
    rig.secs(3);
    assert!(!rig.socket(begun).closed);
    rig.secs(1);
    assert!(rig.socket(begun).closed, "6 s after it came");
    assert_eq!(rig.shards[0].debug_counts().timers, 0);
    // Where there is less time for everything, that is what counts.
    let mut rig = Rig::with(1, "tls_first_byte_timeout=20\nhandshake_timeout=6");
    let silent = accept(&mut rig);
    rig.secs(6);
    assert!(rig.socket(silent).closed);
}

#[test]
fn an_endless_head_is_refused() {
    let mut rig = Rig::with(1, "head_bytes=1k");
    let id = rig.accept(0);
    rig.bytes(id, &[b"GET /connect/ HTTP/1.1\r\nX: ", &[b'a'; 2000][..]].concat());
    assert_eq!(rig.status(id) / 100, 4);
    rig.secs(5);
    assert!(rig.socket(id).closed);
}

#[test]
fn the_server_is_full() {
    let mut rig = Rig::with(1, "");
    let now = rig.now;
    let setup_max = 2;
    let mut config = crate::rig::config("");
    config.connections_max = setup_max;
    rig.shards[0].reload(config.into());
    rig.accept(0);
    let second = rig.accept(0);
    assert_eq!(rig.shards[0].on_accept(ListenerId::MAIN, now), None);
    rig.end(second);
    rig.accept(0);
}
