//! The control core: serves the HTTP API, runs the callbacks, holds no clients.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | state, mailbox; carries out what the desk (`engine::desk`) wants done |
//! | `reload.rs` | reading the settings again |
//! | `stop.rs` | the end |
//! | `http.rs` | API connections; `places.rs` who may hold one, `callers.rs` who calls |
//! | `surface.rs` | the HTTP interfaces: `surface/rainbow.rs` the API of rainbow-server, `ops.rs` what operators ask |
//! | `callback.rs` | the callback scheduler; what its requests look like: `surface/…/callback.rs` |
//! | `scrape.rs` | what `/metrics` says beyond the counters |
//! | `wait.rs` | callers that wait for the answer of the desk |
//! | `process.rs` | what `/serverinfo/` says about the process |

mod bodies;
pub mod callback;
mod callers;
mod http;
#[cfg(feature = "application")]
mod local;
#[cfg(not(feature = "application"))]
#[path = "nothing_local.rs"]
mod local;
mod ops;
mod places;
mod process;
mod reload;
mod scrape;
mod stop;
pub mod surface;
mod wait;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::{Announce, Cluster, Node};
use crate::config::{Config, Overrides};
use crate::engine::ack_data::{self, LeftOut};
use crate::engine::command::{CallbackOutcome, CallbackRequest, Command, Report};
use crate::engine::desk::{Caller, Desk, Output, Told};
use crate::engine::ids::{ClientId, DeskId, IdentityKey, ShardId, Ticket};
use crate::engine::mailbox::{Receiver, Wake};
use crate::engine::registry::HomeHash;
use crate::engine::remote::{Inbound, Outbound};
use crate::io::admission::Admission;
use crate::io::clock::Clock;
use crate::io::http::{Client, Prepared};
use crate::io::mail::{ControlMail, Outlets, ShardMail, Signal};
use crate::io::own_name::OwnName;
use crate::io::takeover::{Offer, Successor};
use crate::io::ticker::Ticker;
use crate::io::tls;
use crate::io::wake::{Sleeper, Waker};
use crate::limits::{CONGESTION_PAUSE, MAILBOX_BATCH, RECEIVE_SCRATCH_BYTES};
use crate::metrics::CoreMetrics;
use callback::Callbacks;
use local::Local;
use wait::Callers;

/// What the control core is made of, moved to its thread.
pub struct ControlSetup {
    /// Looks after the memory of the process.
    pub admission: Arc<Admission>,
    /// Settings.
    pub config: Arc<Config>,
    /// The file they came from, to be read again on reload; none for the demo.
    pub file: Option<PathBuf>,
    /// What the command line overrides.
    pub overrides: Overrides,
    /// For [`Config::resolved`] on reload.
    pub machine: Machine,
    /// Calls backends and peers.
    pub client: Prepared,
    /// Its mailbox.
    pub mailbox: Receiver<ControlMail>,
    /// What wakes it.
    pub waker: Waker,
    /// Its way to the others.
    pub outlets: Outlets,
    /// The process's clock.
    pub clock: Clock,
    /// Where channels are at home.
    pub home: HomeHash,
    /// Reads identities.
    pub identities: IdentityKey,
    /// Counters of all cores, this one's last.
    pub metrics: Vec<Arc<CoreMetrics>>,
    /// How peers know this server.
    pub announce: Announce,
    /// `ip:port`, what `/serverinfo/` calls this server.
    pub server_name: OwnName,
    /// Static pages by path.
    pub assets: Assets,
    /// Code of this process that handles the events of clients.
    #[cfg(feature = "application")]
    pub handlers: Option<Box<dyn crate::io::application::Handlers>>,
    /// Told the exit code when the server has stopped.
    pub exit: std::sync::mpsc::Sender<u8>,
    /// Told when this core serves.
    pub up: std::sync::mpsc::Sender<()>,
}

