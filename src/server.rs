//! Assembly: configuration → bound (or inherited) sockets → mailboxes → cores → signals. Everything that can fail is done
//! before the first core starts, and all cores accept before a server that is replaced is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::close::CloseCause;
use crate::cluster::Announce;
use crate::config::{Config, Overrides};
use crate::control::{self, Assets, ControlSetup, Machine};
use crate::engine::ids::{IdentityKey, ShardId};
use crate::engine::mailbox::{Receiver, mailbox};
use crate::engine::registry::HomeHash;
use crate::io::admission::Admission;
use crate::io::clock::Clock;
use crate::io::core::{self, CoreSetup};
use crate::io::listen::{self, Listeners};
use crate::io::mail::{ControlMail, Outlets, ShardMail, Signal};
use crate::io::runtime::{ActiveDriver, start_core};
use crate::io::sys;
use crate::io::takeover::{self, Draining, Offer, Predecessor};
use crate::io::tls::{self, Identity};
use crate::io::wake::Waker;
use crate::limits::{MAILBOX_CAPACITY, SHARDS_MAX};
use crate::metrics::{CoreMetrics, Labels};
use crate::protocol::rainbow::api::Route;
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
pub fn start(service: Service) -> Result<Running, String> {
    let clock = Clock::start();
    let descriptors_max = usize::try_from(sys::raise_descriptor_limit()).unwrap_or(usize::MAX);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let machine = Machine { cores, descriptors_max };
    let mut config = service.config.resolved(cores, descriptors_max);
    config.workers = config.workers.min(SHARDS_MAX);
    let config = Arc::new(config);
    let driver = ActiveDriver::choose(config.driver)?;
    let sockets = Sockets::open(&config, service.takeover)?;
    let Sockets { ports, tls_port, .. } = &sockets;

    let (shard_inboxes, control_inbox, outlets) = mailboxes(config.workers)?;
    let metrics = metrics(config.workers, driver);
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
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?ports,
        tls_port,
        workers = config.workers,
        driver = driver.label(),
        connections_max = config.connections_max,
        "rainbow-server starts"
    );

    let (up, is_up) = mpsc::channel();
    let (exit_sender, exit) = mpsc::channel();
    let mut control = Some(ControlSetup {
        announce: Announce {
            port: sockets.ports[0],
            identity: server_identity()?,
        },
        server_name: format!("{}:{}", own_address(), sockets.ports[0]),
        config: config.clone(),
        file: service.file,
        overrides: service.overrides,
        machine,
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

    // Two threads on one core would only wait for each other.
    let spare = cores > config.workers;
    let not_started = |error| format!("a thread could not be started: {error}");
    let admission = Admission::new();
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
        let cpu = (config.pin && spare).then_some(number + 1);
        let main = move || async move {
            if let Some(control) = beside {
                monoio::spawn(control::run(control));
            }
            core::run(setup).await;
        };
        start_core(name, cpu, driver, main).map_err(not_started)?;
    }
    if let Some(control) = control {
        let cpu = config.pin.then_some(0);
        start_core("control".into(), cpu, driver, move || control::run(control)).map_err(not_started)?;
    }
    wait_until_up(&is_up, config.workers + 1)?;
    if let Some(predecessor) = sockets.predecessor {
        match predecessor.relieve() {
            Ok(draining) => pass_on_to(draining, outlets.clone())?,
            Err(error) => tracing::warn!(%error, "the server before this one did not say whether it ends"),
        }
    }
    let name = takeover::name(config.bind[0], sockets.ports[0]);
    offer(&name, copies, outlets.clone());
    signals(outlets)?;
    Ok(Running {
        ports: sockets.ports,
        exit,
    })
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
fn offer(name: &str, listeners: Vec<OwnedFd>, mut outlets: Outlets) {
    let mut to_control = outlets.clone();
    let replaced = move |successor| tell(&mut to_control, ControlMail::Replaced(successor));
    match Offer::make(name, listeners, replaced) {
        Ok(offer) => tell(&mut outlets, ControlMail::Offer(offer)),
        Err(error) => tracing::warn!(name, %error, "no other process can take over from this one"),
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
    let thread = thread::Builder::new().name("predecessor".into()).spawn(run);
    thread
        .map(drop)
        .map_err(|error| format!("a thread could not be started: {error}"))
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
    fn open(config: &Config, takeover: bool) -> Result<Self, String> {
        let name = takeover::name(config.bind[0], config.ports[0]);
        let mut predecessor = takeover.then(|| Predecessor::ask(&name)).transpose()?;
        let mut inherited = match &mut predecessor {
            Some(predecessor) => std::mem::take(&mut predecessor.listeners),
            None => Vec::new(),
        };
        let (ports, plain) = bind(config, takeover, &mut inherited)?;
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

/// Binds every port for every shard; listeners by shard. A process that takes over does not search: its port is known.
fn bind(
    config: &Config,
    takeover: bool,
    inherited: &mut Vec<TcpListener>,
) -> Result<(Vec<u16>, Vec<Vec<TcpListener>>), String> {
    let mut ports = Vec::new();
    let mut per_shard: Vec<Vec<TcpListener>> = (0..config.workers).map(|_| Vec::new()).collect();
    for wanted in &config.ports {
        let bound = if takeover {
            let port = *wanted;
            listen::bind_port(port, &config.bind, config.workers, inherited)
                .map(|per_shard| Listeners { port, per_shard })
                .map_err(|error| format!("port {port} cannot be bound: {error}"))?
        } else {
            listen::bind(*wanted, &config.bind, config.workers).map_err(|error| {
                format!(
                    "port {wanted} cannot be bound, nor any of {}..{}: {error}; free a port, or name another one with -p",
                    listen::SEARCH_FIRST,
                    listen::SEARCH_LAST
                )
            })?
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
    let per_shard = listen::bind_port(port, &config.bind, config.workers, inherited)
        .map_err(|error| format!("tls_port {port} cannot be bound: {error}; free it, or set another one"))?;
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
fn metrics(shards: usize, driver: ActiveDriver) -> Vec<Arc<CoreMetrics>> {
    let labels = Labels {
        close_causes: &CloseCause::LABELS,
        api_routes: &Route::LABELS,
    };
    let names = (0..shards).map(|shard| shard.to_string()).chain(["control".to_owned()]);
    let all: Vec<_> = names.map(|name| Arc::new(CoreMetrics::new(name, labels))).collect();
    all.iter().for_each(|core| core.set_driver(driver.label()));
    all
}

/// One thread waits for signals and posts them. A second request to stop ends the process at once.
fn signals(mut outlets: Outlets) -> Result<(), String> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let failed = |error| format!("signals cannot be caught: {error}");
    let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let run = move || {
        let mut stopping = false;
        for signal in caught.forever() {
            let signal = match signal {
                SIGHUP => Signal::Reload,
                _ if stopping => {
                    eprintln!("rainbow-server: stopped at once by a second signal");
                    std::process::exit(1);
                }
                _ => {
                    stopping = true;
                    Signal::Stop
                }
            };
            tell(&mut outlets, ControlMail::Signal(signal));
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(run)
        .map_err(failed)?;
    Ok(())
}

/// The address of this machine's name, as the original tells it; the one packets would leave from if that is of no use.
fn own_address() -> IpAddr {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .and_then(|name| {
            (name.trim(), 0)
                .to_socket_addrs()
                .ok()?
                .map(|address| address.ip())
                .find(IpAddr::is_ipv4)
        });
    let routed = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Nothing is sent: connecting a datagram socket only chooses the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    named.or_else(routed).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
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
