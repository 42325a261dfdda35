//! Callbacks to the business: who goes when, how often, and what became of each (spec §4).
//!
//! ```text
//! submit ─▶ lane (hook × server) ─ room ─▶ in flight ─▶ answered / failed ─▶ completion
//!              │ full, or breaker open             │ close callback not accepted
//!              ├─ queue ─ deadline ─▶ expired      └─▶ waiting ─ back-off ─▶ lane ─ `close_retry` over ─▶ expired
//!              └─ queue full ─▶ failed (overloaded)
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `lane.rs`, `lanes.rs` | places and queues; of one hook and server, of all |
//! | `adapt.rs`, `breaker.rs` | how many calls a failing server gets; `health.rs` feeds them |
//! | `sources.rs` | whether it is the server that fails, or what some clients send |
//! | `closing.rs`, `waiting.rs` | close callbacks: repeated until accepted |
//! | `counts.rs` | the books; `troubles.rs` what went wrong, for metrics and log |
//! | `alarm.rs` | the one timer |
//!
//! Invariants:
//! * Every submitted callback is completed exactly once, and
//!   `submitted = success + failed + expired + in_flight + queued` holds after every step.
//! * A lane starts in the order of submission. Lanes share nothing: a server that hangs on one hook delays no other.
//! * A callback that waits holds no task and no timer, only its place; one alarm serves them all, and sleeps while none waits.
//! * While a breaker is open, connect callbacks fail at once. Messages wait for a probe to succeed, at most until their
//!   deadline: a message that fails is lost (QoS 0) or comes again (spec §7), and a short outage should cause neither. Close
//!   callbacks wait up to `close_retry`.
//! * Bounds: per lane calls in flight and places in the queue; of close callbacks, which are never refused, the oldest
//!   gives way. The time in the queue counts against the deadline.
//!
//! Runs on the control core, which feeds it the shards' `Report::Callback` and turns completions into
//! `Command::CallbackDone`. What a request looks like is the door's business: [`Builder`].

mod adapt;
mod alarm;
mod breaker;
mod closing;
mod counts;
mod health;
mod lane;
mod lanes;
mod random;
mod settings;
mod sources;
mod target;
mod troubles;
mod waiting;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use self::alarm::Alarm;
pub use self::breaker::BreakerState;
pub use self::counts::Counts;
use self::counts::Ledger;
pub use self::health::Health;
use self::lane::{Job, Next, Placed, Verdict};
use self::lanes::{LaneKey, Lanes};
use self::random::Random;
pub use self::settings::{LaneLimits, Settings, options};
pub use self::target::Target;
use self::troubles::Complaints;
pub use self::troubles::{Fault, Trouble, Troubles};
use self::waiting::Waiting;
use crate::engine::command::{CallbackFailure, CallbackOutcome, CallbackRequest};
use crate::engine::hook::{Event, Hook, HookTable};
use crate::engine::ids::ClientId;
use crate::io::clock;
use crate::io::http::{Client, Origin, Request};
use crate::metrics::Histogram;

/// Retries released each time the alarm rings. Bounds what a server that comes back (or stays away) costs: 2 560 calls a second.
const RETRIES_PER_ALARM: usize = 128;
/// Pause before the next queued call when a server could not even be connected to. Such failures may come without any
/// waiting, and a long queue failing in one go would keep the core from everything else.
const FAILURE_PAUSE: Duration = Duration::from_millis(1);
/// Time a server has for its answer to a neutral request.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns a callback into a request; one per door.
pub trait Builder {
    /// The server a callback goes to; `None` if no URL is configured for it.
    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>>;

    /// The request as it is sent now: called once per attempt, so that every attempt has a fresh signature.
    /// `unix_seconds` is the wall clock, `nonce` random. `None` if the URL makes no sense for this callback.
    fn build(&self, request: &CallbackRequest, unix_seconds: u64, nonce: u64) -> Option<Request>;

