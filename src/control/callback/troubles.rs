//! What goes wrong with callbacks, in words: counted by reason, and mentioned in the log once a minute for each endpoint and
//! reason, with what to do. Clients learn nothing of it; they see the 401 and 503 they always saw.
//!
//! Bounds: a number and a time for each pair of endpoint and reason. Called by the scheduler at the end of each attempt.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use super::Inner;
use super::health::{STATUS_UNAVAILABLE, label};
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest, Endpoint};
use crate::io::clock;
use crate::time::{self, Seldom};

macro_rules! troubles {
    ($($variant:ident $label:literal $what:literal;)+) => {
        /// Why a callback did not do what it was for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Trouble { $(#[doc = $what] $variant,)+ }

        impl Trouble {
            /// Their labels on `/metrics`, in order.
            pub const LABELS: &'static [&'static str] = &[$($label),+];

            /// What has happened.
            fn what(self) -> &'static str {
                match self { $(Trouble::$variant => $what,)+ }
            }
        }
    };
}

troubles! {
    Redirect "redirect" "the backend answers with a status 3xx that leads nowhere";
    Forbidden "forbidden" "the backend refuses the call";
    NotFound "not_found" "the backend does not know the path, or not the method";
    ClientError "client_error" "the backend calls the request wrong";
    ServerError "server_error" "the backend's handler fails";
    Unavailable "unavailable" "a proxy, or the backend itself, says that the backend is not there";
    NotJson "not_json" "the answer is not a JSON object with a status";
    CalledInvalid "called_invalid" "the backend calls the request invalid (RAINBOWREQUESTINVALID)";
    Unresolved "unresolved" "the name of the backend does not resolve";
    Refused "refused" "nobody listens at the backend's address";
    Unreachable "unreachable" "the backend cannot be connected to";
    Tls "tls" "TLS with the backend fails";
    Dropped "dropped" "the backend closes the connection without an answer";
    NotHttp "not_http" "the answer is not HTTP, or beyond a limit";
    Redirects "redirects" "the backend redirects more than five times, or to nowhere";
    TimedOut "timeout" "the backend does not answer within callback_timeout";
    MemoryShort "memory_short" "memory is short, so an answer of the backend is not read to its end";
    QueueFull "queue_full" "too many callbacks wait";
    Expired "expired" "callbacks wait for their turn until callback_timeout is over";
}

impl Trouble {
    /// How an attempt went wrong, as far as HTTP tells; what the answer says is the door's affair.
    fn of(outcome: &CallbackOutcome) -> Option<Trouble> {
        use CallbackFailure as Failure;
        Some(match outcome {
            CallbackOutcome::Answered(reply) => match reply.status {
                200..=299 => return None,
                401 | 403 => Trouble::Forbidden,
                404 | 405 | 410 => Trouble::NotFound,
                300..=399 => Trouble::Redirect,
                STATUS_UNAVAILABLE.. => Trouble::Unavailable,
                500.. => Trouble::ServerError,
                _ => Trouble::ClientError,
            },
            CallbackOutcome::Failed(failure) => match failure {
                Failure::Overloaded => return None, // said where it is refused
                Failure::Unresolved => Trouble::Unresolved,
                Failure::Refused => Trouble::Refused,
                Failure::Unreachable => Trouble::Unreachable,
                Failure::Handshake => Trouble::Tls,
                Failure::Dropped => Trouble::Dropped,
                Failure::Garbage => Trouble::NotHttp,
                Failure::Redirects => Trouble::Redirects,
                Failure::TimedOut => Trouble::TimedOut,
                Failure::MemoryShort => Trouble::MemoryShort,
            },
        })
    }

    /// What an operator can do about it.
    fn advice(self, endpoint: Endpoint) -> &'static str {
        match (self, endpoint) {
            (Trouble::Forbidden, _) => {
                "most likely it does not accept the signature: compare security_token and signature on both sides, and the \
                 clocks; or it wants a login: give the URL credentials, or exempt it (in Django also from CSRF)"
            }
            (Trouble::NotFound, Endpoint::Close) => {
                "the path of close_url is wrong, or takes no GET; it was counted as told"
            }
            (Trouble::NotFound, Endpoint::Message) => "the path of forward_url is wrong, or takes no POST",
            (Trouble::NotFound, Endpoint::Connect) => "the path of connect_url is wrong, or takes no GET",
            (Trouble::ClientError | Trouble::ServerError, Endpoint::Message) => {
                "see its log; the client gets no ACK or REC and may repeat the message. A handler that is content answers 2xx"
            }
            (Trouble::ClientError | Trouble::ServerError, _) => "see its log",
            (Trouble::Redirect, _) => "let the URL name where it leads",
            (Trouble::Unavailable, _) => "see whether it runs, and the log of the proxy in front of it",
            (Trouble::NotJson, _) => {
                "connect_url has to answer {\"status\": \"success\"} to let a client in, {\"status\": \"fail\"} to refuse it; \
                 see whether it leads to a page of a framework, or to a login"
            }
            (Trouble::CalledInvalid, _) => {
                "60001 is the signature: compare security_token and signature on both sides, and the clocks; 60002 the identity \
                 header, 60003 the method: see whether a proxy takes them out"
            }
            (Trouble::Unresolved, _) => "compare the URL with what the name servers say",
            (Trouble::Refused, _) => "see whether it runs, and at the port of the URL",
            (Trouble::Unreachable, _) => "see routes and firewalls on the way to it",
            (Trouble::Tls, _) => {
                "see its certificate and name, ca_file, callback_cert, and whether the port speaks TLS"
            }
            (Trouble::Dropped, Endpoint::Connect) => {
                "see its log: the handler may die, or the head be too long for it (with uWSGI set buffer-size = 8192 there, or \
                 connect_head_max = 4k here)"
            }
            (Trouble::Dropped, _) => "see its log: the handler may die, or be ended after a time-out of the server",
            (Trouble::NotHttp, _) => "see whether the port speaks http or https, and how large its answers are",
            (Trouble::Redirects, _) => "let the URL name where the answer is",
            (Trouble::TimedOut, _) => "it is too slow, or a firewall swallows the call: see how long its handlers take",
            (Trouble::MemoryShort, _) => {
                "see rainbow_memory_held_bytes for what takes the room; raise memory_max, or let the backend answer with less"
            }
            (Trouble::QueueFull, Endpoint::Connect) => {
                "clients are answered 503 with Retry-After; the backend is too slow for so many, or auth_concurrency too low"
            }
            (Trouble::QueueFull, Endpoint::Message) => {
                "messages are lost or repeated; the backend is too slow, or callback_concurrency too low"
            }
            (Trouble::QueueFull, Endpoint::Close) => {
                "the oldest are given up; bring close_url back, or raise close_queue"
            }
            (Trouble::Expired, _) => "the backend is down or too slow for so many calls",
        }
    }
}

