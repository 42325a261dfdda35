//! The backend: found, reached, answers; whether clocks and secrets agree.
//!
//! Without `--connect` each URL gets an OPTIONS request, signed where it is rainbow's: no handler acts on it, and it goes the
//! way the calls go, through the same proxies to the same application. With it, `connect_url` is asked about a client that does
//! not exist, and `close_url` is told that it has gone, so that the backend's books are right again.

use std::time::{Duration, Instant};

use http::Method;

use super::Report;
use crate::config::{Config, Endpoint};
use crate::io::clock;
use crate::tool::call::{Answer, Request, exchange};
use crate::tool::line::Trust;
use crate::tool::place::{random, sign};
use crate::wire::date;
use crate::wire::json;

const DEVICE: &[u8] = b"rainbow-server-doctor";

/// Asks all URLs.
pub fn examine(report: &mut Report, config: &Config, connects: bool) {
    let rainbow = [
        ("connect_url", Some(&config.connect_url), None),
        ("forward_url", Some(&config.forward_url), Some(1)),
        ("close_url", config.close_url.as_ref(), None),
    ];
    let gateway = &config.gateway;
    let gateway = [
        ("gateway url", gateway.url.as_ref(), None),
        ("gateway connect_url", gateway.connect_url.as_ref(), None),
        ("gateway message_url", gateway.message_url.as_ref(), None),
        ("gateway close_url", gateway.close_url.as_ref(), None),
    ];
    let rainbow = rainbow.into_iter().filter(|_| config.rainbow);
    for (name, url, kind) in rainbow.chain(gateway.into_iter().filter(|_| config.gateway.on)) {
        let Some(url) = url else { continue };
        let target = url.request_target(kind, "");
        let began = clock::instant();
        let is_rainbow = !name.starts_with("gateway");
        let asked = if is_rainbow {
            ask(config, url, &Method::OPTIONS, &target, &[])
        } else {
            call(config, url, &Method::OPTIONS, target.as_bytes(), &[])
        };
        match asked {
            Ok(answer) => judge(report, config, name, &answer, began),
            Err(why) => report.problem(name, format!("{url}: {why}"), advice(&why)),
        }
    }
    if connects && config.rainbow {
        connect(report, config);
    }
}

/// A signed request to the backend. Errors in words.
fn ask(
    config: &Config,
    url: &Endpoint,
    method: &Method,
    target: &str,
    headers: &[(&str, &[u8])],
) -> Result<Answer, String> {
    let mut target = target.as_bytes().to_vec();
    let signed = sign(
        config.signature,
        &config.security_token,
        &mut target,
        method.as_str(),
        b"",
    );
    signed.map_err(|failure| failure.text)?;
    call(config, url, method, &target, headers)
}

/// A request as it is. Errors in words.
fn call(
    config: &Config,
    url: &Endpoint,
    method: &Method,
    target: &[u8],
    headers: &[(&str, &[u8])],
) -> Result<Answer, String> {
    let request = Request {
        method,
        target,
        headers,
        body: b"",
    };
    let within = Duration::from_micros(u64::try_from(config.callback_timeout.as_micros()).unwrap_or(u64::MAX));
    exchange(url, Trust::of(config), request, within).map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
            format!("no answer within callback_timeout ({} s)", within.as_secs())
        }
        _ => error.to_string(),
    })
}

fn advice(why: &str) -> &'static str {
    match why {
        why if why.contains("is not found") => {
            "correct the name, or the name servers of this machine (/etc/resolv.conf)"
        }
        why if why.contains("refused") => "start the backend, or correct the port",
        why if why.contains("certificate") => "name the authority of its certificate in ca_file",
        why if why.contains("timed out") || why.contains("in time") => {
            "let a firewall pass, or see why the backend is slow"
        }
        _ => "",
    }
}

/// What an answer to OPTIONS tells: everything below 502 comes from an application that is there.
fn judge(report: &mut Report, config: &Config, name: &str, answer: &Answer, began: Instant) {
    let (status, took) = (answer.status(), clock::instant().duration_since(began).as_millis());
    if status >= 502 {
        let text = format!("{status} to OPTIONS: a proxy is there, the application is not");
        report.problem(name, text, "start the application behind it");
    } else if complaint(answer) == Some("60001") {
        refused(report, name);
    } else {
        report.ok(
            name,
            format!(
                "answers ({status} to {}, {took} ms)",
                if name.starts_with("gateway") {
                    "OPTIONS"
                } else {
                    "a signed OPTIONS"
                }
            ),
        );
    }
    clocks(report, config, name, answer);
}

