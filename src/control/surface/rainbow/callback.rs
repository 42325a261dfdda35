//! What callbacks of this door look like on the wire (spec: sections 4 and 7), and what operators are told about them.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use crate::config::{self, Config};
use crate::control::callback::{Builder, Fault, Trouble};
use crate::engine::command::{CallbackOutcome, CallbackRequest};
use crate::engine::hook::Event;
use crate::io::http::{FORM, Origin, Request, Url};
use crate::protocol::rainbow::admission::{self, Admission};
use crate::protocol::rainbow::sign::{Body, Signer};

/// Builds requests from the configuration in force.
pub struct Requests {
    config: Arc<Config>,
    connect: Rc<Origin>,
    message: Rc<Origin>,
    close: Option<Rc<Origin>>,
}

impl Requests {
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
    fn target(&self, event: Event) -> Option<(&config::Endpoint, &Rc<Origin>)> {
        Some(match event {
            Event::Connect => (&self.config.connect_url, &self.connect),
            Event::Message => (&self.config.forward_url, &self.message),
            Event::Close => (self.config.close_url.as_ref()?, self.close.as_ref()?),
        })
    }
}

impl Builder for Requests {
    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        Some(self.target(request.hook.event)?.1.clone())
    }

    fn build(&self, request: &CallbackRequest, unix_seconds: u64, nonce: u64) -> Option<Request> {
        let (url, origin) = self.target(request.hook.event)?;
        let is_message = request.hook.event == Event::Message;
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
            content_type: FORM,
            body,
        })
    }

    fn neutral(&self, event: Event) -> Option<Request> {
        let (url, origin) = self.target(event)?;
        Some(neutral(url, origin))
    }

    fn fault(&self, event: Event, outcome: &CallbackOutcome) -> Option<Fault> {
        let CallbackOutcome::Answered(reply) = outcome else {
            return None;
        };
        if !reply.is_success() || event == Event::Close {
            return None;
        }
        if admission::is_complaint(reply) {
            return Some(Trouble::CalledInvalid.into());
        }
        let is_unclear = event == Event::Connect && admission::admission(outcome) == Admission::Unavailable;
        is_unclear.then(|| Trouble::NotJson.into())
    }

    fn advice(&self, event: Event, trouble: Trouble) -> Option<&'static str> {
        advice(event, trouble)
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
        content_type: FORM,
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

/// What this door says about a trouble in words of its own: those of its settings and its protocol.
fn advice(event: Event, trouble: Trouble) -> Option<&'static str> {
    Some(match (trouble, event) {
        (Trouble::Forbidden, _) => {
            "most likely it does not accept the signature: compare security_token and signature on both sides, and the \
             clocks; or it wants a login: give the URL credentials, or exempt it (in Django also from CSRF)"
        }
        (Trouble::NotFound, Event::Close) => "the path of close_url is wrong, or takes no GET; it was counted as told",
        (Trouble::NotFound, Event::Message) => "the path of forward_url is wrong, or takes no POST",
        (Trouble::NotFound, Event::Connect) => "the path of connect_url is wrong, or takes no GET",
        (Trouble::ClientError | Trouble::ServerError, Event::Message) => {
            "see its log; the client gets no ACK or REC and may repeat the message. A handler that is content answers 2xx"
        }
        (Trouble::NotJson, _) => {
            "connect_url has to answer {\"status\": \"success\"} to let a client in, {\"status\": \"fail\"} to refuse it; \
             see whether it leads to a page of a framework, or to a login"
        }
        (Trouble::CalledInvalid, _) => {
            "60001 is the signature: compare security_token and signature on both sides, and the clocks; 60002 the identity \
             header, 60003 the method: see whether a proxy takes them out"
        }
        (Trouble::Dropped, Event::Connect) => {
            "see its log: the handler may die, or the head be too long for it (with uWSGI set buffer-size = 8192 there, or \
             connect_head_max = 4k here)"
        }
        (Trouble::QueueFull, Event::Close) => "the oldest are given up; bring close_url back, or raise close_queue",
        _ => return None,
    })
}
