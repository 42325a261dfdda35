//! Typed settings, parsed once.
//!
//! The caller reads the file (`cli.rs`); this layer turns its text into a [`Config`] or into **all** that is wrong with it.
//! Invariant: a `Config` holds only values inside the ranges of the table (`keys.rs`). Behaviour of the original: spec §2;
//! on purpose different: a bad file is refused as a whole, and ports outside 1..65535 are errors.

pub mod gateway;
pub mod headers;
pub mod ini;
pub mod keys;
pub mod kind;
pub mod origins;
pub mod render;
pub mod types;
pub mod url;

mod doubt;
mod load;
mod value;

pub use gateway::Gateway;
pub use headers::QueryHeaders;
pub use origins::OriginRule;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
pub use types::{
    BindMissing, ClusterUdp, Driver, ForwardOrder, LogFormat, LogLevel, Network, Peer, PortRange, Scheme, Secret,
    SlowConsumer,
};
pub use url::Endpoint;

/// The section of the settings that concern all doors, and rainbow's.
pub const SECTION: &str = "main";
/// The token of the `server.ini` we ship; using it draws a warning.
pub(crate) const TOKEN_EXAMPLE: &str = "change-this-token";
/// Open files kept back from clients: listeners, rings, event descriptors, cluster, log, a connection being refused.
const DESCRIPTORS_RESERVED: usize = 256;

