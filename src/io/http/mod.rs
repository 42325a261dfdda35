//! The outgoing HTTP/1.1 client: calls to business servers, and the cluster's calls to its peers. Lives on one core.
//!
//! ```text
//! call ─▶ pool ── alive? ──▶ exchange ─▶ redirect? ─▶ reply
//!           └─ none ─▶ dns ─▶ dial ─▶ (tls) ─┘   └─ connection back into the pool, if the server is known to keep it (habit)
//! ```
//!
//! Invariants:
//! * A call ends by its deadline, whatever the peer does; a call that is cut off takes its connection along.
//! * A request is sent twice only if the peer cannot have read a byte of it (`line.rs`), or if it is a GET on a kept
//!   connection that ended without a byte of an answer (RFC 9110 §9.2.2). A POST that may have been read is not repeated.
//! * Everything a peer sends is bounded: head, interim answers, body (packed and unpacked), redirects.

mod conn;
mod dial;
mod dns;
mod exchange;
mod habit;
mod line;
mod pool;
#[cfg(test)]
mod tests;
mod tls;
pub mod url;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use self::conn::Conn;
use self::dns::{Resolver, Threads};
use self::exchange::{Broken, Terms, exchange, redirect};
use self::pool::{LOOK_INTERVAL, Look, Pool, Returned};
use self::tls::Trust;
pub use self::url::{Origin, Url};
use crate::engine::command::{CallbackFailure, CallbackReply};
use crate::limits::REDIRECTS_MAX;

/// Working buffers kept for the next call, and the size beyond which one is not kept: 4 MiB at most.
const BUFFERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// At most one warning about unreachable servers in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Content type of a form, which is also that of a body nobody knows more about.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// GET or POST; a POST gets a content type and a length.
    pub method: Method,
    /// Header lines to add, each `Name: value\r\n`, already checked. `Host`, `Accept-Encoding`, `Authorization` of the URL
    /// and the headers of the body are the client's.
    pub headers: Bytes,
    /// What the body of a POST is.
    pub content_type: &'static str,
    /// Body; empty for GET.
    pub body: Bytes,
}

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long an unused connection is kept at most; zero keeps none. Below the 60 s after which common servers close theirs.
    pub idle: Duration,
    /// How old a connection gets at most, so that a server that has moved is found.
    pub age_max: Duration,
    /// How long a connection must have been seen to stay open before a server is believed to keep them; zero: it is believed
    /// from the start, until it is caught.
    pub proof: Duration,
    /// Connections kept in all.
    pub idle_max: usize,
    /// Bytes of an answer's body; beyond it the answer is [`CallbackFailure::Garbage`].
    pub body_max: usize,
    /// PEM file with roots to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the certificate to show to servers that ask for one, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            idle: Duration::from_secs(20),
            age_max: Duration::from_secs(300),
            proof: habit::PROOF,
            idle_max: 1024,
            body_max: 10 * 1024 * 1024,
            ca_file: None,
            identity: None,
        }
    }
}

/// What a client has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections opened.
    pub dialled: u64,
    /// Requests sent on a kept connection.
    pub reused: u64,
    /// Requests sent again because a kept connection had ended.
    pub resent: u64,
    /// Connections kept at this moment.
    pub idle: usize,
}

/// What a client needs that may not be had, for the core that will have the client: certificates and threads.
pub struct Prepared {
    options: Options,
    trust: Trust,
    threads: Threads,
}

impl Prepared {
    /// Reads certificates and starts the threads that look names up. Blocks. Errors, for the operator: certificate files unusable,
    /// no threads.
    pub fn new(options: Options) -> io::Result<Prepared> {
        Ok(Prepared {
            trust: Trust::load(&options)?,
            threads: Threads::start()?,
            options,
        })
    }

