//! Assembly: configuration → bound (or inherited) sockets → mailboxes → cores → signals. Everything that can fail is done
//! before the first core starts, and all cores accept before a server that is replaced is told.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::close::CloseCause;
use crate::cluster::Announce;
use crate::config::{BindMissing, Config, Overrides};
use crate::control::{self, Assets, ControlSetup, Machine, surface};
use crate::engine::ids::{IdentityKey, ShardId};
use crate::engine::mailbox::{Receiver, mailbox};
use crate::engine::registry::HomeHash;
use crate::io::admission::Admission;
use crate::io::clock::Clock;
use crate::io::core::{self, CoreSetup};
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
        identities: IdentityKey::new(random()? as u32, secret()?),
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
        exit: exit_sender,
        up: up.clone(),
    });

    // Two threads on one processor would only wait for each other.
    let spare = processors.count > config.workers;
    let cpus = processors.pinned(config.workers + 1).filter(|_| config.pin && spare);
    let cpu = |number: usize| cpus.and_then(|cpus| cpus.get(number)).copied();
    let mut ready = Vec::new();
    let copies = sockets.copies()?;
    let mut tls = sockets.tls.into_iter();
    for ((number, inbox), listeners) in shard_inboxes.into_iter().enumerate().zip(sockets.plain) {
        let setup = CoreSetup {
            shard: shard::Setup {
                id: ShardId(number as u16),
                metrics: metrics[number].clone(),
                ..shard.clone()
            },
            listeners,
            tls: tls.next(),
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
        tls_port = sockets.tls_port,
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
    let tls = usize::from(config.tls_port.is_some());
    let listeners = config.bind.len() * (config.ports.len() + tls);
    let each = 2 * listeners + SHARD_DESCRIPTORS + tls * TLS_DESCRIPTORS;
    sys::open_descriptors() + workers * each + OTHER_DESCRIPTORS
}

/// Of a shard's core: eventfd and a copy, ring or epoll, two epolls and their copies, two to wait for its listeners, one kept to
/// refuse with.
const SHARD_DESCRIPTORS: usize = 10;
/// Two more to wait for its listeners with TLS.
const TLS_DESCRIPTORS: usize = 2;
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

/// The listening sockets, by shard.
struct Sockets {
    /// Ports without TLS, the main one first.
    ports: Vec<u16>,
    plain: Vec<Vec<TcpListener>>,
    tls_port: Option<u16>,
    tls: Vec<TlsListeners>,
    /// Whose they were.
    predecessor: Option<Predecessor>,
}

impl Sockets {
    /// `takes_over`: where the server may be found whose sockets they are.
    fn open(config: &Config, takes_over: Option<&Places>) -> Result<Self, String> {
        let address = SocketAddr::new(config.bind[0], config.ports[0]);
        let mut predecessor = takes_over.map(|places| Predecessor::ask(places, address)).transpose()?;
        let mut inherited = match &mut predecessor {
            Some(predecessor) => std::mem::take(&mut predecessor.listeners),
            None => Vec::new(),
        };
        let (ports, plain) = bind(config, takes_over.is_some(), &mut inherited)?;
        let (tls_port, tls) = bind_tls(config, &mut inherited)?.unzip();
        for listener in inherited {
            let address = listener
                .local_addr()
                .map_or_else(|_| "?".into(), |address| address.to_string());
            tracing::warn!(
                address,
                "no longer listened on: the settings of the server before this one named it, these do not"
            );
        }
        Ok(Self {
            ports,
            plain,
            tls_port,
            tls: tls.unwrap_or_default(),
            predecessor,
        })
    }

    /// A copy of each, for the process that will replace this one.
    fn copies(&self) -> Result<Vec<OwnedFd>, String> {
        let tls = self.tls.iter().flat_map(|(listeners, _)| listeners);
        let all = self.plain.iter().flatten().chain(tls);
        let copies: io::Result<_> = all.map(|listener| Ok(listener.try_clone()?.into())).collect();
        copies.map_err(|error| format!("a listening socket cannot be copied: {error}"))
    }
}

fn place(config: &Config) -> Place<'_> {
    Place {
        addresses: &config.bind,
        missing: config.bind_missing == BindMissing::Warn,
        shards: config.workers,
    }
}

/// Binds every port for every shard; listeners by shard. A process that takes over does not search: its port is known.
fn bind(
    config: &Config,
    takeover: bool,
    inherited: &mut Vec<TcpListener>,
) -> Result<(Vec<u16>, Vec<Vec<TcpListener>>), String> {
    let mut ports = Vec::new();
    let mut per_shard: Vec<Vec<TcpListener>> = (0..config.workers).map(|_| Vec::new()).collect();
    for port in config.ports.iter().copied() {
        let bound = if takeover || !config.port_search {
            let bound = listen::bind(port, place(config), inherited);
            bound
                .map(|per_shard| Listeners { port, per_shard })
                .map_err(|refused| refused.to_string())?
        } else {
            listen::bind_or_search(port, place(config))?
        };
        ports.push(bound.port);
        for (shard, listeners) in per_shard.iter_mut().zip(bound.per_shard) {
            shard.extend(listeners);
        }
    }
    Ok((ports, per_shard))
}

/// Listening sockets of one shard, and what to serve them with.
type TlsListeners = (Vec<TcpListener>, Identity);

/// Binds the TLS port for every shard, and reads its certificates; `None` without one.
fn bind_tls(config: &Config, inherited: &mut Vec<TcpListener>) -> Result<Option<(u16, Vec<TlsListeners>)>, String> {
    let identity = tls::load(config).map_err(|fault| format!("{}: {}", fault.key, fault.text))?;
    let Some((port, identity)) = config.tls_port.zip(identity) else {
        return Ok(None);
    };
    // A search would hide the port from the clients that know its number.
    let per_shard = listen::bind(port, place(config), inherited).map_err(|refused| format!("tls_port: {refused}"))?;
    let per_shard = per_shard.into_iter().map(|listeners| (listeners, identity.clone()));
    Ok(Some((port, per_shard.collect())))
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
            let overrides = Overrides { port: Some(0) };
            let mut config = Config::demo(1, &overrides);
            config.ca_file = Some(authority.clone());
            change(&mut config, file.clone());
            let service = Service {
                config,
                file: None,
                overrides,
                takeover: false,
                assets: |_| None,
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
