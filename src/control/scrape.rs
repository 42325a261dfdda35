//! What `/metrics` says beyond the cores' own counters: collected when it is asked for, from those who keep the books.

use std::sync::Arc;

use super::Control;
use super::callback::{Callbacks, Trouble, Troubles};
use super::process;
use crate::budget::{OF_PROCESS, Use};
use crate::engine::hook::Hook;
use crate::metrics::{CallbackFacts, Extra, Gauge, Histogram, render};
use crate::time::Instant;
use crate::wire::http1::answer::HttpAnswer;

/// Labels of the uses of memory, in the order of [`Use::ALL`].
const USES: [[(&str, &str); 1]; Use::ALL.len()] = {
    let mut labels = [[("use", "")]; Use::ALL.len()];
    let mut at = 0;
    while at < labels.len() {
        labels[at] = [("use", Use::LABELS[at])];
        at += 1;
    }
    labels
};

/// The page.
pub fn metrics(control: &Control) -> HttpAnswer {
    let cores: Vec<_> = control.metrics.iter().map(Arc::as_ref).collect();
    let used = |hook| control.callbacks.is_used(hook);
    let hooks: Vec<_> = control.callbacks.latencies().filter(|(hook, _)| used(*hook)).collect();
    let troubles: Vec<_> = hooks
        .iter()
        .map(|(hook, _)| control.callbacks.troubles(*hook))
        .collect();
    let callbacks: Vec<_> = hooks
        .iter()
        .zip(&troubles)
        .map(|((hook, latency), troubles)| facts(&control.callbacks, *hook, troubles, latency))
        .collect();
    let page = render(
        &cores,
        Extra {
            uptime: control.clock.now().since(Instant::ZERO),
            callbacks: &callbacks,
            gauges: &gauges(control),
        },
    );
    HttpAnswer {
        content_type: "text/plain; version=0.0.4; charset=utf-8",
        ..HttpAnswer::ok(page)
    }
}

fn facts<'a>(
    callbacks: &'a Callbacks,
    hook: Hook,
    troubles: &'a Troubles,
    latency: &'a Histogram,
) -> CallbackFacts<'a> {
    let (counts, health) = (callbacks.counts(hook), callbacks.health(hook));
    CallbackFacts {
        kind: callbacks.kind(hook),
        submitted: counts.submitted,
        success: counts.success,
        failed: counts.failed,
        expired: counts.expired,
        refused: counts.overloaded,
        retried: counts.retried,
        checked: counts.checked,
        in_flight: counts.in_flight,
        queued: counts.queued,
        limit: health.limit as u64,
        breaker: health.breaker as u64,
        opened: counts.opened,
        troubles: (Trouble::LABELS, troubles),
        latency,
    }
}

fn gauges(control: &Control) -> Vec<Gauge<'static>> {
    let usage = control.client.usage();
    let gauge = |name, help, value| Gauge {
        name,
        help,
        labels: &[],
        value,
    };
    let mut gauges = vec![
        gauge(
            "rainbow_publishes_open",
            "Publishes whose caller waits.",
            control.desk.borrow().publishes() as f64,
        ),
        gauge(
            "rainbow_callback_connections_idle",
            "Pooled callback connections.",
            usage.idle as f64,
        ),
        gauge(
            "rainbow_callback_connections_opened_total",
            "Callback connections opened so far.",
            usage.dialled as f64,
        ),
        gauge(
            "rainbow_callback_connections_reused_total",
            "Calls made on a kept callback connection so far.",
            usage.reused as f64,
        ),
        gauge(
            "rainbow_signatures_remembered",
            "Signatures that would be recognised as used before.",
            control.surfaces.signatures() as f64,
        ),
        gauge(
            "rainbow_cluster_peers",
            "Other servers of the cluster.",
            control.cluster.count() as f64,
        ),
        gauge(
            "rainbow_log_lines_dropped_total",
            "Lines of the log lost because standard error was too slow.",
            crate::log::dropped_lines() as f64,
        ),
    ];
    let (read_at, is_in_force) = control.reloads.result();
    gauges.push(gauge(
        "rainbow_reload_timestamp_seconds",
        "When the settings were read last, at start or by a reload, in seconds since 1970.",
        read_at as f64,
    ));
    gauges.push(gauge(
        "rainbow_reload_successful",
        "1: what was read then is in force. 0: that reload was refused, the log says why, older settings are in force.",
        f64::from(u8::from(is_in_force)),
    ));
    gauges.extend(Use::ALL.iter().zip(&USES).map(|(of, labels)| Gauge {
        name: "rainbow_memory_held_bytes",
        help: "Memory in pieces of 4 KiB and more by what it is used for.",
        labels,
        value: OF_PROCESS.used(*of) as f64,
    }));
    gauges.push(gauge(
        "rainbow_memory_held_limit_bytes",
        "What all uses together may hold: memory_max without what clients take that only wait.",
        OF_PROCESS.limit() as f64,
    ));
    let expiry = control.certificate_expiry.get();
    gauges.extend(expiry.map(|at| {
        gauge(
            "rainbow_tls_certificate_expiry_timestamp_seconds",
            "When the first of the own certificates ends, in seconds since 1970; only with certificates.",
            at as f64,
        )
    }));
    // Without /proc there is nothing to say.
    let resident = process::resident_bytes();
    gauges.extend(resident.map(|bytes| gauge("rainbow_resident_bytes", "Memory of the process in RAM.", bytes)));
    let descriptors = process::descriptors();
    gauges.extend(descriptors.map(|open| gauge("rainbow_descriptors_open", "File descriptors of the process.", open)));
    gauges
}
