//! API connections: keep-alive, pipelining in order, HTTP/1.0, chunked bodies, `Expect` (spec: section 15). A connection
//! that asks for a door's path is handed to a shard.
//!
//! A request is refused by its head where that is possible (`surface::begin`); `http/body.rs` receives its body. Calls that
//! may overlap do not wait for each other (`http/pipeline.rs`); answers leave in the order of the calls.
//!
//! Bounds: heads by `head_bytes`, bodies by `bodies.rs`, both buffers grow only as bytes arrive; connections by `places.rs`,
//! further ones are answered 503. Who does not send (or take) bytes in time is cut off by one sweep per second.

mod body;
mod pipeline;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use self::pipeline::Pipeline;
use super::Control;
use super::bodies::Bodies;
use super::callers::{Caller, Quiet};
use super::places::{Full, Phase, Places, Watch};
use super::surface::{self, Received, Whole};
use crate::budget::{self, CHUNK, Input, Rank, is_short};
use crate::config::Config;
use crate::engine::ids::ShardId;
use crate::io::mail::{Handover, ShardMail};
use crate::io::stream::Stream;
use crate::limits::LINGERING_MAX;
use crate::metrics::Metric;
use crate::protocol::ListenerId;
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
    let origin = (handover.told, handover.listener);
    match Stream::adopt(handover) {
        Ok((stream, bytes)) => drop(monoio::spawn(run(control.clone(), stream, bytes, origin))),
        Err(error) => tracing::warn!(%error, "an API connection could not be taken over"),
    }
}

async fn run(control: Rc<Control>, stream: Stream, bytes: Vec<u8>, origin: (Option<IpAddr>, ListenerId)) {
    let (told, listener) = origin;
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
        listener,
        input: bytes.into(),
        output: budget::Answer::new(),
        written: 0,
        pipeline: Pipeline::default(),
    };
    match connection.find_place(&config) {
        Ok(()) => match connection.requests().await {
            End::HandBack => connection.hand_back(),
            End::Answered => connection.finish().await,
            End::Broken => {}
        },
        Err(full) => connection.turn_away(full).await,
    }
    places.leave(key);
}

/// Why no further request of a connection is looked at.
enum End {
    /// There is nobody to talk to any more.
    Broken,
    /// The last answer has been collected.
    Answered,
    /// A client after all: the request is still in the input, the answers before it are written.
    HandBack,
}

struct Connection {
    control: Rc<Control>,
    stream: Stream,
    watch: Rc<Watch>,
    /// The address a PROXY header told, for when the connection turns out to be a client.
    told: Option<IpAddr>,
    /// Where it came in.
    listener: ListenerId,
    /// Received, not processed.
    input: Input,
    /// Answers not written yet.
    output: budget::Answer,
    /// How much of them is written all the same.
    written: usize,
    /// Calls whose answers are still to come.
    pipeline: Pipeline<HttpAnswer, Asked>,
}

