//! Names to addresses, off the core: two threads call the system's resolver, the core remembers what they said.
//!
//! * A name is asked for once at a time, however many calls wait for it.
//! * Addresses are used for [`KEEP`]; then the name is asked for anew while they go on being used. A look-up that fails (name
//!   servers that refuse, fail, are silent) replaces nothing: what worked is used until a name server says something else, if
//!   only that there is no such name. Nobody waits for longer than [`PATIENCE`] where there is something to go by.
//! * Failures are kept for [`KEEP_FAILURE`]: what is missing is not asked for a thousand times a second.
//! * The threads answer through a channel and a byte on a socket pair, not through a waker: no foreign thread touches a task.
//! * Bounds: [`NAMES_MAX`] names remembered, [`QUERIES_MAX`] questions waiting; beyond them a name is unresolved.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream as WakeStream;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hashbrown::HashMap;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::io::runtime::start_side;
use crate::io::sys::{self, NoAddress};

/// How long addresses are used without asking again.
const KEEP: Duration = Duration::from_secs(30);
/// How long a failure is used.
const KEEP_FAILURE: Duration = Duration::from_secs(2);
/// Addresses that nobody has asked for in this time may be wrong by now: the new answer is waited for. As long as a connection
/// gets old by default.
const OLD: Duration = Duration::from_secs(300);
/// The longest wait for a new answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Threads that may be stuck in the system's resolver at a time.
const THREADS: usize = 2;
/// Questions waiting for a thread. Names come from the configuration and from redirects, so there are few.
const QUERIES_MAX: usize = 256;
/// Names remembered; beyond it all finished ones are forgotten.
const NAMES_MAX: usize = 1024;

/// Addresses in the order to try them; empty: the name does not resolve.
pub(super) type Addresses = Rc<[IpAddr]>;

/// The cache and the way to its threads, which end when it is dropped.
pub(super) struct Resolver {
    names: RefCell<HashMap<String, Name>>,
    queries: Sender<String>,
}

#[derive(Default)]
struct Name {
    /// The last answer that said something, and when it came.
    known: Option<(Instant, Addresses)>,
    /// None of them could be connected to.
    doubted: bool,
    /// When a look-up failed, if the last one did although `known` has addresses.
    failed: Option<Instant>,
    /// A question on its way.
    asking: Option<Asking>,
}

struct Asking {
    since: Instant,
    /// Who waits for the answer.
    waiting: Vec<Waker>,
}

/// What a name is good for at this moment.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// To be used.
    Fresh(Addresses),
    /// To be used, and asked for anew.
    Stale(Addresses),
    /// To be asked for anew, and used if there is no answer soon.
    Old(Addresses),
    Unknown,
}

impl Name {
    fn standing(&self, now: Instant) -> Standing {
        let Some((since, addresses)) = &self.known else {
            return Standing::Unknown;
        };
        let (age, addresses) = (now.duration_since(*since), addresses.clone());
        let recent = |at: Instant| now.duration_since(at) < KEEP_FAILURE;
        if addresses.is_empty() {
            return if recent(*since) {
                Standing::Fresh(addresses)
            } else {
                Standing::Unknown
            };
        }
        let waited = |asking: &Asking| now.duration_since(asking.since) >= PATIENCE;
        match self.failed {
            Some(at) if recent(at) => Standing::Fresh(addresses),
            Some(_) => Standing::Stale(addresses),
            None if age < KEEP && !self.doubted => Standing::Fresh(addresses),
            None if (age < OLD && !self.doubted) || self.asking.as_ref().is_some_and(waited) => {
                Standing::Stale(addresses)
            }
            None => Standing::Old(addresses),
        }
    }

