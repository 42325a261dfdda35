//! Listening sockets: one per address and shard, sharing the port with SO_REUSEPORT so that the kernel spreads accepts.
//!
//! Ports follow the original (spec: section 2) where `port_search` says so: if the wanted port is taken, the first free one of
//! 1984..2003 is used; here that is logged as a warning. An address this machine does not have is an error that names it, or
//! with `bind_missing = warn` is listened on all the same: connections come in once the machine has it. All sockets are bound before any core starts, or inherited from the process that is replaced
//! (`io/takeover.rs`).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// First port of the search: the one a server without settings has.
pub const SEARCH_FIRST: u16 = crate::config::kind::PORT_DEFAULT;
/// Last port of the search.
pub const SEARCH_LAST: u16 = 2003;
/// Connections the kernel may hold for us before accept; the system's own cap applies too.
pub const BACKLOG: i32 = 4096;

/// Listening sockets of every shard for one port.
pub struct Listeners {
    /// The port in the end.
    pub port: u16,
    /// One list per shard, one socket per address.
    pub per_shard: Vec<Vec<TcpListener>>,
}

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Addresses.
    pub addresses: &'a [IpAddr],
    /// Listen also on those this machine does not have (yet).
    pub missing: bool,
    /// Sockets of each address.
    pub shards: usize,
}

/// Why a port cannot be listened on.
#[derive(Debug)]
pub struct Refused {
    address: SocketAddr,
    error: io::Error,
}

impl Refused {
    /// Another port would not help: the address is the problem.
    fn is_address(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        if self.is_address() {
            return write!(
                f,
                "bind: {} is no address of this machine; correct it, or set bind_missing = warn if it comes later",
                address.ip()
            );
        }
        let port = address.port();
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => write!(f, "port {port} is taken (at {address}); free it, or name another one"),
            Some(libc::EACCES) => write!(
                f,
                "port {port} is not allowed to this user (at {address}); allow it, or name one above 1023"
            ),
            _ => write!(f, "port {port} cannot be listened on (at {address}): {error}"),
        }
    }
}

/// Binds `wanted`, or the first free port of the search.
pub fn bind_or_search(wanted: u16, place: Place<'_>) -> Result<Listeners, String> {
    let mut first_refusal = None;
    for port in std::iter::once(wanted).chain((SEARCH_FIRST..=SEARCH_LAST).filter(|port| *port != wanted)) {
        match (bind(port, place, &mut Vec::new()), &first_refusal) {
            (Ok(per_shard), None) => return Ok(Listeners { port, per_shard }),
            (Ok(per_shard), Some(refusal)) => {
                tracing::warn!(wanted, port, reason = %refusal, "listening on another port than the wanted one");
                return Ok(Listeners { port, per_shard });
            }
            (Err(refusal), _) if refusal.is_address() => return Err(refusal.to_string()),
            (Err(refusal), None) => first_refusal = Some(refusal),
            (Err(_), Some(_)) => {}
        }
    }
    let refusal = first_refusal.map_or_else(String::new, |refusal| refusal.to_string());
    Err(format!(
        "{refusal}; none of {SEARCH_FIRST}..{SEARCH_LAST} is free either"
    ))
}

