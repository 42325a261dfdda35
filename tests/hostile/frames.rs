//! Frames no correct client sends, and clients that vanish or do not read (spec §9, §14; RFC 6455 §5, §7.4.1).

use super::common::client::{Client, Op, Open, encode};
use super::common::http::Request;
use super::common::{SOON, eventually, ms, packet};
use super::{expect_healthy, setup};
use std::time::Duration;

const MESSAGE_MAX: usize = 10_485_760;

/// The close frame, if any, that came before the end of the stream; nothing else may come.
fn ends_with(client: &Client) -> Option<Vec<u8>> {
    let frames = client.until_eof(SOON).expect("the server closes the connection");
    assert!(
        frames.len() <= 1 && frames.iter().all(|f| f.op == Op::Close),
        "unexpected frames {frames:?}"
    );
    frames.into_iter().next().map(|f| f.payload)
}

#[test]
fn announced_length_over_the_limit_is_refused_before_the_payload() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(MESSAGE_MAX as u64 + 1).to_be_bytes());
    client
        .raw(&[&head[..], &[1, 2, 3, 4], b"only the beginning"].concat())
        .expect("write");
    let close = ends_with(&client).expect("a close frame");
    assert_eq!(
        close.get(..2),
        Some(&1009u16.to_be_bytes()[..]),
        "close payload {close:?}"
    );
    business.wait_for("/close/", 1, SOON);
    expect_healthy(&business, &server);
}

#[test]
fn message_of_the_greatest_length_is_forwarded() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let payload = vec![b'x'; MESSAGE_MAX - 3];
    client.send(&packet::send(0, 7, 0, &payload));
    let forwarded = business.wait_for("/message/7/", 1, Duration::from_secs(20));
    assert!(
        forwarded[0].body == payload,
        "{} bytes were forwarded",
        forwarded[0].body.len()
    );
}

#[test]
fn fragments_over_the_limit_together_are_refused() {
    let (business, server) = setup(|b| b.set("message_max", 1024));
    let client = Client::open(server.port());
    client
        .raw(&encode(Op::Binary, &[0x10; 600], false, true))
        .expect("write");
    client.frame(Op::Ping, b"in between");
    client.expect(Op::Pong, b"in between");
    client
        .raw(&encode(Op::Continuation, &[0; 600], true, true))
        .expect("write");
    let close = ends_with(&client).expect("a close frame");
    assert_eq!(
        close.get(..2),
        Some(&1009u16.to_be_bytes()[..]),
        "close payload {close:?}"
    );
    expect_healthy(&business, &server);
    assert_eq!(
        business.requests_to("/message/").len(),
        1,
        "only the healthy client's message"
    );
}

#[test]
fn endless_empty_fragments_do_no_harm() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    let empty = encode(Op::Continuation, b"", false, true);
    client.raw(&encode(Op::Binary, b"", false, true)).expect("write");
    let _ = client.raw(&empty.repeat(100_000));
    expect_healthy(&business, &server);
}

#[test]
fn unmasked_frame_is_refused_by_default() {
    let (business, server) = setup(|b| b);
    let client = Client::open(server.port());
    client
        .raw(&encode(Op::Binary, &packet::send(1, 7, 1, "x"), true, false))
        .expect("write");
    ends_with(&client);
    business.wait_for("/close/", 1, SOON);
    assert!(
        business.requests_to("/message/").is_empty(),
        "an unmasked frame was forwarded"
    );
    expect_healthy(&business, &server);
}

#[test]
fn unmasked_frame_is_accepted_where_configured() {
    let (_business, server) = setup(|b| b.set("accept_unmasked", "yes"));
    let client = Client::open(server.port());
    client
        .raw(&encode(Op::Binary, &packet::send(1, 7, 1, "x"), true, false))
        .expect("write");
    client.expect(Op::Binary, &packet::ack(1, "ok"));
}

/// What a setting lets clients do is their door's affair: echo stands for RFC 6455.
#[test]
fn unmasked_frame_is_refused_at_the_echo_door_whatever_is_configured() {
    let (_business, server) = setup(|b| b.set("accept_unmasked", "yes").set("echo", "yes"));
    let client = Client::open_with(
        server.port(),
        Open {
            target: "/echo/".into(),
            ..Open::default()
        },
    );
    client.raw(&encode(Op::Text, b"x", true, false)).expect("write");
    client.expect(Op::Close, &1002u16.to_be_bytes());
}

