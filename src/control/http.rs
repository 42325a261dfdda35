//! API connections: keep-alive, pipelining in order, HTTP/1.0, chunked bodies, `Expect` (spec: section 15). A connection
//! that asks for a door's path is handed to a shard.
//!
//! Bounds: heads by `head_bytes`, bodies by `api_body_max`, all of them together by `api_bodies_max`, both buffers grow only as
//! bytes arrive; at most `api_connections`, further ones are answered 503. Who does not send (or take) bytes in time is cut off by
//! one sweep per second, so that no connection holds a timer; without connections it rests.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use slab::Slab;

use super::Control;
use super::bodies::Bodies;
use super::routes;
use crate::engine::ids::ShardId;
use crate::io::mail::{Handover, ShardMail};
use crate::io::stream::Stream;
use crate::io::sys;
use crate::metrics::Metric;
use crate::protocol::Door;
use crate::protocol::rainbow::answer::{HttpAnswer, Manner};
use crate::time::Instant;
use crate::wire::date::http_date;
use crate::wire::http1::{self, BodyDecoder, BodyError, RequestHead};

/// Refused connections that are given time to read why; further ones are closed at once.
const LINGERING_MAX: usize = 256;
/// Pace of the sweep.
const SWEEP: Duration = Duration::from_secs(1);
/// Answers collected for pipelined requests before they are written.
const CORKED_BYTES_MAX: usize = 64 * 1024;

/// All API connections.
#[derive(Default)]
pub struct Connections {
    watches: RefCell<Slab<Rc<Watch>>>,
    bodies: Bodies,
    /// The sweep runs.
    sweeping: Cell<bool>,
}

/// What the sweep looks at.
pub struct Watch {
    fd: RawFd,
    /// When to cut the connection off; `None` while its request is being answered.
    deadline: Cell<Option<Instant>>,
    /// Nothing of a request has been received, or it was answered.
    idle: Cell<bool>,
}

impl Connections {
    /// No request is waiting for its answer.
    pub fn all_answered(&self) -> bool {
        self.watches.borrow().iter().all(|(_, watch)| watch.idle.get())
    }
}

/// Cuts off connections whose time is over; ends with the last connection.
async fn sweep(control: Rc<Control>) {
    loop {
        monoio::time::sleep(SWEEP).await;
        let now = control.clock.now();
        let connections = &control.connections;
        if connections.watches.borrow().is_empty() {
            return connections.sweeping.set(false);
        }
        for (_, watch) in connections.watches.borrow().iter() {
            if watch.deadline.get().is_some_and(|deadline| deadline <= now) {
                sys::shutdown(watch.fd);
            }
        }
    }
}

/// Starts to serve a connection that a shard handed over.
pub fn serve(control: &Rc<Control>, handover: Handover) {
    let told = handover.told;
    match Stream::adopt(handover) {
        Ok((stream, bytes)) => drop(monoio::spawn(run(control.clone(), stream, bytes, told))),
        Err(error) => tracing::warn!(%error, "an API connection could not be taken over"),
    }
}

async fn run(control: Rc<Control>, stream: Stream, bytes: Vec<u8>, told: Option<IpAddr>) {
    let watch = Rc::new(Watch {
        fd: stream.fd(),
        deadline: Cell::new(None),
        idle: Cell::new(true),
    });
    let key = control.connections.watches.borrow_mut().insert(watch.clone());
    if !control.connections.sweeping.replace(true) {
        monoio::spawn(sweep(control.clone()));
    }
    let mut connection = Connection {
        control: control.clone(),
        stream,
        watch,
        told,
        input: bytes,
        output: Vec::new(),
    };
    let open = control.connections.watches.borrow().len();
    let beyond = open.saturating_sub(control.config().api_connections);
    if beyond > 0 {
        control.own_metrics().add(Metric::RefusedApiConnections, 1);
        connection.tell(StatusCode::SERVICE_UNAVAILABLE).await;
        if beyond <= LINGERING_MAX {
            connection.linger().await;
        }
    } else if connection.requests().await == End::HandBack {
        connection.hand_back();
    }
    control.connections.watches.borrow_mut().remove(key);
}

/// How a connection ended.
#[derive(PartialEq, Eq)]
enum End {
    /// For good.
    Closed,
    /// A client after all: the request is still in the input.
    HandBack,
}

struct Connection {
    control: Rc<Control>,
    stream: Stream,
    watch: Rc<Watch>,
    /// The address a PROXY header told, for when the connection turns out to be a client.
    told: Option<IpAddr>,
    /// Received, not processed.
    input: Vec<u8>,
    /// Answers not written yet.
    output: Vec<u8>,
}

