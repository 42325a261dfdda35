//! A connection of the control core, plain or TLS. Calls do not block; who has to wait, waits for the socket.
//!
//! With TLS a socket that was readable may have held nothing for the caller (half a record): that shows as `WouldBlock`. Shards
//! hold the same two kinds in their socket table (`sockets.rs`), where the plain one has to cost nothing extra.

use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::rc::{Rc, Weak};

use monoio::net::TcpStream;

use super::kernel::Socket;
use super::mail::Handover;
use super::sys;
use super::tls::{End, Scratch, Session};
use crate::protocol::ListenerId;

/// An open connection.
pub struct Stream {
    tcp: Rc<TcpStream>,
    tls: Option<Box<Session>>,
}

impl Stream {
    /// Takes a connection over; also gives what was received of it already.
    pub fn adopt(handover: Handover) -> io::Result<(Self, Vec<u8>)> {
        let tcp = TcpStream::from_std(std::net::TcpStream::from(handover.socket))?;
        let stream = Self {
            tcp: Rc::new(tcp),
            tls: handover.tls,
        };
        Ok((stream, handover.bytes))
    }

    /// Makes it ready for another core. `bytes` were received but not used.
    /// `told` is what a PROXY header told of the client; `listener` is where it came in.
    pub fn hand_over(self, bytes: Vec<u8>, told: Option<IpAddr>, listener: ListenerId) -> io::Result<Handover> {
        // The runtime keeps its own reference to the descriptor, so the other core gets a second one.
        Ok(Handover {
            socket: self.descriptor().try_clone_to_owned()?,
            bytes,
            tls: self.tls,
            told,
            listener,
        })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        sys::descriptor(&self.tcp)
    }

    /// Who is at the other end; `None` if nobody is any more.
    pub fn peer(&self) -> Option<IpAddr> {
        self.descriptor().peer().map(|peer| peer.ip())
    }

    /// What ends it from outside, as long as it is there.
    pub fn plug(&self) -> Plug {
        Plug(Rc::downgrade(&self.tcp))
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Receives; 0 is the end of the stream. `WouldBlock` if there is nothing, `InvalidData` if TLS failed.
    pub fn receive(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return sys::descriptor(&self.tcp).recv(buffer);
        };
        loop {
            let received = tls.receive(&sys::descriptor(&self.tcp), buffer, scratch)?;
            match received.end {
                // The end shows again at the next call.
                _ if received.bytes > 0 => return Ok(received.bytes),
                Some(End::Closed) => return Ok(0),
                Some(End::Failed) => return Err(ErrorKind::InvalidData.into()),
                None if received.more => {}
                None => return Err(ErrorKind::WouldBlock.into()),
            }
        }
    }

    /// Sends; returns the bytes accepted, which with TLS may wait for [`Stream::flush`].
    pub fn send(&mut self, bytes: &[u8], scratch: &mut Scratch) -> io::Result<usize> {
        let parts = [IoSlice::new(bytes)];
        let socket = sys::descriptor(&self.tcp);
        match &mut self.tls {
            Some(tls) => tls.send(&socket, &parts, scratch),
            None => socket.send(&parts),
        }
    }

    /// `WouldBlock` while accepted bytes wait for the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        let is_done = match &mut self.tls {
            Some(tls) => tls.flush(&sys::descriptor(&self.tcp))?,
            None => true,
        };
        if is_done {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    /// Nothing more will be sent: tells the peer.
    pub fn finish(&mut self) {
        let socket = sys::descriptor(&self.tcp);
        match &mut self.tls {
            Some(tls) => tls.finish(&socket),
            None => socket.finish(),
        }
    }

    /// Waits until there may be something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable(false).await
    }

    /// Waits until the socket takes bytes.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable(false).await
    }
}

/// Ends a connection that somebody else has.
#[derive(Debug, Default)]
pub struct Plug(Weak<TcpStream>);

impl Plug {
    /// Ends both directions; whoever waits for the connection wakes up.
    pub fn pull(&self) {
        if let Some(tcp) = self.0.upgrade() {
            sys::shutdown(sys::descriptor(&tcp));
        }
    }
}
