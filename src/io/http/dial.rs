//! Opening a connection: every address of the name in turn, the last good one first.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use monoio::net::TcpStream;
use monoio::time::timeout;

use super::Inner;
use super::conn::Conn;
use super::line::Line;
use super::url::Origin;
use crate::engine::command::CallbackFailure;

/// Time one address gets before the next one is tried. A dead address must not use up the whole call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a connection to `origin`. The caller bounds the whole by its deadline.
pub(super) async fn dial(client: &Inner, origin: &Origin) -> Result<Conn, CallbackFailure> {
    let addresses = client.resolver.resolve(&origin.host).await;
    if addresses.is_empty() {
        client.complain(origin, &"the name does not resolve");
        return Err(CallbackFailure::Unresolved);
    }
    let mut failure = CallbackFailure::Unreachable;
    for &address in addresses.iter() {
        match connect(client, origin, address).await {
            Ok(conn) => {
                client.resolver.prefer(&origin.host, address);
                return Ok(conn);
            }
            Err(undialled) => {
                client.complain(origin, &format_args!("{address}: {}", undialled.error));
                failure = undialled.failure;
            }
        }
    }
    client.resolver.doubt(&origin.host);
    Err(failure)
}

/// Why an address gave no connection: for callers, and for the log.
struct Undialled {
    failure: CallbackFailure,
    error: io::Error,
}

impl From<io::Error> for Undialled {
    fn from(error: io::Error) -> Undialled {
        let failure = if error.kind() == ErrorKind::ConnectionRefused {
            CallbackFailure::Refused
        } else {
            CallbackFailure::Unreachable
        };
        Undialled { failure, error }
    }
}

async fn connect(client: &Inner, origin: &Origin, address: IpAddr) -> Result<Conn, Undialled> {
    let address = SocketAddr::new(address, origin.port);
    let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect_addr(address))
        .await
        .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
    tcp.set_nodelay(true)?;
    if !origin.tls {
        return Ok(Conn::plain(Line::new(tcp)));
    }
    let trust = client.trust.borrow().clone();
    match trust.connect(&origin.host, tcp).await {
        Ok(tls) => Ok(Conn::tls(tls)),
        Err(error) => Err(Undialled {
            failure: CallbackFailure::Handshake,
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use monoio::{FusionDriver, RuntimeBuilder};

    use super::super::{Client, Options};
    use super::*;

    #[test]
    fn every_address_is_tried_and_the_good_one_goes_first_next_time() {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let origin = Origin {
                tls: false,
                host: "several.test".into(),
                port: listener.local_addr().unwrap().port(),
                authority: "several.test".into(),
            };
            let client = Client::start(&Options::default()).unwrap().0;
            let (dead, good) = (IpAddr::from([127, 0, 0, 77]), IpAddr::from([127, 0, 0, 1]));
            client.resolver.remember("several.test", vec![dead, good]);
            assert!(dial(&client, &origin).await.is_ok());
            assert_eq!(*client.resolver.resolve("several.test").await, [good, dead]);

            client.resolver.remember("several.test", vec![dead, good]); // asked again
            assert_eq!(*client.resolver.resolve("several.test").await, [good, dead]);

            drop(listener);
            assert_eq!(dial(&client, &origin).await.err(), Some(CallbackFailure::Refused));
        });
    }
}
