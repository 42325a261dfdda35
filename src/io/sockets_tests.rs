//! Places of TLS handshakes, on real sockets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::*;
use crate::close::CloseCause;
use crate::config::{Config, Overrides};
use crate::io::admission::Admission;
use crate::io::clock::Clock;
use crate::io::tls::Identity;
use crate::metrics::Labels;

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap())
}

fn table(places: usize) -> SocketTable {
    let labels = Labels {
        close_causes: &CloseCause::LABELS,
        api_routes: &[],
    };
    let metrics = Arc::new(CoreMetrics::new("0", labels));
    let config = Config {
        tls_handshakes: places,
        ..Config::demo(1, &Overrides::default())
    };
    let doorman = Doorman::new(Admission::new(), Arc::new(config), metrics.clone());
    SocketTable::new(ShardId(0), Host::new(8, Clock::start()).unwrap(), metrics, doorman)
}

struct Rig {
    table: SocketTable,
    identity: Identity,
    listener: TcpListener,
    buffer: Vec<u8>,
}

impl Rig {
    fn new(places: usize) -> Self {
        Self {
            table: table(places),
            identity: identity(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            buffer: vec![0; 64 * 1024],
        }
    }

    fn accept(&mut self, slot: u32) -> (ClientId, TcpStream) {
        let far = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let client = ClientId {
            shard: ShardId(0),
            slot,
            generation: 1,
        };
        let session = Box::new(Session::new(self.identity.clone()));
        self.table
            .insert(client, self.listener.accept().unwrap().0.into(), Some(session));
        self.table.watch(client);
        (client, far)
    }

    /// Who has input next, which has to come.
    fn reported(&mut self) -> ClientId {
        let mut ready = Vec::new();
        while ready.is_empty() {
            self.table.take_ready(&mut ready).unwrap();
        }
        assert_eq!(ready.len(), 1, "{ready:?}");
        ready[0].client
    }

    fn receive(&mut self, client: ClientId) -> io::Result<Received> {
        self.table.receive(client, &mut self.buffer)
    }

    fn has_begun(&mut self, client: ClientId) -> bool {
        self.receive(client)
            .is_ok_and(|received| received.began && received.end.is_none())
    }
}

#[test]
fn a_place_is_taken_with_the_first_byte_and_waited_for_in_order() {
    let mut rig = Rig::new(1);
    let [mut first, mut second, mut third] = [0, 1, 2].map(|slot| rig.accept(slot));
    assert_eq!(rig.table.places.held(), 0, "silent ones need none");
    first.1.write_all(&[22]).unwrap();
    assert_eq!(rig.reported(), first.0);
    assert!(rig.has_begun(first.0));
    assert_eq!(rig.table.places.held(), 1);
    for (client, far) in [&mut second, &mut third] {
        far.write_all(&[22]).unwrap();
        assert_eq!(rig.reported(), *client);
        assert!(rig.has_begun(*client), "its first byte has come, and that is known");
        assert!(
            rig.receive(*client)
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        );
        // Not watched: more of it is not reported, nor its end.
        far.write_all(&[3]).unwrap();
        rig.table.rewatch(*client);
    }
    drop(third.1);
    let mut nobody = Vec::new();
    rig.table.take_ready(&mut nobody).unwrap();
    assert!(nobody.is_empty(), "{nobody:?}");

    rig.table.close(first.0);
    assert_eq!(rig.table.places.held(), 1, "handed on");
    assert_eq!(rig.reported(), second.0);
    let received = rig.receive(second.0).unwrap();
    assert_eq!((received.bytes, received.end), (0, None), "begun, not whole");
    // More places, for the one that has left as well; it gives its place back.
    rig.table.set_handshakes_max(2);
    assert_eq!(rig.reported(), third.0);
    assert_eq!(rig.receive(third.0).unwrap().end, None);
    assert_eq!(rig.receive(third.0).unwrap().end, Some(End::Closed));
    rig.table.close(third.0);
    assert_eq!(rig.table.places.held(), 1);
    rig.table.close(second.0);
    assert_eq!(rig.table.places.held(), 0);
    assert_eq!(rig.table.metrics.value(Metric::TlsHandshakesFailed), 3);
}

#[test]
fn those_that_leave_without_a_byte_leave_nothing() {
    let mut rig = Rig::new(1);
    let (stuck, mut far) = rig.accept(0);
    let (left, near) = rig.accept(1);
    far.write_all(&[22]).unwrap();
    assert_eq!(rig.reported(), stuck);
    assert!(rig.has_begun(stuck));
    // It cannot be told from one that has something to say, so it waits for its turn.
    drop(near);
    assert_eq!(rig.reported(), left);
    assert!(rig.has_begun(left));
    rig.table.close(stuck);
    assert_eq!(rig.reported(), left);
    assert_eq!(rig.receive(left).unwrap().end, Some(End::Closed));
    rig.table.close(left);
    assert_eq!(rig.table.places.held(), 0);
    assert_eq!(rig.table.metrics.value(Metric::TlsHandshakesFailed), 1, "one has begun");
}