    /// Starts a client on this thread's runtime, which must have its timer enabled. Errors: the runtime has no room.
    pub fn begin(self) -> io::Result<Client> {
        let Prepared {
            options,
            trust,
            threads,
        } = self;
        let resolver = Resolver::start(threads)?;
        let inner = Rc::new_cyclic(|this| Inner {
            pool: RefCell::new(Pool::new(&options)),
            resolver,
            trust: RefCell::new(trust),
            buffers: RefCell::default(),
            body_max: Cell::new(options.body_max),
            usage: Cell::default(),
            complained: Cell::new(None),
            sweeping: Cell::new(false),
            this: this.clone(),
        });
        Ok(Client(inner))
    }
}

/// The client. Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    pool: RefCell<Pool>,
    resolver: Rc<Resolver>,
    trust: RefCell<Trust>,
    buffers: RefCell<Vec<Vec<u8>>>,
    body_max: Cell<usize>,
    usage: Cell<Usage>,
    complained: Cell<Option<Instant>>,
    /// The sweep runs.
    sweeping: Cell<bool>,
    this: Weak<Inner>,
}

impl Client {
    /// Both steps at once, where it does not matter which of them is refused.
    pub fn start(options: &Options) -> io::Result<Client> {
        Prepared::new(options.clone())?.begin()
    }

    /// Takes new settings for the calls to come; reads the certificate files anew. Errors leave everything as it was.
    pub fn reload(&self, options: &Options) -> io::Result<()> {
        *self.0.trust.borrow_mut() = Trust::load(options)?;
        self.0.pool.borrow_mut().reconfigure(options);
        self.0.body_max.set(options.body_max);
        Ok(())
    }

    /// Closes the connections that wait for a next call: their descriptors are needed.
    pub fn close_unused(&self) {
        self.0.pool.borrow_mut().clear();
    }

    /// Sends `request`, follows redirects, and returns the final answer, whatever its status. Ends by `deadline`.
    pub async fn call(&self, request: Request, deadline: Instant) -> Result<CallbackReply, CallbackFailure> {
        self.begin(request, Redirects::Followed, deadline).await
    }

    /// The same, but a redirect is an answer like any other: for those who are not trusted to name other addresses.
    pub async fn call_directly(&self, request: Request, deadline: Instant) -> Result<CallbackReply, CallbackFailure> {
        self.begin(request, Redirects::Answers, deadline).await
    }

    async fn begin(
        &self,
        request: Request,
        redirects: Redirects,
        deadline: Instant,
    ) -> Result<CallbackReply, CallbackFailure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallbackFailure::TimedOut); // a call is tried before its timer is looked at
        }
        match monoio::time::timeout(left, self.0.follow(request, redirects)).await {
            Ok(result) => result,
            Err(_) => Err(CallbackFailure::TimedOut),
        }
    }

    /// Addresses of `host`, which may itself be one, in the order to try them; empty if it does not resolve. Answers are
    /// remembered for some seconds.
    pub async fn resolve(&self, host: &str) -> Rc<[IpAddr]> {
        self.0.resolver.resolve(host).await
    }

    /// What has been done so far.
    pub fn usage(&self) -> Usage {
        Usage {
            idle: self.0.pool.borrow().len(),
            ..self.0.usage.get()
        }
    }
}

/// What becomes of an answer that names another address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redirects {
    Followed,
    /// Handed on like any other.
    Answers,
}

impl Inner {
    async fn follow(&self, mut request: Request, redirects: Redirects) -> Result<CallbackReply, CallbackFailure> {
        for _ in 0..=REDIRECTS_MAX {
            let reply = self.answer(&request).await?;
            if redirects == Redirects::Answers {
                return Ok(reply);
            }
            match redirect(&request, &reply) {
                None => return Ok(reply),
                Some(None) => break,
                Some(Some(next)) => request = next,
            }
        }
        Err(CallbackFailure::Redirects)
    }

