//! Small types of the settings: the secret, the choices an operator has, peers, port ranges.
//!
//! Each choice is an enum whose words stand next to its variants, so the table, the reader and the documentation cannot
//! disagree. Callers: `config/mod.rs`, `config/kind.rs`, and everybody who reads a setting.

use std::fmt;

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
