//! The HTTP interface of the gateway door on the control core (docs/gateway.md): who may call, and requests → calls → answers.
//! What can be asked and how answers look is the door's (`protocol::gateway::api`).
//!
//! | file | what |
//! | --- | --- |
//! | `gateway.rs` | requests: tokens, bodies, answers |
//! | `gateway/perform.rs` | carries calls out, whoever makes them |
//! | `gateway/questions.rs` | those of them that change nothing |
//! | `gateway/ask.rs` | questions to the desk, and what its answers mean here |
//! | `gateway/callback.rs` | events of clients, as they are sent to the backend |
//! | `gateway/actions.rs` | what the backend's answers want done |
//! | `gateway/turns.rs` | one after the other where callers could cross |
//!
//! Whoever calls names one of `[gateway] api_tokens`, compared in constant time. Without tokens the interface listens on this
//! machine only (the settings refuse anything else). Then web pages that this machine's browsers show are turned away, and
//! requests that a proxy passes on: they could reach it, though nobody meant them to. Caller: `surface.rs`.

pub mod actions;
mod ask;
pub mod callback;
mod perform;
mod questions;
mod turns;

use std::rc::Rc;

use http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use self::actions::Acting;
pub(super) use self::perform::perform;
use self::turns::Turns;
use super::Received;
use crate::config::Config;
use crate::config::gateway::IdFormat;
use crate::control::Control;
use crate::control::callers::Caller;
use crate::protocol::gateway::api::{self, ApiError, BODY_MAX, ErrorCode, HttpRequest, Request, openapi};
use crate::wire::http1::RequestHead;
use crate::wire::http1::answer::{HttpAnswer, JSON};

/// The label of all its routes in the metrics.
pub const LABEL: &str = "v1";

/// What is remembered from one call to the next.
#[derive(Default)]
pub struct Memory {
    turns: Turns,
    acting: Acting,
}

impl Memory {
    /// Whether actions of answers are being carried out.
    pub fn is_busy(&self) -> bool {
        self.acting.is_busy()
    }
}

/// Whether a path is one of this interface.
pub fn is_path(path: &[u8], config: &Config) -> bool {
    config.gateway.on && api::is_path(path)
}

/// A request whose head was let in. Its body is needed to know what it asks.
#[derive(Debug)]
pub struct Begun;

impl Begun {
    /// Longest body it may have.
    pub fn body_max(&self, config: &Config) -> usize {
        config.api_body_max.min(BODY_MAX)
    }

    /// The answer where its body could not be received.
    pub fn refused(&self, status: StatusCode) -> HttpAnswer {
        let error = match status {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large("the body is too long"),
            StatusCode::SERVICE_UNAVAILABLE => {
                ApiError::new(ErrorCode::Overloaded, "there is no room for the body now")
            }
            _ => ApiError::bad_request("the body is not framed as HTTP has it"),
        };
        answer(Err(error))
    }
}

/// Takes the head of a request; `Err` is its answer, if no body is needed for it.
pub fn begin(control: &Control, head: &RequestHead, caller: &Caller) -> Result<Begun, HttpAnswer> {
    if head.method == Method::OPTIONS {
        return Err(options(head.path()));
    }
    let config = control.config();
    match admit(&config, head) {
        Ok(false) if !caller.is_local() => Err(answer(Err(passed_on()))),
        Ok(has_token) => {
            if has_token {
                caller.has_proven_itself();
            }
            Ok(Begun)
        }
        Err(error) => Err(answer(Err(error))),
    }
}

/// Whether the head names a token. Without any token there is nothing to name.
pub fn names_token(control: &Control, head: &RequestHead) -> bool {
    admit(&control.config(), head).unwrap_or_default()
}

/// Whether who sends this may call, and has named a token.
fn admit(config: &Config, head: &RequestHead) -> Result<bool, ApiError> {
    let tokens = &config.gateway.api_tokens;
    if tokens.is_empty() {
        let site = head.headers.first("sec-fetch-site");
        let is_page = head.headers.first("origin").is_some() || site.is_some_and(|site| site != b"none");
        if is_page {
            let message = "web pages need a token, and api_tokens has none";
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
        let is_passed_on = FORWARDING.iter().any(|name| head.headers.first(*name).is_some());
        return if is_passed_on { Err(passed_on()) } else { Ok(false) };
    }
    let mut named = head.headers.all("authorization");
    let unauthorized = |message: &'static str| Err(ApiError::new(ErrorCode::Unauthorized, message));
    match (named.next(), named.next()) {
        (Some(value), None) => match bearer(value) {
            Some(token) if is_one(token, tokens.iter().map(|token| token.expose().as_bytes())) => Ok(true),
            _ => unauthorized("the token is none of api_tokens"),
        },
        (None, _) => unauthorized("Authorization: Bearer with one of api_tokens is missing"),
        (Some(_), Some(_)) => unauthorized("Authorization is given twice"),
    }
}

/// What proxies add to requests they pass on. One on this machine would open the interface to whoever reaches it.
const FORWARDING: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

fn passed_on() -> ApiError {
    let message = "callers that a proxy passes on need a token, and api_tokens has none";
    ApiError::new(ErrorCode::Forbidden, message)
}

/// The token of an `Authorization` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether `token` is one of these. How long it takes says nothing about them: digests are compared, each as a whole, and all.
fn is_one<'a>(token: &[u8], tokens: impl Iterator<Item = &'a [u8]>) -> bool {
    let given = Sha256::digest(token);
    let differs = |known: &[u8]| {
        let known = Sha256::digest(known);
        given
            .iter()
            .zip(&known)
            .fold(0, |differs, (one, other)| differs | (one ^ other))
    };
    tokens.fold(false, |found, known| {
        found | (std::hint::black_box(differs(known)) == 0)
    })
}

