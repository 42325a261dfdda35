//! The table of settings: every key an operator may write, once.
//!
//! Parser, `--help`, `--check-config`, `server.ini` and `docs/configuration.md` are all made from [`GROUPS`]; a new setting is
//! one row here and one field in `config/mod.rs`. `tests/config_table.rs` compares the two committed files with the table.

mod gateway;

use super::kind::Kind;
use super::types::{BindMissing, ClusterUdp, Driver, ForwardOrder, LogFormat, LogLevel, Scheme, SlowConsumer};

/// The settings that versions up to 0.05, and the README from before them, know. A file with no other one may be theirs.
pub const ORIGINALS: &[&str] = &[
    "connect_url",
    "auth_url",
    "forward_url",
    "close_url",
    "security_token",
    "security_key",
    "http_port",
    "socket_port",
    "cluster_name",
    "udp_ports",
];

/// When a changed value takes effect after SIGHUP or `/updateconfig/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once.
    Hot,
    /// For connections accepted from then on.
    NewConnections,
    /// After a restart; a reload keeps the old value and says so.
    Restart,
}

impl Reload {
    /// The word of the documentation, `--check-config` and the log.
    pub fn word(self) -> &'static str {
        match self {
            Reload::Hot => "hot",
            Reload::NewConnections => "new-connections",
            Reload::Restart => "restart",
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The section it stands in.
    pub section: &'static str,
    /// Name in its section.
    pub name: &'static str,
    /// What it is called where sections do not show: the name, with the section unless that is the main one. No two keys
    /// have the same.
    pub label: &'static str,
    /// Older names, used when `name` is absent.
    pub aliases: &'static [&'static str],
    /// Type, range and field.
    pub kind: Kind,
    /// What a number counts; empty where the type says it.
    pub unit: &'static str,
    /// Value of an absent key; `None` for a required one.
    pub default: Option<&'static str>,
    /// Value `server.ini` sets; `None` leaves the key there as a comment.
    pub shipped: Option<&'static str>,
    /// When a change takes effect.
    pub reload: Reload,
    /// A reload does not take its absence for a wish, because the default is less secure than what may be set.
    pub is_guard: bool,
    /// What it does, in one or two sentences.
    pub meaning: &'static str,
}

impl Key {
    /// The names a file may use for this key, current one first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Key {
        self.aliases = aliases;
        self
    }

    const fn unit(mut self, unit: &'static str) -> Key {
        self.unit = unit;
        self
    }

    const fn guard(mut self) -> Key {
        self.is_guard = true;
        self
    }

    const fn shipped(mut self, value: &'static str) -> Key {
        self.shipped = Some(value);
        self
    }
}

/// Keys under one heading.
#[derive(Debug)]
pub struct Group {
    /// Heading in `server.ini`, the help and the documentation.
    pub heading: &'static str,
    /// Its keys, in the order they are shown.
    pub keys: &'static [Key],
}

impl Group {
    /// The section of its keys.
    pub fn section(&self) -> &'static str {
        self.keys.first().map_or(super::SECTION, |key| key.section)
    }
}

/// Every key in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys)
}

