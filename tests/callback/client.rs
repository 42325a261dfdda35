//! `io::http`: one call at a time.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use rainbow_server::engine::command::{CallbackFailure, CallbackReply};
use rainbow_server::io::http::{Client, FORM, Options, Request, Url};

use crate::server::{Peer, Server};
use crate::{far, on_both_drivers, pause, within};

/// Believes at once that servers keep connections; what it takes to believe that is tried in `habit.rs`.
fn client() -> Client {
    Client::start(&trusting()).unwrap()
}

pub fn trusting() -> Options {
    Options {
        proof: Duration::ZERO,
        ..Options::default()
    }
}

pub fn get(url: &str) -> Request {
    Request {
        url: Url::parse(url.as_bytes()).unwrap(),
        method: Method::GET,
        headers: Bytes::from_static(b"Rainbowclientidentity: abc\r\n"),
        content_type: FORM,
        body: Bytes::new(),
    }
}

pub fn post(url: &str, body: impl Into<Bytes>) -> Request {
    Request {
        method: Method::POST,
        body: body.into(),
        ..get(url)
    }
}

/// Answers every request with the same bytes and keeps the connection.
fn always(answer: impl Into<Vec<u8>>) -> Server {
    let answer = answer.into();
    Server::start(move |peer| {
        while peer.request().is_some() {
            peer.send(&answer);
        }
    })
}

async fn one(answer: impl Into<Vec<u8>>) -> Result<CallbackReply, CallbackFailure> {
    let server = always(answer);
    client().call(get(&server.url("/")), far()).await
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn requests_look_like_the_originals() {
    on_both_drivers(async || {
        let server = always("HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 2\r\n\r\nok");
        let client = client();
        let url = server.url("/p?q=1").replace("http://", "http://u:p@");
        let reply = client.call(post(&url, "hello"), far()).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]));
        let values: Vec<_> = reply.headers_named(b"x-a").collect();
        assert_eq!(values, ["1", "2"]);
        client.call(get(&server.url("/g")), far()).await.unwrap();

        let seen = server.seen();
        let host = format!("127.0.0.1:{}", server.port);
        assert_eq!(
            seen[0].head,
            format!(
                "POST /p?q=1 HTTP/1.1\r\nHost: {host}\r\nRainbowclientidentity: abc\r\nAccept-Encoding: gzip\r\n\
                 Authorization: Basic dTpw\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\n"
            )
        );
        assert_eq!(seen[0].body, b"hello");
        assert_eq!(
            seen[1].head,
            format!("GET /g HTTP/1.1\r\nHost: {host}\r\nRainbowclientidentity: abc\r\nAccept-Encoding: gzip\r\n\r\n")
        );
    });
}

#[test]
fn connections_are_kept_and_the_last_one_goes_first() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            while let Some(seen) = peer.request() {
                if seen.line().ends_with("slow") {
                    std::thread::sleep(Duration::from_millis(700));
                }
                peer.ok("x");
            }
        });
        let client = client();
        for _ in 0..3 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
        }
        assert_eq!((server.connections(), client.usage().idle), (1, 1));
        let (slow, url) = (client.clone(), server.url("/slow"));
        let slow = monoio::spawn(async move { slow.call(get(&url), far()).await });
        pause(100).await;
        client.call(get(&server.url("/fast")), far()).await.unwrap();
        slow.await.unwrap();
        client.call(get(&server.url("/last")), far()).await.unwrap();
        let last = server.seen().pop().unwrap();
        assert_eq!((last.line(), last.connection), ("GET /last", 0)); // the slow one came back last
        assert_eq!((client.usage().dialled, client.usage().reused), (2, 4));
    });
}

#[test]
fn unused_connections_are_closed() {
    on_both_drivers(async || {
        let server = always("HTTP/1.1 204 No Content\r\n\r\n");
        let options = Options {
            idle: Duration::from_millis(100),
            ..trusting()
        };
        let client = Client::start(&options).unwrap();
        client.call(get(&server.url("/")), far()).await.unwrap();
        assert_eq!(client.usage().idle, 1);
        pause(200).await;
        client.call(get(&server.url("/")), far()).await.unwrap();
        assert_eq!(client.usage().dialled, 2, "older than allowed");
        pause(2200).await;
        assert_eq!(client.usage().idle, 0, "swept");
    });
}