/// A request that is known as a whole.
#[derive(Debug)]
pub enum Whole {
    /// Something to carry out, and whether by one message, in the order of calls.
    Call(Request, bool),
    /// The description of the interface.
    Description,
}

impl Whole {
    /// A message is posted once, and then waited for. Whatever else may take several steps.
    pub fn may_overlap(&self) -> bool {
        matches!(self, Whole::Call(_, true))
    }
}

/// Takes a request whose body is complete; `Err` is its answer if there is nothing to do.
pub fn complete(control: &Control, head: &RequestHead, body: &Received) -> Result<Whole, HttpAnswer> {
    if head.path() == openapi::PATH && matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(Whole::Description);
    }
    let request = HttpRequest {
        method: &head.method,
        path: head.path(),
        query: head.query(),
        body: &body.bytes,
    };
    let request = Request::from_http(&request).map_err(|error| answer(Err(error)))?;
    // Ids of GatewayWorker's form have to be asked about first.
    let is_known = control.config().gateway.id_format == IdFormat::Random;
    let is_one_step = is_known && matches!(request.call, api::Call::Send(_));
    Ok(Whole::Call(request, is_one_step))
}

/// Carries a call out, and answers it.
pub async fn respond(control: &Rc<Control>, whole: Whole) -> HttpAnswer {
    match whole {
        Whole::Call(request, _) => answer(perform(control, &request).await),
        Whole::Description => HttpAnswer::json(openapi::document()),
    }
}

fn answer(result: Result<api::Outcome, ApiError>) -> HttpAnswer {
    let (status, body) = api::answer(&result);
    let answer = HttpAnswer {
        content_type: JSON,
        ..HttpAnswer::new(status, body)
    };
    match result.err() {
        Some(ApiError { allow: Some(allow), .. }) => answer.with("Allow", allow),
        Some(error) if error.code == ErrorCode::Unauthorized => answer.with("WWW-Authenticate", "Bearer"),
        Some(error) if error.code == ErrorCode::Overloaded => answer.with("Retry-After", "1"),
        _ => answer,
    }
}

/// The methods of a path.
fn options(path: &[u8]) -> HttpAnswer {
    if path == openapi::PATH {
        return HttpAnswer::options(HttpAnswer::READ_ONLY);
    }
    if path.starts_with(b"/v1/call/") {
        return HttpAnswer::options("OPTIONS, POST");
    }
    match api::methods(path) {
        Some(methods) => HttpAnswer::options(methods),
        None => answer(Err(ApiError::new(ErrorCode::NotFound, "no such path"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Secret};
    use crate::wire::http1;

    fn admitted(tokens: &[&str], headers: &str) -> Result<bool, &'static str> {
        let mut config = Config::demo(1, &Overrides::default());
        config.gateway.api_tokens = tokens.iter().map(|token| Secret::new(*token)).collect();
        let text = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let head = http1::parse_request(text.as_bytes(), 8192)
            .expect("a head")
            .expect("a whole one");
        admit(&config, &head).map_err(|error| error.code.word())
    }

    #[test]
    fn one_of_the_tokens_has_to_be_named() {
        let tokens = ["first-token", "second-token"];
        for headers in [
            "Authorization: Bearer first-token\r\n",
            "authorization: bearer second-token\r\n",
            "Authorization: BEARER  second-token \r\n",
            "Authorization: Bearer first-token\r\nOrigin: http://a.page\r\n",
        ] {
            assert_eq!(admitted(&tokens, headers), Ok(true), "{headers}");
        }
        for headers in [
            "",
            "Authorization: Bearer\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Bearer first-toke\r\n",
            "Authorization: Bearer first-tokenn\r\n",
            "Authorization: Bearer first-token second-token\r\n",
            "Authorization: Basic first-token\r\n",
            "Authorization: first-token\r\n",
            "Authorization: Bearer first-token\r\nAuthorization: Bearer first-token\r\n",
        ] {
            assert_eq!(admitted(&tokens, headers), Err("unauthorized"), "{headers}");
        }
    }

    #[test]
    fn without_tokens_pages_and_proxies_are_turned_away() {
        for headers in ["", "Authorization: Bearer any\r\n", "Sec-Fetch-Site: none\r\n"] {
            assert_eq!(admitted(&[], headers), Ok(false), "{headers}");
        }
        for headers in [
            "Origin: null\r\n",
            "Origin: http://127.0.0.1\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "X-Forwarded-For: 192.0.2.7\r\n",
            "Via: 1.1 a-proxy\r\n",
            "Forwarded: for=192.0.2.7\r\n",
        ] {
            assert_eq!(admitted(&[], headers), Err("forbidden"), "{headers}");
        }
    }
}
