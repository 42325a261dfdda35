//! Announcements of servers to each other, as datagrams: what is said, in which form, and what of it is believed.
//!
//! The open form is the original's JSON (spec section 12); nothing in it is authenticated. The signed form is the same
//! object with three more members, the last of which covers everything in front of it:
//!
//! ```text
//! {"msgtype": …, …, "address": "10.0.0.2", "time": MICROSECONDS, "signature": "HMAC-SHA256 in 64 hex digits"}
//! ```
//! `address` must be the one the datagram came from, so that nobody else becomes a peer by playing it back; `time` must be
//! inside `signature_window`, and later than what was heard from there before. Pure. Caller: [`super::peer`], `cluster`.

use std::net::{IpAddr, Ipv4Addr};

use ::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::sign::Secrets;
use crate::time::Duration;
use crate::wire::json::{self, Field};

/// Longest datagram read or written, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1024;

/// What the signature covers begins with this, so that no signature of a request is one of a datagram.
const LABEL: &[u8] = b"rainbow-announcement\n";
const SEPARATOR: &[u8] = b", \"signature\": \"";
const END: &[u8] = b"\"}";

/// What tells servers of one cluster apart: 40 hex digits, fresh per start.
pub type ServerIdentity = [u8; 40];

/// The two kinds of announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// I am here; at start and every [`super::peer::ANNOUNCE_INTERVAL`].
    Online,
    /// I am leaving; once, at shutdown.
    Offline,
}

impl Presence {
    const fn word(self) -> &'static str {
        match self {
            Presence::Online => "online",
            Presence::Offline => "offline",
        }
    }
}

/// Who announces itself.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its HTTP port.
    pub port: u16,
    /// Its identity.
    pub identity: ServerIdentity,
    /// Its cluster.
    pub cluster_name: String,
}

impl Sender {
    /// The open form. `None` if the name of the cluster makes it too long to be read.
    pub fn open(&self, presence: Presence) -> Option<Vec<u8>> {
        let mut out = self.members(presence);
        out.push(b'}');
        (out.len() <= DATAGRAM_BYTES_MAX).then_some(out)
    }

    /// The signed form, sent from `address` at `unix_micros`.
    pub fn signed(&self, presence: Presence, address: Ipv4Addr, unix_micros: u64, secret: &[u8]) -> Option<Vec<u8>> {
        let mut out = self.members(presence);
        out.extend_from_slice(format!(", \"address\": \"{address}\", \"time\": {unix_micros}").as_bytes());
        let signature = mac(secret, &out).finalize().into_bytes();
        out.extend_from_slice(SEPARATOR);
        signature
            .iter()
            .for_each(|byte| out.extend_from_slice(format!("{byte:02x}").as_bytes()));
        out.extend_from_slice(END);
        (out.len() <= DATAGRAM_BYTES_MAX).then_some(out)
    }

    fn members(&self, presence: Presence) -> Vec<u8> {
        let head = format!(
            "{{\"msgtype\": \"{}\", \"port\": {}, \"server_identity\": ",
            presence.word(),
            self.port
        );
        let mut out = head.into_bytes();
        json::push_string(&mut out, &self.identity);
        out.extend_from_slice(b", \"cluster_name\": ");
        json::push_string(&mut out, self.cluster_name.as_bytes());
        out
    }
}

/// What is believed.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Whoever can send a datagram.
    Anybody,
    /// Who knows one of the secrets, at `now_micros` since 1970.
    Signed {
        /// Any of them will do.
        secrets: Secrets<'a>,
        /// How far a datagram's time may be from ours.
        window: Duration,
        /// Microseconds since 1970.
        now_micros: u64,
    },
}

/// An announcement that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Coming or going.
    pub presence: Presence,
    /// HTTP port, not 0.
    pub port: u16,
    /// Which server, 40 characters as sent.
    pub identity: String,
    /// Which cluster.
    pub cluster_name: String,
    /// When it was sent, in microseconds since 1970; 0 in the open form.
    pub sent_micros: u64,
}

/// Reads a datagram from `source`; `None` for whatever is not an announcement that `trust` believes.
pub fn read(datagram: &[u8], source: IpAddr, trust: &Trust<'_>) -> Option<Announcement> {
    if datagram.len() > DATAGRAM_BYTES_MAX {
        return None;
    }
    let sent_micros = match trust {
        Trust::Anybody => 0,
        Trust::Signed { .. } => authenticated(datagram, source, trust)?,
    };
    let names = ["msgtype", "port", "server_identity", "cluster_name"];
    let [msgtype, port, identity, cluster_name] = json::fields(datagram, names)?;
    let text = |field: Option<Field>| field.as_ref().and_then(Field::text).map(str::to_owned);
    let word = text(msgtype)?;
    Some(Announcement {
        presence: [Presence::Online, Presence::Offline]
            .into_iter()
            .find(|presence| presence.word() == word)?,
        port: u16::try_from(port?.count()?).ok().filter(|port| *port != 0)?,
        identity: text(identity)?,
        cluster_name: text(cluster_name)?,
        sent_micros,
    })
}

