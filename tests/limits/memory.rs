//! What clients and callers can make the process hold. Resident memory is looked at from outside, so these bounds hold
//! whatever the server says about itself.

use super::common::business::{Business, Mode, Reply};
use super::common::client::{Client, Op, Open, encode};
use super::common::http::{self, Request};
use super::common::{SOON, eventually, ms, packet};
use super::{Server, expect_open, metric, setup};
use std::any::Any;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Mebibytes the server has grown by since it had `before` KiB.
fn grown_mib(server: &Server, before: u64) -> u64 {
    server.resident_kib().saturating_sub(before) / 1024
}

#[test]
fn a_message_with_acknowledgement_is_shared_by_those_who_lag() {
    const MEMBERS: usize = 60;
    let (_business, server) = setup(|b| b.set("workers", 2).set("outbox_bytes", "64m"));
    let reading = Client::open(server.port());
    let lazy: Vec<Client> = (0..MEMBERS)
        .map(|_| Client::open_with(server.port(), Open::lazy()))
        .collect();
    let before = server.resident_kib();
    // Large ones one by one, small ones together with messages that need no acknowledgement.
    let bodies = [vec![b'm'; 4 * MIB], vec![b's'; 64 * 1024]];
    std::thread::scope(|scope| {
        for qos in [1, 2, 1, 0] {
            let body = if qos == 1 { &bodies[0] } else { &bodies[1] };
            let request = Request::post("/send/", body)
                .query("channel", "room")
                .query("qos", qos)
                .query("timeout", 2);
            let server = &server;
            scope.spawn(move || server.api(&request));
        }
        for _ in 0..4 {
            let body = reading.expect_send(SOON).1;
            assert!(bodies.contains(&body), "another message");
        }
        let grown = grown_mib(&server, before);
        assert!(grown < 48, "{MEMBERS} members hold {grown} MiB");
    });
    drop(lazy);
}

/// What the server of the attacks may use.
const MEMORY_MAX: u64 = 80;

/// Something that is kept as long as an attack goes on.
type Held = Vec<Box<dyn Any>>;

/// Writes what is taken within a moment; the server may stop reading, or close.
fn push(mut stream: TcpStream, bytes: &[u8]) -> TcpStream {
    let _ = stream.set_write_timeout(Some(ms(200)));
    let _ = stream.write_all(bytes);
    stream
}

fn raw(server: &Server, bytes: &[u8]) -> Box<dyn Any> {
    Box::new(push(
        TcpStream::connect(("127.0.0.1", server.port())).expect("connect"),
        bytes,
    ))
}

/// Clients that the server lets in; while memory is short it need not.
fn let_in(server: &Server, count: usize, open: &Open) -> Vec<Client> {
    let start = |_| Client::start(server.port(), open.clone()).ok();
    let clients = (0..count).filter_map(start);
    clients
        .filter(|client| client.answer(SOON).is_ok_and(|answer| answer.status == 101))
        .collect()
}

fn half_messages(_: &Business, server: &Server) -> Held {
    let whole = encode(Op::Binary, &packet::send(0, 9, 0, vec![b'h'; 4 * MIB]), true, true);
    let clients = let_in(server, 60, &Open::default());
    let half = |client: Client| {
        push(client.write_half(), &whole[..whole.len() / 2]);
        Box::new(client) as Box<dyn Any>
    };
    clients.into_iter().map(half).collect()
}

/// The backend hangs, and those whose messages it has are gone.
fn orphans(business: &Business, server: &Server) -> Held {
    business.reply("/message/9/", Reply::ok("").mode(Mode::Hang));
    let whole = encode(Op::Binary, &packet::send(0, 9, 0, vec![b'o'; 4 * MIB]), true, true);
    for client in let_in(server, 40, &Open::default()) {
        push(client.write_half(), &whole);
        client.drop_now();
    }
    // Messages that are never begun in memory: each comes with one receive call.
    let small = encode(Op::Binary, &packet::send(0, 9, 0, vec![b's'; 30_000]), true, true).repeat(40);
    for client in let_in(server, 60, &Open::default()) {
        push(client.write_half(), &small);
        client.drop_now();
    }
    Vec::new()
}

/// The backend begins large answers, and does not end them.
fn replies(business: &Business, server: &Server) -> Held {
    let half = Reply::ok(vec![b'r'; 3 * MIB]).mode(Mode::HalfThenHang);
    business.reply("/message/7/", half);
    let clients = let_in(server, 50, &Open::default());
    for client in &clients {
        client.send(&packet::send(0, 7, 0, "large"));
    }
    clients
        .into_iter()
        .map(|client| Box::new(client) as Box<dyn Any>)
        .collect()
}

