//! Assembly: configuration → bound (or inherited) sockets → mailboxes → cores → signals. Everything that can fail is done
//! before the first core starts, and all cores accept before a server that is replaced is told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::close::CloseCause;
use crate::cluster::Announce;
use crate::config::gateway::IdFormat;
use crate::config::{BindMissing, Config, Overrides};
use crate::control::{self, Assets, ControlSetup, Machine, surface};
use crate::engine::ids::{IdentityKey, ShardId};
use crate::engine::mailbox::{Entrance, Receiver, mailbox};
use crate::engine::registry::HomeHash;
use crate::io::admission::Admission;
use crate::io::clock::Clock;
use crate::io::core::{self, CoreSetup, Via};
use crate::io::listen::{self, Listeners, Place};
use crate::io::mail::{ControlMail, Outlets, ShardMail};
use crate::io::own_name::OwnName;
use crate::io::processors::Processors;
use crate::io::runtime::{ReadyCore, prepare_core, start_side};
use crate::io::signals::Signals;
use crate::io::sys;
use crate::io::takeover::{Dir, Draining, Offer, Places, Predecessor};
use crate::io::tls::{self, Identity};
use crate::io::wake::Waker;
use crate::limits::{MAILBOX_CAPACITY, SHARDS_MAX};
use crate::metrics::{CoreMetrics, Labels};
use crate::protocol::{Listener, ListenerId};
use crate::shard;

/// What is to be served.
pub struct Service {
    /// Settings, not yet resolved for this machine.
    pub config: Config,
    /// Where they came from, for reloads.
    pub file: Option<PathBuf>,
    /// What the command line overrides.
    pub overrides: Overrides,
    /// Take over from the server that runs at this address.
    pub takeover: bool,
    /// Static pages.
    pub assets: Assets,
    /// Makes the code of this process that handles the events of clients, once there is a way to the control core.
    #[cfg(feature = "application")]
    pub handlers: Option<MakeHandlers>,
}

/// See [`Service::handlers`].
#[cfg(feature = "application")]
pub type MakeHandlers = Box<dyn FnOnce(ToControl) -> Box<dyn crate::io::application::Handlers> + Send>;

/// The way of threads that are no core to the control core.
pub type ToControl = Entrance<ControlMail, Waker>;

impl Service {
    /// These settings, from no file, without pages.
    pub fn of(config: Config) -> Self {
        Self {
            config,
            file: None,
            overrides: Overrides::default(),
            takeover: false,
            assets: Box::new(|_| None),
            #[cfg(feature = "application")]
            handlers: None,
        }
    }
}

/// A running server.
pub struct Running {
    /// Ports it listens on, the main one first.
    pub ports: Vec<u16>,
    exit: mpsc::Receiver<u8>,
}

impl Running {
    /// Waits until the server has stopped; returns the exit code.
    pub fn wait(self) -> u8 {
        // Without a sender the control core is gone, and it takes the process with it.
        self.exit.recv().unwrap_or(70)
    }
}

/// One core's end of its mailbox.
struct Inbox<T> {
    receiver: Receiver<T>,
    waker: Waker,
}