/// What an answer is written with.
struct Asked {
    head: RequestHead,
    manner: Manner,
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
        self.refuse(StatusCode::SERVICE_UNAVAILABLE);
        self.write().await;
        if self.control.connections.places.leaving() <= LINGERING_MAX {
            self.linger().await;
        }
    }

    async fn requests(&mut self) -> End {
        loop {
            if let Err(end) = self.request().await {
                return end;
            }
        }
    }

    /// Takes one request, and answers it unless calls behind it may begin before.
    async fn request(&mut self) -> Result<(), End> {
        let head = self.head().await?;
        if self.listener.door(head.path(), &self.control.config()).is_some() {
            self.settle().await?;
            return Err(if self.write().await { End::HandBack } else { End::Broken });
        }
        self.enter(Phase::Receiving);
        self.input.consume(head.head_len);
        let (call, manner) = self.receive(&head).await?;
        self.watch.deadline.set(None);
        self.enter(Phase::Answering);
        let asked = Asked { head, manner };
        let whole = match call {
            Ok(whole) => whole,
            Err(answer) => {
                self.settle().await?;
                return self.put(answer, asked);
            }
        };
        let is_pipelined = !self.input.is_empty() || !self.pipeline.is_empty();
        if is_pipelined && whole.may_overlap() {
            self.begin(whole, asked).await
        } else {
            self.settle().await?;
            self.uncork(self.input.is_empty()).await?;
            self.control.decongested().await;
            let answer = surface::perform(self.control.clone(), whole).await;
            self.put(answer, asked)
        }
    }

    /// Begins a call before those ahead of it are answered.
    async fn begin(&mut self, whole: Whole, asked: Asked) -> Result<(), End> {
        while self.pipeline.is_full() {
            self.pipeline.answered().await;
            self.collect().await?;
        }
        self.uncork(false).await?;
        self.control.decongested().await;
        let call = surface::perform(self.control.clone(), whole);
        // Other cores are woken once for all calls that are here: by the mailbox loop, when this task waits for something.
        self.control.posts_quietly.set(true);
        self.pipeline.begin(call, asked).await;
        self.control.posts_quietly.set(false);
        self.collect().await
    }

    /// Collects the answers of calls under way that are there, in order.
    async fn collect(&mut self) -> Result<(), End> {
        while let Some((answer, asked)) = self.pipeline.pop_answered().await {
            self.put(answer, asked)?;
        }
        Ok(())
    }

    /// Waits for the answers of all calls under way, and collects them.
    async fn settle(&mut self) -> Result<(), End> {
        self.collect().await?;
        while !self.pipeline.is_empty() {
            self.uncork(true).await?;
            self.watch.deadline.set(None);
            self.enter(Phase::Answering);
            self.pipeline.answered().await;
            self.collect().await?;
        }
        Ok(())
    }

    /// Whoever waits long for the next answer must not hold back those before it: writes them, if nothing more comes at once or
    /// if there are many.
    async fn uncork(&mut self, nothing_comes: bool) -> Result<(), End> {
        let is_due = !self.output.is_empty() && (nothing_comes || self.output.len() >= CORKED_BYTES_MAX);
        if is_due && !self.write().await {
            return Err(End::Broken);
        }
        Ok(())
    }

    /// Collects the answer of the oldest call. An error: it is the last one of this connection.
    fn put(&mut self, answer: HttpAnswer, asked: Asked) -> Result<(), End> {
        let Asked { head, mut manner } = asked;
        // Calls that have begun are answered, also when the server has begun to stop.
        let is_latest = self.pipeline.is_empty();
        manner.keep_alive &= !is_latest || self.control.keeps_connection(&head);
        // Whoever does not read its answers must not be given many large ones.
        let is_refused = answer.body.len() > CORKED_BYTES_MAX && is_short(Rank::Answer);
        let answer = if is_refused {
            HttpAnswer::page(StatusCode::SERVICE_UNAVAILABLE)
        } else {
            answer
        };
        let date = http_date(self.control.clock.unix_micros() / 1_000_000);
        self.output.fill(|output| answer.write(output, manner, &date));
        if is_latest {
            self.enter(Phase::Idle);
        }
        if manner.keep_alive { Ok(()) } else { Err(End::Answered) }
    }

    /// A request with its body, or what it is answered without; and how.
    async fn receive(&mut self, head: &RequestHead) -> Result<(Result<Whole, HttpAnswer>, Manner), End> {
        let manner = Manner::of(head);
        let last = Manner {
            keep_alive: false,
            ..manner
        };
        let control = self.control.clone();
        let begun = surface::begin(&control, head, &self.watch.caller);
        // What has to be waited for must not hold up answers.
        if !head.framing.is_received(&self.input) {
            self.settle().await?;
        }
        let received = match &begun {
            Ok(begun) if begun.takes_body() => self.body(head, begun).await,
            _ => self
                .skip(head)
                .await
                .map(|skipped| skipped.map(|()| Received::default())),
        };
        Ok(match (begun, received) {
            (_, Ok(None)) => return Err(End::Broken),
            (Err(answer), Ok(Some(_))) => (Err(answer), manner),
            (Err(answer), Err(status)) if status != StatusCode::BAD_REQUEST => (Err(answer), last),
            (Err(_), Err(status)) => (Err(HttpAnswer::page(status)), last),
            (Ok(begun), Err(status)) => (Err(begun.refused(status)), last),
            (Ok(begun), Ok(Some(body))) => {
                let whole = surface::complete(&control, head, begun, body, &self.watch.caller);
                (whole, manner)
            }
        })
    }

    /// The next request head.
    async fn head(&mut self) -> Result<RequestHead, End> {
        let config = self.control.config();
        loop {
            match http1::parse_request(&self.input, config.head_bytes) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => {
                    self.settle().await?;
                    return Err(self.refuse(error.status()));
                }
            }
            self.settle().await?;
            if !self.write().await {
                return Err(End::Broken);
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
                return Err(End::Broken);
            }
            if was_empty {
                self.give(config.handshake_timeout);
            }
            if self.input.capacity() >= CHUNK && is_short(Rank::Stranger) {
                self.control.own_metrics().add(Metric::RefusedMemory, 1);
                return Err(self.refuse(StatusCode::SERVICE_UNAVAILABLE));
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

    /// Collects the last answer.
    fn refuse(&mut self, status: StatusCode) -> End {
        let date = http_date(self.control.clock.unix_micros() / 1_000_000);
        self.output
            .fill(|output| HttpAnswer::page(status).write(output, Manner::LAST, &date));
        End::Answered
    }

    /// Writes what was collected, and ends.
    async fn finish(&mut self) {
        self.write().await;
        self.linger().await;
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
        match self.stream.hand_over(self.input.into_vec(), self.told, self.listener) {
            Ok(handover) => control.post_mail(ShardId(shard as u16), ShardMail::Adopt(handover)),
            Err(error) => tracing::warn!(%error, "a client could not be handed to a shard"),
        }
    }
}
