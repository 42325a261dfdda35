//! API connections: keep-alive, pipelining in order, HTTP/1.0, chunked bodies, `Expect` (spec: section 15). A connection
//! that asks for a door's path is handed to a shard.
//!
//! A request is refused by its head where that is possible (`surface::begin`); `http/body.rs` receives its body.
//!
//! Bounds: heads by `head_bytes`, bodies by `bodies.rs`, both buffers grow only as bytes arrive; connections by `places.rs`,
//! further ones are answered 503. Who does not send (or take) bytes in time is cut off by one sweep per second.

mod body;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use super::Control;
use super::bodies::Bodies;
use super::callers::{Caller, Quiet};
use super::places::{Full, Phase, Places, Watch};
use super::surface::{self, Received};
use crate::budget::{self, CHUNK, Input, Rank, is_short};
use crate::config::Config;
use crate::engine::ids::ShardId;
use crate::io::mail::{Handover, ShardMail};
use crate::io::stream::Stream;
use crate::limits::LINGERING_MAX;
use crate::metrics::Metric;
use crate::protocol::Door;
use crate::wire::date::http_date;
use crate::wire::http1::answer::{HttpAnswer, Manner};
use crate::wire::http1::{self, RequestHead};

/// Time a caller has for reading the last answer.
const LINGER: Duration = Duration::from_secs(2);
/// Pace of the sweep.
const SWEEP: Duration = Duration::from_secs(1);
/// Answers collected for pipelined requests before they are written.
const CORKED_BYTES_MAX: usize = 64 * 1024;

/// All API connections.
#[derive(Default)]
pub struct Connections {
    /// Who holds them.
    pub places: Places,
    bodies: Bodies,
    /// When it was last said that bodies gave way.
    gave_way: Quiet,
}

