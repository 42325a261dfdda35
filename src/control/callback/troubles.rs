//! What goes wrong with callbacks, in words: counted by reason, and mentioned in the log once a minute for each hook and
//! reason, with what to do. Clients learn nothing of it; they see the 401 and 503 they always saw.
//!
//! Bounds: a number and a time for each pair of hook and reason. Called by the scheduler at the end of each attempt.

use std::cell::RefCell;
use std::time::Instant;

use super::Inner;
use super::health::STATUS_UNAVAILABLE;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest};
use crate::engine::hook::{Event, Hook, HookTable};
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
    ActionRefused "action_refused" "an action of the answer was refused";
    BadAnswer "bad_answer" "the answer is not as described";
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
    pub fn of(outcome: &CallbackOutcome) -> Option<Trouble> {
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

    /// What an operator can do about it, whatever the door.
    fn advice(self, event: Event) -> &'static str {
        match (self, event) {
            (Trouble::Forbidden, _) => {
                "most likely it does not accept the signature: compare the secrets on both sides, and the clocks; or it wants \
                 a login: give the URL credentials, or exempt it (in Django also from CSRF)"
            }
            (Trouble::NotFound, _) => "the path of the URL is wrong, or the backend does not take this method",
            (Trouble::ClientError | Trouble::ServerError, _) => "see its log",
            (Trouble::Redirect, _) => "let the URL name where it leads",
            (Trouble::Unavailable, _) => "see whether it runs, and the log of the proxy in front of it",
            (Trouble::NotJson | Trouble::BadAnswer | Trouble::ActionRefused | Trouble::CalledInvalid, _) => {
                "see what it answers"
            }
            (Trouble::Unresolved, _) => "compare the URL with what the name servers say",
            (Trouble::Refused, _) => "see whether it runs, and at the port of the URL",
            (Trouble::Unreachable, _) => "see routes and firewalls on the way to it",
            (Trouble::Tls, _) => {
                "see its certificate and name, ca_file, callback_cert, and whether the port speaks TLS"
            }
            (Trouble::Dropped, _) => "see its log: the handler may die, or be ended after a time-out of the server",
            (Trouble::NotHttp, _) => "see whether the port speaks http or https, and how large its answers are",
            (Trouble::Redirects, _) => "let the URL name where the answer is",
            (Trouble::TimedOut, _) => "it is too slow, or a firewall swallows the call: see how long its handlers take",
            (Trouble::MemoryShort, _) => {
                "see rainbow_memory_held_bytes for what takes the room; raise memory_max, or let the backend answer with less"
            }
            (Trouble::QueueFull, Event::Connect) => {
                "clients are answered 503 with Retry-After; the backend is too slow for so many, or auth_concurrency too low"
            }
            (Trouble::QueueFull, Event::Message) => {
                "messages are lost or repeated; the backend is too slow, or callback_concurrency too low"
            }
            (Trouble::QueueFull, Event::Close) => {
                "the oldest are given up; bring the backend back, or raise close_queue"
            }
            (Trouble::Expired, _) => "the backend is down or too slow for so many calls",
        }
    }
}

/// A trouble, and what is peculiar to this case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub trouble: Trouble,
    /// For the log.
    pub detail: Option<String>,
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Fault {
        Fault { trouble, detail: None }
    }
}

/// Calls of one hook by what went wrong with them, in the order of [`Trouble::LABELS`].
pub type Troubles = [u64; Trouble::LABELS.len()];

/// What went wrong so far, and when that was mentioned last.
pub(super) struct Complaints {
    started: Instant,
    pages: HookTable<RefCell<Complaint>>,
}

#[derive(Default)]
struct Complaint {
    counts: Troubles,
    mentioned: [Seldom; Trouble::LABELS.len()],
}

impl Complaints {
    /// Of this many doors.
    pub(super) fn new(doors: usize) -> Complaints {
        Complaints {
            started: clock::instant(),
            pages: HookTable::new(doors),
        }
    }

    pub(super) fn counts(&self, hook: Hook) -> Troubles {
        self.pages
            .get(hook)
            .map(|page| page.borrow().counts)
            .unwrap_or_default()
    }

    /// Counts it; says how often it was not mentioned, if it should be now.
    fn count(&self, hook: Hook, trouble: Trouble) -> Option<u64> {
        let now = time::Instant::ZERO + self.started.elapsed();
        let mut page = self.pages.get(hook)?.borrow_mut();
        // In range: there are as many places as troubles.
        page.counts[trouble as usize] += 1;
        page.mentioned[trouble as usize].happened(now)
    }
}

impl Inner {
    /// An attempt has ended; if it went wrong that is noted.
    pub(super) fn judge(&self, request: &CallbackRequest, outcome: &CallbackOutcome) {
        let builder = self.builder(request.hook);
        let Some(fault) = builder.and_then(|builder| builder.fault(request.hook.event, outcome)) else {
            return;
        };
        let status = match outcome {
            CallbackOutcome::Answered(reply) => Some(reply.status),
            CallbackOutcome::Failed(_) => None,
        };
        self.complain(request, fault, status);
    }

    pub(super) fn complain(&self, request: &CallbackRequest, fault: Fault, status: Option<u16>) {
        let (hook, Fault { trouble, detail }) = (request.hook, fault);
        let Some(more) = self.complaints.count(hook, trouble) else {
            return;
        };
        let Some(builder) = self.builder(hook) else { return };
        let origin = builder.origin(request);
        let server = origin.as_ref().map_or("", |origin| &origin.authority);
        let (kind, reason) = (builder.kind(hook.event), Trouble::LABELS[trouble as usize]);
        let advice = builder.advice(hook.event, trouble);
        let (what, advice) = (trouble.what(), advice.unwrap_or_else(|| trouble.advice(hook.event)));
        tracing::warn!(kind, server, reason, status, detail, more, "{what}: {advice}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::CallbackReply;
    use crate::engine::hook::HookDoor;
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
        const DOOR: HookDoor = HookDoor(1);
        const CONNECT: Hook = DOOR.on(Event::Connect);
        let complaints = Complaints::new(2);
        assert_eq!(complaints.count(CONNECT, Trouble::NotJson), Some(0));
        assert_eq!(complaints.count(CONNECT, Trouble::NotJson), None);
        assert_eq!(complaints.count(CONNECT, Trouble::Dropped), Some(0), "another reason");
        assert_eq!(
            complaints.count(DOOR.on(Event::Message), Trouble::NotJson),
            Some(0),
            "another hook"
        );
        assert_eq!(complaints.counts(CONNECT)[Trouble::NotJson as usize], 2);
        assert_eq!(complaints.counts(HookDoor(0).on(Event::Connect)), Troubles::default());
        assert_eq!(Trouble::LABELS[Trouble::Expired as usize], "expired");
    }
}
