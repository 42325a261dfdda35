//! One shard's core: the shell that feeds its shard from sockets, mailbox and clock, and takes what it leaves for others.
//!
//! Every entry is a *turn* ([`crate::shard::turn`]).
//!
//! Tasks of a core: one for the listeners of each kind (plain, TLS), one that reads all clients, one for all that wait to
//! write, the mailbox, the ticker. Clients are not waited for one by one on the ring: the core's epolls know who has
//! input ([`SocketTable::take_ready`]) and who has room ([`SocketTable::take_writable`]), and the ring waits for those two
//! descriptors. So nobody but the table holds a client's descriptor, and closing it is one step.

mod accept;
mod greet;
mod header;
mod input;

pub use accept::Via;

use std::cell::{Cell, RefCell, RefMut};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::admission::{Admission, Arrival, Doorman};
use super::clock::Clock;
use super::kernel::{Host, Kernel, Socket};
use super::mail::{ControlMail, Handover, Outlets, ShardMail};
use super::sockets::{READY_BATCH, SocketTable};
use super::ticker::Ticker;
use super::tls::{Identity, Session};
use super::wake::{Sleeper, Waker};
use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::command::Command;
use crate::engine::ids::ClientId;
use crate::engine::mailbox::{Receiver, Wake};
use crate::limits::{
    CONGESTION_PAUSE, FANOUT_SLICES_PER_ROUND, FANOUT_SLICES_PER_SHARED_ROUND, MAILBOX_BATCH, RECEIVE_SCRATCH_BYTES,
};
use crate::protocol::ListenerId;
use crate::shard::turn::{self, Length, Mail, Shell, Turned};
use crate::shard::{Shard, Sockets};
use crate::time::{Instant, Seldom};

/// How old the time of day of `Date` headers may be.
const WALL_CLOCK_AGE: Duration = Duration::from_secs(1);

/// What a core is made of, moved to its thread.
pub struct CoreSetup {
    /// The engine's part.
    pub shard: crate::shard::Setup,
    /// Its listening sockets, and how connections come in there.
    pub listeners: Vec<(Via, Vec<std::net::TcpListener>)>,
    /// What to serve those with that speak TLS.
    pub identity: Option<Identity>,
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
    /// Told when the core accepts.
    pub up: std::sync::mpsc::Sender<()>,
}

/// One shard's core, on a kernel.
pub struct Core<K: Kernel = Host> {
    shard: RefCell<Shard>,
    sockets: RefCell<SocketTable<K>>,
    outlets: RefCell<Outlets<K::Socket>>,
    scratch: RefCell<Box<[u8]>>,
    ticker: Ticker,
    /// When to tell the shard the time of day again.
    wall_clock_at: Cell<Instant>,
    waker: Waker,
    /// The shard has more to do than fitted into its last turn.
    more: Cell<bool>,
    /// Wake the tasks that accept.
    accepting: RefCell<Vec<Waker>>,
    stopped: Cell<bool>,
    /// For new TLS connections.
    identity: RefCell<Option<Identity>>,
    greeting: greet::Greeting,
    /// When it was last said that handshakes gave way.
    crowds: RefCell<Seldom>,
}

/// Runs a shard until its thread is ended with the process.
pub async fn run(setup: CoreSetup) {
    let sleeper = match Sleeper::new(setup.waker.clone()) {
        Ok(sleeper) => sleeper,
        Err(error) => panic!("the core's eventfd cannot be used: {error}"),
    };
    let kernel = match Host::new(READY_BATCH, setup.clock) {
        Ok(kernel) => kernel,
        Err(error) => panic!("the core's epolls cannot be made: {error}"),
    };
    let scratch = RECEIVE_SCRATCH_BYTES;
    let core = Core::new(
        setup.shard,
        kernel,
        setup.admission,
        setup.outlets,
        setup.waker,
        scratch,
    );
    core.identity.replace(setup.identity);
    for (via, listeners) in setup.listeners {
        core.listen(listeners, via);
    }
    monoio::spawn(tick(core.clone(), setup.clock));
    let readiness = core.sockets.borrow().kernel().readiness();
    match readiness.and_then(|(input, room)| Ok((waitable(input)?, waitable(room)?))) {
        Ok((input, room)) => {
            monoio::spawn(read(core.clone(), input));
            monoio::spawn(write(core.clone(), room));
        }
        Err(error) => panic!("the core's epolls cannot be used: {error}"),
    }
    let _ = setup.up.send(());
    drop(setup.up);
    mail(core, setup.mailbox, sleeper).await;
}