/// Reads the certificates of calls to backends and starts their threads: what may be refused, before a core begins. The files were
/// read when the settings were, but may have changed since. Errors are for the operator.
pub fn prepare_client(config: &Config) -> Result<Prepared, String> {
    Prepared::new(callback::options(config)).map_err(|error| error.to_string())
}

/// Static pages by path: content type and body.
pub type Assets = Box<dyn Fn(&[u8]) -> Option<(&'static str, Bytes)> + Send>;

/// What the machine offers.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores.
    pub cores: usize,
    /// Descriptors this process may open.
    pub descriptors_max: usize,
}

/// Pace of looking after memory, and while little is charged.
const TEND: std::time::Duration = std::time::Duration::from_secs(1);
const TEND_CALM: std::time::Duration = std::time::Duration::from_secs(10);

/// The control core's state.
pub struct Control {
    config: RefCell<Arc<Config>>,
    file: Option<PathBuf>,
    overrides: Overrides,
    machine: Machine,
    outlets: Rc<RefCell<Outlets>>,
    /// Wakes this core, whose mailbox loop announces what was posted quietly.
    waker: Waker,
    /// Mail is posted quietly at the moment.
    posts_quietly: Cell<bool>,
    clock: Clock,
    identities: IdentityKey,
    metrics: Vec<Arc<CoreMetrics>>,
    callbacks: Callbacks,
    /// Handles events in the place of a backend.
    local: Local,
    client: Client,
    cluster: Cluster,
    /// When the first certificate of ours ends, in seconds since 1970.
    certificate_expiry: Cell<Option<u64>>,
    reloads: reload::Reloads,
    surfaces: surface::Memory,
    /// What is asked of shards and peers, and who waits for it.
    desk: RefCell<Desk>,
    callers: Callers,
    /// Warnings about data of acknowledgements.
    ack_data: RefCell<ack_data::Notes>,
    /// Sleeps until the next deadline of the desk.
    ticker: Ticker,
    connections: http::Connections,
    scratch: RefCell<Box<[u8]>>,
    tls_scratch: RefCell<tls::Scratch>,
    next_shard: Cell<usize>,
    usage: process::Usage,
    server_name: OwnName,
    assets: Assets,
    exit: std::sync::mpsc::Sender<u8>,
    /// Lets another process take over, until this one stops.
    offer: RefCell<Option<Offer>>,
    /// The process that has the listening sockets, and the place in the cluster.
    successor: RefCell<Option<Successor>>,
    stopping: Cell<bool>,
    drained: Cell<usize>,
}

/// Runs the control core until the process ends.
pub async fn run(setup: ControlSetup) {
    let sleeper = match Sleeper::new(setup.waker.clone()) {
        Ok(sleeper) => sleeper,
        Err(error) => panic!("the core's eventfd cannot be used: {error}"),
    };
    let client = match setup.client.begin() {
        Ok(client) => client,
        Err(error) => panic!("the callback client cannot start: {error}"),
    };
    let local = Local::new(
        #[cfg(feature = "application")]
        setup.handlers,
    );
    let builders = local.in_place(surface::builders(&setup.config));
    let outlets = Rc::new(RefCell::new(setup.outlets.of_core(setup.waker.clone())));
    let desk = Desk::new(
        setup.identities.node(),
        DeskId::default(),
        setup.home,
        outlets.borrow().shards(),
    );
    let settings = callback::Settings::of(&setup.config);
    let cluster = Cluster::start(&setup.config, setup.announce, client.clone(), setup.clock);
    let certificate_expiry = Cell::new(certificate_expiry(&setup.config));
    let started = setup.clock.unix_micros() / 1_000_000;
    let reloads = reload::Reloads::new(&setup.config, setup.file.as_deref(), started);
    let control = Rc::new_cyclic(|control| Control {
        config: RefCell::new(setup.config),
        file: setup.file,
        overrides: setup.overrides,
        machine: setup.machine,
        outlets,
        waker: setup.waker,
        posts_quietly: Cell::new(false),
        clock: setup.clock,
        identities: setup.identities,
        metrics: setup.metrics,
        callbacks: Callbacks::start(client.clone(), builders, completion(control), settings),
        local,
        client,
        cluster,
        certificate_expiry,
        reloads,
        surfaces: surface::Memory::default(),
        desk: RefCell::new(desk),
        callers: Callers::default(),
        ack_data: RefCell::default(),
        ticker: Ticker::default(),
        connections: http::Connections::default(),
        scratch: RefCell::new(vec![0; RECEIVE_SCRATCH_BYTES].into_boxed_slice()),
        tls_scratch: RefCell::default(),
        next_shard: Cell::new(0),
        usage: process::Usage::new(&setup.clock),
        server_name: setup.server_name,
        assets: setup.assets,
        exit: setup.exit,
        offer: RefCell::default(),
        successor: RefCell::default(),
        stopping: Cell::new(false),
        drained: Cell::new(0),
    });
    monoio::spawn(tick(control.clone()));
    monoio::spawn(tend_memory(control.clone(), setup.admission));
    let _ = setup.up.send(());
    drop(setup.up);
    mail(control, setup.mailbox, sleeper).await;
}