const fn required(name: &'static str, kind: Kind, example: &'static str, meaning: &'static str) -> Key {
    let (aliases, unit) = (&[] as &[&str], "");
    Key {
        section: super::SECTION,
        name,
        label: name,
        aliases,
        kind,
        unit,
        default: None,
        shipped: Some(example),
        reload: Reload::Hot,
        is_guard: false,
        meaning,
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, reload: Reload, meaning: &'static str) -> Key {
    Key {
        section: super::SECTION,
        name,
        label: name,
        aliases: &[],
        kind,
        unit: "",
        default: Some(default),
        shipped: None,
        reload,
        is_guard: false,
        meaning,
    }
}

use Kind::{
    Address, Addresses, Bool, Bytes, Choice, Directory, Headers, Ignored, Integer, LenientPort, Networks, OptionalPort,
    OptionalUrl, Origins, Path, Paths, Peers, Ports,
};
use Kind::{Schemes, SecondPort, Seconds, Secret, Text, Url};
use Reload::{Hot, NewConnections, Restart};

const K: usize = 1024;
const M: usize = 1024 * 1024;
/// More memory than any machine has: 1 PiB.
const MEMORY_MAX: usize = 1 << 50;
/// Milliseconds of one hour.
const HOUR: u64 = 3_600_000;

/// The table.
pub static GROUPS: &[Group] = &[
    Group {
        heading: "Business server",
        keys: BUSINESS,
    },
    Group {
        heading: "Signatures (docs/signature.md)",
        keys: SIGNATURES,
    },
    Group {
        heading: "Listening",
        keys: LISTENING,
    },
    Group {
        heading: "Clients",
        keys: CLIENTS,
    },
    Group {
        heading: "Forwarding messages to the business server",
        keys: FORWARDING,
    },
    Group {
        heading: "Calls to the business server",
        keys: CALLBACKS,
    },
    Group {
        heading: "HTTP interface",
        keys: API,
    },
    Group {
        heading: "Cluster",
        keys: CLUSTER,
    },
    Group {
        heading: "Process",
        keys: PROCESS,
    },
    Group {
        heading: "The gateway door (docs/gateway.md)",
        keys: gateway::KEYS,
    },
];

static BUSINESS: &[Key] = &[
    required(
        "connect_url",
        Url(|c| &mut c.connect_url),
        "http://127.0.0.1:8000/connect/",
        "Asked (GET) whether a client may connect.",
    )
    .alias(&["auth_url"]),
    required(
        "forward_url",
        Url(|c| &mut c.forward_url),
        "http://127.0.0.1:8000/message/{message_type}/",
        "Receives (POST) every message of a client; {message_type} is replaced by its type.",
    ),
    required(
        "close_url",
        OptionalUrl(|c| &mut c.close_url),
        "http://127.0.0.1:8000/close/",
        "Told (GET) once when a client has gone. A file of the older layout (auth_url, security_key) may leave it out: then nobody is told.",
    ),
    required(
        "security_token",
        Secret(|c| &mut c.security_token),
        super::TOKEN_EXAMPLE,
        "Shared secret of the signature, the same on both sides. Empty means that anybody can sign.",
    )
    .alias(&["security_key"]),
];

static SIGNATURES: &[Key] = &[
    key(
        "signature",
        Choice {
            words: Scheme::WORDS,
            set: |c, word| Scheme::from_word(word).map(|choice| c.signature = choice).is_some(),
            word: |c| c.signature.word(),
        },
        "sha1",
        Hot,
        "How calls are signed, in both directions and between servers. sha1: token, timestamp and nonce, as versions up \
         to 0.05 do. hmac-sha256: method, path, query and body as well.",
    )
    .guard(),
    key(
        "signature_accept",
        Schemes(|c| &mut c.signature_accept),
        "",
        Hot,
        "What callers may sign with, for the time of a change: sha1, hmac-sha256. Empty: what signature says.",
    ),
    key(
        "security_token_previous",
        Secret(|c| &mut c.security_token_previous),
        "",
        Hot,
        "Another secret callers may sign with, for the time of a change; this server never does. Empty: none.",
    ),
    key(
        "signature_window",
        Seconds(1000, HOUR, |c| &mut c.signature_window),
        "10",
        Hot,
        "The timestamp of a call must be less than this far from the server's time.",
    ),
    key(
        "replay_protection",
        Bool(|c| &mut c.replay_protection),
        "no",
        Hot,
        "Accept a call signed with sha1 once only. One signed with hmac-sha256 is never accepted twice.",
    )
    .guard(),
    key(
        "replay_max",
        Integer(1000, 64_000_000, |c| &mut c.replay_max),
        "1000000",
        Hot,
        "Most signatures remembered for that, each for two to four times signature_window; further calls are refused.",
    )
    .unit("signatures"),
];

static LISTENING: &[Key] = &[
    key(
        "http_port",
        LenientPort(|c| &mut c.http_port),
        "1984",
        Restart,
        "Port for clients and for the HTTP interface.",
    )
    .shipped("1984"),
    key(
        "port_search",
        Bool(|c| &mut c.port_search),
        "yes",
        Restart,
        "When http_port is taken, use the first free one of 1984..2003, as versions up to 0.05 do. no: a taken port is an \
         error. Option -p, and http_port in a file that has settings newer than 0.05, mean no, unless the file says yes.",
    )
    .shipped("no"),
    key(
        "socket_port",
        SecondPort(|c| &mut c.socket_port),
        "",
        Restart,
        "Older layout: a second port with the same interface. Used only when http_port is set too.",
    ),
    key(
        "bind",
        Addresses(|c| &mut c.bind),
        "::, 0.0.0.0",
        Restart,
        "Addresses to listen on.",
    ),
    key(
        "bind_missing",
        Choice {
            words: BindMissing::WORDS,
            set: |c, word| BindMissing::from_word(word).map(|choice| c.bind_missing = choice).is_some(),
            word: |c| c.bind_missing.word(),
        },
        "refuse",
        Restart,
        "When this machine does not have an address of bind. refuse: the server does not start. warn: it starts, and serves \
         the address as soon as the machine has it.",
    ),
    key(
        "tls_port",
        OptionalPort(|c| &mut c.tls_port),
        "0",
        Restart,
        "Port for wss and https; http_port stays without TLS. 0: none.",
    ),
    key(
        "tls_cert",
        Paths(|c| &mut c.tls_cert),
        "",
        NewConnections,
        "PEM files, each with a certificate and the chain above it. A client gets the one that has the name it asked for, \
         the first one if none has. Read again at every reload.",
    ),
    key(
        "tls_key",
        Paths(|c| &mut c.tls_key),
        "",
        NewConnections,
        "PEM files with the keys of tls_cert, in the same order.",
    ),
    key(
        "tls_handshakes",
        Integer(1, 65_536, |c| &mut c.tls_handshakes),
        "256",
        NewConnections,
        "Most TLS handshakes under way in each worker; further connections wait, or take the place of the oldest one of \
         the address that has most. A connection that has not sent a byte does not count.",
    )
    .unit("handshakes"),
    key(
        "tls_first_byte_timeout",
        Seconds(100, HOUR, |c| &mut c.tls_first_byte_timeout),
        "5",
        NewConnections,
        "Time a connection to tls_port has for its first byte; a client sends it at once, two lost packets cost it three \
         seconds. handshake_timeout goes on beside it.",
    ),
    key(
        "connections_max",
        Integer(0, 16_000_000, |c| &mut c.connections_max),
        "0",
        Hot,
        "Most connections at one time, divided among the workers: one whose share is full refuses with 503 while others \
         have room, and the kernel spreads connections nearly, not exactly, evenly. One in 16 is kept for the HTTP \
         interface. 0: what the limit of open files allows.",
    )
    .unit("connections"),
    key(
        "connections_per_address",
        Integer(0, 16_000_000, |c| &mut c.connections_per_address),
        "0",
        Hot,
        "Most clients of one address at one time, in all workers together; more are refused with 503. As many connections \
         may be waiting for their request head; the HTTP interface is not limited. IPv6 addresses count by /64, \
         addresses in trusted_proxies do not count. 0: no limit.",
    )
    .guard()
    .unit("connections"),
    key(
        "handshakes_max",
        Integer(1, 16_000_000, |c| &mut c.handshakes_max),
        "16384",
        Hot,
        "Most connections without a complete request head, divided among the workers; more are refused with 503.",
    )
    .unit("connections"),
    key(
        "memory_max",
        Bytes(0, MEMORY_MAX, |c| &mut c.memory_max),
        "0",
        Hot,
        "While the process uses more memory than this, new clients are answered 503 with Retry-After. 0: nine tenths of \
         what the machine or the control group has.",
    ),
    key(
        "origins",
        Origins(|c| &mut c.origins),
        "",
        NewConnections,
        "Origins of web pages that may connect, for example https://example.com, https://*.example.com (every name below it), \
         http://localhost:* (every port) or null (files and sandboxed frames); others are answered 403. A request without Origin does not come from a browser and \
         passes. Empty, or *: any.",
    )
    .guard(),
    key(
        "trusted_proxies",
        Networks(|c| &mut c.trusted_proxies),
        "",
        NewConnections,
        "Addresses or networks (10.0.0.0/8) whose X-Forwarded-For tells the address of a client, for \
         connections_per_address and the log. The header is passed on unchanged in any case.",
    ),
    key(
        "proxy_protocol",
        Bool(|c| &mut c.proxy_protocol),
        "no",
        NewConnections,
        "Every connection begins with a PROXY protocol header (version 1 or 2), those that do not are closed. If \
         trusted_proxies is set: only connections from there, and others begin without.",
    ),
    key(
        "proxy_header_max",
        Bytes(256, 64 * K + 15, |c| &mut c.proxy_header_max),
        "16k",
        NewConnections,
        "Longest PROXY protocol header of version 2; the connection is closed beyond it. The fields of a proxy (TLVs) are \
         skipped, whatever they are. 16k is what HAProxy can send; those of AWS and Azure have a few hundred bytes. The \
         standard allows 65551.",
    ),
    key(
        "handshake_timeout",
        Seconds(100, HOUR, |c| &mut c.handshake_timeout),
        "10",
        NewConnections,
        "Time a new connection has for sending its request head, TLS handshake included.",
    ),
    key(
        "head_bytes",
        Bytes(K, M, |c| &mut c.head_bytes),
        "64k",
        NewConnections,
        "Longest request head; the connection is closed beyond it.",
    ),
];

static CLIENTS: &[Key] = &[
    key(
        "message_max",
        Bytes(K, 1024 * M, |c| &mut c.message_max),
        "10m",
        NewConnections,
        "Largest message of a client; a larger one closes the connection with code 1009.",
    ),
    key(
        "accept_unmasked",
        Bool(|c| &mut c.accept_unmasked),
        "no",
        NewConnections,
        "Accept websocket frames without mask. RFC 6455 says refuse; versions up to 0.05 accepted them.",
    ),
    key(
        "outbox_bytes",
        Bytes(64 * K, 1024 * M, |c| &mut c.outbox_bytes),
        "4m",
        NewConnections,
        "Bytes that may wait for one slow client before slow_consumer applies.",
    ),
    key(
        "message_timeout",
        Seconds(0, HOUR, |c| &mut c.message_timeout),
        "120",
        Hot,
        "Time a client has for the rest of a message of which it has sent 4 KiB or more; then it is closed with code 1008. 0: any.",
    ),
    key(
        "outbox_seconds",
        Seconds(0, HOUR, |c| &mut c.outbox_seconds),
        "30",
        NewConnections,
        "Time that bytes may wait for one slow client before slow_consumer applies. 0: any.",
    ),
    key(
        "slow_consumer",
        Choice {
            words: SlowConsumer::WORDS,
            set: |c, word| {
                SlowConsumer::from_word(word)
                    .map(|choice| c.slow_consumer = choice)
                    .is_some()
            },
            word: |c| c.slow_consumer.word(),
        },
        "close",
        NewConnections,
        "close: a client that takes its bytes too slowly is closed with code 1008. drop_oldest: its oldest QoS 0 messages \
         that have not begun to leave are dropped; it is closed if that makes no room.",
    ),
    key(
        "client_messages_per_second",
        Integer(0, 1_000_000, |c| &mut c.client_messages_per_second),
        "0",
        NewConnections,
        "Websocket frames of one client per second, with bursts of one second; beyond it the client is not read for a \
         while. Nothing is dropped. 0: no limit.",
    )
    .guard()
    .unit("frames"),
    key(
        "client_bytes_per_second",
        Bytes(0, 1024 * M, |c| &mut c.client_bytes_per_second),
        "0",
        NewConnections,
        "The same for bytes; a compressed message counts as what it has become.",
    )
    .guard(),
    key(
        "ping_interval",
        Seconds(0, HOUR, |c| &mut c.ping_interval),
        "0",
        NewConnections,
        "A client that has sent nothing for this long is sent a ping. 0: never, as versions up to 0.05 do. Proxies close \
         connections that are silent, nginx after 60 seconds.",
    )
    .shipped("25"),
    key(
        "ping_timeout",
        Seconds(100, HOUR, |c| &mut c.ping_timeout),
        "20",
        NewConnections,
        "Time it has to send anything then, before it is closed.",
    ),
    key(
        "idle_timeout",
        Seconds(0, 24 * HOUR, |c| &mut c.idle_timeout),
        "0",
        NewConnections,
        "A client that has sent nothing for this long, no pong either, is closed; longer than ping_interval and ping_timeout \
         together. 0: never.",
    )
    .shipped("120"),
    key(
        "tcp_user_timeout",
        Seconds(0, HOUR, |c| &mut c.tcp_user_timeout),
        "30",
        NewConnections,
        "Time that sent bytes may stay unacknowledged before the kernel ends the connection (TCP_USER_TIMEOUT). 0: what \
         the system does, often 15 minutes.",
    ),
    key(
        "channels_max",
        Integer(1, 16_000_000, |c| &mut c.channels_max),
        "65536",
        NewConnections,
        "Most channels one client may be in; further ones are not joined.",
    )
    .unit("channels"),
    key(
        "inflight_max",
        Integer(1, 65_534, |c| &mut c.inflight_max),
        "4096",
        NewConnections,
        "Most unacknowledged QoS 1 and 2 messages to one client.",
    )
    .unit("messages"),
    key(
        "ack_data_max",
        Bytes(K, 2 * M, |c| &mut c.ack_data_max),
        "1m",
        Hot,
        "Longest data of an acknowledgement that the caller of /send/ gets; longer data is left out of the answer, the \
         acknowledgement counts. It is kept until the caller is answered.",
    ),
    key(
        "compression",
        Bool(|c| &mut c.compression),
        "no",
        NewConnections,
        "Offer permessage-deflate (RFC 7692) to clients that ask for it. Costs processor time for every message.",
    ),
    key(
        "compression_min",
        Bytes(1, M, |c| &mut c.compression_min),
        "512",
        Hot,
        "Messages below this are sent uncompressed also to clients that asked for compression.",
    ),
    key(
        "echo",
        Bool(|c| &mut c.echo),
        "no",
        NewConnections,
        "Serve /echo/, a websocket that sends every message back and asks the business server nothing. For conformance \
         and load tests only: anybody may connect to it.",
    ),
];

static FORWARDING: &[Key] = &[
    key(
        "forward_order",
        Choice {
            words: ForwardOrder::WORDS,
            set: |c, word| {
                ForwardOrder::from_word(word)
                    .map(|choice| c.forward_order = choice)
                    .is_some()
            },
            word: |c| c.forward_order.word(),
        },
        "none",
        NewConnections,
        "client: the messages of one client reach forward_url in order, forward_window at a time. none: all at once, \
         as versions up to 0.05 did.",
    )
    .shipped("client"),
    key(
        "forward_window",
        Integer(1, 1024, |c| &mut c.forward_window),
        "1",
        NewConnections,
        "With forward_order = client: calls of one client under way at one time.",
    )
    .unit("messages"),
    key(
        "forward_queue",
        Integer(1, 65_536, |c| &mut c.forward_queue),
        "128",
        NewConnections,
        "Messages of one client that may wait for the business server; then its socket is not read until one is done.",
    )
    .unit("messages"),
    key(
        "forward_queue_bytes",
        Bytes(4 * K, 1024 * M, |c| &mut c.forward_queue_bytes),
        "1m",
        NewConnections,
        "The same bound in bytes; one message is always accepted.",
    ),
];

static CALLBACKS: &[Key] = &[
    key(
        "callback_timeout",
        Seconds(100, 10 * 60_000, |c| &mut c.callback_timeout),
        "15",
        Hot,
        "Time for one call, connecting included.",
    ),
    key(
        "callback_concurrency",
        Integer(1, 65_536, |c| &mut c.callback_concurrency),
        "1024",
        Hot,
        "Most calls of forward_url, and of close_url, under way at one time. Fewer while nearly all fail.",
    )
    .unit("calls"),
    key(
        "callback_queue",
        Integer(1, 16_000_000, |c| &mut c.callback_queue),
        "65536",
        Hot,
        "Most messages waiting for forward_url beyond that.",
    )
    .unit("calls"),
    key(
        "close_queue",
        Integer(1, 16_000_000, |c| &mut c.close_queue),
        "65536",
        Hot,
        "Most calls of close_url waiting for their first or next attempt; beyond it the oldest gives way. About 400 bytes each, and the client's cookie.",
    )
    .unit("calls"),
    key(
        "breaker_failures",
        Integer(0, 1_000_000, |c| &mut c.breaker_failures),
        "20",
        Hot,
        "Calls of one URL that must fail in a row, within 10 seconds, before it is only probed: no connection, no answer, or a \
         status from 502 on. Where there was a connection, calls of one client do not count while others are answered, and \
         connect_url is asked a neutral question first (OPTIONS). While a URL is only probed clients are answered 503 with \
         Retry-After, messages and close calls wait. 0: never.",
    )
    .unit("calls"),
    key(
        "breaker_pause",
        Seconds(10, HOUR, |c| &mut c.breaker_pause),
        "1",
        Hot,
        "Pause before the first probe; doubles up to 30 seconds, for connect_url and forward_url up to half of callback_timeout.",
    ),
    key(
        "callback_idle",
        Seconds(0, HOUR, |c| &mut c.callback_idle),
        "20",
        Hot,
        "How long an unused connection to the backend is kept at most; for a shorter time where the backend announces one or is seen to close earlier, and not at all before one was seen to stay open. 0: one connection per call.",
    ),
    key(
        "callback_age",
        Seconds(1000, 24 * HOUR, |c| &mut c.callback_age),
        "300",
        Hot,
        "How old a connection to the backend gets, however busy it is. The next one goes to where the name leads then.",
    ),
    key(
        "close_retry",
        Seconds(0, 24 * HOUR, |c| &mut c.close_retry),
        "3600",
        Hot,
        "How long a failing close_url is tried again. 0: one attempt.",
    ),
    key(
        "auth_concurrency",
        Integer(1, 65_536, |c| &mut c.auth_concurrency),
        "1024",
        Hot,
        "Most clients being asked for at connect_url at one time.",
    )
    .unit("clients"),
    key(
        "auth_queue",
        Integer(0, 16_000_000, |c| &mut c.auth_queue),
        "16384",
        Hot,
        "Most clients waiting for that; more are answered 503 with Retry-After.",
    )
    .unit("clients"),
    key(
        "query_headers",
        Headers(|c| &mut c.query_headers),
        "any",
        NewConnections,
        "Query parameters of /connect/ that connect_url is told as headers too, unless the client sent such a header. any: \
         all but names that HTTP, browsers and proxies speak with (docs/headers.md); a name that stands here may be one of \
         those. Versions up to 0.05 copied every one.",
    )
    .guard(),
    key(
        "connect_head_max",
        Bytes(K, M, |c| &mut c.connect_head_max),
        "8k",
        NewConnections,
        "Longest head sent to connect_url, counted as CGI passes it on (the query twice, a few bytes more for each header); \
         a client with a longer one is answered 431. With uWSGI, which takes 4096 bytes and closes the connection silently \
         beyond them, set buffer-size = 8192 there, or connect_head_max = 4k here.",
    ),
    key(
        "ca_file",
        Path(|c| &mut c.ca_file),
        "",
        Hot,
        "PEM file with certificate authorities of https URLs, beside those of the system. Read again when it has changed, at \
         every reload.",
    ),
    key(
        "callback_cert",
        Path(|c| &mut c.callback_cert),
        "",
        Hot,
        "PEM file with the certificate this server shows to https URLs that ask for one. Read again at every reload.",
    ),
    key(
        "callback_key",
        Path(|c| &mut c.callback_key),
        "",
        Hot,
        "PEM file with the key of callback_cert.",
    ),
];

static API: &[Key] = &[
    key(
        "api_open",
        Bool(|c| &mut c.api_open),
        "yes",
        Hot,
        "Answer /serverinfo/ and /updateconfig/ without signature, as versions up to 0.05 do. no: they need one.",
    )
    .guard(),
    key(
        "api_connections",
        Integer(1, 1_000_000, |c| &mut c.api_connections),
        "4096",
        NewConnections,
        "Most connections to the HTTP interface at one time; more are refused with 503. One in eight is kept for callers from \
         this machine and for signed calls; where there is no room, kept connections of others that have never signed and wait \
         for nothing are closed first.",
    )
    .unit("connections"),
    key(
        "api_connections_per_address",
        Integer(0, 1_000_000, |c| &mut c.api_connections_per_address),
        "1024",
        NewConnections,
        "Most of them from one address (IPv6: one /64). This machine and trusted_proxies are not counted. 0: no limit.",
    )
    .unit("connections"),
    key(
        "api_body_max",
        Bytes(K, 1024 * M, |c| &mut c.api_body_max),
        "100m",
        NewConnections,
        "Largest request body; the connection is closed beyond it.",
    ),
    key(
        "api_bodies_max",
        Bytes(K, MEMORY_MAX, |c| &mut c.api_bodies_max),
        "256m",
        Hot,
        "Most memory of request bodies while they are received, all together; a body that goes beyond it is refused with 503. \
         One alone may have api_body_max. Callers who have proved nothing yet (hmac-sha256, not on this machine, no signed call on \
         this connection before) have half of it at most, and their bodies give way to others.",
    ),
    key(
        "api_body_rate",
        Bytes(0, 1024 * M, |c| &mut c.api_body_rate),
        "4k",
        NewConnections,
        "Slowest pace of a request body, per second over ten seconds; a slower one is cut off. 0: any, within api_idle_timeout.",
    ),
    key(
        "api_idle_timeout",
        Seconds(1000, HOUR, |c| &mut c.api_idle_timeout),
        "75",
        NewConnections,
        "How long a kept-alive connection may stay without a request.",
    ),
];

static CLUSTER: &[Key] = &[
    key(
        "cluster_name",
        Text(|c| &mut c.cluster_name),
        "",
        Restart,
        "Servers that announce the same name form a cluster.",
    ),
    key(
        "cluster_udp",
        Choice {
            words: ClusterUdp::WORDS,
            set: |c, word| ClusterUdp::from_setting(word).map(|choice| c.cluster_udp = choice).is_some(),
            word: |c| c.cluster_udp.word(),
        },
        "auto",
        Restart,
        "Find the other servers by UDP broadcast. signed: announcements are authenticated with security_token; all servers \
         are of this version. open: as versions up to 0.05 do; whoever can send a datagram to this machine can become a server \
         of the cluster and is then sent signed requests. no: not at all; see cluster_peers. auto: open for a file that has \
         only settings of versions up to 0.05, else no.",
    )
    .shipped("no"),
    key(
        "cluster_peers",
        Peers(|c| &mut c.cluster_peers),
        "",
        Restart,
        "The other servers of the cluster, for example 10.0.0.2:1984, 10.0.0.3:1984.",
    ),
    key(
        "cluster_udp_ports",
        Ports(|c| &mut c.cluster_udp_ports),
        "2014-2033",
        Restart,
        "Ports for announcements: all are sent to, the first free one is listened on.",
    ),
    key(
        "cluster_broadcast",
        Address(|c| &mut c.cluster_broadcast),
        "255.255.255.255",
        Restart,
        "Where announcements go. Empty: listen only.",
    ),
    key(
        "udp_ports",
        Ignored,
        "",
        Restart,
        "Without effect since version 0.02; accepted so that old files still load.",
    ),
];

static PROCESS: &[Key] = &[
    key(
        "workers",
        Integer(0, 1024, |c| &mut c.workers),
        "0",
        Restart,
        "Threads that hold clients, one per core. 0: one less than there are cores, at least one; of the cores those count \
         that the process may use, and no more than its control group grants. With as many as cores the first also does what the remaining core would: the HTTP interface and the callbacks.",
    )
    .unit("threads"),
    key(
        "pin",
        Bool(|c| &mut c.pin),
        "yes",
        Restart,
        "Keep every thread on a processor of its own, the first ones of those the process may use (taskset, cpusets). Not \
         done where there are fewer than threads, or a control group grants less time than there are processors. no: for \
         several servers on one machine.",
    ),
    key(
        "driver",
        Choice {
            words: Driver::WORDS,
            set: |c, word| Driver::from_word(word).map(|choice| c.driver = choice).is_some(),
            word: |c| c.driver.word(),
        },
        "auto",
        Restart,
        "Kernel interface. auto: io_uring, or epoll where io_uring is denied or finds no room, each core by itself.",
    ),
    key(
        "drain_timeout",
        Seconds(0, HOUR, |c| &mut c.drain_timeout),
        "3",
        Hot,
        "Time for closing clients and finishing calls after SIGTERM or SIGINT, or when a new process takes over.",
    ),
    key(
        "drain_rate",
        Integer(0, 16_000_000, |c| &mut c.drain_rate),
        "1000",
        Hot,
        "Clients closed per second then, in all workers together; faster where that would take longer than half of \
         drain_timeout. 0: as fast as possible.",
    )
    .unit("clients per second"),
    key(
        "reconnect_spread",
        Seconds(0, HOUR, |c| &mut c.reconnect_spread),
        "10",
        Hot,
        "Each of them is told in its close frame (code 1012) to come back after a time of its own, from 0 up to this: \
         reconnect_after=MILLISECONDS.",
    ),
    key(
        "takeover_dir",
        Directory(|c| &mut c.takeover_dir),
        "",
        Restart,
        "Directory of the socket by which --takeover finds this server, for nothing else: its user's alone (mode 0700, no symbolic \
         link), made if it is missing. Empty: /run/rainbow-server or, where that is not this user's, /tmp/rainbow-server-UID.",
    ),
    key(
        "log_level",
        Choice {
            words: LogLevel::WORDS,
            set: |c, word| LogLevel::from_word(word).map(|choice| c.log_level = choice).is_some(),
            word: |c| c.log_level.word(),
        },
        "info",
        Restart,
        "Least important record that is logged (to standard error).",
    ),
    key(
        "log_format",
        Choice {
            words: LogFormat::WORDS,
            set: |c, word| LogFormat::from_word(word).map(|choice| c.log_format = choice).is_some(),
            word: |c| c.log_format.word(),
        },
        "text",
        Restart,
        "Form of a log line.",
    ),
];