/// The code in `RAINBOWREQUESTINVALID`.
fn complaint(answer: &Answer) -> Option<&str> {
    let code = answer.head.headers.first("rainbowrequestinvalid")?;
    str::from_utf8(code).ok().map(str::trim)
}

fn refused(report: &mut Report, name: &str) {
    report.problem(
        name,
        "the backend refuses the signature (60001)",
        "it has another secret than security_token, another scheme than signature, or another time",
    );
}

/// Compares the `Date` of an answer with our time.
fn clocks(report: &mut Report, config: &Config, name: &str, answer: &Answer) {
    let Some(theirs) = answer.head.headers.first("date").and_then(date::unix_seconds) else {
        return;
    };
    let seconds = |since_1970| i64::try_from(since_1970).unwrap_or(i64::MAX);
    let off = seconds(theirs) - seconds(clock::unix_seconds());
    let window = config.signature_window.as_micros() / 1_000_000;
    let text = format!("the clock of the backend is {off} s ahead of ours (negative: behind)");
    let keep = "keep both by a time service";
    match u128::from(off.unsigned_abs()) {
        off if off >= window => report.problem(name, format!("{text}: its signatures are refused"), keep),
        off if off > window / 2 => report.warning(name, text, keep),
        _ => {}
    }
}

/// Asks about a client as the server would, and takes it back.
fn connect(report: &mut Report, config: &Config) {
    let check = "connect";
    let Ok(half) = random() else {
        return report.problem(check, "the system has no random numbers", "");
    };
    let identity = format!("{half:064x}");
    let mut headers = vec![
        ("RAINBOWCLIENTIDENTITY", identity.as_bytes()),
        ("X-DEVICEID", DEVICE),
        ("X-CLIENT-OS", b"doctor"),
    ];
    let target = config.connect_url.request_target(None, "");
    let answer = match ask(config, &config.connect_url, &Method::GET, &target, &headers) {
        Ok(answer) => answer,
        Err(why) => return report.problem(check, &why, advice(&why)),
    };
    if complaint(&answer) == Some("60001") {
        return refused(report, check);
    }
    let status = answer.status();
    if !(200..300).contains(&status) {
        let text = format!("connect_url answers {status}: clients get 503");
        return report.problem(
            check,
            text,
            "answer 200 with {\"status\": \"success\"}, or another status to say no",
        );
    }
    let said = json::fields(&answer.body, ["status"]).and_then(|[status]| status);
    match said.as_ref().map(|said| said.text()) {
        None => report.problem(
            check,
            "the answer of connect_url is no JSON object with a status: clients get 503",
            "answer {\"status\": \"success\"}",
        ),
        Some(Some("success")) => {
            report.ok(check, "the backend takes the signature and lets a client in");
            let cookie = answer.head.headers.first("rainbowclientcookie").map(<[u8]>::to_vec);
            if let Some(cookie) = &cookie {
                headers.push(("RAINBOWCLIENTCOOKIE", cookie));
            }
            close(report, config, &headers);
        }
        Some(word) => report.ok(
            check,
            format!(
                "the backend takes the signature, and does not let the device {} in ({})",
                String::from_utf8_lossy(DEVICE),
                word.unwrap_or("not a text").escape_debug()
            ),
        ),
    }
}

fn close(report: &mut Report, config: &Config, headers: &[(&str, &[u8])]) {
    let Some(url) = &config.close_url else { return };
    match ask(config, url, &Method::GET, &url.request_target(None, ""), headers) {
        Ok(answer) if answer.status() < 502 => report.ok("close", "close_url was told that it has gone"),
        Ok(answer) => report.problem("close", format!("close_url answers {}", answer.status()), ""),
        Err(why) => report.problem("close", &why, advice(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_most_has_advice() {
        for why in [
            "x is not found: y",
            "1.2.3.4:80: Connection refused (os error 111)",
            "invalid peer certificate",
        ] {
            assert!(!advice(why).is_empty(), "{why}");
        }
    }
}