/// What is done when a callback has ended: that is its door's affair.
fn completion(control: &Weak<Control>) -> callback::Completion {
    let control = control.clone();
    Rc::new(move |request: &CallbackRequest, outcome| {
        if let Some(control) = control.upgrade() {
            surface::completed(&control, request, outcome);
        }
    })
}

/// Looks after the memory of the process: often while there is something to look after.
async fn tend_memory(control: Rc<Control>, admission: Arc<Admission>) {
    loop {
        let is_calm = admission.tend_memory(control.config().memory_max);
        monoio::time::sleep(if is_calm { TEND_CALM } else { TEND }).await;
    }
}

/// The mailbox loop.
async fn mail(control: Rc<Control>, mailbox: Receiver<ControlMail>, sleeper: Sleeper) {
    loop {
        let handled = mailbox.drain(MAILBOX_BATCH, |mail| match mail {
            ControlMail::Report(report) => control.on_report(report),
            ControlMail::Handover(handover) => http::serve(&control, handover),
            ControlMail::DescriptorsShort => control.client.close_unused(),
            ControlMail::Offer(offer) => control.may_be_replaced(offer),
            ControlMail::Replaced(successor) => control.give_way(successor),
            #[cfg(feature = "application")]
            ControlMail::Asked(asked) => surface::answer(&control, asked),
            #[cfg(feature = "application")]
            ControlMail::Handled(handled) => control.on_handled(handled),
            ControlMail::Predecessor(address) => control.cluster.set_predecessor(address),
            ControlMail::Signal(Signal::Stop) => control.stop(),
            ControlMail::Signal(Signal::Reload) => reload::request(&control),
        });
        control.outlets.borrow_mut().kick();
        if handled == MAILBOX_BATCH || control.outlets.borrow().overflow() > 0 {
            sleeper.yield_now().await;
        } else if mailbox.prepare_sleep() {
            sleeper.sleep().await;
            mailbox.cancel_sleep();
        }
    }
}

/// Ends publishes whose time is over.
async fn tick(control: Rc<Control>) {
    loop {
        let deadline = control.desk.borrow().next_deadline();
        control.ticker.sleep(deadline, &control.clock).await;
        let now = control.clock.now();
        control.desk.borrow_mut().on_deadline(now);
        control.carry(&[]);
    }
}

impl Control {
    /// Waits while mail of this core finds no room: policy of a full mailbox (`engine::mailbox`).
    async fn decongested(&self) {
        while self.outlets.borrow().overflow() > 0 {
            Box::pin(monoio::time::sleep(CONGESTION_PAUSE)).await;
            self.outlets.borrow_mut().kick();
        }
    }