/// Starts the server. Errors are for the operator: what failed, and what to do.
pub fn start(service: Service, signals: &Signals) -> Result<Running, String> {
    let clock = Clock::start();
    let processors = Processors::of_process();
    let places = Places::of(service.config.takeover_dir.as_deref());
    let meeting_point = meeting_point(&places, &service)?;
    let (config, machine) = settle(service.config, processors.count)?;
    let client = control::prepare_client(&config)?;
    let sockets = Sockets::open(&config, service.takeover.then_some(&places))?;

    let (shard_inboxes, control_inbox, outlets) = mailboxes(config.workers)?;
    let metrics = metrics(config.workers);
    let seed = random()?;
    let shard = shard::Setup {
        id: ShardId(0),
        shards: config.workers,
        home: HomeHash::new(seed, config.workers),
        identities: identities(&config)?,
        started_unix_micros: clock.started_unix_micros(),
        seed,
        config: config.clone(),
        metrics: metrics[0].clone(),
    };

    let (up, is_up) = mpsc::channel();
    let (exit_sender, exit) = mpsc::channel();
    sys::set_allocator_up();
    let admission = Admission::new();
    admission.tend_memory(config.memory_max);
    let mut control = Some(ControlSetup {
        admission: admission.clone(),
        announce: Announce {
            port: sockets.ports[0],
            identity: server_identity()?,
        },
        server_name: OwnName::start(sockets.ports[0]),
        config: config.clone(),
        file: service.file,
        overrides: service.overrides,
        machine,
        client,
        mailbox: control_inbox.receiver,
        waker: control_inbox.waker,
        outlets: outlets.clone().counted(metrics[config.workers].clone()),
        clock,
        home: shard.home.clone(),
        identities: shard.identities.clone(),
        metrics: metrics.clone(),
        assets: service.assets,
        #[cfg(feature = "application")]
        handlers: service.handlers.map(|make| make(outlets.entrance())),
        exit: exit_sender,
        up: up.clone(),
    });

    // Two threads on one processor would only wait for each other.
    let spare = processors.count > config.workers;
    let cpus = processors.pinned(config.workers + 1).filter(|_| config.pin && spare);
    let cpu = |number: usize| cpus.and_then(|cpus| cpus.get(number)).copied();
    let mut ready = Vec::new();
    let copies = sockets.copies()?;
    for ((number, inbox), listeners) in shard_inboxes.into_iter().enumerate().zip(sockets.per_shard) {
        let setup = CoreSetup {
            shard: shard::Setup {
                id: ShardId(number as u16),
                metrics: metrics[number].clone(),
                ..shard.clone()
            },
            listeners,
            identity: sockets.identity.clone(),
            mailbox: inbox.receiver,
            waker: inbox.waker,
            outlets: outlets.clone().counted(metrics[number].clone()),
            clock,
            admission: admission.clone(),
            up: up.clone(),
        };
        let (name, beside) = (format!("shard-{number}"), control.take_if(|_| !spare));
        let main = move || async move {
            if let Some(control) = beside {
                monoio::spawn(control::run(control));
            }
            core::run(setup).await;
        };
        ready.push(prepare_core(&name, cpu(number + 1), config.driver, main)?);
    }
    if let Some(control) = control {
        let main = move || control::run(control);
        ready.push(prepare_core("control", cpu(0), config.driver, main)?);
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ports = ?sockets.ports,
        tls_port = config.tls_port,
        gateway_port = config.gateway.on.then_some(config.gateway.port),
        gateway_tls_port = config.gateway.tls_port.filter(|_| config.gateway.on),
        workers = config.workers,
        pinned_to = ?cpus.unwrap_or_default(),
        driver = drivers(&ready),
        connections_max = config.connections_max,
        "rainbow-server starts"
    );
    // Where it has no thread of its own the control core runs on that of the first shard.
    let active = ready.iter().chain(ready.first().filter(|_| !spare));
    metrics
        .iter()
        .zip(active)
        .for_each(|(core, ready)| core.set_driver(ready.driver.label()));
    signals.begin_to_serve();
    ready.into_iter().for_each(ReadyCore::begin);
    wait_until_up(&is_up, config.workers + 1)?;
    let goes_on = !serve_instead_of(sockets.predecessor, signals, &outlets)?;
    if let Some(dir) = meeting_point.filter(|_| goes_on) {
        let address = SocketAddr::new(config.bind[0], sockets.ports[0]);
        offer(&dir, address, copies, outlets.clone());
    }
    pass_on(signals.clone(), outlets)?;
    Ok(Running {
        ports: sockets.ports,
        exit,
    })
}

/// Settings for this machine. Errors: it allows too few open files.
fn settle(config: Config, processors: usize) -> Result<(Arc<Config>, Machine), String> {
    let limit = usize::try_from(sys::raise_descriptor_limit()).unwrap_or(usize::MAX);
    let workers = config.clone().resolved(processors, limit).workers.min(SHARDS_MAX);
    let own = own_descriptors(&config, workers);
    let descriptors_max = limit.saturating_sub(own);
    if descriptors_max < CLIENT_DESCRIPTORS_MIN {
        let needed = own + CLIENT_DESCRIPTORS_MIN;
        return Err(format!(
            "{limit} open files are allowed, and {workers} workers need {needed} at least; raise the limit (ulimit -n, \
             LimitNOFILE), or set fewer workers"
        ));
    }
    let wanted = config.connections_max;
    let machine = Machine {
        cores: processors,
        descriptors_max,
    };
    let mut config = config.resolved(processors, descriptors_max);
    config.workers = workers;
    if wanted > descriptors_max {
        tracing::warn!(
            connections_max = wanted,
            open_files = limit,
            "connections_max is more than the limit of open files allows; what is beyond that is refused with 503"
        );
    }
    Ok((Arc::new(config), machine))
}

