//! `--takeover`: a new process takes the listening sockets of the one that runs, which closes its clients and ends. Real
//! binaries, one after the other on one port, while clients and callers come in all the time.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod place;
mod refusals;

use common::business::{Business, Reply};
use common::client::{Client, Op, Open};
use common::http::{self, Request};
use common::server::{Builder, Server, TOKEN};
use common::{SOON, eventually, ms, packet, ports};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients and callers that come in until told to stop, each on a connection of its own.
struct Crowd {
    ends: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn start(port: u16) -> Self {
        let mut crowd = Self {
            ends: Arc::default(),
            served: Arc::default(),
            threads: Vec::new(),
        };
        crowd.comes(move |_| match http::call(port, &Request::get("/hello/"), SOON) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("hello: {}", answer.status)),
            Err(error) => Err(format!("hello: {error}")),
        });
        crowd.comes(move |_| {
            let send = Request::post("/send/", "x").query("channel", "nobody").query("qos", 1);
            match http::call(port, &send.signed(TOKEN), SOON) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("send: {}", answer.status)),
                Err(error) => Err(format!("send: {error}")),
            }
        });
        for thread in 0..2 {
            crowd.comes(move |n| {
                let client = Client::start(port, Open::device(&format!("crowd-{thread}-{n}")));
                let client = client.map_err(|error| format!("connect: {error}"))?;
                match client.answer(SOON) {
                    Ok(answer) if answer.status == 101 => {}
                    Ok(answer) => return Err(format!("upgrade: {}", answer.status)),
                    Err(error) => return Err(format!("upgrade: {error}")),
                }
                client.frame(Op::Close, &1000_u16.to_be_bytes());
                // Ours, or the one that tells that the server drains, comes first.
                match client.until_eof(SOON).as_deref() {
                    Some([frame, ..]) if frame.op == Op::Close => Ok(()),
                    other => Err(format!("close: {other:?}")),
                }
            });
        }
        crowd
    }

    fn comes(&mut self, call: impl Fn(usize) -> Result<(), String> + Send + 'static) {
        let (ends, served) = (self.ends.clone(), self.served.clone());
        self.threads.push(std::thread::spawn(move || {
            let mut failures = Vec::new();
            for n in 0..100_000 {
                if ends.load(SeqCst) {
                    break;
                }
                match call(n) {
                    Ok(()) => drop(served.fetch_add(1, SeqCst)),
                    Err(failure) => failures.push(failure),
                }
            }
            failures
        }));
    }

    /// Waits until so many more have been served.
    fn wait_for(&self, more: usize) {
        let goal = self.served.load(SeqCst) + more;
        assert!(
            eventually(SOON, || self.served.load(SeqCst) >= goal),
            "nobody is served"
        );
    }

    /// How many were served, and what went wrong.
    fn end(self) -> (usize, Vec<String>) {
        self.ends.store(true, SeqCst);
        let failures = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("crowd"));
        (self.served.load(SeqCst), failures.collect())
    }
}

/// Business server whose clients are in `room`, but for the crowd.
fn business() -> Business {
    let business = Business::start();
    business.hook(|request| {
        let is_crowd = request
            .header("x-deviceid")
            .is_some_and(|device| device.starts_with("crowd"));
        (request.path == "/connect/" && !is_crowd).then(|| Reply::channels("room"))
    });
    business
}

fn nothing_is_refused(configure: impl Fn(Builder) -> Builder) {
    let (business, port) = (business(), Arc::new(ports::claim()));
    let builder = |workers: usize| {
        let builder = Builder::new(&business).on(&port).set("workers", workers);
        configure(builder.set("drain_timeout", 20).set("drain_rate", 40))
    };
    let mut server = builder(2).start();
    let crowd = Crowd::start(port.number);
    crowd.wait_for(20);
    let mut device = 0;
    for workers in [1, 3] {
        let stayed: Vec<_> = (0..20)
            .map(|_| {
                device += 1;
                Client::open_with(port.number, Open::device(&format!("stays-{device}")))
            })
            .collect();
        let successor = builder(workers).arg("--takeover").start();
        crowd.wait_for(20);
        for client in &stayed {
            let frame = client.next(SOON).expect("told to come back");
            assert_eq!(
                (frame.op, &frame.payload[..2]),
                (Op::Close, &1012_u16.to_be_bytes()[..])
            );
            assert!(frame.payload[2..].starts_with(b"reconnect_after="), "{frame:?}");
            client.frame(Op::Close, b"");
            assert!(client.until_eof(SOON).is_some());
        }
        assert_eq!(
            server.wait_exit(Duration::from_secs(25)),
            Some(0),
            "{}",
            server.log_tail()
        );
        let back = Client::open(port.number);
        assert_eq!(successor.send("room", 0, "welcome")["status"], 0);
        assert_eq!(back.expect_send(SOON).1, b"welcome");
        back.frame(Op::Close, &1000_u16.to_be_bytes());
        assert!(back.until_eof(SOON).is_some());
        server = successor;
    }
    crowd.wait_for(20);
    let (served, failures) = crowd.end();
    assert!(
        failures.is_empty(),
        "{} of {served}: {:?}",
        failures.len(),
        failures.first()
    );
    server.signal("TERM");
    assert_eq!(server.wait_exit(Duration::from_secs(25)), Some(0));
    let mut closes: BTreeMap<String, usize> = BTreeMap::new();
    for request in business.requests_to("/close/") {
        *closes.entry(request.identity()).or_default() += 1;
    }
    let admitted = business.requests_to("/connect/").len();
    assert_eq!(closes.len(), admitted, "one close callback for each client");
    assert!(closes.values().all(|times| *times == 1), "one close callback each");
}

