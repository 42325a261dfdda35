//! One shard's core: the shell that feeds its shard from sockets, mailbox and clock, and takes what it leaves for others.
//!
//! Every entry is a *turn* ([`Core::turn`]): call the shard, post what it left for other cores, end the turn (deliveries
//! and replies are written), post again. Posting before writing is what makes "whoever has seen the answer can rely on its
//! effects" true across cores.
//!
//! Tasks of a core: one for the listeners of each kind (plain, TLS), one that reads all clients, one per connection waiting
//! to write, the mailbox, the ticker. Clients are not waited for one by one on the ring: the core's epoll knows who has
//! input ([`SocketTable::take_ready`]), and the ring waits for that one descriptor. A closing connection takes three steps:
//! the shard closes it (`shutdown`), a waiting writer wakes up and ends, the last reference closes the descriptor.

mod greet;

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpStream;

use super::admission::{Admission, Arrival, Doorman};
use super::clock::Clock;
use super::mail::{ControlMail, Handover, Outlets, ShardMail};
use super::sockets::{Ready, SocketTable};
use super::sys;
use super::ticker::Ticker;
use super::tls::{End, Identity, Session};
use super::wake::{Sleeper, Waker};
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::{ClientId, ShardId};
use crate::engine::mailbox::{Receiver, Wake};
use crate::limits::{MAILBOX_BATCH, RECEIVE_SCRATCH_BYTES, RECEIVES_PER_TURN_MAX};
use crate::shard::{Input, Shard};
use crate::time::Instant;

/// Connections taken from one listening socket before the others get their turn: each costs a handshake.
const ACCEPTS_PER_TURN: usize = 16;
/// Pause after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause of a reader while this core's mail waits for room in other mailboxes.
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
        Ok(ready) => drop(monoio::spawn(read(core.clone(), ready))),
        Err(error) => panic!("the core's epoll cannot be used: {error}"),
    }
    mail(core, setup.mailbox, sleeper).await;
}