/// Cuts off connections whose time is over; ends with the last connection.
async fn sweep(control: Rc<Control>) {
    let places = &control.connections.places;
    loop {
        monoio::time::sleep(SWEEP).await;
        let cut = |watch: &Watch| {
            if watch.phase() == Phase::Receiving {
                control.own_metrics().add(Metric::RefusedApiSlow, 1);
            }
            watch.cut();
        };
        if !places.sweep(control.clock.now(), cut) {
            return places.sweeping.set(false);
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
    let address = told.or_else(|| stream.peer());
    let config = control.config();
    let watch = Watch::new(stream.plug(), Caller::new(address, &config), control.clock.now());
    let places = &control.connections.places;
    let key = places.enter(watch.clone());
    if !places.sweeping.replace(true) {
        monoio::spawn(sweep(control.clone()));
    }
    let mut connection = Connection {
        control: control.clone(),
        stream,
        watch,
        told,
        input: bytes.into(),
        output: budget::Answer::new(),
        written: 0,
    };
    match connection.find_place(&config) {
        Ok(()) => {
            if connection.requests().await == End::HandBack {
                connection.hand_back();
            }
        }
        Err(full) => connection.turn_away(full).await,
    }
    places.leave(key);
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
    input: Input,
    /// Answers not written yet.
    output: budget::Answer,
    /// How much of them is written all the same.
    written: usize,
}

impl Connection {
    /// Looks for a place, which may be one that somebody else has to give up.
    fn find_place(&self, config: &Config) -> Result<(), Full> {
        let signs = || {
            let head = http1::parse_request(&self.input, config.head_bytes).ok().flatten();
            head.is_some_and(|head| surface::seems_signed(&self.control, &head))
        };
        let gives_way = self.control.connections.places.admit(&self.watch, config, signs)?;
        if let Some(other) = gives_way {
            self.control.own_metrics().add(Metric::ApiGaveWay, 1);
            other.cut();
        }
        Ok(())
    }

    /// There is no place.
    async fn turn_away(&mut self, full: Full) {
        let metric = match full {
            Full::All => Metric::RefusedApiConnections,
            Full::Address => Metric::RefusedApiAddress,
        };
        self.control.own_metrics().add(metric, 1);
        self.tell(StatusCode::SERVICE_UNAVAILABLE).await;
        if self.control.connections.places.leaving() <= LINGERING_MAX {
            self.linger().await;
        }
    }

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
            self.enter(Phase::Receiving);
            self.input.consume(head.head_len);
            let Some((answer, mut manner)) = self.answer(&head).await else {
                return End::Closed;
            };
            manner.keep_alive &= self.control.keeps_connection(&head);
            // Whoever does not read its answers must not be given many large ones.
            let is_refused = answer.body.len() > CORKED_BYTES_MAX && is_short(Rank::Answer);
            let answer = if is_refused {
                HttpAnswer::page(StatusCode::SERVICE_UNAVAILABLE)
            } else {
                answer
            };
            let date = http_date(self.control.clock.unix_micros() / 1_000_000);
            self.output.fill(|output| answer.write(output, manner, &date));
            self.enter(Phase::Idle);
            if !manner.keep_alive {
                self.write().await;
                self.linger().await;
                return End::Closed;
            }
        }
    }

    /// What a request is answered, and how. `None`: the connection has ended.
    async fn answer(&mut self, head: &RequestHead) -> Option<(HttpAnswer, Manner)> {
        let manner = Manner::of(head);
        let last = Manner {
            keep_alive: false,
            ..manner
        };
        let control = self.control.clone();
        let begun = surface::begin(&control, head, &self.watch.caller);
        let received = match &begun {
            Ok(begun) if begun.takes_body() => self.body(head, begun).await,
            _ => self
                .skip(head)
                .await
                .map(|skipped| skipped.map(|()| Received::default())),
        };
        let (begun, body) = match (begun, received) {
            (_, Ok(None)) => return None,
            (Err(answer), Ok(Some(_))) => return Some((answer, manner)),
            (Err(answer), Err(status)) if status != StatusCode::BAD_REQUEST => return Some((answer, last)),
            (_, Err(status)) => return Some((HttpAnswer::page(status), last)),
            (Ok(begun), Ok(Some(body))) => (begun, body),
        };
        self.watch.deadline.set(None);
        self.enter(Phase::Answering);
        // Whoever waits long for this answer must not hold back the answers before it.
        let corked = self.output.len() < CORKED_BYTES_MAX && !self.input.is_empty();
        if !self.output.is_empty() && !corked && !self.write().await {
            return None;
        }
        control.decongested().await;
        let answer = surface::respond(&control, head, begun, body, &self.watch.caller).await;
        Some((answer, manner))
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
            if self.input.capacity() >= CHUNK && is_short(Rank::Stranger) {
                self.control.own_metrics().add(Metric::RefusedMemory, 1);
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
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

    /// Writes the collected answers; false if the connection is broken. May be given up half-way and begun again.
    async fn write(&mut self) -> bool {
        loop {
            let sent = match self.output.get(self.written..).unwrap_or_default() {
                [] => self.stream.flush().map(|()| 0),
                rest => self.stream.send(rest, &mut self.control.tls_scratch.borrow_mut()),
            };
            match sent {
                Ok(0) => break,
                Ok(count) => self.written += count,
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
        self.written = 0;
        true
    }

    async fn refuse(&mut self, status: StatusCode) {
        self.tell(status).await;
        self.linger().await;
    }

    /// The last answer.
    async fn tell(&mut self, status: StatusCode) {
        let date = http_date(self.control.clock.unix_micros() / 1_000_000);
        self.output
            .fill(|output| HttpAnswer::page(status).write(output, Manner::LAST, &date));
        self.write().await;
    }

    /// Lets the peer read the last answer: closing with unread input would reset the connection under it.
    async fn linger(&mut self) {
        self.stream.finish();
        self.enter(Phase::Leaving);
        self.give(LINGER);
        self.input.clear();
        while self.read().await {
            self.input.clear();
        }
    }

    fn enter(&self, phase: Phase) {
        self.watch.enter(phase, self.control.clock.now());
    }

    fn give(&self, patience: Duration) {
        self.watch.deadline.set(Some(self.control.clock.now() + patience));
    }

    /// Gives the connection to a shard, in turn.
    fn hand_back(self) {
        let control = &self.control;
        let shards = control.outlets.borrow().shards().max(1);
        let shard = control.next_shard.replace((control.next_shard.get() + 1) % shards);
        match self.stream.hand_over(self.input.into_vec(), self.told) {
            Ok(handover) => control.post_mail(ShardId(shard as u16), ShardMail::Adopt(handover)),
            Err(error) => tracing::warn!(%error, "a client could not be handed to a shard"),
        }
    }
}
