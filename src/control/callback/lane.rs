//! One lane: the places and the queue of one hook and server. Pure: time and bounds come as arguments.
//!
//! Invariant: nobody waits while there is room, unless the breaker is open. Then connect callbacks are refused (a client is told 503
//! at once and comes back), all others wait: for a probe to be answered, or for their deadline. Caller: `lanes.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::adapt::{Adapt, Change};
use super::breaker::{self, Breaker, BreakerState};
use super::sources::Sources;
use crate::engine::command::CallbackRequest;
use crate::engine::hook::Event;

/// A server that was heard within this time is there.
const HEARD_LATELY: Duration = Duration::from_secs(2);
/// Queued callbacks among which a probe is looked for.
const PROBES_TRIED: usize = 1024;
/// Room a queue keeps when it has become empty.
const QUEUE_KEPT: usize = 256;

/// One callback on its way. With its request about 250 bytes, and the client's headers.
#[derive(Debug)]
pub(super) struct Job {
    /// Order of submission.
    pub(super) serial: u64,
    /// Number of the call in its lane; set when it starts.
    pub(super) call: u64,
    pub(super) submitted: Instant,
    /// When it must have ended, wherever it is then.
    pub(super) deadline: Instant,
    /// Attempts that failed so far.
    pub(super) attempts: u32,
    /// Whom it is made for.
    pub(super) source: u64,
    pub(super) request: CallbackRequest,
}

/// What holds for a lane now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Calls at once, at most.
    pub(super) in_flight: usize,
    /// Places in the queue.
    pub(super) queued: usize,
    pub(super) breaker: breaker::Rules,
    /// The time.
    pub(super) now: Instant,
    /// A random number, 0..1.
    pub(super) chance: f64,
}

#[derive(Default)]
pub(super) struct Lane {
    in_flight: usize,
    queue: VecDeque<Job>,
    /// Calls started so far.
    calls: u64,
    adapt: Adapt,
    breaker: Breaker,
    sources: Sources,
    /// When the server was heard last.
    heard: Option<Instant>,
    check: Check,
}

/// A neutral request to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    None,
    /// It is time for one.
    Wanted,
    UnderWay,
}

/// What happened to a new callback.
pub(super) enum Placed {
    /// There is room: to be started now; its place is taken.
    Start(Job),
    /// It waits; look at it at this time.
    Queued(Instant),
    /// The queue is full, or nobody is asked.
    Refused(Job),
}

/// What a place that has become free is used for.
pub(super) enum Next {
    /// To be started now.
    Start(Job),
    /// Waited too long; ask again.
    Late(Job),
    /// Not to be started at all; ask again.
    Refused(Job),
    /// Nothing: the place is given back.
    Idle,
}

/// What the end of a call said about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answered,
    /// No answer, or one of a proxy: the server's doing, or that of what was sent.
    Failed,
    /// 503: the server, or the proxy in front of it, says so of itself.
    Unavailable,
    /// There is no connection to the server: nothing a client could send brings that about.
    Down,
    /// Nothing: it was our doing, or the message's.
    Unclear,
}

/// What the end of a call changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    Closed,
    /// The server answers a neutral request while everything clients send fails.
    Exonerated,
    Pace(Change),
}

impl Lane {
    /// A new callback, in a lane of `event`.
    pub(super) fn place(&mut self, event: Event, job: Job, rules: Rules) -> Placed {
        if self.queue.is_empty() && self.admits(rules) {
            // The probe may be of somebody whose calls always fail; the server itself is asked beside it.
            if self.breaker.is_open() && event == Event::Connect && self.sources.is_failing(job.source, rules.now) {
                self.want_check();
            }
            return Placed::Start(self.start(job));
        }
        let refused = self.breaker.is_open() && event == Event::Connect;
        // Of close callbacks the oldest has given way already.
        if refused || (self.queue.len() >= rules.queued && event != Event::Close) {
            return Placed::Refused(job);
        }
        let look_at = self.before(job.deadline);
        self.queue.push_back(job);
        Placed::Queued(look_at)
    }

    /// To be asked when a call has ended.
    pub(super) fn next(&mut self, event: Event, rules: Rules) -> Next {
        let open = self.breaker.is_open();
        let usable = if open {
            event == Event::Connect
        } else {
            self.in_flight <= self.adapt.limit(rules.in_flight)
        };
        match if usable { self.queue.pop_front() } else { None } {
            Some(job) if job.deadline <= rules.now => Next::Late(job),
            Some(job) if open => Next::Refused(job),
            Some(job) => {
                self.in_flight -= 1;
                Next::Start(self.start(job))
            }
            None => {
                self.in_flight -= 1;
                if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT {
                    self.queue = VecDeque::new();
                }
                Next::Idle
            }
        }
    }