/// Calls of one endpoint by what went wrong with them, in the order of [`Trouble::LABELS`].
pub type Troubles = [u64; Trouble::LABELS.len()];

/// What went wrong so far, and when that was mentioned last.
pub(super) struct Complaints {
    started: Instant,
    counts: [Cell<Troubles>; 3],
    mentioned: RefCell<[[Seldom; Trouble::LABELS.len()]; 3]>,
}

impl Default for Complaints {
    fn default() -> Complaints {
        Complaints {
            started: clock::instant(),
            counts: [const { Cell::new([0; Trouble::LABELS.len()]) }; 3],
            mentioned: RefCell::default(),
        }
    }
}

impl Complaints {
    pub(super) fn counts(&self, endpoint: Endpoint) -> Troubles {
        self.counts[endpoint as usize].get()
    }

    /// Counts it; says how often it was not mentioned, if it should be now.
    fn count(&self, endpoint: Endpoint, trouble: Trouble) -> Option<u64> {
        // In range: three endpoints, and as many places as troubles.
        let (endpoint, trouble) = (endpoint as usize, trouble as usize);
        let mut counts = self.counts[endpoint].get();
        counts[trouble] += 1;
        self.counts[endpoint].set(counts);
        let now = time::Instant::ZERO + self.started.elapsed();
        self.mentioned.borrow_mut()[endpoint][trouble].happened(now)
    }
}

impl Inner {
    /// An attempt has ended; if it went wrong that is noted.
    pub(super) fn judge(&self, request: &CallbackRequest, outcome: &CallbackOutcome) {
        let said = self.builder().trouble(request.endpoint, outcome);
        let Some(trouble) = said.or_else(|| Trouble::of(outcome)) else {
            return;
        };
        let status = match outcome {
            CallbackOutcome::Answered(reply) => Some(reply.status),
            CallbackOutcome::Failed(_) => None,
        };
        self.complain(request, trouble, status);
    }

    pub(super) fn complain(&self, request: &CallbackRequest, trouble: Trouble, status: Option<u16>) {
        let endpoint = request.endpoint;
        let Some(more) = self.complaints.count(endpoint, trouble) else {
            return;
        };
        let origin = self.builder().origin(request);
        let server = origin.as_ref().map_or("", |origin| &origin.authority);
        let (kind, reason) = (label(endpoint), Trouble::LABELS[trouble as usize]);
        let (what, advice) = (trouble.what(), trouble.advice(endpoint));
        tracing::warn!(kind, server, reason, status, more, "{what}: {advice}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::CallbackReply;
    use bytes::Bytes;

    #[test]
    fn every_end_has_its_reason() {
        let status = |status| {
            Trouble::of(&CallbackOutcome::Answered(CallbackReply {
                status,
                headers: Vec::new(),
                body: Bytes::new(),
            }))
        };
        let table = [
            (200, None),
            (299, None),
            (304, Some(Trouble::Redirect)),
            (400, Some(Trouble::ClientError)),
            (401, Some(Trouble::Forbidden)),
            (403, Some(Trouble::Forbidden)),
            (405, Some(Trouble::NotFound)),
            (429, Some(Trouble::ClientError)),
            (500, Some(Trouble::ServerError)),
            (501, Some(Trouble::ServerError)),
            (502, Some(Trouble::Unavailable)),
            (504, Some(Trouble::Unavailable)),
        ];
        for (code, expected) in table {
            assert_eq!(status(code), expected, "{code}");
        }
        let failed = |failure| Trouble::of(&CallbackOutcome::Failed(failure));
        assert_eq!(failed(CallbackFailure::Unreachable), Some(Trouble::Unreachable));
        assert_eq!(failed(CallbackFailure::Overloaded), None);
    }

    #[test]
    fn each_is_counted_and_mentioned_once() {
        let complaints = Complaints::default();
        assert_eq!(complaints.count(Endpoint::Connect, Trouble::NotJson), Some(0));
        assert_eq!(complaints.count(Endpoint::Connect, Trouble::NotJson), None);
        assert_eq!(
            complaints.count(Endpoint::Connect, Trouble::Dropped),
            Some(0),
            "another reason"
        );
        assert_eq!(
            complaints.count(Endpoint::Message, Trouble::NotJson),
            Some(0),
            "another endpoint"
        );
        assert_eq!(complaints.counts(Endpoint::Connect)[Trouble::NotJson as usize], 2);
        assert_eq!(Trouble::LABELS[Trouble::Expired as usize], "expired");
    }
}
