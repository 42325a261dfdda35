//! Listening ports and what is served on each. A connection knows its listener by a number until it is a client; from then on
//! its door is all that counts.
//!
//! | listener | doors | HTTP interface |
//! | --- | --- | --- |
//! | main: `http_port`, `socket_port`, `tls_port` | rainbow, echo | yes |
//! | gateway: `port`, `tls_port` of `[gateway]` | gateway | no |
//!
//! Addresses and ports are bound by the assembly (`server.rs`); which door a path leads to is asked here by shards and the
//! control core.

use std::net::IpAddr;

use super::Door;
use crate::config::Config;

/// Number of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(u8);

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its number.
    pub id: ListenerId,
    /// What stands before the name of a setting in messages about it.
    pub label: &'static str,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports without TLS.
    pub ports: Vec<u16>,
    /// Its port with TLS.
    pub tls_port: Option<u16>,
    /// If a port is taken, another one will do.
    pub searches: bool,
}

/// What a listener serves.
struct Served {
    doors: &'static [Door],
    api: bool,
}

const SERVED: [Served; 2] = [
    Served {
        doors: &[Door::Rainbow, Door::Echo],
        api: true,
    },
    Served {
        doors: &[Door::Gateway],
        api: false,
    },
];

impl ListenerId {
    /// The one that is always there.
    pub const MAIN: ListenerId = ListenerId(0);
    /// That of the gateway's clients.
    pub const GATEWAY: ListenerId = ListenerId(1);

    fn served(self) -> &'static Served {
        // Made here only, so it is in the table.
        SERVED.get(usize::from(self.0)).unwrap_or(&SERVED[0])
    }

    /// The door behind a path, if there is one.
    pub fn door(self, path: &[u8], config: &Config) -> Option<Door> {
        let doors = self.served().doors.iter();
        doors.copied().find(|door| door.serves(path, config))
    }

    /// Whether what is no door's is for the HTTP interface.
    pub fn has_api(self) -> bool {
        self.served().api
    }
}

impl Listener {
    /// Those the settings ask for, the main one first.
    pub fn all(config: &Config) -> Vec<Listener> {
        let main = Listener {
            id: ListenerId::MAIN,
            label: "",
            addresses: config.bind.clone(),
            ports: config.ports.clone(),
            tls_port: config.tls_port,
            searches: config.port_search,
        };
        let own = &config.gateway;
        let addresses = if own.bind.is_empty() { &config.bind } else { &own.bind };
        let gateway = own.on.then(|| Listener {
            id: ListenerId::GATEWAY,
            label: "[gateway] ",
            addresses: addresses.clone(),
            ports: vec![own.port],
            tls_port: own.tls_port,
            // Its clients know the number.
            searches: false,
        });
        std::iter::once(main).chain(gateway).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Gateway, Overrides};

    #[test]
    fn each_listener_has_its_doors() {
        let plain = Config::demo(1, &Overrides::default());
        let open = Config {
            echo: true,
            ..plain.clone()
        };
        let narrow = Config {
            gateway: Gateway {
                paths: vec!["/ws".into()],
                ..Gateway::default()
            },
            ..plain.clone()
        };
        for (listener, path, config, door) in [
            (ListenerId::MAIN, "/connect/", &plain, Some(Door::Rainbow)),
            (ListenerId::MAIN, "/connect", &plain, None),
            (ListenerId::MAIN, "/echo/", &plain, None),
            (ListenerId::MAIN, "/echo/", &open, Some(Door::Echo)),
            (ListenerId::MAIN, "/ws", &plain, None),
            (ListenerId::GATEWAY, "/", &plain, Some(Door::Gateway)),
            (ListenerId::GATEWAY, "/connect/", &open, Some(Door::Gateway)),
            (ListenerId::GATEWAY, "/ws", &narrow, Some(Door::Gateway)),
            (ListenerId::GATEWAY, "/ws/", &narrow, None),
        ] {
            assert_eq!(listener.door(path.as_bytes(), config), door, "{listener:?} {path}");
        }
        assert!(ListenerId::MAIN.has_api() && !ListenerId::GATEWAY.has_api());
    }

    #[test]
    fn listeners_follow_the_settings() {
        let mut config = Config::demo(1, &Overrides::default());
        assert_eq!(Listener::all(&config).len(), 1);
        config.gateway = Gateway {
            on: true,
            port: 7,
            tls_port: Some(8),
            ..Gateway::default()
        };
        let of = |config: &Config| {
            Listener::all(config)
                .pop()
                .map(|listener| (listener.addresses, listener.ports))
        };
        assert_eq!(
            of(&config),
            Some((config.bind.clone(), vec![7])),
            "the addresses of the main one"
        );
        config.gateway.bind = vec![IpAddr::from([127, 0, 0, 2])];
        assert_eq!(of(&config), Some((config.gateway.bind.clone(), vec![7])));
    }
}
