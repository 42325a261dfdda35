//! Clients that do not read: bytes and age of what waits for them, both policies, and what the others notice.

use super::common::business::Reply;
use super::common::client::{Client, Open};
use super::common::http::Request;
use super::common::{SOON, eventually, ms, packet};
use super::{Server, metric, setup};
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn lazy(server: &Server) -> Client {
    Client::open_with(server.port(), Open::lazy())
}

#[test]
fn a_stuck_client_costs_the_others_nothing() {
    const PUSHES: usize = 300;
    let (business, server) = setup(|b| b.set("workers", 2).set("outbox_bytes", "1m"));
    let healthy: Vec<Client> = (0..6)
        .map(|n| Client::open_with(server.port(), Open::device(&format!("h{n}"))))
        .collect();
    let before = server.resident_kib();
    let stuck = lazy(&server);
    let body = vec![b'f'; 32 * 1024];
    let mut slowest = Duration::ZERO;
    for _ in 0..PUSHES {
        let started = Instant::now();
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        for client in &healthy {
            assert_eq!(client.expect_send(SOON).1.len(), body.len());
        }
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "one push took {slowest:?}");
    business.wait_for("/close/", 1, SOON);
    assert!(stuck.write_fails_within(SOON), "the stuck client is still connected");
    assert_eq!(metric(&server, "rainbow_closes_total{cause=\"slow_consumer\"}"), 1);
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "memory grew by {grown} KiB");
    assert!(eventually(SOON, || server.channels() == [("room".to_owned(), 6)]));
}

#[test]
fn bytes_do_not_wait_for_ever() {
    let (business, server) = setup(|b| b.set("outbox_bytes", "64m").set("outbox_seconds", 1));
    let reading = Client::open(server.port());
    let stuck = lazy(&server);
    let body = vec![b'f'; 256 * 1024];
    for _ in 0..40 {
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        assert_eq!(reading.expect_send(SOON).1.len(), body.len());
    }
    let pushed = Instant::now();
    business.wait_for("/close/", 1, SOON);
    assert!(pushed.elapsed() < Duration::from_secs(6));
    assert_eq!(metric(&server, "rainbow_outbox_expired_total"), 1);
    assert!(stuck.write_fails_within(Duration::from_secs(10)));
    // Who is read only now and then is not slow as long as it empties.
    assert_eq!(server.send("room", 0, "x")["status"], 0);
    std::thread::sleep(ms(1500));
    assert_eq!(reading.expect_send(SOON).1, b"x");
}

/// Reads the payloads of whole frames until nothing comes for a while.
fn read_frames(mut stream: TcpStream) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 2];
        stream.set_read_timeout(Some(ms(1500))).expect("timeout");
        if stream.read_exact(&mut head).is_err() {
            return frames;
        }
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        if head == [0x89, 0] {
            // The ping behind the last repetition of a message.
            continue;
        }
        assert_eq!((head[0], head[1] & 0x80), (0x82, 0), "not the head of a frame: torn");
        let mut length = u64::from(head[1]);
        if length >= 126 {
            let mut bytes = [0; 8];
            let size = if length == 126 { 2 } else { 8 };
            stream.read_exact(&mut bytes[8 - size..]).expect("length");
            length = u64::from_be_bytes(bytes);
        }
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("a whole frame");
        frames.push(payload);
    }
}

/// 12 MiB to a client that reads 1 MB/s: all of it arrives, is acknowledged, and nobody is closed for it. (What waits in the
/// kernel counts as handed over, so on a machine under load one repetition may follow.)
#[test]
fn a_large_message_with_acknowledgement_reaches_a_client_that_reads() {
    const SIZE: usize = 12 << 20;
    let (_business, server) = setup(|b| b.set("outbox_bytes", "1m"));
    let client = lazy(&server);
    let mut stream = client.write_half();
    let reader = std::thread::spawn(move || {
        let (mut piece, mut left) = (vec![0; 64 * 1024], SIZE + 10 + 5);
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        while left > 0 {
            let most = left.min(piece.len());
            let count = stream.read(&mut piece[..most]).expect("the message");
            assert!(count > 0, "closed with {left} bytes to come");
            left -= count;
            std::thread::sleep(Duration::from_micros(count as u64));
        }
        client.send(&packet::ack(1, "read"));
        client
    });
    let request = Request::post("/send/", vec![b'b'; SIZE])
        .query("channel", "room")
        .query("message_type", 1)
        .query("qos", 1)
        .query("timeout", 35);
    let answer = server.api(&request);
    let client = reader.join().expect("the reader");
    assert_eq!(
        (&answer["connections"], &answer["data"]),
        (&1.into(), &"read".into()),
        "{answer}"
    );
    assert_eq!(metric(&server, "rainbow_closes_total{cause=\"slow_consumer\"}"), 0);
    drop(client);
}

#[test]
fn the_oldest_messages_are_dropped_where_configured() {
    const PUSHES: u32 = 600;
    let (business, server) = setup(|b| {
        b.set("slow_consumer", "drop_oldest")
            .set("outbox_bytes", "256k")
            .set("outbox_seconds", 0)
    });
    let reading = Client::open(server.port());
    business.reply("/connect/", Reply::channels("room;;own"));
    let slow = lazy(&server);
    let push = |number: u32| {
        // Both small ones, which are copied, and large ones, which are shared.
        let size = if number.is_multiple_of(3) { 100 } else { 20_000 };
        let body = [&number.to_be_bytes()[..], &vec![number as u8; size]].concat();
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        assert_eq!(reading.expect_send(SOON).1, body);
    };
    (0..PUSHES / 2).for_each(push);
    let sure = Request::post("/send/", b"sure")
        .query("channel", "own")
        .query("qos", 1)
        .query("timeout", 1);
    server.api(&sure);
    (PUSHES / 2..PUSHES).for_each(push);
    assert!(metric(&server, "rainbow_outbox_drops_total") >= 2);
    assert!(metric(&server, "rainbow_outbox_dropped_bytes_total") > 1_000_000);
    let frames = read_frames(slow.write_half());
    let acknowledged = frames.iter().filter(|frame| frame.ends_with(b"sure")).count();
    assert!(acknowledged >= 1, "a message with acknowledgement is never dropped");
    let mut numbers = Vec::new();
    for frame in frames.iter().filter(|frame| !frame.ends_with(b"sure")) {
        let number = u32::from_be_bytes(frame[3..7].try_into().expect("four bytes"));
        assert!(frame[7..].iter().all(|byte| *byte == number as u8), "torn");
        numbers.push(number);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&(PUSHES - 1)), "the newest are there");
    assert!(numbers.len() < PUSHES as usize, "nothing was dropped");
    assert!(business.requests_to("/close/").is_empty());
}

#[test]
fn a_stuck_client_is_closed_where_messages_are_dropped_too() {
    let (business, server) = setup(|b| {
        b.set("slow_consumer", "drop_oldest")
            .set("outbox_bytes", "256k")
            .set("outbox_seconds", 1)
    });
    let stuck = lazy(&server);
    let body = vec![b'f'; 64 * 1024];
    for _ in 0..100 {
        assert_eq!(server.send("room", 0, &body)["status"], 0);
    }
    // What was begun cannot be dropped and does not get older than this.
    business.wait_for("/close/", 1, SOON);
    assert!(stuck.write_fails_within(Duration::from_secs(10)));
}
