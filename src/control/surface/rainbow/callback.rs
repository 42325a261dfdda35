//! What callbacks of this door look like on the wire (spec: sections 4 and 7), and what operators are told about them.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use crate::config::Config;
use crate::control::callback::{Builder, Fault, Target, Trouble};
use crate::engine::command::{CallbackOutcome, CallbackRequest};
use crate::engine::hook::Event;
use crate::io::http::{FORM, Origin, Request};
use crate::protocol::rainbow::admission::{self, Admission};
use crate::protocol::rainbow::sign::{Body, Signer};

/// Builds requests from the configuration in force.
pub struct Requests {
    config: Arc<Config>,
    connect: Target,
    message: Target,
    close: Option<Target>,
}

impl Requests {
    /// For one configuration.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            connect: Target::new(&config.connect_url),
            message: Target::new(&config.forward_url),
            close: config.close_url.as_ref().map(Target::new),
            config,
        }
    }

    /// `None`: there is no such URL any more, since a reload.
    fn target(&self, event: Event) -> Option<&Target> {
        match event {
            Event::Connect => Some(&self.connect),
            Event::Message => Some(&self.message),
            Event::Close => self.close.as_ref(),
        }
    }
}

impl Builder for Requests {
    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        Some(self.target(request.hook.event)?.origin.clone())
    }

    fn build(&self, request: &CallbackRequest, unix_seconds: u64, nonce: u64) -> Option<Request> {
        let to = self.target(request.hook.event)?;
        let is_message = request.hook.event == Event::Message;
        let (method, body) = if is_message {
            (Method::POST, request.body.clone())
        } else {
            (Method::GET, Bytes::new())
        };
        let query = str::from_utf8(&request.query).ok()?;
        let target = to.url.request_target(is_message.then_some(request.msgtype), query);
        let mut target = target.into_bytes();
        Signer::of(&self.config, unix_seconds, nonce).sign(method.as_str(), &mut target, &Body::new(&body));
        Some(Request {
            url: to.at(target),
            method,
            headers: request.headers.clone(),
            content_type: FORM,
            body,
        })
    }

    fn neutral(&self, event: Event) -> Option<Request> {
        Some(self.target(event)?.neutral())
    }

    fn fault(&self, event: Event, outcome: &CallbackOutcome) -> Option<Fault> {
        said(event, outcome).or_else(|| Trouble::of(outcome)).map(Fault::from)
    }

    fn advice(&self, event: Event, trouble: Trouble) -> Option<&'static str> {
        advice(event, trouble)
    }
}

/// What the content of an answer with status 2xx says went wrong.
fn said(event: Event, outcome: &CallbackOutcome) -> Option<Trouble> {
    let CallbackOutcome::Answered(reply) = outcome else {
        return None;
    };
    if !reply.is_success() || event == Event::Close {
        return None;
    }
    if admission::is_complaint(reply) {
        return Some(Trouble::CalledInvalid);
    }
    let is_unclear = event == Event::Connect && admission::admission(outcome) == Admission::Unavailable;
    is_unclear.then_some(Trouble::NotJson)
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
