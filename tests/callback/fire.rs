//! Callbacks to servers that are down, hang, fail or are slow: who is asked, who waits, who is told.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rainbow_server::control::callback::{BreakerState, Settings};
use rainbow_server::engine::command::CallbackFailure;

use crate::schedule::{Bench, CLOSE, CONNECT, Door, MESSAGE, hanging, healthy, narrow};
use crate::server::Server;
use crate::{on_both_drivers, pause, within};

/// Opens after five failures; probes soon.
fn touchy(in_flight: usize, queued: usize) -> Settings {
    Settings {
        breaker_failures: 5,
        breaker_pause: Duration::from_millis(100),
        ..narrow(in_flight, queued)
    }
}

/// A port nobody listens on.
fn silent_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Answers every request with the status stored.
fn answering(status: &Arc<AtomicU16>) -> Server {
    let status = status.clone();
    Server::start(move |peer| {
        while peer.request().is_some() {
            let status = status.load(Ordering::SeqCst);
            peer.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
    })
}

async fn until(bench: &Bench, what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        bench.assert_balanced();
        pause(2).await;
    }
}

#[test]
fn messages_survive_an_outage_and_a_dead_server_is_only_probed() {
    on_both_drivers(async || {
        let port = silent_port();
        let url = format!("http://127.0.0.1:{port}/");
        let door = Door::to([&url, &url, &url]);
        let bench = Bench::new(door.clone(), touchy(4, 1000));
        for token in 0..300 {
            bench.submit(MESSAGE, token);
        }
        until(&bench, "opens", || {
            bench.callbacks.health(MESSAGE).breaker == BreakerState::Open
        })
        .await;
        pause(500).await;
        let attempts = door.nonces.borrow().len();
        assert!(attempts <= 16, "{attempts} attempts at a dead server");
        let lost = bench.done.borrow().len();
        assert_eq!(lost + bench.callbacks.counts(MESSAGE).queued as usize, 300);
        assert!(lost <= 16, "only those that were tried: {lost}");

        let server = Server::start_on(port, |peer| {
            while peer.request().is_some() {
                peer.ok("ok");
            }
        });
        bench.until_done(300).await;
        let counts = bench.callbacks.counts(MESSAGE);
        assert_eq!((counts.expired, counts.opened), (0, 1), "{counts:?}");
        assert_eq!(counts.success as usize, server.seen().len());
        assert_eq!(bench.callbacks.health(MESSAGE).breaker, BreakerState::Closed);
        let late: Vec<_> = bench.tokens().split_off(counts.failed as usize);
        let oldest = *late.iter().min().unwrap();
        assert_eq!(late[0], oldest, "the oldest was the probe");
    });
}

#[test]
fn clients_are_refused_at_once_while_nobody_answers() {
    on_both_drivers(async || {
        let port = silent_port();
        let (dead, other) = (format!("http://127.0.0.1:{port}/"), healthy());
        let settings = Settings {
            breaker_pause: Duration::from_secs(4),
            ..touchy(1, 1000)
        };
        let bench = Bench::new(Door::to([&dead, &other.url("/"), &other.url("/")]), settings);
        for token in 0..300 {
            bench.submit(CONNECT, token);
        }
        let start = Instant::now();
        bench.until_done(300).await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "those that queued are told too"
        );
        bench.submit(CONNECT, 300);
        assert_eq!(bench.tokens().last(), Some(&300), "before the call returns");
        let refused = |failures: &[(u64, CallbackFailure)]| {
            failures
                .iter()
                .filter(|(_, failure)| *failure == CallbackFailure::Overloaded)
                .count()
        };
        assert_eq!(refused(&bench.failures()), 296);
        assert_eq!(bench.callbacks.counts(CONNECT).overloaded, 296);
        bench.submit(MESSAGE, 400); // other lanes do not care
        bench.until_done(302).await;
        assert_eq!(bench.callbacks.counts(MESSAGE).success, 1);
    });
}

#[test]
fn a_refused_client_comes_back_and_is_the_probe() {
    on_both_drivers(async || {
        let status = Arc::new(AtomicU16::new(503));
        let server = answering(&status);
        let url = server.url("/");
        let bench = Bench::new(Door::to([&url, &url, &url]), touchy(10, 10));
        for token in 0..5 {
            bench.submit(CONNECT, token);
        }
        bench.until_done(5).await;
        bench.submit(CONNECT, 5);
        assert_eq!(bench.failures(), [(5, CallbackFailure::Overloaded)]);
        status.store(200, Ordering::SeqCst);
        pause(150).await;
        bench.submit(CONNECT, 6);
        assert_eq!(bench.callbacks.health(CONNECT).breaker, BreakerState::Probing);
        bench.until_done(7).await;
        assert_eq!(bench.callbacks.health(CONNECT).breaker, BreakerState::Closed);
        assert_eq!(bench.callbacks.counts(CONNECT).success, 1);
    });
}

#[test]
fn close_callbacks_wait_for_the_server() {
    on_both_drivers(async || {
        let port = silent_port();
        let url = format!("http://127.0.0.1:{port}/");
        let door = Door::to([&url, &url, &url]);
        let bench = Bench::new(door.clone(), touchy(4, 1000));
        for token in 0..200 {
            bench.submit(CLOSE, token);
        }
        pause(1000).await;
        bench.assert_balanced();
        let attempts = door.nonces.borrow().len();
        assert!((5..=20).contains(&attempts), "{attempts}");
        assert_eq!(bench.callbacks.drain(within(1)).await, 200);
        let _server = Server::start_on(port, |peer| {
            while peer.request().is_some() {
                peer.ok("ok");
            }
        });
        bench.until_done(200).await;
        let mut tokens = bench.tokens();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..200).collect::<Vec<_>>());
        assert_eq!(bench.callbacks.counts(CLOSE).success, 200);
    });
}

