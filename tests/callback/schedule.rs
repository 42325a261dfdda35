//! `control::callback`: many calls, their order, their bounds, their books.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use rainbow_server::control::callback::{Builder, Callbacks, LaneLimits, Settings};
use rainbow_server::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest};
use rainbow_server::engine::hook::{Event, Hook, HookDoor};
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::io::http::{Client, FORM, Options, Origin, Request, Url};

use crate::server::Server;
use crate::{on_both_drivers, pause, within};

/// The hooks of the one door there is.
pub const CONNECT: Hook = HookDoor(0).on(Event::Connect);
pub const MESSAGE: Hook = HookDoor(0).on(Event::Message);
pub const CLOSE: Hook = HookDoor(0).on(Event::Close);
const HOOKS: [Hook; 3] = [CONNECT, MESSAGE, CLOSE];

/// One URL per event; the target tells the token and how the request was built.
pub struct Door {
    urls: [Option<Url>; 3],
    pub nonces: RefCell<Vec<u64>>,
}

impl Door {
    pub fn to(urls: [&str; 3]) -> Rc<Door> {
        Rc::new(Door {
            urls: urls.map(|url| Url::parse(url.as_bytes())),
            nonces: RefCell::default(),
        })
    }

    fn url(&self, request: &CallbackRequest) -> Option<&Url> {
        self.urls[request.hook.event as usize].as_ref()
    }
}

impl Builder for Door {
    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        self.url(request).map(|url| url.origin.clone())
    }

    fn build(&self, request: &CallbackRequest, unix_seconds: u64, nonce: u64) -> Option<Request> {
        assert!(unix_seconds > 1_600_000_000);
        self.nonces.borrow_mut().push(nonce);
        let mut url = self.url(request)?.clone();
        let target = [&url.target[..], format!("{}", request.token).as_bytes()].concat();
        url.target = target.into();
        let method = if request.hook == MESSAGE {
            Method::POST
        } else {
            Method::GET
        };
        Some(Request {
            url,
            method,
            headers: request.headers.clone(),
            content_type: FORM,
            body: request.body.clone(),
        })
    }
}

/// A scheduler whose completions are collected.
pub struct Bench {
    pub callbacks: Callbacks,
    pub done: Rc<RefCell<Vec<(u64, CallbackOutcome)>>>,
}

impl Bench {
    pub fn new(door: Rc<Door>, settings: Settings) -> Bench {
        Bench::of(vec![door], settings)
    }

    /// Of several doors.
    pub fn of(doors: Vec<Rc<Door>>, settings: Settings) -> Bench {
        let doors = doors.into_iter().map(|door| door as Rc<dyn Builder>).collect();
        let done: Rc<RefCell<Vec<(u64, CallbackOutcome)>>> = Rc::default();
        let sink = done.clone();
        let client = Client::start(&crate::client::trusting()).unwrap();
        let completion = Rc::new(move |request: &CallbackRequest, outcome| {
            assert_eq!(request.client, client_id(request.token));
            sink.borrow_mut().push((request.token, outcome));
        });
        let callbacks = Callbacks::start(client, doors, completion, settings);
        Bench { callbacks, done }
    }

    pub fn submit(&self, hook: Hook, token: u64) {
        self.callbacks.submit(request(hook, token));
        self.assert_balanced();
    }

    pub fn assert_balanced(&self) {
        for hook in HOOKS {
            let counts = self.callbacks.counts(hook);
            assert!(counts.is_balanced(), "{hook:?}: {counts:?}");
        }
    }

    pub async fn until_done(&self, count: usize) {
        let start = Instant::now();
        while self.done.borrow().len() < count {
            assert!(
                start.elapsed() < Duration::from_secs(15),
                "{} of {count}",
                self.done.borrow().len()
            );
            self.assert_balanced();
            pause(5).await;
        }
    }

    pub fn tokens(&self) -> Vec<u64> {
        self.done.borrow().iter().map(|(token, _)| *token).collect()
    }

    pub fn failures(&self) -> Vec<(u64, CallbackFailure)> {
        let failure = |(token, outcome): &(u64, CallbackOutcome)| match outcome {
            CallbackOutcome::Failed(failure) => Some((*token, *failure)),
            CallbackOutcome::Answered(_) => None,
        };
        self.done.borrow().iter().filter_map(failure).collect()
    }
}

fn client_id(token: u64) -> ClientId {
    ClientId {
        shard: ShardId(1),
        slot: token as u32,
        generation: 7,
    }
}

pub fn request(hook: Hook, token: u64) -> CallbackRequest {
    CallbackRequest {
        client: client_id(token),
        token,
        hook,
        msgtype: 0,
        query: Bytes::new(),
        headers: Bytes::from_static(b"Rainbowclientidentity: x\r\n"),
        body: Bytes::from_static(b"body"),
        address: 0,
    }
}

pub fn narrow(in_flight: usize, queued: usize) -> Settings {
    let lane = LaneLimits { in_flight, queued };
    Settings {
        connect: lane,
        message: lane,
        close: lane,
        timeout: Duration::from_secs(10),
        close_retry: Duration::from_secs(20),
        breaker_failures: 0,
        breaker_pause: Duration::from_secs(1),
    }
}