    /// Learns from the end of a call that was made for `source`.
    pub(super) fn on_end(
        &mut self,
        event: Event,
        call: u64,
        source: u64,
        verdict: Verdict,
        rules: Rules,
    ) -> Option<Turn> {
        let (next, ceiling, now) = (self.calls, rules.in_flight, rules.now);
        let mut counts = true;
        let turned = match verdict {
            Verdict::Unclear => {
                self.breaker.on_nothing(call);
                return None;
            }
            Verdict::Answered => {
                self.heard = Some(now);
                self.sources.on_answer(source, now);
                self.breaker.on_answer(call).then_some(Turn::Closed)
            }
            Verdict::Failed | Verdict::Unavailable | Verdict::Down => {
                self.sources.on_failure(source, now);
                counts = verdict == Verdict::Down || self.sources.are_broad(now);
                let is_down = counts && verdict != Verdict::Failed;
                let is_full = self.breaker.on_failure(call, is_down, now, rules.breaker);
                let is_heard = self
                    .heard
                    .is_some_and(|at| now.saturating_duration_since(at) < HEARD_LATELY);
                match is_full {
                    breaker::Streak::Down => self.open(rules),
                    breaker::Streak::Failed if !counts || is_heard => None,
                    // Anybody can make these calls fail.
                    breaker::Streak::Failed if event == Event::Connect => {
                        self.want_check();
                        None
                    }
                    breaker::Streak::Failed => self.open(rules),
                    breaker::Streak::Short => None,
                }
            }
        };
        if turned == Some(Turn::Closed) {
            self.adapt.restart(next, ceiling);
        }
        if !counts {
            return turned;
        }
        let change = self.adapt.on_end(verdict == Verdict::Answered, call, next, ceiling);
        turned.or(change.map(Turn::Pace))
    }

    /// Whether a neutral request should be sent to the server; it counts as sent then.
    pub(super) fn wants_check(&mut self) -> bool {
        let is_wanted = self.check == Check::Wanted;
        if is_wanted {
            self.check = Check::UnderWay;
        }
        is_wanted
    }

    /// Learns from the end of a neutral request.
    pub(super) fn on_checked(&mut self, is_alive: bool, rules: Rules) -> Option<Turn> {
        self.check = Check::None;
        if !is_alive {
            return if self.breaker.is_full(rules.breaker) {
                self.open(rules)
            } else {
                None
            };
        }
        self.heard = Some(rules.now);
        let was_open = self.breaker.is_open();
        self.breaker = Breaker::default();
        if was_open {
            self.adapt.restart(self.calls, rules.in_flight);
            return Some(Turn::Closed);
        }
        Some(Turn::Exonerated)
    }

    /// Whether it has both, callbacks that wait and room for them.
    pub(super) fn has_startable(&self, ceiling: usize) -> bool {
        self.has_queued() && !self.is_open() && self.in_flight < self.limit(ceiling)
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The callback that has waited for longest.
    pub(super) fn first(&self) -> Option<&Job> {
        self.queue.front()
    }

    pub(super) fn take_first(&mut self) -> Option<Job> {
        self.queue.pop_front()
    }

    /// The next probe is due, with somebody to be it.
    pub(super) fn is_probe_due(&self, now: Instant) -> bool {
        self.has_queued() && self.breaker.probe_at().is_some_and(|at| at <= now)
    }

    /// When something has to be done in its queue, at the latest.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.first().map(|job| self.before(job.deadline))
    }

    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Nobody needs it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.has_queued()
    }

    /// Calls at once, of at most `ceiling`.
    pub(super) fn limit(&self, ceiling: usize) -> usize {
        self.adapt.limit(ceiling)
    }

    /// The next probe or the deadline, whichever is first.
    fn before(&self, deadline: Instant) -> Instant {
        self.breaker.probe_at().map_or(deadline, |at| at.min(deadline))
    }

    /// Whether a call may start now. Where that makes it a probe, the pause until the next one begins.
    fn admits(&mut self, rules: Rules) -> bool {
        match self.breaker.probe_at() {
            None => self.in_flight < self.adapt.limit(rules.in_flight),
            Some(at) if at > rules.now => false,
            Some(_) => {
                self.breaker.probe(rules.now, rules.breaker, rules.chance);
                true
            }
        }
    }

    fn start(&mut self, mut job: Job) -> Job {
        self.in_flight += 1;
        job.call = self.calls;
        self.calls += 1;
        job
    }

    /// A queued callback for which there is room now: after a bound was raised, a breaker closed, or for a probe.
    pub(super) fn start_queued(&mut self, rules: Rules) -> Option<Job> {
        if self.queue.is_empty() || !self.admits(rules) {
            return None;
        }
        // A probe is the oldest of those whose calls do not fail always: what those say is known.
        let at = if self.breaker.is_open() {
            let is_new = |job: &Job| !self.sources.is_failing(job.source, rules.now);
            self.queue.iter().take(PROBES_TRIED).position(is_new).unwrap_or(0)
        } else {
            0
        };
        let job = self.queue.remove(at)?;
        Some(self.start(job))
    }

    fn open(&mut self, rules: Rules) -> Option<Turn> {
        self.breaker.open(self.calls, rules.now, rules.breaker, rules.chance);
        Some(Turn::Opened)
    }

    fn want_check(&mut self) {
        if self.check == Check::None {
            self.check = Check::Wanted;
        }
    }
}