/// A descriptor in the only runtime type that offers readiness on any; nothing else of it is used.
fn waitable(fd: OwnedFd) -> std::io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(fd))
}

/// The mailbox loop, which also runs what does not fit into one turn.
async fn mail(core: Rc<Core>, mailbox: Receiver<ShardMail>, sleeper: Sleeper) {
    let (mut refused, mut ready) = (Vec::new(), Vec::new());
    loop {
        let slices = if sleeper.is_alone() {
            FANOUT_SLICES_PER_ROUND
        } else {
            FANOUT_SLICES_PER_SHARED_ROUND
        };
        let mut handled = core.take_mail(&mailbox, &mut refused);
        // Between the slices of a large fan-out clients and mail have their turn at once, everything else less often.
        for _ in 1..slices {
            if !core.is_slicing() || core.congested() || sleeper.neighbour_waits() {
                break;
            }
            core.read_ready(&mut ready);
            handled = core.take_mail(&mailbox, &mut refused);
        }
        for (socket, secure) in refused.drain(..) {
            core.refuse(socket, secure);
        }
        if core.congested() {
            core.kick();
        }
        if core.has_more() || handled == MAILBOX_BATCH || core.congested() {
            sleeper.yield_now().await;
        } else if mailbox.prepare_sleep() {
            sleeper.sleep().await;
            mailbox.cancel_sleep();
        }
    }
}

/// Fires the shard's timers.
async fn tick(core: Rc<Core>, clock: Clock) {
    loop {
        let deadline = core.next_deadline();
        core.ticker.sleep(deadline, &clock).await;
        core.fire();
    }
}

/// Reads all clients, those that have input in turn.
async fn read(core: Rc<Core>, input: TcpStream) {
    let mut clients = Vec::new();
    loop {
        if let Err(error) = input.readable(false).await {
            panic!("the core's epoll cannot be waited for: {error}");
        }
        while core.congested() {
            Box::pin(monoio::time::sleep(CONGESTION_PAUSE)).await;
            core.kick();
        }
        core.read_ready(&mut clients);
    }
}

/// Tells the shard which of the sockets it waits for take bytes again.
async fn write(core: Rc<Core>, room: TcpStream) {
    let mut clients = Vec::new();
    loop {
        if let Err(error) = room.readable(false).await {
            panic!("the core's epoll for writers cannot be waited for: {error}");
        }
        core.write_ready(&mut clients);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// A core in a turn of its shard.
struct Turning<'a, K: Kernel> {
    core: &'a Core<K>,
    shard: RefMut<'a, Shard>,
    sockets: RefMut<'a, SocketTable<K>>,
}

impl<K: Kernel> Shell for Turning<'_, K> {
    type Sockets = SocketTable<K>;

    fn shard(&mut self) -> (&mut Shard, &mut SocketTable<K>) {
        (&mut self.shard, &mut self.sockets)
    }

    fn post(&mut self) {
        let Mail { commands, reports } = self.shard.mail();
        let mut outlets = self.core.outlets.borrow_mut();
        for (target, command) in commands.drain(..) {
            outlets.post_shard(target, ShardMail::Command(command));
        }
        for report in reports.drain(..) {
            outlets.post_control(ControlMail::Report(report));
        }
        outlets.kick();
    }

    fn is_congested(&self) -> bool {
        self.core.congested()
    }
}

