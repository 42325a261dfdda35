//! The rows of section `[gateway]`.

use super::Kind::{
    self, Address, Bytes, Choice, MaybeAddresses, MaybeUrl, OptionalPort, PathsOfClients, Port, Seconds, Secret,
    Secrets, Text,
};
use super::Reload::{self, Hot, NewConnections, Restart};
use super::{HOUR, K, Key, M, MEMORY_MAX};
use crate::config::gateway::{IdFormat, SECTION};

/// A key of this section.
macro_rules! key {
    ($name:literal, $kind:expr, $default:literal, $reload:expr, $meaning:expr $(,)?) => {
        of_section($name, concat!("[gateway] ", $name), $kind, $default, $reload, $meaning)
    };
}

const fn of_section(
    name: &'static str,
    label: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    meaning: &'static str,
) -> Key {
    let mut key = super::key(name, kind, default, reload, meaning);
    (key.label, key.section) = (label, SECTION);
    key
}

pub(super) static KEYS: &[Key] = &[
    key!(
        "port",
        Port(|c| &mut c.gateway.port),
        "7272",
        Restart,
        "Port of the clients. Nothing else is served there.",
    ),
    key!(
        "tls_port",
        OptionalPort(|c| &mut c.gateway.tls_port),
        "0",
        Restart,
        "Port of the clients for wss, with tls_cert and tls_key of [main]. 0: none.",
    ),
    key!(
        "bind",
        MaybeAddresses(|c| &mut c.gateway.bind),
        "",
        Restart,
        "Addresses to listen on. Empty: those of bind in [main].",
    ),
    key!(
        "paths",
        PathsOfClients(|c| &mut c.gateway.paths),
        "*",
        NewConnections,
        "Paths that clients may connect to, for example /ws, /chat; others are answered 404. *: any.",
    ),
    key!(
        "url",
        MaybeUrl(|c| &mut c.gateway.url),
        "",
        Hot,
        "Told (POST, JSON) of the events connect, message and close that have no URL of their own. Without any URL \
         everybody is admitted and nobody is told.",
    ),
    key!(
        "connect_url",
        MaybeUrl(|c| &mut c.gateway.connect_url),
        "",
        Hot,
        "Asked whether a client may connect, instead of url.",
    ),
    key!(
        "message_url",
        MaybeUrl(|c| &mut c.gateway.message_url),
        "",
        Hot,
        "Told what a client says, instead of url.",
    ),
    key!(
        "close_url",
        MaybeUrl(|c| &mut c.gateway.close_url),
        "",
        Hot,
        "Told once when a client has gone, instead of url.",
    ),
    key!(
        "secret",
        Secret(|c| &mut c.gateway.secret),
        "",
        Hot,
        "Key of the signature (HMAC-SHA256) of events. Empty means that anybody could have made it.",
    ),
    key!(
        "api_tokens",
        Secrets(|c| &mut c.gateway.api_tokens),
        "",
        Hot,
        "Tokens, one of which a caller of /v1 has to name (Authorization: Bearer). Several, so that one can be replaced \
         while it is in use. May be empty only where bind of [main] has addresses of this machine alone (127.0.0.1, ::1).",
    )
    .guard(),
    key!(
        "message_max",
        Bytes(64, 1024 * M, |c| &mut c.gateway.message_max),
        "1m",
        NewConnections,
        "Largest message of a client; a larger one closes the connection with code 1009.",
    ),
    key!(
        "ping_interval",
        Seconds(0, HOUR, |c| &mut c.gateway.ping_interval),
        "27",
        NewConnections,
        "A client that has sent nothing for this long is sent a ping. 0: never.",
    ),
    key!(
        "ping_timeout",
        Seconds(0, HOUR, |c| &mut c.gateway.ping_timeout),
        "30",
        NewConnections,
        "Time it has to send anything then, a pong or a message, before it is closed. 0: any; then ping_data needs no answer.",
    ),
    key!(
        "ping_data",
        Text(|c| &mut c.gateway.ping_data),
        "",
        NewConnections,
        "Text sent as a message in the place of a ping, for clients that are to see it (GatewayWorker's pingData). A browser \
         does not answer it by itself. Empty: a websocket ping, which it does answer.",
    ),
    key!(
        "idle_timeout",
        Seconds(0, 24 * HOUR, |c| &mut c.gateway.idle_timeout),
        "0",
        NewConnections,
        "A client that has sent nothing for this long, no pong either, is closed. For clients that send heartbeats of their \
         own, with ping_interval = 0. 0: never.",
    ),
    key!(
        "session_max",
        Bytes(K, 16 * M, |c| &mut c.gateway.session_max),
        "64k",
        Hot,
        "Longest session data of one client, as JSON without spaces; what would make it longer is refused.",
    ),
    key!(
        "sessions_max",
        Bytes(K, MEMORY_MAX, |c| &mut c.gateway.sessions_max),
        "256m",
        Hot,
        "Session data of all clients of the process together; what goes beyond it is refused.",
    ),
    key!(
        "id_format",
        Choice {
            words: IdFormat::WORDS,
            set: |c, word| IdFormat::from_word(word).map(|choice| c.gateway.id_format = choice).is_some(),
            word: |c| c.gateway.id_format.word(),
        },
        "random",
        Restart,
        "Form of a client id, 20 hex digits either way. random: cannot be guessed, and never names another client. \
         gatewayworker: address, port and a number, as GatewayWorker and bin-x/websocket write them; such an id can be \
         guessed, shows lan_ip, and is given out again after some time.",
    ),
    key!(
        "lan_ip",
        Address(|c| &mut c.gateway.lan_ip),
        "",
        Restart,
        "The address in ids with id_format = gatewayworker; the port in them is port. Empty: 127.0.0.1.",
    ),
];
