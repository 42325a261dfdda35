//! What clients say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;
use rainbow_server::application::{Client as Handle, ClosedClient, Message};

/// Writes down what happens to each client.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Journal {
    fn note(&self, id: ClientId, what: String) {
        self.0
            .lock()
            .expect("notes")
            .entry(id.to_string())
            .or_default()
            .push(what);
    }

    fn of(&self, id: ClientId) -> Vec<String> {
        self.0
            .lock()
            .expect("notes")
            .get(id.as_str())
            .cloned()
            .unwrap_or_default()
    }
}

impl Application for Journal {
    async fn on_connect(&self, _: &Api, client: &Handle) {
        self.note(client.id(), "connect".into());
        client.send(client.id().to_string()).await.expect("sent");
    }

    async fn on_message(&self, _: &Api, client: &Handle, message: Message) {
        let text = message.text().expect("text").to_owned();
        if text == "close me" {
            client.close().await.expect("closed");
        } else if text.ends_with('0') {
            // Those behind it must not overtake it.
            pause(20).await;
        }
        self.note(client.id(), text);
    }

    async fn on_close(&self, _: &Api, client: &ClosedClient) {
        self.note(client.id, "close".into());
    }
}

/// Case 3.
#[test]
fn connect_then_messages_in_order_then_close_once() {
    let journal = Journal::default();
    let server = Fixture::start(journal.clone(), |server| server);
    type End = fn(&Fixture, Client, ClientId) -> Option<Client>;
    let ends: [End; 4] = [
        |_, client, _| {
            client.frame(Op::Close, &1000_u16.to_be_bytes());
            Some(client)
        },
        |server, client, id| {
            assert_eq!(wait(server.api().close_client(id)), Ok(1));
            Some(client)
        },
        |_, client, _| {
            client.reset();
            None
        },
        |_, client, _| {
            client.frame(Op::Text, b"close me");
            Some(client)
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let client = server.client();
        let id = id(&client);
        let messages: Vec<_> = (0..30).map(|number| number.to_string()).collect();
        messages.iter().for_each(|text| client.frame(Op::Text, text.as_bytes()));
        assert!(eventually(SOON, || journal.of(id).len() == 31), "{:?}", journal.of(id));
        let _client = end(&server, client, id);
        let mut expected = [vec!["connect".to_owned()], messages].concat();
        expected.extend((number == 3).then(|| "close me".to_owned()));
        expected.push("close".into());
        assert!(eventually(SOON, || journal.of(id).len() >= expected.len()), "{number}");
        std::thread::sleep(ms(50));
        assert_eq!(journal.of(id), expected, "end {number}");
    }
}

/// Answers with what was said.
struct Echo;

impl Application for Echo {
    async fn on_message(&self, _: &Api, client: &Handle, message: Message) {
        client.send(message).await.expect("sent");
    }
}

/// Cases 4 and 5.
#[test]
fn text_stays_text_and_binary_binary() {
    let server = Fixture::start(Echo, |server| server);
    let client = server.client();
    for (op, payload) in [
        (Op::Text, "grüße".as_bytes().to_vec()),
        (Op::Binary, vec![0xff, 0, 0xfe]),
        (Op::Text, Vec::new()),
        (Op::Binary, Vec::new()),
        (Op::Binary, vec![7; 64 << 10]),
        (Op::Text, vec![b'x'; 1 << 20]),
    ] {
        client.frame(op, &payload);
        client.expect(op, &payload);
    }
}

/// Sleeps as long as it is told, and says so before and after.
struct Sleeper {
    notes: Notes,
    under_way: AtomicBool,
}

impl Application for Sleeper {
    async fn on_message(&self, _: &Api, client: &Handle, message: Message) {
        let text = message.text().expect("text");
        let (how, millis) = text.split_once(' ').expect("how, and how long");
        assert!(!self.under_way.swap(true, SeqCst), "two at a time");
        let millis = millis.parse().expect("a number");
        match how {
            "block" => std::thread::sleep(ms(millis)),
            _ => {
                struct Ended<'a>(&'a AtomicBool);
                impl Drop for Ended<'_> {
                    fn drop(&mut self) {
                        self.0.store(false, SeqCst);
                    }
                }
                let _ended = Ended(&self.under_way);
                pause(millis).await;
            }
        }
        self.under_way.store(false, SeqCst);
        self.notes.add(text);
        client.send(text).await.expect("sent");
    }
}

fn sleeper(notes: &Notes) -> Sleeper {
    Sleeper {
        notes: notes.clone(),
        under_way: AtomicBool::new(false),
    }
}