#[test]
fn a_connection_closed_meanwhile_is_not_used() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            peer.request();
            peer.ok("x");
        });
        let client = client();
        for count in 1..=3 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            server.until_ended(count).await;
        }
        assert_eq!((client.usage().reused, client.usage().dialled), (0, 3));
    });
}

/// The first connection answers once and ends without a byte when the next request is there.
fn forgetful() -> Server {
    Server::start(|peer| {
        peer.request();
        peer.ok("first");
        if peer.connection > 0 {
            while peer.request().is_some() {
                peer.ok("again");
            }
        } else {
            peer.request();
        }
    })
}

#[test]
fn a_get_is_repeated_once_on_a_fresh_connection() {
    on_both_drivers(async || {
        let (server, client) = (forgetful(), client());
        client.call(get(&server.url("/1")), far()).await.unwrap();
        client.call(get(&server.url("/2")), far()).await.unwrap();
        let lines: Vec<_> = server
            .seen()
            .iter()
            .map(|s| (s.connection, s.line().to_owned()))
            .collect();
        let expected = [(0, "GET /1"), (0, "GET /2"), (1, "GET /2")];
        assert_eq!(lines, expected.map(|(c, line)| (c, line.to_owned())));
        assert_eq!(client.usage().resent, 1);
    });
}

#[test]
fn a_post_is_never_repeated_blindly() {
    on_both_drivers(async || {
        let (server, client) = (forgetful(), client());
        client.call(post(&server.url("/1"), "a"), far()).await.unwrap();
        let second = client.call(post(&server.url("/2"), "b"), far()).await;
        assert_eq!(second, Err(CallbackFailure::Dropped));
        assert_eq!((server.seen().len(), client.usage().resent), (2, 0));
    });
}

#[test]
fn a_get_on_a_fresh_connection_is_not_repeated() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            peer.request();
        });
        let result = client().call(get(&server.url("/")), far()).await;
        assert_eq!(result, Err(CallbackFailure::Dropped));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_get_is_not_repeated_after_a_byte_of_an_answer() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            peer.request();
            peer.ok("x");
            peer.request();
            peer.send("H");
        });
        let client = client();
        client.call(get(&server.url("/")), far()).await.unwrap();
        let second = client.call(get(&server.url("/")), far()).await;
        assert_eq!(second, Err(CallbackFailure::Dropped));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn bodies_of_every_framing_are_read() {
    on_both_drivers(async || {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(one(chunked).await.unwrap().body, "hello world");

        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\nx";
        let reply = one(interim).await.unwrap();
        assert_eq!((reply.status, reply.headers.len()), (201, 1));

        let bodiless = one("HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n")
            .await
            .unwrap();
        assert_eq!((bodiless.status, bodiless.body.len()), (204, 0));
        assert_eq!(
            one("HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
                .await
                .unwrap()
                .status,
            304
        );

        let large: String = "0123456789".repeat(300_000);
        let framed = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{large}", large.len());
        assert!(one(framed).await.unwrap().body == large);
    });
}

#[test]
fn a_large_request_body_arrives_whole() {
    on_both_drivers(async || {
        let server = always("HTTP/1.1 204 No Content\r\n\r\n");
        let body = Bytes::from("0123456789".repeat(200_000));
        client()
            .call(post(&server.url("/"), body.clone()), far())
            .await
            .unwrap();
        assert!(server.seen()[0].body == body);
    });
}

#[test]
fn an_answer_in_single_bytes_is_the_same() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            peer.request();
            let answer =
                "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            peer.stream.set_nodelay(true).unwrap();
            for byte in answer.bytes() {
                peer.send([byte]);
                std::thread::sleep(Duration::from_micros(300));
            }
            peer.request();
            peer.ok("kept");
        });
        let client = client();
        assert_eq!(client.call(get(&server.url("/")), far()).await.unwrap().body, "abc");
        assert_eq!(client.call(get(&server.url("/")), far()).await.unwrap().body, "kept");
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn packed_bodies_are_unpacked_within_bounds() {
    on_both_drivers(async || {
        let packed = |body: &[u8]| {
            let body = gzip(body);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        };
        assert_eq!(one(packed(b"squeezed")).await.unwrap().body, "squeezed");
        assert_eq!(one(packed(b"")).await.unwrap().body, "");
        let empty = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(one(empty).await.unwrap().body, "");

        let bomb = packed(&vec![0; 11 * 1024 * 1024]);
        assert!(bomb.len() < 100_000);
        assert_eq!(one(bomb).await, Err(CallbackFailure::Garbage));
        let broken = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope";
        assert_eq!(one(broken).await, Err(CallbackFailure::Garbage));
    });
}

