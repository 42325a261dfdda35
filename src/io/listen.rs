//! Listening sockets: one per address and shard, sharing the port with SO_REUSEPORT so that the kernel spreads accepts.
//!
//! Ports follow the original (spec: section 2): if the wanted port is taken, the first free one of 1984..2003 is used; here
//! that is logged as a warning. All sockets are bound before any core starts, or inherited from the process that is replaced
//! (`io/takeover.rs`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// First port of the search.
pub const SEARCH_FIRST: u16 = 1984;
/// Last port of the search.
pub const SEARCH_LAST: u16 = 2003;
/// Connections the kernel may hold for us before accept; the system's own cap applies too.
const BACKLOG: i32 = 4096;

/// Listening sockets of every shard for one port.
pub struct Listeners {
    /// The port in the end.
    pub port: u16,
    /// One list per shard, one socket per address.
    pub per_shard: Vec<Vec<TcpListener>>,
}

/// Binds `wanted`, or the first free port of the search, on all addresses for `shards` shards.
pub fn bind(wanted: u16, addresses: &[IpAddr], shards: usize) -> io::Result<Listeners> {
    let candidates = std::iter::once(wanted).chain((SEARCH_FIRST..=SEARCH_LAST).filter(|port| *port != wanted));
    let mut first_error = None;
    for port in candidates {
        match bind_port(port, addresses, shards, &mut Vec::new()) {
            Ok(per_shard) => {
                if let Some(error) = first_error {
                    tracing::warn!(wanted, port, %error, "the wanted port cannot be bound, listening on another one");
                }
                return Ok(Listeners { port, per_shard });
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
}

/// Binds `port` on all addresses for `shards` shards: one list per shard, one socket per address. Sockets of `inherited` that
/// listen there already are taken out and used first, all of them: what is closed loses the connections in its queue.
pub fn bind_port(
    port: u16,
    addresses: &[IpAddr],
    shards: usize,
    inherited: &mut Vec<TcpListener>,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut bound: Vec<(SocketAddr, Vec<TcpListener>)> = Vec::new();
    let mut missing = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        let is_here = |listener: &mut TcpListener| listener.local_addr().is_ok_and(|local| local == address);
        let own: Vec<_> = inherited.extract_if(.., is_here).collect();
        if !own.is_empty() {
            bound.push((address, own));
            continue;
        }
        // SO_REUSEPORT would let two servers of one user share a port silently: the first bind goes without it.
        match socket(address, false) {
            Ok(_) => bound.push((address, own)),
            // A machine without IPv6 still serves IPv4.
            Err(error) if is_missing_family(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    if bound.is_empty() {
        return Err(missing.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)));
    }
    let mut per_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for (address, mut own) in bound {
        while own.len() < shards {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            own.push(TcpListener::from(socket));
        }
        for (number, listener) in own.into_iter().enumerate() {
            per_shard[number % shards].push(listener);
        }
    }
    Ok(per_shard)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
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

    #[test]
    fn a_taken_port_is_not_shared() {
        let here = [IpAddr::from([127, 0, 0, 1])];
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(bind_port(port, &here, 1, &mut Vec::new()).is_err());
        let ours = bind_port(0, &here, 1, &mut Vec::new()).unwrap();
        let port = ours[0][0].local_addr().unwrap().port();
        assert!(
            bind_port(port, &here, 2, &mut Vec::new()).is_err(),
            "two servers would share port {port}"
        );
    }

    #[test]
    fn inherited_sockets_are_all_used() {
        let here = [IpAddr::from([127, 0, 0, 1])];
        let old = bind_port(0, &here, 1, &mut Vec::new()).unwrap();
        let port = old[0][0].local_addr().unwrap().port();
        for (inherited, shards, expected) in [(1, 3, vec![1, 1, 1]), (3, 2, vec![2, 1]), (2, 2, vec![1, 1])] {
            let copy = || old[0][0].try_clone().unwrap();
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut from: Vec<_> = (0..inherited).map(|_| copy()).chain([other]).collect();
            let new = bind_port(port, &here, shards, &mut from).unwrap();
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
        let here = [IpAddr::from([127, 0, 0, 1])];
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listeners = bind(free, &here, 3).unwrap();
        assert_eq!(listeners.per_shard.len(), 3);
        for shard in &listeners.per_shard {
            assert_eq!(shard[0].local_addr().unwrap().port(), listeners.port);
        }
    }
}
