//! The last event: once for every client that was let in, whatever way it ended.

use super::*;

/// The close event of the one client there was; that no other comes is waited for.
fn only(backend: &Business, within: Duration) -> Value {
    let closed = || all(backend, "close");
    assert!(
        crate::common::eventually(within, || !closed().is_empty()),
        "no close event"
    );
    std::thread::sleep(ms(150));
    let closed = closed();
    assert_eq!(closed.len(), 1, "{closed:?}");
    closed[0].clone()
}

fn how(gone: &Value) -> (&str, u64, &str) {
    let text = |name: &str| gone[name].as_str().unwrap_or("?");
    (text("cause"), gone["code"].as_u64().unwrap_or(0), text("reason"))
}

on_both_drivers! {
    fn by_the_client_with_its_code_and_reason(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        std::thread::sleep(ms(60));
        client.frame(Op::Close, &[&4001u16.to_be_bytes()[..], b"bye"].concat());
        let gone = only(&backend, SOON);
        assert_eq!(how(&gone), ("client_closed", 4001, "bye"));
        assert!(gone["duration_ms"].as_u64().is_some_and(|time| (50..60_000).contains(&time)), "{gone}");
    }

    fn by_the_client_without_a_code(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        Client::open_with(server.gateway_port(), anybody()).frame(Op::Close, b"");
        assert_eq!(how(&only(&backend, SOON)), ("client_closed", 1005, ""));
    }

    fn by_a_connection_that_breaks(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        Client::open_with(server.gateway_port(), anybody()).reset();
        let gone = only(&backend, SOON);
        assert!(["client_gone", "socket_error"].contains(&how(&gone).0), "{gone}");
        assert_eq!(how(&gone).1, 1006);
    }

    fn by_the_server_for_a_message_that_is_too_long(setup) {
        let backend = backend();
        let server = setup(telling(&backend).of_gateway("message_max", 100)).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, &[b'x'; 101]);
        let gone = only(&backend, SOON);
        assert_eq!((how(&gone).0, how(&gone).1), ("message_too_big", 1009));
        drop(client);
    }

    fn by_silence(setup) {
        let backend = backend();
        let server = setup(telling(&backend).of_gateway("idle_timeout", 1).of_gateway("ping_interval", 0)).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        assert_eq!(how(&only(&backend, SOON)), ("idle_timeout", 1008, "idle_timeout"));
        drop(client);
    }

    fn by_a_server_that_stops(setup) {
        let backend = backend();
        let mut server = setup(telling(&backend)).start();
        let clients: Vec<_> = (0..10).map(|_| Client::open_with(server.gateway_port(), anybody())).collect();
        server.signal("TERM");
        assert_eq!(server.wait_exit(SOON), Some(0));
        let closed = all(&backend, "close");
        assert_eq!(closed.len(), 10, "all of them before it is gone");
        assert!(closed.iter().all(|gone| (how(gone).0, how(gone).1) == ("shutdown", 1012)), "{closed:?}");
        drop(clients);
    }

    /// The messages that were said come first, even if the client is long gone.
    fn after_everything_it_said(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |_| Reply::ok("").delay(ms(50)));
        let client = Client::open_with(server.gateway_port(), anybody());
        for number in 0..5 {
            client.frame(Op::Text, number.to_string().as_bytes());
        }
        client.frame(Op::Close, &1000u16.to_be_bytes());
        assert_eq!(how(&only(&backend, SOON)).1, 1000);
        let names: Vec<_> = backend.requests().iter().map(event).collect();
        assert_eq!(names, ["connect", "message", "message", "message", "message", "message", "close"]);
    }

    /// A backend that is away hears of it when it is back.
    fn until_the_backend_has_heard_it(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let away = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_away = away.clone();
        answer(&backend, "close", move |_| match is_away.load(std::sync::atomic::Ordering::SeqCst) {
            true => Reply::ok("").status(503),
            false => Reply::ok(""),
        });
        Client::open_with(server.gateway_port(), anybody()).frame(Op::Close, &1000u16.to_be_bytes());
        backend.wait_for("/events/", 3, SOON);
        away.store(false, std::sync::atomic::Ordering::SeqCst);
        let success = "rainbow_callbacks_total{kind=\"gateway_close\",event=\"success\"}";
        assert!(crate::common::eventually(SOON, || metric(&server, success) == 1));
        let attempts: Vec<_> = backend.requests().into_iter().filter(|request| event(request) == "close").collect();
        assert!(attempts.len() >= 2);
        assert!(attempts.iter().all(|request| request.body == attempts[0].body), "the same event each time");
    }
}