/// Accepts until the server stops. The listening sockets are not given to the ring: see [`sys::watch`].
async fn accept(core: Rc<Core>, listeners: Vec<std::net::TcpListener>, ready: TcpStream, secure: bool) {
    while !core.stopped.get() {
        if secure {
            core.handshake_room().await;
        }
        if ready.readable(false).await.is_err() {
            return;
        }
        for listener in &listeners {
            if let Err(error) = core.accept_some(listener, secure) {
                tracing::warn!(%error, "accept failed");
                // Trying again at once would spin while descriptors or memory are short.
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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

/// Reads all clients, those that have input in turn.
async fn read(core: Rc<Core>, ready: TcpStream) {
    let mut clients = Vec::new();
    loop {
        if let Err(error) = ready.readable(false).await {
            panic!("the core's epoll cannot be waited for: {error}");
        }
        while core.congested() {
            Box::pin(monoio::time::sleep(CONGESTION_PAUSE)).await;
            core.outlets.borrow_mut().kick();
        }
        let taken = core.sockets.borrow_mut().take_ready(&mut clients);
        if let Err(error) = taken {
            panic!("the core's epoll failed: {error}");
        }
        for ready in clients.drain(..) {
            core.read(ready);
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
    core.turn(|shard, sockets, now| shard.on_writable(client, now, sockets));
}

/// What a receive call left.
enum Received {
    /// The socket is empty.
    All,
    /// There may be more.
    More,
    /// Do not read this connection any more.
    Stop,
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
            if shard.end_turn(now, &mut *sockets) && !self.more.replace(true) {
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
            if let Received::Stop = self.follow(input, client) {
                return;
            }
        }
        self.begin_to_read(client);
    }

    /// From now on the client's input is reported. Clients that are gone are left alone.
    fn begin_to_read(self: &Rc<Self>, client: ClientId) {
        let watched = self.sockets.borrow_mut().watch(client);
        if watched.is_err_and(|error| error.kind() != std::io::ErrorKind::NotConnected) {
            self.turn(|shard, sockets, now| shard.on_end(client, CloseCause::SocketError, now, sockets));
        }
    }

    /// Reads one client until its socket is empty or others should have their turn.
    fn read(self: &Rc<Self>, ready: Ready) {
        let client = ClientId {
            shard: self.id,
            slot: ready.slot,
            generation: ready.generation,
        };
        for _ in 0..RECEIVES_PER_TURN_MAX {
            match self.receive(client) {
                Received::Stop => return,
                Received::All if !ready.ended => return,
                Received::All | Received::More => {}
            }
        }
        self.sockets.borrow_mut().rewatch(client);
    }

    /// One receive call and its turn.
    fn receive(self: &Rc<Self>, client: ClientId) -> Received {
        let mut scratch = self.scratch.borrow_mut();
        let result = self.sockets.borrow_mut().receive(client, &mut scratch);
        let received = match result {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Received::All,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Received::More,
            // Closed since it was reported.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return Received::Stop,
            Err(_) => {
                self.turn(|shard, sockets, now| shard.on_end(client, CloseCause::SocketError, now, sockets));
                return Received::Stop;
            }
        };
        if received.bytes > 0 {
            let bytes = scratch.get_mut(..received.bytes).unwrap_or_default();
            let input = self.turn(|shard, sockets, now| shard.on_bytes(client, bytes, now, sockets));
            if let Received::Stop = self.follow(input, client) {
                return Received::Stop;
            }
        } else if self.sockets.borrow().has_requests() {
            self.serve_requests();
        }
        if let Some(end) = received.end {
            self.end(client, end);
            return Received::Stop;
        }
        if received.more { Received::More } else { Received::All }
    }

    /// A connection ended while it was read.
    fn end(self: &Rc<Self>, client: ClientId, end: End) {
        let cause = match end {
            End::Closed => CloseCause::ClientGone,
            End::Failed => CloseCause::TlsFailed,
        };
        self.turn(|shard, sockets, now| shard.on_end(client, cause, now, sockets));
    }

    /// Does what the shard said about the socket.
    fn follow(&self, input: Input, client: ClientId) -> Received {
        match input {
            Input::Continue => Received::More,
            Input::Gone => Received::Stop,
            Input::Pause => {
                self.sockets.borrow_mut().unwatch(client);
                Received::Stop
            }
            Input::HandOver(bytes) => {
                let stream = self.sockets.borrow().stream(client);
                // A descriptor whose duplicate lives on would stay watched when it is closed.
                self.sockets.borrow_mut().unwatch(client);
                let (tls, told) = self.sockets.borrow_mut().remove(client);
                let Some(stream) = stream else {
                    return Received::Stop;
                };
                // The runtime keeps its own reference to the descriptor, so the control core gets a second one.
                match sys::duplicate(stream.as_raw_fd()) {
                    Ok(socket) => {
                        let mut outlets = self.outlets.borrow_mut();
                        outlets.post_control(ControlMail::Handover(Handover {
                            socket,
                            bytes,
                            tls,
                            told,
                        }));
                        outlets.kick();
                    }
                    Err(error) => tracing::warn!(%error, "an API connection could not be handed over"),
                }
                Received::Stop
            }
        }
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

    /// Takes connections that wait, a bounded number per turn.
    fn accept_some(self: &Rc<Self>, listener: &std::net::TcpListener, secure: bool) -> std::io::Result<()> {
        let room = if secure { self.handshakes_left() } else { usize::MAX };
        for _ in 0..room.min(ACCEPTS_PER_TURN) {
            match listener.accept() {
                Ok((stream, peer)) => self.greet(stream, peer.ip(), secure)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock || self.stopped.get() => return Ok(()),
                // The peer gave up while it waited.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if greet::is_descriptor_shortage(&error) => {
                    if !self.refuse_with_reserve(listener, secure)? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a new TLS connection begins with.
    fn session(&self) -> std::io::Result<Box<Session>> {
        let identity = self.identity.borrow().clone();
        let identity = identity.ok_or(std::io::ErrorKind::Unsupported)?;
        Session::new(identity).map(Box::new).map_err(std::io::Error::other)
    }

    /// TLS handshakes that may begin now.
    fn handshakes_left(&self) -> usize {
        let under_way = self.sockets.borrow().handshakes();
        self.handshakes_max.get().saturating_sub(under_way)
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

    /// Begins to accept. Errors end the core: nothing would ever be served.
    fn listen(self: &Rc<Self>, listeners: Vec<std::net::TcpListener>, secure: bool) {
        if listeners.is_empty() {
            return;
        }
        let fds: Vec<_> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        match sys::watch(&fds).and_then(|ready| TcpStream::from_std(std::net::TcpStream::from(ready))) {
            Ok(ready) => drop(monoio::spawn(accept(self.clone(), listeners, ready, secure))),
            Err(error) => panic!("the listening sockets cannot be used: {error}"),
        }
        self.listening.borrow_mut().extend(fds);
    }

    fn reload(&self, config: &Config, sockets: &mut SocketTable) {
        self.handshakes_max.set(config.tls_handshakes);
        sockets.wake_waiting();
    }

    fn stop_listening(&self, sockets: &mut SocketTable) {
        self.stopped.set(true);
        sockets.wake_waiting();
        // Wakes the accepting task, which then drops the sockets.
        self.listening.borrow_mut().drain(..).for_each(sys::shutdown);
    }
}