    /// False: there are no addresses.
    fn on_answer(&mut self, found: Result<Vec<IpAddr>, NoAddress>, now: Instant) -> Turn {
        let usable = self.known.as_ref().is_some_and(|(_, addresses)| !addresses.is_empty());
        let turn = match (&found, self.failed) {
            (Err(NoAddress::NotTold(_)), None) if usable => Turn::Lost,
            (Err(NoAddress::NotTold(_)), _) => Turn::None,
            (_, Some(_)) => Turn::Back,
            (_, None) => Turn::None,
        };
        let mut addresses = match found {
            Err(NoAddress::NotTold(_)) if usable => {
                (self.failed, self.doubted) = (Some(now), false);
                return turn;
            }
            found => found.unwrap_or_default(),
        };
        let last_good = self.known.take().and_then(|(_, old)| old.first().copied());
        addresses.dedup();
        addresses.sort_by_key(|&address| Some(address) != last_good); // stable: only the good one moves
        *self = Name {
            known: Some((now, addresses.into())),
            ..Name::default()
        };
        turn
    }
}

/// What an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    None,
    /// Look-ups fail from now on.
    Lost,
    /// They work again.
    Back,
}

struct Answer {
    host: String,
    found: Result<Vec<IpAddr>, NoAddress>,
}

/// Threads that look names up, for the core that will ask them. They end when it is dropped.
pub(super) struct Threads {
    queries: Sender<String>,
    answered: Receiver<Answer>,
    woken: WakeStream,
}

impl Threads {
    /// Errors: no thread or socket pair to be had.
    pub(super) fn start() -> io::Result<Threads> {
        let (queries, questions) = bounded(QUERIES_MAX);
        let (answers, answered) = bounded(QUERIES_MAX + THREADS);
        let (wake, woken) = WakeStream::pair()?;
        woken.set_nonblocking(true)?;
        for index in 0..THREADS {
            let (questions, answers, wake) = (questions.clone(), answers.clone(), wake.try_clone()?);
            start_side(format!("dns-{index}"), move || look_up(&questions, &answers, wake))?;
        }
        Ok(Threads {
            queries,
            answered,
            woken,
        })
    }
}

impl Resolver {
    /// Must be called inside a runtime. Errors: it has no room.
    pub(super) fn start(threads: Threads) -> io::Result<Rc<Resolver>> {
        let Threads {
            queries,
            answered,
            woken,
        } = threads;
        let resolver = Rc::new(Resolver {
            names: RefCell::default(),
            queries,
        });
        let woken = UnixStream::from_std(woken)?;
        monoio::spawn(receive(Rc::downgrade(&resolver), woken, answered));
        Ok(resolver)
    }

