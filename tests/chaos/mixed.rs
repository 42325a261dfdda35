//! Everything together for a long time: all levels in both directions, clients that come and go and read slowly, a business
//! server that fails now and then. Memory and descriptors stay where they were.

use crate::measure::{Samples, callbacks, descriptors, scrape};
use crate::play::{begin, end, go_on, server};
use crate::roles::Stage;
use crate::seconds;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 160;
/// Of a thousand messages and close callbacks so many fail.
const FAIL_PERMILLE: u64 = 10;
/// Memory may be this much above what it was in the first third: outboxes of ten slow clients, and what allocators keep.
const KIB_MORE: u64 = 8 * 1024;

pub fn mixed_load() {
    let mut stage = Stage::local();
    let server = server(&stage)
        // So that those who do not read are closed within the run.
        .set("outbox_bytes", "512k")
        .set("outbox_seconds", 2)
        .set("callback_idle", 5)
        .start();
    let idle = descriptors(&server);
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    load.say("slow 1");
    stage.business.say(format!("fail {FAIL_PERMILLE}"));
    let (start, mut samples) = (Instant::now(), Samples::default());
    while start.elapsed() < seconds() {
        go_on(Duration::from_millis(250));
        // Buffers grow to what the load needs in the first tenth.
        if start.elapsed() > seconds() / 10 {
            samples.take(&server);
        }
    }
    let report = end("mixed_load", &mut stage, &server, &mut load, CLIENTS);
    let page = scrape(&server);
    let slow = page["rainbow_closes_total{cause=\"slow_consumer\"}"];
    let ((first_kib, first_descriptors), (last_kib, last_descriptors)) = samples.ends();
    println!(
        "    mixed_load: {:?}; {first_kib} KiB and {first_descriptors} descriptors in the first third, {last_kib} and \
         {last_descriptors} in the last; {} slow clients closed, {} publishes timed out",
        seconds(),
        slow,
        load.ask("status")["timeouts"],
    );
    assert!(
        last_kib < first_kib + KIB_MORE,
        "memory grows from {first_kib} to {last_kib} KiB"
    );
    assert!(
        last_descriptors < first_descriptors + 32,
        "descriptors grow from {first_descriptors} to {last_descriptors}"
    );
    assert!(slow > 0.0, "nobody was closed for reading slowly");
    assert_eq!(page["rainbow_handshakes_total"], report.opened as f64);
    assert_eq!(callbacks(&page, "message", "success"), report.forwards_fine as f64);
    assert_eq!(callbacks(&page, "close", "success"), report.closes as f64);
    assert_eq!(page["rainbow_publishes_total"], report.publishes as f64);
    assert!(report.repeated > 0, "nothing was repeated: {report}");
    drop(load);
    // Pooled connections to the business server end within `callback_idle`.
    let back = crate::common::eventually(Duration::from_secs(60), || descriptors(&server) <= idle + 2);
    assert!(
        back,
        "{} descriptors are open, {idle} at the start",
        descriptors(&server)
    );
}
