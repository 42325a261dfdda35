//! What the business server is sent, also while secrets change.

use super::*;
use common::business::Reply;
use common::client::{Client, Op, Open};
use common::{eventually, packet};

#[test]
fn callbacks_are_signed_as_a_whole() {
    let business = Business::start();
    let base = format!("http://127.0.0.1:{}", business.port());
    let server = strict(&business)
        .set("connect_url", format!("{base}/connect/?from=gw%%31"))
        .start();
    let target = "/connect/?X-DEVICEID=Zo%C3%AB&X-CLIENT-OS=web&timestamp=1&nonce=2&signature=3&a=b+c";
    let open = Open {
        target: target.into(),
        headers: Vec::new(),
        ..Open::default()
    };
    let client = Client::open_with(server.port(), open);
    client.send(&packet::send(1, 7, 2, [0, 255, 13, 10]));
    client.send(&packet::send(1, 8, 3, ""));
    business.wait_for("/message/", 2, SOON);
    client.drop_now();
    business.wait_for("/close/", 1, SOON);
    let all = business.requests();
    assert_eq!(all.len(), 4);
    for request in &all {
        assert!(is_signed(request, TOKEN), "{} {}", request.method, request.target);
    }
    assert!(
        all[0].target.starts_with("/connect/?from=gw%31&X-DEVICEID="),
        "{}",
        all[0].target
    );
    let verify = |r: &common::business::Request| json!(["verify", [TOKEN], r.method, r.target, hex(&r.body)]);
    let twice: Vec<Value> = all.iter().chain(&all).map(verify).collect();
    let Some(results) = python(&twice) else { return };
    let expected: Vec<Value> = (0..8).map(|at| Value::Bool(at < 4)).collect();
    assert_eq!(results, expected, "each once");
}

#[test]
fn a_secret_is_changed_while_the_server_runs() {
    let business = Business::start();
    let server = strict(&business).start();
    let ini = std::fs::read_to_string(&server.ini).expect("ini file");
    let accepts = |secret| answer(&server, &signed(secret, "POST", SEND, b"")) == fine();
    let reload = |current: &str, previous: &str, ready: &dyn Fn() -> bool| {
        let secrets = format!("{current}\nsecurity_token_previous = {previous}");
        std::fs::write(&server.ini, ini.replace(TOKEN, &secrets)).expect("ini file");
        server.signal("HUP");
        assert!(eventually(SOON, ready), "not read again");
    };
    let signs_with = |secret: &str| assert!(is_next_signed_with(&business, &server, secret), "{secret}");
    assert!(accepts(TOKEN) && !accepts("fresh") && !accepts(""));
    reload(TOKEN, "fresh", &|| accepts("fresh"));
    assert!(accepts(TOKEN) && !accepts(""));
    signs_with(TOKEN);
    let old = signed(TOKEN, "POST", SEND, b"in flight");
    assert_eq!(answer(&server, &old), fine());
    reload("fresh", TOKEN, &|| is_next_signed_with(&business, &server, "fresh"));
    assert!(accepts(TOKEN) && accepts("fresh"));
    assert_eq!(
        answer(&server, &old),
        failed("signature used before"),
        "a reload forgets nothing"
    );
    reload("fresh", "", &|| !accepts(TOKEN));
    assert!(accepts("fresh") && !accepts(""));
    signs_with("fresh");
}

/// Whether the next callback is signed with `secret`.
fn is_next_signed_with(business: &Business, server: &Server, secret: &str) -> bool {
    let before = business.requests_to("/connect/").len();
    Client::open(server.port()).drop_now();
    is_signed(&business.wait_for("/connect/", before + 1, SOON)[before], secret)
}

/// A signature is made for one target. Signing whatever a redirect names would let anybody on the line have requests signed.
#[test]
fn redirects_are_not_signed_again() {
    let (business, second) = (Business::start(), Business::start());
    let port = second.port();
    business.hook(move |request| {
        let location = match request.path.as_str() {
            "/connect/" => format!("http://127.0.0.1:{port}{}", request.target),
            "/message/7/" => format!("http://127.0.0.1:{port}/elsewhere/?a=b"),
            _ => return None,
        };
        Some(Reply::ok("").status(307).header("Location", &location))
    });
    second.reply("/elsewhere/", Reply::ok("taken"));
    let server = strict(&business).start();
    let client = Client::open(server.port());
    let asked = &second.wait_for("/connect/", 1, SOON)[0];
    assert!(is_signed(asked, TOKEN), "the same target elsewhere: {}", asked.target);
    client.send(&packet::send(1, 7, 2, "body"));
    client.expect(Op::Binary, &packet::ack(2, "taken"));
    let moved = &second.wait_for("/elsewhere/", 1, SOON)[0];
    assert_eq!(
        (moved.target.as_str(), &moved.body[..]),
        ("/elsewhere/?a=b", &b"body"[..])
    );
}
