//! On a single core the shard and the control core share one thread and wake each other without the kernel. What is promised
//! holds there as well.

use super::common::business::{Business, Reply};
use super::common::http::{Connection, Request};
use super::common::packet::{self, Packet};
use super::common::server::{Builder, Server, TOKEN};
use super::common::{SOON, ms};
use super::{acknowledge, clients};
use serde_json::json;
use std::fs;
use std::time::Duration;

const CLIENTS: usize = 8;

/// A server that may run on the first of our cores only.
fn start(business: &Business, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let status = fs::read_to_string("/proc/self/status").expect("status of this process");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.and_then(|list| list.trim().split([',', '-']).next());
    let through = ["taskset", "-c", first.expect("a core")];
    configure(Builder::new(business).through(&through)).start()
}

/// Names of its threads.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).expect("name");
    tasks.flatten().map(|task| name(task).trim().to_owned()).collect()
}

fn promises(configure: impl FnOnce(Builder) -> Builder) {
    const PIPELINED: usize = 300;
    let business = Business::start();
    business.reply("/connect/", Reply::channels("room"));
    business.reply("/message/", Reply::ok("forwarded"));
    let mut server = start(&business, configure);
    let port = server.port();
    let names = threads(&server);
    assert!(names.iter().any(|name| name == "shard-0"), "{names:?}");
    assert!(!names.iter().any(|name| name == "control"), "{names:?}");

    let clients = clients(port, &business, CLIENTS);
    let send = |qos: u8, text: &str| {
        let request = Request::post("/send/", text).query("channel", "room").query("qos", qos);
        request.signed(TOKEN)
    };
    // More than one mailbox batch at once, then a delivery all acknowledge.
    let mut caller = Connection::open(port).expect("connect");
    let pipeline: Vec<u8> = (0..PIPELINED)
        .flat_map(|n| send(0, &n.to_string()).bytes(port, false))
        .collect();
    caller.write(&pipeline).expect("write");
    for n in 0..PIPELINED {
        let answer = caller.response("POST", SOON).expect("answer");
        assert_eq!(answer.json(), Some(json!({"status": 0})), "call {n}");
    }
    std::thread::scope(|scope| {
        for (client, _) in &clients {
            scope.spawn(move || {
                for n in 0..PIPELINED {
                    assert_eq!(client.expect_send(SOON).1, n.to_string().as_bytes());
                }
                assert_eq!(acknowledge(client, SOON, "seen"), b"acked");
            });
        }
        let answer = caller.exchange(port, &send(1, "acked"), SOON).expect("answer");
        let all = json!({"status": 0, "connections": CLIENTS, "data": "seen"});
        assert_eq!(answer.json(), Some(all));
    });
    for (id, (client, identity)) in (1..).zip(&clients) {
        client.send(&packet::send(1, 7, id, "up"));
        let Packet::Ack { id: answered, data } = client.packet(SOON) else {
            panic!("expected an ACK")
        };
        assert_eq!((answered, &data[..]), (id, &b"forwarded"[..]));
        assert_eq!(server.sub(identity, &format!("own-{id}")), json!({"status": 0}));
        server.send(&format!("own-{id}"), 0, "after the answer");
        assert_eq!(client.expect_send(SOON).1, b"after the answer");
    }
    clients.iter().for_each(|(client, _)| client.expect_silence(ms(20)));
    drop(clients);
    business.wait_for("/close/", CLIENTS, SOON);
    server.signal("TERM");
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
}

#[test]
fn promises_hold_on_one_thread() {
    promises(|builder| builder);
}

#[test]
fn promises_hold_on_one_thread_on_epoll() {
    promises(Builder::legacy_driver);
}