/// Where a process that replaces this one will find it. None for the demonstration, which is not replaced, and where nobody asked for
/// one and there is none. Errors: why there is none.
fn meeting_point(places: &Places, service: &Service) -> Result<Option<Dir>, String> {
    if service.file.is_none() {
        return Ok(None);
    }
    match places.own() {
        Ok(dir) => Ok(Some(dir)),
        Err(refusal) if places.is_set() => Err(format!("takeover_dir: {refusal}")),
        Err(refusal) if service.takeover => Err(format!("--takeover: {refusal}; set takeover_dir")),
        Err(refusal) => {
            tracing::warn!("{refusal}; no other process can take over from this one, set takeover_dir if one should");
            Ok(None)
        }
    }
}

/// Descriptors the process will hold for itself: what it has inherited and opened, each listening socket with the copy for a
/// successor, and what cores are made of.
pub fn own_descriptors(config: &Config, workers: usize) -> usize {
    let each = Listener::all(config).into_iter().map(|listener| {
        let tls = usize::from(listener.tls_port.is_some());
        let sockets = listener.addresses.len() * (listener.ports.len() + tls);
        2 * sockets + (1 + tls) * LISTENER_DESCRIPTORS
    });
    let each = each.sum::<usize>() + SHARD_DESCRIPTORS;
    sys::open_descriptors() + workers * each + OTHER_DESCRIPTORS
}

/// Of a shard's core: eventfd and a copy, ring or epoll, two epolls and their copies, one kept to refuse with.
const SHARD_DESCRIPTORS: usize = 8;
/// Two to wait for the sockets of a listener without TLS, and two for those with.
const LISTENER_DESCRIPTORS: usize = 2;
/// Of the control core and the rest: eventfd and a copy, ring or epoll, four for name look-ups, the cluster, takeover, one kept, a
/// file being read.
const OTHER_DESCRIPTORS: usize = 12;
/// Descriptors that must be left for clients, callers and callbacks.
pub const CLIENT_DESCRIPTORS_MIN: usize = 8;

/// The drivers of all cores, each once.
fn drivers(ready: &[ReadyCore]) -> String {
    let mut drivers: Vec<_> = ready.iter().map(|core| core.driver.label()).collect();
    drivers.dedup();
    drivers.join(", ")
}

/// Ends the server whose sockets these are. True if not, because this one is about to end as well: then the other one goes on.
fn serve_instead_of(predecessor: Option<Predecessor>, signals: &Signals, outlets: &Outlets) -> Result<bool, String> {
    let Some(predecessor) = predecessor else {
        return Ok(false);
    };
    if signals.stops() {
        return Ok(true);
    }
    match predecessor.relieve() {
        Ok(draining) => pass_on_to(draining, outlets.clone())?,
        Err(error) => tracing::warn!(%error, "the server before this one did not say whether it ends"),
    }
    Ok(false)
}

/// Time the cores have until they accept.
const UP_WITHIN: Duration = Duration::from_secs(30);

fn wait_until_up(is_up: &mpsc::Receiver<()>, cores: usize) -> Result<(), String> {
    (0..cores).try_for_each(|_| {
        is_up
            .recv_timeout(UP_WITHIN)
            .map_err(|_| "a core does not start".to_owned())
    })
}

/// Lets another process take over from this one. A server that cannot be replaced like that still serves.
fn offer(dir: &Dir, address: SocketAddr, listeners: Vec<OwnedFd>, mut outlets: Outlets) {
    let mut to_control = outlets.clone();
    let replaced = move |successor| tell(&mut to_control, ControlMail::Replaced(successor));
    match Offer::make(dir, address, listeners, replaced) {
        Ok(offer) => tell(&mut outlets, ControlMail::Offer(offer)),
        Err(error) => tracing::warn!(error, "no other process can take over from this one"),
    }
}

/// Calls go to the clients of the server before this one as well, until it has ended.
fn pass_on_to(draining: Draining, mut outlets: Outlets) -> Result<(), String> {
    let calls_go_on_to = draining.address.map(tracing::field::display);
    tracing::info!(
        calls_go_on_to,
        "taken over: the server before this one closes its clients and ends"
    );
    tell(&mut outlets, ControlMail::Predecessor(draining.address));
    let run = move || {
        draining.wait();
        tell(&mut outlets, ControlMail::Predecessor(None));
    };
    start_side("predecessor".into(), run).map_err(not_started)
}

/// Posts to the control core from a side thread.
fn tell(outlets: &mut Outlets, mail: ControlMail) {
    outlets.post_control(mail);
    outlets.kick();
    while outlets.overflow() > 0 {
        thread::sleep(Duration::from_millis(5));
        outlets.kick();
    }
}

