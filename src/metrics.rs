//! Counters of one core, and the page `/metrics` shows.
//!
//! Each core owns one [`CoreMetrics`] and is its **only writer**, so counting is a relaxed load and store on lines no other
//! core writes: no locked instruction, no shared line. Readers (the control core, on a scrape) may see a counter one step
//! late, never torn. Every label set is fixed at start, so the page has a bounded size: no client, channel or URL becomes a
//! label. Callers: shards and control count, `control` renders. The table of names is [`METRICS`].

mod callbacks;
mod histogram;
mod render;

pub use callbacks::CallbackFacts;
pub use histogram::Histogram;
pub use render::{Extra, Gauge, render};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number with one writer and many readers. Gauges wrap below zero on one core only if another core counts the rest; the
/// sum over the cores is right.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How a number behaves, for the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Name on the page; rows of one name stand together.
    pub name: &'static str,
    /// Fixed label in exposition form (`result="ok"`), or empty.
    pub label: &'static str,
    /// Counter or gauge.
    pub shape: Shape,
    /// Whether the page shows it for each core (label `core`) or as the sum.
    pub per_core: bool,
    /// Text of the HELP line.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($variant:ident $shape:ident $name:literal [$label:literal] $spread:ident $help:literal;)+) => {
        /// The numbers without a computed label. [`METRICS`] says what they are called and what they mean.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Metric { $(#[doc = $help] $variant,)+ }

        impl Metric {
            /// Every metric in the order of the table.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant),+];
        }

        /// The table, in the order of [`Metric::ALL`].
        pub static METRICS: &[Row] = &[$(Row {
            name: concat!("rainbow_", $name),
            label: $label,
            shape: Shape::$shape,
            per_core: matches!(Spread::$spread, Spread::Cores),
            help: $help,
        }),+];
    };
}

enum Spread {
    Cores,
    Sum,
}

