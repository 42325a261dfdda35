//! Types of settings: how the text of a key becomes a field of [`Config`], and back.
//!
//! A [`Kind`] carries the field it fills (`fn(&mut Config) -> &mut T`), so a row of the table cannot disagree with the type of
//! its field. Invariant: for every kind but secrets and URLs, `read(show(value)) == value` (tested in `keys.rs`).
//! Callers: `config/load.rs`, `config/render.rs`.

use super::Config;
use super::headers::QueryHeaders;
use super::origins::OriginRule;
use super::types::{Network, Peer, PortRange, Scheme, Secret};
use super::url::Endpoint;
use super::value::*;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The field a setting fills.
pub type Place<T> = fn(&mut Config) -> &mut T;

/// Type, range and field of a setting.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A business URL.
    Url(Place<Endpoint>),
    /// A business URL that files of the older layout may leave out.
    OptionalUrl(Place<Option<Endpoint>>),
    /// A URL or empty.
    MaybeUrl(Place<Option<Endpoint>>),
    /// Free text on one line.
    Text(Place<String>),
    /// Text that is never shown.
    Secret(Place<Secret>),
    /// Several of these, may be empty. They cannot contain commas or white space.
    Secrets(Place<Vec<Secret>>),
    /// The listening port with the original's leniency: 0 or not an integer → [`PORT_DEFAULT`] (spec §2).
    LenientPort(Place<u16>),
    /// A listening port. What is no port is an error.
    Port(Place<u16>),
    /// A second listening port, empty for none, same leniency.
    SecondPort(Place<Option<u16>>),
    /// A port, 0 or empty for none. What is no port is an error.
    OptionalPort(Place<Option<u16>>),
    /// A whole number `min..=max`.
    Integer(usize, usize, Place<usize>),
    /// Yes or no, in the words of Python's `getboolean`.
    Bool(Place<bool>),
    /// Seconds with fractions, `min..=max` given in milliseconds.
    Seconds(u64, u64, Place<Duration>),
    /// A size in bytes with an optional suffix k or m (1024), `min..=max`.
    Bytes(usize, usize, Place<usize>),
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Stores the choice; false when the word is unknown.
        set: fn(&mut Config, &str) -> bool,
        /// The word of the choice in force.
        word: fn(&Config) -> &'static str,
    },
    /// Addresses to listen on, at least one.
    Addresses(Place<Vec<IpAddr>>),
    /// Addresses to listen on, may be empty.
    MaybeAddresses(Place<Vec<IpAddr>>),
    /// Paths of requests, `*` for any (an empty list).
    PathsOfClients(Place<Vec<String>>),
    /// `host:port` of cluster peers.
    Peers(Place<Vec<Peer>>),
    /// Schemes of signatures.
    Schemes(Place<Vec<Scheme>>),
    /// `first-last`.
    Ports(Place<PortRange>),
    /// An IPv4 address or empty.
    Address(Place<Option<Ipv4Addr>>),
    /// Addresses and networks, may be empty.
    Networks(Place<Vec<Network>>),
    /// Origins of web pages, may be empty.
    Origins(Place<Vec<OriginRule>>),
    /// Names of headers, or `any`; may be empty.
    Headers(Place<QueryHeaders>),
    /// A directory, by its whole path, or empty.
    Directory(Place<Option<PathBuf>>),
    /// A file or empty.
    Path(Place<Option<PathBuf>>),
    /// Files, none if empty. Their names cannot contain commas or white space.
    Paths(Place<Vec<PathBuf>>),
    /// Accepted for old files, without effect.
    Ignored,
}

/// Default listening port of the original.
pub const PORT_DEFAULT: u16 = 1984;

/// What became of a text that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Stored as written.
    AsWritten,
    /// Not usable; the text says what is used instead.
    Fallback(&'static str),
}

impl Kind {
    /// Parses `text` into its field of `config`.
    ///
    /// # Errors
    /// What is wrong and what to write instead. The field is unchanged then.
    pub fn read(&self, text: &str, config: &mut Config) -> Result<Reading, String> {
        match *self {
            Kind::LenientPort(place) => return read_port(text, place(config)),
            Kind::Port(place) => *place(config) = strict_port(text)?,
            Kind::SecondPort(place) => return read_second_port(text, place(config)),
            Kind::Url(place) => *place(config) = Endpoint::parse(text).map_err(|error| error.to_string())?,
            Kind::OptionalUrl(place) => {
                *place(config) = Some(Endpoint::parse(text).map_err(|error| error.to_string())?);
            }
            Kind::MaybeUrl(place) => {
                let url = |text: &str| Endpoint::parse(text).map_err(|error| error.to_string());
                *place(config) = optional(text, url)?;
            }
            Kind::Text(place) => *place(config) = one_line(text)?,
            Kind::Secret(place) => *place(config) = Secret::new(text),
            Kind::Secrets(place) => *place(config) = secrets(text)?,
            Kind::OptionalPort(place) => *place(config) = optional_port(text)?,
            Kind::Integer(min, max, place) => *place(config) = integer(text, min, max)?,
            Kind::Bool(place) => *place(config) = boolean(text)?,
            Kind::Seconds(min, max, place) => *place(config) = seconds(text, min, max)?,
            Kind::Bytes(min, max, place) => *place(config) = bytes(text, min, max)?,
            Kind::Choice { words, set, .. } => {
                if !set(config, text) {
                    return Err(format!("{} is not one of: {}", quoted(text), words.join(", ")));
                }
            }
            Kind::Addresses(place) => *place(config) = addresses(text)?,
            Kind::MaybeAddresses(place) => *place(config) = items(text, address)?,
            Kind::PathsOfClients(place) => *place(config) = paths_of_clients(text)?,
            Kind::Peers(place) => *place(config) = items(text, peer)?,
            Kind::Schemes(place) => *place(config) = items(text, scheme)?,
            Kind::Ports(place) => *place(config) = port_range(text)?,
            Kind::Address(place) => *place(config) = optional(text, address_v4)?,
            Kind::Networks(place) => *place(config) = items(text, network)?,
            Kind::Origins(place) => *place(config) = items(text, origin)?,
            Kind::Headers(place) => *place(config) = QueryHeaders::from_words(items(text, one_line)?)?,
            Kind::Directory(place) => *place(config) = optional(text, whole_path)?,
            Kind::Path(place) => *place(config) = optional(text, one_path)?,
            Kind::Paths(place) => *place(config) = items(text, one_path)?,
            Kind::Ignored => {}
        }
        Ok(Reading::AsWritten)
    }