    /// The settings in force.
    fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// This core's counters.
    fn own_metrics(&self) -> &CoreMetrics {
        // The assembly gives at least this core's own.
        &self.metrics[self.metrics.len() - 1]
    }

    fn on_report(self: &Rc<Self>, report: Report) {
        match report {
            Report::Callback(request) => self.callbacks.submit(request),
            Report::Drained { shard } => {
                tracing::debug!(shard = shard.0, "drained");
                self.drained.set(self.drained.get() + 1);
            }
            report => {
                self.desk.borrow_mut().on_report(report);
                self.carry(&[]);
            }
        }
    }

    /// Tells the shard of a client how a callback has ended.
    fn callback_done(&self, client: ClientId, token: u64, outcome: CallbackOutcome) {
        self.post(client.shard, Command::CallbackDone { client, token, outcome });
    }

    /// Asks the desk for something, and waits for the one answer. `nodes` are those it counts.
    async fn ask<R>(self: &Rc<Self>, nodes: &[Node], verb: impl FnOnce(&mut Desk, Caller) -> R) -> Told {
        let wait = self.callers.open();
        verb(&mut self.desk.borrow_mut(), wait.caller);
        self.carry(nodes);
        wait.await
    }

    /// Carries out what the desk wants done. Only a verb leads to questions to `nodes`.
    fn carry(self: &Rc<Self>, nodes: &[Node]) {
        loop {
            let Some(output) = self.desk.borrow_mut().poll_output() else {
                break;
            };
            match output {
                Output::Post(shard, command) => self.post(shard, command),
                Output::Ask(ticket, ask) => self.ask_nodes(nodes, ask, Some(ticket)),
                Output::Answer(caller, told) => self.callers.answer(caller, told),
            }
        }
        self.ticker.note(self.desk.borrow().next_deadline());
    }

    /// Asks every node, each in a task of its own; each answer or failure is told the desk under `ticket`.
    fn ask_nodes(self: &Rc<Self>, nodes: &[Node], ask: Outbound, ticket: Option<Ticket>) {
        let ask = Rc::new(ask);
        for node in nodes {
            let (control, node, ask) = (self.clone(), *node, ask.clone());
            monoio::spawn(async move {
                let inbound = control.cluster.ask(node, &ask).await;
                if let Some(ticket) = ticket {
                    let inbound = control.bounded(inbound);
                    control.desk.borrow_mut().on_remote(ticket, inbound);
                    control.carry(&[]);
                }
            });
        }
    }

    /// What a node has answered, within the bounds of this one.
    fn bounded(&self, mut inbound: Inbound) -> Inbound {
        if let Inbound::Part(part) = &mut inbound {
            let data = std::mem::take(&mut part.data);
            let bytes = data.len();
            match ack_data::keep(data, self.config.borrow().ack_data_max) {
                Ok(data) => part.data = data,
                Err(why) => self.leave_data_out(why, bytes),
            }
        }
        inbound
    }

    /// Data of an acknowledgement is not passed on.
    fn leave_data_out(&self, why: LeftOut, bytes: usize) {
        let (max, now) = (self.config.borrow().ack_data_max, self.clock.now());
        let mut notes = self.ack_data.borrow_mut();
        notes.left_out(why, bytes, max, self.own_metrics(), now);
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.outlets.borrow().shards()).map(|shard| ShardId(shard as u16))
    }

    fn post(&self, shard: ShardId, command: Command) {
        self.post_mail(shard, ShardMail::Command(command));
    }

    fn post_mail(&self, shard: ShardId, mail: ShardMail) {
        let mut outlets = self.outlets.borrow_mut();
        outlets.post_shard(shard, mail);
        if self.posts_quietly.get() {
            self.waker.wake();
        } else {
            outlets.kick();
        }
    }
}

fn certificate_expiry(config: &Config) -> Option<u64> {
    tls::expiries(config).iter().map(|expiry| expiry.unix_seconds).min()
}
