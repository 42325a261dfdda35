//! Whether the signature of a call is good, and whether it is meant for this server and new.
//!
//! What operators are told: one warning per reason and minute, with the most likely cause and what to do; the counters
//! have the rest. Bound: a time and a count per reason. Caller: `surface/rainbow.rs`.

use std::cell::RefCell;

use crate::control::Control;
use crate::control::callers::{Caller, Quiet};
use crate::metrics::Metric;
use crate::protocol::rainbow::api::{Route, Standing};
use crate::protocol::rainbow::sign::{Body, Proof, Refusal, Replays, Rules, Scheme, Signed};
use crate::wire::http1::RequestHead;
use crate::wire::query;

const REASONS: usize = 7;

/// What the surface remembers of its callers.
#[derive(Debug, Default)]
pub struct Memory {
    /// What they signed lately.
    pub replays: RefCell<Replays>,
    /// Warnings about their signatures, by reason.
    complaints: [Quiet; REASONS],
}

/// Whether the head of a request that has not been begun could be that of a signed call: who fakes it has to know the secret,
/// or has to send a body that is measured by it.
pub fn seems_signed(control: &Control, route: Route, head: &RequestHead) -> bool {
    let config = control.config();
    let is_signed = matches!(route, Route::Send | Route::Sub | Route::Unsub);
    is_signed
        && Rules::of(&config)
            .check_head(head.query(), control.clock.unix_micros())
            .is_ok()
}

/// Whether a call that needs no signature carries a good one.
pub fn is_signed(control: &Control, head: &RequestHead, caller: &Caller) -> bool {
    let call = Signed {
        method: head.method.as_str(),
        path: head.path(),
        query: head.query(),
        body: b"",
    };
    query::last(call.query, "signature").is_some()
        && control
            .verify(&call, &Body::default(), caller, control.clock.unix_micros())
            .is_ok()
}

impl Control {
    /// What the head of a call shows of its signature, `at_micros` since 1970. What it proves is remembered where replays are
    /// refused: ask once per call.
    pub(in crate::control) fn verify_head(
        &self,
        head: &RequestHead,
        caller: &Caller,
        at_micros: u64,
    ) -> Result<Standing, Refusal> {
        let checked = Rules::of(&self.config()).check_head(head.query(), at_micros);
        let standing = checked.and_then(|proof| match proof {
            Some(proof) => self.admit(&proof, head.query()).map(|()| Standing::Proven),
            None => Ok(Standing::Unproven),
        });
        if standing == Ok(Standing::Proven) {
            caller.has_proven_itself();
        }
        standing.inspect_err(|refusal| self.complain(*refusal, head.path(), caller))
    }

    /// Whether a call may be believed whose signature covers the body, as of the time its head came.
    pub(in crate::control) fn verify(
        &self,
        call: &Signed<'_>,
        body: &Body<'_>,
        caller: &Caller,
        at_micros: u64,
    ) -> Result<(), Refusal> {
        let proof = Rules::of(&self.config()).check_body(call, body, at_micros);
        let verdict = proof.and_then(|proof| self.admit(&proof, call.query));
        if verdict.is_ok() {
            caller.has_proven_itself();
        }
        verdict.inspect_err(|refusal| self.complain(*refusal, call.path, caller))
    }

    /// Whether a signature that is good is meant for this server, and new where that matters.
    fn admit(&self, proof: &Proof, query: &[u8]) -> Result<(), Refusal> {
        let config = self.config();
        if !self.cluster.rainbow().is_for_us(query) {
            return Err(Refusal::Astray);
        }
        if proof.scheme == Scheme::Sha1 && !config.replay_protection {
            return Ok(());
        }
        let (window, capacity) = (config.signature_window, config.replay_max);
        self.surfaces
            .rainbow
            .replays
            .borrow_mut()
            .admit(proof, window, capacity, self.clock.now())
    }

    /// A call is refused: counts it, and says so now and then.
    fn complain(&self, refusal: Refusal, path: &[u8], caller: &Caller) {
        let (reason, metric) = match refusal {
            Refusal::Wrong => (0, Metric::SignaturesWrong),
            Refusal::Stale(_) => (1, Metric::SignaturesStale),
            Refusal::Scheme => (2, Metric::SignaturesScheme),
            Refusal::Incomplete | Refusal::NotANumber => (3, Metric::SignaturesMissing),
            Refusal::Used | Refusal::TooOld => (4, Metric::SignaturesReplayed),
            Refusal::NoRoom => (5, Metric::SignaturesNoRoom),
            Refusal::Astray => (6, Metric::SignaturesAstray),
        };
        self.own_metrics().add(metric, 1);
        let Some(calls) = self.surfaces.rainbow.complaints[reason].count(self.clock.now()) else {
            return;
        };
        let path = path.escape_ascii();
        let from = caller
            .address()
            .map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let (what, advice) = self.explain(refusal);
        tracing::warn!(%path, from, calls, advice, "calls refused: {what}");
    }

    /// What is wrong with a call, and what to do about it.
    fn explain(&self, refusal: Refusal) -> (String, &'static str) {
        let window = self.config().signature_window.as_secs_f64();
        match refusal {
            Refusal::Wrong => (
                "the signature does not match".to_owned(),
                "most likely the caller has another security_token, or a proxy rewrites its requests",
            ),
            Refusal::Stale(seconds) => (
                format!(
                    "the timestamp is {} s {} this machine's clock, {window} s are allowed (signature_window)",
                    seconds.unsigned_abs(),
                    if seconds < 0 { "behind" } else { "ahead of" }
                ),
                "most likely the clocks of the caller and of this machine differ: synchronise both; or an old request is sent again",
            ),
            Refusal::Scheme => (
                "not signed by a scheme that is accepted here".to_owned(),
                "let the caller sign as signature and signature_accept say (for hmac-sha256 the signature comes last in the \
                 query), or extend signature_accept",
            ),
            Refusal::Incomplete | Refusal::NotANumber => (
                "not signed: timestamp, nonce or signature is missing or unreadable in the query".to_owned(),
                "let the caller sign its requests (docs/signature.md); if nobody knows the caller, close the port to it",
            ),
            Refusal::Used | Refusal::TooOld => (
                "the signature was used before".to_owned(),
                "a caller that repeats a call has to sign it again; otherwise somebody replays what was seen on the line",
            ),
            Refusal::Astray => (
                "the signature is this server's own, or was made for another server of the cluster".to_owned(),
                "a server of the cluster that was restarted asks again by itself; otherwise somebody replays what was seen on the line",
            ),
            Refusal::NoRoom => (
                "replay_max signatures are remembered".to_owned(),
                "raise replay_max, or call less often",
            ),
        }
    }
}
