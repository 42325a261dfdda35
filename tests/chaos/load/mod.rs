//! The load as a process of its own: clients that connect, talk, subscribe, read slowly and leave, and callers of the HTTP
//! interface, all in one loop on one thread.
//!
//! Who is refused or cut comes back with exponential back-off; a 503 says when. What is not acknowledged is sent again with
//! DUP. Commands: `clients N` wanted; `say MS`, `publish MS` mean pause of each client and caller (0: none); `churn 0|1`
//! every fourth client leaves now and then; `slow 0|1` every sixteenth reads slowly or not at all; `crash` notes that the
//! server was killed; `leave` closes every client; `status` prints counters.

mod caller;
mod client;

use super::events::{Event, Key, Log};
use super::net::{Net, Ready};
use super::rng::Rng;
use caller::Caller;
use client::Client;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(200);
/// Channels of ordinary clients, 1 and up, each with one caller.
pub const CHANNELS: u64 = 16;
/// The channel of those who read slowly: it gets large messages.
const SLOW_CHANNEL: u64 = 0;

/// Something to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Connect(usize),
    Say(usize, Key),
    /// Slot, connection, packet id, message.
    Repeat(usize, Key, u16, u64),
    Leave(usize, Key),
    Pause(usize, Key),
    Resume(usize, Key),
    Call(u64),
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Who {
    Client(usize),
    Caller(u64),
}

/// What the scenario reads.
#[derive(Default)]
struct Counters {
    refused: u64,
    retry_after: u64,
    cut: u64,
    sent: u64,
    answered: u64,
    published: u64,
    timeouts: u64,
    failed_calls: u64,
    got: u64,
}

/// Everything a client or a caller may touch.
struct Load {
    net: Net,
    log: Log,
    rng: Rng,
    server: SocketAddr,
    wanted: usize,
    say: u64,
    publish: u64,
    churns: bool,
    slows: bool,
    next_key: Key,
    next_publish: u64,
    tasks: BinaryHeap<Reverse<(Instant, Task)>>,
    who: HashMap<usize, Who>,
    counters: Counters,
}

impl Load {
    fn after(&mut self, millis: u64, task: Task) {
        let at = Instant::now() + Duration::from_millis(millis);
        self.tasks.push(Reverse((at, task)));
    }

    /// Around a mean.
    fn some(&mut self, mean: u64) -> u64 {
        self.rng.within(mean / 2, mean + mean / 2)
    }
}

/// Runs until standard input ends. Connections and publishes are numbered from `first`.
pub fn run(server: SocketAddr, log: &Path, first: u64) {
    let mut load = Load {
        net: Net::new(None).expect("epoll"),
        log: Log::open(log).expect("event log"),
        rng: Rng::new(first ^ u64::from(std::process::id())),
        server,
        wanted: 0,
        say: 0,
        publish: 0,
        churns: false,
        slows: false,
        next_key: first,
        next_publish: first,
        tasks: BinaryHeap::new(),
        who: HashMap::new(),
        counters: Counters::default(),
    };
    let mut clients: Vec<Client> = Vec::new();
    let mut callers: Vec<Caller> = (SLOW_CHANNEL..=CHANNELS).map(Caller::new).collect();
    println!("ready");
    let mut ready = Vec::new();
    loop {
        let due = load.tasks.peek().map(|Reverse((at, _))| *at);
        let wait = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        load.net.poll(wait, &mut ready).expect("poll");
        while let Some(Reverse((at, task))) = load.tasks.peek().copied()
            && at <= Instant::now()
        {
            load.tasks.pop();
            match task {
                Task::Connect(slot)
                | Task::Say(slot, _)
                | Task::Repeat(slot, ..)
                | Task::Leave(slot, _)
                | Task::Pause(slot, _)
                | Task::Resume(slot, _) => clients[slot].on_time(task, &mut load, &mut ready),
                Task::Call(channel) => callers[channel as usize].on_time(&clients, &mut load),
            }
        }
        for event in ready.drain(..) {
            match event {
                Ready::Line(line) => command(&line, &mut load, &mut clients, &callers),
                Ready::Input(token) => match load.who.get(&token).copied() {
                    Some(Who::Client(slot)) => clients[slot].on_input(&mut load),
                    Some(Who::Caller(channel)) => callers[channel as usize].on_input(&mut load),
                    None => {}
                },
                Ready::Ended(token, rest) => match load.who.remove(&token) {
                    Some(Who::Client(slot)) => clients[slot].on_end(token, rest, &mut load),
                    Some(Who::Caller(channel)) => callers[channel as usize].on_end(token, &mut load),
                    None => {}
                },
            }
        }
        load.log.flush().expect("event log");
        load.net.flush();
    }
}

fn command(line: &str, load: &mut Load, clients: &mut Vec<Client>, callers: &[Caller]) {
    let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
    let number: u64 = number.parse().expect("number");
    match word {
        "clients" => {
            load.wanted = number as usize;
            while clients.len() < load.wanted {
                clients.push(Client::new(clients.len()));
            }
            for slot in 0..load.wanted {
                load.after(0, Task::Connect(slot));
            }
            for client in &mut clients[load.wanted..] {
                client.leave(load);
            }
        }
        "say" => {
            let begins = load.say == 0;
            load.say = number;
            if begins && number > 0 {
                clients.iter().for_each(|client| client.plan_say(load));
            }
        }
        "publish" => {
            let begins = load.publish == 0;
            load.publish = number;
            if begins && number > 0 {
                callers.iter().for_each(|caller| caller.plan(load));
            }
        }
        "churn" => {
            load.churns = number == 1;
            clients.iter().for_each(|client| client.plan_leave(load));
        }
        "slow" => {
            load.slows = number == 1;
            clients.iter().for_each(|client| client.plan_pause(load));
            if !load.slows {
                clients.iter().for_each(|client| client.plan_resume(load));
            }
        }
        "crash" => load.log.note(Event::Crash),
        "leave" => {
            load.wanted = 0;
            clients.iter_mut().for_each(|client| client.leave(load));
        }
        "status" => status(load, clients, callers),
        _ => panic!("unknown command {line:?}"),
    }
}

fn status(load: &mut Load, clients: &[Client], callers: &[Caller]) {
    // Whoever reads "nothing is under way" may read the log.
    load.log.flush().expect("event log");
    let open = clients.iter().filter(|client| client.is_open()).count();
    let waiting: usize = clients.iter().map(Client::waiting).sum();
    let calls = callers.iter().filter(|caller| caller.is_busy()).count();
    let counters = &load.counters;
    println!(
        "open={open} wanted={} waiting={waiting} calls={calls} refused={} retry_after={} cut={} sent={} answered={} \
         published={} timeouts={} failed_calls={} got={}",
        load.wanted,
        counters.refused,
        counters.retry_after,
        counters.cut,
        counters.sent,
        counters.answered,
        counters.published,
        counters.timeouts,
        counters.failed_calls,
        counters.got,
    );
}
