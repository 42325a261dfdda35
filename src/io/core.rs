//! One shard's core: the shell that feeds its shard from sockets, mailbox and clock, and takes what it leaves for others.
//!
//! Every entry is a *turn* ([`Core::turn`]): call the shard, post what it left for other cores, end the turn (deliveries
//! and replies are written), post again. Posting before writing is what makes "whoever has seen the answer can rely on its
//! effects" true across cores: while mail waits for room in a full mailbox, replies wait as well.
//!
//! Tasks of a core: one for the listeners of each kind (plain, TLS), one that reads all clients, one per connection waiting
//! to write, the mailbox, the ticker. Clients are not waited for one by one on the ring: the core's epoll knows who has
//! input ([`SocketTable::take_ready`]), and the ring waits for that one descriptor. A closing connection takes three steps:
//! the shard closes it (`shutdown`), a waiting writer wakes up and ends, the last reference closes the descriptor.

mod accept;
mod greet;
mod input;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpStream;

use super::admission::{Admission, Arrival, Doorman};
use super::clock::Clock;
use super::mail::{ControlMail, Handover, Outlets, ShardMail};
use super::sockets::SocketTable;
use super::ticker::Ticker;
use super::tls::{Identity, Session};
use super::wake::{Sleeper, Waker};
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::{ClientId, ShardId};
use crate::engine::mailbox::{Receiver, Wake};
use crate::limits::{MAILBOX_BATCH, RECEIVE_SCRATCH_BYTES};
use crate::shard::Shard;
use crate::time::Instant;

/// Pause before a core looks again whether its mail has found room in other mailboxes.
const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

/// What a core is made of, moved to its thread.
pub struct CoreSetup {
    /// The engine's part.
    pub shard: crate::shard::Setup,
    /// Its listening sockets.
    pub listeners: Vec<std::net::TcpListener>,
    /// Its listening sockets for TLS, and what to serve them with.
    pub tls: Option<(Vec<std::net::TcpListener>, Identity)>,
    /// Its mailbox.
    pub mailbox: Receiver<ShardMail>,
    /// What wakes it.
    pub waker: Waker,
    /// Its way to the others.
    pub outlets: Outlets,
    /// The process's clock.
    pub clock: Clock,
    /// Shared by all cores.
    pub admission: Arc<Admission>,
}

/// One shard's core.
pub struct Core {
    id: ShardId,
    shard: RefCell<Shard>,
    sockets: RefCell<SocketTable>,
    outlets: RefCell<Outlets>,
    scratch: RefCell<Box<[u8]>>,
    ticker: Ticker,
    clock: Clock,
    waker: Waker,
    /// The shard has more to do than fitted into its last turn.
    more: Cell<bool>,
    commands: RefCell<Vec<(ShardId, Command)>>,
    reports: RefCell<Vec<Report>>,
    listening: RefCell<Vec<i32>>,
    stopped: Cell<bool>,
    /// For new TLS connections.
    identity: RefCell<Option<Identity>>,
    handshakes_max: Cell<usize>,
    greeting: greet::Greeting,
}

/// Runs a shard until its thread is ended with the process.
pub async fn run(setup: CoreSetup) {
    let sleeper = match Sleeper::new(setup.waker.clone()) {
        Ok(sleeper) => sleeper,
        Err(error) => panic!("the core's eventfd cannot be used: {error}"),
    };
    let (tls_listeners, identity) = setup.tls.unzip();
    let doorman = Doorman::new(setup.admission, setup.shard.config.clone(), setup.shard.metrics.clone());
    let sockets = match SocketTable::new(setup.shard.metrics.clone(), doorman) {
        Ok(sockets) => sockets,
        Err(error) => panic!("the core's epoll cannot be made: {error}"),
    };
    let core = Rc::new(Core {
        id: setup.shard.id,
        handshakes_max: Cell::new(setup.shard.config.tls_handshakes),
        identity: RefCell::new(identity),
        sockets: RefCell::new(sockets),
        shard: RefCell::new(Shard::new(setup.shard)),
        outlets: RefCell::new(setup.outlets.of_core(setup.waker.clone())),
        scratch: RefCell::new(vec![0; RECEIVE_SCRATCH_BYTES].into_boxed_slice()),
        ticker: Ticker::default(),
        clock: setup.clock,
        waker: setup.waker,
        more: Cell::new(false),
        commands: RefCell::default(),
        reports: RefCell::default(),
        listening: RefCell::default(),
        stopped: Cell::new(false),
        greeting: greet::Greeting::default(),
    });
    core.listen(setup.listeners, false);
    core.listen(tls_listeners.unwrap_or_default(), true);
    monoio::spawn(tick(core.clone()));
    let ready = core.sockets.borrow().readiness();
    match ready.and_then(|ready| TcpStream::from_std(std::net::TcpStream::from(ready))) {
        Ok(ready) => drop(monoio::spawn(input::read(core.clone(), ready))),
        Err(error) => panic!("the core's epoll cannot be used: {error}"),
    }
    mail(core, setup.mailbox, sleeper).await;
}

