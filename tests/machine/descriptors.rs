//! Few descriptors: a server that cannot serve says how many it needs; one that starts serves as many clients as it announced.

use super::common::SOON;
use super::common::business::Business;
use super::common::client::Client;
use super::common::server::{Builder, Server};

/// The number behind `key=` in the log.
fn announced(server: &Server, key: &str) -> usize {
    let log = server.log_tail();
    let behind = log
        .split(&format!("{key}="))
        .nth(1)
        .unwrap_or_else(|| panic!("no {key} in {log}"));
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("number")
}

fn has_begun(server: &mut Server) -> bool {
    super::common::eventually(SOON, || {
        !server.is_alive() || server.log_tail().contains("rainbow-server starts")
    });
    server.is_alive()
}

#[test]
fn too_few_descriptors_are_refused_and_few_are_enough_for_what_is_announced() {
    let business = Business::start();
    let (mut refused, mut served) = (0, 0);
    for workers in [1, 2] {
        for limit in [10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64] {
            let builder = Builder::new(&business)
                .set("workers", workers)
                .set("log_level", "info")
                .descriptors(limit);
            let mut server = builder.spawn();
            if !has_begun(&mut server) {
                let said = server.log_tail();
                assert_eq!(server.wait_exit(SOON), Some(2), "{workers} workers, {limit}: {said}");
                assert!(
                    said.contains("open files are allowed") && said.contains("ulimit -n"),
                    "{said}"
                );
                assert!(!said.contains("panicked"), "{said}");
                refused += 1;
                continue;
            }
            let server = builder.start();
            let clients = announced(&server, "connections_max");
            // One in 16 is kept for callers; workers share the rest, and the kernel spreads connections nearly evenly.
            let expected = if workers == 1 {
                clients - clients.div_ceil(16)
            } else {
                1
            };
            let open: Vec<_> = (0..expected).map(|_| Client::open(server.port())).collect();
            assert_eq!(server.send("nobody", 0, "x")["status"], 0);
            assert!(!server.log_tail().contains("panicked"), "{}", server.log_tail());
            drop(open);
            served += 1;
        }
    }
    assert!(refused >= 4 && served >= 4, "{refused} refused, {served} served");
}
