//! One connection to a business server, plain or encrypted: bytes out, bytes in. Used by the pool and the exchange.

use std::io;
use std::time::{Duration, Instant};

use super::line::{Line, Stop};
use super::tls::TlsStream;
use crate::io::sys;

/// An open connection.
pub(super) struct Conn {
    link: Link,
    opened: Instant,
    /// Requests it may still carry, as far as the server has announced that (`Keep-Alive: max=`).
    allowance: Option<u32>,
    /// A call is under way.
    is_unanswered: bool,
}

enum Link {
    /// `http`
    Plain(Line),
    /// `https`
    Tls(Box<TlsStream>),
}

impl Conn {
    pub(super) fn plain(line: Line) -> Conn {
        Conn::over(Link::Plain(line))
    }

    pub(super) fn tls(stream: TlsStream) -> Conn {
        Conn::over(Link::Tls(Box::new(stream)))
    }

    fn over(link: Link) -> Conn {
        Conn {
            link,
            opened: Instant::now(),
            allowance: None,
            is_unanswered: false,
        }
    }

    /// How long it has been open.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.opened)
    }

    /// An answer announced that so many requests may follow (`Keep-Alive: max=`), or nothing. False: none may.
    ///
    /// Servers mean one more or one less by it, and some say the same number every time: one is taken off, and it is counted
    /// down from the lowest.
    pub(super) fn allow(&mut self, max: Option<u32>) -> bool {
        let left = self.allowance.map(|left| left.saturating_sub(1));
        let announced = max.map(|max| max.saturating_sub(1));
        self.allowance = [left, announced].into_iter().flatten().min();
        self.allowance != Some(0)
    }

    /// True if it cannot carry another request (see [`sys::is_stale`]). One system call.
    pub(super) fn is_stale(&self) -> bool {
        match &self.link {
            Link::Plain(line) => line.is_stale(),
            Link::Tls(tls) => tls.has_unread() || tls.line().is_stale(),
        }
    }

    fn line(&self) -> &Line {
        match &self.link {
            Link::Plain(line) => line,
            Link::Tls(tls) => tls.line(),
        }
    }

    fn line_mut(&mut self) -> &mut Line {
        match &mut self.link {
            Link::Plain(line) => line,
            Link::Tls(tls) => tls.line_mut(),
        }
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.line_mut().begin();
        self.is_unanswered = true;
    }

    /// It has ended with an answer.
    pub(super) fn answered(&mut self) {
        self.is_unanswered = false;
    }

    /// Sends what `parts` has from byte `at` on, and moves `at`; stops when the peer speaks instead of taking more.
    pub(super) async fn send(&mut self, parts: [&[u8]; 2], at: &mut usize) -> Result<(), Stop> {
        match &mut self.link {
            Link::Plain(line) => line.send(parts, at, true).await,
            Link::Tls(tls) => Box::pin(tls.send(parts, at)).await,
        }
    }

    /// Whether a byte of the present request has left.
    pub(super) fn has_sent(&self) -> bool {
        self.line().sent() > 0
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity, of which there must be some. `Ok(0)` is the end.
    pub(super) async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match &mut self.link {
            Link::Plain(line) => line.receive(buffer).await,
            Link::Tls(tls) => {
                let result = Box::pin(tls.read(&mut buffer)).await;
                (result, buffer)
            }
        }
    }

    /// Has the peer send the rest of what it has begun. A server that writes head and body apart, on a socket with Nagle's
    /// algorithm, waits for an acknowledgement of the head, which our kernel would delay by 40 ms.
    pub(super) fn acknowledge(&self) {
        sys::acknowledge(self.line().descriptor());
    }

    /// See [`Line::was_never_read`].
    pub(super) async fn was_never_read(&mut self) -> bool {
        Box::pin(self.line_mut().was_never_read()).await
    }
}

/// Resets a connection whose call is given up, by its deadline or after a failure. Closed in order it would leave its request in the
/// kernel, which delivers it when the line is mended, maybe behind the later messages and the close callback of its client.
impl Drop for Conn {
    fn drop(&mut self) {
        if self.is_unanswered {
            sys::reset_on_close(self.line().descriptor());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use monoio::{FusionDriver, RuntimeBuilder};

    use super::*;

    #[test]
    fn announced_requests_are_counted_down() {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let conn = || {
                Conn::plain(Line::new(
                    monoio::net::TcpStream::from_std(tcp.try_clone().unwrap()).unwrap(),
                ))
            };
            let mut same_every_time = conn();
            assert_eq!([(); 3].map(|()| same_every_time.allow(Some(3))), [true, true, false]);
            let mut counts_down = conn();
            assert_eq!([3, 2, 1].map(|left| counts_down.allow(Some(left))), [true, true, false]);
            let mut says_it_once = conn();
            assert_eq!(
                [Some(3), None, None].map(|max| says_it_once.allow(max)),
                [true, true, false]
            );
            assert!(conn().allow(None) && !conn().allow(Some(0)) && !conn().allow(Some(1)));
        });
    }
}