/// The listening sockets of one shard.
type ShardListeners = Vec<(Via, Vec<TcpListener>)>;

/// All listening sockets.
struct Sockets {
    /// Ports of the main listener without TLS, the first one first.
    ports: Vec<u16>,
    per_shard: Vec<ShardListeners>,
    /// For those with TLS.
    identity: Option<Identity>,
    /// Whose they were.
    predecessor: Option<Predecessor>,
}

impl Sockets {
    /// `takes_over`: where the server may be found whose sockets they are.
    fn open(config: &Config, takes_over: Option<&Places>) -> Result<Self, String> {
        let address = SocketAddr::new(config.bind[0], config.ports[0]);
        let mut predecessor = takes_over.map(|places| Predecessor::ask(places, address)).transpose()?;
        let inherited = match &mut predecessor {
            Some(predecessor) => std::mem::take(&mut predecessor.listeners),
            None => Vec::new(),
        };
        let identity = tls::load(config).map_err(|fault| format!("{}: {}", fault.key, fault.text))?;
        let mut binding = Binding {
            config,
            searches: takes_over.is_none(),
            inherited,
            per_shard: (0..config.workers).map(|_| Vec::new()).collect(),
        };
        let mut ports = Vec::new();
        for listener in Listener::all(config) {
            let bound = binding.bind(&listener, identity.is_some())?;
            if listener.id == ListenerId::MAIN {
                ports = bound;
            }
        }
        binding.let_go();
        Ok(Self {
            ports,
            per_shard: binding.per_shard,
            identity,
            predecessor,
        })
    }

    /// A copy of each, for the process that will replace this one.
    fn copies(&self) -> Result<Vec<OwnedFd>, String> {
        let all = self.per_shard.iter().flatten().flat_map(|(_, listeners)| listeners);
        let copies: io::Result<_> = all.map(|listener| Ok(listener.try_clone()?.into())).collect();
        copies.map_err(|error| format!("a listening socket cannot be copied: {error}"))
    }
}

/// The listening sockets while they are bound.
struct Binding<'a> {
    config: &'a Config,
    /// A process that takes over does not search: its port is known.
    searches: bool,
    /// Those of the server before this one that have found no place yet.
    inherited: Vec<TcpListener>,
    per_shard: Vec<ShardListeners>,
}

impl Binding<'_> {
    /// Binds every port of a listener for every shard; its ports without TLS in the end.
    fn bind(&mut self, listener: &Listener, has_identity: bool) -> Result<Vec<u16>, String> {
        let place = Place {
            addresses: &listener.addresses,
            missing: self.config.bind_missing == BindMissing::Warn,
            shards: self.config.workers,
        };
        let (id, label) = (listener.id, listener.label);
        let mut ports = Vec::new();
        let mut plain: Vec<_> = (0..self.config.workers).map(|_| Vec::new()).collect();
        for port in listener.ports.iter().copied() {
            let bound = if self.searches && listener.searches {
                listen::bind_or_search(port, place)?
            } else {
                let bound = listen::bind(port, place, &mut self.inherited);
                let per_shard = bound.map_err(|refused| format!("{label}{refused}"))?;
                Listeners { port, per_shard }
            };
            ports.push(bound.port);
            for (shard, sockets) in plain.iter_mut().zip(bound.per_shard) {
                shard.extend(sockets);
            }
        }
        self.take(id, false, plain);
        // A search would hide the port from the clients that know its number.
        if let Some(port) = listener.tls_port.filter(|_| has_identity) {
            let bound = listen::bind(port, place, &mut self.inherited);
            let bound = bound.map_err(|refused| format!("{label}tls_port: {refused}"))?;
            self.take(id, true, bound);
        }
        Ok(ports)
    }

    fn take(&mut self, listener: ListenerId, secure: bool, bound: Vec<Vec<TcpListener>>) {
        for (shard, sockets) in self.per_shard.iter_mut().zip(bound) {
            shard.push((Via { listener, secure }, sockets));
        }
    }

    /// Says which of the sockets of the server before this one are not used any more.
    fn let_go(&mut self) {
        for listener in self.inherited.drain(..) {
            let address = listener
                .local_addr()
                .map_or_else(|_| "?".into(), |address| address.to_string());
            tracing::warn!(
                address,
                "no longer listened on: the settings of the server before this one named it, these do not"
            );
        }
    }
}