    /// One hop, on a kept connection if there is one.
    async fn answer(&self, request: &Request) -> Result<CallbackReply, CallbackFailure> {
        let origin = &request.url.origin;
        let kept = self.pool.borrow_mut().begin(origin, Instant::now());
        let mut underway = Underway {
            client: self,
            origin,
            answered: false,
        };
        if let Some(conn) = kept {
            self.count(|usage| usage.reused += 1);
            let result = self.exchange(conn, request, true).await;
            if matches!(result, Err(Broken::Unread | Broken::Silent)) {
                self.pool.borrow_mut().on_caught(origin, Instant::now());
            }
            match result {
                Err(Broken::Unread) => {}
                Err(Broken::Silent) if request.method.is_safe() => {}
                other => {
                    underway.answered = other.is_ok();
                    return other.map_err(CallbackFailure::from);
                }
            }
            self.count(|usage| usage.resent += 1);
        }
        let keep = self.pool.borrow_mut().may_keep(origin, Instant::now());
        let conn = Box::pin(dial::dial(self, origin)).await?;
        self.count(|usage| usage.dialled += 1);
        let result = self.exchange(conn, request, keep).await;
        underway.answered = result.is_ok();
        result.map_err(CallbackFailure::from)
    }

    async fn exchange(&self, mut conn: Conn, request: &Request, keep: bool) -> Result<CallbackReply, Broken> {
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        conn.begin();
        let terms = Terms {
            keep,
            body_max: self.body_max.get(),
        };
        let result = exchange(&mut conn, &mut buffer, request, terms).await;
        self.recycle(buffer);
        let answer = result?;
        conn.answered();
        if let Some(said) = answer.keep
            && conn.allow(said.max)
        {
            self.give_back(&request.url.origin, conn, said.timeout);
        }
        Ok(answer.reply)
    }

    fn give_back(&self, origin: &Rc<Origin>, conn: Conn, announced: Option<Duration>) {
        let mut pool = self.pool.borrow_mut();
        match pool.give_back(origin, conn, announced, Instant::now()) {
            Returned::Watch(conn) => drop(monoio::spawn(watch(
                self.this.clone(),
                origin.clone(),
                conn,
                pool.epoch(),
            ))),
            Returned::Done => {
                if pool.len() > 0 && !self.sweeping.replace(true) {
                    monoio::spawn(sweep(self.this.clone()));
                }
            }
        }
    }

    fn recycle(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffers.push(buffer);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.usage.get();
        change(&mut usage);
        self.usage.set(usage);
    }

    /// Says why a server cannot be reached, but not thousands of times a second.
    fn complain(&self, origin: &Origin, why: &dyn Display) {
        let now = Instant::now();
        let quiet = self
            .complained
            .get()
            .is_some_and(|last| now - last < COMPLAINT_INTERVAL);
        if !quiet {
            self.complained.set(Some(now));
            tracing::warn!(server = %origin.authority, tls = origin.tls, %why, "cannot connect");
        }
    }
}

/// A call under way, for what the pool knows about its server; ends with the call, however that ends.
struct Underway<'a> {
    client: &'a Inner,
    origin: &'a Origin,
    answered: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut pool = self.client.pool.borrow_mut();
        pool.end(self.origin, self.answered, Instant::now());
    }
}

/// Looks at a connection nobody uses, to learn how long its server leaves it open. At most one for each server, and seldom.
async fn watch(client: Weak<Inner>, origin: Rc<Origin>, conn: Conn, epoch: u64) {
    let (since, mut pause) = (Instant::now(), LOOK_INTERVAL);
    loop {
        monoio::time::sleep(pause).await;
        let Some(client) = client.upgrade() else { return };
        let now = Instant::now();
        let look = client.pool.borrow_mut().look(&origin, &conn, now - since, epoch, now);
        match look {
            Look::Again(after) => pause = after,
            Look::Over => return,
        }
    }
}

/// Closes idle connections as they get old; ends with the last of them, or with the client.
async fn sweep(client: Weak<Inner>) {
    loop {
        let pause = match client.upgrade() {
            Some(client) => client.pool.borrow().sweep_interval(),
            None => return,
        };
        monoio::time::sleep(pause).await;
        let Some(client) = client.upgrade() else { return };
        let mut pool = client.pool.borrow_mut();
        pool.sweep(Instant::now());
        if pool.len() == 0 {
            return client.sweeping.set(false);
        }
    }
}