impl<K: Kernel> Core<K> {
    /// A core with nobody in it, which receives up to `scratch` bytes at a time.
    pub fn new(
        setup: crate::shard::Setup,
        kernel: K,
        admission: Arc<Admission>,
        outlets: Outlets<K::Socket>,
        waker: Waker,
        scratch: usize,
    ) -> Rc<Self> {
        let doorman = Doorman::new(admission, setup.config.clone(), setup.metrics.clone());
        Rc::new(Self {
            identity: RefCell::default(),
            sockets: RefCell::new(SocketTable::new(setup.id, kernel, setup.metrics.clone(), doorman)),
            shard: RefCell::new(Shard::new(setup)),
            outlets: RefCell::new(outlets.of_core(waker.clone())),
            scratch: RefCell::new(vec![0; scratch].into_boxed_slice()),
            ticker: Ticker::default(),
            wall_clock_at: Cell::new(Instant::ZERO),
            waker,
            more: Cell::new(false),
            accepting: RefCell::default(),
            stopped: Cell::new(false),
            greeting: greet::Greeting::default(),
            crowds: RefCell::default(),
        })
    }

    /// A batch of the mailbox and a slice of a large fan-out; returns how many messages there were. Connections for which
    /// there is no room, and whether they speak TLS, are appended to `refused`.
    pub fn take_mail(
        self: &Rc<Self>,
        mailbox: &Receiver<ShardMail<K::Socket>>,
        refused: &mut Vec<(K::Socket, bool)>,
    ) -> usize {
        self.more.set(false);
        let mut adopted = Vec::new();
        let handled = self.long_turn(|shard, sockets, now| {
            let batch = if shard.is_full() { 0 } else { MAILBOX_BATCH };
            mailbox.drain(batch, |mail| match mail {
                ShardMail::Command(command) => {
                    if matches!(command, Command::Drain) {
                        self.stop_listening();
                    }
                    shard.on_command(command, now, sockets);
                }
                ShardMail::Adopt(handover) => adopted.push(handover),
                ShardMail::Reload(config) => {
                    self.reload(&config, sockets);
                    sockets.doorman_mut().reload(config.clone());
                    shard.reload(config);
                }
                ShardMail::Identity(identity) => drop(self.identity.replace(Some(identity))),
            })
        });
        refused.extend(adopted.into_iter().filter_map(|handover| self.welcome_back(handover)));
        handled
    }

    /// Fires the shard's timers that are due.
    pub fn fire(self: &Rc<Self>) {
        let is_more_due = self.turn(|shard, sockets, now| {
            sockets.settle_places();
            shard.on_tick(now, sockets)
        });
        if is_more_due {
            self.run_again();
        }
    }