type Mailboxes = (Vec<Inbox<ShardMail>>, Inbox<ControlMail>, Outlets);

fn mailboxes(shards: usize) -> Result<Mailboxes, String> {
    let waker = || Waker::new().map_err(|error| format!("no eventfd: {error}"));
    let (mut inboxes, mut senders) = (Vec::new(), Vec::new());
    for _ in 0..shards {
        let waker = waker()?;
        let (sender, receiver) = mailbox(MAILBOX_CAPACITY, waker.clone());
        senders.push(sender);
        inboxes.push(Inbox { receiver, waker });
    }
    let waker = waker()?;
    let (sender, receiver) = mailbox(MAILBOX_CAPACITY, waker.clone());
    Ok((inboxes, Inbox { receiver, waker }, Outlets::new(senders, sender)))
}

/// Counters of every shard, and of the control core last.
fn metrics(shards: usize) -> Vec<Arc<CoreMetrics>> {
    let labels = Labels {
        close_causes: &CloseCause::LABELS,
        api_routes: &surface::ROUTES,
    };
    let names = (0..shards).map(|shard| shard.to_string()).chain(["control".to_owned()]);
    names.map(|name| Arc::new(CoreMetrics::new(name, labels))).collect()
}

/// Signals reach the control core.
fn pass_on(signals: Signals, mut outlets: Outlets) -> Result<(), String> {
    let run = move || loop {
        tell(&mut outlets, ControlMail::Signal(signals.next()));
    };
    start_side("messenger".into(), run).map_err(not_started)
}

fn not_started(error: io::Error) -> String {
    format!("a thread could not be started: {error}")
}

/// What clients are known by outside. New at every start.
fn identities(config: &Config) -> Result<IdentityKey, String> {
    let key = IdentityKey::new(random()? as u32, secret()?);
    let gateway = &config.gateway;
    Ok(match gateway.id_format {
        IdFormat::Random => key,
        IdFormat::GatewayWorker => {
            let address = (gateway.lan_ip.unwrap_or(Ipv4Addr::LOCALHOST), gateway.port);
            let clients = config.connections_max.div_ceil(config.workers.max(1));
            key.with_address(address, config.workers, clients)
        }
    })
}

fn server_identity() -> Result<[u8; 40], String> {
    let mut raw = [0; 20];
    fill(&mut raw)?;
    let mut text = [0; 40];
    for (byte, pair) in raw.iter().zip(text.chunks_exact_mut(2)) {
        pair.copy_from_slice(format!("{byte:02x}").as_bytes());
    }
    Ok(text)
}

fn secret() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    fill(&mut secret)?;
    Ok(secret)
}

fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("no random numbers from the system: {error}"))
}

fn fill(bytes: &mut [u8]) -> Result<(), String> {
    getrandom::fill(bytes).map_err(|error| format!("no random numbers from the system: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file may change between the check of the settings and the start: that is a refusal, as it would have been a moment before,
    /// and no panic of a core.
    #[test]
    fn files_that_changed_since_they_were_checked_refuse_the_start() {
        let named = |what: &str| std::env::temp_dir().join(format!("rainbow-{what}-{}.pem", std::process::id()));
        let (file, authority) = (named("changed"), named("authority"));
        std::fs::write(&file, "half a certificate").unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&authority, made.cert.pem()).unwrap();
        type Change = fn(&mut Config, PathBuf);
        let changes: [(&str, Change); 3] = [
            ("ca_file: ", |config, file| config.ca_file = Some(file)),
            ("callback_cert: ", |config, file| {
                (config.callback_cert, config.callback_key) = (Some(file.clone()), Some(file));
            }),
            ("tls_cert: ", |config, file| {
                (config.tls_cert, config.tls_key) = (vec![file.clone()], vec![file]);
                config.tls_port = Some(1);
            }),
        ];
        let signals = Signals::catch().unwrap();
        for (key, change) in changes {
            let overrides = Overrides {
                port: Some(0),
                ..Overrides::default()
            };
            let mut config = Config::demo(1, &overrides);
            config.ca_file = Some(authority.clone());
            change(&mut config, file.clone());
            let service = Service {
                overrides,
                ..Service::of(config)
            };
            let refusal = start(service, &signals).err().expect("nothing to serve with");
            let names_both = refusal.starts_with(key) && refusal.contains(&*file.to_string_lossy());
            assert!(names_both, "{refusal}");
        }
        [file, authority]
            .iter()
            .for_each(|file| std::fs::remove_file(file).unwrap());
    }
}