fn heads(_: &Business, server: &Server) -> Held {
    let head = format!("GET /connect/?a={}", "a".repeat(60_000));
    (0..700).map(|_| raw(server, head.as_bytes())).collect()
}

fn laggards(business: &Business, server: &Server) -> Held {
    business.reply("/connect/", Reply::channels("crowd"));
    let clients = let_in(server, 20, &Open::lazy());
    for number in 0..30 {
        let request = Request::post("/send/", vec![b'l'; 4 * MIB + number])
            .query("channel", "crowd")
            .signed(super::common::server::TOKEN);
        let _ = http::call(server.port(), &request, SOON);
    }
    business.reply("/connect/", Reply::success());
    clients
        .into_iter()
        .map(|client| Box::new(client) as Box<dyn Any>)
        .collect()
}

fn bodies(_: &Business, server: &Server) -> Held {
    let head = format!(
        "POST /send/?channel=x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        9 * MIB
    );
    let half = [head.into_bytes(), vec![b'b'; 5 * MIB]].concat();
    (0..30).map(|_| raw(server, &half)).collect()
}

/// Callers that do not read long listings.
fn pages(business: &Business, server: &Server) -> Held {
    let mut held = Held::new();
    for client in 0..8 {
        let names: Vec<String> = (0..200).map(|n| format!("{client}-{n}-{}", "n".repeat(250))).collect();
        business.reply("/connect/", Reply::channels(&names.join(";;")));
        let found = let_in(server, 1, &Open::default());
        held.extend(found.into_iter().map(|client| Box::new(client) as Box<dyn Any>));
    }
    business.reply("/connect/", Reply::success());
    let call = b"GET /serverinfo/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
    held.extend((0..150).map(|_| {
        let socket = super::connect_from("127.0.0.1", server.port());
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4096);
        Box::new(push(socket, &call)) as Box<dyn Any>
    }));
    held
}

/// Publishes that wait for one member, while another one acknowledges each with as much as comes in one piece.
fn receipts(business: &Business, server: &Server) -> Held {
    const PUBLISHES: usize = 1000;
    business.reply("/connect/", Reply::channels("crowd"));
    let (talker, silent) = (Client::open(server.port()), Client::open(server.port()));
    let data = [b'a'; 60_000];
    let mut held = Held::new();
    for _ in 0..PUBLISHES {
        let request = Request::post("/send/", "r")
            .query("channel", "crowd")
            .query("qos", 1)
            .query("timeout", 40)
            .signed(super::common::server::TOKEN);
        held.push(raw(server, &request.bytes(server.port(), false)));
        let id = talker.expect_send(SOON).0.expect("an id");
        talker.send(&packet::ack(id, data));
    }
    business.reply("/connect/", Reply::success());
    held.push(Box::new((talker, silent)));
    held
}

