//! A running server hands its listening sockets to the process that replaces it (`--takeover`).
//!
//! ```text
//!   new process                                    old process
//!     connects to the socket      ──────────────▶  the same user? else closed without a word
//!                                 ◀──────────────  copies of the listening sockets
//!     starts; every core accepts
//!                    "ready"      ──────────────▶  removes its socket, opens a port of this machine only
//!     makes a socket of its own    ◀─────────────  "done", that port; lets go of its sockets, drains
//!     passes calls on to the port                  serves them for the clients it still has
//!                                 ◀──────────────  end of the connection: end of the process
//! ```
//! - Both have the same sockets, not others of the same port: a connection that waits to be accepted is accepted by one of them.
//! - Until "ready" the old process accepts as ever; if the new one fails before, nothing has changed.
//! - The socket is called after address and port, in a directory that only the user of the server may enter (`place.rs`). Both
//!   sides ask the kernel all the same who the other one is (SO_PEERCRED) before a byte is read.
//! - Servers up to 0.6.0 listen under a name without a file ([`name_before`]), which other users can occupy. A new process looks there
//!   too, so that they can be replaced; nobody listens there any more.
//!
//! Runs on side threads, and at the start of the process; blocks. Caller: `server.rs`.

mod place;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use self::place::Door;
pub use self::place::{Dir, Places};
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

/// The socket of the server that listens there.
fn name(address: SocketAddr) -> String {
    format!("{address}.sock")
}

/// What it answered to up to 0.6.0: an abstract name.
fn name_before(address: SocketAddr) -> String {
    format!("rainbow-server:{}:{address}", sys::own_user())
}

/// A running server that may be replaced.
#[derive(Debug)]
pub struct Offer {
    /// Kept alive by its thread.
    door: Weak<Door>,
    lent: Lent,
}

/// Copies of the listening sockets; empty once the server stops.
type Lent = Arc<Mutex<Vec<OwnedFd>>>;

impl Offer {
    /// Lets a new process take over from now on, through a socket in `dir`; `replaced` is called when one has. Errors: there can
    /// be no socket or no thread.
    pub fn make(
        dir: &Dir,
        address: SocketAddr,
        listeners: Vec<OwnedFd>,
        replaced: impl FnOnce(Successor) + Send + 'static,
    ) -> Result<Self, String> {
        let door = Arc::new(dir.listen(&name(address))?);
        let lent = Lent::new(Mutex::new(listeners));
        let offer = Self {
            door: Arc::downgrade(&door),
            lent: lent.clone(),
        };
        let run = move || {
            if let Some(stream) = wait_for_successor(&door.listener, &lent) {
                clear(&lent);
                drop(door);
                replaced(Successor::greet(stream));
            }
        };
        runtime::start_side("takeover".into(), run).map_err(|error| format!("no thread: {error}"))?;
        Ok(offer)
    }

    /// The server stops: it keeps its sockets open no longer than its cores do, and nobody reaches it any more.
    pub fn withdraw(&self) {
        clear(&self.lent);
        if let Some(door) = self.door.upgrade() {
            door.close();
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
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
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
    /// Asks the server that listens at `address` for its sockets. Errors are for the operator; the other server goes on then.
    pub fn ask(places: &Places, address: SocketAddr) -> Result<Self, String> {
        let taken = Self::reach(places, address).and_then(|stream| stream.map(Self::take).transpose());
        match taken {
            Ok(Some(predecessor)) => Ok(predecessor),
            Ok(None) => Err(format!(
                "--takeover: there is no server to take over from at {address}: user, first address and port have to be those of \
                 the one that runs, and takeover_dir if that has it; start without --takeover"
            )),
            Err(error) => Err(format!(
                "--takeover: the server at {address} does not hand over its sockets: {error}; it goes on"
            )),
        }
    }

    /// `None`: there is none.
    fn reach(places: &Places, address: SocketAddr) -> io::Result<Option<UnixStream>> {
        if let Some(stream) = places.find(&name(address))? {
            return Ok(Some(stream));
        }
        match UnixStream::connect_addr(&UnixAddr::from_abstract_name(name_before(address))?) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take(stream: UnixStream) -> io::Result<Self> {
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

    /// Tells it that this process accepts, and waits until it has removed its socket.
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
    let user = sys::peer_user(stream.as_fd())?;
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
mod tests;
