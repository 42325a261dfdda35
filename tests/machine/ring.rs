//! io_uring that is there but cannot be had: refused by its size, or altogether.

use super::common::business::{Business, Reply};
use super::common::client::Client;
use super::common::http::{self, Request};
use super::common::server::Builder;
use super::common::{SOON, eventually};
use super::{can_run, not_run};

/// What the kernel says where locked memory is short, and where a profile denies it.
const REFUSALS: [(&str, &str); 3] = [("12", "ENOMEM"), ("1", "EPERM"), ("38", "ENOSYS")];

/// Rings of so many entries and more fail with that error.
fn refused(builder: Builder, entries: &str, error: &str) -> Builder {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/refuse_rings.py");
    builder.through(&["python3", "-B", script, entries, error])
}

#[test]
fn a_ring_that_finds_no_room_is_replaced_by_epoll() {
    if !can_run("python3", &["--version"]) {
        return not_run("io_uring that is refused", "there is no python3");
    }
    for (error, name) in REFUSALS {
        for entries in ["1", "1024"] {
            let business = Business::start();
            business.reply("/connect/", Reply::channels("room"));
            let server = refused(Builder::new(&business).set("workers", 3), entries, error).start();
            let page = http::call(server.port(), &Request::get("/metrics"), SOON)
                .expect("metrics")
                .text();
            for core in ["0", "1", "2", "control"] {
                let line = format!("rainbow_driver_info{{core=\"{core}\",driver=\"epoll\"}} 1");
                assert!(page.contains(&line), "{name}: {page}");
            }
            let warned = || {
                server
                    .log_tail()
                    .matches("io_uring cannot be used, this core runs on epoll")
                    .count()
                    >= 3
            };
            assert!(
                eventually(SOON, warned),
                "{name}: each core says so: {}",
                server.log_tail()
            );
            let client = Client::open(server.port());
            assert_eq!(server.send("room", 0, "push")["status"], 0);
            assert_eq!(client.expect_send(SOON).1, b"push");
        }
    }
}

#[test]
fn who_insists_on_a_ring_is_told_why_there_is_none() {
    if !can_run("python3", &["--version"]) {
        return not_run("io_uring that is refused", "there is no python3");
    }
    for entries in ["1", "1024"] {
        let business = Business::start();
        let mut server = refused(Builder::new(&business).set("driver", "io_uring"), entries, "12").spawn();
        assert_eq!(server.wait_exit(SOON), Some(2), "{}", server.log_tail());
        let said = server.log_tail();
        assert!(
            said.contains("io_uring cannot be used: Cannot allocate memory"),
            "{said}"
        );
        assert!(said.contains("driver = auto"), "what to do: {said}");
    }
}
