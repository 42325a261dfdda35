//! Real backends behind the real server: no connect and no message is lost to the way a backend ends its connections, and none
//! arrives twice. All of them run at the same time, each with a gateway of its own, for about half a minute.
//!
//! A backend that is not installed is told as NOT RUN; with `CI=true` that is a failure. `BACKENDS=node,php` runs some of them.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

mod load;
mod names;
mod servers;

use std::time::{Duration, Instant};

use common::server::{Builder, TOKEN};
use load::Load;
use servers::{BACKENDS, Backend, Spec};

/// Longer than it takes a backend to be believed that it keeps connections.
const EARNED_AFTER: Duration = Duration::from_secs(6);

#[test]
fn no_backend_costs_a_connect_or_a_message() {
    let wanted = std::env::var("BACKENDS").unwrap_or_default();
    let chosen = |spec: &&Spec| wanted.is_empty() || wanted.split(',').any(|name| spec.name.contains(name));
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = BACKENDS
            .iter()
            .filter(chosen)
            .map(|spec| (spec.name, scope.spawn(|| try_one(spec))))
            .collect();
        runs.into_iter()
            .map(|(name, run)| (name, run.join().unwrap_or_else(|_| Err("panicked, see above".into()))))
            .collect()
    });
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(told) => println!("{name}: {told}"),
            Err(why) => {
                println!("{name}: FAILED: {why}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

fn try_one(spec: &Spec) -> Result<String, String> {
    if let Some(missing) = spec.missing() {
        println!("{} NOT RUN: {missing} is not installed", spec.name);
        let strict = std::env::var("CI").is_ok_and(|value| value == "true");
        return if strict {
            Err("NOT RUN".into())
        } else {
            Ok("NOT RUN".into())
        };
    }
    let backend = Backend::start(spec)?;
    let base = format!("http://127.0.0.1:{}", backend.port());
    let server = Builder::bare()
        .set("connect_url", format!("{base}/connect/"))
        .set("forward_url", format!("{base}/message/{{message_type}}/"))
        .set("close_url", format!("{base}/close/"))
        .set("security_token", TOKEN)
        .set("cluster_udp", "no")
        .set("workers", 1)
        .start();
    let load = Load::open(server.port())?;
    let start = Instant::now();

    load.mixed()?; // nothing is known about the backend yet
    while start.elapsed() < EARNED_AFTER {
        load.messages(1, 1)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    load.mixed()?;
    for millis in spec.periods {
        std::thread::sleep(Duration::from_millis(*millis));
        load.messages(5, 5)?;
    }
    load.mixed()?;

    let (sent, arrived) = (load.sent(), backend.messages());
    if arrived != sent {
        return Err(format!(
            "{sent} messages were acknowledged, the backend was asked {arrived} times"
        ));
    }
    let of = |name: &str| metric(server.port(), name);
    let (dialled, reused) = (
        of("rainbow_callback_connections_opened_total"),
        of("rainbow_callback_connections_reused_total"),
    );
    if reused == 0 && spec.keeps {
        return Err("no connection was ever used again".into());
    }
    if reused > 0 && !spec.keeps {
        return Err("connections were used again that this backend ends without a word".into());
    }
    Ok(format!(
        "{sent} messages and {} connects; {dialled} connections, {reused} uses of a kept one",
        load.connects()
    ))
}

fn metric(port: u16, name: &str) -> u64 {
    let request = common::http::Request::get("/metrics");
    let page = common::http::call(port, &request, common::SOON)
        .expect("/metrics answers")
        .text();
    let line = page
        .lines()
        .find(|line| line.starts_with(name) && !line.starts_with('#'));
    let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    value.parse::<f64>().unwrap_or(0.0) as u64
}
