//! A running server hands its listening sockets to the process that replaces it (`--takeover`).
//!
//! ```text
//!   new process                                    old process
//!     connects to the name        ──────────────▶  the same user? else closed without a word
//!                                 ◀──────────────  copies of the listening sockets
//!     starts; every core accepts
//!                    "ready"      ──────────────▶  gives up the name, opens a port of this machine only
//!     offers itself under the name ◀─────────────  "done", that port; lets go of its sockets, drains
//!     passes calls on to the port                  serves them for the clients it still has
//!                                 ◀──────────────  end of the connection: end of the process
//! ```
//! - Both have the same sockets, not others of the same port: a connection that waits to be accepted is accepted by one of them.
//! - Until "ready" the old process accepts as ever; if the new one fails before, nothing has changed.
//! - The name is an abstract unix socket of the user, the address and the port ([`name`]): it needs no directory, and is gone
//!   with its process. Such a name can be used by anybody in the network namespace, so both sides ask the kernel who the other
//!   one is (SO_PEERCRED) before a byte is read. Who may pass could end the server anyway.
//!
//! Runs on side threads, and at the start of the process; blocks. Caller: `server.rs`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::{runtime, sys};

/// First byte of the new process: the version of this exchange.
const HELLO: u8 = b'1';
/// With descriptors: listening sockets. Without: those were all.
const SOCKETS: u8 = b'S';
const READY: u8 = b'R';
const DONE: u8 = b'D';

/// Time for each step of the other side, but for the one below.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Time a new process has for its start. Meanwhile no other one can take over.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Pause after one that failed: who tries again and again does not fill the log.
const PAUSE: Duration = Duration::from_millis(200);
/// Most sockets that are accepted: far more than threads, addresses and ports make.
const SOCKETS_MAX: usize = 4096;

/// What the server of this user that listens there answers to.
pub fn name(address: IpAddr, port: u16) -> String {
    format!("rainbow-server:{}:{}", sys::own_user(), SocketAddr::new(address, port))
}

/// A running server that may be replaced.
#[derive(Debug)]
pub struct Offer {
    /// Kept alive by its thread.
    door: Weak<UnixListener>,
    lent: Lent,
}

/// Copies of the listening sockets; empty once the server stops.
type Lent = Arc<Mutex<Vec<OwnedFd>>>;

impl Offer {
    /// Lets a new process take over from now on; `replaced` is called when one has. Errors: the name is in use, no thread.
    pub fn make(
        name: &str,
        listeners: Vec<OwnedFd>,
        replaced: impl FnOnce(Successor) + Send + 'static,
    ) -> io::Result<Self> {
        let door = Arc::new(UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?);
        let lent = Lent::new(Mutex::new(listeners));
        let offer = Self {
            door: Arc::downgrade(&door),
            lent: lent.clone(),
        };
        let run = move || {
            if let Some(stream) = wait_for_successor(&door, &lent) {
                clear(&lent);
                drop(door);
                replaced(Successor::greet(stream));
            }
        };
        runtime::start_side("takeover".into(), run)?;
        Ok(offer)
    }

    /// The server stops: it keeps its sockets open no longer than its cores do, and gives up its name.
    pub fn withdraw(&self) {
        clear(&self.lent);
        if let Some(door) = self.door.upgrade() {
            sys::shutdown(door.as_raw_fd());
        }
    }
}

/// The process that has taken over from this one.
#[derive(Debug)]
pub struct Successor {
    /// Where it passes calls on to.
    pub port: Option<TcpListener>,
    /// Its end is the end of this process.
    _stream: UnixStream,
}

impl Successor {
    /// Tells it that this process lets go.
    fn greet(stream: UnixStream) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let port = port.and_then(|port| Ok((port.local_addr()?.port(), port)));
        let number = port.as_ref().map_or(0, |(number, _)| *number);
        // If it cannot be told it goes on without, after a while.
        let _ = sys::send_descriptors(&stream, DONE, &[]).and_then(|()| (&stream).write_all(&number.to_be_bytes()));
        Self {
            port: port.ok().map(|(_, port)| port),
            _stream: stream,
        }
    }
}

