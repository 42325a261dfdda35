//! What a process that is killed leaves behind: nothing. Written down in docs/reliability.md, "What a crash loses".

use super::clients;
use super::common::business::{Business, Mode, Reply};
use super::common::client::Op;
use super::common::http::{self, Request};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, eventually, ms, packet, ports};
use std::sync::Arc;

#[test]
fn a_crash_loses_everything_and_says_so_to_nobody() {
    let (business, port) = (Business::start(), Arc::new(ports::claim()));
    business.reply("/connect/", Reply::channels("room"));
    business.reply("/message/", Reply::ok("ok").mode(Mode::Hang));
    let builder = || Builder::new(&business).on(&port).set("replay_protection", "yes");
    let mut server = builder().start();
    let clients = clients(port.number, &business, 3);
    let signed = Request::post("/send/", "once")
        .query("channel", "nobody")
        .query("qos", 0)
        .signed(TOKEN);
    let call = |request: &Request| http::call(port.number, request, SOON).map(|answer| answer.text());
    assert!(call(&signed).expect("answer").contains("\"status\": 0"));
    assert!(
        !call(&signed).expect("answer").contains("\"status\": 0"),
        "a replay is refused"
    );
    clients[0].0.send(&packet::send(1, 7, 1, "read, not answered"));
    business.wait_for("/message/", 1, SOON);
    let publish = Request::post("/send/", "x")
        .query("channel", "room")
        .query("qos", 1)
        .query("timeout", 30);
    let caller = std::thread::spawn({
        let (publish, number) = (publish.signed(TOKEN), port.number);
        move || http::call(number, &publish, SOON * 2)
    });
    for (client, _) in &clients {
        client.expect_send(SOON);
    }
    server.signal("KILL");
    assert_eq!(server.wait_exit(SOON), Some(-1));

    for (client, _) in &clients {
        let frames = client.until_eof(SOON).expect("the connection ends");
        assert!(frames.iter().all(|frame| frame.op != Op::Close), "no close frame");
        assert!(
            frames.iter().all(|frame| frame.op != Op::Binary),
            "no ACK of what was not answered"
        );
    }
    assert!(
        caller.join().expect("caller").is_err(),
        "the caller's connection breaks"
    );

    let next = builder().start();
    assert_eq!(next.channels(), [], "memberships are gone");
    for (_, identity) in &clients {
        assert_eq!(
            next.sub(identity, "room")["status"],
            1,
            "an identity of the earlier run"
        );
    }
    assert!(
        call(&signed).expect("answer").contains("\"status\": 0"),
        "used signatures are forgotten, within their window they count again"
    );
    assert!(
        !eventually(ms(1500), || !business.requests_to("/close/").is_empty()),
        "nobody is told that a client has gone"
    );
}