    /// Begins a callback that no server takes but code of this process, and gives what it will be answered. The code is
    /// trusted to end by `deadline`, or to know better. `None`: it goes to a server.
    fn here(&self, _request: &CallbackRequest, _deadline: Instant) -> Option<Pending> {
        None
    }

    /// A request to the server of `event` that comes from no client and asks for nothing: any answer says that the server
    /// is there. `None`: there is no such thing.
    fn neutral(&self, _event: Event) -> Option<Request> {
        None
    }

    /// What went wrong, by the content of the answer or by how the call ended ([`Trouble::of`]).
    fn fault(&self, _event: Event, outcome: &CallbackOutcome) -> Option<Fault> {
        Trouble::of(outcome).map(Fault::from)
    }

    /// Whether the door is on; of others nothing is said in the metrics.
    fn is_used(&self) -> bool {
        true
    }

    /// What the calls about this event are called in metrics and log.
    fn kind(&self, event: Event) -> &'static str {
        event.label()
    }

    /// What an operator can do about a trouble with this event, where this door has something special to say.
    fn advice(&self, _event: Event, _trouble: Trouble) -> Option<&'static str> {
        None
    }
}

/// The outcome of a callback that is answered in this process.
pub type Pending = Pin<Box<dyn Future<Output = CallbackOutcome>>>;

/// The builders of all doors, in the order of their numbers ([`crate::engine::hook::HookDoor`]).
pub type Builders = Vec<Rc<dyn Builder>>;

/// Told of every end: what was asked, and how it ended. Must not block; may submit again.
pub type Completion = Rc<dyn Fn(&CallbackRequest, CallbackOutcome)>;

/// The scheduler. Cloning gives another handle.
#[derive(Clone)]
pub struct Callbacks(Rc<Inner>);

struct Inner {
    client: Client,
    builders: RefCell<Builders>,
    completion: Completion,
    settings: Cell<Settings>,
    lanes: RefCell<Lanes>,
    waiting: RefCell<Waiting>,
    ledger: Ledger,
    latency: HookTable<Histogram>,
    complaints: Complaints,
    alarm: Rc<Alarm>,
    random: Random,
    /// Serial number of the next callback.
    serial: Cell<u64>,
    drainers: RefCell<Vec<Waker>>,
}

impl Callbacks {
    /// Starts the scheduler on this thread's runtime.
    pub fn start(client: Client, builders: Builders, completion: Completion, settings: Settings) -> Callbacks {
        let doors = builders.len();
        let inner = Rc::new(Inner {
            client,
            builders: RefCell::new(builders),
            completion,
            settings: Cell::new(settings),
            lanes: RefCell::default(),
            waiting: RefCell::default(),
            ledger: Ledger::new(doors),
            latency: HookTable::new(doors),
            complaints: Complaints::new(doors),
            alarm: Rc::default(),
            random: Random::default(),
            serial: Cell::new(0),
            drainers: RefCell::default(),
        });
        monoio::spawn(tick(inner.alarm.clone(), Rc::downgrade(&inner)));
        Callbacks(inner)
    }

    /// Takes a callback. It is completed exactly once, possibly before this returns.
    pub fn submit(&self, request: CallbackRequest) {
        let inner = &self.0;
        inner.ledger.submitted(request.hook);
        let origin = inner.origin(&request);
        let now = clock::instant();
        let settings = inner.settings.get();
        let serial = inner.serial.replace(inner.serial.get() + 1);
        let job = Job {
            serial,
            call: 0,
            submitted: now,
            deadline: now + settings.span(request.hook.event),
            attempts: 0,
            source: source(&request),
            request,
        };
        match origin {
            Some(origin) => inner.clone().place((job.request.hook, origin), job),
            None => inner.fail(job, CallbackFailure::Unresolved),
        }
    }

    /// Takes new settings: bounds hold from now on, times for callbacks submitted from now on.
    pub fn reload(&self, settings: Settings) {
        self.0.settings.set(settings);
        let keys = self.0.lanes.borrow().keys();
        keys.iter().for_each(|key| self.0.fill(key));
    }

