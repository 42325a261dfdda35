//! One shard's core: the shell that feeds its shard from sockets, mailbox and clock, and takes what it leaves for others.
//!
//! Every entry is a *turn* ([`Core::turn`]): call the shard, post what it left for other cores, end the turn (deliveries
//! and replies are written), post again. Posting before writing is what makes "whoever has seen the answer can rely on its
//! effects" true across cores.
//!
//! Tasks of a core: one for the listeners of each kind (plain, TLS), one that reads all clients, one for all that wait to
//! write, the mailbox, the ticker. Clients are not waited for one by one on the ring: the core's epolls know who has
//! input ([`SocketTable::take_ready`]) and who has room ([`SocketTable::take_writable`]), and the ring waits for those two
//! descriptors. So nobody but the table holds a client's descriptor, and closing it is one step.

mod accept;
mod greet;
mod input;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use monoio::net::TcpStream;

use super::admission::{Admission, Arrival, Doorman};
use super::clock::Clock;
use super::mail::{ControlMail, Outlets, ShardMail};
use super::sockets::SocketTable;
use super::ticker::Ticker;
use super::tls::{Identity, Session};
use super::wake::{Sleeper, Waker};
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::ShardId;
use crate::engine::mailbox::{Receiver, Wake};
use crate::limits::{MAILBOX_BATCH, RECEIVE_SCRATCH_BYTES};
use crate::shard::Shard;
use crate::time::Instant;

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
    let sockets = match SocketTable::new(setup.shard.id, setup.shard.metrics.clone(), doorman) {
        Ok(sockets) => sockets,
        Err(error) => panic!("the core's epoll cannot be made: {error}"),
    };
    let core = Rc::new(Core {
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
    let readiness = core.sockets.borrow().readiness();
    match readiness.and_then(|(input, room)| Ok((waitable(input)?, waitable(room)?))) {
        Ok((input, room)) => {
            monoio::spawn(input::read(core.clone(), input));
            monoio::spawn(input::write(core.clone(), room));
        }
        Err(error) => panic!("the core's epolls cannot be used: {error}"),
    }
    mail(core, setup.mailbox, sleeper).await;
}

/// A descriptor in the only runtime type that offers readiness on any; nothing else of it is used.
fn waitable(fd: OwnedFd) -> std::io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(fd))
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
        for handover in adopted.drain(..) {
            core.welcome_back(handover);
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

impl Core {
    /// One turn of the shard.
    fn turn<R>(self: &Rc<Self>, call: impl FnOnce(&mut Shard, &mut SocketTable, Instant) -> R) -> R {
        let now = self.clock.now();
        let result = {
            let mut shard = self.shard.borrow_mut();
            let mut sockets = self.sockets.borrow_mut();
            let result = call(&mut shard, &mut sockets, now);
            self.post(&mut shard);
            if shard.end_turn(now, &mut *sockets) && !self.more.replace(true) {
                self.waker.wake();
            }
            self.post(&mut shard);
            self.ticker.note(shard.next_deadline());
            result
        };
        self.end_failed();
        result
    }

    /// Ends the clients whose socket cannot be waited for.
    fn end_failed(self: &Rc<Self>) {
        let failed = self.sockets.borrow_mut().take_failed();
        for client in failed {
            self.turn(|shard, sockets, now| shard.on_end(client, CloseCause::SocketError, now, sockets));
        }
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

    /// Takes a connection in; `bytes` were read from it already.
    fn adopt(self: &Rc<Self>, socket: OwnedFd, mut bytes: Vec<u8>, tls: Option<Box<Session>>, arrival: Arrival) {
        let accepted = self.shard.borrow_mut().on_accept(self.clock.now());
        let Some(client) = accepted else {
            return self.refuse(socket, tls.is_some());
        };
        let _ = socket2::SockRef::from(&socket).set_tcp_nodelay(true);
        self.sockets.borrow_mut().insert(client, socket, tls);
        self.sockets.borrow_mut().doorman_mut().settle(client.slot, arrival);
        self.ticker.note(self.shard.borrow().next_deadline());
        if !bytes.is_empty() {
            if let input::Received::Stop = self.give(client, &mut bytes) {
                return;
            }
        }
        self.sockets.borrow_mut().watch(client);
        self.end_failed();
    }

    fn congested(&self) -> bool {
        self.outlets.borrow().overflow() > 0
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
