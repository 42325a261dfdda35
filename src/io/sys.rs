//! System calls the runtime has no safe form for. The only file of the crate with `unsafe`; every block says why it is
//! sound. All calls are non-blocking, but those that pass descriptors to another process and the one that looks up names.
//!
//! Descriptors come as [`BorrowedFd`]: they are open for as long as the call lasts.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use monoio::net::TcpStream;

use super::mail::Signal;

/// Signals that are taken by [`wait_for_signal`].
const TAKEN: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Holds back the signals of [`wait_for_signal`], in this thread and in all it starts: none of them ends the process. Also the
/// one for files that grow beyond a limit: then a write fails, as on a full disk.
pub fn hold_signals() {
    mask_signals(libc::SIG_BLOCK, TAKEN.into_iter().chain([libc::SIGXFSZ]));
}

/// Ends that: signals do what they do by default, also those that have come meanwhile.
pub fn release_signals() {
    mask_signals(libc::SIG_UNBLOCK, TAKEN.into_iter());
}

fn mask_signals(how: libc::c_int, signals: impl Iterator<Item = libc::c_int>) {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised and lives through the call; no old mask is asked for. Cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
}

fn signal_set(signals: impl Iterator<Item = libc::c_int>) -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value of the type.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to `set`.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: the pointer is to `set`; a number that is no signal gives EINVAL.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Waits for one of the signals that are held.
pub fn wait_for_signal() -> Signal {
    let set = signal_set(TAKEN.into_iter());
    let mut signal = 0;
    // SAFETY: both pointers are to values that live through the call. It fails for a set with invalid signals only.
    while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
    match signal {
        libc::SIGHUP => Signal::Reload,
        _ => Signal::Stop,
    }
}

/// Words of the largest mask of processors that is asked for: 65 536 processors.
const MASK_WORDS_MAX: usize = 1024;

/// Numbers of the processors this process may run on, ascending; empty if the kernel does not say.
pub fn processor_mask() -> Vec<usize> {
    // A mask that is too short for the machine's processors is refused.
    let sizes = std::iter::successors(Some(16), |words| Some(words * 2)).take_while(|words| *words <= MASK_WORDS_MAX);
    for words in sizes {
        let mut mask = vec![0u64; words];
        // SAFETY: the kernel writes at most as many bytes as told, all of them inside `mask`, which is aligned for its words.
        if unsafe { libc::sched_getaffinity(0, size_of_val(&mask[..]), mask.as_mut_ptr().cast()) } == 0 {
            let is_set = |number: &usize| mask[number / 64] >> (number % 64) & 1 == 1;
            return (0..words * 64).filter(is_set).collect();
        }
    }
    Vec::new()
}

/// The descriptor of a stream of the runtime, which cannot lend it itself.
pub fn descriptor(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor, and closes it no earlier than it is dropped.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Receives what is there. `WouldBlock` if nothing is, 0 at the end of the stream.
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    // SAFETY: the pointer and length describe `buffer`, which the kernel only writes to during the call.
    let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Looks at what is there without taking it. Otherwise like [`recv`].
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_PEEK);
    // SAFETY: the pointer and length describe `buffer`, which the kernel only writes to during the call.
    let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends what the socket takes at once; never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let fd = socket.as_raw_fd();
    let n = if let [part] = parts {
        // SAFETY: the pointer and length describe `part`, which the kernel only reads during the call.
        unsafe { libc::send(fd, part.as_ptr().cast(), part.len(), FLAGS) }
    } else {
        // SAFETY: an all-zero msghdr is a valid one: no name, no control data, no vectors.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // `IoSlice` is guaranteed to be ABI compatible with `iovec`; the kernel only reads through it.
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len();
        // SAFETY: `message` and the slices it points to live through the call.
        unsafe { libc::sendmsg(fd, &message, FLAGS) }
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// True if an idle connection cannot carry another request: the peer closed it, it failed, or bytes arrived nobody asked
/// for. Takes nothing from the stream.
pub fn is_stale(socket: BorrowedFd<'_>) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and length describe `byte`.
    let n = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    n >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

/// Why a name has no address.
#[derive(Debug)]
pub enum NoAddress {
    /// The name is unknown, or has no address.
    NoSuchName,
    /// Nobody could say: name servers that refuse, fail or are silent.
    NotTold(String),
}

/// The addresses of a name as the system's resolver tells them. The one call here that blocks, for many seconds if name servers
/// are silent: not for a core.
pub fn look_up(host: &str) -> Result<Vec<std::net::IpAddr>, NoAddress> {
    let Ok(name) = std::ffi::CString::new(host) else {
        return Err(NoAddress::NoSuchName);
    };
    // SAFETY: an all-zero addrinfo is a valid one: any family, no flags, null pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = std::ptr::null_mut();
    // SAFETY: `name` ends with a zero byte and lives through the call, as do `hints` and `list`; the service may be null.
    let code = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) };
    match code {
        0 => {}
        libc::EAI_NONAME | libc::EAI_NODATA => return Err(NoAddress::NoSuchName),
        libc::EAI_SYSTEM => return Err(NoAddress::NotTold(io::Error::last_os_error().to_string())),
        code => {
            // SAFETY: returns a constant text that ends with a zero byte, whatever the code.
            let text = unsafe { std::ffi::CStr::from_ptr(libc::gai_strerror(code)) };
            return Err(NoAddress::NotTold(text.to_string_lossy().into_owned()));
        }
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: the list is the resolver's and valid until it is freed below; `ai_addr` is of the length and family said.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: `ai_addr` points to `ai_addrlen` bytes of an address of `ai_family`, no more than fit into the storage.
        let address = unsafe {
            socket2::SockAddr::try_init(|storage, length| {
                std::ptr::copy_nonoverlapping(
                    entry.ai_addr.cast::<u8>(),
                    storage.cast::<u8>(),
                    entry.ai_addrlen as usize,
                );
                *length = entry.ai_addrlen;
                Ok(())
            })
        };
        addresses.extend(address.ok().and_then(|(_, address)| Some(address.as_socket()?.ip())));
        next = entry.ai_next;
    }
    // SAFETY: `list` came from a call that succeeded, and nothing points into it any more.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

/// Bytes sent over a TCP connection that the peer's kernel has not acknowledged; also after it was reset. 0 if that cannot be told.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request writes one `int`, which `bytes` is. (SIOCOUTQ has the number of TIOCOUTQ.)
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        usize::try_from(bytes).unwrap_or_default()
    } else {
        0
    }
}