    /// Takes new builders, for calls started from now on. What is known about servers nobody is calling is forgotten.
    pub fn rebuild(&self, builders: Builders) {
        *self.0.builders.borrow_mut() = builders;
        self.0.lanes.borrow_mut().forget_idle();
    }

    /// The books of one hook.
    pub fn counts(&self, hook: Hook) -> Counts {
        self.0.ledger.counts(hook)
    }

    /// What went wrong with the calls of one hook.
    pub fn troubles(&self, hook: Hook) -> Troubles {
        self.0.complaints.counts(hook)
    }

    /// How long the calls of every hook took, each attempt on its own.
    pub fn latencies(&self) -> impl Iterator<Item = (Hook, &Histogram)> {
        self.0.latency.iter()
    }

    /// Something went wrong with what an answer wants, after it has been read.
    pub fn complain(&self, request: &CallbackRequest, fault: Fault) {
        self.0.complain(request, fault, None);
    }

    /// Whether the door of a hook is on.
    pub fn is_used(&self, hook: Hook) -> bool {
        self.0.builder(hook).is_some_and(|builder| builder.is_used())
    }

    /// What the calls of one hook are called in metrics and log.
    pub fn kind(&self, hook: Hook) -> &'static str {
        self.0.kind(hook)
    }

    /// Callbacks not completed yet.
    pub fn pending(&self) -> u64 {
        self.0.ledger.pending()
    }

    /// Waits until nothing is in flight, queued or waiting, or until `deadline`. Returns how many are left then.
    /// Submitting stays possible meanwhile.
    pub async fn drain(&self, deadline: Instant) -> u64 {
        let empty = poll_fn(|context| {
            if self.0.ledger.pending() == 0 {
                return Poll::Ready(());
            }
            let mut drainers = self.0.drainers.borrow_mut();
            if !drainers.iter().any(|waker| waker.will_wake(context.waker())) {
                drainers.push(context.waker().clone());
            }
            Poll::Pending
        });
        let left = deadline.saturating_duration_since(clock::instant());
        let _ = monoio::time::timeout(left, empty).await;
        self.0.ledger.pending()
    }
}

impl Inner {
    /// `None`: there is no such door.
    fn builder(&self, hook: Hook) -> Option<Rc<dyn Builder>> {
        self.builders.borrow().get(usize::from(hook.door.0)).cloned()
    }

    fn origin(&self, request: &CallbackRequest) -> Option<Rc<Origin>> {
        self.builder(request.hook)?.origin(request)
    }