/// The mailbox loop, which also runs what does not fit into one turn.
async fn mail(core: Rc<Core>, mailbox: Receiver<ShardMail>, sleeper: Sleeper) {
    let mut adopted = Vec::new();
    loop {
        core.more.set(false);
        let handled = core.turn(|shard, sockets, now| {
            let batch = if shard.is_full() { 0 } else { MAILBOX_BATCH };
            mailbox.drain(batch, |mail| match mail {
                ShardMail::Command(command) => {
                    if matches!(command, Command::Drain) {
                        core.stop_listening(sockets);
                    }
                    shard.on_command(command, now, sockets);
                }
                ShardMail::Adopt(handover) => adopted.push(handover),
                ShardMail::Reload(config) => {
                    core.reload(&config, sockets);
                    sockets.doorman_mut().reload(config.clone());
                    shard.reload(config);
                }
                ShardMail::Identity(identity) => drop(core.identity.replace(Some(identity))),
            })
        });
        for Handover {
            socket,
            bytes,
            tls,
            told,
        } in adopted.drain(..)
        {
            match TcpStream::from_std(std::net::TcpStream::from(socket)) {
                Ok(stream) => core.welcome_back(stream, bytes, tls, told),
                Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
            }
        }
        if core.congested() {
            core.outlets.borrow_mut().kick();
        }
        if core.more.get() || handled == MAILBOX_BATCH || core.congested() {
            sleeper.yield_now().await;
        } else if mailbox.prepare_sleep() {
            sleeper.sleep().await;
            mailbox.cancel_sleep();
        }
    }
}

/// Fires the shard's timers.
async fn tick(core: Rc<Core>) {
    loop {
        let deadline = core.shard.borrow().next_deadline();
        core.ticker.sleep(deadline, &core.clock).await;
        if core.turn(|shard, sockets, now| shard.on_tick(now, sockets)) {
            core.run_again();
        }
    }
}

/// Waits until a connection takes bytes again.
async fn write(core: Rc<Core>, client: ClientId, stream: Rc<TcpStream>) {
    loop {
        // An error shows again at the next write.
        let _ = stream.writable(false).await;
        if core.sockets.borrow_mut().flush(client) {
            break;
        }
    }
    core.decongested().await;
    core.turn(|shard, sockets, now| shard.on_writable(client, now, sockets));
}

impl Core {
    /// One turn of the shard.
    fn turn<R>(self: &Rc<Self>, call: impl FnOnce(&mut Shard, &mut SocketTable, Instant) -> R) -> R {
        let now = self.clock.now();
        let (result, requests) = {
            let mut shard = self.shard.borrow_mut();
            let mut sockets = self.sockets.borrow_mut();
            let result = call(&mut shard, &mut sockets, now);
            self.post(&mut shard);
            if shard.end_turn(self.congested(), now, &mut *sockets) && !self.more.replace(true) {
                self.waker.wake();
            }
            self.post(&mut shard);
            self.ticker.note(shard.next_deadline());
            (result, sockets.has_requests())
        };
        if requests {
            self.serve_requests();
        }
        result
    }

    /// Posts what the shard left for other cores.
    fn post(&self, shard: &mut Shard) {
        let (mut commands, mut reports) = (self.commands.borrow_mut(), self.reports.borrow_mut());
        shard.take_commands(&mut commands);
        shard.take_reports(&mut reports);
        if commands.is_empty() && reports.is_empty() {
            return;
        }
        let mut outlets = self.outlets.borrow_mut();
        for (target, command) in commands.drain(..) {
            outlets.post_shard(target, ShardMail::Command(command));
        }
        for report in reports.drain(..) {
            outlets.post_control(ControlMail::Report(report));
        }
        outlets.kick();
    }

    /// Starts the tasks the shard's sockets need.
    fn serve_requests(self: &Rc<Self>) {
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        self.sockets.borrow_mut().take_want_write(&mut writers);
        self.sockets.borrow_mut().take_resume(&mut readers);
        for client in writers {
            if let Some(stream) = self.sockets.borrow().stream(client) {
                monoio::spawn(write(self.clone(), client, stream));
            }
        }
        for client in readers {
            self.begin_to_read(client);
        }
    }

    /// Takes a connection in; `bytes` were read from it already.
    fn adopt(self: &Rc<Self>, stream: TcpStream, mut bytes: Vec<u8>, tls: Option<Box<Session>>, arrival: Arrival) {
        let accepted = self.shard.borrow_mut().on_accept(self.clock.now());
        let Some(client) = accepted else {
            return self.refuse(stream, tls.is_some());
        };
        let _ = stream.set_nodelay(true);
        let stream = Rc::new(stream);
        self.sockets.borrow_mut().insert(client, stream.clone(), tls);
        self.sockets.borrow_mut().doorman_mut().settle(client.slot, arrival);
        self.ticker.note(self.shard.borrow().next_deadline());
        if !bytes.is_empty() {
            let input = self.turn(|shard, sockets, now| shard.on_bytes(client, &mut bytes, now, sockets));
            if let input::Received::Stop = self.follow(input, client) {
                return;
            }
        }
        self.begin_to_read(client);
    }

    fn congested(&self) -> bool {
        self.outlets.borrow().overflow() > 0
    }

    /// Waits while mail of this core finds no room: policy of a full mailbox (`engine::mailbox`).
    async fn decongested(&self) {
        while self.congested() {
            Box::pin(monoio::time::sleep(CONGESTION_PAUSE)).await;
            self.outlets.borrow_mut().kick();
        }
    }

    /// Makes the mailbox loop run once more.
    fn run_again(&self) {
        if !self.more.replace(true) {
            self.waker.wake();
        }
    }

    /// Waits until a TLS handshake may begin, or the server stops.
    async fn handshake_room(&self) {
        std::future::poll_fn(|context| {
            if self.handshakes_left() > 0 || self.stopped.get() {
                return Poll::Ready(());
            }
            self.sockets.borrow_mut().wait_for_handshake(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn reload(&self, config: &Config, sockets: &mut SocketTable) {
        self.handshakes_max.set(config.tls_handshakes);
        sockets.wake_waiting();
    }
}