/// Answers once with `answer` and says how many connections two calls needed.
async fn connections_for_two(answer: &'static str, close: bool) -> usize {
    let server = Server::start(move |peer: &mut Peer| {
        while peer.request().is_some() {
            peer.send(answer);
            if close {
                return;
            }
        }
    });
    let client = client();
    for _ in 0..2 {
        let reply = client.call(post(&server.url("/"), "a"), far()).await.unwrap();
        assert_eq!(reply.body, "ok", "{answer}");
    }
    server.connections()
}

#[test]
fn only_trustworthy_connections_are_kept() {
    on_both_drivers(async || {
        for (answer, close, connections) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 1),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
                false,
                1,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 2),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                false,
                2,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
                false,
                2,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nok", true, 2),
        ] {
            assert_eq!(connections_for_two(answer, close).await, connections, "{answer}");
        }
    });
}

#[test]
fn garbage_is_called_garbage() {
    on_both_drivers(async || {
        let huge_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let many_lines = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(500));
        let endless_interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        for answer in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
            &huge_head,
            &many_lines,
            &endless_interim,
        ] {
            let label = &answer[..answer.len().min(80)];
            assert_eq!(one(answer).await, Err(CallbackFailure::Garbage), "{label}");
        }
    });
}

#[test]
fn a_cut_off_answer_is_dropped() {
    on_both_drivers(async || {
        for answer in [
            "HTTP/1.1 200 OK\r\nConte",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            let server = Server::start(move |peer| {
                peer.request();
                peer.send(answer);
            });
            let result = client().call(get(&server.url("/")), far()).await;
            assert_eq!(result, Err(CallbackFailure::Dropped), "{answer}");
        }
    });
}

#[test]
fn the_deadline_holds_whatever_the_server_does() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            while let Some(seen) = peer.request() {
                match seen.line() {
                    "GET /trickle" => {
                        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                        for _ in 0..200 {
                            peer.send("x");
                            std::thread::sleep(Duration::from_millis(10));
                        }
                    }
                    "GET /silent" => std::thread::sleep(Duration::from_millis(600)),
                    _ => {}
                }
                peer.ok("x");
            }
        });
        let client = client();
        for path in ["/trickle", "/silent"] {
            client.call(get(&server.url("/warm")), far()).await.unwrap();
            let start = Instant::now();
            let result = client.call(get(&server.url(path)), within(150)).await;
            assert_eq!(result, Err(CallbackFailure::TimedOut), "{path}");
            assert!(start.elapsed() < Duration::from_secs(2), "{path}");
            assert_eq!(client.usage().idle, 0, "a call cut off takes its connection along");
        }
        assert_eq!(
            client.call(get(&server.url("/")), within(0)).await,
            Err(CallbackFailure::TimedOut)
        );
    });
}

#[test]
fn a_call_cut_off_closes_its_connection() {
    on_both_drivers(async || {
        let (ended, end) = std::sync::mpsc::channel();
        let server = Server::start(move |peer| {
            peer.request();
            let _ = ended.send(peer.request().is_none()); // waits for the client's end
        });
        let result = client().call(get(&server.url("/")), within(50)).await;
        assert_eq!(result, Err(CallbackFailure::TimedOut));
        pause(100).await; // lets the runtime reap the cancelled read
        assert_eq!(end.recv_timeout(Duration::from_secs(5)), Ok(true));
    });
}

