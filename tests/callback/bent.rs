//! `io::http`: answers that are bent but clear, answers that come early, and servers that write in pieces.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rainbow_server::engine::command::{CallbackFailure, CallbackReply};
use rainbow_server::io::http::Client;

use crate::client::{get, post, trusting};
use crate::server::{Peer, Server};
use crate::{far, on_both_drivers};

/// More than all socket buffers between two processes hold.
const LARGE: usize = 24 * 1024 * 1024;
const REFUSAL: &str = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\n\r\nlarge";

fn client() -> Client {
    Client::start(&trusting()).unwrap()
}

/// Reads up to the end of the head, and nothing behind it.
pub fn head_only<S: Read + Write>(peer: &mut Peer<S>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if peer.stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
}

pub fn large() -> Bytes {
    vec![b'x'; LARGE].into()
}

async fn packed(change: impl Fn(&mut Vec<u8>)) -> Result<CallbackReply, CallbackFailure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"{\"status\": \"success\"}").unwrap();
    let mut body = encoder.finish().unwrap();
    change(&mut body);
    let server = Server::start(move |peer| {
        while peer.request().is_some() {
            let length = body.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
            ));
            peer.send(&body);
        }
    });
    client().call(get(&server.url("/")), far()).await
}

#[test]
fn packed_answers_with_something_behind_or_without_their_end_are_read() {
    on_both_drivers(async || {
        let clear = b"{\"status\": \"success\"}";
        assert_eq!(packed(|body| body.push(b'\n')).await.unwrap().body, &clear[..]);
        assert_eq!(packed(|body| body.extend([0; 512])).await.unwrap().body, &clear[..]);
        assert_eq!(
            packed(|body| body.truncate(body.len() - 8)).await.unwrap().body,
            &clear[..]
        );
        let broken = packed(|body| body.truncate(body.len() - 9)).await;
        assert_eq!(broken, Err(CallbackFailure::Garbage));
    });
}

/// The server has seen enough, and resets what it did not read.
#[test]
fn an_answer_before_the_body_was_read_is_an_answer() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            head_only(peer);
            peer.send(REFUSAL);
        });
        let client = client();
        for _ in 0..10 {
            let reply = client.call(post(&server.url("/"), large()), far()).await.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (413, &b"large"[..]));
        }
        let reply = client.call(post(&server.url("/"), "small"), far()).await.unwrap();
        assert_eq!(reply.status, 413);
        assert_eq!(client.usage().resent, 0);
    });
}

/// The same from one that leaves the connection open and takes nothing.
#[test]
fn an_answer_while_the_body_is_stuck_is_an_answer() {
    on_both_drivers(async || {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let server = Server::start(move |peer| {
            head_only(peer);
            peer.send(REFUSAL);
            let _ = held.lock().unwrap().recv();
        });
        let client = client();
        let reply = client.call(post(&server.url("/"), large()), far()).await.unwrap();
        assert_eq!((reply.status, client.usage().idle), (413, 0));
        drop(release);
    });
}

#[test]
fn an_interim_answer_while_the_body_is_stuck_stops_nothing() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            head_only(peer);
            peer.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            std::thread::sleep(Duration::from_millis(200)); // by now the client waits for room
            let mut body = vec![0; LARGE];
            peer.stream.read_exact(&mut body).unwrap();
            assert!(body.iter().all(|&byte| byte == b'x'));
            peer.ok("all of it");
        });
        let reply = client().call(post(&server.url("/"), large()), far()).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"all of it"[..]));
    });
}

/// With Nagle's algorithm the server sends its second write when the first is acknowledged, and a kernel that has something to
/// send soon delays that by 40 ms. What is compared is how long the same calls take with one write and with two.
#[test]
fn head_and_body_apart_cost_no_delayed_acknowledgement() {
    on_both_drivers(async || {
        let took = async |apart: bool| {
            let server = Server::start(move |peer| {
                while peer.request().is_some() {
                    let (head, body) = ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok");
                    if apart {
                        peer.send(head);
                        peer.send(body);
                    } else {
                        peer.send([head, body].concat());
                    }
                }
            });
            let client = client();
            let start = Instant::now();
            for _ in 0..100 {
                client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            }
            assert_eq!(server.connections(), 1);
            start.elapsed()
        };
        let (together, apart) = (took(false).await, took(true).await);
        assert!(
            apart < 10 * together,
            "{apart:?} with two writes, {together:?} with one"
        );
    });
}
