//! What the page says about callbacks. The scheduler keeps its own books and is the only source; it is asked on a scrape.

use super::Shape;
use super::histogram::{Histogram, Snapshot};
use super::render::Page;

/// The books of one kind of callback at one moment. `submitted = success + failed + expired + in_flight + queued`.
#[derive(Clone, Copy, Debug)]
pub struct CallbackFacts<'a> {
    /// Label `kind`.
    pub kind: &'static str,
    /// Taken so far.
    pub submitted: u64,
    /// Answered with 2xx; a close callback with anything below 502.
    pub success: u64,
    /// Answered otherwise or not at all, refused ones included.
    pub failed: u64,
    /// Ended while they waited.
    pub expired: u64,
    /// Of the failed ones, those nobody was asked about: queue full, or breaker open.
    pub refused: u64,
    /// Attempts repeated.
    pub retried: u64,
    /// Neutral requests, to tell a server that fails from requests that make it fail.
    pub checked: u64,
    /// Under way.
    pub in_flight: u64,
    /// Waiting for their turn.
    pub queued: u64,
    /// Most that may be under way now.
    pub limit: u64,
    /// 0 closed, 1 a probe is under way, 2 open.
    pub breaker: u64,
    /// Times the breaker opened.
    pub opened: u64,
    /// Labels of what went wrong, and how often each did.
    pub troubles: (&'static [&'static str], &'a [u64]),
    /// Duration of calls.
    pub latency: &'a Histogram,
}

/// A family of one number per kind: its name, shape, help, and where the number is.
type Family = (&'static str, Shape, &'static str, fn(&CallbackFacts<'_>) -> u64);

/// An event: its label and where its number is.
type Event = (&'static str, fn(&CallbackFacts<'_>) -> u64);

const EVENTS: [Event; 7] = [
    ("submitted", |facts| facts.submitted),
    ("success", |facts| facts.success),
    ("failed", |facts| facts.failed),
    ("expired", |facts| facts.expired),
    ("refused", |facts| facts.refused),
    ("retried", |facts| facts.retried),
    ("checked", |facts| facts.checked),
];

const FAMILIES: [Family; 5] = [
    (
        "rainbow_callbacks_in_flight",
        Shape::Gauge,
        "Calls to the business server under way.",
        |facts| facts.in_flight,
    ),
    (
        "rainbow_callbacks_queued",
        Shape::Gauge,
        "Calls to the business server waiting for their turn or their next attempt.",
        |facts| facts.queued,
    ),
    (
        "rainbow_callback_limit",
        Shape::Gauge,
        "Calls to the business server that may be under way now; below the setting while most fail.",
        |facts| facts.limit,
    ),
    (
        "rainbow_callback_breaker_state",
        Shape::Gauge,
        "0: calls go out. 1: a probe is under way. 2: nothing goes out before the next probe.",
        |facts| facts.breaker,
    ),
    (
        "rainbow_callback_breaker_opens_total",
        Shape::Counter,
        "Times calls stopped because they had failed one after the other.",
        |facts| facts.opened,
    ),
];

pub(super) fn callbacks(page: &mut Page, all: &[CallbackFacts<'_>]) {
    page.head(
        "rainbow_callbacks_total",
        Shape::Counter,
        "Callbacks by what became of them: submitted = success + failed + expired + in flight + queued. Refused ones failed. checked: neutral requests, to tell whether the server fails or what clients send.",
    );
    for facts in all {
        for (event, number) in EVENTS {
            page.series("", &[("kind", facts.kind), ("event", event)], number(facts));
        }
    }
    for (name, shape, help, number) in FAMILIES {
        page.head(name, shape, help);
        for facts in all {
            page.series("", &[("kind", facts.kind)], number(facts));
        }
    }
    page.head(
        "rainbow_callback_troubles_total",
        Shape::Counter,
        "Calls to the business server that did not do what they were for, by reason; repeated attempts each.",
    );
    for facts in all {
        for (reason, number) in facts.troubles.0.iter().zip(facts.troubles.1) {
            page.series("", &[("kind", facts.kind), ("reason", reason)], *number);
        }
    }
    page.begin(
        "rainbow_callback_seconds",
        "histogram",
        "Duration of calls to the business server.",
    );
    for facts in all {
        let mut snapshot = Snapshot::default();
        facts.latency.add_to(&mut snapshot);
        page.histogram(&[("kind", facts.kind)], &snapshot);
    }
}
