//! What this server calls itself to others: the address of the machine's name, as the original tells it, and a port.
//!
//! The name is looked up on a thread of its own, since name servers may be silent for many seconds and nobody needs it to serve.
//! Until then, and if the name has no address, it is the address packets would leave from.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, OnceLock};

use super::runtime::start_side;
use super::sys;

/// `address:port`, as far as it is known when it is written.
#[derive(Clone, Debug)]
pub struct OwnName {
    named: Arc<OnceLock<IpAddr>>,
    routed: IpAddr,
    port: u16,
}

impl OwnName {
    /// Begins to look for the name.
    pub fn start(port: u16) -> OwnName {
        let named: Arc<OnceLock<IpAddr>> = Arc::default();
        let found = named.clone();
        let started = start_side("own-name".into(), move || {
            if let Some(address) = look_up() {
                let _ = found.set(address); // nobody else does
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to look up this machine's name: its address is told instead");
        }
        OwnName {
            named,
            routed: routed().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port,
        }
    }
}

impl Display for OwnName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.named.get().unwrap_or(&self.routed), self.port)
    }
}

fn look_up() -> Option<IpAddr> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    sys::look_up(name.trim()).ok()?.into_iter().find(IpAddr::is_ipv4)
}

fn routed() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: connecting a datagram socket only chooses the route.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
