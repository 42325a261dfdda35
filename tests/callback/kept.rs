//! `io::http`: which connections are used again, with servers that end theirs in all sorts of ways. The real ones are in
//! `tests/backends`.

use std::sync::Mutex;
use std::time::Duration;

use rainbow_server::io::http::{Client, Options};

use crate::client::{get, post};
use crate::server::Server;
use crate::{far, on_both_drivers, pause};

/// Short enough for a test, and longer than a server of `quick_to_close` leaves a connection open.
const PROOF: Duration = Duration::from_millis(400);

fn client(proof: Duration) -> Client {
    let options = Options {
        proof,
        ..Options::default()
    };
    Client::start(&options).unwrap()
}

fn keeps() -> Server {
    Server::start(|peer| {
        while let Some(seen) = peer.request() {
            peer.ok("x");
            if seen.head.contains("Connection: close\r\n") {
                return;
            }
        }
    })
}

/// Ends every connection 300 µs after its answer, without a word about it, as uWSGI does.
fn quick_to_close() -> Server {
    Server::start(|peer| {
        peer.request();
        peer.ok("x");
        std::thread::sleep(Duration::from_micros(300));
    })
}

#[test]
fn a_server_that_closes_without_a_word_loses_no_message() {
    on_both_drivers(async || {
        let (server, client) = (quick_to_close(), client(PROOF));
        let url = server.url("/");
        for _ in 0..200 {
            client.call(post(&url, "alone"), far()).await.unwrap();
        }
        for _ in 0..20 {
            let calls: Vec<_> = (0..10)
                .map(|_| {
                    let (client, url) = (client.clone(), url.clone());
                    monoio::spawn(async move { client.call(post(&url, "beside others"), far()).await })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        }
        assert_eq!((server.seen().len(), client.usage().reused), (400, 0));
    });
}

#[test]
fn reuse_is_earned_by_a_connection_that_stays_open() {
    on_both_drivers(async || {
        let (server, client) = (keeps(), client(PROOF));
        let url = server.url("/");
        for _ in 0..5 {
            client.call(post(&url, "a"), far()).await.unwrap();
        }
        assert_eq!((client.usage().reused, client.usage().dialled), (0, 5));
        let asked_to_close = |seen: &[crate::server::Seen]| {
            let closing = |seen: &&crate::server::Seen| seen.head.contains("\r\nConnection: close\r\n");
            seen.iter().filter(closing).count()
        };
        assert_eq!(asked_to_close(&server.seen()), 4, "the first is looked at");
        while client.usage().reused == 0 {
            pause(100).await;
            client.call(post(&url, "a"), far()).await.unwrap();
        }
        let (dialled, closing) = (client.usage().dialled, asked_to_close(&server.seen()));
        for _ in 0..20 {
            client.call(post(&url, "a"), far()).await.unwrap();
        }
        assert_eq!(client.usage().dialled, dialled);
        assert_eq!(asked_to_close(&server.seen()), closing);
    });
}

/// Its only worker waits for the next request of the connection it has: whoever leaves it one holds up everybody.
#[test]
fn a_server_that_serves_one_connection_at_a_time_is_not_held_up() {
    on_both_drivers(async || {
        let worker = Mutex::new(());
        let server = Server::start(move |peer| {
            let _busy = worker.lock().unwrap();
            while let Some(seen) = peer.request() {
                peer.ok("x");
                if seen.head.contains("Connection: close\r\n") {
                    return;
                }
            }
        });
        let client = client(Duration::from_secs(60));
        for _ in 0..20 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
        }
        assert_eq!(client.usage().dialled, 20);
    });
}

#[test]
fn a_server_that_breaks_a_kept_connection_is_not_believed_for_a_while() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            for request in 0.. {
                if peer.request().is_none() || (peer.connection == 0 && request == 2) {
                    return;
                }
                peer.ok("x");
            }
        });
        let client = client(Duration::ZERO);
        for _ in 0..3 {
            client.call(get(&server.url("/")), far()).await.unwrap();
        }
        let usage = client.usage();
        assert_eq!((usage.reused, usage.resent, usage.dialled), (2, 1, 2));
        for _ in 0..3 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
        }
        assert_eq!((client.usage().reused, client.usage().dialled), (2, 5));
    });
}

/// However busy: the name may lead elsewhere by now.
#[test]
fn connections_do_not_get_old() {
    on_both_drivers(async || {
        let server = keeps();
        let options = Options {
            proof: Duration::ZERO,
            age_max: Duration::from_millis(300),
            ..Options::default()
        };
        let client = Client::start(&options).unwrap();
        while server.connections() < 4 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            pause(10).await;
        }
        assert!(client.usage().reused >= 4);
    });
}

/// `Keep-Alive: max=3` on every answer, by a server that means it and one that counts down.
#[test]
fn announced_numbers_of_requests_are_heeded() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            for _ in 0..3 {
                if peer.request().is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nKeep-Alive: max=3\r\nContent-Length: 0\r\n\r\n");
                }
            }
            let unexpected = peer.request();
            assert!(unexpected.is_none());
        });
        let client = client(Duration::ZERO);
        for _ in 0..12 {
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
        }
        assert_eq!((server.connections(), client.usage().reused), (4, 8));
    });
}

#[test]
fn announced_times_are_heeded_with_a_margin() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            while peer.request().is_some() {
                peer.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let client = client(Duration::ZERO);
        for (wait, reused) in [(0, 0), (100, 1), (1100, 1)] {
            pause(wait).await;
            client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            assert_eq!(client.usage().reused, reused, "after {wait} ms");
        }
    });
}

/// A status without a body whose headers promise one: it may come, and would be taken for the next answer.
#[test]
fn a_connection_on_which_a_body_may_still_come_is_not_kept() {
    on_both_drivers(async || {
        for promise in [
            "204 No Content\r\nTransfer-Encoding: chunked",
            "204 No Content\r\nContent-Length: 5",
            "304 Not Modified\r\nTransfer-Encoding: chunked",
            "304 Not Modified\r\nContent-Length: 5",
        ] {
            let server = Server::start(move |peer| {
                while peer.request().is_some() {
                    peer.send(format!("HTTP/1.1 {promise}\r\n\r\n"));
                    std::thread::sleep(Duration::from_millis(5));
                    peer.send("0\r\n\r\n");
                }
            });
            let client = client(Duration::ZERO);
            for _ in 0..10 {
                client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            }
            assert_eq!(client.usage().reused, 0, "{promise}");
        }
    });
}

/// `Content-Length: 0` promises nothing.
#[test]
fn a_status_without_a_body_keeps_its_connection() {
    on_both_drivers(async || {
        for answer in [
            "204 No Content",
            "204 No Content\r\nContent-Length: 0",
            "304 Not Modified",
        ] {
            let server = Server::start(move |peer| {
                while peer.request().is_some() {
                    peer.send(format!("HTTP/1.1 {answer}\r\n\r\n"));
                }
            });
            let client = client(Duration::ZERO);
            for _ in 0..3 {
                client.call(post(&server.url("/"), "a"), far()).await.unwrap();
            }
            assert_eq!(client.usage().reused, 2, "{answer}");
        }
    });
}