/// Whether a connection has ended in both directions: a reset, for one that was not shut down from this side.
pub fn is_gone(socket: BorrowedFd<'_>) -> bool {
    let mut look = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, which lives through the call; a timeout of 0 does not wait.
    let ready = unsafe { libc::poll(&raw mut look, 1, 0) };
    ready == 1 && look.revents & libc::POLLHUP != 0
}

/// Acknowledges at once what has arrived: the peer may hold back the rest until then (Nagle's algorithm).
pub fn acknowledge(socket: BorrowedFd<'_>) {
    // A kernel that refuses acknowledges a little later.
    let _ = socket2::SockRef::from(&socket).set_tcp_quickack(true);
}

/// Ends the sending direction.
pub fn finish(socket: BorrowedFd<'_>) {
    // SAFETY: takes integers only.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Ends both directions; whoever waits for the socket wakes up.
pub fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: takes integers only.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Makes closing a reset: what the peer has not acknowledged is dropped instead of delivered later.
pub fn reset_on_close(socket: BorrowedFd<'_>) {
    // A socket that cannot be told is closed in order.
    let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
}

/// Who is at the other end of a socket.
pub fn peer_address(socket: BorrowedFd<'_>) -> Option<std::net::SocketAddr> {
    socket2::SockRef::from(&socket).peer_addr().ok()?.as_socket()
}

/// Most descriptors in one message; the kernel takes 253.
pub const DESCRIPTORS_PER_MESSAGE: usize = 128;

/// Room for the control data of such a message: its header and the descriptors, in units that are aligned for both.
type ControlRoom = [u64; 2 + DESCRIPTORS_PER_MESSAGE / 2];

// A header of at most 16 bytes, and 4 bytes for each descriptor.
const _: () = assert!(size_of::<libc::cmsghdr>() <= 16 && align_of::<libc::cmsghdr>() <= align_of::<u64>());

/// Sends one byte and copies of at most [`DESCRIPTORS_PER_MESSAGE`] descriptors over a unix socket. May block.
pub fn send_descriptors(socket: &impl AsFd, byte: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_PER_MESSAGE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = size_of_val(descriptors) as u32;
    let mut room: ControlRoom = [0; _];
    let mut part = libc::iovec {
        iov_base: (&raw const byte).cast_mut().cast(),
        iov_len: 1,
    };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if bytes > 0 {
        message.msg_control = room.as_mut_ptr().cast();
        // SAFETY: computes with integers only.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as _;
        // SAFETY: `room` is larger than `msg_controllen` (asserted above for its parts) and aligned for a header, so the first
        // header and the descriptors behind it lie inside it. A borrowed descriptor is laid out as its number.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                bytes as usize,
            );
        }
    }
    uninterrupted(|| {
        // SAFETY: `message` and what it points to (`byte`, `part`, `room`) live through the call, in which the kernel only
        // reads.
        unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
    })?;
    Ok(())
}

