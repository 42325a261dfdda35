//! What callbacks of the rainbow door look like on the wire (spec: sections 4 and 7).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::callback::{Builder, LaneLimits, Settings, Trouble};
use crate::config::{self, Config};
use crate::engine::command::{CallbackOutcome, CallbackRequest, Endpoint};
use crate::io::http::{Options, Origin, Request, Url};
use crate::protocol::rainbow::admission::{self, Admission};
use crate::protocol::rainbow::sign::{Body, Signer};

/// Builds requests from the configuration in force.
pub struct Door {
    config: Arc<Config>,
    connect: Rc<Origin>,
    message: Rc<Origin>,
    close: Option<Rc<Origin>>,
}

impl Door {
    /// For one configuration.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            connect: origin(&config.connect_url),
            message: origin(&config.forward_url),
            close: config.close_url.as_ref().map(origin),
            config,
        }
    }

    /// `None`: there is no such URL any more, since a reload.
    fn endpoint(&self, endpoint: Endpoint) -> Option<(&config::Endpoint, &Rc<Origin>)> {
        Some(match endpoint {
            Endpoint::Connect => (&self.config.connect_url, &self.connect),
            Endpoint::Message => (&self.config.forward_url, &self.message),
            Endpoint::Close => (self.config.close_url.as_ref()?, self.close.as_ref()?),
        })
    }
}

impl Builder for Door {
    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        Some(self.endpoint(request.endpoint)?.1.clone())
    }

    fn build(&self, request: &CallbackRequest, unix_seconds: u64, nonce: u64) -> Option<Request> {
        let (url, origin) = self.endpoint(request.endpoint)?;
        let is_message = request.endpoint == Endpoint::Message;
        let (method, body) = if is_message {
            (Method::POST, request.body.clone())
        } else {
            (Method::GET, Bytes::new())
        };
        let query = str::from_utf8(&request.query).ok()?;
        let target = url.request_target(is_message.then_some(request.msgtype), query);
        let mut target = target.into_bytes();
        Signer::of(&self.config, unix_seconds, nonce).sign(method.as_str(), &mut target, &Body::new(&body));
        Some(Request {
            url: Url {
                origin: origin.clone(),
                target: Bytes::from(target),
                authorization: url
                    .basic_auth
                    .as_ref()
                    .map(|value| Bytes::copy_from_slice(value.as_bytes())),
            },
            method,
            headers: request.headers.clone(),
            body,
        })
    }

    fn neutral(&self, endpoint: Endpoint) -> Option<Request> {
        let (url, origin) = self.endpoint(endpoint)?;
        Some(neutral(url, origin))
    }

    fn trouble(&self, endpoint: Endpoint, outcome: &CallbackOutcome) -> Option<Trouble> {
        let CallbackOutcome::Answered(reply) = outcome else {
            return None;
        };
        if !reply.is_success() || endpoint == Endpoint::Close {
            return None;
        }
        if admission::is_complaint(reply) {
            return Some(Trouble::CalledInvalid);
        }
        let is_unclear = endpoint == Endpoint::Connect && admission::admission(outcome) == Admission::Unavailable;
        is_unclear.then_some(Trouble::NotJson)
    }
}

/// How a server is asked whether it is there: OPTIONS of the path, without query, signature or anything of a client. No
/// handler acts on it, and it goes the way the calls go, through the same proxies to the same application.
fn neutral(url: &config::Endpoint, origin: &Rc<Origin>) -> Request {
    let target = url.request_target(None, "");
    let path = target.split('?').next().unwrap_or("/");
    Request {
        url: Url {
            origin: origin.clone(),
            target: Bytes::copy_from_slice(path.as_bytes()),
            authorization: url
                .basic_auth
                .as_ref()
                .map(|value| Bytes::copy_from_slice(value.as_bytes())),
        },
        method: Method::OPTIONS,
        headers: Bytes::new(),
        body: Bytes::new(),
    }
}

fn origin(url: &config::Endpoint) -> Rc<Origin> {
    Rc::new(Origin {
        tls: url.tls,
        host: url.host.to_ascii_lowercase().into(),
        port: url.port,
        authority: url.authority.as_str().into(),
    })
}

/// Bounds and times of the callback scheduler.
pub fn settings(config: &Config) -> Settings {
    let lane = |in_flight, queued| LaneLimits { in_flight, queued };
    Settings {
        connect: lane(config.auth_concurrency, config.auth_queue),
        message: lane(config.callback_concurrency, config.callback_queue),
        close: lane(config.callback_concurrency, config.close_queue),
        timeout: config.callback_timeout,
        close_retry: config.close_retry,
        breaker_failures: u32::try_from(config.breaker_failures).unwrap_or(u32::MAX),
        breaker_pause: config.breaker_pause,
    }
}

/// Settings of the outgoing HTTP client.
pub fn options(config: &Config) -> Options {
    Options {
        idle: config.callback_idle,
        age_max: config.callback_age,
        ca_file: config.ca_file.clone(),
        identity: config.callback_cert.clone().zip(config.callback_key.clone()),
        ..Options::default()
    }
}