#[test]
fn a_server_that_hangs_on_messages_is_still_asked_about_clients() {
    on_both_drivers(async || {
        let (hangs, _release) = hanging();
        let server = healthy();
        let settings = Settings {
            timeout: Duration::from_millis(400),
            ..touchy(8, 1000)
        };
        let (good, bad) = (server.url("/"), hangs.url("/"));
        let bench = Bench::new(Door::to([&good, &bad, &good]), settings);
        for token in 0..40 {
            bench.submit(MESSAGE, token);
        }
        until(&bench, "opens", || bench.callbacks.counts(MESSAGE).opened == 1).await;
        let start = Instant::now();
        for token in 100..200 {
            bench.submit(CONNECT, token);
            bench.submit(CLOSE, token + 100);
        }
        until(&bench, "others", || {
            bench.tokens().iter().filter(|&&token| token >= 100).count() == 200
        })
        .await;
        assert!(start.elapsed() < Duration::from_secs(2));
        bench.until_done(240).await;
        let counts = bench.callbacks.counts(MESSAGE);
        assert_eq!(counts.failed + counts.expired, 40, "by their deadline");
    });
}

#[test]
fn a_slow_server_that_answers_keeps_all_its_places() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            while peer.request().is_some() {
                std::thread::sleep(Duration::from_millis(300));
                peer.ok("ok");
            }
        });
        let url = server.url("/");
        let settings = Settings {
            timeout: Duration::from_secs(2),
            ..touchy(20, 1000)
        };
        let bench = Bench::new(Door::to([&url, &url, &url]), settings);
        for token in 0..400 {
            bench.submit(MESSAGE, token);
        }
        bench.until_done(400).await;
        let (counts, health) = (bench.callbacks.counts(MESSAGE), bench.callbacks.health(MESSAGE));
        assert!(counts.expired > 100 && counts.success >= 40, "{counts:?}");
        assert_eq!(
            (health.limit, health.breaker, counts.opened),
            (20, BreakerState::Closed, 0)
        );
    });
}

#[test]
fn fewer_calls_at_once_while_most_fail_and_all_again_later() {
    on_both_drivers(async || {
        let status = Arc::new(AtomicU16::new(502));
        let server = answering(&status);
        let url = server.url("/");
        let settings = Settings {
            breaker_failures: 0,
            ..touchy(32, 10_000)
        };
        let bench = Bench::new(Door::to([&url, &url, &url]), settings);
        for token in 0..300 {
            bench.submit(MESSAGE, token);
        }
        bench.until_done(300).await;
        assert_eq!(bench.callbacks.health(MESSAGE).limit, 2, "a sixteenth");
        status.store(200, Ordering::SeqCst);
        for token in 300..2300 {
            bench.submit(MESSAGE, token);
        }
        assert!(bench.callbacks.counts(MESSAGE).in_flight <= 2);
        bench.until_done(2300).await;
        assert_eq!(bench.callbacks.health(MESSAGE).limit, 32);
        assert_eq!(bench.callbacks.counts(MESSAGE).success, 2000);
    });
}

#[test]
fn what_a_handler_says_about_one_message_closes_no_door() {
    on_both_drivers(async || {
        for said in [400, 404, 429, 500] {
            let server = answering(&Arc::new(AtomicU16::new(said)));
            let url = server.url("/");
            let bench = Bench::new(Door::to([&url, &url, &url]), touchy(4, 1000));
            for token in 0..100 {
                bench.submit(MESSAGE, token);
            }
            bench.until_done(100).await;
            assert_eq!(server.seen().len(), 100, "{said}");
        }
    });
}

#[test]
fn without_retries_a_close_callback_still_gets_its_attempt() {
    on_both_drivers(async || {
        let status = Arc::new(AtomicU16::new(200));
        let server = answering(&status);
        let url = server.url("/");
        let settings = Settings {
            close_retry: Duration::ZERO,
            ..narrow(1, 100)
        };
        let bench = Bench::new(Door::to([&url, &url, &url]), settings);
        for token in 0..10 {
            bench.submit(CLOSE, token);
        }
        bench.until_done(10).await;
        assert_eq!(bench.callbacks.counts(CLOSE).success, 10);
        status.store(503, Ordering::SeqCst);
        bench.submit(CLOSE, 10);
        bench.until_done(11).await;
        let counts = bench.callbacks.counts(CLOSE);
        assert_eq!((counts.expired, counts.retried, server.seen().len()), (1, 0, 11));
    });
}

#[test]
fn a_new_builder_forgets_what_was_known() {
    on_both_drivers(async || {
        let url = format!("http://127.0.0.1:{}/", silent_port());
        let bench = Bench::new(Door::to([&url, &url, &url]), touchy(10, 10));
        for token in 0..5 {
            bench.submit(CONNECT, token);
        }
        bench.until_done(5).await;
        assert_eq!(bench.callbacks.health(CONNECT).breaker, BreakerState::Open);
        let server = healthy();
        let url = server.url("/");
        bench.callbacks.rebuild(vec![Door::to([&url, &url, &url])]);
        assert_eq!(bench.callbacks.health(CONNECT).breaker, BreakerState::Closed);
        bench.submit(CONNECT, 5);
        bench.until_done(6).await;
        assert_eq!(bench.callbacks.counts(CONNECT).success, 1);
    });
}
