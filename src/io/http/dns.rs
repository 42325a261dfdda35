//! Names to addresses, off the core: two threads call the system's resolver, the core remembers what they said.
//!
//! * A name is asked for once at a time, however many calls wait for it.
//! * Answers are kept [`KEEP`], failures [`KEEP_FAILURE`]: a business that moved is found, one that is missing is not
//!   asked for a thousand times a second.
//! * The threads answer through a channel and a byte on a socket pair, not through a waker: no foreign thread touches a task.
//! * Bounds: [`NAMES_MAX`] names remembered, [`QUERIES_MAX`] questions waiting; beyond them a name is unresolved.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream as WakeStream;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hashbrown::HashMap;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::io::runtime::start_side;

/// How long an answer is used.
const KEEP: Duration = Duration::from_secs(30);
/// How long a failure is used.
const KEEP_FAILURE: Duration = Duration::from_secs(2);
/// Threads that may be stuck in the system's resolver at a time.
const THREADS: usize = 2;
/// Questions waiting for a thread. Names come from the configuration and from redirects, so there are few.
const QUERIES_MAX: usize = 256;
/// Names remembered; beyond it all finished ones are forgotten.
const NAMES_MAX: usize = 1024;

/// Addresses in the order to try them; empty: the name does not resolve.
pub(super) type Addresses = Rc<[IpAddr]>;

/// The cache and the way to its threads. The threads end when it is dropped.
pub(super) struct Resolver {
    names: RefCell<HashMap<String, Name>>,
    queries: Sender<String>,
}

#[derive(Default)]
struct Name {
    /// The last answer and when it came.
    known: Option<(Instant, Addresses)>,
    /// Who waits for the next answer, while it is being looked for.
    asking: Option<Vec<Waker>>,
}

impl Name {
    fn fresh(&self, now: Instant) -> Option<Addresses> {
        let (since, addresses) = self.known.as_ref()?;
        let keep = if addresses.is_empty() { KEEP_FAILURE } else { KEEP };
        (now.duration_since(*since) < keep).then(|| addresses.clone())
    }
}

struct Answer {
    host: String,
    addresses: Vec<IpAddr>,
}

impl Resolver {
    /// Starts the threads. Must be called inside a runtime. Errors: no thread or socket pair to be had.
    pub(super) fn start() -> io::Result<Rc<Resolver>> {
        let (queries, questions) = bounded(QUERIES_MAX);
        let (answers, answered) = bounded(QUERIES_MAX + THREADS);
        let (wake, woken) = WakeStream::pair()?;
        woken.set_nonblocking(true)?;
        for index in 0..THREADS {
            let (questions, answers, wake) = (questions.clone(), answers.clone(), wake.try_clone()?);
            start_side(format!("dns-{index}"), move || look_up(&questions, &answers, wake))?;
        }
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
        let mut waits = false;
        poll_fn(|context| self.poll(host, &mut waits, context)).await
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
            name.known.take_if(|(since, _)| since.elapsed() > KEEP_FAILURE);
        }
    }

    fn poll(&self, host: &str, waits: &mut bool, context: &mut Context<'_>) -> Poll<Addresses> {
        let mut names = self.names.borrow_mut();
        if !names.contains_key(host) && names.len() >= NAMES_MAX {
            names.retain(|_, name| name.asking.is_some());
        }
        let name = names.entry_ref(host).or_default();
        if let Some(addresses) = name.fresh(Instant::now()) {
            return Poll::Ready(addresses);
        }
        match &mut name.asking {
            None if self.queries.try_send(host.to_owned()).is_ok() => name.asking = Some(vec![context.waker().clone()]),
            None => return Poll::Ready(Rc::new([])),
            Some(_) if *waits => {}
            Some(waiting) => waiting.push(context.waker().clone()),
        }
        *waits = true;
        Poll::Pending
    }

    fn on_answer(&self, answer: Answer) {
        let mut names = self.names.borrow_mut();
        let Some(name) = names.get_mut(&answer.host) else {
            return;
        };
        let last_good = name.known.take().and_then(|(_, old)| old.first().copied());
        let mut addresses = answer.addresses;
        addresses.sort_by_key(|&address| Some(address) != last_good); // stable: only the good one moves
        name.known = Some((Instant::now(), addresses.into()));
        for waker in name.asking.take().into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The body of one resolver thread.
fn look_up(questions: &Receiver<String>, answers: &Sender<Answer>, mut wake: WakeStream) {
    while let Ok(host) = questions.recv() {
        let mut addresses = Vec::new();
        match (host.as_str(), 0).to_socket_addrs() {
            Ok(found) => addresses.extend(found.map(|address| address.ip())),
            Err(error) => tracing::debug!(%host, %error, "name does not resolve"),
        }
        addresses.dedup();
        if answers.send(Answer { host, addresses }).is_err() || wake.write_all(&[1]).is_err() {
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
                addresses,
            });
        }
    }

    fn on_core(test: impl AsyncFnOnce(Rc<Resolver>)) {
        let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async { test(Resolver::start().unwrap()).await });
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

    #[test]
    fn failures_are_kept_for_a_shorter_time() {
        let now = Instant::now();
        let at = |age: Duration, addresses: &[IpAddr]| {
            let name = Name {
                known: Some((now, addresses.into())),
                asking: None,
            };
            name.fresh(now + age).is_some()
        };
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(at(KEEP - Duration::from_secs(1), &[address]) && !at(KEEP, &[address]));
        assert!(at(Duration::from_secs(1), &[]) && !at(KEEP_FAILURE, &[]));
    }
}