/// Runs attacks one after the other, which go on together; ordinary clients are served meanwhile, and afterwards everything
/// is free again. Each has a metric that tells of it.
fn withstands(attacks: &[Attack]) {
    let (business, server) = setup(|b| {
        b.set("workers", 1)
            .set("memory_max", format!("{MEMORY_MAX}m"))
            .set("outbox_bytes", "64m")
            .set("callback_timeout", 8)
            .set("handshake_timeout", 60)
    });
    business.reply("/connect/", Reply::channels("own"));
    let ordinary = Client::open(server.port());
    business.reply("/connect/", Reply::success());
    let mut held = Held::new();
    for (attack, told) in attacks {
        held.extend(attack(&business, &server));
        let page = || {
            http::call(server.port(), &Request::get("/metrics"), SOON)
                .expect("metrics")
                .text()
        };
        // Together the first ones leave the others no room to be told of.
        let is_told = || attacks.len() > 1 || metric(&server, told) > 0;
        assert!(eventually(SOON, is_told), "{told} in {}", page());
        assert!(metric(&server, "rainbow_memory_held_limit_bytes") <= MEMORY_MAX << 20);
        for number in 0..10u16 {
            ordinary.send(&packet::send(1, 8, number + 1, [b's'; 500]));
            ordinary.expect(Op::Binary, &packet::ack(number + 1, "ok"));
            assert_eq!(server.send("own", 0, [b'p'; 500])["status"], 0);
            assert_eq!(ordinary.expect_send(SOON).1, [b'p'; 500]);
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let peak = peak.expect("the most it ever had") / 1024;
    assert!(peak <= MEMORY_MAX * 5 / 4, "{peak} MiB of {MEMORY_MAX}");
    drop(held);
    let is_free = || metric(&server, "rainbow_memory_held_bytes") < MIB as u64;
    assert!(eventually(Duration::from_secs(30), is_free), "something is still held");
    let kept = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        number.expect("a number") / 1024
    };
    assert!(
        eventually(Duration::from_secs(30), || kept() < MEMORY_MAX / 4),
        "{} MiB are kept",
        kept()
    );
    expect_open(&server);
}

/// An attack, and the metric that tells of it.
type Attack = (fn(&Business, &Server) -> Held, &'static str);

const HALF_MESSAGES: Attack = (half_messages, "rainbow_gave_way_total{what=\"begun\"}");
const ORPHANS: Attack = (orphans, "rainbow_gave_way_total{what=\"forwards\"}");
const REPLIES: Attack = (
    replies,
    "rainbow_callback_troubles_total{kind=\"message\",reason=\"memory_short\"}",
);
const HEADS: Attack = (heads, "rainbow_refused_total{reason=\"memory\"}");
const LAGGARDS: Attack = (laggards, "rainbow_gave_way_total{what=\"lagging\"}");
const BODIES: Attack = (bodies, "rainbow_accepted_total");
const PAGES: Attack = (pages, "rainbow_memory_held_bytes{use=\"answers\"}");
const RECEIPTS: Attack = (receipts, "rainbow_ack_data_left_out_total{reason=\"memory\"}");

#[test]
fn half_messages_are_bounded() {
    withstands(&[HALF_MESSAGES]);
}

#[test]
fn messages_of_clients_that_have_gone_are_bounded() {
    withstands(&[ORPHANS]);
}

#[test]
fn answers_of_backends_are_bounded() {
    withstands(&[REPLIES]);
}

#[test]
fn heads_of_strangers_are_bounded() {
    withstands(&[HEADS]);
}

#[test]
fn clients_that_lag_are_bounded() {
    withstands(&[LAGGARDS]);
}

#[test]
fn bodies_of_strangers_are_bounded() {
    withstands(&[BODIES]);
}

#[test]
fn listings_that_nobody_reads_are_bounded() {
    withstands(&[PAGES]);
}

#[test]
fn data_of_acknowledgements_is_bounded() {
    withstands(&[RECEIPTS]);
}

#[test]
fn all_of_it_together_is_bounded() {
    withstands(&[PAGES, LAGGARDS, HALF_MESSAGES, REPLIES, ORPHANS, HEADS, BODIES]);
}

#[test]
fn a_begun_message_has_a_deadline() {
    let (business, server) = setup(|b| b.set("message_timeout", 1));
    let (stuck, going_on) = (Client::open(server.port()), Client::open(server.port()));
    let whole = encode(Op::Binary, &packet::send(0, 9, 0, vec![b'h'; 64 * 1024]), true, true);
    push(stuck.write_half(), &whole[..32 * 1024]);
    // One whose message is never whole when it is looked at, but always another one.
    let mut writer = going_on.write_half();
    writer.write_all(&whole[..32 * 1024]).expect("write");
    for _ in 0..8 {
        std::thread::sleep(ms(400));
        writer.write_all(&whole[32 * 1024..]).expect("write");
        writer.write_all(&whole[..32 * 1024]).expect("write");
    }
    writer.write_all(&whole[32 * 1024..]).expect("write");
    business.wait_for("/close/", 1, SOON);
    assert!(stuck.write_fails_within(SOON));
    assert_eq!(metric(&server, "rainbow_closes_total{cause=\"message_timeout\"}"), 1);
    assert_eq!(business.wait_for("/message/9/", 9, SOON).len(), 9);
}

/// Bytes the kernel holds for the connections of a port on our side.
fn unsent_bytes(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let own = format!(":{port:04X}");
    let lines = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queues = lines
        .filter(|fields| fields[1].ends_with(&own))
        .map(|fields| u64::from_str_radix(&fields[4][..8], 16).unwrap_or(0));
    queues.sum()
}

#[test]
fn the_kernel_holds_little_for_a_stuck_client() {
    const CLIENTS: u64 = 10;
    let (_business, server) = setup(|b| b.set("outbox_bytes", "64m"));
    let stuck: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open_with(server.port(), Open::lazy()))
        .collect();
    for _ in 0..40 {
        assert_eq!(server.send("room", 0, vec![b'k'; 256 * 1024])["status"], 0);
    }
    let each = unsent_bytes(server.port()) / CLIENTS;
    assert!(each > 0 && each < 512 * 1024, "{each} bytes for each");
    drop(stuck);
}
