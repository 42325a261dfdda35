//! System calls monoio has no name for. The only file of the crate where `unsafe` is allowed; every block says why it is
//! sound.
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use monoio::net::TcpStream;
use socket2::SockRef;

/// True if an idle connection cannot carry another request: the peer closed it, it failed, or bytes arrived nobody asked
/// for. One non-blocking peek; takes nothing from the stream.
pub fn is_stale(stream: &TcpStream) -> bool {
    // SAFETY: the descriptor is owned by `stream`, which is borrowed for longer than `fd` lives.
    let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(&fd).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