pub fn healthy() -> Server {
    Server::start(|peer| {
        while peer.request().is_some() {
            peer.ok("ok");
        }
    })
}

/// Answers nothing until its sender is dropped or speaks.
pub fn hanging() -> (Server, std::sync::mpsc::Sender<()>) {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let server = Server::start(move |peer| {
        while peer.request().is_some() {
            let _ = held.lock().unwrap().recv();
            peer.ok("late");
        }
    });
    (server, release)
}

#[test]
fn a_lane_starts_in_order_and_never_beyond_its_bound() {
    on_both_drivers(async || {
        let server = healthy();
        let url = server.url("/");
        let bench = Bench::new(Door::to([&url, &url, &url]), narrow(1, 1000));
        for token in 0..200 {
            bench.submit(MESSAGE, token);
        }
        assert_eq!(bench.callbacks.counts(MESSAGE).in_flight, 1);
        bench.until_done(200).await;
        assert_eq!(bench.tokens(), (0..200).collect::<Vec<_>>());
        let lines: Vec<_> = server.seen().iter().map(|seen| seen.line().to_owned()).collect();
        assert_eq!(
            lines,
            (0..200).map(|token| format!("POST /{token}")).collect::<Vec<_>>()
        );
        assert_eq!(server.connections(), 1);
        let counts = bench.callbacks.counts(MESSAGE);
        assert_eq!((counts.submitted, counts.success, counts.in_flight), (200, 200, 0));
    });
}

#[test]
fn many_at_once_share_connections() {
    on_both_drivers(async || {
        let server = healthy();
        let url = server.url("/");
        let bench = Bench::new(Door::to([&url, &url, &url]), narrow(20, 10_000));
        for token in 0..1000 {
            bench.submit(HOOKS[token as usize % 3], token);
        }
        bench.until_done(1000).await;
        assert_eq!(bench.failures(), []);
        assert!(server.connections() <= 60, "{}", server.connections());
        assert_eq!(bench.callbacks.drain(within(1000)).await, 0);
    });
}

