//! What a backend does wrong is said to the operator in words, once a minute, and counted.

use super::*;

on_both_drivers! {
    fn an_answer_that_cannot_be_read_is_named(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "connect", |_| ok(json!({"allow": true, "group": ["a"]})));
        let clients: Vec<_> = (0..3).map(|_| Client::open_with(server.gateway_port(), anybody())).collect();
        server.expect_said("the field \\\"group\\\" is not known, and was left out");
        answer(&backend, "message", |_| Reply::ok("fine"));
        clients[0].frame(Op::Text, b"x");
        server.expect_said("gateway_message");
        server.expect_said("the body is not the JSON expected");
        let bad = |kind: &str| metric(&server, &format!("rainbow_callback_troubles_total{{kind=\"{kind}\",reason=\"bad_answer\"}}"));
        assert_eq!((bad("gateway_connect"), bad("gateway_message")), (3, 1));
        assert_eq!(server.log_tail().matches("was left out").count(), 1, "once a minute");
    }

    fn a_wrong_path_is_named(setup) {
        let backend = backend();
        backend.reply("/events/", Reply::ok("").status(404));
        let server = setup(telling(&backend)).start();
        let client = Client::start(server.gateway_port(), anybody()).expect("connects");
        assert_eq!(client.answer(SOON).expect("an answer").status, 503);
        server.expect_said("the path of url (or of the event's own) is wrong, or takes no POST");
    }

    /// What is said of the other door is not touched by this one.
    fn metrics_tell_the_doors_apart(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, b"x");
        backend.wait_for("/events/", 2, SOON);
        let submitted = |kind: &str| metric(&server, &format!("rainbow_callbacks_total{{kind=\"{kind}\",event=\"submitted\"}}"));
        assert_eq!(["connect", "message", "close"].map(submitted), [0, 0, 0]);
        assert_eq!(["gateway_connect", "gateway_message", "gateway_close"].map(submitted), [1, 1, 0]);
    }
}
