//! What operators ask of the process, whatever doors it has: `/metrics` and `/healthz`. Reload and stop, which signals ask
//! for, are in `reload.rs` and `stop.rs`. The pages of the demonstration come from here too. Caller: `surface.rs`.

use http::{Method, StatusCode};

use super::Control;
use super::callers::Caller;
use super::scrape::metrics;
use super::surface;
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::HttpAnswer;

/// What a path stands for. Paths match exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Healthz,
}

impl Route {
    /// Labels for the metrics, in the order of the variants.
    pub const LABELS: [&'static str; 2] = ["metrics", "healthz"];

    /// The route of a path, if it is one.
    pub fn at(path: &[u8]) -> Option<Self> {
        match path {
            b"/metrics" => Some(Route::Metrics),
            b"/healthz" => Some(Route::Healthz),
            _ => None,
        }
    }
}

/// What an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Text exposition of the counters.
    Metrics,
    /// Whether the server takes clients.
    Healthz,
}

/// Takes the head of a request; `Err` is its answer if there is nothing to do. With `api_open = no`, the counters are for this
/// machine and for whoever signs.
pub fn begin(control: &Control, route: Route, head: &RequestHead, caller: &Caller) -> Result<Ask, HttpAnswer> {
    let ask = ask(route, &head.method)?;
    if ask == Ask::Metrics {
        surface::guard(control, head, caller)?;
    }
    Ok(ask)
}

fn ask(route: Route, method: &Method) -> Result<Ask, HttpAnswer> {
    match (route, method) {
        // Some health checks ask with OPTIONS.
        (Route::Healthz, &Method::GET | &Method::HEAD | &Method::OPTIONS) => Ok(Ask::Healthz),
        (Route::Metrics, &Method::GET | &Method::HEAD) => Ok(Ask::Metrics),
        (Route::Metrics, &Method::OPTIONS) => Err(HttpAnswer::options(HttpAnswer::READ_ONLY)),
        _ => Err(HttpAnswer::not_allowed(HttpAnswer::READ_ONLY)),
    }
}

/// Answers.
pub fn respond(control: &Control, ask: Ask) -> HttpAnswer {
    match ask {
        Ask::Metrics => metrics(control),
        Ask::Healthz => healthz(control),
    }
}

fn healthz(control: &Control) -> HttpAnswer {
    if control.stopping.get() {
        return HttpAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    HttpAnswer::ok("ok").with("Allow", HttpAnswer::READ_ONLY)
}

/// The page of the demonstration that is asked for, if it is one.
pub fn asset(control: &Control, head: &RequestHead) -> Option<HttpAnswer> {
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    let (content_type, body) = (control.assets)(head.path()).filter(|_| is_read)?;
    Some(HttpAnswer {
        content_type,
        ..HttpAnswer::ok(body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_the_routes() {
        let asked = |path: &str, method: &str| {
            let route = Route::at(path.as_bytes()).unwrap();
            ask(route, &Method::from_bytes(method.as_bytes()).unwrap())
        };
        let only = || Err(HttpAnswer::not_allowed("GET, HEAD, OPTIONS"));
        for (method, path, expected) in [
            ("GET", "/metrics", Ok(Ask::Metrics)),
            ("HEAD", "/metrics", Ok(Ask::Metrics)),
            ("OPTIONS", "/metrics", Err(HttpAnswer::options("GET, HEAD, OPTIONS"))),
            ("POST", "/metrics", only()),
            ("GET", "/healthz", Ok(Ask::Healthz)),
            ("HEAD", "/healthz", Ok(Ask::Healthz)),
            ("OPTIONS", "/healthz", Ok(Ask::Healthz)),
            ("POST", "/healthz", only()),
            ("BREW", "/healthz", only()),
        ] {
            assert_eq!(asked(path, method), expected, "{method} {path}");
        }
    }
}