fn clear(lent: &Lent) {
    lent.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Serves one new process after the other until one is ready; `None` when the offer is withdrawn.
fn wait_for_successor(door: &UnixListener, lent: &Lent) -> Option<UnixStream> {
    loop {
        let stream = match door.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            Err(_) => return None,
        };
        match lend(&stream, lent, sys::own_user()) {
            Ok(()) => return Some(stream),
            Err(error) => {
                tracing::warn!(%error, "a process tried to take over and failed, this one goes on");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// One exchange up to "ready".
fn lend(stream: &UnixStream, lent: &Lent, user: u32) -> io::Result<()> {
    check_user(stream, user)?;
    stream.set_write_timeout(Some(STEP_WITHIN))?;
    stream.set_read_timeout(Some(STEP_WITHIN))?;
    expect(stream, HELLO)?;
    {
        let sockets = lent.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        for some in sockets.chunks(sys::DESCRIPTORS_PER_MESSAGE) {
            sys::send_descriptors(stream, SOCKETS, some)?;
        }
    }
    sys::send_descriptors(stream, SOCKETS, &[])?;
    stream.set_read_timeout(Some(START_WITHIN))?;
    expect(stream, READY)
}

/// The server that is replaced.
pub struct Predecessor {
    stream: UnixStream,
    /// Its listening sockets.
    pub listeners: Vec<TcpListener>,
}

impl Predecessor {
    /// Asks the server of that name for its sockets. Errors are for the operator; the other server goes on then.
    pub fn ask(name: &str) -> Result<Self, String> {
        Self::ask_for(name).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => format!(
                "--takeover: there is no server to take over from ({name:?}: user, address and port have to be those of the \
                 one that runs); start without --takeover"
            ),
            _ => format!("--takeover: {name:?} does not hand over its sockets: {error}; it goes on"),
        })
    }

    fn ask_for(name: &str) -> io::Result<Self> {
        let stream = UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?)?;
        check_user(&stream, sys::own_user())?;
        stream.set_write_timeout(Some(STEP_WITHIN))?;
        stream.set_read_timeout(Some(STEP_WITHIN))?;
        sys::send_descriptors(&stream, HELLO, &[])?;
        let mut listeners = Vec::new();
        while listeners.len() < SOCKETS_MAX {
            let some = match sys::receive_descriptors(&stream)? {
                Some((SOCKETS, some)) => some,
                _ => return Err(ErrorKind::UnexpectedEof.into()),
            };
            if some.is_empty() {
                break;
            }
            listeners.extend(some.into_iter().map(TcpListener::from));
        }
        if listeners.is_empty() {
            return Err(io::Error::other("it is stopping"));
        }
        Ok(Self { stream, listeners })
    }

    /// Tells it that this process accepts, and waits until it has given up its name.
    pub fn relieve(self) -> io::Result<Draining> {
        sys::send_descriptors(&self.stream, READY, &[])?;
        expect(&self.stream, DONE)?;
        let mut number = [0; 2];
        (&self.stream).read_exact(&mut number)?;
        let port = u16::from_be_bytes(number);
        Ok(Draining {
            address: (port != 0).then(|| (Ipv4Addr::LOCALHOST, port).into()),
            stream: self.stream,
        })
    }
}

/// A server that was replaced and still has clients.
pub struct Draining {
    /// Where it serves calls for them.
    pub address: Option<SocketAddr>,
    stream: UnixStream,
}

impl Draining {
    /// Waits until its process has ended.
    pub fn wait(mut self) {
        let end = self
            .stream
            .set_read_timeout(None)
            .and_then(|()| self.stream.read(&mut [0]));
        tracing::debug!(?end, "the server before this one has ended");
    }
}

fn check_user(stream: &UnixStream, wanted: u32) -> io::Result<()> {
    let user = sys::peer_user(stream)?;
    if user == wanted {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        format!("it belongs to user {user}, not {wanted}"),
    ))
}

fn expect(stream: &UnixStream, wanted: u8) -> io::Result<()> {
    match sys::receive_descriptors(stream)? {
        Some((byte, _)) if byte == wanted => Ok(()),
        Some(_) => Err(io::Error::other("another version")),
        None => Err(io::Error::new(ErrorKind::UnexpectedEof, "the other side ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn test_name(what: &str) -> String {
        format!("rainbow-server-test:{}:{what}", std::process::id())
    }

    #[test]
    fn sockets_change_hands() {
        let name = test_name("change");
        let listeners: Vec<_> = (0..300).map(|_| listener()).collect();
        let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
        let (replaced, is_replaced) = mpsc::channel();
        let sockets = listeners.into_iter().map(|(listener, _)| listener.into()).collect();
        let offer = Offer::make(&name, sockets, move |heir| replaced.send(heir).unwrap()).unwrap();
        assert!(Offer::make(&name, Vec::new(), drop).is_err(), "one server has the name");

        drop(Predecessor::ask(&name).unwrap_or_else(|error| panic!("{error}")));
        let waiting = std::net::TcpStream::connect(addresses[299]).unwrap();
        let heir = Predecessor::ask(&name).unwrap_or_else(|error| panic!("{error}"));
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

        Offer::make(&name, Vec::new(), drop)
            .expect("the name is free")
            .withdraw();
        offer.withdraw();
    }

    #[test]
    fn a_server_that_stops_hands_nothing_over() {
        let name = test_name("stop");
        let (listener, address) = listener();
        let offer = Offer::make(&name, vec![listener.into()], |_| panic!("nobody took over")).unwrap();
        offer.withdraw();
        assert!(std::net::TcpStream::connect(address).is_err(), "the copy is closed");
        let refusal = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            Predecessor::ask(&name)
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
        let name = test_name("nonsense");
        let (listener, _) = listener();
        let offer = Offer::make(&name, vec![listener.into()], drop).unwrap();
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        for byte in [b'X', READY] {
            let stream = UnixStream::connect_addr(&address).unwrap();
            sys::send_descriptors(&stream, byte, &[]).unwrap();
            assert!(sys::receive_descriptors(&stream).unwrap().is_none());
        }
        assert!(Predecessor::ask(&name).is_ok());
        offer.withdraw();
    }
}
