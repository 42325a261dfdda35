use std::path::PathBuf;
use std::sync::mpsc;

use super::*;

/// A directory for one test, removed at its end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(what: &str) -> Self {
        // Short: the path of a socket is.
        let dir = std::env::temp_dir().join(format!("rainbow-takeover-{}-{what}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn places(&self) -> Places {
        Places::only(&self.path("own"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn ask(places: &Places, address: SocketAddr) -> Predecessor {
    Predecessor::ask(places, address).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn sockets_change_hands() {
    let scratch = Scratch::new("change");
    let (places, dir) = (scratch.places(), scratch.places().own().unwrap());
    let listeners: Vec<_> = (0..300).map(|_| listener()).collect();
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    let (replaced, is_replaced) = mpsc::channel();
    let sockets = listeners.into_iter().map(|(listener, _)| listener.into()).collect();
    let offer = Offer::make(&dir, addresses[0], sockets, move |heir| replaced.send(heir).unwrap()).unwrap();
    let second = Offer::make(&dir, addresses[0], Vec::new(), drop);
    assert!(second.is_err(), "one server has the name");

    drop(ask(&places, addresses[0]));
    let waiting = std::net::TcpStream::connect(addresses[299]).unwrap();
    let heir = ask(&places, addresses[0]);
    assert!(is_replaced.try_recv().is_err(), "nobody was ready yet");
    let received: Vec<_> = heir.listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    assert_eq!(received, addresses);
    let (accepted, _) = heir.listeners[299].accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), waiting.local_addr().unwrap());
    let draining = heir.relieve().unwrap();
    let successor = is_replaced.recv().unwrap();
    let port = successor.port.as_ref().map(|port| port.local_addr().unwrap());
    assert_eq!(draining.address, port);
    drop(successor);
    draining.wait();

    Offer::make(&dir, addresses[0], Vec::new(), drop)
        .expect("the name is free")
        .withdraw();
    offer.withdraw();
}

#[test]
fn a_server_that_stops_hands_nothing_over() {
    let scratch = Scratch::new("stop");
    let (listener, address) = listener();
    let dir = scratch.places().own().unwrap();
    let offer = Offer::make(&dir, address, vec![listener.into()], |_| panic!("nobody took over")).unwrap();
    offer.withdraw();
    assert!(std::net::TcpStream::connect(address).is_err(), "the copy is closed");
    let refusal = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Predecessor::ask(&scratch.places(), address)
            .err()
            .filter(|error| error.contains("there is no server"))
    });
    assert!(refusal.is_some(), "the name is not given up");
}

#[test]
fn other_users_get_nothing() {
    let (near, far) = UnixStream::pair().unwrap();
    sys::send_descriptors(&far, HELLO, &[]).unwrap();
    let (listener, _) = listener();
    let lent = Lent::new(Mutex::new(vec![listener.into()]));
    let error = lend(&near, &lent, sys::own_user() + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    drop(near);
    assert!(
        matches!(sys::receive_descriptors(&far), Ok(None) | Err(_)),
        "something was sent"
    );
}

#[test]
fn nonsense_does_not_end_the_offer() {
    let scratch = Scratch::new("nonsense");
    let (listener, address) = listener();
    let dir = scratch.places().own().unwrap();
    let offer = Offer::make(&dir, address, vec![listener.into()], drop).unwrap();
    for byte in [b'X', READY] {
        let stream = UnixStream::connect(scratch.path("own").join(name(address))).unwrap();
        sys::send_descriptors(&stream, byte, &[]).unwrap();
        assert!(sys::receive_descriptors(&stream).unwrap().is_none());
    }
    drop(ask(&scratch.places(), address));
    offer.withdraw();
}

/// Such a server has no file, only a name.
#[test]
fn a_server_of_the_version_before_hands_over_too() {
    let scratch = Scratch::new("before");
    let (listener, address) = listener();
    let door = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name_before(address)).unwrap()).unwrap();
    let server = std::thread::spawn(move || {
        let lent = Lent::new(Mutex::new(vec![listener.into()]));
        wait_for_successor(&door, &lent).map(Successor::greet)
    });
    let heir = ask(&scratch.places(), address);
    assert_eq!(heir.listeners[0].local_addr().unwrap(), address);
    let draining = heir.relieve().unwrap();
    let successor = server.join().unwrap().expect("a successor");
    assert_eq!(
        draining.address,
        successor.port.as_ref().map(|port| port.local_addr().unwrap())
    );
}
