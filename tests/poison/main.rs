//! Requests that make the backend fail, among requests that do not: what an attacker does must not cost bystanders anything,
//! and a backend that is really down must still be left alone.
//!
//! Attackers go at a pace for some seconds; asserted is what becomes of the bystanders, never how fast. The backend is scripted
//! here; `uwsgi.rs` has a real one that closes silently on long heads.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;
mod uwsgi;

use common::business::{Business, Mode, Reply, Request};
use common::client::{Client, Open};
use common::http::{self, Connection};
use common::packet::{self, Packet};
use common::server::{Builder, Server};
use common::{SOON, eventually, ms};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an attack goes on at least.
const ATTACK: Duration = Duration::from_secs(2);
/// Threads of an attacker.
const HANDS: u32 = 8;

/// Does something at a pace until it is dropped; counts how often.
struct Attack {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    hands: Vec<JoinHandle<()>>,
}

impl Attack {
    fn start(per_second: u32, act: impl Fn(usize) + Send + Sync + 'static) -> Attack {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let act = Arc::new(act);
        let hands = (0..HANDS.min(per_second))
            .map(|hand| {
                let (stop, done, act) = (stop.clone(), done.clone(), act.clone());
                let pause = Duration::from_secs(1) * HANDS.min(per_second) / per_second;
                std::thread::spawn(move || {
                    let start = Instant::now() + pause / HANDS * hand;
                    let mut turn = 0;
                    while !stop.load(SeqCst) {
                        std::thread::sleep((start + pause * turn).saturating_duration_since(Instant::now()));
                        act(done.fetch_add(1, SeqCst));
                        turn += 1;
                    }
                })
            })
            .collect();
        Attack { stop, done, hands }
    }

    /// Waits until the attack has come into its own.
    fn warm(&self, count: usize) {
        assert!(eventually(SOON, || self.done.load(SeqCst) >= count), "no attack");
    }

    fn end(mut self) -> usize {
        self.stop.store(true, SeqCst);
        for hand in self.hands.drain(..) {
            hand.join().expect("attacker");
        }
        self.done.load(SeqCst)
    }
}

/// One attempt to connect from `address`: the status it is answered with, 0 for none.
fn knock(address: Ipv4Addr, port: u16, target: &str, headers: &[(&str, &str)]) -> u16 {
    let connect = || -> std::io::Result<u16> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((address, 0)).into())?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        let mut connection = Connection::on(socket.into());
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        connection.write(format!("{head}\r\n").as_bytes())?;
        let status = connection.response("GET", ms(20_000))?.status;
        connection.shut();
        Ok(status)
    };
    connect().unwrap_or(0)
}

/// A number of `/metrics`.
fn metric(server: &Server, name: &str) -> u64 {
    let page = http::call(server.port(), &http::Request::get("/metrics"), SOON)
        .expect("metrics")
        .text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .parse()
        .expect("number")
}

fn opens(server: &Server, kind: &str) -> u64 {
    metric(
        server,
        &format!("rainbow_callback_breaker_opens_total{{kind=\"{kind}\"}}"),
    )
}

fn checks(server: &Server) -> u64 {
    metric(server, "rainbow_callbacks_total{kind=\"connect\",event=\"checked\"}")
}

/// A backend that fails over what says so, and over nothing else.
fn delicate(failure: Reply) -> Business {
    let business = Business::start();
    let is_poison =
        |request: &Request| request.body == b"poison" || request.query.iter().any(|(name, _)| name == "poison");
    business.hook(move |request| is_poison(request).then(|| failure.clone()));
    business
}