    fn kind(&self, hook: Hook) -> &'static str {
        self.builder(hook).map_or("", |builder| builder.kind(hook.event))
    }

    /// Starts a callback, or gives it a place, or refuses it.
    fn place(self: Rc<Self>, key: LaneKey, job: Job) {
        let rules = self.rules(key.0);
        let evicted = if key.0.event == Event::Close {
            self.make_room(key.0, rules.queued)
        } else {
            None
        };
        let placed = self.lanes.borrow_mut().place(&key, job, rules);
        if self.lanes.borrow_mut().wants_check(&key) {
            monoio::spawn(check(self.clone(), key.clone()));
        }
        match placed {
            Placed::Start(job) => {
                self.ledger.started(key.0);
                monoio::spawn(run(self.clone(), key, job));
            }
            Placed::Queued(look_at) => {
                self.ledger.queued(key.0);
                self.alarm.note(look_at);
            }
            Placed::Refused(job) => {
                if !self.lanes.borrow().is_open(&key) {
                    self.complain(&job.request, Trouble::QueueFull.into(), None);
                }
                self.fail(job, CallbackFailure::Overloaded);
            }
        }
        if let Some(job) = evicted {
            self.complain(&job.request, Trouble::QueueFull.into(), None);
            self.expire(job, CallbackOutcome::Failed(CallbackFailure::Overloaded));
        }
    }

    fn start_queued(&self, key: &LaneKey) -> Option<Job> {
        let job = self.lanes.borrow_mut().start_queued(key, self.rules(key.0))?;
        self.ledger.dequeued(key.0);
        self.ledger.started(key.0);
        Some(job)
    }

    /// Starts those that wait although there is room.
    fn fill(self: &Rc<Self>, key: &LaneKey) {
        let ceiling = self.settings.get().lane(key.0.event).in_flight;
        while self.lanes.borrow().has_startable(key, ceiling) {
            let Some(job) = self.start_queued(key) else { return };
            monoio::spawn(run(self.clone(), key.clone(), job));
        }
    }

    /// What the place of a finished call is used for next.
    fn next(&self, key: &LaneKey) -> Option<Job> {
        loop {
            let next = self.lanes.borrow_mut().next(key, self.rules(key.0));
            match next {
                Next::Start(job) => {
                    self.ledger.dequeued(key.0);
                    self.ledger.started(key.0);
                    return Some(job);
                }
                Next::Late(job) => self.expire_queued(job),
                Next::Refused(job) => {
                    self.ledger.dequeued(key.0);
                    self.fail(job, CallbackFailure::Overloaded);
                }
                Next::Idle => return None,
            }
        }
    }

    /// One attempt, and what it says about the server.
    async fn call(&self, job: &Job) -> (CallbackOutcome, Verdict) {
        let (start, timeout) = (clock::instant(), self.settings.get().timeout);
        let deadline = match job.request.hook.event {
            Event::Close => start + timeout,
            Event::Connect | Event::Message => job.deadline.min(start + timeout),
        };
        let builder = self.builder(job.request.hook);
        if let Some(here) = builder
            .as_ref()
            .and_then(|builder| builder.here(&job.request, deadline))
        {
            let outcome = here.await;
            self.observe(job, start);
            return (outcome, Verdict::Unclear);
        }
        let request =
            builder.and_then(|builder| builder.build(&job.request, clock::unix_seconds(), self.random.next()));
        let Some(request) = request else {
            return (CallbackOutcome::Failed(CallbackFailure::Unresolved), Verdict::Unclear);
        };
        let outcome = match self.client.call(request, deadline).await {
            Ok(reply) => CallbackOutcome::Answered(reply),
            Err(failure) => CallbackOutcome::Failed(failure),
        };
        let took = self.observe(job, start);
        let verdict = health::verdict(&outcome, took, timeout);
        (outcome, verdict)
    }

    /// Notes how long an attempt took that began at `start`.
    fn observe(&self, job: &Job, start: Instant) -> Duration {
        let took = clock::instant() - start;
        if let Some(latency) = self.latency.get(job.request.hook) {
            latency.observe(took);
        }
        took
    }

    /// Books the end of an attempt.
    fn settle(&self, job: Job, outcome: CallbackOutcome) {
        let hook = job.request.hook;
        self.ledger.stopped(hook);
        match (&outcome, hook.event) {
            // The original ignores the answer (spec §4): whatever a handler says, it has heard. A server that is not there has
            // not, and is asked again.
            (CallbackOutcome::Answered(reply), Event::Close) if reply.status < health::STATUS_UNAVAILABLE => {
                self.ledger.success(hook);
            }
            (_, Event::Close) => return self.retry_or_give_up(job, outcome),
            (CallbackOutcome::Answered(reply), _) if reply.is_success() => self.ledger.success(hook),
            _ => self.ledger.failed(hook),
        }
        self.complete(job, outcome);
    }

    fn fail(&self, job: Job, failure: CallbackFailure) {
        self.ledger.failed(job.request.hook);
        if failure == CallbackFailure::Overloaded {
            self.ledger.overloaded(job.request.hook);
        }
        self.complete(job, CallbackOutcome::Failed(failure));
    }

    fn expire_queued(&self, job: Job) {
        self.complain(&job.request, Trouble::Expired.into(), None);
        self.ledger.dequeued(job.request.hook);
        self.expire(job, CallbackOutcome::Failed(CallbackFailure::TimedOut));
    }

    fn expire(&self, job: Job, outcome: CallbackOutcome) {
        self.ledger.expired(job.request.hook);
        self.complete(job, outcome);
    }

    /// The last step of every callback. No borrow may be held here: the completion may submit.
    fn complete(&self, job: Job, outcome: CallbackOutcome) {
        (self.completion)(&job.request, outcome);
        if self.ledger.pending() == 0 {
            let drainers = std::mem::take(&mut *self.drainers.borrow_mut());
            drainers.into_iter().for_each(Waker::wake);
        }
    }

    /// The alarm rang: ends what is late, sends probes and retries, and sets it again.
    fn on_alarm(self: &Rc<Self>, now: Instant) {
        loop {
            let late = self.lanes.borrow_mut().take_late(now);
            match late {
                Some(job) => self.expire_queued(job),
                None => break,
            }
        }
        let probes = self.lanes.borrow().due_probes(now);
        for key in probes {
            if let Some(job) = self.start_queued(&key) {
                monoio::spawn(run(self.clone(), key, job));
            }
        }
        for _ in 0..RETRIES_PER_ALARM {
            let due = self.waiting.borrow_mut().take_due(now);
            match due {
                Some(job) => self.release(job),
                None => break,
            }
        }
        let (queued, waiting) = (self.lanes.borrow().look_at(), self.waiting.borrow().next_due());
        if let Some(at) = [queued, waiting].into_iter().flatten().min() {
            self.alarm.note(at);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.alarm.close();
    }
}

