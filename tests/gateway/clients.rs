//! What comes to the port of the gateway, and what clients may send.

use super::common::client::{Op, encode};
use super::common::http::Connection;
use super::*;

const SENTENCE: &str = "This port takes websocket clients only; the HTTP interface is on another port.\n";

on_both_drivers! {
    fn any_path_is_a_clients_and_the_main_port_has_none(on) {
        let server = on(Builder::gateway()).start();
        for target in ["/", "/connect/", "/any/path?with=query", "/v1/clients"] {
            let open = Open { target: target.into(), ..anybody() };
            Client::open_with(server.gateway_port(), open.clone());
            let elsewhere = Client::start(server.port(), open).expect("connect");
            // There it is a request of the HTTP interface, if anybody's.
            let status = if target == "/v1/clients" { 200 } else { 404 };
            assert_eq!(elsewhere.answer(SOON).expect("an answer").status, status, "{target} on the main port");
        }
        // Without its URLs rainbow's door is off, and so is its interface; what operators ask is there.
        for (path, status) in [("/send/", 404), ("/serverinfo/", 404), ("/hello/", 404), ("/healthz", 200), ("/metrics", 200)] {
            let answer = http::call(server.port(), &Request::get(path), SOON).expect("an answer");
            assert_eq!(answer.status, status, "{path}");
        }
    }

    fn only_the_paths_of_the_settings(on) {
        let server = on(Builder::gateway().of_gateway("paths", "/ws, /chat/")).start();
        for (target, status) in [("/ws", 101), ("/ws?x=1", 101), ("/chat/", 101), ("/", 404), ("/ws/", 404), ("/chat", 404)] {
            let client = Client::start(server.gateway_port(), Open { target: target.into(), ..anybody() });
            assert_eq!(client.expect("connect").answer(SOON).expect("an answer").status, status, "{target}");
        }
    }

    fn what_is_no_websocket_is_told_what_this_port_is(on) {
        let server = on(Builder::gateway()).start();
        let mut connection = Connection::open(server.gateway_port()).expect("connect");
        for path in ["/", "/v1/clients", "/send/"] {
            let answer = connection.exchange(server.gateway_port(), &Request::get(path), SOON).expect("an answer, on one connection");
            assert_eq!((answer.status, &answer.text()[..]), (400, SENTENCE), "{path}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        }
        let post = Request::post("/v1/messages", "body");
        let answer = http::call(server.gateway_port(), &post, SOON).expect("an answer");
        assert_eq!((answer.status, &answer.text()[..]), (400, SENTENCE));
        // Of what wants to be a websocket it says what is missing.
        let mut open = anybody();
        open.upgrade = false;
        open.headers = vec![("Upgrade".into(), "websocket".into()), ("Connection".into(), "Upgrade".into())];
        let answer = Client::start(server.gateway_port(), open).expect("connect").answer(SOON).expect("an answer");
        assert_eq!(answer.status, 426);
        // What is no HTTP at all ends alone.
        let beside = client(&server);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.gateway_port())).expect("connect");
        std::io::Write::write_all(&mut stream, b"\x16\x03\x01 nonsense\r\n\r\n").expect("write");
        beside.frame(Op::Ping, b"there?");
        beside.expect(Op::Pong, b"there?");
    }

    /// Case 5.
    fn messages_up_to_the_limit_and_not_a_byte_more(on) {
        let server = on(Builder::gateway()).start();
        let sender = client(&server);
        for bytes in [0, 1, 512, 513, 64 << 10, 1 << 20] {
            sender.frame(Op::Text, &vec![b'x'; bytes]);
            sender.frame(Op::Binary, &vec![0; bytes]);
        }
        sender.frame(Op::Ping, b"still there");
        sender.expect(Op::Pong, b"still there");
        sender.frame(Op::Binary, &vec![0; (1 << 20) + 1]);
        let frame = sender.next(SOON).expect("a close frame");
        assert_eq!((frame.op, &frame.payload[..]), (Op::Close, &b"\x03\xf1message too big"[..]));
        let narrow = on(Builder::gateway().of_gateway("message_max", 512)).start();
        let sender = client(&narrow);
        sender.frame(Op::Text, &[b'x'; 512]);
        // In two frames, each within the limit.
        sender.raw(&encode(Op::Text, &[b'x'; 300], false, true)).expect("write");
        sender.raw(&encode(Op::Continuation, &[b'x'; 213], true, true)).expect("write");
        let frame = sender.next(SOON).expect("a close frame");
        assert_eq!((frame.op, &frame.payload[..2]), (Op::Close, &1009_u16.to_be_bytes()[..]));
    }

    fn who_breaks_the_rules_is_told_by_the_codes_of_rfc_6455(on) {
        let server = on(Builder::gateway()).start();
        for (bytes, code) in [
            (encode(Op::Text, b"\xff\xfe", true, true), 1007_u16),
            (encode(Op::Text, b"no mask", true, false), 1002),
            (encode(Op::Continuation, b"of nothing", true, true), 1002),
        ] {
            let client = client(&server);
            client.raw(&bytes).expect("write");
            let frame = client.next(SOON).expect("a close frame");
            assert_eq!((frame.op, &frame.payload[..2]), (Op::Close, &code.to_be_bytes()[..]));
        }
        let leaving = client(&server);
        leaving.frame(Op::Close, &4321_u16.to_be_bytes());
        assert_eq!(leaving.next(SOON).expect("an answer").payload[..2], 4321_u16.to_be_bytes());
    }
}