/// When it was sent, if it is signed, was sent from where it came from, and lately.
fn authenticated(datagram: &[u8], source: IpAddr, trust: &Trust<'_>) -> Option<u64> {
    let Trust::Signed {
        secrets,
        window,
        now_micros,
    } = trust
    else {
        return None;
    };
    let at = datagram.windows(SEPARATOR.len()).rposition(|part| part == SEPARATOR)?;
    let (covered, rest) = datagram.split_at_checked(at)?;
    let claimed = from_hex(rest.strip_prefix(SEPARATOR)?.strip_suffix(END)?)?;
    let is_good = |secret: &[u8]| mac(secret, covered).verify_slice(&claimed).is_ok();
    // Both are tried, so that the time does not tell which.
    let (current, previous) = (is_good(secrets.current), secrets.previous.is_some_and(is_good));
    if !(current || previous) {
        return None;
    }
    let [address, time] = json::fields(datagram, ["address", "time"])?;
    let address: IpAddr = address.as_ref().and_then(Field::text)?.parse().ok()?;
    let sent = time?.count()?;
    let is_recent = u128::from(sent.abs_diff(*now_micros)) < window.as_micros();
    (address == source.to_canonical() && is_recent).then_some(sent)
}

fn mac(secret: &[u8], covered: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| unreachable!("any key length is valid"));
    mac.update(LABEL);
    mac.update(covered);
    mac
}

fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.len() == 64 && text.is_ascii())?;
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const SOURCE: IpAddr = IpAddr::V4(ADDRESS);
    const NOW: u64 = 1_420_000_000_000_000;

    fn sender() -> Sender {
        Sender {
            port: 1984,
            identity: [b'a'; 40],
            cluster_name: "grün \", \"signature\": \"x\"}".to_owned(),
        }
    }

    fn trust(current: &[u8], now_micros: u64) -> Trust<'_> {
        Trust::Signed {
            secrets: Secrets::one(current),
            window: Duration::from_secs(10),
            now_micros,
        }
    }

    #[test]
    fn both_forms_are_read_back() {
        for presence in [Presence::Online, Presence::Offline] {
            let expected = |sent_micros| Announcement {
                presence,
                port: 1984,
                identity: "a".repeat(40),
                cluster_name: sender().cluster_name,
                sent_micros,
            };
            let open = sender().open(presence).unwrap();
            assert_eq!(read(&open, SOURCE, &Trust::Anybody), Some(expected(0)));
            let signed = sender().signed(presence, ADDRESS, NOW, b"secret").unwrap();
            assert_eq!(
                read(&signed, SOURCE, &trust(b"secret", NOW + 9_000_000)),
                Some(expected(NOW))
            );
            assert_eq!(read(&signed, SOURCE, &Trust::Anybody), Some(expected(0)));
        }
    }

    #[test]
    fn only_the_secret_the_source_and_the_time_make_it_believed() {
        let signed = sender().signed(Presence::Online, ADDRESS, NOW, b"secret").unwrap();
        let good = trust(b"secret", NOW);
        assert!(read(&signed, SOURCE, &good).is_some());
        let mapped = IpAddr::V6(ADDRESS.to_ipv6_mapped());
        assert!(read(&signed, mapped, &good).is_some(), "heard on an IPv6 socket");
        assert_eq!(read(&sender().open(Presence::Online).unwrap(), SOURCE, &good), None);
        assert_eq!(read(&signed, SOURCE, &trust(b"other", NOW)), None);
        assert_eq!(read(&signed, IpAddr::from([10, 0, 0, 3]), &good), None, "played back");
        for late in [NOW + 10_000_000, NOW - 10_000_000] {
            assert_eq!(read(&signed, SOURCE, &trust(b"secret", late)), None);
        }
        let rotating = Trust::Signed {
            secrets: Secrets {
                current: b"new",
                previous: Some(b"secret"),
            },
            window: Duration::from_secs(10),
            now_micros: NOW,
        };
        assert!(read(&signed, SOURCE, &rotating).is_some());
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed, SOURCE, &good), None, "byte {at}");
        }
        let cut: Vec<_> = (0..signed.len())
            .map(|len| read(&signed[..len], SOURCE, &good))
            .collect();
        assert!(cut.iter().all(Option::is_none));
    }

    #[test]
    fn what_is_too_long_to_be_read_is_not_sent() {
        let long = Sender {
            cluster_name: "x".repeat(900),
            ..sender()
        };
        assert!(long.open(Presence::Online).is_some());
        assert_eq!(long.signed(Presence::Online, ADDRESS, NOW, b"secret"), None);
    }
}