impl Connection {
    async fn requests(&mut self) -> End {
        loop {
            let head = match self.head().await {
                Ok(Some(head)) => head,
                Ok(None) => return End::Closed,
                Err(status) => {
                    self.refuse(status).await;
                    return End::Closed;
                }
            };
            if Door::at(head.path(), &self.control.config()).is_some() {
                return if self.write().await { End::HandBack } else { End::Closed };
            }
            self.watch.idle.set(false);
            self.input.drain(..head.head_len);
            let body = match self.body(&head).await {
                Ok(Some(body)) => body,
                Ok(None) => return End::Closed,
                Err(status) => {
                    self.refuse(status).await;
                    return End::Closed;
                }
            };
            self.watch.deadline.set(None);
            // Whoever waits long for this answer must not hold back the answers before it.
            let corked = self.output.len() < CORKED_BYTES_MAX && !self.input.is_empty();
            if !self.output.is_empty() && !corked && !self.write().await {
                return End::Closed;
            }
            self.control.decongested().await;
            let answer = routes::respond(&self.control, &head, body, self.stream.fd()).await;
            let mut manner = Manner::of(&head);
            manner.keep_alive &= self.control.keeps_connection(&head);
            answer.write(
                &mut self.output,
                manner,
                &http_date(self.control.clock.unix_micros() / 1_000_000),
            );
            self.watch.idle.set(true);
            if !manner.keep_alive {
                self.write().await;
                self.linger().await;
                return End::Closed;
            }
        }
    }

    /// The next request head, or `None` at the end of the connection.
    async fn head(&mut self) -> Result<Option<RequestHead>, StatusCode> {
        let config = self.control.config();
        loop {
            if let Some(head) = http1::parse_request(&self.input, config.head_bytes).map_err(|error| error.status())? {
                return Ok(Some(head));
            }
            if !self.write().await {
                return Ok(None);
            }
            let patience = if self.input.is_empty() {
                config.api_idle_timeout
            } else {
                config.handshake_timeout
            };
            if self.input.is_empty() || self.watch.deadline.get().is_none() {
                self.give(patience);
            }
            let was_empty = self.input.is_empty();
            if !self.read().await {
                return Ok(None);
            }
            if was_empty {
                self.give(config.handshake_timeout);
            }
        }
    }

    /// The body of the request, or `None` if the connection ended inside it.
    async fn body(&mut self, head: &RequestHead) -> Result<Option<Vec<u8>>, StatusCode> {
        let config = self.control.config();
        let mut decoder = BodyDecoder::new(head.framing, config.api_body_max as u64).map_err(body_status)?;
        let mut body = Vec::new();
        let control = self.control.clone();
        let mut share = control.connections.bodies.begin();
        if head.expect_continue && self.input.is_empty() && !decoder.is_done() {
            self.output.extend_from_slice(http1::CONTINUE);
            if !self.write().await {
                return Ok(None);
            }
        }
        while !decoder.is_done() {
            let progress = decoder.feed(&self.input, &mut body).map_err(body_status)?;
            self.input.drain(..progress.consumed);
            if !share.grow(body.len(), config.api_bodies_max) {
                control.own_metrics().add(Metric::RefusedApiBodies, 1);
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            if progress.done {
                break;
            }
            if !self.write().await {
                return Ok(None);
            }
            self.give(config.api_idle_timeout);
            if !self.read().await {
                return Ok(None);
            }
        }
        Ok(Some(body))
    }

    /// Receives into the input; false at the end of the connection.
    async fn read(&mut self) -> bool {
        // A socket was read empty, or it is the turn of others. A session may hold more than its socket.
        let mut is_ready = self.stream.is_tls();
        loop {
            if !is_ready && self.stream.readable().await.is_err() {
                return false;
            }
            let received = {
                let mut scratch = self.control.scratch.borrow_mut();
                let received = self
                    .stream
                    .receive(&mut scratch, &mut self.control.tls_scratch.borrow_mut());
                if let Ok(count) = received {
                    self.input.extend_from_slice(scratch.get(..count).unwrap_or_default());
                }
                received
            };
            match received {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => is_ready = false,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Writes the collected answers; false if the connection is broken.
    async fn write(&mut self) -> bool {
        let mut written = 0;
        loop {
            let sent = match self.output.get(written..).unwrap_or_default() {
                [] => self.stream.flush().map(|()| 0),
                rest => self.stream.send(rest, &mut self.control.tls_scratch.borrow_mut()),
            };
            match sent {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.give(self.control.config().api_idle_timeout);
                    if self.stream.writable().await.is_err() {
                        return false;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.clear();
        true
    }

    async fn refuse(&mut self, status: StatusCode) {
        self.tell(status).await;
        self.linger().await;
    }

    /// The last answer.
    async fn tell(&mut self, status: StatusCode) {
        let date = http_date(self.control.clock.unix_micros() / 1_000_000);
        HttpAnswer::page(status).write(&mut self.output, Manner::LAST, &date);
        self.write().await;
    }

    /// Lets the peer read the last answer: closing with unread input would reset the connection under it.
    async fn linger(&mut self) {
        self.stream.finish();
        self.give(Duration::from_secs(2));
        self.input.clear();
        while self.read().await {
            self.input.clear();
        }
    }

    fn give(&self, patience: Duration) {
        self.watch.deadline.set(Some(self.control.clock.now() + patience));
    }

    /// Gives the connection to a shard, in turn.
    fn hand_back(self) {
        let control = &self.control;
        let shards = control.outlets.borrow().shards().max(1);
        let shard = control.next_shard.replace((control.next_shard.get() + 1) % shards);
        match self.stream.hand_over(self.input, self.told) {
            Ok(handover) => control.post_mail(ShardId(shard as u16), ShardMail::Adopt(handover)),
            Err(error) => tracing::warn!(%error, "a client could not be handed to a shard"),
        }
    }
}

fn body_status(error: BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}
