//! Pings of the server, and what keeps a client alive (case 6).

use super::common::client::Op;
use super::common::eventually;
use super::*;

/// A client that answers pings by what a test does.
fn silent(server: &Server) -> Client {
    let open = Open {
        auto_pong: false,
        ..anybody()
    };
    Client::open_with(server.gateway_port(), open)
}

on_both_drivers! {
    fn who_answers_no_ping_is_closed(on) {
        let server = on(Builder::gateway().of_gateway("ping_interval", "0.2").of_gateway("ping_timeout", "0.5")).start();
        let (dead, alive) = (silent(&server), client(&server));
        dead.expect(Op::Ping, b"");
        let frame = dead.next(SOON).expect("a close frame");
        assert_eq!((frame.op, &frame.payload[..]), (Op::Close, &b"\x03\xf0ping_timeout"[..]));
        for _ in 0..5 {
            alive.expect(Op::Ping, b"");
        }
    }

    /// bin-x/websocket counts pongs only, and so cuts clients that talk.
    fn data_counts_as_an_answer(on) {
        let server = on(Builder::gateway().of_gateway("ping_interval", "0.3").of_gateway("ping_timeout", "2")).start();
        let talker = silent(&server);
        // For longer than interval and time-out together.
        for number in 0..12 {
            talker.expect(Op::Ping, b"");
            talker.frame(if number % 2 == 0 { Op::Text } else { Op::Binary }, b"");
        }
    }

    fn a_message_in_the_place_of_the_ping(on) {
        let beat = r#"{"type":"ping"}"#;
        let builder = Builder::gateway()
            .of_gateway("ping_interval", "0.2")
            .of_gateway("ping_timeout", "0")
            .of_gateway("ping_data", beat);
        let server = on(builder).start();
        let client = silent(&server);
        for _ in 0..5 {
            // Nothing has to come back.
            client.expect(Op::Text, beat.as_bytes());
        }
    }

    fn clients_with_heartbeats_of_their_own(on) {
        let server = on(Builder::gateway().of_gateway("ping_interval", "0").of_gateway("idle_timeout", "1.5")).start();
        let (dead, alive) = (silent(&server), silent(&server));
        let gone = eventually(SOON, || {
            alive.frame(Op::Text, b"");
            std::thread::sleep(ms(100));
            dead.next(ms(1)).is_some_and(|frame| frame.op == Op::Close && frame.payload == b"\x03\xf0idle_timeout")
        });
        assert!(gone);
        alive.expect_silence(ms(10));
    }
}
