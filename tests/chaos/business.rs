//! The business server as a process of its own, so that it can be killed and stopped. It keeps nothing: whose call it is it
//! knows from the cookie it gave, which is the number of the connection.
//!
//! Lets everybody in, into the channels asked for in `X-CHANNELS`; answers a message with the identity of its client.
//! Commands: `auth MILLISECONDS` before a connect is answered; `fail PERMILLE` of messages and closes fail (500, 503, or the
//! connection is cut); `doubt` notes that answers may have been lost.

use super::events::{Event, Key, Log};
use super::net::{Message, Net, Ready};
use super::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest sleep of the loop.
const TICK: Duration = Duration::from_millis(200);
/// How a request fails; otherwise its connection is cut.
const FAILURE_500: u64 = 0;
const FAILURE_503: u64 = 1;

struct Business {
    net: Net,
    log: Log,
    rng: Rng,
    auth_delay: Duration,
    fail_permille: u64,
    /// Answers that wait: when, for which connection, what.
    later: BinaryHeap<Reverse<(Instant, usize, Vec<u8>)>>,
}

/// What becomes of a request.
enum Answer {
    Now(Vec<u8>),
    Later(Vec<u8>),
    Cut,
}

/// Runs until standard input ends.
pub fn run(listen: SocketAddr, log: &Path) {
    let mut business = Business {
        net: Net::new(Some(listen)).expect("listen"),
        log: Log::open(log).expect("event log"),
        rng: Rng::new(u64::from(std::process::id())),
        auth_delay: Duration::ZERO,
        fail_permille: 0,
        later: BinaryHeap::new(),
    };
    business.log.note(Event::Started);
    business.log.flush().expect("event log");
    println!("ready");
    let mut ready = Vec::new();
    loop {
        let due = business.later.peek().map(|Reverse((at, ..))| *at);
        let wait = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        business.net.poll(wait, &mut ready).expect("poll");
        for event in ready.drain(..) {
            match event {
                Ready::Input(token) => business.requests_on(token),
                Ready::Ended(..) => {}
                Ready::Line(line) => business.command(&line),
            }
        }
        business.due();
        business.log.flush().expect("event log");
        business.net.flush();
    }
}

impl Business {
    fn command(&mut self, line: &str) {
        let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
        let number: u64 = number.parse().expect("number");
        match word {
            "auth" => self.auth_delay = Duration::from_millis(number),
            "fail" => self.fail_permille = number,
            "doubt" => self.log.note(Event::Doubt),
            _ => panic!("unknown command {line:?}"),
        }
    }

    fn requests_on(&mut self, token: usize) {
        while let Some(request) = self.net.get(token).and_then(|conn| Message::take(&mut conn.input)) {
            match self.answer(&request) {
                Answer::Now(bytes) => self.net.send(token, &bytes),
                Answer::Later(bytes) => {
                    let at = Instant::now() + self.auth_delay;
                    self.later.push(Reverse((at, token, bytes)));
                }
                Answer::Cut => self.net.close(token),
            }
        }
    }

    /// Answers whose time has come. A connection that went meanwhile gets none.
    fn due(&mut self) {
        while let Some(Reverse((at, ..))) = self.later.peek()
            && *at <= Instant::now()
        {
            let Reverse((_, token, bytes)) = self.later.pop().expect("peeked");
            self.net.send(token, &bytes);
        }
    }

    fn answer(&mut self, request: &Message) -> Answer {
        let target = request.second_word();
        if target.starts_with("/connect/") {
            let device = request.field("x-deviceid").unwrap_or_default();
            let Ok(key) = device.parse() else {
                return Answer::Now(http(400, "", b"no device"));
            };
            self.log.note(Event::Asked { key });
            let channels = request.field("x-channels").unwrap_or_default();
            let fields = format!("RAINBOWCLIENTCOOKIE: {key}\r\nRAINBOWCLIENTCHANNEL: {channels}\r\n");
            let bytes = http(200, &fields, br#"{"status": "success"}"#);
            return if self.auth_delay.is_zero() {
                Answer::Now(bytes)
            } else {
                Answer::Later(bytes)
            };
        }
        let Some(key) = request
            .field("rainbowclientcookie")
            .and_then(|cookie| cookie.parse().ok())
        else {
            return Answer::Now(http(400, "", b"no cookie"));
        };
        let failure = (self.rng.within(0, 999) < self.fail_permille).then(|| self.rng.within(0, 2));
        let identity = request.field("rainbowclientidentity").unwrap_or_default();
        let body = if target.starts_with("/close/") {
            // Whatever a handler says below 502, it has heard of it (docs/reliability.md).
            let fine = matches!(failure, None | Some(FAILURE_500));
            self.log.note(Event::Close { key, fine });
            ""
        } else {
            let ((owner, seq, qos), fine) = (said(&request.body), failure.is_none());
            self.log.note(Event::Forward {
                key,
                owner,
                seq,
                qos,
                fine,
            });
            identity
        };
        match failure {
            None => Answer::Now(http(200, "", body.as_bytes())),
            Some(FAILURE_500) => Answer::Now(http(500, "", b"failed")),
            Some(FAILURE_503) => Answer::Now(http(503, "", b"failed")),
            Some(_) => Answer::Cut,
        }
    }
}

/// Owner, number and QoS, as the client wrote them into the payload.
fn said(payload: &[u8]) -> (Key, u64, u8) {
    let text = String::from_utf8_lossy(payload);
    let mut words = text.split(' ').map(|word| word.parse().unwrap_or(0));
    let mut next = || words.next().unwrap_or(0);
    (next(), next(), next() as u8)
}

fn http(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