/// Receives one byte and the descriptors that came with it; `None` at the end of the stream. May block.
pub fn receive_descriptors(socket: &impl AsFd) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let (mut byte, mut room): (u8, ControlRoom) = (0, [0; _]);
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = room.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&room) as _;
    let received = uninterrupted(|| {
        // SAFETY: `message` and what it points to (`byte`, `part`, `room`) live through the call and have the sizes told.
        unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) }
    })?;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written well-formed headers into `room` and their length into `message`; the macros stay inside it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a header inside `room`.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            let len: usize = len as _;
            // SAFETY: computes with integers only.
            let bytes = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the header says that so many descriptors follow it inside `room`. They are new ones of this process
                // that nobody else owns. The data need not be aligned.
                descriptors.push(unsafe {
                    let data = libc::CMSG_DATA(header).cast::<RawFd>().add(index);
                    OwnedFd::from_raw_fd(data.read_unaligned())
                });
            }
        }
        // SAFETY: `header` came from the same `message`.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((received > 0).then_some((byte, descriptors)))
}

/// Repeats a call while signals interrupt it. Errors: what it failed with.
fn uninterrupted(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// The user at the other end of a unix socket.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    let (value, level, option) = ((&raw mut peer).cast(), libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the pointers are to a value of the type this option has, and to its length.
    if unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(peer.uid)
}

/// The user this process acts as.
pub fn own_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Allocations of this size and more are mapped one by one, so that freeing one gives its pages back and growing one moves
/// none. The C library would raise the bound with the first large one that is freed, and keep all that come after.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// Sets the allocator up, before anything large is allocated.
pub fn set_allocator_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers only.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES)
    };
}

/// Gives the pages that nothing uses any more back to the system.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer only; the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// One descriptor that is readable while any of `fds` is. Unlike a ring it holds no reference to them: when the process is
/// killed its listening sockets are gone at once, and the next process can bind.
pub fn watch(fds: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    for fd in fds {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: `event` is valid during the call.
        if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(epoll)
}

/// A counter other threads can raise and a core can wait for. Non-blocking.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises an eventfd.
pub fn raise(event: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the pointer and length describe `one`. A full counter (2^64 - 2 raises) is still raised.
    unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Takes an eventfd down again.
pub fn lower(event: BorrowedFd<'_>) {
    let mut count = [0u8; 8];
    // SAFETY: the pointer and length describe `count`.
    unsafe { libc::read(event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

/// Raises the soft limit of descriptors to the hard one; returns the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 1024;
        }
        let wanted = libc::rlimit {
            rlim_cur: limit.rlim_max,
            rlim_max: limit.rlim_max,
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) == 0 {
            limit.rlim_max
        } else {
            limit.rlim_cur
        }
    }
}

/// Whether a time service keeps the clock of this machine; `None` if the kernel does not tell this process.
pub fn clock_is_kept() -> Option<bool> {
    let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeroes are a valid timex, and its modes 0 change nothing; the kernel fills it in.
    let (code, state) = unsafe { (libc::adjtimex(state.as_mut_ptr()), state.assume_init()) };
    (code >= 0).then_some(code != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Descriptors that are open now, counted one by one: for the start, when they are few.
pub fn open_descriptors() -> usize {
    let own = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    // The directory itself is one of them. Without /proc: standard input, output, error and what a parent may have left.
    own.map_or(8, |count| count.saturating_sub(1))
}

/// What is asked about a descriptor whose input matters.
const INPUT: libc::c_int = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;

/// Readiness of many descriptors, edge-triggered for input: the clients of a core, and the sockets of the load generator. Where each
/// socket waits by itself on the ring, every message costs one more submission and a request in the kernel that is far from
/// everything else the message touches.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// Reports at most `batch` descriptors per wait.
    pub fn new(batch: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: watch(&[])?,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; batch.max(1)],
        })
    }

    /// Watches `fd` for input (and, with `output`, for room) until it is closed; reported as `token`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, output: bool) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_ADD,
            fd,
            token,
            INPUT | if output { libc::EPOLLOUT } else { 0 },
        )
    }

    /// Reports `fd` as `token` as long as it takes bytes or is broken, until it is removed or closed.
    pub fn add_for_room(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLOUT)
    }

    /// Watches `fd` afresh for input: it is reported again if there is some.
    pub fn rearm(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, INPUT)
    }

    /// Stops to watch `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, what: libc::c_int, fd: BorrowedFd<'_>, token: u64, wanted: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: wanted as u32,
            u64: token,
        };
        // SAFETY: `event` is valid during the call. The kernel forgets the descriptor when it is closed.
        if unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd.as_raw_fd(), &mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits at most `millis` (-1: for ever) and appends the tokens of ready descriptors, each with whether the peer has
    /// ended its side or the connection is broken: then there is an end to be read behind the last bytes, and it is not
    /// reported again. An interrupted wait finds none.
    pub fn wait(&mut self, millis: i32, ready: &mut Vec<(u64, bool)>) -> io::Result<()> {
        const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        let (events, max) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: the pointer and length describe `self.events`.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events, max, millis) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error)
            };
        };
        let events = self.events.iter().take(count);
        ready.extend(events.map(|event| (event.u64, event.events & ENDED != 0)));
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
