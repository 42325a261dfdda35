//! Small types of the settings: the secret, the choices an operator has, peers, port ranges.
//!
//! Each choice is an enum whose words stand next to its variants, so the table, the reader and the documentation cannot
//! disagree. Callers: `config/mod.rs`, `config/kind.rs`, and everybody who reads a setting.

use std::fmt;
use std::net::IpAddr;

/// A value that must not reach a log: `Debug` tells only whether it is set and how long it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself; for signing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.chars().count() {
            0 => f.write_str("(empty)"),
            count => write!(f, "(set, {count} characters)"),
        }
    }
}

macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The words of the ini file, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the ini file for this choice.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The choice behind a word; case does not matter.
            pub fn from_word(word: &str) -> Option<$name> {
                $(if word.eq_ignore_ascii_case($word) { return Some($name::$variant); })+
                None
            }
        }
    };
}

choice! {
    /// Which kernel interface drives the sockets.
    Driver {
        /// io_uring, or epoll where the kernel or a container profile denies it.
        #[default]
        Auto = "auto",
        /// io_uring or refuse to start.
        IoUring = "io_uring",
        /// epoll.
        Epoll = "epoll",
    }
}

choice! {
    /// What happens about an address of `bind` that this machine does not have.
    BindMissing {
        /// The server does not start.
        #[default]
        Refuse = "refuse",
        /// It starts, says so, and serves the address as soon as the machine has it.
        Warn = "warn",
    }
}

choice! {
    /// How other servers of the cluster are found by broadcast.
    ClusterUdp {
        /// `Open` for a file that could be an original's, `No` for any other (`config/load.rs`).
        #[default]
        Auto = "auto",
        /// Announcements carry a signature made with `security_token`.
        Signed = "signed",
        /// The original's: whoever can send a datagram can become a server of the cluster.
        Open = "open",
        /// Not at all.
        No = "no",
    }
}

impl ClusterUdp {
    /// The choice behind a word of a file. Files of earlier builds said yes, which is `open`, as all of Python's words for it.
    pub fn from_setting(word: &str) -> Option<ClusterUdp> {
        let yes = ["yes", "true", "on", "1"];
        let no = ["false", "off", "0"];
        match word.to_ascii_lowercase() {
            word if yes.contains(&&*word) => Some(ClusterUdp::Open),
            word if no.contains(&&*word) => Some(ClusterUdp::No),
            word => ClusterUdp::from_word(&word),
        }
    }
}

choice! {
    /// Order of the message callbacks of one client.
    ForwardOrder {
        /// All at once, as the original does (spec §16 keep 6).
        #[default]
        None = "none",
        /// In the order of arrival, `forward_window` at a time.
        Client = "client",
    }
}

choice! {
    /// What happens to a client that takes its bytes too slowly.
    SlowConsumer {
        /// It is closed.
        #[default]
        Close = "close",
        /// Its oldest QoS 0 messages are dropped; it is closed if that makes no room.
        DropOldest = "drop_oldest",
    }
}

choice! {
    /// What the id of a client of the gateway looks like.
    IdFormat {
        /// Unguessable, never used again.
        #[default]
        Random = "random",
        /// Address, port and a number.
        GatewayWorker = "gatewayworker",
    }
}

choice! {
    /// How requests are signed (`docs/signature.md`).
    Scheme {
        /// The original's: token, timestamp and nonce (spec §5).
        #[default]
        Sha1 = "sha1",
        /// Method, path, query and body as well.
        HmacSha256 = "hmac-sha256",
    }
}

choice! {
    /// Least important record that is still logged.
    LogLevel {
        /// Only what needs an operator.
        Error = "error",
        /// Also what may need one.
        Warn = "warn",
        /// Also starts, stops, reloads, peers.
        #[default]
        Info = "info",
        /// Also every connection and callback.
        Debug = "debug",
        /// Also every frame (sizes, never payloads).
        Trace = "trace",
    }
}

choice! {
    /// Form of a log line.
    LogFormat {
        /// Readable text.
        #[default]
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

/// Address of a cluster peer's HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// HTTP port, never 0.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Ports `first..=last`, both included, `first <= last`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// The ports in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Addresses with the same first bits. An IPv4 address written as an IPv6 one (`::ffff:10.0.0.1`) counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of `address`; `None` if it has fewer than `bits` bits.
    pub fn new(address: IpAddr, bits: u8) -> Option<Network> {
        (bits <= Network::bits_max(address)).then_some(Network { address, bits })
    }

    /// Bits of such an address.
    pub fn bits_max(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.bits < Network::bits_max(self.address) {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_shares_their_bits() {
        let network = |address: &str, bits| Network::new(address.parse().unwrap(), bits).unwrap();
        let has = |network: Network, address: &str| network.contains(address.parse().unwrap());
        let private = network("10.1.0.0", 16);
        assert!(has(private, "10.1.255.255") && has(private, "::ffff:10.1.2.3"));
        assert!(!has(private, "10.2.0.0") && !has(private, "::1"));
        assert!(has(network("0.0.0.0", 0), "255.255.255.255") && !has(network("0.0.0.0", 0), "::"));
        assert!(has(network("::", 0), "2001:db8::1"));
        assert!(has(network("2001:db8::", 32), "2001:db8:ffff::") && !has(network("2001:db8::", 32), "2001:db9::"));
        let one = network("127.0.0.1", 32);
        assert!(has(one, "127.0.0.1") && !has(one, "127.0.0.2"));
        assert_eq!(Network::new("1.2.3.4".parse().unwrap(), 33), None);
        assert_eq!(private.to_string() + " " + &one.to_string(), "10.1.0.0/16 127.0.0.1");
    }
}