macro_rules! settings {
    ($($(#[$doc:meta])+ $field:ident: $type:ty,)+) => {
        /// The settings in force. Every field is documented in the table (`keys.rs`) under its name.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config { $($(#[$doc])+ pub $field: $type,)+ }

        impl Config {
            /// All fields blank; the loader fills every one from the table before anybody sees it.
            fn blank() -> Config {
                Config { $($field: <$type>::default(),)+ }
            }
        }
    };
}

settings! {
    /// The rainbow door is on: the file names one of its URLs, or has no section of another door. Off, its URLs and its
    /// secret are blank.
    rainbow: bool,
    /// Auth callback.
    connect_url: Endpoint,
    /// Message callback.
    forward_url: Endpoint,
    /// Close callback; none: nobody is told.
    close_url: Option<Endpoint>,
    /// Shared secret of the signature.
    security_token: Secret,

    /// How we sign.
    signature: Scheme,
    /// What callers may sign with; empty: `signature`.
    signature_accept: Vec<Scheme>,
    /// A second secret callers may use; empty: none.
    security_token_previous: Secret,
    /// How far a caller's timestamp may be from our time.
    signature_window: Duration,
    /// Accept a SHA-1 signature once only; the others always are.
    replay_protection: bool,
    /// Signatures remembered at most.
    replay_max: usize,

    /// The wanted port; see `ports` for what to listen on.
    http_port: u16,
    /// Second port of the older layout; see `ports`.
    socket_port: Option<u16>,
    /// Ports to listen on, the main one first: `-p`, or `http_port` and then `socket_port`. Never empty.
    ports: Vec<u16>,
    /// Addresses to listen on, never empty.
    bind: Vec<IpAddr>,
    /// About those this machine does not have.
    bind_missing: BindMissing,
    /// Listen on another port if the wanted one is taken.
    port_search: bool,
    /// 0: from the descriptor limit.
    connections_max: usize,
    /// Port for TLS; `None`: none.
    tls_port: Option<u16>,
    /// Certificate chains, the default first.
    tls_cert: Vec<PathBuf>,
    /// Their keys, by position.
    tls_key: Vec<PathBuf>,
    /// TLS handshakes under way per worker.
    tls_handshakes: usize,
    /// For the first byte of a connection with TLS.
    tls_first_byte_timeout: Duration,
    /// Connections of one address; 0: any number.
    connections_per_address: usize,
    /// Connections without a complete request head, in all workers.
    handshakes_max: usize,
    /// Bytes of memory beyond which no client is admitted; 0: nine tenths of what there is.
    memory_max: usize,
    /// Allowed origins of browsers; empty: any.
    origins: Vec<OriginRule>,
    /// Whose `X-Forwarded-For` and PROXY headers are believed.
    trusted_proxies: Vec<Network>,
    /// Connections begin with a PROXY header.
    proxy_protocol: bool,
    /// Longest of these of version 2, in bytes.
    proxy_header_max: usize,
    /// For the request head of a new connection, TLS handshake included.
    handshake_timeout: Duration,
    /// Longest request head in bytes.
    head_bytes: usize,
    /// Query parameters of a client that the backend is told as headers too.
    query_headers: QueryHeaders,
    /// Bytes of the longest head sent to `connect_url`, as CGI counts.
    connect_head_max: usize,

    /// Largest client message in bytes.
    message_max: usize,
    /// Accept client frames without mask.
    accept_unmasked: bool,
    /// Bytes waiting for one client.
    outbox_bytes: usize,
    /// Time for the rest of a begun message; zero: any.
    message_timeout: Duration,
    /// Age of the oldest byte waiting for one client; zero: any.
    outbox_seconds: Duration,
    /// What happens beyond either bound.
    slow_consumer: SlowConsumer,
    /// Frames of one client per second; 0: any number.
    client_messages_per_second: usize,
    /// Bytes of one client per second; 0: any number.
    client_bytes_per_second: usize,
    /// Silence before a ping; zero: no pings.
    ping_interval: Duration,
    /// Silence after a ping before the client is closed.
    ping_timeout: Duration,
    /// Silence before the client is closed; zero: any.
    idle_timeout: Duration,
    /// For unacknowledged bytes; zero: as the system has it.
    tcp_user_timeout: Duration,
    /// Channels of one client.
    channels_max: usize,
    /// Unacknowledged QoS 1/2 messages to one client.
    inflight_max: usize,
    /// Bytes of data that come with an acknowledgement and are passed on.
    ack_data_max: usize,
    /// Negotiate permessage-deflate.
    compression: bool,
    /// Shortest message that is compressed, in bytes.
    compression_min: usize,
    /// Serve `/echo/`.
    echo: bool,

    /// Order of message callbacks.
    forward_order: ForwardOrder,
    /// Message callbacks of one client under way, with order.
    forward_window: usize,
    /// Messages of one client waiting before its socket is paused.
    forward_queue: usize,
    /// The same in bytes.
    forward_queue_bytes: usize,

    /// For one callback, connecting included.
    callback_timeout: Duration,
    /// Callbacks under way per endpoint.
    callback_concurrency: usize,
    /// Callbacks waiting per endpoint.
    callback_queue: usize,
    /// Close callbacks waiting for an attempt.
    close_queue: usize,
    /// Failures in a row after which a URL is only probed; 0: never.
    breaker_failures: usize,
    /// Pause before the first probe.
    breaker_pause: Duration,
    /// Keep-alive of pooled callback connections; zero: no pool.
    callback_idle: Duration,
    /// How old such a connection gets.
    callback_age: Duration,
    /// How long a close callback is retried; zero: not.
    close_retry: Duration,
    /// Auth callbacks under way.
    auth_concurrency: usize,
    /// Clients waiting for theirs.
    auth_queue: usize,
    /// Certificate authorities for https; `None`: the system's.
    ca_file: Option<PathBuf>,
    /// Own certificate towards https business servers; `None`: none is shown.
    callback_cert: Option<PathBuf>,
    /// Its key.
    callback_key: Option<PathBuf>,

    /// `/serverinfo/` and `/updateconfig/` without signature.
    api_open: bool,
    /// API connections at once.
    api_connections: usize,
    /// Of them from one address; 0: no limit.
    api_connections_per_address: usize,
    /// Bytes per second a request body comes with at least; 0: any.
    api_body_rate: usize,
    /// Bytes of all request bodies under way.
    api_bodies_max: usize,
    /// Largest request body in bytes.
    api_body_max: usize,
    /// Idle time of a kept-alive API connection.
    api_idle_timeout: Duration,

    /// Cluster filter.
    cluster_name: String,
    /// Discovery by broadcast.
    cluster_udp: ClusterUdp,
    /// Static peers.
    cluster_peers: Vec<Peer>,
    /// Announcement ports.
    cluster_udp_ports: PortRange,
    /// Announcement address; `None`: listen only.
    cluster_broadcast: Option<Ipv4Addr>,

    /// 0: one less than cores, at least one.
    workers: usize,
    /// Pin workers to cores.
    pin: bool,
    /// Kernel interface.
    driver: Driver,
    /// For the graceful stop.
    drain_timeout: Duration,
    /// Clients closed per second then, in all workers; 0: as fast as possible.
    drain_rate: usize,
    /// Longest delay a closed client is told to come back after.
    reconnect_spread: Duration,
    /// Where `--takeover` finds this server; `None`: one of the usual places.
    takeover_dir: Option<PathBuf>,
    /// Log threshold.
    log_level: LogLevel,
    /// Log line form.
    log_format: LogFormat,

    /// The gateway door.
    gateway: Gateway,

    /// Where each value came from, in the order of the table; for `--check-config`.
    settings: Vec<Setting>,
}

/// One value in force and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Label of its key ([`keys::Key::label`]).
    pub name: &'static str,
    /// The value in the form of the ini file; secrets masked.
    pub shown: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// A line of the file, from 1.
    File {
        /// Label of the file.
        label: String,
        /// Line from 1.
        line: u32,
    },
    /// An option of the command line.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { label, line } => write!(f, "{label}:{line}"),
            Origin::Option(option) => write!(f, "option {option}"),
        }
    }
}