/// One place of a lane: makes its call, then those that queued behind it.
async fn run(inner: Rc<Inner>, key: LaneKey, mut job: Job) {
    loop {
        let (outcome, verdict) = inner.call(&job).await;
        inner.learn(&key, &job, verdict);
        let unreachable = matches!(
            outcome,
            CallbackOutcome::Failed(
                CallbackFailure::Unresolved
                    | CallbackFailure::Refused
                    | CallbackFailure::Unreachable
                    | CallbackFailure::Handshake
            )
        );
        inner.judge(&job.request, &outcome);
        inner.settle(job, outcome);
        if unreachable && inner.lanes.borrow().has_queued(&key) {
            Box::pin(monoio::time::sleep(FAILURE_PAUSE)).await;
        }
        let next = inner.next(&key);
        inner.fill(&key);
        match next {
            Some(next) => job = next,
            None => return,
        }
    }
}

/// Asks a server something neutral, since what clients send may be the cause of their failures.
async fn check(inner: Rc<Inner>, key: LaneKey) {
    let builder = inner.builder(key.0);
    let request = builder.and_then(|builder| builder.neutral(key.0.event));
    let is_alive = match request {
        Some(request) => {
            inner.ledger.checked(key.0);
            let deadline = clock::instant() + CHECK_TIMEOUT.min(inner.settings.get().timeout);
            health::is_alive(&inner.client.call(request, deadline).await)
        }
        None => false,
    };
    let turn = inner.lanes.borrow_mut().on_checked(&key, is_alive, inner.rules(key.0));
    inner.tell(&key, turn);
}

/// Stands for whom a call is made for: the address of a client that wants in, a client that is in.
fn source(request: &CallbackRequest) -> u64 {
    let ClientId {
        shard,
        slot,
        generation,
    } = request.client;
    let client = u64::from(shard.0) << 48 ^ u64::from(slot) << 16 ^ u64::from(generation);
    if request.address == 0 { client } else { request.address }
}

/// Ends with the scheduler.
async fn tick(alarm: Rc<Alarm>, inner: Weak<Inner>) {
    loop {
        alarm.ring().await;
        match inner.upgrade() {
            Some(inner) => inner.on_alarm(clock::instant()),
            None => return,
        }
    }
}
