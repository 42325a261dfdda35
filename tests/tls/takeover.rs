//! The TLS port changes hands like the others (`tests/takeover`).

use super::common::client::Op;
use super::common::server::Builder;
use super::common::{SOON, eventually};
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn the_tls_port_changes_hands_too() {
    let (business, authority) = (Business::start(), Authority::new());
    let (port, tls) = (Arc::new(ports::claim()), ports::claim());
    let (cert, key) = authority.issue("own", &["a.test"]);
    let builder = Builder::new(&business)
        .on(&port)
        .set("tls_port", tls.number)
        .set("tls_cert", cert.display())
        .set("tls_key", key.display())
        .set("drain_timeout", 20);
    let mut server = builder.clone().start();
    let tunnel = Tunnel::start(tls.number, authority.client(Version::Tls13), "a.test");
    let stays = Client::open_with(tunnel.port, Open::device("stays"));
    let (ends, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let crowd = std::thread::spawn({
        let (ends, served, port) = (ends.clone(), served.clone(), tunnel.port);
        move || {
            while !ends.load(SeqCst) {
                let client = Client::open_with(port, Open::default());
                client.frame(Op::Close, b"");
                assert!(client.until_eof(SOON).is_some());
                served.fetch_add(1, SeqCst);
            }
        }
    });
    assert!(eventually(SOON, || served.load(SeqCst) > 5));
    let successor = builder.arg("--takeover").start();
    let frame = stays.next(SOON).expect("told to come back");
    assert_eq!(
        (frame.op, &frame.payload[..2]),
        (Op::Close, &1012_u16.to_be_bytes()[..])
    );
    stays.frame(Op::Close, b"");
    assert_eq!(server.wait_exit(Duration::from_secs(25)), Some(0));
    let before = served.load(SeqCst);
    assert!(eventually(SOON, || served.load(SeqCst) > before + 5));
    ends.store(true, SeqCst);
    crowd.join().expect("nobody is refused");
    drop(successor);
}