#[test]
fn a_hanging_hook_delays_no_other() {
    on_both_drivers(async || {
        let (hangs, release) = hanging();
        let server = healthy();
        let bench = Bench::new(
            Door::to([&server.url("/"), &hangs.url("/"), &server.url("/")]),
            narrow(2, 100),
        );
        for token in 0..50 {
            bench.submit(MESSAGE, token);
        }
        for token in 100..150 {
            bench.submit(CONNECT, token);
            bench.submit(CLOSE, token + 100);
        }
        bench.until_done(100).await;
        assert!(bench.tokens().iter().all(|&token| token >= 100));
        let stuck = bench.callbacks.counts(MESSAGE);
        assert_eq!((stuck.in_flight, stuck.queued), (2, 48));
        drop(release);
        bench.until_done(150).await;
        assert_eq!(bench.failures(), []);
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    on_both_drivers(async || {
        let (hangs, release) = hanging();
        let url = hangs.url("/");
        let bench = Bench::new(Door::to([&url, &url, &url]), narrow(2, 3));
        for token in 0..10 {
            bench.submit(CONNECT, token);
        }
        let overloaded: Vec<_> = (5..10).map(|token| (token, CallbackFailure::Overloaded)).collect();
        assert_eq!(bench.failures(), overloaded);
        assert_eq!(bench.callbacks.counts(CONNECT).overloaded, 5);

        bench.callbacks.reload(narrow(5, 3)); // room for all
        bench.assert_balanced();
        assert_eq!(bench.callbacks.counts(CONNECT).in_flight, 5);
        drop(release);
        bench.until_done(10).await;
        assert_eq!(bench.callbacks.counts(CONNECT).success, 5);
    });
}

#[test]
fn the_deadline_covers_the_time_in_the_queue() {
    on_both_drivers(async || {
        let (hangs, _release) = hanging();
        let url = hangs.url("/");
        let settings = Settings {
            timeout: Duration::from_millis(300),
            ..narrow(1, 100)
        };
        let bench = Bench::new(Door::to([&url, &url, &url]), settings);
        let start = Instant::now();
        for token in 0..20 {
            bench.submit(MESSAGE, token);
        }
        bench.until_done(20).await;
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(
            bench
                .failures()
                .iter()
                .all(|(_, failure)| *failure == CallbackFailure::TimedOut)
        );
        let counts = bench.callbacks.counts(MESSAGE);
        assert_eq!(counts.failed + counts.expired, 20);
        assert!(counts.failed >= 1 && counts.expired >= 1, "{counts:?}");
    });
}

#[test]
fn statuses_are_booked() {
    on_both_drivers(async || {
        let server = Server::start(|peer| {
            while let Some(seen) = peer.request() {
                let status = seen.line().rsplit('/').next().unwrap().to_owned();
                peer.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let url = server.url("/");
        let bench = Bench::new(Door::to([&url, &url, "nothing"]), narrow(5, 5));
        bench.submit(CONNECT, 200);
        bench.submit(CONNECT, 401);
        bench.submit(CONNECT, 500);
        bench.submit(CLOSE, 9);
        bench.until_done(4).await;
        let counts = bench.callbacks.counts(CONNECT);
        assert_eq!((counts.success, counts.failed), (1, 2));
        assert_eq!(bench.failures(), [(9, CallbackFailure::Unresolved)], "no URL for it");
        assert_eq!(server.seen().len(), 3, "only close callbacks are repeated");
    });
}

#[test]
fn close_callbacks_are_repeated_until_accepted() {
    on_both_drivers(async || {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = reserved.local_addr().unwrap().port();
        drop(reserved);
        let url = format!("http://127.0.0.1:{port}/");
        let door = Door::to([&url, &url, &url]);
        let bench = Bench::new(door.clone(), narrow(4, 100));
        for token in 0..10 {
            bench.submit(CLOSE, token);
        }
        while bench.callbacks.counts(CLOSE).retried < 10 {
            bench.assert_balanced();
            pause(5).await;
        }
        assert_eq!(bench.callbacks.drain(within(50)).await, 10, "they wait");

        let troubles = Arc::new(Mutex::new(3));
        let server = Server::start_on(port, move |peer| {
            while peer.request().is_some() {
                let mut troubles = troubles.lock().unwrap();
                let status = if *troubles > 0 { "502 Down" } else { "501 Heard" };
                *troubles = i32::max(*troubles - 1, 0);
                peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        assert_eq!(bench.callbacks.drain(within(10_000)).await, 0);
        let mut tokens = bench.tokens();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..10).collect::<Vec<_>>(), "each exactly once");
        assert_eq!((server.seen().len(), bench.failures().len()), (13, 0));
        let counts = bench.callbacks.counts(CLOSE);
        assert_eq!(counts.success, 10);
        assert!(counts.retried >= 13);

        let mut nonces = door.nonces.borrow().clone();
        let attempts = nonces.len();
        assert_eq!(attempts as u64, counts.retried + 10);
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), attempts, "every attempt is built anew");
    });
}

#[test]
fn close_callbacks_are_given_up_in_the_end() {
    on_both_drivers(async || {
        let settings = Settings {
            close_retry: Duration::from_millis(700),
            ..narrow(4, 100)
        };
        let bench = Bench::new(Door::to(["x", "x", "http://127.0.0.1:1/"]), settings);
        bench.submit(CLOSE, 1);
        bench.until_done(1).await;
        assert_eq!(bench.failures(), [(1, CallbackFailure::Refused)]);
        let counts = bench.callbacks.counts(CLOSE);
        assert_eq!((counts.expired, counts.failed), (1, 0));
        assert!(counts.retried >= 1);
    });
}

#[test]
fn of_too_many_close_callbacks_the_oldest_give_way() {
    on_both_drivers(async || {
        let (hangs, release) = hanging();
        let bench = Bench::new(Door::to(["x", "x", &hangs.url("/")]), narrow(1, 5));
        for token in 0..10 {
            bench.submit(CLOSE, token);
        }
        let gone: Vec<_> = (1..5).map(|token| (token, CallbackFailure::Overloaded)).collect();
        assert_eq!(bench.failures(), gone);
        assert_eq!(bench.callbacks.counts(CLOSE).expired, 4);
        drop(release);
        bench.until_done(10).await;
        assert_eq!(bench.tokens(), [1, 2, 3, 4, 0, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn a_completion_may_submit() {
    on_both_drivers(async || {
        let server = healthy();
        let url = server.url("/");
        let again: Rc<RefCell<Option<Callbacks>>> = Rc::default();
        let (handle, rounds) = (again.clone(), Rc::new(Cell::new(0)));
        let counted = rounds.clone();
        let completion = Rc::new(move |ended: &CallbackRequest, _| {
            counted.set(counted.get() + 1);
            let token = ended.token;
            if token > 0 {
                let handle = handle.borrow().clone().unwrap();
                handle.submit(request(MESSAGE, token - 1));
            }
        });
        let client = Client::start(&Options::default()).unwrap();
        let callbacks = Callbacks::start(client, vec![Door::to([&url, &url, &url])], completion, narrow(1, 1));
        *again.borrow_mut() = Some(callbacks.clone());
        callbacks.submit(request(MESSAGE, 20));
        assert_eq!(callbacks.drain(within(10_000)).await, 0);
        assert_eq!(rounds.get(), 21);
        again.borrow_mut().take();
    });
}

#[test]
fn an_unknown_name_does_not_stall_the_core() {
    on_both_drivers(async || {
        let url = "http://no-such-name.invalid/";
        let bench = Bench::new(Door::to([url, url, url]), narrow(1, 1000));
        for token in 0..300 {
            bench.submit(MESSAGE, token);
        }
        bench.until_done(300).await;
        assert_eq!(bench.failures().len(), 300);
        assert_eq!(bench.callbacks.counts(MESSAGE).failed, 300);
    });
}