/// Otherwise the kernel delivers a request that has failed whenever the line is mended.
#[test]
fn a_call_given_up_is_taken_back() {
    on_both_drivers(async || {
        let (ended, end) = std::sync::mpsc::channel();
        let server = Server::start(move |peer| {
            peer.request();
            let _ = ended.send(peer.stream.read(&mut [0]).map_err(|error| error.kind()));
        });
        let result = client().call(post(&server.url("/"), "hello"), within(50)).await;
        assert_eq!(result, Err(CallbackFailure::TimedOut));
        pause(100).await; // lets the runtime reap the cancelled read
        let reset = Err(std::io::ErrorKind::ConnectionReset);
        assert_eq!(end.recv_timeout(Duration::from_secs(5)), Ok(reset));
    });
}

#[test]
fn redirects_are_followed() {
    on_both_drivers(async || {
        let target = always("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ntarget");
        let port = target.port;
        let server = Server::start(move |peer| {
            while let Some(seen) = peer.request() {
                let (status, location) = match seen.line().split(' ').nth(1).unwrap() {
                    "/301" => (301, "/end".to_owned()),
                    "/302" => (302, "end?x=1".to_owned()),
                    "/303" => (303, "/end".to_owned()),
                    "/307" => (307, format!("http://127.0.0.1:{port}/other")),
                    "/308" => (308, "/307".to_owned()),
                    "/loop" => (302, "/loop".to_owned()),
                    "/nowhere" => (302, "ftp://x/".to_owned()),
                    "/5" => (302, "/4".to_owned()),
                    "/4" => (302, "/3".to_owned()),
                    "/3" => (302, "/2".to_owned()),
                    "/2" => (302, "/1".to_owned()),
                    "/1" => (302, "/end".to_owned()),
                    _ => {
                        peer.ok("end");
                        continue;
                    }
                };
                peer.send(format!(
                    "HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                ));
            }
        });
        let client = client();
        let follow = async |path: &str| client.call(post(&server.url(path), "body"), far()).await;
        let last = || server.seen().pop().unwrap();

        assert_eq!(follow("/301").await.unwrap().body, "end");
        assert_eq!((last().line(), &last().body[..]), ("POST /end", &b"body"[..]));
        follow("/302").await.unwrap();
        assert_eq!((last().line(), last().body.len()), ("GET /end?x=1", 0));
        assert!(last().head.contains("Rainbowclientidentity: abc\r\n") && !last().head.contains("Content-"));
        follow("/303").await.unwrap();
        assert_eq!(last().line(), "GET /end");
        assert_eq!(follow("/308").await.unwrap().body, "target");
        let other = target.seen().pop().unwrap();
        assert_eq!((other.line(), &other.body[..]), ("POST /other", &b"body"[..]));
        assert!(other.head.contains(&format!("Host: 127.0.0.1:{port}\r\n")));

        assert_eq!(follow("/5").await.unwrap().body, "end", "five are followed");
        assert_eq!(follow("/loop").await, Err(CallbackFailure::Redirects));
        assert_eq!(follow("/nowhere").await, Err(CallbackFailure::Redirects));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn names_are_resolved_and_failures_told_apart() {
    on_both_drivers(async || {
        let server = always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let client = client();
        let by_name = server.url("/").replace("127.0.0.1", "localhost");
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (client, url) = (client.clone(), by_name.clone());
                monoio::spawn(async move { client.call(get(&url), far()).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let unknown = client.call(get("http://no-such-name.invalid/"), far()).await;
        assert_eq!(unknown, Err(CallbackFailure::Unresolved));
        // Bound, so that nobody else gets the port, but not listening.
        let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        taken
            .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into())
            .unwrap();
        let port = taken.local_addr().unwrap().as_socket().unwrap().port();
        let refused = client.call(get(&format!("http://127.0.0.1:{port}/x")), far()).await;
        assert_eq!(refused, Err(CallbackFailure::Refused));
    });
}