/// Names of settings that a reload has changed, in the order of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force.
    pub hot: Vec<&'static str>,
    /// In force for connections accepted from now on.
    pub new_connections: Vec<&'static str>,
    /// Not in force before a restart.
    pub restart: Vec<&'static str>,
}

/// What the command line sets above the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-p`: the only port to listen on. 0 takes any free port; the command line does not let it through, tests use it.
    pub port: Option<u16>,
    /// Code of this process handles the events of the gateway's clients, whatever URLs there are.
    pub handlers: bool,
}

/// Why a file is refused: `server.ini:12: http_port: "70000" is not a port; use 1..65535`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Note);

/// What an operator should know about an accepted file; same form as an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Note);

/// A remark about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Label of the file.
    pub file: String,
    /// Line from 1; `None` when the whole file is meant.
    pub line: Option<u32>,
    /// The key, if one is meant.
    pub key: Option<String>,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Config {
    /// Parses the text of an ini file. `label` names the file in messages.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the table.
    pub fn from_file_text(
        label: &str,
        text: &str,
        overrides: &Overrides,
    ) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
        load::load(label, text, overrides)
    }

    /// Settings of the built-in demonstration: the business server listens on `backend_port` of this machine, and only
    /// this machine is served.
    pub fn demo(backend_port: u16, overrides: &Overrides) -> Config {
        // 0 is no port of a URL; the demonstration binds its backend first and passes the real port.
        let backend = format!("http://127.0.0.1:{}", backend_port.max(1));
        let urls = format!(
            "connect_url={backend}/connect/\nforward_url={backend}/message/{{message_type}}/\nclose_url={backend}/close/"
        );
        let rest = "security_token=demo\nbind=127.0.0.1, ::1\nforward_order=client\ncluster_udp=no";
        match load::load("demo", &format!("[{SECTION}]\n{urls}\n{rest}\n"), overrides) {
            Ok((config, _)) => config,
            // The port is the only variable part; the test tries the edges.
            Err(errors) => unreachable!("the demo text is valid: {errors:?}"),
        }
    }

    /// Replaces the two zeroes that mean "what this machine allows" by numbers: `workers` from the number of cores,
    /// `connections_max` from the limit of open files, less what callbacks, listeners and files need. Shards are given a
    /// resolved `Config` only, after a reload too.
    pub fn resolved(mut self, cores: usize, descriptors_max: usize) -> Config {
        if self.workers == 0 {
            self.workers = cores.saturating_sub(1).max(1);
        }
        if self.connections_max == 0 {
            let callbacks = self.callback_concurrency.saturating_mul(3).min(descriptors_max / 4);
            let reserve = callbacks + DESCRIPTORS_RESERVED.min(descriptors_max / 4);
            self.connections_max = descriptors_max.saturating_sub(reserve).max(1);
        }
        self
    }

    /// Settings of this configuration that `new` has no more, though without them the server is less secure: what to write.
    /// A file of which a part is missing must not switch protections off.
    pub fn lowered_by_absence(&self, new: &Config) -> Vec<String> {
        let guards = keys::all().filter(|key| key.is_guard);
        let lowered = guards.filter_map(|key| {
            let of = |config: &Config| config.setting(key.label).cloned();
            let (was, is) = (of(self)?, of(new)?);
            let is_gone = matches!(was.origin, Origin::File { .. }) && is.origin == Origin::Default;
            (is_gone && was.shown != is.shown).then(|| {
                format!(
                    "{} was {} and is not in the file any more; is it the whole file? Write `{} = {}` if you mean that",
                    key.label, was.shown, key.name, is.shown
                )
            })
        });
        lowered.collect()
    }

    /// What a reload puts in force: `new`, with every setting that needs a restart kept from `self`. Also what has changed,
    /// for the log. Pass `new` loaded with the same options and [`Config::resolved`].
    pub fn reloaded(&self, new: Config) -> (Config, Changes) {
        let (mut old, mut merged, mut changes) = (self.clone(), new, Changes::default());
        let doors = old.keep_doors(&mut merged);
        for key in keys::all() {
            if key.kind.is_same(&mut old, &mut merged) {
                continue;
            }
            match key.reload {
                keys::Reload::Hot => changes.hot.push(key.label),
                keys::Reload::NewConnections => changes.new_connections.push(key.label),
                keys::Reload::Restart => {
                    changes.restart.push(key.label);
                    // Cannot fail: a shown value reads back as itself (tested for every kind with this reload class).
                    let _ = key.kind.read(&key.kind.show(&mut old), &mut merged);
                }
            }
        }
        changes.restart.extend(&doors);
        merged.ports = old.ports;
        for setting in old.settings {
            let is_kept = |key: &keys::Key| {
                let is_of_door = key.section != SECTION && doors.contains(&key.section);
                key.label == setting.name && (key.reload == keys::Reload::Restart || is_of_door)
            };
            let place = merged.settings.iter_mut().find(|merged| merged.name == setting.name);
            if let Some(place) = place.filter(|_| keys::all().any(is_kept)) {
                *place = setting;
            }
        }
        (merged, changes)
    }

    /// A door that has come or gone needs a restart: `new` keeps it as it is here. Their names.
    fn keep_doors(&self, new: &mut Config) -> Vec<&'static str> {
        let mut kept = Vec::new();
        if self.gateway.on != new.gateway.on {
            new.gateway = self.gateway.clone();
            kept.push(gateway::SECTION);
        }
        if self.rainbow != new.rainbow {
            new.rainbow = self.rainbow;
            new.connect_url = self.connect_url.clone();
            new.forward_url = self.forward_url.clone();
            new.close_url = self.close_url.clone();
            new.security_token = self.security_token.clone();
            kept.push("connect_url");
        }
        kept
    }

    /// Whether certificates are listened with.
    pub fn listens_with_tls(&self) -> bool {
        self.tls_port.is_some() || self.gateway.on && self.gateway.tls_port.is_some()
    }

    /// The setting with this label.
    pub fn setting(&self, label: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == label)
    }
}

#[cfg(test)]
mod tests;
