//! What clients say, one message after the other.

use super::*;

on_both_drivers! {
    fn text_and_binary_are_told_apart(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        let client = Client::open_with(server.gateway_port(), anybody());
        client.frame(Op::Text, "grüße \"\\\u{1}".as_bytes());
        client.frame(Op::Binary, &[0, 1, 254]);
        client.frame(Op::Text, b"");
        next(&backend, "connect");
        let said = next(&backend, "message");
        assert_eq!((&said["message"], &said["binary"]), (&json!("grüße \"\\\u{1}"), &json!(false)));
        assert_eq!((&said["uid"], &said["session"]), (&Value::Null, &json!({})));
        assert_eq!(said.get("message_base64"), None);
        let said = next(&backend, "message");
        assert_eq!((&said["message_base64"], &said["binary"]), (&json!("AAH+"), &json!(true)));
        assert_eq!(next(&backend, "message")["message"], "");
    }

    /// One client's messages keep their order and never meet; another client does not wait for them.
    fn one_client_is_in_order_however_slow_the_backend_is(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |said| {
            let slow = said["message"].as_str().is_some_and(|text| text.starts_with("slow"));
            Reply::ok("").delay(if slow { ms(40) } else { ms(0) })
        });
        let (slow, fast) = (Client::open_with(server.gateway_port(), anybody()), Client::open_with(server.gateway_port(), anybody()));
        for number in 0..10 {
            slow.frame(Op::Text, format!("slow {number}").as_bytes());
        }
        fast.frame(Op::Text, b"fast");
        backend.wait_for("/events/", 13, SOON);
        let texts: Vec<_> = all(&backend, "message").iter().map(|said| said["message"].as_str().unwrap_or_default().to_owned()).collect();
        let of_slow: Vec<_> = texts.iter().filter(|text| text.starts_with("slow")).collect();
        assert_eq!(of_slow, (0..10).map(|number| format!("slow {number}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        assert!(texts.iter().position(|text| text == "fast") < texts.iter().position(|text| text == "slow 9"), "{texts:?}");
        let times: Vec<_> = backend.requests().into_iter().filter(|request| request.text().contains("slow ")).map(|request| request.at).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= ms(40)), "the next one waits for the answer");
    }

    /// Beyond the bound the socket is not read, and nothing is lost.
    fn a_client_that_is_faster_than_its_backend_is_held_back(setup) {
        let backend = backend();
        let server = setup(telling(&backend).set("forward_queue", 4)).start();
        let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let opened = gate.clone();
        answer(&backend, "message", move |_| {
            while !opened.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::sleep(ms(5));
            }
            Reply::ok("")
        });
        let client = Client::open_with(server.gateway_port(), anybody());
        for number in 0..50 {
            client.frame(Op::Text, number.to_string().as_bytes());
        }
        assert!(crate::common::eventually(SOON, || metric(&server, "rainbow_reads_paused") == 1), "it is not read");
        backend.wait_for("/events/", 2, SOON);
        assert_eq!(all(&backend, "message").len(), 1, "one at a time");
        gate.store(true, std::sync::atomic::Ordering::SeqCst);
        backend.wait_for("/events/", 51, SOON);
        let said: Vec<_> = all(&backend, "message").iter().map(|said| said["message"].clone()).collect();
        assert_eq!(said, (0..50).map(|number| json!(number.to_string())).collect::<Vec<_>>());
    }

    /// A message whose event fails is gone; the next one goes its way.
    fn a_message_that_fails_does_not_stop_those_behind_it(setup) {
        let backend = backend();
        let server = setup(telling(&backend)).start();
        answer(&backend, "message", |said| match said["message"].as_str() {
            Some("bad") => Reply::ok("").status(500),
            _ => Reply::ok(""),
        });
        let client = Client::open_with(server.gateway_port(), anybody());
        for text in ["good", "bad", "better"] {
            client.frame(Op::Text, text.as_bytes());
        }
        backend.wait_for("/events/", 4, SOON);
        let failed = "rainbow_callbacks_total{kind=\"gateway_message\",event=\"failed\"}";
        assert!(crate::common::eventually(SOON, || metric(&server, failed) == 1));
        std::thread::sleep(ms(100));
        assert_eq!(all(&backend, "message").len(), 3, "nothing is sent twice");
    }
}