metrics! {
    ConnectionsOpen Gauge "connections_open" [""] Cores "Sockets held, handshaking ones included.";
    SessionsOpen Gauge "sessions_open" [""] Cores "Clients admitted and open.";
    Accepted Counter "accepted_total" [""] Cores "Sockets accepted.";
    Handshakes Counter "handshakes_total" [""] Sum "Websocket handshakes answered with 101.";
    TlsHandshakesDone Counter "tls_handshakes_total" [r#"result="done""#] Sum "TLS handshakes by result.";
    TlsHandshakesFailed Counter "tls_handshakes_total" [r#"result="failed""#] Sum "TLS handshakes by result.";
    TlsHandshakesOpen Gauge "tls_handshakes_open" [""] Cores "TLS handshakes under way, from the first byte on; at most tls_handshakes.";
    HandedOver Counter "handed_over_total" [""] Sum "Connections handed to another core, because their request belongs there.";
    FramesIn Counter "frames_in_total" [""] Sum "Websocket frames received.";
    FramesOut Counter "frames_out_total" [""] Sum "Websocket frames queued to clients.";
    BytesIn Counter "bytes_in_total" [""] Sum "Bytes received from sockets.";
    BytesOut Counter "bytes_out_total" [""] Sum "Bytes written to sockets.";
    Forwarded Counter "messages_forwarded_total" [""] Sum "Client messages given to the callback client.";
    ReadsPaused Gauge "reads_paused" [""] Sum "Clients not being read: their messages wait for the business server, or they are over their rate.";
    Publishes Counter "publishes_total" [""] Sum "Publish requests taken.";
    PublishTimeouts Counter "publish_timeouts_total" [""] Sum "Publish requests answered with timeout.";
    Deliveries Counter "deliveries_total" [""] Sum "Messages delivered, one for each member of a channel.";
    Redeliveries Counter "redeliveries_total" [""] Sum "QoS 1 and 2 messages sent again.";
    Acks Counter "acks_total" [""] Sum "Deliveries acknowledged.";
    AckDataTooLong Counter "ack_data_left_out_total" [r#"reason="too_long""#] Sum "Acknowledgements whose data was not passed on to the caller, by reason.";
    AckDataMemory Counter "ack_data_left_out_total" [r#"reason="memory""#] Sum "Acknowledgements whose data was not passed on to the caller, by reason.";
    AuthOk Counter "auth_total" [r#"result="ok""#] Sum "Connect callbacks by result.";
    AuthDenied Counter "auth_total" [r#"result="denied""#] Sum "Connect callbacks by result.";
    AuthUnavailable Counter "auth_total" [r#"result="unavailable""#] Sum "Connect callbacks by result.";
    AuthGone Counter "auth_total" [r#"result="gone""#] Sum "Connect callbacks by result.";
    ParametersWithheld Counter "query_headers_withheld_total" [""] Sum "Clients with a query parameter that query_headers does not let them set as a header.";
    UsersTooLong Counter "uids_refused_total" [""] Sum "Clients that belong to no user because the uid of their connect answer is too long.";
    SignaturesWrong Counter "signatures_refused_total" [r#"reason="wrong""#] Sum "Calls whose signature was not accepted.";
    SignaturesMissing Counter "signatures_refused_total" [r#"reason="missing""#] Sum "Calls whose signature was not accepted.";
    SignaturesStale Counter "signatures_refused_total" [r#"reason="clock""#] Sum "Calls whose signature was not accepted.";
    SignaturesScheme Counter "signatures_refused_total" [r#"reason="scheme""#] Sum "Calls whose signature was not accepted.";
    SignaturesReplayed Counter "signatures_refused_total" [r#"reason="replayed""#] Sum "Calls whose signature was not accepted.";
    SignaturesAstray Counter "signatures_refused_total" [r#"reason="astray""#] Sum "Calls whose signature was not accepted.";
    SignaturesNoRoom Counter "signatures_refused_total" [r#"reason="no_room""#] Sum "Calls whose signature was not accepted.";
    MailboxKicks Counter "mailbox_kicks_total" [""] Cores "Wake-ups of a sleeping core.";
    MailboxOverflows Counter "mailbox_overflows_total" [""] Cores "Envelopes that found a full mailbox.";
    OutboxOverflows Counter "outbox_overflows_total" [""] Sum "Clients closed because their outbox was full.";
    OutboxExpired Counter "outbox_expired_total" [""] Sum "Clients closed because bytes waited too long in their outbox.";
    OutboxDrops Counter "outbox_drops_total" [""] Sum "Times that old messages were dropped from an outbox.";
    OutboxDroppedBytes Counter "outbox_dropped_bytes_total" [""] Sum "Bytes of the messages dropped from outboxes.";
    GaveWayBegun Counter "gave_way_total" [r#"what="begun""#] Sum "Clients that gave way because memory was short: closed with a begun message, not read for a while, or closed because they lag.";
    GaveWayForwards Counter "gave_way_total" [r#"what="forwards""#] Sum "Clients that gave way because memory was short: closed with a begun message, not read for a while, or closed because they lag.";
    GaveWayLagging Counter "gave_way_total" [r#"what="lagging""#] Sum "Clients that gave way because memory was short: closed with a begun message, not read for a while, or closed because they lag.";
    RatePauses Counter "rate_pauses_total" [""] Sum "Pauses of clients that sent faster than they may.";
    PingsSent Counter "pings_sent_total" [""] Sum "Pings to clients that had sent nothing for a while.";
    ChannelsRefused Counter "channels_refused_total" [""] Sum "Subscriptions refused to clients in too many channels.";
    HandshakesOpen Gauge "handshakes_open" [""] Cores "Connections without a complete request head.";
    RefusedFull Counter "refused_total" [r#"reason="connections""#] Sum "Connections refused by reason.";
    RefusedAddress Counter "refused_total" [r#"reason="address""#] Sum "Connections refused by reason.";
    RefusedHandshakes Counter "refused_total" [r#"reason="handshakes""#] Sum "Connections refused by reason.";
    RefusedMemory Counter "refused_total" [r#"reason="memory""#] Sum "Connections refused by reason.";
    RefusedDescriptors Counter "refused_total" [r#"reason="descriptors""#] Sum "Connections refused by reason.";
    RefusedOrigin Counter "refused_total" [r#"reason="origin""#] Sum "Connections refused by reason.";
    RefusedAnonymous Counter "refused_total" [r#"reason="no_device_id""#] Sum "Connections refused by reason.";
    RefusedHead Counter "refused_total" [r#"reason="head_too_long""#] Sum "Connections refused by reason.";
    RefusedAuthQueue Counter "refused_total" [r#"reason="auth_queue""#] Sum "Connections refused by reason.";
    RefusedApiConnections Counter "refused_total" [r#"reason="api_connections""#] Sum "Connections refused by reason.";
    RefusedApiBodies Counter "refused_total" [r#"reason="api_bodies""#] Sum "Connections refused by reason.";
    RefusedApiAddress Counter "refused_total" [r#"reason="api_address""#] Sum "Connections refused by reason.";
    RefusedApiBodyGaveWay Counter "refused_total" [r#"reason="api_body_gave_way""#] Sum "Connections refused by reason.";
    RefusedApiSlow Counter "refused_total" [r#"reason="api_body_rate""#] Sum "Connections refused by reason.";
    RefusedProxyHeader Counter "refused_total" [r#"reason="proxy_header""#] Sum "Connections refused by reason.";
    ApiGaveWay Counter "api_gave_way_total" [""] Sum "Connections to the HTTP interface closed to make room for others.";
    Draining Gauge "draining" [""] Sum "Workers that are closing their clients, because the server stops or is replaced.";
    Panics Counter "panics_total" [""] Sum "Panics contained; each cost one client.";
}

/// Labels of the status classes of API answers.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Label sets that other layers know.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// Close causes, in the order of the indices given to [`CoreMetrics::count_close`].
    pub close_causes: &'static [&'static str],
    /// API routes, in the order of the indices given to [`CoreMetrics::count_api`].
    pub api_routes: &'static [&'static str],
}

/// The numbers of one core. Aligned so that two cores never share a line (128: adjacent-line prefetch). About 2 kB.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    values: [Cell; METRICS.len()],
    publish_latency: Histogram,
    /// One per close cause.
    closes: Box<[Cell]>,
    /// One row per API route.
    api: Box<[[Cell; STATUS_CLASSES.len()]]>,
    labels: Labels,
    core: String,
    driver: OnceLock<&'static str>,
}

impl CoreMetrics {
    /// Numbers of the core shown as `core` ("0", "1", "control"), all zero.
    pub fn new(core: impl Into<String>, labels: Labels) -> CoreMetrics {
        CoreMetrics {
            values: std::array::from_fn(|_| Cell::default()),
            publish_latency: Histogram::default(),
            closes: labels.close_causes.iter().map(|_| Cell::default()).collect(),
            api: labels.api_routes.iter().map(|_| Default::default()).collect(),
            labels,
            core: core.into(),
            driver: OnceLock::new(),
        }
    }

    /// Tells which driver this core's runtime runs on ("io_uring", "epoll"). The first call counts.
    pub fn set_driver(&self, driver: &'static str) {
        let _ = self.driver.set(driver);
    }

    /// Adds `n`.
    pub fn add(&self, metric: Metric, n: u64) {
        self.cell(metric).add(n);
    }

    /// Takes `n` from a gauge.
    pub fn sub(&self, metric: Metric, n: u64) {
        self.cell(metric).sub(n);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: u64) {
        self.cell(metric).set(value);
    }

    /// The number now.
    pub fn value(&self, metric: Metric) -> u64 {
        self.cell(metric).value()
    }

    /// Counts a closed connection. An index without label is not counted.
    pub fn count_close(&self, cause: usize) {
        if let Some(cell) = self.closes.get(cause) {
            cell.add(1);
        }
    }

    /// Counts an answered API request. An unknown route or status is not counted.
    pub fn count_api(&self, route: usize, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        let row = self.api.get(route);
        if let Some(cell) = row.zip(class).and_then(|(row, class)| row.get(class)) {
            cell.add(1);
        }
    }

    /// Notes how long a publish with acknowledgement took until it was answered.
    pub fn observe_publish(&self, took: Duration) {
        self.publish_latency.observe(took);
    }

    fn cell(&self, metric: Metric) -> &Cell {
        // In range: the enum and the array come from one table.
        &self.values[metric as usize]
    }
}

#[cfg(test)]
#[path = "metrics/metrics_tests.rs"]
mod tests;