/// Binds `port` on all addresses for all shards: one list per shard, one socket per address. Sockets of `inherited` that
/// listen there already are taken out and used first, all of them: what is closed loses the connections in its queue.
pub fn bind(port: u16, place: Place<'_>, inherited: &mut Vec<TcpListener>) -> Result<Vec<Vec<TcpListener>>, Refused> {
    let mut bound: Vec<(SocketAddr, Vec<TcpListener>)> = Vec::new();
    let mut missing = None;
    for address in place.addresses {
        let address = SocketAddr::new(*address, port);
        let refused = |error| Refused { address, error };
        let is_here = |listener: &mut TcpListener| listener.local_addr().is_ok_and(|local| local == address);
        let own: Vec<_> = inherited.extract_if(.., is_here).collect();
        if !own.is_empty() {
            bound.push((address, own));
            continue;
        }
        // SO_REUSEPORT would let two servers of one user share a port silently: the first bind goes without it.
        match socket(address, false, false) {
            Ok(_) => bound.push((address, own)),
            // "All addresses of IPv6" are none on a machine without IPv6, which still serves IPv4.
            Err(error) if address.ip().is_unspecified() && is_missing_family(&error) => missing = Some(refused(error)),
            Err(error) if place.missing && error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                tracing::warn!(address = %address.ip(), "this machine does not have the address; served as soon as it does");
                socket(address, false, true).map_err(refused)?;
                bound.push((address, own));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    if let Some(refusal) = missing.filter(|_| bound.is_empty()) {
        return Err(refusal);
    }
    let mut per_shard: Vec<Vec<TcpListener>> = (0..place.shards).map(|_| Vec::new()).collect();
    for (address, mut own) in bound {
        while own.len() < place.shards {
            own.push(listener(address, place.missing).map_err(|error| Refused { address, error })?);
        }
        for (number, listener) in own.into_iter().enumerate() {
            per_shard[number % place.shards].push(listener);
        }
    }
    Ok(per_shard)
}

fn listener(address: SocketAddr, missing: bool) -> io::Result<TcpListener> {
    let socket = socket(address, true, missing)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A bound socket; `missing`: also to an address this machine does not have.
fn socket(address: SocketAddr, shared: bool, missing: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if missing {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST)];

    fn place(shards: usize) -> Place<'static> {
        Place {
            addresses: HERE,
            missing: false,
            shards,
        }
    }

    #[test]
    fn a_taken_port_is_not_shared() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(bind(port, place(1), &mut Vec::new()).is_err());
        let ours = bind(0, place(1), &mut Vec::new()).unwrap();
        let port = ours[0][0].local_addr().unwrap().port();
        assert!(
            bind(port, place(2), &mut Vec::new()).is_err(),
            "two servers would share port {port}"
        );
    }

    #[test]
    fn inherited_sockets_are_all_used() {
        let old = bind(0, place(1), &mut Vec::new()).unwrap();
        let port = old[0][0].local_addr().unwrap().port();
        for (inherited, shards, expected) in [(1, 3, vec![1, 1, 1]), (3, 2, vec![2, 1]), (2, 2, vec![1, 1])] {
            let copy = || old[0][0].try_clone().unwrap();
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut from: Vec<_> = (0..inherited).map(|_| copy()).chain([other]).collect();
            let new = bind(port, place(shards), &mut from).unwrap();
            assert_eq!(new.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            let ports = new
                .iter()
                .flatten()
                .map(|listener| listener.local_addr().unwrap().port());
            assert!(ports.into_iter().all(|own| own == port));
            assert_eq!(from.len(), 1, "what listens elsewhere is left");
        }
    }

    #[test]
    fn shards_share_a_port() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listeners = bind_or_search(free, place(3)).unwrap();
        assert_eq!(listeners.per_shard.len(), 3);
        for shard in &listeners.per_shard {
            assert_eq!(shard[0].local_addr().unwrap().port(), listeners.port);
        }
    }

    #[test]
    fn an_address_of_another_machine_is_named_or_waited_for() {
        // For documentation (RFC 5737): nobody has it.
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::from([192, 0, 2, 10])];
        let place = |missing| Place {
            addresses: &both,
            missing,
            shards: 2,
        };
        for text in [
            bind(0, place(false), &mut Vec::new()).unwrap_err().to_string(),
            bind_or_search(0, place(false)).map(|_| ()).unwrap_err(),
        ] {
            assert!(
                text.starts_with("bind: 192.0.2.10 is no address of this machine"),
                "{text}"
            );
        }
        let bound = bind(0, place(true), &mut Vec::new()).unwrap();
        for listeners in bound {
            let local: Vec<_> = listeners.iter().map(|one| one.local_addr().unwrap().ip()).collect();
            assert_eq!(local, both);
        }
    }
}
