//! Receives the body of a request, if somebody will read it.
//!
//! A body nobody will read is thrown away as it comes if it is at most [`SKIPPED_MAX`]; before a longer one the connection ends. So
//! without the secret nobody makes the server hold a body, except where the signature covers it. Such a body is hashed as it
//! arrives, and gives way to those of callers who are known (`bodies.rs`).
//!
//! Bounds: `api_body_max` each, `api_bodies_max` together, `api_body_rate`.

use std::time::Duration;

use http::StatusCode;

use super::Connection;
use crate::config::Config;
use crate::control::surface::{Begun, Received};
use crate::metrics::Metric;
use crate::wire::http1::{self, BodyDecoder, BodyError, BodyHash, RequestHead};

/// Longest body of a refused request, or of one that takes none, that is thrown away to keep the connection: a caller with a
/// pool should not lose a connection with each mistake.
const SKIPPED_MAX: u64 = 64 * 1024;
/// What `api_body_rate` is measured over.
const RATE_WINDOW: Duration = Duration::from_secs(10);

impl Connection {
    /// The body of the request, or `None` if the connection ended inside it.
    pub(super) async fn body(&mut self, head: &RequestHead, begun: &Begun) -> Result<Option<Received>, StatusCode> {
        let config = self.control.config();
        let most = begun.body_max(&config) as u64;
        let mut decoder = BodyDecoder::new(head.framing, most).map_err(body_status)?;
        let mut body = Vec::new();
        let mut hash = begun.is_hashed().then(BodyHash::default);
        let control = self.control.clone();
        let caller = &self.watch.caller;
        let standing = caller.standing(!begun.is_unproven());
        let mut share = control.connections.bodies.begin(standing, caller.counted());
        if head.expect_continue && self.input.is_empty() && !decoder.is_done() {
            self.output.extend_from_slice(http1::CONTINUE);
        }
        let mut pace = Pace::new(&config);
        self.give(pace.window);
        while !decoder.is_done() {
            let before = body.len();
            let progress = decoder.feed(&self.input, &mut body).map_err(body_status)?;
            self.input.consume(progress.consumed);
            if let Some(hash) = &mut hash {
                hash.update(body.get(before..).unwrap_or_default());
            }
            if !share.grow(body.len(), config.api_bodies_max) {
                control.own_metrics().add(Metric::RefusedApiBodies, 1);
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            if progress.done {
                break;
            }
            match share.unless_it_gives_way(self.more(&mut pace)).await {
                Some(true) => {}
                Some(false) => return Ok(None),
                None => return Err(self.gives_way()),
            }
        }
        Ok(Some(Received {
            bytes: body,
            sha256: hash.map(BodyHash::finish),
        }))
    }

    /// Throws the body of a request away, keeping nothing of it. An error: the connection has to end behind the answer, since
    /// the body is too long for that, or broken, or its sender waits to be told to go on. `None`: it has ended.
    pub(super) async fn skip(&mut self, head: &RequestHead) -> Result<Option<()>, StatusCode> {
        let mut decoder = BodyDecoder::new(head.framing, SKIPPED_MAX).map_err(body_status)?;
        if head.expect_continue && self.input.is_empty() && !decoder.is_done() {
            return Err(StatusCode::EXPECTATION_FAILED);
        }
        let mut pace = Pace::new(&self.control.config());
        self.give(pace.window);
        let mut piece = Vec::new();
        while !decoder.is_done() {
            let progress = decoder.feed(&self.input, &mut piece).map_err(body_status)?;
            self.input.consume(progress.consumed);
            piece.clear();
            if !progress.done && !self.more(&mut pace).await {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    /// The memory of its body is needed for that of a caller who is known.
    fn gives_way(&self) -> StatusCode {
        self.control.own_metrics().add(Metric::RefusedApiBodyGaveWay, 1);
        if let Some(bodies) = self.control.connections.gave_way.count(self.control.clock.now()) {
            let from = self.watch.caller.address().map(tracing::field::display);
            tracing::warn!(
                from,
                bodies,
                advice = "somebody sends bodies slowly, or many of them, and is not known to have the secret: close the port to \
                          strangers, or lower api_body_max and api_connections_per_address; a caller that keeps its connection is known after its \
                          first signed call",
                "request bodies of callers who have proved nothing gave way to others, which is answered 503: api_bodies_max is used up"
            );
        }
        StatusCode::SERVICE_UNAVAILABLE
    }

    /// Receives more of a body, and gives time for the rest as long as it comes fast enough; false at the end of the connection.
    async fn more(&mut self, pace: &mut Pace) -> bool {
        if !self.output.is_empty() {
            if !self.write().await {
                return false;
            }
            self.give(pace.window);
        }
        let before = self.input.len();
        let is_open = self.read().await;
        if pace.is_kept_with(self.input.len().saturating_sub(before)) {
            self.give(pace.window);
        }
        is_open
    }
}

/// How fast a body comes: each window has to bring its bytes before it ends.
struct Pace {
    window: Duration,
    bytes_per_window: usize,
    received: usize,
}

impl Pace {
    fn new(config: &Config) -> Self {
        let window = match config.api_body_rate {
            0 => config.api_idle_timeout,
            _ => config.api_idle_timeout.min(RATE_WINDOW),
        };
        let bytes = u128::from(config.api_body_rate as u64) * window.as_millis() / 1000;
        Self {
            window,
            bytes_per_window: usize::try_from(bytes).unwrap_or(usize::MAX).max(1),
            received: 0,
        }
    }

    /// With these bytes the window has brought enough: the next one begins.
    fn is_kept_with(&mut self, bytes: usize) -> bool {
        self.received = self.received.saturating_add(bytes);
        let is_enough = self.received >= self.bytes_per_window;
        if is_enough {
            self.received = 0;
        }
        is_enough
    }
}

fn body_status(error: BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}