    /// Addresses of `host`, which may itself be one. Empty: it does not resolve.
    pub(super) async fn resolve(&self, host: &str) -> Addresses {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Rc::new([address]);
        }
        match self.ask(host) {
            Standing::Fresh(addresses) | Standing::Stale(addresses) => addresses,
            Standing::Old(addresses) => {
                let answer = poll_fn(|context| self.poll(host, context));
                monoio::time::timeout(PATIENCE, answer).await.unwrap_or(addresses)
            }
            Standing::Unknown => poll_fn(|context| self.poll(host, context)).await,
        }
    }

    /// The address that worked goes first next time.
    pub(super) fn prefer(&self, host: &str, good: IpAddr) {
        let mut names = self.names.borrow_mut();
        let Some((_, addresses)) = names.get_mut(host).and_then(|name| name.known.as_mut()) else {
            return;
        };
        if addresses.first() != Some(&good) && addresses.contains(&good) {
            let others = addresses.iter().filter(|&&a| a != good);
            *addresses = std::iter::once(&good).chain(others).copied().collect();
        }
    }

    /// None of the addresses worked: ask anew next time, unless the answer is as young as a failure may be.
    pub(super) fn doubt(&self, host: &str) {
        if let Some(name) = self.names.borrow_mut().get_mut(host) {
            let is_old = |(since, _): &(Instant, Addresses)| since.elapsed() > KEEP_FAILURE;
            name.doubted = name.known.as_ref().is_some_and(is_old);
        }
    }

    /// How a name stands; asks for it if that is due and nobody has.
    fn ask(&self, host: &str) -> Standing {
        let mut names = self.names.borrow_mut();
        if !names.contains_key(host) && names.len() >= NAMES_MAX {
            names.retain(|_, name| name.asking.is_some());
        }
        let name = names.entry_ref(host).or_default();
        let now = Instant::now();
        let standing = name.standing(now);
        if matches!(standing, Standing::Fresh(_)) || name.asking.is_some() {
            return standing;
        }
        if self.queries.try_send(host.to_owned()).is_ok() {
            name.asking = Some(Asking {
                since: now,
                waiting: Vec::new(),
            });
            return standing;
        }
        match standing {
            Standing::Old(addresses) => Standing::Stale(addresses),
            Standing::Unknown => Standing::Fresh(Rc::new([])),
            other => other,
        }
    }

    /// Waits for the answer that is on its way.
    fn poll(&self, host: &str, context: &mut Context<'_>) -> Poll<Addresses> {
        let mut names = self.names.borrow_mut();
        let Some(name) = names.get_mut(host) else {
            return Poll::Ready(Rc::new([]));
        };
        match &mut name.asking {
            Some(Asking { waiting, .. }) => {
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
            None => {
                let known = name.known.as_ref().map(|(_, addresses)| addresses.clone());
                Poll::Ready(known.unwrap_or_else(|| Rc::new([])))
            }
        }
    }

    fn on_answer(&self, Answer { host, found }: Answer) {
        let mut names = self.names.borrow_mut();
        let Some(name) = names.get_mut(&host) else {
            return;
        };
        let asking = name.asking.take();
        let why = match &found {
            Err(NoAddress::NotTold(why)) => why.clone(),
            _ => String::new(),
        };
        match name.on_answer(found, Instant::now()) {
            Turn::Lost => tracing::warn!(
                %host, why, "the name cannot be looked up: its last known addresses are used; check the name servers"
            ),
            Turn::Back => tracing::info!(%host, "the name can be looked up again"),
            Turn::None => {}
        }
        for waker in asking.into_iter().flat_map(|asking| asking.waiting) {
            waker.wake();
        }
    }
}

/// The body of one resolver thread.
fn look_up(questions: &Receiver<String>, answers: &Sender<Answer>, mut wake: WakeStream) {
    while let Ok(host) = questions.recv() {
        let found = sys::look_up(&host);
        if let Err(error) = &found {
            tracing::debug!(%host, ?error, "name does not resolve");
        }
        if answers.send(Answer { host, found }).is_err() || wake.write_all(&[1]).is_err() {
            return;
        }
    }
}

