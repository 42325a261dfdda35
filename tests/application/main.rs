//! The gateway as a library: handlers in Rust, on a server in the test's own process. Cases are those of the door's conformance
//! list where a test says so.

#[path = "../common/mod.rs"]
mod common;

mod chat;
mod closing;
mod connecting;
mod messages;
mod panics;
mod surface;

use std::future::{Future, IntoFuture};
use std::sync::{Arc, Mutex};

use common::client::{Client, Op, Open};
use common::ports::{self, Port};
use common::{SOON, eventually, ms};
use rainbow_server::application::{Api, Application, ClientId, Running, Server};

/// A server of the test's own process. Dropping it stops it.
struct Fixture {
    running: Option<Running>,
    main: Port,
    clients: Port,
}

impl Fixture {
    /// With these handlers, and settings of the test's.
    fn start(app: impl Application, settings: impl FnOnce(Server) -> Server) -> Self {
        let (main, clients) = (ports::claim(), ports::claim());
        let server = Server::new()
            .main("http_port", main.number)
            .main("workers", 2)
            .gateway("port", clients.number)
            .threads(2);
        Self {
            running: Some(settings(server).start(app).expect("the server starts")),
            main,
            clients,
        }
    }

    fn api(&self) -> &Api {
        self.running.as_ref().expect("it runs").api()
    }

    /// A client that was let in.
    fn client(&self) -> Client {
        client(self.clients.number)
    }

    /// Stops, and says what came of it.
    fn stop(mut self) -> Result<(), String> {
        self.running.take().expect("it runs").stop()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && !std::thread::panicking()
        {
            running.stop().expect("it stops");
        }
    }
}

/// A client that was let in on this port.
fn client(port: u16) -> Client {
    Client::open_with(port, open("/"))
}

/// How a client opens.
fn open(target: &str) -> Open {
    Open {
        target: target.into(),
        headers: Vec::new(),
        ..Open::default()
    }
}

/// Waits for something asked from outside of the handlers.
fn wait<F: IntoFuture>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let within = async { tokio::time::timeout(SOON, future).await.expect("an answer") };
    runtime.expect("a runtime").block_on(within)
}

/// The next frame as text.
fn text(client: &Client) -> String {
    let frame = client.next(SOON).expect("a frame");
    assert_eq!(frame.op, Op::Text, "{}", common::excerpt(&frame.payload, 60));
    String::from_utf8(frame.payload).expect("UTF-8")
}

/// The id a client is told as its first message.
fn id(client: &Client) -> ClientId {
    text(client).parse().expect("an id")
}

/// What handlers have seen, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.lock().expect("notes").push(note.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("notes").clone()
    }

    /// Waits until there are so many.
    fn expect(&self, number: usize) -> Vec<String> {
        let are_there = eventually(SOON, || self.all().len() >= number);
        assert!(are_there, "{number} expected, these are there: {:?}", self.all());
        self.all()
    }
}

/// Runs `tasks` at the same time.
fn together<T: Send>(number: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let task = &task;
        let threads: Vec<_> = (0..number).map(|number| scope.spawn(move || task(number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    })
}

/// Sleeps as a handler does.
fn pause(millis: u64) -> impl Future<Output = ()> + Send {
    tokio::time::sleep(ms(millis))
}