    /// The value in force, in the form of the ini file; secrets masked.
    pub fn show(&self, config: &mut Config) -> String {
        match *self {
            Kind::Url(place) => place(config).to_string(),
            Kind::OptionalUrl(place) | Kind::MaybeUrl(place) => {
                place(config).as_ref().map(Endpoint::to_string).unwrap_or_default()
            }
            Kind::Text(place) => place(config).clone(),
            Kind::Secret(place) => format!("{:?}", place(config)),
            Kind::Secrets(place) => match place(config).len() {
                0 => String::new(),
                count => format!("({count} set)"),
            },
            Kind::LenientPort(place) | Kind::Port(place) => place(config).to_string(),
            Kind::SecondPort(place) => place(config).map(|port| port.to_string()).unwrap_or_default(),
            Kind::OptionalPort(place) => place(config).unwrap_or(0).to_string(),
            Kind::Integer(_, _, place) => place(config).to_string(),
            Kind::Bool(place) => if *place(config) { "yes" } else { "no" }.to_owned(),
            Kind::Seconds(_, _, place) => place(config).as_secs_f64().to_string(),
            Kind::Bytes(_, _, place) => show_bytes(*place(config)),
            Kind::Choice { word, .. } => word(config).to_owned(),
            Kind::Addresses(place) | Kind::MaybeAddresses(place) => joined(place(config)),
            Kind::PathsOfClients(place) => match &place(config)[..] {
                [] => "*".into(),
                paths => joined(paths),
            },
            Kind::Peers(place) => joined(place(config)),
            Kind::Schemes(place) => joined(&place(config).iter().map(|scheme| scheme.word()).collect::<Vec<_>>()),
            Kind::Ports(place) => place(config).to_string(),
            Kind::Address(place) => place(config).map(|address| address.to_string()).unwrap_or_default(),
            Kind::Networks(place) => joined(place(config)),
            Kind::Origins(place) => joined(place(config)),
            Kind::Headers(place) => place(config).to_string(),
            Kind::Directory(place) | Kind::Path(place) => place(config)
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            Kind::Paths(place) => {
                let paths: Vec<_> = place(config).iter().map(|path| path.display()).collect();
                joined(&paths)
            }
            Kind::Ignored => String::new(),
        }
    }

    /// Whether both have the same value here.
    pub fn is_same(&self, one: &mut Config, other: &mut Config) -> bool {
        match *self {
            // They are not shown in full.
            Kind::Url(place) => place(one) == place(other),
            Kind::OptionalUrl(place) | Kind::MaybeUrl(place) => place(one) == place(other),
            Kind::Secret(place) => place(one) == place(other),
            Kind::Secrets(place) => place(one) == place(other),
            _ => self.show(one) == self.show(other),
        }
    }

    /// Type, unit and range in words, for the documentation.
    pub fn describe(&self) -> String {
        match *self {
            Kind::Url(_) | Kind::OptionalUrl(_) => "http or https URL".into(),
            Kind::MaybeUrl(_) => "http or https URL, or empty".into(),
            Kind::Text(_) => "text".into(),
            Kind::Secret(_) => "secret text, may be empty".into(),
            Kind::Secrets(_) => "list of secret texts, may be empty".into(),
            Kind::LenientPort(_) | Kind::Port(_) => "port 1..65535".into(),
            Kind::SecondPort(_) => "port 1..65535 or empty".into(),
            Kind::OptionalPort(_) => "port 1..65535, 0 for none".into(),
            Kind::Integer(min, max, _) => format!("{min}..{max}"),
            Kind::Bool(_) => "yes or no".into(),
            Kind::Seconds(min, max, _) => format!("seconds, {}..{}", show_millis(min), show_millis(max)),
            Kind::Bytes(min, max, _) => format!("bytes (suffix k, m), {}..{}", show_bytes(min), show_bytes(max)),
            Kind::Choice { words, .. } => words.join(" or "),
            Kind::Addresses(_) => "list of IP addresses".into(),
            Kind::MaybeAddresses(_) => "list of IP addresses, may be empty".into(),
            Kind::PathsOfClients(_) => "list of paths, or *".into(),
            Kind::Peers(_) => "list of host:port, may be empty".into(),
            Kind::Schemes(_) => format!("list of {}, may be empty", Scheme::WORDS.join(", ")),
            Kind::Ports(_) => "ports first-last".into(),
            Kind::Address(_) => "IPv4 address or empty".into(),
            Kind::Networks(_) => "list of IP addresses or address/bits, may be empty".into(),
            Kind::Origins(_) => "list of origins, may be empty".into(),
            Kind::Headers(_) => "list of header names, any, or empty".into(),
            Kind::Directory(_) => "directory or empty".into(),
            Kind::Path(_) => "file or empty".into(),
            Kind::Paths(_) => "list of files, may be empty".into(),
            Kind::Ignored => "ignored".into(),
        }
    }
}
