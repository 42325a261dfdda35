//! Port numbers for servers that are started by number.
//!
//! The server listens with SO_REUSEPORT, so two servers on one number would silently share its connections. A number is
//! therefore claimed for the whole life of the server, against other test threads and other test processes, by an abstract
//! unix socket of that name (the kernel releases it with the process). Numbers lie below the usual ephemeral range, so that no
//! outgoing connection takes one between the claim and the start.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A claimed number, free for both TCP and UDP when it was claimed.
pub struct Port {
    pub number: u16,
    _claim: UnixListener,
}

/// Claims a number; panics when none is free.
pub fn claim() -> Port {
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let n = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Some(port) = try_claim(n as u16) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

fn try_claim(number: u16) -> Option<Port> {
    let name = SocketAddr::from_abstract_name(format!("rainbow-server-test-port-{number}")).ok()?;
    let claim = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind(("0.0.0.0", number)).ok()?;
    UdpSocket::bind(("0.0.0.0", number)).ok()?;
    Some(Port { number, _claim: claim })
}

#[test]
fn claimed_numbers_differ() {
    let (a, b) = (claim(), claim());
    assert_ne!(a.number, b.number);
    assert!(try_claim(a.number).is_none());
}