#[test]
fn nothing_is_refused_while_servers_change() {
    nothing_is_refused(|builder| builder);
}

#[test]
fn nothing_is_refused_on_epoll() {
    nothing_is_refused(Builder::legacy_driver);
}

#[test]
fn requests_under_way_are_finished() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    business.reply("/connect/slow", Reply::success());
    let builder = || {
        Builder::new(&business)
            .on(&port)
            .set("workers", 1)
            .set("drain_timeout", 20)
    };
    let mut server = builder().start();
    let silent = Client::open(port.number);
    let call = Request::post("/send/", "x")
        .query("channel", "room")
        .query("qos", 1)
        .query("timeout", 2);
    let call = std::thread::spawn({
        let number = port.number;
        move || http::call(number, &call.signed(TOKEN), SOON)
    });
    silent.expect_send(SOON);
    // Connected, and says what it wants only when the new process serves.
    let early = std::net::TcpStream::connect(("127.0.0.1", port.number)).expect("connect");
    assert_eq!(
        http::call(port.number, &Request::get("/hello/"), SOON)
            .expect("hello")
            .status,
        200
    );
    let _successor = builder().arg("--takeover").start();
    silent.next(SOON).expect("told to come back");
    let late = Client::start_on(early, port.number, Open::default())
        .expect("request")
        .let_in();
    let frame = late.next(SOON).expect("closed at once");
    assert_eq!(frame.payload[..2], 1012_u16.to_be_bytes());
    silent.frame(Op::Close, b"");
    late.frame(Op::Close, b"");
    let answer = call.join().expect("caller").expect("an answer").json().expect("JSON");
    assert!(answer["connections"] == 0 || answer["msg"] == "timeout", "{answer}");
    assert_eq!(server.wait_exit(SOON), Some(0));
}

/// One worker that closes one client per second.
fn slow_drain(business: &Business, port: &Arc<ports::Port>) -> Builder {
    Builder::new(business)
        .on(port)
        .set("workers", 1)
        .set("drain_timeout", 60)
        .set("drain_rate", 1)
}

#[test]
fn calls_reach_the_clients_that_are_not_closed_yet() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    let builder = || slow_drain(&business, &port);
    let mut old = builder().start();
    let clients: Vec<_> = (0..8).map(|_| Client::open(port.number)).collect();
    let last = &clients[7];
    let identity = business.requests_to("/connect/")[7].identity();
    let new = builder().arg("--takeover").start();
    clients[0].next(SOON).expect("the drain has begun");

    assert_eq!(new.send("room", 0, "to all")["status"], 0);
    assert_eq!(last.expect_send(SOON).1, b"to all");
    assert_eq!(new.sub(&identity, "own")["status"], 0, "the client is known there");
    let counted = std::thread::scope(|scope| {
        let counted = scope.spawn(|| new.send("own", 1, "to one"));
        let (id, payload) = last.expect_send(SOON);
        assert_eq!(payload, b"to one");
        last.send(&packet::ack(id.expect("QoS 1 has an id"), "got it"));
        counted.join().expect("caller")
    });
    assert_eq!(
        (&counted["connections"], &counted["data"]),
        (&1.into(), &"got it".into())
    );
    // Other servers of a cluster ask the port, and what they pass on is passed on no further but to the old process.
    let from_peer = Request::post("/send/", "from a peer")
        .query("channel", "own")
        .query("qos", 0);
    assert_eq!(new.api(&from_peer.query("cluster", 1))["status"], 0);
    assert_eq!(last.expect_send(SOON).1, b"from a peer");

    for client in &clients {
        client.frame(Op::Close, b"");
    }
    assert_eq!(old.wait_exit(SOON), Some(0));
    let back = Client::open(port.number);
    assert_eq!(new.send("room", 0, "welcome")["status"], 0);
    assert_eq!(back.expect_send(SOON).1, b"welcome");
    assert_eq!(
        new.sub(&identity, "own")["status"],
        1,
        "the client has gone with its process"
    );
}

#[test]
fn a_signal_during_the_drain_changes_nothing_and_a_second_one_ends_it() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    let builder = || slow_drain(&business, &port);
    let mut old = builder().start();
    let clients: Vec<_> = (0..30).map(|_| Client::open(port.number)).collect();
    let mut successor = builder().arg("--takeover").start();
    clients[0].next(SOON).expect("the drain has begun");
    old.signal("TERM");
    std::thread::sleep(ms(500));
    assert!(old.is_alive());
    assert!(clients[29].next(ms(100)).is_none(), "still at the pace");
    old.signal("TERM");
    assert_eq!(old.wait_exit(SOON), Some(1));
    assert!(successor.is_alive());
    drop(Client::open(port.number));
}
