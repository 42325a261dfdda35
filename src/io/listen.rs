//! Listening sockets: one per address and shard, sharing the port with SO_REUSEPORT so that the kernel spreads accepts.
//!
//! Ports follow the original (spec: section 2): if the wanted port is taken, the first free one of 1984..2003 is used; here
//! that is logged as a warning. All sockets are bound before any core starts.

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
        match bind_port(port, addresses, shards) {
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

/// Binds `port` on all addresses for `shards` shards: one list per shard, one socket per address.
pub fn bind_port(port: u16, addresses: &[IpAddr], shards: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    // SO_REUSEPORT would let two servers of one user share a port silently: the first bind goes without it.
    let mut bound: Vec<IpAddr> = Vec::new();
    let mut missing = None;
    for address in addresses {
        match socket(SocketAddr::new(*address, port), false) {
            Ok(_) => bound.push(*address),
            // A machine without IPv6 still serves IPv4.
            Err(error) if is_missing_family(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    if bound.is_empty() {
        return Err(missing.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)));
    }
    let listen = |address: &IpAddr| {
        let socket = socket(SocketAddr::new(*address, port), true)?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    (0..shards).map(|_| bound.iter().map(listen).collect()).collect()
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
        assert!(bind_port(port, &here, 1).is_err());
        let ours = bind_port(0, &here, 1).unwrap();
        let port = ours[0][0].local_addr().unwrap().port();
        assert!(
            bind_port(port, &here, 2).is_err(),
            "two servers would share port {port}"
        );
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
