//! Datagrams of the cluster: a listening socket whose port servers of one host share, and broadcasts. IPv4 only, like the
//! announcements of the original (spec: section 12). Used by `cluster::rainbow`.
//!
//! Nothing here blocks. A receive waits for readiness and then reads, so dropping the wait loses nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use monoio::net::udp::UdpSocket as Watched;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::PortRange;

/// The listening socket.
pub struct Listener {
    socket: UdpSocket,
    /// The same socket, for its readiness only.
    readiness: Watched,
    port: u16,
}

impl Listener {
    /// Binds the first port of `ports` that can be bound, with SO_REUSEADDR: on Linux all servers of a host then bind the
    /// same one, and each gets every broadcast. At a broadcast address nothing else is heard. Must be called inside a
    /// runtime. Errors: none can be bound (the error of the first).
    pub fn bind(address: Ipv4Addr, ports: PortRange) -> io::Result<Self> {
        let mut first_error = None;
        for port in ports.iter() {
            match Self::bind_port(address, port) {
                Ok(listener) => return Ok(listener),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
    }

    fn bind_port(address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(address, port).into())?;
        let socket = UdpSocket::from(socket);
        Ok(Self {
            readiness: Watched::from_std(socket.try_clone()?)?,
            port: socket.local_addr()?.port(),
            socket,
        })
    }

    /// The port in the end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until there is a datagram.
    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.readable(false).await
    }

    /// Reads one datagram: its length and sender; `None` if there is no more. What does not fit into `buffer` is cut off.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        loop {
            return match self.socket.recv_from(buffer) {
                Ok(datagram) => Ok(Some(datagram)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}

/// Sends `datagram` once from `source` to each of `ports` of `address`, usually a broadcast address. Every port is tried.
/// Errors: the first one, for example that there is no route; what the socket does not take at once is lost, as datagrams
/// may be.
pub fn broadcast(source: Ipv4Addr, address: Ipv4Addr, ports: PortRange, datagram: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(source, 0))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    let mut result = Ok(());
    for port in ports.iter() {
        let sent = socket.send_to(datagram, SocketAddrV4::new(address, port));
        result = result.and(sent.map(drop));
    }
    result
}

/// The address of ours that datagrams from `source` (or any) to `address` leave from. Nothing is sent. Errors: no route.
pub fn source_towards(source: Ipv4Addr, address: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind(SocketAddrV4::new(source, 0))?;
    socket.set_broadcast(true)?;
    socket.connect(SocketAddrV4::new(address, 9))?; // discard: a datagram socket only chooses its route
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(ErrorKind::AddrNotAvailable.into()),
    }
}

/// True if `address` is one of this machine's: only those can be bound.
pub fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

    use super::*;

    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

    fn free_port() -> u16 {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.local_addr().unwrap().port()
    }

    fn only(port: u16) -> PortRange {
        PortRange {
            first: port,
            last: port,
        }
    }

    async fn next(listener: &Listener) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let wait = monoio::time::timeout(Duration::from_secs(10), listener.readable());
        wait.await.expect("a datagram within 10 s").unwrap();
        let (length, source) = listener.receive(&mut buffer).unwrap().unwrap();
        (buffer[..length].to_vec(), source)
    }

    async fn both_get_it() {
        let range = only(free_port());
        let (first, second) = (Listener::bind(ANY, range).unwrap(), Listener::bind(ANY, range).unwrap());
        assert_eq!((first.port(), second.port()), (range.first, range.first));
        broadcast(ANY, LOOPBACK_BROADCAST, range, b"hello").unwrap();
        for listener in [first, second] {
            let (datagram, source) = next(&listener).await;
            assert_eq!(datagram, b"hello");
            assert!(source.ip().is_loopback());
            assert!(listener.receive(&mut [0; 8]).unwrap().is_none(), "only one");
        }
    }

    #[test]
    fn servers_of_one_host_all_get_a_broadcast() {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(both_get_it());
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(both_get_it());
    }

    async fn only_broadcasts_are_heard() {
        let range = only(free_port());
        let listener = Listener::bind(LOOPBACK_BROADCAST, range).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"to one", ("127.0.0.1", range.first)).unwrap();
        broadcast(Ipv4Addr::LOCALHOST, LOOPBACK_BROADCAST, range, b"to all").unwrap();
        assert_eq!(next(&listener).await.0, b"to all");
        assert!(listener.receive(&mut [0; 8]).unwrap().is_none());
    }

    #[test]
    fn at_a_broadcast_address_nothing_else_is_heard() {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(only_broadcasts_are_heard());
    }

    #[test]
    fn the_address_a_datagram_leaves_from() {
        let towards = |address| source_towards(ANY, address).unwrap();
        assert_eq!(towards(Ipv4Addr::new(127, 0, 0, 9)), Ipv4Addr::LOCALHOST);
        assert_eq!(towards(LOOPBACK_BROADCAST), Ipv4Addr::LOCALHOST);
        let named = Ipv4Addr::new(127, 0, 0, 5);
        assert_eq!(source_towards(named, LOOPBACK_BROADCAST).unwrap(), named);
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async {
            let taken = UdpSocket::bind("0.0.0.0:0").unwrap(); // without SO_REUSEADDR
            let first = taken.local_addr().unwrap().port();
            assert!(Listener::bind(ANY, only(first)).is_err());
            let last = first.saturating_add(9);
            let listener = Listener::bind(ANY, PortRange { first, last }).unwrap();
            assert!(listener.port() > first && listener.port() <= last);
        });
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_is_an_error() {
        assert!(broadcast(ANY, LOOPBACK_BROADCAST, only(free_port()), &[0; 70_000]).is_err());
    }

    #[test]
    fn addresses_of_this_machine() {
        assert!(is_local(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_local(IpAddr::from([192, 0, 2, 1])), "reserved for documentation");
    }
}