#[test]
fn protocol_errors_end_the_connection() {
    let (business, server) = setup(|b| b);
    let mut longest = vec![0x82, 0xff];
    longest.extend_from_slice(&[0xff; 12]);
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("reserved bit", [&[0xc2, 0x81, 0, 0, 0, 0][..], b"x"].concat()),
        ("reserved opcode 3", encode(Op::Other(3), b"x", true, true)),
        ("reserved opcode 11", encode(Op::Other(11), b"x", true, true)),
        (
            "continuation without a start",
            encode(Op::Continuation, b"x", true, true),
        ),
        (
            "start within a message",
            encode(Op::Binary, b"x", false, true).repeat(2),
        ),
        ("control frame of 126 bytes", encode(Op::Ping, &[0; 126], true, true)),
        ("fragmented control frame", encode(Op::Ping, b"x", false, true)),
        (
            "text that is not UTF-8",
            encode(Op::Text, b"\x10\x00\x01\xff\xfe", true, true),
        ),
        ("length with the highest bit", longest),
    ];
    let count = bad.len();
    for (what, bytes) in bad {
        let client = Client::open(server.port());
        client.raw(&bytes).expect("write");
        assert!(client.until_eof(SOON).is_some(), "{what}: the connection stays open");
    }
    business.wait_for("/close/", count, SOON);
    server.expect_no_channels();
    assert!(business.requests_to("/message/").is_empty());
    std::thread::sleep(ms(300));
    assert_eq!(business.requests_to("/close/").len(), count, "one close callback each");
    expect_healthy(&business, &server);
}

#[test]
fn malformed_close_frame_ends_the_connection_once() {
    let (business, server) = setup(|b| b);
    for payload in [&b"\x03"[..], &[0x03, 0xe8, 0xff, 0xff], &[0, 0], &[0xff, 0xff, b'x']] {
        let client = Client::open(server.port());
        client.frame(Op::Close, payload);
        assert!(
            client.until_eof(SOON).is_some(),
            "close frame {payload:?}: the connection stays open"
        );
    }
    business.wait_for("/close/", 4, SOON);
    server.expect_no_channels();
    assert_eq!(business.requests_to("/close/").len(), 4);
}

#[test]
fn vanished_clients_are_closed_once_each() {
    let (business, server) = setup(|b| b);
    Client::open(server.port()).drop_now();
    Client::open(server.port()).reset();
    let half_closed = Client::open(server.port());
    half_closed.half_close();
    let within_a_frame = Client::open(server.port());
    within_a_frame
        .raw(&encode(Op::Binary, &[0x10; 600], true, true)[..300])
        .expect("write");
    within_a_frame.drop_now();
    let within_a_message = Client::open(server.port());
    within_a_message
        .raw(&encode(Op::Binary, &[0x10; 600], false, true))
        .expect("write");
    within_a_message.reset();
    business.wait_for("/close/", 5, SOON);
    server.expect_no_channels();
    assert!(
        half_closed.until_eof(SOON).is_some(),
        "a half-closed connection is closed by the server"
    );
    std::thread::sleep(ms(300));
    assert_eq!(business.requests_to("/close/").len(), 5, "one close callback each");
    assert!(business.requests_to("/message/").is_empty());
}

#[test]
fn client_that_never_reads_is_closed_and_others_are_not_affected() {
    const PUSHES: usize = 500;
    let (business, server) = setup(|b| b.set("outbox_bytes", 1 << 20));
    let reading = Client::open(server.port());
    let before = server.resident_kib();
    let lazy = Client::open_with(
        server.port(),
        Open {
            read: false,
            receive_buffer: Some(4096),
            auto_pong: false,
            ..Open::device("lazy")
        },
    );
    let body = vec![b'f'; 65_536];
    for _ in 0..PUSHES {
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        assert_eq!(reading.expect_send(SOON).1.len(), body.len());
    }
    business.wait_for("/close/", 1, SOON);
    assert!(
        eventually(SOON, || server.channels() == [("room".to_owned(), 1)]),
        "{:?}",
        server.channels()
    );
    assert!(
        lazy.write_fails_within(SOON),
        "the client that does not read is still connected"
    );
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "memory grew by {grown} KiB");
    reading.expect_silence(ms(100));
    expect_healthy(&business, &server);
}

#[test]
fn qos_1_flood_to_a_client_that_never_reads_ends() {
    let (business, server) = setup(|b| b.set("outbox_bytes", 2 << 20));
    let lazy = Open {
        read: false,
        receive_buffer: Some(4096),
        auto_pong: false,
        ..Open::default()
    };
    let _lazy = Client::open_with(server.port(), lazy);
    let push = Request::post("/send/", vec![b'f'; 1 << 20]);
    let push = push.query("channel", "room").query("qos", 1).query("timeout", 2);
    std::thread::scope(|scope| {
        let call = || (0..10).find(|_| server.api(&push)["connections"] == 0);
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(call)).collect();
        for caller in callers {
            assert!(caller.join().expect("caller").is_some(), "the channel never emptied");
        }
    });
    business.wait_for("/close/", 1, SOON);
    server.expect_no_channels();
}

#[test]
fn pings_from_a_client_that_never_reads_do_not_fill_memory() {
    let (business, server) = setup(|b| b.set("outbox_bytes", 1 << 18));
    let before = server.resident_kib();
    let lazy = Open {
        read: false,
        receive_buffer: Some(4096),
        auto_pong: false,
        ..Open::default()
    };
    let lazy = Client::open_with(server.port(), lazy);
    let pings = encode(Op::Ping, &[b'p'; 125], true, true).repeat(1000);
    let flood = lazy.write_half();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut flood = flood;
        for _ in 0..400 {
            if flood.write_all(&pings).is_err() {
                return;
            }
        }
    });
    std::thread::sleep(Duration::from_secs(2));
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    lazy.drop_now();
    expect_healthy(&business, &server);
}