/// Brings answers to the core that asked; ends with the threads.
async fn receive(resolver: Weak<Resolver>, mut woken: UnixStream, answered: Receiver<Answer>) {
    let mut bytes = Vec::with_capacity(64);
    loop {
        bytes.clear();
        let (result, buffer) = woken.read(bytes).await;
        bytes = buffer;
        let Some(resolver) = resolver.upgrade().filter(|_| matches!(result, Ok(1..))) else {
            return;
        };
        while let Ok(answer) = answered.try_recv() {
            resolver.on_answer(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use monoio::{FusionDriver, RuntimeBuilder};

    use super::*;

    impl Resolver {
        /// As if the system had said so.
        pub(in crate::io::http) fn remember(&self, host: &str, addresses: Vec<IpAddr>) {
            self.names.borrow_mut().entry_ref(host).or_default();
            self.on_answer(Answer {
                host: host.to_owned(),
                found: Ok(addresses),
            });
        }
    }

    fn on_core(test: impl AsyncFnOnce(Rc<Resolver>)) {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async { test(Resolver::start(Threads::start().unwrap()).unwrap()).await });
    }

    #[test]
    fn calls_share_one_query() {
        on_core(async |resolver| {
            let first = {
                let resolver = resolver.clone();
                monoio::spawn(async move { resolver.resolve("localhost").await })
            };
            let second = resolver.resolve("localhost").await;
            assert!(!second.is_empty());
            assert!(Rc::ptr_eq(&first.await, &second), "one answer for both");
            assert!(Rc::ptr_eq(&resolver.resolve("localhost").await, &second), "remembered");
        });
    }

    #[test]
    fn addresses_need_no_query() {
        on_core(async |resolver| {
            assert_eq!(*resolver.resolve("::1").await, ["::1".parse::<IpAddr>().unwrap()]);
            assert!(resolver.names.borrow().is_empty());
        });
    }

    #[test]
    fn memory_is_bounded() {
        on_core(async |resolver| {
            for index in 0..NAMES_MAX {
                resolver.remember(&format!("h{index}"), Vec::new());
            }
            assert_eq!(resolver.names.borrow().len(), NAMES_MAX);
            assert!(!resolver.resolve("localhost").await.is_empty());
            assert_eq!(resolver.names.borrow().len(), 1, "the others were forgotten");
        });
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn failure() -> Result<Vec<IpAddr>, NoAddress> {
        Err(NoAddress::NotTold("refused".into()))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_failed_look_up_replaces_nothing() {
        let (mut name, now) = (Name::default(), Instant::now());
        assert_eq!(name.on_answer(Ok(vec![address(1)]), now), Turn::None);
        let known: Addresses = [address(1)].into();
        assert_eq!(name.standing(now + seconds(29)), Standing::Fresh(known.clone()));
        assert_eq!(name.standing(now + seconds(30)), Standing::Stale(known.clone()));
        assert_eq!(name.standing(now + seconds(300)), Standing::Old(known.clone()));
        let later = now + seconds(301);
        assert_eq!(name.on_answer(failure(), later), Turn::Lost);
        assert_eq!(
            name.standing(later + seconds(1)),
            Standing::Fresh(known.clone()),
            "not asked at once"
        );
        assert_eq!(name.standing(later + seconds(2)), Standing::Stale(known.clone()));
        assert_eq!(name.on_answer(failure(), later + seconds(4)), Turn::None);
        assert_eq!(name.standing(later + seconds(86_400)), Standing::Stale(known));
        assert_eq!(name.on_answer(Ok(vec![address(2)]), later), Turn::Back);
        assert_eq!(name.standing(later), Standing::Fresh([address(2)].into()), "moved");
    }

    #[test]
    fn a_name_that_is_gone_is_gone() {
        let (mut name, now) = (Name::default(), Instant::now());
        name.on_answer(Ok(vec![address(1)]), now);
        name.on_answer(failure(), now);
        name.on_answer(Err(NoAddress::NoSuchName), now);
        assert_eq!(name.standing(now + seconds(1)), Standing::Fresh(Rc::new([])));
        assert_eq!(name.standing(now + KEEP_FAILURE), Standing::Unknown, "asked for again");
    }

    #[test]
    fn what_never_worked_is_asked_for_again_soon() {
        let (mut name, now) = (Name::default(), Instant::now());
        assert_eq!(name.on_answer(failure(), now), Turn::None);
        assert_eq!(name.standing(now + seconds(1)), Standing::Fresh(Rc::new([])));
        assert_eq!(name.standing(now + KEEP_FAILURE), Standing::Unknown);
    }

    #[test]
    fn a_silent_name_server_is_waited_for_once() {
        let (mut name, now) = (Name::default(), Instant::now());
        name.on_answer(Ok(vec![address(1)]), now);
        name.doubted = true;
        assert_eq!(name.standing(now), Standing::Old([address(1)].into()));
        name.asking = Some(Asking {
            since: now,
            waiting: Vec::new(),
        });
        assert_eq!(name.standing(now + PATIENCE), Standing::Stale([address(1)].into()));
    }
}