    /// When [`Core::fire`] should be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        earlier(
            self.shard.borrow().next_deadline(),
            self.sockets.borrow().next_deadline(),
        )
    }

    fn is_slicing(&self) -> bool {
        self.shard.borrow().is_slicing()
    }

    /// One turn of the shard.
    fn turn<R>(self: &Rc<Self>, call: impl FnOnce(&mut Shard, &mut SocketTable<K>, Instant) -> R) -> R {
        self.turn_of(Length::Short, call)
    }

    /// A turn in which large fan-outs go on.
    fn long_turn<R>(self: &Rc<Self>, call: impl FnOnce(&mut Shard, &mut SocketTable<K>, Instant) -> R) -> R {
        self.turn_of(Length::Long, call)
    }

    fn turn_of<R>(
        self: &Rc<Self>,
        length: Length,
        call: impl FnOnce(&mut Shard, &mut SocketTable<K>, Instant) -> R,
    ) -> R {
        let now = self.now();
        let result = {
            let mut turning = Turning {
                core: self,
                shard: self.shard.borrow_mut(),
                sockets: self.sockets.borrow_mut(),
            };
            if now >= self.wall_clock_at.get() {
                self.wall_clock_at.set(now + WALL_CLOCK_AGE);
                let unix_micros = turning.sockets.kernel().unix_micros();
                turning.shard.set_wall_clock(unix_micros, now);
            }
            let Turned { result, more } = turn::turn(&mut turning, length, now, call);
            if more && !self.more.replace(true) {
                self.waker.wake();
            }
            self.ticker
                .note(earlier(turning.shard.next_deadline(), turning.sockets.next_deadline()));
            result
        };
        self.end_failed();
        result
    }

    /// Ends the clients that cannot go on.
    fn end_failed(self: &Rc<Self>) {
        let failed = self.sockets.borrow_mut().take_failed();
        for (client, cause) in failed {
            if cause == CloseCause::TlsGaveWay {
                self.mention_crowd(client);
            }
            self.turn(|shard, sockets, now| shard.on_end(client, cause, now, sockets));
        }
    }

    /// A handshake is ended for one of another address.
    fn mention_crowd(&self, client: ClientId) {
        if let Some(more) = self.crowds.borrow_mut().happened(self.now()) {
            let from = self.sockets.borrow_mut().peer(client, None).map(|peer| peer.ip());
            tracing::warn!(
                from = from.map(tracing::field::display),
                more,
                advice = "that address begins TLS handshakes and does not finish them; connections_per_address bounds how many it has",
                "a TLS handshake was ended for one of another address: tls_handshakes are under way, most of them from this one"
            );
        }
    }

    /// Takes a connection in that came in there; `bytes` were read from it already. Gives it back if there is no room for it, with whether it
    /// speaks TLS.
    pub fn adopt(
        self: &Rc<Self>,
        socket: K::Socket,
        mut bytes: Vec<u8>,
        tls: Option<Box<Session>>,
        (listener, arrival): (ListenerId, Arrival),
    ) -> Option<(K::Socket, bool)> {
        let now = self.now();
        let accepted = self.shard.borrow_mut().on_accept(listener, now);
        let Some(client) = accepted else {
            return Some((socket, tls.is_some()));
        };
        if tls.as_ref().is_some_and(|session| session.is_silent()) {
            self.shard.borrow_mut().await_first_byte(client, now);
        }
        self.sockets.borrow_mut().insert(client, socket, tls);
        self.sockets.borrow_mut().doorman_mut().settle(client.slot, arrival);
        self.ticker.note(self.next_deadline());
        if bytes.is_empty() || !matches!(self.give(client, &mut bytes), input::Received::Stop) {
            self.sockets.borrow_mut().watch(client);
            self.end_failed();
        }
        None
    }

    /// A connection comes back from the control core; what its PROXY header told comes with it. Gives it back as
    /// [`Core::adopt`] does.
    fn welcome_back(self: &Rc<Self>, handover: Handover<K::Socket>) -> Option<(K::Socket, bool)> {
        let Handover {
            socket,
            bytes,
            tls,
            told,
            listener,
        } = handover;
        let arrival = match socket.peer() {
            Some(peer) => self.sockets.borrow().doorman().arrive(peer.ip(), told),
            // Gone already: the first read says so.
            None => Some(Arrival::default()),
        };
        match arrival {
            Some(arrival) => self.adopt(socket, bytes, tls, (listener, arrival)),
            None => Some((socket, tls.is_some())),
        }
    }

    /// Mail of this core waits for room in other mailboxes: it takes nothing from its sockets.
    pub fn congested(&self) -> bool {
        self.outlets.borrow().overflow() > 0
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.sockets.borrow().kernel().now()
    }

    /// The shard has more to do than fitted into its last turn: take mail again.
    pub fn has_more(&self) -> bool {
        self.more.get()
    }

    /// Tries again to post what found no room.
    pub fn kick(&self) {
        self.outlets.borrow_mut().kick();
    }

    /// What the shard holds, and panics contained so far; for the fuzz target.
    #[doc(hidden)]
    pub fn debug_counts(&self) -> (crate::shard::Counts, u64) {
        let shard = self.shard.borrow();
        (shard.debug_counts(), shard.debug_panics())
    }

    /// Makes the mailbox loop run once more.
    fn run_again(&self) {
        if !self.more.replace(true) {
            self.waker.wake();
        }
    }

    fn reload(&self, config: &Config, sockets: &mut SocketTable<K>) {
        sockets.set_handshakes_max(config.tls_handshakes);
    }
}