fn failures() -> [(&'static str, Reply); 2] {
    [
        ("dropped", Reply::ok("").mode(Mode::Drop)),
        ("502", Reply::ok("").status(502)),
    ]
}

/// One admitted client says what kills the handler, at several paces: every message of the others is acknowledged.
#[test]
fn a_poisonous_client_costs_others_no_message() {
    for per_second in [2, 40, 500] {
        for (name, failure) in failures().into_iter().chain([("503", Reply::ok("").status(503))]) {
            let business = delicate(failure);
            let server = Builder::new(&business).start();
            let others: Vec<_> = (0..5)
                .map(|n| Client::open_with(server.port(), Open::device(&format!("bystander-{n}"))))
                .collect();
            let attacker = Client::open_with(server.port(), Open::device("attacker"));
            let attack = Attack::start(per_second, move |_| attacker.send(&packet::send(0, 7, 0, "poison")));
            attack.warm(2);
            let (start, mut id) = (Instant::now(), 0);
            while start.elapsed() < ATTACK {
                id += 1;
                for client in &others {
                    client.send(&packet::send(1, 7, id, "good"));
                }
                for client in &others {
                    assert!(
                        matches!(client.packet(SOON), Packet::Ack { id: acked, .. } if acked == id),
                        "{name} at {per_second}/s"
                    );
                }
                std::thread::sleep(ms(400));
            }
            let attempts = attack.end();
            println!(
                "{name}: {attempts} poisonous messages, {} others, all acknowledged",
                usize::from(id) * others.len()
            );
            assert_eq!(opens(&server, "message"), 0, "{name} at {per_second}/s");
            assert_eq!(
                metric(&server, "rainbow_callback_limit{kind=\"message\"}"),
                1024,
                "{name} at {per_second}/s"
            );
        }
    }
}

/// Six admitted clients do it together: as long as others are answered, nobody waits for a probe.
#[test]
fn several_poisonous_clients_cost_others_no_message() {
    let business = delicate(Reply::ok("").mode(Mode::Drop));
    let server = Builder::new(&business).start();
    let other = Client::open(server.port());
    let attackers: Vec<_> = (0..6)
        .map(|n| Client::open_with(server.port(), Open::device(&format!("attacker-{n}"))))
        .collect();
    let attack = Attack::start(100, move |n| attackers[n % 6].send(&packet::send(0, 7, 0, "poison")));
    let start = Instant::now();
    for id in 1.. {
        other.send(&packet::send(1, 7, id, "good"));
        assert!(matches!(other.packet(SOON), Packet::Ack { id: acked, .. } if acked == id));
        std::thread::sleep(ms(400));
        if start.elapsed() > ATTACK {
            break;
        }
    }
    assert!(attack.end() > 50);
    assert_eq!(opens(&server, "message"), 0);
}

/// Anybody asks to connect in a way that kills the handler, from one address or from many: all good clients get in, also those
/// that share an address with the attacker, and also where good clients are so rare that only attackers are heard for seconds.
#[test]
fn poisonous_strangers_do_not_close_the_door() {
    let many = |n: usize| Ipv4Addr::new(127, 0, 0, 2 + (n % 20) as u8);
    type Scene = (&'static str, fn(usize) -> Ipv4Addr, Duration);
    let scenes: [Scene; 3] = [
        ("same address", |_| Ipv4Addr::LOCALHOST, ms(40)),
        ("same address, good ones rare", |_| Ipv4Addr::LOCALHOST, ms(2700)),
        ("twenty addresses", many, ms(2700)),
    ];
    for ((scene, from, pause), (name, failure)) in scenes.into_iter().zip(failures().into_iter().cycle()) {
        let business = delicate(failure);
        let server = Builder::new(&business).start();
        let port = server.port();
        let attack = Attack::start(300, move |n| {
            knock(from(n), port, "/connect/?poison=1", &[]);
        });
        attack.warm(100);
        let (start, mut asked) = (Instant::now(), 0);
        while start.elapsed() < ATTACK * 3 {
            std::thread::sleep(pause);
            asked += 1;
            assert_eq!(
                knock(Ipv4Addr::LOCALHOST, port, "/connect/", &[]),
                101,
                "{name}, {scene}, number {asked}"
            );
        }
        let attempts = attack.end();
        println!(
            "{name}, {scene}: {attempts} attempts, {asked} good clients, all in; {} checks",
            checks(&server)
        );
        assert_eq!(opens(&server, "connect"), 0, "{name}, {scene}");
        if pause > ms(2000) {
            assert!(checks(&server) > 0, "{scene}: nobody else could tell");
            let neutral = business
                .requests_to("/connect/")
                .into_iter()
                .find(|r| r.method == "OPTIONS");
            let neutral = neutral.expect("a neutral request");
            assert_eq!(
                (neutral.target.as_str(), neutral.identity().as_str()),
                ("/connect/", "")
            );
        }
    }
}

/// Everything fails, the neutral request too: the door is closed soon, few are asked, and it opens when the backend is back.
#[test]
fn a_backend_that_is_down_is_left_alone() {
    let business = Business::start();
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    business.hook(move |_| down.load(SeqCst).then(|| Reply::ok("").status(502)));
    let server = Builder::new(&business).start();
    let client = Client::open(server.port());
    is_down.store(true, SeqCst);
    let port = server.port();
    let crowd = Attack::start(100, move |n| {
        knock(Ipv4Addr::new(127, 0, 0, 2 + (n % 5) as u8), port, "/connect/", &[]);
    });
    assert!(
        eventually(ms(15_000), || opens(&server, "connect") == 1),
        "the door stays open"
    );
    let asked = business.requests_to("/connect/").len();
    let tried = crowd.done.load(SeqCst);
    assert!(eventually(SOON, || crowd.done.load(SeqCst) >= tried + 200));
    let probes = business.requests_to("/connect/").len() - asked;
    assert!(
        probes <= 20,
        "{probes} calls of {} attempts at a backend that is down",
        crowd.done.load(SeqCst) - tried
    );
    for id in 1..=30 {
        client.send(&packet::send(1, 7, id, "waits"));
    }
    assert!(eventually(SOON, || opens(&server, "message") == 1));
    let lost = business.requests_to("/message/").len();
    client.send(&packet::send(1, 7, 99, "not lost"));
    is_down.store(false, SeqCst);
    let acked = std::iter::from_fn(|| Some(client.packet(ms(15_000))));
    let ids: Vec<_> = acked.take(31 - lost.min(30)).collect();
    assert!(
        ids.iter().any(|packet| matches!(packet, Packet::Ack { id: 99, .. })),
        "{ids:?}"
    );
    assert!(eventually(SOON * 2, || knock(
        Ipv4Addr::LOCALHOST,
        port,
        "/connect/",
        &[]
    ) == 101));
    crowd.end();
}
