//! The ports: free, or taken by a server that takes the signatures of these settings.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use super::Report;
use crate::config::{BindMissing, Config, Endpoint};
use crate::io::listen::{self, Place};
use crate::tool::call::{self, Request};
use crate::tool::line::Trust;
use crate::tool::place::{local, sign};
use crate::wire::json::{self, Field};

const WITHIN: Duration = Duration::from_secs(3);

/// Tries to listen on each port as the server would.
pub fn examine(report: &mut Report, config: &Config) {
    let place = |addresses| Place {
        addresses,
        missing: config.bind_missing == BindMissing::Warn,
        shards: 1,
    };
    if config.gateway.on {
        let own = &config.gateway.bind;
        let addresses = if own.is_empty() { &config.bind } else { own };
        for port in [Some(config.gateway.port), config.gateway.tls_port]
            .into_iter()
            .flatten()
        {
            match listen::bind(port, place(addresses), &mut Vec::new()) {
                Ok(_) => report.ok("port", format!("{port} is free on {}", join(addresses))),
                Err(_) if serves(config) => {
                    report.ok("port", format!("{port} is taken, by the server that runs, it seems"));
                }
                Err(refused) => report.problem("port", refused.to_string(), ""),
            }
        }
    }
    let place = place(&config.bind);
    for port in config.ports.iter().copied().chain(config.tls_port) {
        match listen::bind(port, place, &mut Vec::new()) {
            Ok(_) => report.ok("port", format!("{port} is free on {}", join(&config.bind))),
            Err(_) if Some(port) != config.tls_port && is_rainbow(&local(config), port) => {
                report.ok("port", format!("{port}: a rainbow-server runs there"));
                if config.rainbow {
                    signature(report, config, port);
                }
            }
            Err(_) if config.tls_port == Some(port) && serves(config) => {
                report.ok("port", format!("{port} is taken, by the server that runs, it seems"));
            }
            Err(refused) if config.port_search && config.tls_port != Some(port) => {
                report.warning(
                    "port",
                    refused.to_string(),
                    "the server would listen on another port of 1984..2003",
                );
            }
            Err(refused) => report.problem("port", refused.to_string(), ""),
        }
    }
}

fn join(bind: &[IpAddr]) -> String {
    let bind: Vec<_> = bind.iter().map(ToString::to_string).collect();
    bind.join(", ")
}

/// Whether the first port of these settings is served.
fn serves(config: &Config) -> bool {
    let here = local(config);
    let port = here.port;
    is_rainbow(&here, port)
}

fn at(here: &Endpoint, port: u16) -> Endpoint {
    Endpoint { port, ..here.clone() }
}

fn is_rainbow(here: &Endpoint, port: u16) -> bool {
    let request = Request {
        method: &Method::GET,
        target: b"/hello/",
        headers: &[],
        body: b"",
    };
    let answer = call::exchange(&at(here, port), Trust::default(), request, WITHIN);
    answer.is_ok_and(|answer| answer.status() == 200 && answer.body == b"ok")
}

/// Whether the server that runs takes a signature made with the secret of the file: takes nobody out of a channel.
fn signature(report: &mut Report, config: &Config, port: u16) {
    let check = "signature";
    let body = br#"{"identity": "rainbow-server-doctor", "channel": "rainbow-server-doctor"}"#;
    let mut target = b"/unsub/".to_vec();
    if sign(config.signature, &config.security_token, &mut target, "POST", body).is_err() {
        return report.problem(check, "the system has no random numbers", "");
    }
    let request = Request {
        method: &Method::POST,
        target: &target,
        headers: &[],
        body,
    };
    let answer = match call::exchange(&at(&local(config), port), Trust::default(), request, WITHIN) {
        Ok(answer) => answer,
        Err(error) => return report.problem(check, format!("the server does not answer /unsub/: {error}"), ""),
    };
    let [status, msg] = json::fields(&answer.body, ["status", "msg"]).unwrap_or_default();
    match (
        status.and_then(|status| status.count()),
        msg.as_ref().and_then(Field::text),
    ) {
        (Some(0), _) => report.ok(check, "the server that runs takes signatures made with this secret"),
        (_, Some("signature error")) => report.problem(
            check,
            "the server that runs refuses signatures made with the secret of this file",
            "it has not read the file since it changed (reload it), or it runs with another file",
        ),
        (_, msg) => report.warning(
            check,
            format!("/unsub/ is answered {}: {}", answer.status(), msg.unwrap_or("")),
            "",
        ),
    }
}