/// Case 6: bin-x/websocket cuts a client whose handler takes longer than its pings.
#[test]
fn a_slow_handler_cuts_nobody() {
    let server = Fixture::start(sleeper(&Notes::default()), |server| {
        server.gateway("ping_interval", "0.1").gateway("ping_timeout", "0.3")
    });
    let client = server.client();
    client.frame(Op::Text, b"sleep 1500");
    let mut pings = 0;
    loop {
        match client.next(SOON).expect("a frame") {
            frame if frame.op == Op::Ping => pings += 1,
            frame => {
                assert_eq!(frame.payload, b"sleep 1500");
                break;
            }
        }
    }
    assert!(pings > 1, "its pings were answered meanwhile");
}

#[test]
fn a_handler_that_overstays_is_ended_and_overlaps_with_no_other() {
    let notes = Notes::default();
    let server = Fixture::start(sleeper(&notes), |server| server.main("callback_timeout", "0.3"));
    let client = server.client();
    for text in ["sleep 60000", "sleep 1", "block 900", "sleep 2"] {
        client.frame(Op::Text, text.as_bytes());
    }
    // One that blocks cannot be ended before it awaits something: its answer is not sent, or is.
    let mut answers = vec![text(&client)];
    while answers.last().is_none_or(|last| last != "sleep 2") {
        answers.push(text(&client));
    }
    assert_eq!(notes.all(), ["sleep 1", "block 900", "sleep 2"]);
    assert_eq!(answers[0], "sleep 1", "the first was ended");
}

/// Broadcasts what it is told.
struct Crier(Notes);

impl Application for Crier {
    async fn on_connect(&self, api: &Api, client: &Handle) {
        api.join_group(client.id(), "all").await.map(drop).unwrap_or_default();
    }

    async fn on_message(&self, api: &Api, _: &Handle, message: Message) {
        api.send_to_all(message).await.expect("sent");
    }

    async fn on_close(&self, _: &Api, _: &ClosedClient) {
        self.0.add("close");
    }
}

/// Case 21: bin-x/websocket cuts who broadcasts, after 69 ms.
#[test]
fn a_broadcast_among_clients_that_come_and_go() {
    let closed = Notes::default();
    let server = Fixture::start(Crier(closed.clone()), |server| server);
    let herald = server.client();
    let (port, stop) = (server.clients.number, AtomicBool::new(false));
    let came = std::thread::scope(|scope| {
        let churn = || {
            let mut came = 0;
            while !stop.load(SeqCst) {
                drop(client(port));
                came += 1;
            }
            came
        };
        let threads: Vec<_> = (0..15).map(|_| scope.spawn(churn)).collect();
        for number in 0..300 {
            let payload = format!("{number}");
            herald.frame(Op::Text, payload.as_bytes());
            herald.expect(Op::Text, payload.as_bytes());
        }
        stop.store(true, SeqCst);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum::<usize>()
    });
    assert!(came > 15);
    closed.expect(came);
    std::thread::sleep(ms(50));
    assert_eq!(closed.all().len(), came, "one close for each");
    assert!(eventually(SOON, || wait(server.api().client_count()) == Ok(1)));
    assert_eq!(wait(server.api().group_count("all")), Ok(1));
}

/// What a message costs on its way through a handler and back, beside a ping, which no handler sees. Not a test:
/// `cargo test --release --features application --test application -- --ignored --nocapture what_a_handler_costs`
#[test]
#[ignore = "a measurement"]
fn what_a_handler_costs() {
    use std::time::Instant;
    const ROUNDS: usize = 20_000;
    let server = Fixture::start(Echo, |server| server.main("workers", 1));
    let measured = |clients: usize, op: Op, answer: Op| {
        let (port, begun) = (server.clients.number, Instant::now());
        let times = together(clients, |_| {
            let client = client(port);
            let rounds = (0..ROUNDS / clients).map(|_| {
                let begun = Instant::now();
                client.frame(op, b"0123456789abcdef");
                assert_eq!(client.next(SOON).expect("an answer").op, answer);
                begun.elapsed()
            });
            rounds.collect::<Vec<_>>()
        });
        let took = begun.elapsed();
        let mut times = times.concat();
        times.sort();
        let (half, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let each = took / ROUNDS as u32;
        println!("{clients:2} clients, {op:?}: median {half:?}, 99 % {late:?}, one each {each:?}");
    };
    for clients in [1, 16] {
        measured(clients, Op::Ping, Op::Pong);
        measured(clients, Op::Text, Op::Text);
    }
}
